"""One column of a table: what the past taught of it, and its values as numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._cells import as_written, first_no_number, is_date, is_number, is_number_word, is_span

#: Categories that get a column each; of more, an encoder learns what they are like.
MOST_INDICATORS = 8
#: What a column may be.
KINDS = ("number", "date", "category")
#: What it held, where its kind does not say: nothing at all, or numbers that are booleans.
HELD = ("", "nothing", "booleans")
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
    held : {"", "nothing", "booleans"}
        What it held, where the kind does not say.
    one_less : bool
        Whether the category that occurred most often has no number of its own: the others tell it.
        With one for each, a column of two would count twice where rows are compared.
    """

    kind: str
    fill: float = 0.0
    incomplete: bool = False
    values: tuple[Any, ...] = ()
    shares: tuple[float, ...] = ()
    epoch: float = 0.0
    means: tuple[tuple[float, ...], ...] = ()
    rest: float = 0.0
    held: str = ""
    one_less: bool = False

    @property
    def looked_up(self) -> bool:
        """Whether it becomes codes, of categories too many to have a column each."""
        return self.kind == "category" and len(self.values) > MOST_INDICATORS

    @property
    def n_codes(self) -> int:
        """Codes of categories that were seen, that of a missing one included."""
        return len(self.values) + self.incomplete

    @property
    def tells_all(self) -> bool:
        """Whether there are two categories or more, a missing one being one, and no others."""
        return self.kind == "category" and self.n_codes > 1 and self.rest == 0

    @property
    def width(self) -> int:
        """How many numbers it becomes, codes aside."""
        if self.looked_up:
            return len(self.means[0]) if self.means else 0
        if self.kind == "category":
            return self.n_codes - self.one_less
        return 1 + self.incomplete

    # ------------------------------------------------------------------ numbers
    def numbers(self, values: np.ndarray, missing: np.ndarray, name: Any) -> np.ndarray:
        """Its numbers (n, width); a category that is not known is as likely any as in the past."""
        if self.kind == "category":
            codes = self.codes(values, missing, name)
            rows = np.zeros((len(codes) + 1, self.n_codes + 1))
            rows[-1, :-1] = [*self.shares, *self._of_missing()]
            told = np.where(
                (codes == self.n_codes)[:, None],
                rows[-1, :-1],
                np.eye(self.n_codes + 1)[codes][:, :-1],
            )
            return np.delete(told, self._most_often, axis=1) if self.one_less else told
        plain = np.full(len(values), self.fill)
        there = values[~missing]
        date = self.kind == "date"
        read = as_days(there, name) if date else as_floats(there, name, self.held or "numbers")
        plain[~missing] = read - self.epoch
        return np.column_stack([plain, missing]) if self.incomplete else plain[:, None]

    @property
    def _most_often(self) -> int:
        """The code that occurred most often; the first of those that did alike."""
        return int(np.argmax(np.round([*self.shares, *self._of_missing()], 9)))

    def _of_missing(self) -> list[float]:
        """How often it was missing, where it was."""
        return [1 - sum(self.shares) - self.rest] if self.incomplete else []

    def codes(self, values: np.ndarray, missing: np.ndarray, name: Any) -> np.ndarray:
        """Codes of categories: the last but one is a missing one, `n_codes` one not known."""
        import pandas as pd  # type: ignore[import-untyped]  # not before it is needed

        known = pd.Index(np.array(self.values, dtype=object), dtype=object)
        codes = np.full(len(values), self.n_codes)
        there = as_plain(values[~missing])
        found = known.get_indexer(pd.Index(there, dtype=object))
        self._check_strangers(there[found < 0], name)
        codes[~missing] = np.where(found < 0, self.n_codes, found)
        if self.incomplete:
            codes[missing] = len(self.values)
        return codes

    def _check_strangers(self, strangers: np.ndarray, name: Any) -> None:
        """Refuse categories that are not known because the column holds another kind of values."""
        if not len(strangers):
            return
        if self.held == "nothing":
            warnings.warn(
                f"Column {name!r} of X was missing in all past rows, so what it holds now tells "
                "nothing. Leave it out, of the past too, or learn from a past that has it.",
                stacklevel=2,
            )
        words = {isinstance(value, str) for value in self.values}
        odd = [v for v in strangers if isinstance(v, str) not in words] if len(words) == 1 else []
        if odd:
            held, now = ("words", "astype(str)") if True in words else ("no words", "")
            raise ValueError(
                f"Column {name!r} of X held categories that are {held}, such as "
                f"{self.values[0]!r}, in the past, got {odd[0]!r}, which can be none of them. Give "
                f"it as the past had it{f', such as by X[{name!r}].{now}' if now else ''}."
            )


