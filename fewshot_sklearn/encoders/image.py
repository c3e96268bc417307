"""Small convolutional networks that turn an image into features.

Their norm layers work within one image, so that a prediction never depends on
which other rows are asked for (batch statistics would make it transductive).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tasks import (
    Constraint,
    Flag,
    OneOf,
    Positive,
    Several,
    Whole,
    check_arguments,
    image_shape,
)
from ._row_norm import row_norm
from ._task_conv import TaskConv

Shape = tuple[int, ...]


def channels_last(module: nn.Module) -> None:
    """Lay convolution weights out as the CPU kernels like them, one channel included."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach().permute(0, 2, 3, 1).contiguous()
            layer.weight.data = weight.permute(0, 3, 1, 2)


#: How a map becomes features: as it is, by the mean of each channel, or by that and the spread.
POOLS = (None, "mean", "moments")
#: Features learned from the moments of colours.
N_OF_COLORS = 32
#: What a variance is at least.
LEAST = 1e-6


def pooled(x: Tensor, how: str | None) -> Tensor:
    """Features (n, n_features) of maps (n, C, H, W)."""
    if how is None:
        return x.flatten(1)
    mean = x.mean((2, 3))
    if how == "mean":
        return mean
    variance = (x - mean[..., None, None]).square().mean((2, 3))
    return torch.cat([mean, (variance + LEAST).sqrt()], 1)


class ColorMoments(nn.Module):
    """A linear layer on mean, spread and skewness of each channel (Stricker and Orengo 1995).

    Norms within a row take away how bright a picture is and of what colours; this keeps it.

    Parameters
    ----------
    channels : int
        Of the pictures.
    n_features : int, default=32
        Of the layer.
    """

    def __init__(self, channels: int, n_features: int = N_OF_COLORS):
        super().__init__()
        self.layer = nn.Linear(3 * channels, n_features)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3))
        rest = x - mean[..., None, None]
        variance = rest.square().mean((2, 3)) + LEAST
        # in the unit of the pixels, as the others are
        skewness = rest.pow(3).mean((2, 3)) / (variance + 1e-2)
        return self.layer(torch.cat([mean, variance.sqrt(), skewness], 1))


def halved(x: Tensor) -> Tensor:
    """A map 2x2 max-pooled, unless it is one pixel high or wide already."""
    return F.max_pool2d(x, 2) if min(x.shape[-2:]) > 1 else x


