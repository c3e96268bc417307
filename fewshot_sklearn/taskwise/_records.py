"""The state of a task as bytes, and the states of many as arrays again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def layout_of(arrays: Mapping[str, np.ndarray]) -> str:
    """What arrays (T, ...) of states are like: their names, types and shapes, as JSON."""
    return json.dumps([[name, a.dtype.str, a.shape[1:]] for name, a in sorted(arrays.items())])


def _record(layout: str) -> np.dtype:
    return np.dtype([(name, kind, tuple(shape)) for name, kind, shape in json.loads(layout)])


def records_of(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """The states, bytes each, of arrays (T, ...)."""
    kind = _record(layout_of(arrays))
    rows = np.empty(len(next(iter(arrays.values()))), kind)
    for name, array in arrays.items():
        rows[name] = array
    whole, size = rows.tobytes(), kind.itemsize
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def arrays_of(layout: str, records: Sequence[bytes]) -> dict[str, np.ndarray]:
    """The arrays (T, ...) that states of one layout were made of."""
    kind = _record(layout)
    rows = np.frombuffer(b"".join(records), kind)
    return {name: np.ascontiguousarray(rows[name]) for name in kind.names or ()}


def checksum(key: Any, record: bytes) -> int:
    """What tells damage to a state, and one that stands where that of another task should."""
    return zlib.crc32(record, zlib.crc32(repr(key).encode()))