# ------------------------------------------------------------------ values
def are_numbers(values: np.ndarray) -> bool:
    if values.dtype.kind in "biuf":
        return True
    return values.dtype.kind == "O" and all(map(is_number, values))


def are_booleans(values: np.ndarray) -> bool:
    if values.dtype.kind == "b":
        return True
    some = values.dtype.kind == "O" and len(values) > 0
    return some and all(isinstance(v, bool | np.bool_) for v in values)


def are_dates(values: np.ndarray) -> bool:
    if values.dtype.kind == "M":
        return True
    dates = values.dtype.kind == "O" and len(values) > 0
    return dates and all(map(is_date, values))


def as_floats(values: np.ndarray, name: Any, held: str = "numbers") -> np.ndarray:
    if (odd := first_no_number(values)) is not None:
        words = isinstance(odd, str)
        if held != "numbers" or not words or not _are_all_number_words(values):
            told = f"Column {name!r} of X held {held} in the past, got {as_written(odd)}."
            if words and held == "numbers":
                told += (
                    f" Make numbers of words: pd.to_numeric(X[{name!r}], errors='coerce') leaves a "
                    "gap where there is none."
                )
            elif words:
                told += f" Make booleans of words: X[{name!r}].map({{'yes': True, 'no': False}})."
            elif is_span(odd):
                told += f" Make numbers of spans of time, such as X[{name!r}].dt.days."
            else:
                told += " Give it as the past had it."
            raise ValueError(told)
        warn_of_number_words(name, odd)
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(
            f"Column {name!r} of X contains infinity. Leave these cells empty (NaN), or these rows "
            "out."
        )
    return numbers


def _are_all_number_words(values: np.ndarray) -> bool:
    return all(is_number_word(v) if isinstance(v, str) else is_number(v) for v in values)


def warn_of_number_words(name: Any, found: str) -> None:
    """Warn that strings are read as numbers."""
    warnings.warn(
        f"Column {name!r} of X holds strings, such as {str(found)!r}, that are read as numbers. "
        f"Make numbers of them: X[{name!r}] = pd.to_numeric(X[{name!r}]).",
        stacklevel=2,
    )


def as_days(values: np.ndarray, name: Any) -> np.ndarray:
    """Days since 1970, in universal time where there is a time zone."""
    if not are_dates(values) and len(values):
        odd = next(v for v in values if not is_date(v))
        words = isinstance(odd, str)
        turn = (
            f"Make dates of words: pd.to_datetime(X[{name!r}]), or read the file with "
            f"parse_dates=[{name!r}]."
            if words
            else "Give it as the past had it."
        )
        raise ValueError(
            f"Column {name!r} of X held dates in the past, got {as_written(odd)}. {turn}"
        )
    import pandas as pd

    stamps = pd.to_datetime(pd.Series(values, dtype=object), utc=True)
    seconds = stamps.astype("datetime64[us, UTC]").astype("int64").to_numpy() / 1e6
    return seconds / DAY


def as_plain(values: np.ndarray) -> np.ndarray:
    """Categories as Python's own values."""
    out = np.empty(len(values), dtype=object)
    # numpy makes integers of times in nanoseconds
    items = list(values) if values.dtype.kind in "mM" else values.tolist()
    times = np.datetime64 | np.timedelta64
    out[:] = [
        v.item() if isinstance(v, np.generic) and not isinstance(v, times) else v for v in items
    ]
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
        and column.held in HELD
        and isinstance(values, tuple)
        and isinstance(shares, tuple)
        and len(shares) == len(values)
        and all(isinstance(v, str | int | float | bool) for v in values)
        and len(set(values)) == len(values)
        and all(_is_number(s) and 0 <= s <= 1 for s in shares)
        and (column.kind == "category" or not values)
        and _are_means(column)
        and isinstance(column.one_less, bool)
        and (not column.one_less or column.tells_all)
    )
    if not good:
        raise ValueError(f"a column of the kind {column.kind!r} cannot be so")
    return column
