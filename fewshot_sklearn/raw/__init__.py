"""Raw things as rows: sentences and pictures, through libraries that are made for them."""

from .image_encoder import ImageEncoder
from .image_reader import ImageReader
from .picture_files import COLORS, LAYOUTS, RESIZING, is_grey, laid_out, need_pillow, read_pictures
from .sentences import SentenceEncoder

__all__ = [
    "COLORS",
    "LAYOUTS",
    "RESIZING",
    "ImageEncoder",
    "ImageReader",
    "SentenceEncoder",
    "is_grey",
    "laid_out",
    "need_pillow",
    "read_pictures",
]
