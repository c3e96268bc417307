"""How many classes and rows an episode has: a number, a range, or several numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

IntOrRange = int | tuple[int, int]
#: Classes of an episode where nobody has said how many.
USUAL_WAY = 5


def check_int_or_range(value: Any, name: str, low: int) -> tuple[int, int]:
    """Return (low, high) bounds, both included, of an int or a pair of ints."""
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) for v in pair):
        raise ValueError(f"{name} must be an int or a (low, high) pair of ints, got {value!r}.")
    first, last = int(pair[0]), int(pair[1])
    if not low <= first <= last:
        raise ValueError(f"{name} must satisfy {low} <= low <= high, got {value!r}.")
    return first, last


def check_n_shots(n_shots: Any, least: int = 1) -> list[int]:
    """Return several numbers of shots, none below `least`, in ascending order.

    Raises
    ------
    ValueError
        When they are no whole numbers, too small or not all different.
    """
    found = list(n_shots) if np.iterable(n_shots) and not isinstance(n_shots, str) else []
    whole = all(isinstance(k, int | np.integer) and k >= least for k in found)
    if not found or not whole or len(set(found)) < len(found):
        raise ValueError(
            f"n_shots must be different numbers of shots, at least {least}, got {n_shots!r}."
        )
    return sorted(int(k) for k in found)


def warn_of_n_way(n_way: Any, estimator: Any) -> None:
    """Warn of a number of classes that was asked for where there are none.

    Parameters
    ----------
    n_way : int, (low, high) or None
        The argument, whose default is 5.
    estimator : estimator
        A regressor.

    Warns
    -----
    UserWarning
        When it is neither the default nor None.
    """
    if n_way is None or n_way == USUAL_WAY:
        return
    warnings.warn(
        f"n_way={n_way!r} is a number of classes, but {type(estimator).__name__} is a regressor, "
        "whose tasks are the groups: n_way is ignored. Leave it out, or take a classifier.",
        stacklevel=3,
    )
