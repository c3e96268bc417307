"""Small networks that turn a row into features, by name, by class or as a module.

Every norm layer here works on one row at a time, so that a prediction never
depends on which other rows are asked for (batch statistics would make it
transductive).
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

Shape = tuple[int, ...]


def image_shape(input_shape: Shape) -> tuple[int, int, int]:
    """Height, width and channels of rows of this shape.

    Parameters
    ----------
    input_shape : tuple of int
        ``(H, W)``, ``(H, W, C)``, or the length of a flattened square image of
        one or three channels.

    Returns
    -------
    tuple of int
        ``(H, W, C)``.

    Raises
    ------
    ValueError
        When the shape cannot be an image.
    """
    if len(input_shape) == 3:
        return input_shape[0], input_shape[1], input_shape[2]
    if len(input_shape) == 2:
        return input_shape[0], input_shape[1], 1
    for channels in (1, 3):
        side = math.isqrt(input_shape[0] // channels)
        if len(input_shape) == 1 and side * side * channels == input_shape[0]:
            return side, side, channels
    raise ValueError(
        f"Rows of shape {input_shape} are not images. Pass X of shape (n, H, W) or "
        "(n, H, W, C), or say encoder__image_shape=(H, W, C) for flattened rows."
    )


class _RowNorm(nn.GroupNorm):
    """GroupNorm that leaves a group of one single value alone: it would always become zero."""

    def forward(self, x: Tensor) -> Tensor:
        alone = x[0].numel() == self.num_groups
        return x if alone else super().forward(x)


def _norm(kind: str | None, channels: int) -> nn.Module:
    if kind is None:
        return nn.Identity()
    eights = channels // 8 if channels % 8 == 0 else 1
    groups = {"group": eights, "layer": 1, "instance": channels}
    if kind not in groups:
        raise ValueError(f"norm must be one of {[*groups, None]}, got {kind!r}.")
    return _RowNorm(groups[kind], channels)


class LayerNorm(nn.Module):
    """Layer normalisation, written out: torch's own has a wrong second derivative under vmap.

    Parameters
    ----------
    units : int
        Size of the last axis.
    """

    def __init__(self, units: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(units)), nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * self.weight + self.bias


def safe_under_vmap(encoder: nn.Module) -> bool:
    """Whether second derivatives of an encoder are right when vmapped over tasks.

    Torch's norm layers give silently wrong ones, so an encoder that has any,
    or that may call them in a `forward` of its own, is not vmapped.
    """
    wary = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RNNBase)
    for module in encoder.modules():
        ours = type(module) in (Identity, MLP, Fourier, LayerNorm)
        plain = type(module).__module__.startswith("torch.nn.modules.")
        if not ours and (not plain or isinstance(module, wary)):
            return False
    return True


def channels_last(module: nn.Module) -> None:
    """Lay convolution weights out as the CPU kernels like them, one channel included."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach().permute(0, 2, 3, 1).contiguous()
            layer.weight.data = weight.permute(0, 3, 1, 2)


