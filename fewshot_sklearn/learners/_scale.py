"""Bringing values to a scale, and learning it, without losing what lies far from zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Numbers that are converted at once.
NUMBERS_AT_ONCE = 2**20


def scaled(values: Tensor, mean: Tensor, rest: Tensor, scale: Tensor) -> Tensor:
    if values.dtype == torch.float64:
        return ((values - mean - rest) / scale).to(mean.dtype)
    return ((values - mean) / scale).to(mean.dtype)


def mean_and_scale(values: Tensor, w: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if values.dtype == torch.float64 else like.dtype
    w = torch.ones(len(values)) if w is None else w
    w = w.to(values.device, dtype)
    if like.ndim == 0:  # one scale for all pixels
        means = _of_rows(values, dtype, lambda rows: rows.nanmean(1))  # which NaN may follow
        w = w * ~means.isnan()
        mean = (means.nan_to_num() * w).sum() / w.sum()
        squares = _of_rows(values, dtype, lambda rows: (rows - mean).square().nanmean(1))
        variance = (squares.nan_to_num() * w).sum() / w.sum()
    else:
        values = values.to(dtype)
        mean = (w[:, None] * values).sum(0) / w.sum()
        variance = (w[:, None] * (values - mean).square()).sum(0) / w.sum()
    scale = variance.sqrt()
    negligible = scale <= 10 * torch.finfo(dtype).eps * mean.abs()
    kept = mean.to(like)
    return (
        kept,
        (mean.to(like.device) - kept).to(like),
        torch.where(negligible, 1.0, scale).to(like),
    )


def _of_rows(values: Tensor, dtype: torch.dtype, what: Callable[[Tensor], Tensor]) -> Tensor:
    """A number of each row, from no more rows at once than memory takes easily."""
    few = max(1, NUMBERS_AT_ONCE // max(1, values[:1].numel()))
    return torch.cat([what(part.to(dtype).flatten(1)) for part in values.split(few)])


def of_channels(
    values: Tensor, w: Tensor | None, like: Tensor, n_channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of series (n, n_times, n_channels), or flat ones: what `mean_and_scale` says a channel."""
    n_times = values[0].numel() // n_channels
    moments = values.reshape(-1, n_channels)
    every = None if w is None else w.repeat_interleave(n_times)
    mean, rest, scale = mean_and_scale(moments, every, like.new_zeros(n_channels))
    times = like.numel() // n_channels  # of flat rows
    return mean.repeat(times), rest.repeat(times), scale.repeat(times)
