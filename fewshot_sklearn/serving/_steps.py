"""Fitted steps of a pipeline as arithmetic of tensors: scikit-learn's scalers, and its imputer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from torch import Tensor, nn

#: Steps that can be drawn.
KNOWN = (SimpleImputer, StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)


class Affine(nn.Module):
    """Columns less a centre, over a scale, plus a shift; clipped where it has ends."""

    centre: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, centre: Any = None, scale: Any = None, shift: Any = None, clip: Any = None):
        super().__init__()
        self.register_buffer("centre", _numbers(0.0 if centre is None else centre))
        self.register_buffer("scale", _numbers(1.0 if scale is None else scale))
        self.register_buffer("shift", _numbers(0.0 if shift is None else shift))
        self.clip = clip

    def forward(self, X: Tensor) -> Tensor:
        """Rows in the precision in which they came."""
        rows = (X.double() - self.centre) / self.scale + self.shift
        if self.clip is not None:
            rows = rows.clamp(*self.clip)
        return rows.to(X.dtype) if X.is_floating_point() else rows


class Imputed(nn.Module):
    """Missing numbers are replaced, and columns of which nothing was known left out."""

    statistics: Tensor
    kept: Tensor

    def __init__(self, missing: float, statistics: np.ndarray, kept: np.ndarray):
        super().__init__()
        self.missing = float(missing)
        self.register_buffer("statistics", _numbers(statistics))
        self.register_buffer("kept", torch.from_numpy(kept))

    def forward(self, X: Tensor) -> Tensor:
        X = X if X.is_floating_point() else X.double()
        gone = X.isnan() if np.isnan(self.missing) else X.eq(self.missing)
        rows = torch.where(gone, self.statistics.to(X.dtype), X)
        return rows.index_select(1, self.kept)


def drawn_step(step: Any) -> nn.Module:
    """A fitted step of a pipeline as a module.

    Parameters
    ----------
    step : transformer
        Fitted: one of `KNOWN`, frozen or not, or a pipeline of them.

    Returns
    -------
    nn.Module
        Rows in, rows out.

    Raises
    ------
    NotImplementedError
        When it is another.
    """
    if isinstance(step, FrozenEstimator):
        return drawn_step(step.estimator)
    if step is None or (isinstance(step, str) and step == "passthrough"):
        return nn.Identity()
    if isinstance(step, Pipeline):
        return nn.Sequential(*(drawn_step(one) for _, one in step.steps))
    # not of a class that inherits, which may do something else
    if type(step) is StandardScaler:
        return Affine(step.mean_ if step.with_mean else None, step.scale_)
    if type(step) is MaxAbsScaler:
        return Affine(None, step.scale_, clip=(-1.0, 1.0) if getattr(step, "clip", 0) else None)
    if type(step) is RobustScaler:
        centre = step.center_ if step.with_centering else None
        return Affine(centre, step.scale_ if step.with_scaling else None)
    if type(step) is MinMaxScaler:
        ends = tuple(map(float, step.feature_range)) if step.clip else None
        return Affine(None, 1 / step.scale_, step.min_, ends)
    if type(step) is SimpleImputer and not step.add_indicator:
        return _imputed(step)
    known = ", ".join(kind.__name__ for kind in KNOWN)
    raise NotImplementedError(
        f"The step {step!r} of the pipeline cannot be exported: of the steps before the last, "
        f"{known} (without add_indicator) can. Transform rows by this step before they go to the "
        "exported file, and export what comes after it."
    )


def _imputed(step: SimpleImputer) -> Imputed:
    marks = step.missing_values
    number = isinstance(marks, int | float) and not isinstance(marks, bool)
    try:
        statistics = step.statistics_.astype(np.float64)
    except (TypeError, ValueError):
        number = False
    if not number:
        raise NotImplementedError(
            f"The step {step!r} of the pipeline cannot be exported: a graph takes numbers alone, "
            "of which a missing one is NaN or another number."
        )
    known = ~np.isnan(statistics)
    kept = np.arange(len(known)) if step.keep_empty_features else np.flatnonzero(known)
    return Imputed(marks, np.nan_to_num(statistics), kept)


def before_step(step: Any, rows: np.ndarray) -> np.ndarray:
    """Rows that a step would make these of, but for those that it leaves out."""
    if isinstance(step, FrozenEstimator):
        return before_step(step.estimator, rows)
    if isinstance(step, Pipeline):
        for _, one in reversed(step.steps):
            rows = before_step(one, rows)
        return rows
    if not isinstance(step, SimpleImputer):
        return rows if step is None or isinstance(step, str) else step.inverse_transform(rows)
    own = _imputed(step)
    out = np.repeat(np.asarray(own.statistics)[None], len(rows), 0)
    out[:, np.asarray(own.kept)] = rows
    n = min(out.shape)
    out[np.arange(n), np.arange(n)] = step.missing_values  # each row lacks another number
    return out


def _numbers(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values, dtype=np.float64))