def _unaltered(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether nobody has subclassed a module or hung hooks or parametrizations on its parts."""
    parts = list(module.modules())
    hooks = any(m._forward_hooks or m._forward_pre_hooks for m in parts)
    return type(module) is kind and not hooks and not any(map(is_parametrized, parts))


class Identity(nn.Module):
    """The row itself, flattened.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row.
    """

    def __init__(self, input_shape: Shape):
        super().__init__()
        self.flat = len(input_shape) == 1

    def is_plain_mlp(self) -> bool:
        """Whether `fewshot_sklearn.descent` computes what `forward` does."""
        return self.flat and _unaltered(self, Identity)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class MLP(nn.Module):
    """Fully connected layers with ReLU between and after them.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row.
    hidden : sequence of int, default=(64, 64)
        Width of each layer; the last is the number of features.
    norm : {"layer"} or None, default=None
        LayerNorm before each nonlinearity.
    dropout : float, default=0.0
        Dropout rate after each nonlinearity, while meta-training only.
    activation : {"relu", "tanh", "gelu", "silu"}, default="relu"
        The nonlinearity.
    """

    def __init__(
        self,
        input_shape: Shape,
        hidden: Sequence[int] = (64, 64),
        norm: str | None = None,
        dropout: float = 0.0,
        activation: str = "relu",
    ):
        super().__init__()
        kinds = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}
        if activation not in kinds:
            raise ValueError(f"activation must be one of {list(kinds)}, got {activation!r}.")
        if norm not in (None, "layer"):
            raise ValueError(f"norm must be 'layer' or None for the mlp, got {norm!r}.")
        layers: list[nn.Module] = []
        width = math.prod(input_shape)
        for units in hidden:
            layers.append(nn.Linear(width, units))
            if norm:
                layers.append(LayerNorm(units))
            layers.append(kinds[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = units
        self.layers = nn.Sequential(*layers)
        flat = len(input_shape) == 1
        self.plain = flat and not norm and not dropout and activation in ("relu", "tanh")

    def is_plain_mlp(self) -> bool:
        """Whether `fewshot_sklearn.descent` computes what `forward` does."""
        return self.plain and _unaltered(self, MLP)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


class Fourier(nn.Module):
    """Waves of learned frequencies and phases: sqrt(2 / n) cos(x W + b).

    With a linear head on top this is a Gaussian process whose stationary kernel
    is learned by its frequencies (Rahimi and Recht 2007, whose are drawn and kept).

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row.
    width : int, default=128
        Number of waves, which are the features.
    scale : float, default=1.0
        Standard deviation of the frequencies that training starts from, in
        radians a unit of x; its inverse is the length on which features vary.
    """

    def __init__(self, input_shape: Shape, width: int = 128, scale: float = 1.0):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale!r}.")
        self.frequencies = nn.Parameter(torch.randn(math.prod(input_shape), width) * scale)
        self.phases = nn.Parameter(torch.rand(width) * 2 * math.pi)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.cos(x.flatten(1) @ self.frequencies + self.phases)
        return waves * math.sqrt(2 / len(self.phases))


class _ImageEncoder(nn.Module):
    """Accepts rows as (n, H, W), (n, H, W, C) or flat and hands on channels-last images."""

    def __init__(self, input_shape: Shape, image: Shape | None):
        super().__init__()
        self.height, self.width, self.channels = image_shape(tuple(image or input_shape))
        if self.height * self.width * self.channels != math.prod(input_shape):
            raise ValueError(
                f"encoder__image_shape={image} does not fit rows of shape {input_shape}."
            )

    def as_images(self, x: Tensor) -> Tensor:
        images = x.reshape(x.shape[0], self.height, self.width, self.channels)
        return images.permute(0, 3, 1, 2)  # a view: channels-last strides even for one channel


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
    image_shape : tuple of int or None, default=None
        (H, W) or (H, W, C) of flattened rows; None takes a square.
    """

    def __init__(
        self,
        input_shape: Shape,
        width: int = 64,
        norm: str | None = "group",
        image_shape: Shape | None = None,
    ):
        super().__init__(input_shape, image_shape)
        self.convs = nn.ModuleList(
            nn.Conv2d(self.channels if i == 0 else width, width, 3, padding=1, bias=norm is None)
            for i in range(4)
        )
        self.norms = nn.ModuleList(_norm(norm, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.as_images(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x)
            if min(x.shape[-2:]) > 1:
                x = F.max_pool2d(x, 2)
            x = F.relu(norm(x))
        return x.flatten(1)


class _ResidualBlock(nn.Module):
    """Three 3x3 convolutions beside a 1x1 shortcut, then 2x2 max-pooling."""

    def __init__(self, channels: int, width: int, norm: str | None):
        super().__init__()
        sizes = [channels, width, width, width]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=norm is None)
            for a, b in zip(sizes, sizes[1:], strict=False)
        )
        self.norms = nn.ModuleList(_norm(norm, width) for _ in range(3))
        self.shortcut = nn.Conv2d(channels, width, 1, bias=norm is None)
        self.shortcut_norm = _norm(norm, width)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = norm(conv(out))
            if i < 2:
                out = F.leaky_relu(out, 0.1)
        out = F.leaky_relu(out + self.shortcut_norm(self.shortcut(x)), 0.1)
        return F.max_pool2d(out, 2) if min(out.shape[-2:]) > 1 else out


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
    image_shape : tuple of int or None, default=None
        (H, W) or (H, W, C) of flattened rows; None takes a square.
    """

    def __init__(
        self,
        input_shape: Shape,
        widths: Sequence[int] = (64, 160, 320, 640),
        norm: str | None = "group",
        image_shape: Shape | None = None,
    ):
        super().__init__(input_shape, image_shape)
        sizes = [self.channels, *widths]
        self.blocks = nn.Sequential(
            *(_ResidualBlock(a, b, norm) for a, b in zip(sizes, sizes[1:], strict=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.as_images(x)).mean((2, 3))


ENCODERS: dict[str, type[nn.Module]] = {
    "identity": Identity,
    "mlp": MLP,
    "fourier": Fourier,
    "conv4": Conv4,
    "resnet12": ResNet12,
}


def make_encoder(
    encoder: str | type[nn.Module] | nn.Module, input_shape: Shape, params: dict[str, Any]
) -> nn.Module:
    """Build an encoder for rows of one shape.

    Parameters
    ----------
    encoder : str, nn.Module subclass or nn.Module
        A name (``"identity"``, ``"mlp"``, ``"fourier"``, ``"conv4"``, ``"resnet12"``), a class
        to be called with `params` (and ``input_shape``, where it accepts one),
        or a module, which is copied and never changed.
    input_shape : tuple of int
        Shape of one row.
    params : dict
        Arguments of the encoder's constructor.

    Returns
    -------
    nn.Module
        Maps (n, \\*input_shape) to (n, n_features).

    Raises
    ------
    ValueError
        For an unknown name or arguments that do not fit.
    """
    if isinstance(encoder, nn.Module):
        if params:
            raise ValueError(f"encoder is a module already built; it takes no {sorted(params)}.")
        return copy.deepcopy(encoder)
    if isinstance(encoder, str):
        if encoder not in ENCODERS:
            raise ValueError(
                f"encoder must be one of {sorted(ENCODERS)}, an nn.Module class or an "
                f"nn.Module, got {encoder!r}."
            )
        encoder = ENCODERS[encoder]
    elif not (isinstance(encoder, type) and issubclass(encoder, nn.Module)):
        raise ValueError(
            f"encoder must be a name, an nn.Module class or an nn.Module, got {encoder!r}."
        )
    accepts = inspect.signature(encoder).parameters
    if "input_shape" in accepts:
        params = {"input_shape": input_shape, **params}
    try:
        return encoder(**params)
    except TypeError as error:
        raise ValueError(
            f"The encoder {encoder.__name__} does not accept {params}: {error}."
        ) from error


def n_features_out(encoder: nn.Module, input_shape: Shape) -> int:
    """Number of features an encoder gives for one row of this shape."""
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    dtype = next((p.dtype for p in encoder.parameters()), torch.float32)
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            out = encoder(torch.zeros((2, *input_shape), device=device, dtype=dtype))
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"The encoder {type(encoder).__name__} does not take rows of shape {input_shape}: "
            f"{error}"
        ) from error
    encoder.train(was_training)
    if out.ndim != 2 or out.shape[0] != 2:
        raise ValueError(
            f"The encoder must map (n, *input_shape) to (n, n_features); for two rows of shape "
            f"{input_shape} it gave an output of shape {tuple(out.shape)}."
        )
    return out.shape[1]
