"""A small convolutional network that turns a series into features.

Z. Wang, W. Yan and T. Oates. Time series classification from scratch with deep neural
networks: a strong baseline. IJCNN 2017 (convolutions over time, residual blocks, global pooling).

H. Ismail Fawaz, B. Lucas, G. Forestier et al. InceptionTime: finding AlexNet for time series
classification. Data Mining and Knowledge Discovery 34, 2020 (filters of several lengths).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tasks import LEAST_TIMES, Constraint, OneOf, Positive, Several, Whole, check_arguments
from ._row_norm import row_norm
from ._task_conv import TaskConv


class Series(nn.Module):
    """Filters of several lengths, then residual blocks of convolutions over time.

    Filters of the raw series [2]_ are followed by blocks of two convolutions beside a
    shortcut [1]_. Each is pooled to half as many times, so that later blocks see longer
    stretches at the price of shorter ones. The features are the mean over time of what each
    block gives, and the maximum of what the last does: they tell which shapes occur, at
    every scale, and hardly when. Norms work within a row, so prediction stays inductive.

    Rows of several channels are brought to one scale channel by channel: each may come in
    a unit of its own. The first filters have biases, so that the level and the amplitude
    of a series count; where they mean nothing, standardize each series beforehand.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row: (n_times,), or (n_times, n_channels), in that order; or flat,
        with `series_shape`. Four times or more. Where channels come first, as other
        packages have them, pass ``X.transpose(0, 2, 1)``.
    width : int, default=64
        Channels of each block, at least as many as `kernel_sizes`.
    n_blocks : int, default=3
        Residual blocks.
    kernel_sizes : sequence of odd int, default=(5, 9, 19, 39)
        Lengths of the first filters, in times; `width` is shared out among them.
    norm : {"group", "layer", "instance"} or None, default="group"
        Norm within a row: groups of 8 channels together (all of them where the width is no
        multiple of 8), all, or each alone, which takes no notice of level and amplitude.
    rms : float or None, default=None
        Root mean square that the features of a row are scaled to, so that their products
        are cosines: for methods with a linear head. None leaves them.
    series_shape : tuple of int or None, default=None
        (n_times,) or (n_times, n_channels) of flattened rows; None takes one channel.

    References
    ----------
    .. [1] Z. Wang, W. Yan and T. Oates, "Time series classification from scratch with deep
       neural networks: a strong baseline", IJCNN 2017.
    .. [2] H. Ismail Fawaz, B. Lucas, G. Forestier et al., "InceptionTime: finding AlexNet for
       time series classification", Data Mining and Knowledge Discovery 34, 2020.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.encoders import Series
    >>> encoder = Series((100, 6), width=32)
    >>> encoder(torch.randn(5, 100, 6)).shape
    torch.Size([5, 128])
    """

    _constraints: dict[str, Constraint] = {
        "width": Whole(1),
        "n_blocks": Whole(1),
        "kernel_sizes": Several(Whole(1)),
        "norm": OneOf("group", "layer", "instance") | None,
        "rms": Positive() | None,
        "series_shape": Several(Whole(1)) | None,
    }

    def __init__(
        self,
        input_shape: tuple[int, ...],
        width: int = 64,
        n_blocks: int = 3,
        kernel_sizes: Sequence[int] = (5, 9, 19, 39),
        norm: str | None = "group",
        rms: float | None = None,
        series_shape: tuple[int, ...] | None = None,
    ):
        super().__init__()
        check_arguments(
            self._constraints, width=width, n_blocks=n_blocks, kernel_sizes=kernel_sizes,
            norm=norm, rms=rms, series_shape=series_shape,
        )  # fmt: skip
        if even := [size for size in kernel_sizes if size % 2 == 0]:
            raise ValueError(f"kernel_sizes must be odd, got {even}.")
        if width < len(kernel_sizes):
            raise ValueError(
                f"width must be at least the number of kernel_sizes, {len(kernel_sizes)}, "
                f"got {width}."
            )
        self.times, self.channels = times_and_channels(input_shape, series_shape)
        self.rms = rms
        share, more = divmod(width, len(kernel_sizes))
        self.filters = nn.ModuleList(
            TaskConv(self.channels, share + (i < more), (1, size), padding=(0, size // 2))
            for i, size in enumerate(kernel_sizes)
        )
        self.norm = row_norm(norm, width)
        self.blocks = nn.ModuleList(_Block(width, norm) for _ in range(n_blocks))

    def forward(self, x: Tensor) -> Tensor:
        # images one pixel high, as a view with the strides that convolutions are quick with
        x = x.reshape(x.shape[0], 1, self.times, self.channels).permute(0, 3, 1, 2)
        x = F.relu(self.norm(_halved(torch.cat([each(x) for each in self.filters], 1))))
        pooled = []
        for i, block in enumerate(self.blocks):
            x = block(_halved(x) if i else x)
            pooled.append(x.mean((2, 3)))
        features = torch.cat([*pooled, x.amax((2, 3))], 1)
        if self.rms is not None:
            features = F.normalize(features, dim=1) * (self.rms * math.sqrt(features.shape[1]))
        return features


class _Block(nn.Module):
    """Two convolutions of five times beside a shortcut."""

    def __init__(self, width: int, norm: str | None):
        super().__init__()
        self.first, self.second = (
            TaskConv(width, width, (1, 5), padding=(0, 2), bias=norm is None) for _ in range(2)
        )
        self.norms = nn.ModuleList(row_norm(norm, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norms[0](self.first(x)))
        return F.relu(x + self.norms[1](self.second(out)))


def channels_apart(encoder: nn.Module) -> int:
    """Channels of an encoder's rows that come in a unit of their own each; 1 where all share one.

    Parameters
    ----------
    encoder : nn.Module
        Any.

    Returns
    -------
    int
        Rows, flattened, are so many numbers at a time, time after time.
    """
    return encoder.channels if isinstance(encoder, Series) else 1


def _halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, (1, 2)) if x.shape[-1] > 1 else x


def times_and_channels(
    input_shape: tuple[int, ...], series_shape: Sequence[int] | None = None
) -> tuple[int, int]:
    shape = tuple(input_shape if series_shape is None else series_shape)
    if len(shape) > 2:
        raise ValueError(
            f"Rows of shape {shape} are not series. Pass X of shape (n, n_times) or "
            "(n, n_times, n_channels)."
        )
    if math.prod(shape) != math.prod(input_shape):
        raise ValueError(
            f"encoder__series_shape={series_shape} does not fit rows of shape {input_shape}."
        )
    times, channels = (*shape, 1)[:2]
    if times < LEAST_TIMES:
        raise ValueError(
            f"A series must have {LEAST_TIMES} times or more, got rows of shape {shape}, which is "
            "(n_times, n_channels). Where channels come first, pass X.transpose(0, 2, 1)."
        )
    return times, channels
