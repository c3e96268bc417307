"""What past rows teach of a column: its kind, its categories, what stands for what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._cells import is_span
from ._column import Column, are_booleans, are_dates, are_numbers, as_days, as_floats, as_plain


def learned_column(
    column: Any,
    name: Any,
    categorical: bool | None,
    taught: np.ndarray | None,
    w: np.ndarray | None,
    most: int | None,
) -> Column:
    """What a column teaches, in the rows `taught`, of weights w; None is all, alike."""
    values, missing = cells_of(column)
    if taught is not None:
        values, missing = values[taught], missing[taught]
    there = values[~missing]
    gone = float(missing.sum() if w is None else w[missing].sum())
    w = w if w is None else w[~missing]
    if categorical is None:
        categorical = is_categorical(column)
        # whatever comes later where nothing was tells nothing; of a few rows, numbers and dates may
        if not len(there) and (most is None or values.dtype.kind == "O"):
            return _of_categories(there, w, gone, name, most, "" if most else "nothing")
        if not categorical and not (are_numbers(there) or are_dates(there)):
            _refuse_mixture(there, name)
            categorical = True
    if categorical:
        return _of_categories(there, w, gone, name, most)
    if are_dates(there):
        return Column("date", 0.0, bool(missing.any()), epoch=_mean(as_days(there, name), w))
    if not are_numbers(there):
        raise ValueError(
            f"Column {name!r} of X holds what is no number and no date, such as {there[0]!r}. Name "
            "it in categorical_features if it holds categories, or leave it out."
        )
    held = "booleans" if are_booleans(there) else ""
    return Column("number", _mean(as_floats(there, name), w), bool(missing.any()), held=held)


def cells_of(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a column holds, and where it holds nothing."""
    import pandas as pd  # type: ignore[import-untyped]

    array = np.asarray(column)
    missing = np.asarray(pd.isna(array))
    return array, missing


def is_categorical(column: Any) -> bool:
    """Whether the type of a column says that it holds categories."""
    return "categorical" in f"{getattr(column, 'dtype', '')}{type(column)}".lower() or str(
        getattr(column, "dtype", "")
    ).startswith(("category", "Enum"))


def _mean(numbers: np.ndarray, w: np.ndarray | None) -> float:
    if not len(numbers):
        return 0.0
    return float(numbers.mean() if w is None else np.average(numbers, weights=w))


def _refuse_mixture(there: np.ndarray, name: Any) -> None:
    """Refuse words among numbers, of which either are a mistake."""
    if there.dtype.kind != "O":
        return
    words = [v for v in there if isinstance(v, str)]
    if words and len(words) < len(there):
        other = next(v for v in there if not isinstance(v, str))
        raise ValueError(
            f"Column {name!r} of X holds {words[0]!r} and {other!r}: words and others. Make it one "
            "kind, or name it in categorical_features."
        )


def _of_categories(
    there: np.ndarray,
    w: np.ndarray | None,
    gone: float,
    name: Any,
    most: int | None,
    held: str = "",
) -> Column:
    """Categories, `gone` the weight of rows that have none; of many, the `most` most frequent."""
    import pandas as pd

    plain = as_plain(there)
    for value in plain:
        if not isinstance(value, str | int | float | bool):
            raise ValueError(
                f"Column {name!r} of X holds {value!r} of {type(value).__name__}: categories must "
                f"be strings, numbers or booleans. {_instead(value, name)}"
            )
    ones = pd.Series(1.0 if w is None else w, index=range(len(plain)), dtype=float)
    counted = ones.groupby(pd.Series(plain, dtype=object), sort=False).sum()
    n, rest = float(ones.sum() + gone) or 1.0, 0.0
    values = sorted(counted.index, key=lambda v: (isinstance(v, str), v))
    if most is not None and len(values) > most:
        often = sorted((v for v in values if counted[v] > 1), key=lambda v: -counted[v])[:most]
        rest = float(sum(counted[v] for v in values if v not in often)) / n
        values = [v for v in values if v in often]
    shares = tuple(float(counted[v] / n) for v in values)
    return Column(
        "category", incomplete=gone > 0, values=tuple(values), shares=shares, rest=rest, held=held
    )


def _instead(value: Any, name: Any) -> str:
    """What to do with a value that no column may hold."""
    if is_span(value):
        return f"Make numbers of spans of time, such as X[{name!r}].dt.total_seconds()."
    if isinstance(value, bytes):
        return f"Make strings of bytes, such as by X[{name!r}].str.decode('utf-8')."
    if hasattr(value, "to_timestamp"):
        return f"Make dates of periods, such as by X[{name!r}].dt.to_timestamp()."
    return f"Make one of these of it, such as by X[{name!r}].astype(str), or leave it out."
