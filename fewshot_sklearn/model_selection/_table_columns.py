"""Tables of words, dates and gaps as plain numbers, for models that take nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ..tasks import TableFormat, distinct, numbered

#: Past classes whose shares among the rows of a category are columns, at most.
MOST_CLASSES = 20


class TableColumns(TransformerMixin, BaseEstimator):
    """Numbers of the columns of a table, as a `TableFormat` has them; codes are left out.

    Parameters
    ----------
    table : TableFormat
        Format of the columns.
    """

    def __init__(self, table: TableFormat):
        self.table = table

    def fit(self, X: Any, y: Any = None) -> TableColumns:
        """Learn nothing: the format says it all."""
        self.n_features_in_ = len(self.table.columns)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Numbers (n_rows, n_numbers) of rows."""
        return self.table.numbers(X)[:, : self.table.n_numbers]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags


def learned_columns(X: Any, y: Any, groups: Any, classify: bool) -> tuple[TableColumns, np.ndarray]:
    """The columns that past rows teach, and the numbers of these rows.

    Of many categories each is the mean of its past targets, or the shares of the classes; for the
    past rows themselves, of rows of other tasks.

    Parameters
    ----------
    X : data frame or array-like of shape (n_rows, n_columns)
        Past rows, not all of them numbers.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Their labels or targets.
    groups : array-like of shape (n_rows,) or None
        Their tasks.
    classify : bool
        Whether y are labels.

    Returns
    -------
    columns : TableColumns
        Fitted.
    rows : ndarray of shape (n_rows, n_numbers)
        Numbers.
    """
    table = TableFormat.of(X)
    assert table is not None
    targets = _means_of(np.asarray(y), classify) if table.sizes else None
    if targets is None:
        columns = TableColumns(table).fit(X)
        return columns, columns.transform(X)
    tasks = np.arange(len(targets)) if groups is None else numbered(groups)[1]
    table, rows = table.with_means(X, targets, tasks)
    return TableColumns(table).fit(X), rows[:, : table.n_numbers]


def _means_of(y: np.ndarray, classify: bool) -> np.ndarray | None:
    """What categories have means of (n_rows, n_outputs); None of too many classes."""
    if not classify:
        return (y[:, None] if y.ndim == 1 else y).astype(np.float64)
    classes, codes = distinct(y, "y")
    return np.eye(len(classes))[codes] if len(classes) <= MOST_CLASSES else None