class _ImageEncoder(nn.Module):
    """Accepts rows as (n, H, W), (n, H, W, C) or flat and hands on channels-last images."""

    #: Channels of the last map.
    map_channels: int
    #: What networks are that were pickled before it could be told.
    mirrored = False
    #: What the arguments of the constructor may be.
    _constraints: dict[str, Constraint] = {
        "width": Whole(1),
        "pools": Whole(0, 4),
        "widths": Several(Whole(1)),
        "norm": OneOf("group", "layer", "instance") | None,
        "turns": Whole(1, 4),
        "mirrored": Flag(),
        "rms": Positive() | None,
        "pool": OneOf("mean", "moments") | None,
        "color_moments": Flag(),
        "image_shape": Several(Whole(1), least=2) | None,
    }

    def __init__(
        self,
        input_shape: Shape,
        image: Shape | None,
        turns: int,
        mirrored: bool,
        rms: float | None,
        pool: str | None,
        color_moments: bool,
        **own: Any,
    ):
        super().__init__()
        own |= {"turns": turns, "mirrored": mirrored, "rms": rms}
        own |= {"pool": pool, "color_moments": color_moments}
        check_arguments(self._constraints, image_shape=image, **own)
        self.height, self.width, self.channels = image_shape(tuple(image or input_shape))
        if self.height * self.width * self.channels != math.prod(input_shape):
            raise ValueError(
                f"encoder__image_shape={image} does not fit rows of shape {input_shape}."
            )
        if turns not in (1, 2, 4):
            raise ValueError(f"turns must be 1, 2 or 4, got {turns!r}.")
        if turns == 4 and self.height != self.width:
            raise ValueError(
                f"turns=4 needs square images, got {self.height} x {self.width}; turns=2 does not."
            )
        if image and len(input_shape) > 1 and image_shape(tuple(image)) != image_shape(input_shape):
            raise ValueError(
                f"encoder__image_shape={tuple(image)} is for flat rows, and these rows have the "
                f"shape {tuple(input_shape)}: leave it out."
            )
        self.turns, self.mirrored = turns, mirrored
        self.rms, self.pool, self.has_moments = rms, pool, color_moments

    @property
    def n_views(self) -> int:
        """How often each picture is looked at."""
        return self.turns * (1 + self.mirrored)

    def _add_color_moments(self) -> None:
        """Last of all, so that a seed gives the other weights whether it is there or not."""
        if self.has_moments:
            self.color_moments = ColorMoments(self.channels)

    def forward(self, x: Tensor) -> Tensor:
        images = x.reshape(x.shape[0], self.height, self.width, self.channels)
        quarters = range(0, 4, 4 // self.turns)
        colors = (
            [self._scaled(self.color_moments(images.permute(0, 3, 1, 2)))]
            if self.has_moments
            else []
        )
        if self.turns > 1:
            images = torch.cat([torch.rot90(images, k, (1, 2)) for k in quarters])
        if self.mirrored:
            images = torch.cat([images, images.flip(2)])
        # a view: channels-last strides even for one channel
        features = self._scaled(self.features(images.permute(0, 3, 1, 2)))
        if self.n_views == 1:
            return torch.cat([features, *colors], 1) if colors else features
        # of any number of images: whoever chunks them has to know how many there are
        return torch.cat([*features.unflatten(0, (self.n_views, -1)).unbind(), *colors], 1)

    def _scaled(self, features: Tensor) -> Tensor:
        if self.rms is None:
            return features
        return F.normalize(features, dim=1) * (self.rms * math.sqrt(features.shape[1]))

    def features(self, x: Tensor) -> Tensor:
        """Features (n, n_features) of images (n, C, H, W)."""
        raise NotImplementedError


class Conv4(_ImageEncoder):
    """Four blocks of 3x3 convolution, 2x2 max-pooling, norm and ReLU, then flatten.

    The field's usual small network (Vinyals et al. 2016), with two changes: the
    norm works within a row, so prediction stays inductive, and it follows the
    pooling, which costs a quarter as much. Blocks whose map is already one
    pixel high or wide are not pooled.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row: (H, W), (H, W, C) or flat.
    width : int, default=64
        Channels of each block.
    norm : {"group", "layer", "instance"} or None, default="group"
        Norm within a row: groups of 8 channels together (all of them where the
        width is no multiple of 8), all, or each alone.
    turns : {1, 2, 4}, default=1
        Views of an image, turned by equal angles about the whole circle, whose features
        are put side by side. One network then judges as several would: slower by that
        factor, and more accurate where turned images are images of other classes.
    rms : float or None, default=None
        Root mean square that the features of each view are scaled to, so that their
        products are cosines: for methods with a linear head. None leaves them.
    pool : {"mean", "moments"} or None, default=None
        What the last map becomes: None, the whole map, which tells where in the picture
        something is, of 5 x 5 pixels at 84 x 84; the mean of each channel; or that and its
        standard deviation, for what may be anywhere, and texture.
    color_moments : bool, default=False
        Whether 32 features are learned from mean, standard deviation and skewness of each channel
        of the picture, and put beside: where colours tell classes apart, which norms within a row
        take away.
    image_shape : tuple of int or None, default=None
        (H, W) or (H, W, C) of flattened rows; None takes a square.
    pools : int, default=4
        How many of the four blocks, from the first on, are pooled. Fewer leave a larger map,
        for methods that compare places: 7 x 7 pixels of 28 x 28 with 2, 3 x 3 with 3.
    mirrored : bool, default=False
        Whether each view is looked at in a mirror, too: twice as many.
    """

    #: What networks have that were pickled before it could be told.
    pools = 4

    def __init__(
        self,
        input_shape: Shape,
        width: int = 64,
        norm: str | None = "group",
        turns: int = 1,
        rms: float | None = None,
        pool: str | None = None,
        color_moments: bool = False,
        image_shape: Shape | None = None,
        pools: int = 4,
        mirrored: bool = False,
    ):
        super().__init__(
            input_shape, image_shape, turns, mirrored, rms, pool, color_moments,
            width=width, norm=norm, pools=pools,
        )  # fmt: skip
        self.pools, self.map_channels = pools, width
        self.convs = nn.ModuleList(
            TaskConv(self.channels if i == 0 else width, width, 3, padding=1, bias=norm is None)
            for i in range(4)
        )
        self.norms = nn.ModuleList(row_norm(norm, width) for _ in range(4))
        self._add_color_moments()

    def features(self, x: Tensor) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            x = F.relu(norm(halved(x) if i < self.pools else x))
        return pooled(x, self.pool)


class _ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 shortcut, then 2x2 max-pooling."""

    def __init__(self, channels: int, width: int, norm: str | None):
        super().__init__()
        sizes = [channels, width, width, width]
        self.convs = nn.ModuleList(
            TaskConv(a, b, 3, padding=1, bias=norm is None)
            for a, b in zip(sizes, sizes[1:], strict=False)
        )
        self.norms = nn.ModuleList(row_norm(norm, width) for _ in range(3))
        self.shortcut = TaskConv(channels, width, 1, bias=norm is None)
        self.shortcut_norm = row_norm(norm, width)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = norm(conv(out))
            if i < 2:
                out = F.leaky_relu(out, 0.1)
        return halved(F.leaky_relu(out + self.shortcut_norm(self.shortcut(x)), 0.1))


class ResNet12(_ImageEncoder):
    """Four residual blocks of three convolutions, then global average pooling.

    The deeper of the field's two usual networks (Oreshkin et al. 2018; Lee et
    al. 2019), with norms that work within a row.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row: (H, W), (H, W, C) or flat.
    widths : sequence of int, default=(64, 160, 320, 640)
        Channels of each block; the last is the number of features.
    norm : {"group", "layer", "instance"} or None, default="group"
        Norm within a row.
    turns : {1, 2, 4}, default=1
        Views of an image, turned by equal angles about the whole circle, whose features
        are put side by side. One network then judges as several would: slower by that
        factor, and more accurate where turned images are images of other classes.
    rms : float or None, default=None
        Root mean square that the features of each view are scaled to, so that their
        products are cosines: for methods with a linear head. None leaves them.
    pool : {"mean", "moments"} or None, default="mean"
        What the last map becomes: the mean of each channel, that and its standard deviation, or
        None, the whole map.
    color_moments : bool, default=False
        Whether 32 features are learned from mean, standard deviation and skewness of each channel
        of the picture, and put beside: where colours tell classes apart, which norms within a row
        take away.
    image_shape : tuple of int or None, default=None
        (H, W) or (H, W, C) of flattened rows; None takes a square.
    mirrored : bool, default=False
        Whether each view is looked at in a mirror, too: twice as many.
    """

    def __init__(
        self,
        input_shape: Shape,
        widths: Sequence[int] = (64, 160, 320, 640),
        norm: str | None = "group",
        turns: int = 1,
        rms: float | None = None,
        pool: str | None = "mean",
        color_moments: bool = False,
        image_shape: Shape | None = None,
        mirrored: bool = False,
    ):
        super().__init__(
            input_shape, image_shape, turns, mirrored, rms, pool, color_moments,
            widths=widths, norm=norm,
        )  # fmt: skip
        self.map_channels = widths[-1]
        sizes = [self.channels, *widths]
        self.blocks = nn.Sequential(
            *(_ResidualBlock(a, b, norm) for a, b in zip(sizes, sizes[1:], strict=False))
        )
        self._add_color_moments()

    def features(self, x: Tensor) -> Tensor:
        return pooled(self.blocks(x), self.pool)


class _ShortBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, then 2x2 max-pooling, where it is pooled."""

    #: What blocks are that were pickled before it could be told.
    is_pooled = True

    def __init__(self, channels: int, width: int, norm: str | None, is_pooled: bool = True):
        super().__init__()
        self.is_pooled = is_pooled
        self.first = TaskConv(channels, width, 3, padding=1, bias=norm is None)
        self.second = TaskConv(width, width, 3, padding=1, bias=norm is None)
        self.shortcut = TaskConv(channels, width, 1, bias=norm is None)
        self.norms = nn.ModuleList(row_norm(norm, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norms[0](self.first(x)))
        out = self.norms[1](self.second(out)) + self.shortcut(x)
        return F.relu(halved(out) if self.is_pooled else out)


class ResNet8(_ImageEncoder):
    """A convolution and three residual blocks of two, each with 2x2 max-pooling.

    For small images on small machines: the first convolution is pooled at once,
    so that at 28 x 28 it takes three times the arithmetic of Conv4, with eleven
    times its parameters, where ResNet12 takes nearly forty times.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row: (H, W), (H, W, C) or flat.
    widths : sequence of int, default=(32, 64, 128, 256)
        Channels of the first convolution and of each block.
    norm : {"group", "layer", "instance"} or None, default="group"
        Norm within a row.
    turns : {1, 2, 4}, default=1
        Views of an image, turned by equal angles about the whole circle, whose features
        are put side by side. One network then judges as several would: slower by that
        factor, and more accurate where turned images are images of other classes.
    rms : float or None, default=None
        Root mean square that the features of each view are scaled to, so that their
        products are cosines: for methods with a linear head. None leaves them.
    pool : {"mean", "moments"} or None, default=None
        What the last map becomes: None, the whole map, which tells where in the picture
        something is, of 5 x 5 pixels at 84 x 84; the mean of each channel; or that and its
        standard deviation, for what may be anywhere, and texture.
    color_moments : bool, default=False
        Whether 32 features are learned from mean, standard deviation and skewness of each channel
        of the picture, and put beside: where colours tell classes apart, which norms within a row
        take away.
    image_shape : tuple of int or None, default=None
        (H, W) or (H, W, C) of flattened rows; None takes a square.
    pools : int, default=4
        How many of first convolution and blocks, from the first on, are pooled. Fewer leave a
        larger map: 3 x 3 pixels of 28 x 28 with 3.
    mirrored : bool, default=False
        Whether each view is looked at in a mirror, too: twice as many.
    """

    #: What networks have that were pickled before it could be told.
    pools = 4

    def __init__(
        self,
        input_shape: Shape,
        widths: Sequence[int] = (32, 64, 128, 256),
        norm: str | None = "group",
        turns: int = 1,
        rms: float | None = None,
        pool: str | None = None,
        color_moments: bool = False,
        image_shape: Shape | None = None,
        pools: int = 4,
        mirrored: bool = False,
    ):
        super().__init__(
            input_shape, image_shape, turns, mirrored, rms, pool, color_moments,
            widths=widths, norm=norm, pools=pools,
        )  # fmt: skip
        self.pools, self.map_channels = pools, widths[-1]
        self.stem = TaskConv(self.channels, widths[0], 3, padding=1, bias=norm is None)
        self.stem_norm = row_norm(norm, widths[0])
        self.blocks = nn.Sequential(
            *(
                _ShortBlock(a, b, norm, i < pools)
                for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False), 1)
            )
        )
        self._add_color_moments()

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = halved(x) if self.pools else x
        return pooled(self.blocks(F.relu(self.stem_norm(x))), self.pool)
