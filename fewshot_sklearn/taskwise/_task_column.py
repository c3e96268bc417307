"""The column of X that says the task of each row: by its name, or by its place."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length

from ..tasks import column_labels, comparable, split_column
from ._ids import check_kind


def task_column(task: Any, X: Any, groups: Any, known: int | None = None) -> int | None:
    """Which column of X holds the tasks; None where `groups` does, or all rows are one task.

    Parameters
    ----------
    task : object
        Name of a column of a data frame; or an int, the place of one; None for neither.
    X : array-like, sparse matrix or data frame of shape (n_rows, n_columns)
        Rows.
    groups : array-like or None
        Tasks told otherwise.
    known : int or None, default=None
        Where `fit` found the column of that name, for arrays, which have no names.

    Returns
    -------
    int or None
        The number of the column, from 0.

    Raises
    ------
    ValueError
        When the tasks are told twice or not at all, or there is no such place.
    """
    if known is not None and column_labels(X) is None and getattr(X, "ndim", 2) == 2:
        place: int | None = known
    else:
        place = None if task is None else _place_of(task, X)
    if place is not None and groups is not None:
        raise ValueError(
            f"groups was given, but X has a column {task!r} that says the task of each row. Leave "
            "one of the two out."
        )
    if place is None and groups is None and task is not None:
        raise ValueError(
            f"task={task!r} names no column of X, and groups is None. Pass a DataFrame with that "
            "column, the place of the column as task, or the task of each row as groups."
        )
    return place


def features_and_ids(
    X: Any, groups: Any, place: int | None, task: Any
) -> tuple[Any, np.ndarray | None]:
    """X without the column of tasks, and the task of each row; None if all are one task."""
    if place is not None:
        if column_labels(X) is None and not hasattr(X, "shape"):
            X = np.asarray(X, dtype=object)  # numbers beside ids that are none
        rest, ids = split_column(X.tocsr() if hasattr(X, "tocsr") else X, place)
        return rest, comparable(_plain(ids), f"The column {task!r} of X")
    told = None if groups is None else comparable(groups)
    if told is not None:
        check_consistent_length(X, told)
    return X, told


def check_asked(known: np.ndarray, asked: np.ndarray, task: Any, X: Any, place: int | None) -> None:
    """Refuse tasks to predict that are of another kind than those known."""
    told = "groups" if place is None else f"The column {task!r} of X"
    check_kind(known, asked, told, names=place is None or column_labels(X) is not None)


def _place_of(task: Any, X: Any) -> int | None:
    labels = column_labels(X)
    if labels is not None and task in labels:
        return labels.index(task)
    if isinstance(task, bool) or not isinstance(task, Integral):
        return None
    shape = X.shape if hasattr(X, "shape") else np.asarray(X, dtype=object).shape
    if len(shape) != 2 or not -shape[1] <= int(task) < shape[1]:
        raise ValueError(
            f"task={task!r} must be the name or the place of a column of X, got X of shape {shape}."
        )
    return int(task) % shape[1]


def _plain(ids: Any) -> Any:
    """Ids of one kind that came as objects, beside features of another kind, as that kind."""
    array = np.asarray(ids)
    if array.dtype.kind != "O" or not len(array):
        return ids
    kinds = {type(value) for value in array.tolist()}
    return np.array(array.tolist()) if len(kinds) == 1 and kinds <= {str, int, float} else ids
