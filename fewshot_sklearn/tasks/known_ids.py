"""Ids and labels among those that are known, matched by value; and as JSON."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from numbers import Number
from typing import Any

import numpy as np

from .ids import in_one_kind

#: Kinds of ids that are never equal to each other; of objects, the first one's type says the kind.
_FAMILIES = {"b": "number", "i": "number", "u": "number", "f": "number"}
_TYPES: list[tuple[Any, str]] = [
    (str, "U"),
    (bytes, "S"),
    (Number, "number"),
    (timedelta, "m"),
    (datetime, "M"),
    (date, "date"),
]
#: Beside times without a zone, which may be any instant.
WITH_A_ZONE = "M with a zone"


def family(ids: np.ndarray) -> str:
    if ids.dtype.kind != "O" or not len(ids):
        return _FAMILIES.get(ids.dtype.kind, ids.dtype.kind)
    first = ids[0]
    if isinstance(first, datetime) and first.tzinfo is not None:
        return WITH_A_ZONE
    return next((name for kind, name in _TYPES if isinstance(first, kind)), "O")


def same_family(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether some of the ids could be equal."""
    kinds = {family(array) for array in (a, b)}
    return len(kinds) == 1 or "O" in kinds


def places(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where among sorted known ids each is; -1 for one that is not there."""
    nowhere = np.full(len(ids), -1)
    if not len(known) or not same_family(known, ids):
        return nowhere
    known, ids = in_one_kind(known, ids)
    try:
        at = np.searchsorted(known, ids).clip(max=len(known) - 1)
        return np.where(known[at] == ids, at, nowhere)
    except TypeError:  # objects of another kind
        return nowhere


def labels_to_json(labels: np.ndarray) -> dict[str, Any]:
    """Ids or class labels as JSON; `labels_from_json` gives the same array back."""
    kind = labels.dtype.kind
    values = (labels.view(np.int64) if kind in "mM" else labels).tolist()
    if kind not in "biufUmM" and not all(isinstance(v, str | int | float) for v in values):
        raise ValueError(
            "Only task ids and class labels that are numbers, strings or numpy times can be saved, "
            f"got {next(v for v in values if not isinstance(v, str | int | float))!r}."
        )
    return {"dtype": labels.dtype.str, "values": values}


def labels_from_json(content: dict[str, Any]) -> np.ndarray:
    """The array that `labels_to_json` described."""
    dtype = np.dtype(content["dtype"])
    if dtype.kind in "mM":
        return np.array(content["values"], np.int64).view(dtype)
    return np.array(content["values"], dtype)
