"""Ids of tasks and labels of classes: of any kind that can be sorted, and none missing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from ._cells import as_written

#: Arguments, by their first word, that hold labels of classes; all others hold ids of tasks.
_OF_CLASSES = ("y", "classes", "labels")


def as_they_are(values: Any) -> np.ndarray:
    """Values as an array, none changed: of a list that holds a string numpy makes strings of all.

    Parameters
    ----------
    values : array-like
        Ids or labels.

    Returns
    -------
    ndarray
        Of objects, where a list holds strings and others, such as NaN.
    """
    array = np.asarray(values)
    mixed = array.dtype.kind == "U" and array.ndim == 1 and isinstance(values, list | tuple)
    if mixed and not all(isinstance(value, str) for value in values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
    return array


def comparable(values: Any, name: str = "groups") -> np.ndarray:
    """Ids or labels, one a row, as a one-dimensional array, times in one unit.

    Integers stay integers, however large; none may be missing, and none a float so large that it
    may stand for several integers.

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
        When they are not one a row, one is missing (NaN, NaT, None or NA), infinite, or a float
        from which on not every integer is one: 2**53 in double precision.
    """
    ids = as_they_are(values)
    ids = ids[:, 0] if ids.ndim == 2 and ids.shape[1] == 1 else ids
    if ids.ndim != 1:
        raise ValueError(f"{name} must hold one value a row, got an array of shape {ids.shape}.")
    refuse_missing(ids, name, "class" if name.split()[0] in _OF_CLASSES else "task")
    _refuse_inexact(ids, name)
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


def _refuse_inexact(ids: np.ndarray, name: str) -> None:
    """Raise a ValueError where floats are infinite, or may each stand for several integers."""
    if ids.dtype.kind == "f":
        large = ids[~(np.abs(ids) < _least_ambiguous(ids.dtype))]
    elif ids.dtype.kind == "O":
        large = [i for i in ids if isinstance(i, float | np.floating) and not _is_exact(i)]
    else:
        return
    if not len(large):
        return
    if not np.isfinite(large[0]):
        raise ValueError(f"{name} must hold finite values, got {large[0]}: leave these rows out.")
    raise ValueError(
        f"{name} holds floats such as {float(large[0])!r}, which stand for several whole numbers "
        "each and cannot tell these apart: pass integers (a column of a data frame keeps them), or "
        "strings."
    )


def _least_ambiguous(dtype: np.dtype) -> float:
    """The least whole number that a float type has for two: 2**53 in double precision."""
    return 2.0 ** min(np.finfo(dtype).nmant + 1, 1000)


def _is_exact(value: Any) -> bool:
    return bool(abs(value) < _least_ambiguous(np.asarray(value).dtype))


def _is_plain_time(value: Any) -> bool:
    return isinstance(value, datetime) and value.tzinfo is None


def in_one_kind(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids of two arrays such that equal ones are equal: numbers of any types, and no others.

    numpy compares int64 with uint64, and either with floats, as floats: from 2**53 on, different
    integers are then the same.

    Parameters
    ----------
    a, b : ndarray
        Ids, as `comparable` returns them.

    Returns
    -------
    a, b : ndarray
        The same; integers, floats that are whole numbers among them, where possible.
    """
    if a.dtype == b.dtype:
        return a, b
    a, b = _integers(a), _integers(b)
    if not {a.dtype.kind, b.dtype.kind} <= set("biuf"):
        return a, b
    whole_a, whole_b = _whole(a), _whole(b)
    if whole_a is None or whole_b is None:  # floats of fractions: exact beside small integers
        small = _is_small(a) and _is_small(b)
        return (a, b) if small else (a.astype(object), b.astype(object))
    for kind in (np.int64, np.uint64):
        if _fits(whole_a, kind) and _fits(whole_b, kind):
            return whole_a.astype(kind), whole_b.astype(kind)
    return whole_a.astype(object), whole_b.astype(object)


def _integers(ids: np.ndarray) -> np.ndarray:
    """Python's integers among objects as an array of integers, if all are; else as they came."""
    if ids.dtype.kind != "O" or any(type(i) is not int for i in ids):
        return ids
    found = np.array(ids.tolist(), dtype=None if len(ids) else np.int64)
    return found if found.dtype.kind in "iu" else ids


def _whole(ids: np.ndarray) -> np.ndarray | None:
    """Numbers as integers; None where some are not whole."""
    if ids.dtype.kind != "f":
        return ids
    return ids.astype(np.int64) if bool((ids == np.floor(ids)).all()) else None


def _is_small(ids: np.ndarray) -> bool:
    """Whether all integers have a float of their own."""
    return ids.dtype.kind not in "iu" or not len(ids) or -(2**53) < ids.min() <= ids.max() < 2**53


def _fits(ids: np.ndarray, kind: type[np.integer]) -> bool:
    if ids.dtype.kind == "b" or not len(ids):
        return True
    bounds = np.iinfo(kind)
    return bool(bounds.min <= int(ids.min()) and int(ids.max()) <= bounds.max)


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
        one = next(iter(ids.tolist()))
        other = next((v for v in ids.tolist() if type(v) is not type(one)), None)
        told = f"got {as_written(one)} and {as_written(other)}" if other is not None else str(error)
        raise ValueError(
            f"{name} must be of one kind that can be sorted (numbers, strings, times, ...): {told}."
        ) from error


def numbered(values: Any, name: str = "groups") -> tuple[np.ndarray, np.ndarray]:
    """Sorted distinct ids or labels, and which of them each row has; none may be missing."""
    return distinct(comparable(values, name), name)
