"""A file read into memory, where nobody can empty or overwrite it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np

#: Larger files are refused.
MOST_BYTES = 4 * 2**30
#: Where the bytes of a page that a file is mapped to would begin is a multiple of this, too.
ALIGNED = 64


def open_file(path: Path) -> BinaryIO:
    """Open a file to read; whatever is none, such as a folder or a pipe, is refused.

    Raises
    ------
    FileNotFoundError
        When there is nothing.
    ValueError
        When it is no ordinary file, or larger than any meta-init.
    """
    try:
        told = path.stat()
    except ValueError as error:  # a null character
        raise FileNotFoundError(f"There is no file {path!r}.") from error
    if not stat.S_ISREG(told.st_mode):
        raise ValueError(f"{path} is not a meta-init: it is a folder, or no ordinary file.")
    if told.st_size > MOST_BYTES:
        raise ValueError(
            f"{path} is not a meta-init: it holds {told.st_size:,} bytes; at most "
            f"{MOST_BYTES:,} are read."
        )
    return open(path, "rb")


def read_start(file: BinaryIO, n: int) -> np.ndarray:
    """The first bytes of a file, fewer where it ends before."""
    file.seek(0)
    return np.frombuffer(file.read(n), np.uint8)


def read_whole(file: BinaryIO) -> np.ndarray:
    """All bytes of a file, read-only.

    Mapping it instead would save the copy, but a mapped file that is emptied or overwritten
    kills the process at the next look at it, or changes what it holds.
    """
    size = os.fstat(file.fileno()).st_size
    space = np.empty(size + ALIGNED, np.uint8)
    start = -space.ctypes.data % ALIGNED
    buffer = space[start : start + size]
    file.seek(0)
    n_read = file.readinto(buffer)  # type: ignore[attr-defined]
    buffer = buffer[:n_read]
    buffer.flags.writeable = False
    return buffer
