"""Where data is read from: paths that a user names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def as_path(place: Any, name: str = "path") -> Path:
    """A path, whether or not anything is there.

    Raises
    ------
    ValueError
        When it is none; says the name of the argument.
    """
    if not isinstance(place, str | os.PathLike) or not os.fspath(place):
        raise ValueError(f"{name} must be a path, got {place!r}.")
    return Path(place)
