"""Tables of words, dates and gaps as plain numbers, for models that take nothing else.

D. Micci-Barreca. A preprocessing scheme for high-cardinality categorical attributes in
classification and prediction problems. SIGKDD Explorations 3, 2001.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import TargetEncoder
from sklearn.utils.validation import check_is_fitted

from ..tasks import TableFormat


class TableColumns(TransformerMixin, BaseEstimator):
    """Numbers of the columns of a table, as the past says that they are.

    As a `TableFormat` has them: few categories have a column each, missing numbers are filled and
    marked, dates are days. Of many categories each becomes the mean of the past targets, shrunk
    to that of all; those of the rows fitted to, of other rows than they themselves.

    Parameters
    ----------
    table : TableFormat or None, default=None
        Format of the columns; None learns it from the rows.
    random_state : int, default=0
        Seeds the parts that the rows fitted to are divided into.
    """

    def __init__(self, table: TableFormat | None = None, random_state: int = 0):
        self.table = table
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> TableColumns:
        """Learn what categories have in common with targets; without `y` many are left out."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """The same, and numbers (n_rows, n_columns) of the rows."""
        self.table_ = TableFormat.of(X) if self.table is None else self.table
        numbers, codes = self._parts(X)
        self.n_features_in_ = len(self.table_.columns) if self.table_ else numbers.shape[1]
        self.encoders_: list[TargetEncoder] = []
        if y is None or not codes.shape[1]:
            return numbers
        several = np.ndim(y) == 2
        kind = "continuous" if several else "auto"
        told = []
        for one in np.asarray(y).T if several else [y]:
            self.encoders_.append(TargetEncoder(target_type=kind, random_state=self.random_state))
            told.append(self.encoders_[-1].fit_transform(codes, one))
        return np.hstack([numbers, *told])

    def transform(self, X: Any) -> np.ndarray:
        """Numbers of other rows of the same columns."""
        check_is_fitted(self, "table_")
        numbers, codes = self._parts(X)
        return np.hstack([numbers, *(one.transform(codes) for one in self.encoders_)])

    def _parts(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Numbers, and the codes of many categories."""
        if self.table_ is None:
            return np.asarray(X, dtype=np.float64), np.empty((len(X), 0))
        rows, n = self.table_.numbers(X), self.table_.n_numbers
        return rows[:, :n], rows[:, n:]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        return tags
