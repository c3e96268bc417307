"""What a table of past rows makes one wonder: dates that are words, gaps alone, ids among features.

Nothing here is wrong in itself, so nothing is refused: who trains is told.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ._cells import are_date_words, are_number_words
from ._column_learning import cells_of, is_categorical
from .rows import column_labels, indexable
from .table_format import TableFormat, columns_of

#: Rows whose cells are looked at.
LOOKED_AT = 1000
#: Rows that tell in nearly all cases that two columns are not the same.
FIRST = 20


def warn_of_columns(X: Any, table: TableFormat | None, asked: Any = "from_dtype") -> None:
    """Warn of columns that were likely meant otherwise than they are read.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_columns)
        Rows.
    table : TableFormat or None
        What was learned of them.
    asked : object, default="from_dtype"
        The argument `categorical_features`.

    Warns
    -----
    UserWarning
        When strings that look like dates, or like numbers that are no ids, are taken for
        categories; when all cells of a column are missing; when names of columns are no strings.

    Examples
    --------
    >>> import warnings
    >>> import pandas as pd
    >>> from fewshot_sklearn.tasks import TableFormat, warn_of_columns
    >>> X = pd.DataFrame({"day": ["2024-01-03", "2024-02-04"]})
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     warn_of_columns(X, TableFormat.of(X))
    >>> print(str(told[0].message)[:52])
    Column 'day' of X holds words that look like dates,
    """
    columns, labels = columns_of(X) or [], column_labels(X)
    if labels and not isinstance(labels[0], str) and labels != list(range(len(labels))):
        _warn(
            f"The columns of X have names that are no strings, such as {labels[0]!r}: whether "
            "later tables have the same, in the same order, is not checked. Make strings of them: "
            "X.columns = X.columns.map(str)."
        )
    if table is None:
        return
    for i, (column, values) in enumerate(zip(table.columns, columns, strict=False)):
        name = labels[i] if labels else i
        if column.held == "nothing":
            _warn(
                f"Column {name!r} of X is missing in all rows, so it tells nothing, whatever it "
                "may hold later. Leave it out."
            )
        elif column.kind == "category" and asked == "from_dtype" and not is_categorical(values):
            _warn_of_words(values, name)


def _warn_of_words(column: Any, name: Any) -> None:
    array, missing = cells_of(column)
    there = set(array[~missing][:LOOKED_AT].tolist())
    if not there or not all(isinstance(value, str) for value in there):
        return
    one = min(there)
    otherwise = f"If it is to be categories, make it so: X[{name!r}].astype('category')."
    if are_date_words(there):
        _warn(
            f"Column {name!r} of X holds words that look like dates, such as {one!r}, and is read "
            f"as categories. Make dates of them: X[{name!r}] = pd.to_datetime(X[{name!r}]), or "
            f"read the file with parse_dates=[{name!r}]. {otherwise}"
        )
    elif are_number_words(there):
        _warn(
            f"Column {name!r} of X holds words that are numbers, such as {one!r}, and is read as "
            f"categories. Make numbers of them: X[{name!r}] = pd.to_numeric(X[{name!r}]). "
            f"{otherwise}"
        )


def warn_of_answers(X: Any, y: Any, groups: Any) -> None:
    """Warn of columns that hold what is asked for, or the id of the task.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_columns)
        Past rows.
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Their labels or targets.
    groups : ndarray of shape (n_rows,) or None
        Their tasks.

    Warns
    -----
    UserWarning
        When a column is y or `groups`.
    """
    columns, labels = columns_of(indexable(X)) or [], column_labels(X)
    known = [] if groups is None else [(np.asarray(groups), "groups")]
    for i, column in enumerate(columns):
        values = np.asarray(column)
        name = labels[i] if labels else i
        if any(_are_same(values, ids) for ids, _ in known):
            _warn(
                f"Column {name!r} of X holds the same as groups: ids of past tasks, which say "
                "nothing of a new one. Leave it out."
            )
        elif any(_are_same(values, one) for one in np.reshape(y, (len(y), -1)).T):
            _warn(
                f"Column {name!r} of X holds the same as y, which is not known of new rows. Leave "
                "it out."
            )


def _are_same(values: np.ndarray, others: np.ndarray) -> bool:
    """Whether two columns are the same, and not constant."""
    if len(values) != len(others):
        return False
    try:
        for n in (FIRST, len(values)):
            first, second = values[:n].tolist(), others[:n].tolist()
            if first != second:
                return False
        return any(value != first[0] for value in first[1:])
    except (TypeError, ValueError):  # values that cannot be compared, such as pandas' NA
        return False


def warn_of_order(X: Any, **others: Any) -> None:
    """Warn of a series whose index has that of X in another order: rows are taken by their place.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, n_columns)
        Rows.
    **others : array-like of shape (n_rows,)
        What belongs to them, by the name of the argument.

    Warns
    -----
    UserWarning
        When both have an index of pandas, of the same labels in another order.
    """
    index = _index(X)
    for name, values in others.items():
        own = _index(values)
        if index is None or own is None or len(own) != len(index) or own.equals(index):
            continue
        if index.is_unique and own.is_unique and not len(index.difference(own, sort=False)):
            _warn(
                f"{name} has the index of X in another order, but rows are taken by their place, "
                f"whatever the index says. Bring {name} into the order of X: "
                f"{name}.loc[X.index]."
            )


def _index(values: Any) -> Any:
    return getattr(values, "index", None) if hasattr(values, "iloc") else None


def _warn(told: str) -> None:
    warnings.warn(told, stacklevel=3)
