"""Ids of tasks and labels of classes as a database keeps them, exactly, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tasks import family
from ._ids import named

#: By family of ids: what a store calls their kind.
KINDS = {"number": "number", "U": "text", "M": "time", "m": "span"}
#: Whole numbers beyond these are kept as digits.
LEAST, MOST = -(2**63), 2**63 - 1


def kind_of(ids: np.ndarray) -> str:
    """Which kind ids are of; those of two kinds are never equal.

    Raises
    ------
    ValueError
        When they are neither numbers, strings nor numpy times.
    """
    kind = KINDS.get(family(ids))
    if kind in ("number", "text") and ids.dtype.kind == "O":
        of_kind = str if kind == "text" else int | float
        kind = kind if all(isinstance(i, of_kind) for i in ids.tolist()) else None
    if kind is None:
        raise ValueError(
            "Only task ids and class labels that are numbers, strings or numpy times can be "
            f"stored, got {named(ids[:1])}."
        )
    return kind


def keys_of(ids: np.ndarray) -> list[Any]:
    """Ids of one kind as numbers and strings that are equal where the ids are."""
    kind = kind_of(ids)
    if kind == "text":
        return ids.tolist()
    if kind == "number":
        return [_number(value) for value in ids.tolist()]
    unit = "M8[ns]" if kind == "time" else "m8[ns]"
    return ids.astype(unit).view(np.int64).tolist()


def _number(value: Any) -> Any:
    if isinstance(value, float) and not value.is_integer():
        return value
    value = int(value)
    return value if LEAST <= value <= MOST else str(value)


def ids_of(kind: str, keys: Sequence[Any], dtype: str | None = None) -> np.ndarray:
    """The ids, in order of the keys; numbers of a type that holds all, or of the one given."""
    if kind == "text":
        return np.array(keys, dtype=str)
    if kind == "number":
        values = [int(key) if isinstance(key, str) else key for key in keys]
        return np.array(values, dtype=dtype if values or dtype else np.int64)
    unit = "M8[ns]" if kind == "time" else "m8[ns]"
    return np.array(keys, np.int64).view(unit)
