"""One task as tensors, and many ragged tasks as one padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Marks a padded query row of a classification batch.
IGNORED_CODE = -100


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


def memberships(codes: Tensor, n_way: int, dtype: torch.dtype) -> Tensor:
    """One-hot class memberships; a padded row (negative code) belongs to no class."""
    classes = torch.arange(n_way, device=codes.device)
    return (codes[..., None] == classes).to(dtype)


def _stack(arrays: Sequence[np.ndarray], fill: float) -> np.ndarray:
    """Stack along a new first axis, padding the second to the longest."""
    longest = max(len(a) for a in arrays)
    if all(len(a) == longest for a in arrays):
        return np.stack(arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out


def pad_tasks(
    tasks: Sequence[Task], dtype: torch.dtype = torch.float32
) -> tuple[dict[str, Tensor], Tensor]:
    """Collate tasks of any size into one batch.

    Parameters
    ----------
    tasks : sequence of Task
        Ragged tasks of one kind (all classification or all regression).
    dtype : torch.dtype, default=torch.float32
        Floating point type of the batch.

    Returns
    -------
    batch : dict
        ``X`` (T, n, ...), ``y`` (T, n, n_way or n_outputs), ``w`` (T, n) and
        ``X_query`` (T, n_query, ...): the arguments of ``Learner.forward``.
        Padded support rows weigh zero.
    y_query : Tensor
        Codes (T, n_query), padded with -100, or targets (T, n_query,
        n_outputs), padded with NaN.
    """
    X = torch.as_tensor(_stack([t.X for t in tasks], 0)).to(dtype)
    X_query = torch.as_tensor(_stack([t.X_query for t in tasks], 0)).to(dtype)
    w = torch.as_tensor(_stack([np.ones(len(t.X)) for t in tasks], 0.0)).to(dtype)
    if tasks[0].y.dtype.kind in "iu":
        codes = torch.as_tensor(_stack([t.y.astype(np.int64) for t in tasks], IGNORED_CODE))
        y_query = torch.as_tensor(_stack([t.y_query.astype(np.int64) for t in tasks], IGNORED_CODE))
        n_way = int(max(codes.max(), y_query.max())) + 1
        y = memberships(codes, n_way, dtype)
    else:
        y = torch.as_tensor(_stack([t.y for t in tasks], 0.0)).to(dtype)
        y_query = torch.as_tensor(_stack([t.y_query for t in tasks], np.nan)).to(dtype)
    return {"X": X, "y": y, "w": w, "X_query": X_query}, y_query
