"""Rows of arrays, lists, sparse matrices and data frames of any kind (pandas, polars, pyarrow)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array


def n_rows(X: Any) -> int:
    """Number of rows, whatever holds them."""
    if getattr(X, "shape", None):
        return int(X.shape[0])
    rows = np.asarray(X)
    if not rows.ndim:
        check_array(X)  # which says in scikit-learn's words that these are no rows
    return len(rows)


def check_rows(X: Any, owner: Any = None) -> int:
    """Refuse what are no rows, or none at all, as scikit-learn does.

    What a row may be is for others to say: rows of text, of images or of a table pass.

    Parameters
    ----------
    X : array-like, sparse matrix or data frame
        Rows.
    owner : estimator or None, default=None
        Whose rows they are, for errors.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    ValueError or TypeError
        In the words of scikit-learn.
    """
    found, shape = n_rows(X), getattr(X, "shape", None)
    narrow = found > 0 and shape is not None and len(shape) == 2 and shape[1] == 0
    if found > 0 and not narrow:
        column_labels(X)  # which are one each
        return found
    shape = shape or np.shape(X)
    if len(shape) < 2:
        check_array(X, dtype=None, estimator=owner, input_name="X")
    by = "" if owner is None else f" by {type(owner).__name__}"
    lacks, of = ("columns", "feature") if narrow else ("rows", "sample")
    raise ValueError(
        f"Found array with 0 {of}(s) (shape={shape}) while a minimum of 1 is required{by}: X has "
        f"no {lacks}."
    )


def refuse_sparse(X: Any, owner: Any = None) -> None:
    """Refuse sparse rows, and say how steps of a pipeline give others.

    Parameters
    ----------
    X : array-like, sparse matrix or data frame
        Rows.
    owner : estimator or None, default=None
        What takes them, for errors.

    Raises
    ------
    TypeError
        When they are sparse.
    """
    if hasattr(X, "tocsr"):
        taker = "this" if owner is None else type(owner).__name__
        raise TypeError(
            f"X is sparse, but {taker} takes dense rows: pass X.toarray(). Where it is the output "
            "of a step of a pipeline, have that give dense rows: "
            "OneHotEncoder(sparse_output=False), make_column_transformer(..., sparse_threshold=0)."
        )


def column_labels(X: Any) -> list[Any] | None:
    """Labels of the columns of a data frame of any kind; None for whatever has none.

    Parameters
    ----------
    X : array-like or data frame
        Rows.

    Returns
    -------
    list or None
        The labels, strings or not.

    Raises
    ------
    ValueError
        When several columns have one name.
    """
    # a pyarrow table has its names there, and in `columns` the data themselves; of a pandas frame
    # any column may be an attribute
    labels = None if hasattr(X, "iloc") else getattr(X, "column_names", None)
    labels = getattr(X, "columns", None) if labels is None else labels
    if labels is None:
        return None
    labels = list(labels)
    if len(set(labels)) < len(labels):
        again = [name for name in dict.fromkeys(labels) if labels.count(name) > 1]
        raise ValueError(
            f"X has several columns of the name {', '.join(map(repr, again))}: which is meant "
            "cannot be told. Leave all but one out, such as by X.loc[:, ~X.columns.duplicated()], "
            "or rename them."
        )
    return labels


def indexable(X: Any) -> Any:
    """Rows of any kind, such that `taken` can pick some; a data frame stays what it is."""
    if hasattr(X, "tocsr"):
        return X.tocsr()
    return X if column_labels(X) is not None or hasattr(X, "iloc") else np.asarray(X)


def taken(X: Any, numbers: np.ndarray) -> Any:
    """Some rows of what `indexable` returned, by number."""
    if hasattr(X, "iloc"):
        return X.iloc[numbers]
    return X.take(numbers) if hasattr(X, "column_names") else X[numbers]


def split_column(X: Any, place: int) -> tuple[Any, np.ndarray]:
    """Rows without one of their columns, and that column.

    Parameters
    ----------
    X : array-like, sparse matrix or data frame of shape (n_rows, n_columns)
        Rows.
    place : int
        Number of the column.

    Returns
    -------
    rest : array, sparse matrix or data frame
        All other columns, of the kind that X is of.
    column : ndarray of shape (n_rows,)
        The column.
    """
    labels = column_labels(X)
    if hasattr(X, "iloc"):
        others = np.delete(np.arange(X.shape[1]), place)
        return X.iloc[:, others], X.iloc[:, place]
    if labels is not None:
        name = labels.pop(place)
        return X.select(labels), np.asarray(X[name])
    others = np.delete(np.arange(X.shape[1]), place)
    column = X[:, [place]]
    column = column.toarray() if hasattr(column, "toarray") else column
    return X[:, others], column.ravel()
