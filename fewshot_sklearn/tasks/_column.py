"""One column of a table: what the past taught of it, and its values as numbers."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

#: Categories that get a column each; of more, an encoder learns what they are like.
MOST_INDICATORS = 8
#: What a column may be.
KINDS = ("number", "date", "category")
DAY = 86_400.0


@dataclass(frozen=True)
class Column:
    """What the past taught of one column.

    Attributes
    ----------
    kind : {"number", "date", "category"}
        What it holds.
    fill : float
        Of a number or a date what stands for one that is missing: the mean.
    incomplete : bool
        Whether any was missing.
    values : tuple of str, int, float or bool
        Of a category all values, in order.
    shares : tuple of float
        How often each occurred.
    epoch : float
        Of a date the day that others are counted from, since 1970.
    means : tuple of tuple of float
        Of categories that are looked up the mean targets, for each code and one that is not known;
        none where they were not learned.
    rest : float
        How often one of the categories occurred that are not among the values.
    """

    kind: str
    fill: float = 0.0
    incomplete: bool = False
    values: tuple[Any, ...] = ()
    shares: tuple[float, ...] = ()
    epoch: float = 0.0
    means: tuple[tuple[float, ...], ...] = ()
    rest: float = 0.0

    @property
    def looked_up(self) -> bool:
        """Whether it becomes codes, of categories too many to have a column each."""
        return self.kind == "category" and len(self.values) > MOST_INDICATORS

    @property
    def n_codes(self) -> int:
        """Codes of categories that were seen, that of a missing one included."""
        return len(self.values) + self.incomplete

    @property
    def width(self) -> int:
        """How many numbers it becomes, codes aside."""
        if self.looked_up:
            return len(self.means[0]) if self.means else 0
        if self.kind == "category":
            return self.n_codes
        return 1 + self.incomplete

    # ------------------------------------------------------------------ numbers
    def numbers(self, values: np.ndarray, missing: np.ndarray, name: Any) -> np.ndarray:
        """Its numbers (n, width); a category that is not known is as likely any as in the past."""
        if self.kind == "category":
            codes = self.codes(values, missing)
            rows = np.zeros((len(codes) + 1, self.n_codes + 1))
            rows[-1, :-1] = [*self.shares, *self._of_missing()]
            return np.where(
                (codes == self.n_codes)[:, None],
                rows[-1, :-1],
                np.eye(self.n_codes + 1)[codes][:, :-1],
            )
        plain = np.full(len(values), self.fill)
        read = as_days if self.kind == "date" else as_floats
        plain[~missing] = read(values[~missing], name) - self.epoch
        return np.column_stack([plain, missing]) if self.incomplete else plain[:, None]

    def _of_missing(self) -> list[float]:
        """How often it was missing, where it was."""
        return [1 - sum(self.shares) - self.rest] if self.incomplete else []

    def codes(self, values: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Codes of categories: the last but one is a missing one, `n_codes` one not known."""
        import pandas as pd  # type: ignore[import-untyped]  # not before it is needed

        known = pd.Index(np.array(self.values, dtype=object), dtype=object)
        codes = np.full(len(values), self.n_codes)
        found = known.get_indexer(pd.Index(as_plain(values[~missing]), dtype=object))
        codes[~missing] = np.where(found < 0, self.n_codes, found)
        if self.incomplete:
            codes[missing] = len(self.values)
        return codes


# ------------------------------------------------------------------ values
def are_numbers(values: np.ndarray) -> bool:
    if values.dtype.kind in "biuf":
        return True
    return values.dtype.kind == "O" and all(isinstance(v, Real | Decimal) for v in values)


def are_dates(values: np.ndarray) -> bool:
    if values.dtype.kind == "M":
        return True
    dates = values.dtype.kind == "O" and len(values) > 0
    return dates and all(isinstance(v, datetime.date | np.datetime64) for v in values)


def as_floats(values: np.ndarray, name: Any) -> np.ndarray:
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        found = next(v for v in values if not isinstance(v, Real | Decimal))
        raise ValueError(f"Column {name!r} of X held numbers in the past, got {found!r}.") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"Column {name!r} of X contains infinity.")
    return numbers


def as_days(values: np.ndarray, name: Any) -> np.ndarray:
    """Days since 1970, in universal time where there is a time zone."""
    if not are_dates(values) and len(values):
        raise ValueError(f"Column {name!r} of X held dates in the past, got {values[0]!r}.")
    import pandas as pd

    stamps = pd.to_datetime(pd.Series(values, dtype=object), utc=True)
    seconds = stamps.astype("datetime64[us, UTC]").astype("int64").to_numpy() / 1e6
    return seconds / DAY


def as_plain(values: np.ndarray) -> np.ndarray:
    """Categories as Python's own values."""
    out = np.empty(len(values), dtype=object)
    out[:] = [v.item() if isinstance(v, np.generic) else v for v in values.tolist()]
    return out


# ------------------------------------------------------------------ what a file may say
def with_tuples(told: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _as_tuple(v) for k, v in told.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _are_means(column: Column) -> bool:
    means = column.means
    if not isinstance(means, tuple) or not means:
        return means == ()
    return (
        column.looked_up
        and len(means) == column.n_codes + 1
        and all(isinstance(one, tuple) and len(one) == len(means[0]) > 0 for one in means)
        and all(_is_number(value) for one in means for value in one)
    )


def sound_column(column: Column) -> Column:
    values, shares = column.values, column.shares
    good = (
        column.kind in KINDS
        and _is_number(column.fill)
        and _is_number(column.epoch)
        and _is_number(column.rest)
        and isinstance(column.incomplete, bool)
        and isinstance(values, tuple)
        and isinstance(shares, tuple)
        and len(shares) == len(values)
        and all(isinstance(v, str | int | float | bool) for v in values)
        and len(set(values)) == len(values)
        and all(_is_number(s) and 0 <= s <= 1 for s in shares)
        and (column.kind == "category" or not values)
        and _are_means(column)
    )
    if not good:
        raise ValueError(f"a column of the kind {column.kind!r} cannot be so")
    return column
