"""Ids of tasks and labels of classes: of any kind that can be sorted, and none missing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np


def comparable(values: Any, name: str = "groups") -> np.ndarray:
    """Ids or labels, one a row, as a one-dimensional array, times in one unit.

    Integers stay integers, however large; none may be missing.

    Parameters
    ----------
    values : array-like of shape (n_rows,)
        Ids or labels.
    name : str, default="groups"
        What they are the argument of, for errors.

    Returns
    -------
    ndarray of shape (n_rows,)
        The values.

    Raises
    ------
    ValueError
        When they are not one a row, or one is missing: NaN, NaT, None or NA.
    """
    ids = np.asarray(values)
    ids = ids[:, 0] if ids.ndim == 2 and ids.shape[1] == 1 else ids
    if ids.ndim != 1:
        raise ValueError(f"{name} must hold one value a row, got an array of shape {ids.shape}.")
    refuse_missing(ids, name, "task" if name == "groups" else "class")
    times = len(ids) > 0 and ids.dtype.kind == "O" and all(map(_is_plain_time, ids))
    return ids.astype("M8[ns]") if times or ids.dtype.kind == "M" else ids


def refuse_missing(values: np.ndarray, name: str, what: str) -> None:
    """Raise a ValueError where values are missing: NaN, NaT, None or NA."""
    if n_missing := int(_missing(values).sum()):
        raise ValueError(
            f"{name} must say the {what} of each row, but contains NaN or another missing value "
            f"in {n_missing:,} of {len(values):,} rows: leave these rows out."
        )


def _missing(ids: np.ndarray) -> np.ndarray:
    if ids.dtype.kind in "fcmM":
        return ids != ids
    if ids.dtype.kind != "O":
        return np.zeros(1, dtype=bool)
    import pandas as pd  # type: ignore[import-untyped]  # not before it is needed

    return pd.isna(ids)


def _is_plain_time(value: Any) -> bool:
    return isinstance(value, datetime) and value.tzinfo is None


def sorted_distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``np.unique(values, return_inverse=True)``, which is slow for strings, and objects."""
    if values.dtype.kind not in "OU":
        return np.unique(values, return_inverse=True)
    listed = values.tolist()
    found = sorted(set(listed))
    place = {value: i for i, value in enumerate(found)}
    which = np.fromiter(map(place.__getitem__, listed), int, len(listed))
    return np.fromiter(found, values.dtype, len(found)), which


def distinct(ids: np.ndarray, name: str = "groups") -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct ids, and which of them each is.

    Raises
    ------
    ValueError
        When they cannot be sorted.
    """
    try:
        return sorted_distinct(ids)
    except TypeError as error:
        raise ValueError(
            f"{name} must be of one kind that can be sorted (numbers, strings, times, ...): "
            f"{error}."
        ) from error


def numbered(values: Any, name: str = "groups") -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct ids or labels, and which of them each row has; none may be missing."""
    return distinct(comparable(values, name), name)
