"""Ids of tasks, of any kind that can be sorted: distinct ones, where they are, and as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

#: Kinds of ids that are never equal to each other; arrays of objects may hold any.
_FAMILIES = {"b": "number", "i": "number", "u": "number", "f": "number"}
#: Unknown ids that an error names.
NAMED = 5


def comparable(groups: Any) -> np.ndarray:
    """The task of each row as a one-dimensional array, times in one unit."""
    ids = np.asarray(groups)
    ids = ids[:, 0] if ids.ndim == 2 and ids.shape[1] == 1 else ids
    if ids.ndim != 1:
        raise ValueError(f"groups must hold one task id a row, got an array {ids.shape}.")
    times = len(ids) > 0 and ids.dtype.kind == "O" and all(map(_is_plain_time, ids))
    return ids.astype("M8[ns]") if times or ids.dtype.kind == "M" else ids


def _is_plain_time(value: Any) -> bool:
    # pandas' missing time is one too, but not equal to itself
    return isinstance(value, datetime) and value.tzinfo is None and value == value


def sorted_distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``np.unique(values, return_inverse=True)``, which is slow for strings, and objects."""
    if values.dtype.kind not in "OU":
        return np.unique(values, return_inverse=True)
    listed = values.tolist()
    found = sorted(set(listed))
    place = {value: i for i, value in enumerate(found)}
    which = np.fromiter(map(place.__getitem__, listed), int, len(listed))
    return np.fromiter(found, values.dtype, len(found)), which


def distinct(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct ids, and which of them each is.

    Raises
    ------
    ValueError
        When an id is missing, or they cannot be sorted.
    """
    try:
        found, which = sorted_distinct(ids)
        if found.dtype.kind == "O":
            missing = any(i is None or i != i for i in found)
        else:  # NaN and NaT are sorted last
            missing = len(found) > 0 and bool(found[-1] != found[-1])
    except TypeError as error:
        raise ValueError(
            "groups must be task ids of one kind that can be sorted (numbers, strings, times, "
            f"...), and none may be missing: {error}."
        ) from error
    if missing:
        raise ValueError("groups must name the task of each row; some are missing.")
    return found, which


def same_family(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether some of the ids could be equal."""
    kinds = {_FAMILIES.get(array.dtype.kind, array.dtype.kind) for array in (a, b)}
    return len(kinds) == 1 or "O" in kinds


def places(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Where among sorted known ids each is; -1 for one that is not there."""
    nowhere = np.full(len(ids), -1)
    if not len(known) or not same_family(known, ids):
        return nowhere
    try:
        at = np.searchsorted(known, ids).clip(max=len(known) - 1)
        return np.where(known[at] == ids, at, nowhere)
    except TypeError:  # objects of another kind
        return nowhere


def union(known: np.ndarray, more: np.ndarray, argument: str) -> np.ndarray:
    """Sorted ids or labels of both, which must be of one kind."""
    if not len(known):
        return more
    try:
        if same_family(known, more):
            return np.unique(np.concatenate([known, more]))
    except TypeError:  # objects of kinds that cannot be compared
        pass
    raise ValueError(
        f"{argument} must hold values of the kind that fit saw, such as {named(known[:1])}, got "
        f"{named(more)}."
    )


def named(ids: Any) -> str:
    """Some ids, for an error."""
    plain = [str(i) if isinstance(i, np.datetime64) else i for i in ids[:NAMED]]
    some = [i.item() if isinstance(i, np.generic) else i for i in plain]
    return f"{some}" if len(ids) <= NAMED else f"{some} and {len(ids) - NAMED:,} more"


def to_json(labels: np.ndarray) -> dict[str, Any]:
    """Ids or class labels as JSON; `from_json` gives the same array back."""
    kind = labels.dtype.kind
    values = (labels.view(np.int64) if kind in "mM" else labels).tolist()
    if kind not in "biufUmM" and not all(isinstance(v, str | int | float) for v in values):
        raise ValueError(
            "Only task ids and class labels that are numbers, strings or numpy times can be saved, "
            f"got {next(v for v in values if not isinstance(v, str | int | float))!r}."
        )
    return {"dtype": labels.dtype.str, "values": values}


def from_json(content: dict[str, Any]) -> np.ndarray:
    """The array that `to_json` described."""
    dtype = np.dtype(content["dtype"])
    if dtype.kind in "mM":
        return np.array(content["values"], np.int64).view(dtype)
    return np.array(content["values"], dtype)
