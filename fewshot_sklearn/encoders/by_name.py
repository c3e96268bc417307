"""Small networks that turn a row into features, by name, by class or as a module.

Those of images are in `fewshot_sklearn.encoders.image`, that of series in
`fewshot_sklearn.encoders.series`. No encoder mixes rows, so that a prediction never
depends on which other rows are asked for.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..tasks import Number, OneOf, Positive, Several, Whole, check_arguments, constraints_of
from .conv1d import Conv1d
from .image import Conv4, ResNet8, ResNet12, Shape, _ImageEncoder
from .layout import resolved_layout
from .own_network import NoFeatures, RowsAsTaken, adjusted, hang, tried
from .residual import Residual
from .series import Series
from .spline import Spline
from .table import TableEncoder, TableRows


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


#: Where the encoders of this package, and their parts, come from.
OURS = __name__.rpartition(".")[0] + "."


def safe_under_vmap(encoder: nn.Module) -> bool:
    """Whether second derivatives of an encoder are right when vmapped over tasks.

    Torch's norm layers give silently wrong ones, so an encoder that has any,
    or that may call them in a `forward` of its own, is not vmapped. Those of this
    package can write theirs out. `Conv1d` is not either: what it does depends on how long
    series are.
    """
    wary = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RNNBase)
    for module in encoder.modules():
        ours = type(module).__module__.startswith(OURS) and not isinstance(module, Conv1d)
        plain = type(module).__module__.startswith("torch.nn.modules.")
        if not ours and (not plain or isinstance(module, wary)):
            return False
    return True


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
        """Whether `fewshot_sklearn.learners.descent` computes what `forward` does."""
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

    #: The nonlinearities, by name.
    kinds = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}
    _constraints = {
        "hidden": Several(Whole(1), least=0),
        "norm": OneOf("layer") | None,
        "dropout": Number(0, below=1),
        "activation": OneOf(*kinds),
    }

    def __init__(
        self,
        input_shape: Shape,
        hidden: Sequence[int] = (64, 64),
        norm: str | None = None,
        dropout: float = 0.0,
        activation: str = "relu",
    ):
        super().__init__()
        check_arguments(
            self._constraints, hidden=hidden, norm=norm, dropout=dropout, activation=activation
        )
        layers: list[nn.Module] = []
        width = math.prod(input_shape)
        for units in hidden:
            layers.append(nn.Linear(width, units))
            if norm:
                layers.append(LayerNorm(units))
            layers.append(self.kinds[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = units
        self.layers = nn.Sequential(*layers)
        flat = len(input_shape) == 1
        self.plain = flat and not norm and not dropout and activation in ("relu", "tanh")

    def is_plain_mlp(self) -> bool:
        """Whether `fewshot_sklearn.learners.descent` computes what `forward` does."""
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

    _constraints = {"width": Whole(1), "scale": Positive()}

    def __init__(self, input_shape: Shape, width: int = 128, scale: float = 1.0):
        super().__init__()
        check_arguments(self._constraints, width=width, scale=scale)
        self.frequencies = nn.Parameter(torch.randn(math.prod(input_shape), width) * scale)
        self.phases = nn.Parameter(torch.rand(width) * 2 * math.pi)

    def forward(self, x: Tensor) -> Tensor:
        waves = torch.cos(x.flatten(1) @ self.frequencies + self.phases)
        return waves * math.sqrt(2 / len(self.phases))


ENCODERS: dict[str, type[nn.Module]] = {
    "identity": Identity,
    "mlp": MLP,
    "fourier": Fourier,
    "spline": Spline,
    "conv4": Conv4,
    "resnet8": ResNet8,
    "resnet12": ResNet12,
    "residual": Residual,
    "series": Series,
    "conv1d": Conv1d,
}


#: Those that learn nothing.
FIXED = ("identity", "spline")


def make_encoder(
    encoder: str | type[nn.Module] | nn.Module,
    input_shape: Shape,
    params: dict[str, Any],
    code_sizes: Sequence[int] = (),
    layout: str | None = None,
    whole: bool = False,
) -> nn.Module:
    """Build an encoder for rows of one shape.

    Parameters
    ----------
    encoder : str, nn.Module subclass or nn.Module
        A name: ``"identity"``, ``"mlp"``, ``"fourier"``, which flatten rows of several axes;
        ``"spline"``, ``"residual"``, which refuse them; for images ``"conv4"``, ``"resnet8"``,
        ``"resnet12"``; for series ``"series"``, ``"conv1d"``. A class to be called with `params`
        (and ``input_shape``, where it accepts one). Or a module, which is copied and never
        changed.
    input_shape : tuple of int
        Shape of one row.
    params : dict
        Arguments of the encoder's constructor.
    code_sizes : sequence of int, default=()
        Of rows of a table: for each code at a row's end how many there are. What they
        are like is learned, and the encoder gets that in their place; nothing of
        those of size 0.
    layout : {"NHWC", "NCHW", "auto"} or None, default=None
        Where the channels of images are. ``"auto"`` goes by the shape, and by the network; None
        leaves rows as they come, which is (H, W, C) for this package's networks.
    whole : bool, default=False
        Whether rows come as whole numbers of type long; for networks of the user's own.

    Returns
    -------
    nn.Module
        Maps (n, \\*input_shape) to (n, n_features).

    Raises
    ------
    ValueError
        For an unknown name, arguments that do not fit, or a shape whose layout is not certain.
    """
    if code_sizes:
        rows = TableRows(input_shape[0] - len(code_sizes), code_sizes)
        inner = make_encoder(encoder, (rows.n_features,), params)
        if any(isinstance(m, nn.modules.conv._ConvNd) for m in inner.modules()):
            raise ValueError(
                f"The encoder {type(inner).__name__} convolves images or series, and these rows "
                'are those of a table with categories: take "mlp", or none.'
            )
        return TableEncoder(rows, inner)
    if isinstance(encoder, nn.Module):
        if params:
            raise ValueError(f"encoder is a module already built; it takes no {sorted(params)}.")
        return _fitted_to_rows(copy.deepcopy(encoder), input_shape, layout, whole)
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
    # by the name that whoever set it knows it by
    check_arguments(constraints_of(encoder), "encoder__", **params)
    accepts, shape = inspect.signature(encoder).parameters, tuple(input_shape)
    if is_of_images(encoder):
        layout = resolved_layout(layout, encoder, shape)
        if layout == "NCHW" and len(shape) == 3:
            shape = (shape[1], shape[2], shape[0])
    if "input_shape" in accepts:
        params = {"input_shape": shape, **params}
    try:
        built = encoder(**params)
    except TypeError as error:
        raise ValueError(
            f"The encoder {encoder.__name__} does not accept {params}: {error}."
        ) from error
    return _fitted_to_rows(built, input_shape, layout, whole)


def is_of_images(encoder: type[nn.Module] | nn.Module) -> bool:
    """Whether an encoder is one of this package's networks for images."""
    return issubclass(encoder if isinstance(encoder, type) else type(encoder), _ImageEncoder)


