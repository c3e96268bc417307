"""Tables without a history: their format is learned from the labelled rows themselves."""

from __future__ import annotations

import datetime
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from ..meta_init import MetaInit
from ..tasks import Column, TableFormat, column_names, warn_of_columns
from ._further_rows import GivenRows, TakesFurtherRows
from .validation import check_weights

#: Kinds of arrays that may hold what is no number.
_OBJECTS = "OUTM"
#: What a cell of a table may hold.
_CELLS = (str, Real, Decimal, np.bool_, datetime.date, np.datetime64)


class LearnsTable(TakesFurtherRows):
    """An estimator whose `fit` learns how the columns of a table become numbers, if they are none.

    Attributes
    ----------
    table_format_ : TableFormat or None
        What was learned; None where rows are numbers that need no format.
    """

    table_format_: TableFormat | None

    def _learns_table(self) -> bool:
        """Whether the format is for the rows of `fit` to teach."""
        raise NotImplementedError

    # ------------------------------------------------------------------ first rows
    def _format_of(self, X: Any, sample_weight: Any) -> TableFormat | None:
        if not self._learns_table():
            self.table_format_ = None
            return super()._format_of(X, sample_weight)
        self.table_format_ = None
        if needs_format(X):
            w = sample_weight
            if w is not None:
                w = check_weights(w, X.shape[0] if hasattr(X, "shape") else len(X))
            self.table_format_ = TableFormat.of(X, weights=w, looks_up=False)
            warn_of_columns(X, self.table_format_)
        return self.table_format_

    def _begin_without_rows(self) -> MetaInit:
        self.table_format_ = None
        return super()._begin_without_rows()

    # ------------------------------------------------------------------ later ones
    def _known_format(self) -> TableFormat | None:
        own = getattr(self, "table_format_", None)
        return super()._known_format() if own is None else own

    def _format_of_further(self, X: Any) -> TableFormat | None:
        known = self._known_format()
        if known is not None or not (self._learns_table() and needs_format(X)):
            return known
        # of plain numbers, which lack some now
        names, fill = column_names(X), self._means()
        plain = tuple(Column("number", float(mean)) for mean in fill)
        return TableFormat(plain, None if names is None else tuple(names))

    def _means(self) -> np.ndarray:
        """Means of the columns that `fit` saw."""
        state = self.state_
        if "Z" not in state:
            return np.zeros(getattr(self, "n_features_in_", 1))
        return np.average(state["Z"].astype(np.float64), axis=0, weights=state["w"])

    def _read_anew(self, rows: GivenRows) -> GivenRows:
        cells = rows.kept[0]
        if not self._learns_table() or cells.ndim != 2 or cells.dtype.kind != "O":
            return rows
        before = self.table_format_
        columns = (None,) * cells.shape[1] if before is None else before.columns
        # an array of cells has lost what the types of its columns said
        marked = [i for i, c in enumerate(columns) if c and c.kind == "category" and c.values]
        table = TableFormat.of(cells, weights=rows.w, looks_up=False, surely=marked)
        names = getattr(self, "feature_names_in_", None)
        if table is not None and names is not None:
            table = TableFormat(table.columns, tuple(names))
        self.table_format_ = table
        X = cells.astype(np.float64) if table is None else table.numbers(cells)
        return rows._replace(X=X)


def needs_format(X: Any) -> bool:
    """Whether rows (n_rows, n_columns) hold what is no number, or lack some."""
    if hasattr(X, "tocsr"):
        return False
    try:
        array = np.asarray(X)
    except (TypeError, ValueError):
        return False  # which is said better where rows are checked
    if array.ndim != 2 or not array.size:
        return False
    if array.dtype.kind == "f":
        return bool(np.isnan(array).any())
    if array.dtype.kind not in _OBJECTS:
        return False
    return array.dtype.kind != "O" or _holds_cells(array)


def _holds_cells(array: np.ndarray) -> bool:
    import pandas as pd  # type: ignore[import-untyped]  # not before it is needed

    there = array[~pd.isna(array)]
    return all(isinstance(value, _CELLS) for value in there.tolist())
