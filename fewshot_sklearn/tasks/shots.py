"""How many classes and rows an episode has: a number, a range, or several numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

IntOrRange = int | tuple[int, int]


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
