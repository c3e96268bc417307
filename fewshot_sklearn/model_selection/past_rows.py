"""Rows of past tasks, shared by all clones of the estimators that hold them."""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_array, check_consistent_length

from ..estimators import check_range
from ..tasks import (
    as_they_are,
    column_names,
    columns_named,
    numbered,
    refuse_missing,
    refuse_sparse,
)


class PastRows:
    """Rows of past tasks, shared by all clones of the estimators that hold them.

    Never changed; copying and cloning return the object itself. What a pooled
    estimator computes from it once (sums, penalties) is kept with it, pickled
    too; pass one of these where an estimator is cloned and fitted many times.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features)
        Rows of all past tasks.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Targets or labels.
    groups : array-like of shape (n_rows,) or None, default=None
        Task of each row; None takes them all as one past task.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float64
        Rows.
    y : ndarray
        Targets or labels.
    task : ndarray of shape (n_rows,)
        Number of the task of each row, from 0.
    n_tasks : int
        Number of tasks.
    names : list of str or None
        Names of the columns, where X had names that are all strings.

    Raises
    ------
    ValueError
        When X, y or groups hold missing or infinite values.

    Examples
    --------
    >>> from fewshot_sklearn import PastRows
    >>> past = PastRows([[0.], [1.], [2.]], [0., 1., 5.], ["a", "a", "b"])
    >>> past, past.task
    (PastRows(3 rows of 2 tasks), array([0, 0, 1]))
    """

    #: Of older pickles, which do not know.
    names: list[str] | None = None

    def __init__(self, X: Any, y: Any, groups: Any = None):
        refuse_sparse(X, self)
        self.names = column_names(X)
        with columns_named(X):
            self.X = check_array(X, dtype=np.float64)
        check_range(self.X, torch.float64, "X", self.names)
        self.y = as_they_are(y)
        if self.y.dtype.kind == "f" and not np.isfinite(self.y).all():
            raise ValueError("y of past rows must hold finite targets, got NaN or infinity.")
        refuse_missing(self.y, "y", "label")
        check_consistent_length(self.X, self.y, groups)
        names = np.zeros(len(self.X), int) if groups is None else groups
        uniques, self.task = numbered(names)
        self.n_tasks = len(uniques)
        self._kept: dict[Any, Any] = {}

    def _once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """The result kept under a key, computed when first asked for."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def __sklearn_clone__(self) -> PastRows:
        return self

    def __copy__(self) -> PastRows:
        return self

    def __deepcopy__(self, memo: Any) -> PastRows:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """What skops goes by: the rows alone."""
        return PastRows, (self.X, self.y, self.task)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """What pickle goes by: with what was computed from the rows, for worker processes."""
        return copyreg.__newobj__, (PastRows,), self.__dict__  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"PastRows({len(self.X):,} rows of {self.n_tasks:,} tasks)"
