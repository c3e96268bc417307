"""One task as tensors, and many ragged tasks as one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .moving import moved

#: Marks a padded query row of a classification batch.
IGNORED_CODE = -100
#: Marks a support row whose class is not told.
UNLABELLED_CODE = -1


class Support(NamedTuple):
    """The labelled rows an algorithm adapts to.

    Attributes
    ----------
    X : Tensor of shape (n, \\*input_shape)
        Rows.
    y : Tensor of shape (n, n_way) or (n, n_outputs)
        Class memberships (each row sums to one) or regression targets, both
        floating point.
    w : Tensor of shape (n,)
        Weights, at least zero. A padded row is a row of weight zero: padding
        mask and sample weight are one thing.
    """

    X: Tensor
    y: Tensor
    w: Tensor


class Task(NamedTuple):
    """One episode as arrays: a support set to adapt to and queries to be judged on.

    Attributes
    ----------
    X, X_query : ndarray of shape (n, \\*input_shape), (n_query, \\*input_shape)
        Rows.
    y, y_query : ndarray
        Integer codes 0..n_way-1 of shape (n,), or float targets of shape
        (n, n_outputs).
    """

    X: np.ndarray
    y: np.ndarray
    X_query: np.ndarray
    y_query: np.ndarray


class TaskBatch(NamedTuple):
    """Many tasks as arrays with a leading axis of tasks, padded to the longest.

    Attributes
    ----------
    X, X_query : ndarray or Tensor of shape (T, n, ...), (T, n_query, ...)
        Rows.
    y : ndarray
        Integer codes (T, n), -100 where padded, or targets (T, n, n_outputs).
    w : ndarray of shape (T, n) or None
        Weights of the support rows, zero where padded; None where none is.
    y_query : ndarray
        Codes (T, n_query), -100 where padded, or targets (T, n_query,
        n_outputs), NaN where padded.
    """

    X: Any
    y: np.ndarray
    w: np.ndarray | None
    X_query: Any
    y_query: np.ndarray

    def real_support(self) -> np.ndarray:
        """Which support rows (T, n) are no padding."""
        return np.ones(self.y.shape[:2], bool) if self.w is None else self.w > 0

    def real_query(self) -> np.ndarray:
        """Which queries (T, n_query) are no padding."""
        return _asked(self.y_query)

    def task(self, i: int) -> Task:
        """One of them, without padding."""
        asked = self.y_query[i]
        kept = slice(None) if self.w is None else self.w[i] > 0
        real = _asked(asked[None])[0]
        return Task(self.X[i][kept], self.y[i][kept], self.X_query[i][real], asked[real])


def _asked(y_query: np.ndarray) -> np.ndarray:
    """Which queries (T, n_query) of codes or targets are no padding."""
    return y_query != IGNORED_CODE if y_query.ndim == 2 else ~np.isnan(y_query).any(2)


def memberships(codes: Tensor, n_way: int, dtype: torch.dtype) -> Tensor:
    """One-hot class memberships; a padded row (negative code) belongs to no class."""
    classes = torch.arange(n_way, device=codes.device)
    return (codes[..., None] == classes).to(dtype)


def shares(w: Tensor) -> Tensor:
    """Weights (..., n) over their sum; zeros where there is no weight at all."""
    return w / w.sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)


def _stack(arrays: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Stack along a new first axis, padding the second to the longest."""
    longest = max(len(a) for a in arrays)
    if all(len(a) == longest for a in arrays):
        return np.stack(arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out


def stack_tasks(tasks: Sequence[Task]) -> TaskBatch:
    """Put tasks of any size into one padded batch."""
    coded = tasks[0].y.dtype.kind in "iu"
    none, unasked = (IGNORED_CODE, IGNORED_CODE) if coded else (0.0, np.nan)
    w = _stack([np.ones(len(t.X)) for t in tasks], 0.0)
    return TaskBatch(
        _stack([t.X for t in tasks], 0),
        _stack([t.y for t in tasks], none),
        None if w.all() else w,
        _stack([t.X_query for t in tasks], 0),
        _stack([t.y_query for t in tasks], unasked),
    )


def pad_tasks(
    tasks: Sequence[Task] | TaskBatch,
    dtype: torch.dtype = torch.float32,
    keep_float64: bool = False,
    whole: bool = False,
    tell_queries: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    """Collate tasks of any size into one batch of tensors.

    Parameters
    ----------
    tasks : sequence of Task, or TaskBatch
        Tasks of one kind (all classification or all regression).
    dtype : torch.dtype, default=torch.float32
        Floating point type of the batch.
    keep_float64 : bool, default=False
        Whether rows and targets that come in float64 stay so, for a learner that
        scales them before it rounds.
    whole : bool, default=False
        Whether rows are whole numbers, which become long.
    tell_queries : bool, default=False
        Whether the batch tells which queries are no padding, for a learner that answers
        them together.

    Returns
    -------
    batch : dict
        ``X`` (T, n, ...), ``y`` (T, n, n_way or n_outputs), ``w`` (T, n) and
        ``X_query`` (T, n_query, ...): the arguments of ``Learner.forward``.
        Padded support rows weigh zero. With `tell_queries` also ``w_query``
        (T, n_query): one, or zero for a padded query.
    y_query : Tensor
        Codes (T, n_query), padded with -100, or targets (T, n_query,
        n_outputs), padded with NaN.
    """
    stacked = tasks if isinstance(tasks, TaskBatch) else stack_tasks(tasks)

    # those on a device stay there, whatever torch's default is
    where = stacked.X.device if isinstance(stacked.X, Tensor) else "cpu"

    def floating(array: Any) -> Tensor:
        values = moved(array, where)
        return values if keep_float64 and values.dtype == torch.float64 else values.to(dtype)

    X, X_query = (
        moved(rows, where).long() if whole else floating(rows)
        for rows in (stacked.X, stacked.X_query)
    )
    if stacked.w is None:
        w = torch.ones(X.shape[:2], dtype=dtype, device="cpu")
    else:
        w = torch.as_tensor(stacked.w, device="cpu").to(dtype)
    if stacked.y.dtype.kind in "iu":
        codes, y_query = (
            torch.as_tensor(a, device="cpu").long() for a in (stacked.y, stacked.y_query)
        )
        n_way = 1 + max(int(c.max()) for c in (codes, y_query) if c.numel())
        y = memberships(codes, n_way, dtype)
    else:
        y, y_query = floating(stacked.y), floating(stacked.y_query)
    batch = {"X": X, "y": y, "w": w, "X_query": X_query}
    if tell_queries:
        batch["w_query"] = torch.as_tensor(stacked.real_query(), device="cpu").to(dtype)
    return batch, y_query
