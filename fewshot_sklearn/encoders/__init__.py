"""Networks that turn a row into features: by name, or any module of the user's own."""

from .by_name import (
    ENCODERS,
    FIXED,
    MLP,
    Fourier,
    Identity,
    LayerNorm,
    Shape,
    is_of_images,
    is_own_network,
    make_encoder,
    n_features_out,
    safe_under_vmap,
    takes_padding,
    wants_ids,
)
from .conv1d import Conv1d
from .image import Conv4, ResNet8, ResNet12, channels_last
from .layout import LAYOUTS, layout_taken, possible_layouts
from .loaded_models import LoadedModels, as_written
from .own_network import how_rows_come, takes_whole_numbers, wants_whole_numbers
from .places import map_channels
from .residual import Residual, gives_unit_length
from .sentence_models import (
    MINILM,
    PACKAGED,
    SharedSentenceModel,
    load_sentence_model,
    model_folder,
    of_unit_length,
    packaged_folder,
    shared_sentence_model,
)
from .series import Series, channels_apart
from .spline import Spline
from .table import TableEncoder, TableRows
from .written_out import written_out

__all__ = [
    "ENCODERS",
    "FIXED",
    "LAYOUTS",
    "MINILM",
    "MLP",
    "PACKAGED",
    "Conv1d",
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
    "gives_unit_length",
    "how_rows_come",
    "is_of_images",
    "is_own_network",
    "layout_taken",
    "load_sentence_model",
    "make_encoder",
    "map_channels",
    "model_folder",
    "n_features_out",
    "of_unit_length",
    "packaged_folder",
    "possible_layouts",
    "safe_under_vmap",
    "shared_sentence_model",
    "takes_padding",
    "takes_whole_numbers",
    "wants_ids",
    "wants_whole_numbers",
    "written_out",
]
