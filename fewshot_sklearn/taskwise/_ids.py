"""Ids of tasks among those that are known, and as JSON."""

from __future__ import annotations

import warnings
from datetime import date, datetime, timedelta
from functools import reduce
from numbers import Number
from typing import Any

import numpy as np

from ..tasks import in_one_kind

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
#: Unknown ids that an error names.
NAMED = 5


def _family(ids: np.ndarray) -> str:
    if ids.dtype.kind != "O" or not len(ids):
        return _FAMILIES.get(ids.dtype.kind, ids.dtype.kind)
    first = ids[0]
    if isinstance(first, datetime) and first.tzinfo is not None:
        return WITH_A_ZONE
    return next((name for kind, name in _TYPES if isinstance(first, kind)), "O")


def same_family(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether some of the ids could be equal."""
    kinds = {_family(array) for array in (a, b)}
    return len(kinds) == 1 or "O" in kinds


def check_kind(known: np.ndarray, ids: np.ndarray, argument: str, names: bool = True) -> None:
    """Refuse ids of a kind that none of those known is of: they are a mistake, not unseen ones.

    Numbers of an array without `names`, in place of ids of another kind, are warned of only: tools
    try an estimator out with zeros.
    """
    if not len(known) or not len(ids) or same_family(known, ids):
        return
    error = _of_another_kind(known, ids, argument)
    if names or _family(ids) != "number":
        raise error
    warnings.warn(f"{error} They are taken for unseen tasks.", stacklevel=5)


def _of_another_kind(known: np.ndarray, more: np.ndarray, argument: str) -> ValueError:
    return ValueError(
        f"{argument} must hold values of the kind that fit saw, such as {named(known[:1])}, got "
        f"{named(more)}."
    )


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


def union(known: np.ndarray, more: np.ndarray, argument: str) -> np.ndarray:
    """Sorted ids or labels of both, which must be of one kind."""
    if not len(known):
        return more
    try:
        if same_family(known, more):
            return np.unique(np.concatenate(in_one_kind(known, more)))
    except TypeError:  # objects of kinds that cannot be compared
        pass
    raise _of_another_kind(known, more, argument)


def union_of(several: Any, argument: str) -> np.ndarray:
    """Sorted ids or labels of all, one or more, which must be of one kind."""
    return reduce(lambda known, more: union(known, more, argument), several, np.zeros(0, int))


def named(ids: Any) -> str:
    """Some ids, for an error."""
    plain = [str(i) if isinstance(i, np.datetime64) else i for i in ids[:NAMED]]
    some = [i.item() if isinstance(i, np.generic) else i for i in plain]
    return f"{some}" if len(ids) <= NAMED else f"{some} and {len(ids) - NAMED:,} more"


def refuse_weightless(
    weights: np.ndarray | None, which: np.ndarray, tasks: np.ndarray, new: np.ndarray
) -> None:
    """Refuse tasks, those that are new, of which no row weighs anything, by name."""
    if weights is None:
        return
    heavy = (np.bincount(which, weights > 0) > 0) | ~new
    if heavy.all():
        return
    raise ValueError(
        "sample_weight must hold at least one positive weight a task; all are zero of "
        f"{named(tasks[~heavy])}."
    )


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
