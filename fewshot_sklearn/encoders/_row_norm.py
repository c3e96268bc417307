"""Norms of convolutional encoders, which look at one row alone: see docs/decisions."""

from __future__ import annotations

from torch import Tensor, nn


class RowNorm(nn.GroupNorm):
    """GroupNorm that leaves a group of one single value alone: it would always become zero."""

    def forward(self, x: Tensor) -> Tensor:
        alone = x[0].numel() == self.num_groups
        return x if alone else super().forward(x)


def row_norm(kind: str | None, channels: int) -> nn.Module:
    """A norm of so many channels by the name that a user gives it."""
    if kind is None:
        return nn.Identity()
    eights = channels // 8 if channels % 8 == 0 else 1
    groups = {"group": eights, "layer": 1, "instance": channels}
    if kind not in groups:
        raise ValueError(f"norm must be one of {[*groups, None]}, got {kind!r}.")
    return RowNorm(groups[kind], channels)