def takes_padding(encoder: Any) -> bool:
    """Whether an encoder takes series of any length, which NaN may follow."""
    kind = type(encoder) if isinstance(encoder, nn.Module) else encoder
    return kind == "conv1d" or (isinstance(kind, type) and issubclass(kind, Conv1d))


def is_own_network(encoder: Any) -> bool:
    """Whether an encoder is a network, or a class of such, that is none of this package's."""
    kind = type(encoder) if isinstance(encoder, nn.Module) else encoder
    ours = tuple(ENCODERS.values())
    return isinstance(kind, type) and issubclass(kind, nn.Module) and not issubclass(kind, ours)


def _fitted_to_rows(
    built: nn.Module, input_shape: Shape, layout: str | None, whole: bool
) -> nn.Module:
    """An encoder, with what it needs to take rows as they come and to give features."""
    shape = tuple(input_shape)
    layout = resolved_layout(layout or None, built, shape)
    if is_own_network(built):
        return adjusted(built, shape, layout, whole)
    if layout == "NCHW" and isinstance(built, _ImageEncoder):
        flat = (built.channels, built.height, built.width) if len(shape) == 1 else None
        hang(built, RowsAsTaken(flat, (0, 2, 3, 1), whole=False))
    return built


def n_features_out(encoder: nn.Module, input_shape: Shape) -> int:
    """Number of features an encoder gives for one row of this shape."""
    kind = type(encoder).__name__
    try:
        out = tried(encoder, input_shape)
    except NoFeatures as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # of any kind: the code may be anybody's
        if "Long, Int" in str(error):
            raise ValueError(wants_ids(encoder)) from error
        raise ValueError(
            f"The encoder {kind} does not take rows of shape {input_shape}: {error}"
        ) from error
    if not isinstance(out, Tensor):
        raise ValueError(
            f"The encoder {kind} must return one tensor (n, n_features), got "
            f"{type(out).__name__}. Wrap it in an nn.Module whose forward returns the features."
        )
    if out.ndim != 2 or out.shape[0] != 2:
        raise ValueError(
            f"The encoder must map (n, *input_shape) to (n, n_features); for two rows of shape "
            f"{input_shape} it gave an output of shape {tuple(out.shape)}."
        )
    if not out.is_floating_point():
        raise ValueError(f"The encoder {kind} must return floating point numbers, got {out.dtype}.")
    return out.shape[1]


def wants_ids(encoder: nn.Module) -> str:
    """What to say where an encoder looks up whole numbers and rows are none."""
    return (
        f"The encoder {type(encoder).__name__} looks up whole numbers, such as ids of tokens or "
        "categories, but rows are floating point numbers. Pass X as an array of integers, such as "
        "X.astype(int)."
    )
