"""Networks that turn a row into features: by name, or any module of the user's own."""

from .by_name import (
    ENCODERS,
    FIXED,
    MLP,
    Fourier,
    Identity,
    LayerNorm,
    Shape,
    ids_are_lost,
    make_encoder,
    n_features_out,
    safe_under_vmap,
)
from .image import Conv4, ResNet8, ResNet12, channels_last
from .residual import Residual
from .series import Series, channels_apart
from .spline import Spline
from .table import TableEncoder, TableRows

__all__ = [
    "ENCODERS",
    "FIXED",
    "MLP",
    "Conv4",
    "Fourier",
    "Identity",
    "LayerNorm",
    "ResNet8",
    "ResNet12",
    "Residual",
    "Series",
    "Shape",
    "Spline",
    "TableEncoder",
    "TableRows",
    "channels_apart",
    "channels_last",
    "ids_are_lost",
    "make_encoder",
    "n_features_out",
    "safe_under_vmap",
]
