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
from .loaded_models import LoadedModels, as_written
from .residual import Residual
from .sentence_models import (
    SharedSentenceModel,
    load_sentence_model,
    model_folder,
    of_unit_length,
    shared_sentence_model,
)
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
    "LoadedModels",
    "ResNet8",
    "ResNet12",
    "Residual",
    "Series",
    "Shape",
    "SharedSentenceModel",
    "Spline",
    "TableEncoder",
    "TableRows",
    "as_written",
    "channels_apart",
    "channels_last",
    "ids_are_lost",
    "load_sentence_model",
    "make_encoder",
    "model_folder",
    "n_features_out",
    "of_unit_length",
    "safe_under_vmap",
    "shared_sentence_model",
]
