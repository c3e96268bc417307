"""What meta-training learned, as one immutable artefact that is one file, with its card."""

from .artifact import MetaInit, task_digests
from .row_sketch import RowSketch
from .sealed_file import checksum_of, read_arrays, read_sealed, write_arrays, write_sealed
from .whole_file import whole_file

__all__ = [
    "MetaInit",
    "RowSketch",
    "checksum_of",
    "read_arrays",
    "read_sealed",
    "task_digests",
    "whole_file",
    "write_arrays",
    "write_sealed",
]
