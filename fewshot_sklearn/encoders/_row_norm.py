"""Norms of convolutional encoders, which look at one row alone: see docs/decisions."""

from __future__ import annotations

from torch import Tensor, nn

from .written_out import is_written_out


class RowNorm(nn.GroupNorm):
    """GroupNorm that leaves a group of one single value alone: it would always become zero."""

    def forward(self, x: Tensor) -> Tensor:
        if x[0].numel() == self.num_groups:
            return x
        return self._written_out(x) if is_written_out() else super().forward(x)

    def _written_out(self, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (self.num_groups, -1)).flatten(2)
        rest = groups - groups.mean(-1, keepdim=True)
        unit = (rest.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        per_channel = (self.num_channels,) + (1,) * (x.ndim - 2)
        normed = (rest * unit).reshape(x.shape)
        return normed * self.weight.reshape(per_channel) + self.bias.reshape(per_channel)


def row_norm(kind: str | None, channels: int) -> nn.Module:
    """A norm of so many channels by the name that a user gives it."""
    if kind is None:
        return nn.Identity()
    eights = channels // 8 if channels % 8 == 0 else 1
    groups = {"group": eights, "layer": 1, "instance": channels}
    if kind not in groups:
        raise ValueError(f"norm must be one of {[*groups, None]}, got {kind!r}.")
    return RowNorm(groups[kind], channels)
