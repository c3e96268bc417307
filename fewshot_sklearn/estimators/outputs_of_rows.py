"""A fitted estimator as a module of its own: rows of numbers in, what its learner puts out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ..learners import Outputs
from ..tasks import TableFormat
from ._far_tasks import LEVEL, SPREAD, put_back
from .base import FewShotEstimator
from .classifier import PRIOR

#: Rows that are made up where an estimator holds none.
N_MADE_UP = 8


class OutputsOfRows(nn.Module):
    """Logits of classes, or means and variances of targets, for rows as an estimator takes them.

    It shares nothing with the estimator, computes on the CPU, and checks nothing of the rows.

    Parameters
    ----------
    estimator : FewShotEstimator
        A fitted classifier or regressor; it is only read.

    Attributes
    ----------
    unit : ndarray of shape (1,) or (n_outputs,)
        Of each target the unit that the learner computes in; one, of classes.

    Raises
    ------
    NotImplementedError
        When rows are of a table whose columns are not all numbers.
    """

    prior: Tensor

    def __init__(self, estimator: FewShotEstimator):
        super().__init__()
        check_is_fitted(estimator)
        estimator._refuse_other_dtype()
        # a copy, for what draws a graph puts other tensors into the module while it does
        self.learner = copy.deepcopy(estimator._rebuild(estimator.meta_init_)).to("cpu")
        for tensor in (*self.learner.parameters(), *self.learner.buffers()):
            tensor.data = tensor.detach().clone()  # not a part of a whole meta-init
        self.dtype = estimator._compute_dtype()
        state = estimator._state_on(torch.device("cpu"))
        # of a task whose targets lie far from past ones
        self.level, self.spread = (state.pop(name, None) for name in (LEVEL, SPREAD))
        self.is_prior = PRIOR in state
        if self.is_prior:
            self.register_buffer("prior", state[PRIOR].to(self.dtype).log())
        else:
            self.answer = self.learner.answering(state)
        own = getattr(self.learner, "y_scale", torch.ones(()))
        self.unit = np.ravel(state.get("unit", own).double().numpy())
        if self.spread is not None:
            self.unit = self.unit * np.ravel(self.spread.numpy())
        self.numbers = as_module(numbers_of(estimator))

    def forward(self, X: Tensor) -> Outputs:
        """What the learner predicts of rows (n, \\*input_shape)."""
        X = self.numbers(X)
        if self.is_prior:
            return self.prior.expand(X.shape[0], -1)
        kept = self.learner.rounds_itself and X.dtype == torch.float64
        outputs = self.answer(X if kept else X.to(self.dtype))
        return outputs if self.level is None else put_back(outputs, self.level, self.spread)


class FilledIn(nn.Module):
    """Numbers that are missing from rows are replaced, and some columns say that they were.

    Parameters
    ----------
    table : TableFormat
        Of numbers alone.
    """

    fill: Tensor
    places: Tensor

    def __init__(self, table: TableFormat):
        super().__init__()
        columns = table.columns
        fill = torch.tensor([column.fill for column in columns], dtype=torch.float64)
        self.register_buffer("fill", fill)
        places = [
            place
            for i, column in enumerate(columns)
            for place in ([i, len(columns) + i] if column.incomplete else [i])
        ]
        self.tells = len(places) > len(columns)
        self.register_buffer("places", torch.tensor(places))

    def forward(self, X: Tensor) -> Tensor:
        """Rows (n, n_numbers) of rows (n, n_columns)."""
        if not X.is_floating_point():
            return X
        missing = X.isnan()
        rows = torch.where(missing, self.fill.to(X.dtype), X)
        if self.tells:
            rows = torch.cat([rows, missing.to(X.dtype)], 1).index_select(1, self.places)
        return rows


def as_module(table: TableFormat | None) -> nn.Module:
    return nn.Identity() if table is None else FilledIn(table)


def numbers_of(estimator: FewShotEstimator) -> TableFormat | None:
    """How rows that may lack numbers are filled in; None where they may lack none.

    Raises
    ------
    NotImplementedError
        When other columns than numbers are read.
    """
    if len(estimator.meta_init_.fixed_spec["input_shape"]) > 1:
        return None
    width = getattr(estimator, "n_features_in_", 1)
    # of rows that lack everything
    table = estimator._format_of_further(np.full((1, width), np.nan))
    if table is None:
        return None
    names = table.names or range(len(table.columns))
    others = [n for n, c in zip(names, table.columns, strict=True) if c.kind != "number"]
    if others:
        raise NotImplementedError(
            f"The columns {others} of X hold categories or dates, and a graph takes numbers "
            "alone. Encode them before, and meta-train and fit on the numbers that they become."
        )
    return table


def rows_to_try(estimator: FewShotEstimator) -> np.ndarray:
    """Rows of numbers that a fitted estimator can answer for.

    Parameters
    ----------
    estimator : FewShotEstimator
        A fitted one.

    Returns
    -------
    ndarray of shape (n_rows, \\*input_shape)
        The support rows, in the type that `fit` took them in; where there are none, rows drawn
        about the mean of past ones.
    """
    kept: Any = vars(estimator).get("_support")
    if kept is not None:
        return _as_numbers(kept[0])
    init = estimator.meta_init_
    table = estimator._known_format()
    shape = init.fixed_spec["input_shape"] if table is None else (len(table.columns),)
    if init.fixed_spec.get("any_width"):
        shape = (getattr(estimator, "n_features_in_", 1),)
    rows = np.random.default_rng(0).normal(size=(N_MADE_UP, *shape))
    if table is not None:
        return rows + np.array([column.fill for column in table.columns])
    mean, scale = (np.float64(init.tensors.get(f"x_{name}", k)) for name, k in ROWS_ARE)
    return rows * scale + mean


#: Names of the mean and the scale of rows, and what they are where nothing is known.
ROWS_ARE = (("mean", 0.0), ("scale", 1.0))


def _as_numbers(cells: np.ndarray) -> np.ndarray:
    if cells.dtype.kind != "O":
        return cells
    import pandas as pd  # type: ignore[import-untyped]

    return np.where(pd.isna(cells), np.nan, cells).astype(np.float64)
