"""What meta-training learned, as one immutable artefact that is one file, with its card."""

from .artifact import MetaInit, task_digests
from .row_sketch import RowSketch
from .whole_file import whole_file

__all__ = [
    "MetaInit",
    "RowSketch",
    "task_digests",
    "whole_file",
]
