"""Ids of tasks among those that are known: joined, refused, named in errors."""

from __future__ import annotations

import warnings
from functools import reduce
from typing import Any

import numpy as np

from ..tasks import family, in_one_kind, same_family

#: Unknown ids that an error names.
NAMED = 5


def check_kind(known: np.ndarray, ids: np.ndarray, argument: str, names: bool = True) -> None:
    """Refuse ids of a kind that none of those known is of: they are a mistake, not unseen ones.

    Numbers of an array without `names`, in place of ids of another kind, are warned of only: tools
    try an estimator out with zeros.
    """
    if not len(known) or not len(ids) or same_family(known, ids):
        return
    error = _of_another_kind(known, ids, argument)
    if names or family(ids) != "number":
        raise error
    warnings.warn(f"{error} They are taken for unseen tasks.", stacklevel=5)


def _of_another_kind(known: np.ndarray, more: np.ndarray, argument: str) -> ValueError:
    return ValueError(
        f"{argument} must hold values of the kind that fit saw, such as {named(known[:1])}, got "
        f"{named(more)}."
    )


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
