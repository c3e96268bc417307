"""Convolutions whose weights may be each task's own: see docs/decisions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .written_out import is_written_out


class TaskConv(nn.Conv2d):
    """Conv2d that on a GPU takes the kernels of many tasks at once, as products of patches.

    torch differentiates the gradients of its own under vmap a task at a time. On a CPU, where
    nothing has to be launched, that is quicker, and takes less memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        if is_written_out() and x.device.type != "cpu" and self._is_plain():
            return self._of_patches(x)
        return super().forward(x)

    def _is_plain(self) -> bool:
        steps = (self.stride, self.dilation) == ((1, 1), (1, 1))
        return steps and self.groups == 1 and self.padding_mode == "zeros"

    def _of_patches(self, x: Tensor) -> Tensor:
        """Convolve images (n, C, H, W)."""
        high, wide = (int(p) for p in self.padding)
        one = self.kernel_size == (1, 1) and not high and not wide
        patches = x.flatten(2) if one else F.unfold(x, self.kernel_size, padding=(high, wide))
        height = x.shape[-2] + 2 * high - self.kernel_size[0] + 1
        out = (self.weight.flatten(1) @ patches).unflatten(-1, (height, -1))
        return out if self.bias is None else out + self.bias[:, None, None]
