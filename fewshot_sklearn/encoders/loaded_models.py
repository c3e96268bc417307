"""Large models that are loaded once, and shared by all who ask for the same one."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

#: Models kept loaded, those used last; what an estimator holds stays whatever this is.
MOST_MODELS = 8


class LoadedModels:
    """Models by what they were loaded from.

    Threads that ask for the same one at the same time wait for the one that loads it.
    """

    def __init__(self, most: int = MOST_MODELS):
        self.most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """The model of that key.

        Parameters
        ----------
        key : hashable
            What it is loaded from, and where to.
        load : callable
            Loads it, where it is not here yet.

        Returns
        -------
        object
            The model, of which there is one.
        """
        with self._lock:
            if key not in self._kept:
                self._kept[key] = load()
            self._kept.move_to_end(key)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
            return self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)


def as_written(place: str | os.PathLike[str]) -> str:
    """What tells one state of a file, or of the files of a folder, from another.

    Parameters
    ----------
    place : path-like
        A file or a folder.

    Returns
    -------
    str
        A digest of names, sizes and times of writing.
    """
    place = Path(place)
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    told = hashlib.sha256()
    for file in files:
        known = file.stat()
        told.update(f"{file.relative_to(place)}\0{known.st_size}\0{known.st_mtime_ns}\0".encode())
    return told.hexdigest()
