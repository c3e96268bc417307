"""Single cells of a table: what they are, and how errors write them."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

#: What counts as a number.
NUMBERS = (Real, Decimal, np.bool_)
#: Words that look like a date: 2024-01-03, 3.1.2024, 01/03/24, 3 January 2024, Jan 3, 2024;
#: a time of day may follow.
_DATE = re.compile(
    r"\s*(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3(\d{4}|\d{2})"
    r"|\d{1,2}[ -][A-Za-z]{3,9}\.?[ -]\d{2,4}|[A-Za-z]{3,9}\.? \d{1,2},? \d{4})"
    r"([T ]+\d{1,2}:\d{2}.*)?\s*"
)
#: Whole numbers, which may be ids.
_DIGITS = re.compile(r"\s*\d+\s*")


def as_written(value: Any) -> str:
    """How a value is written, without the name of numpy's type."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return str(value)
    return repr(value.item() if isinstance(value, np.generic) else value)


def are_date_words(words: Any) -> bool:
    """Whether all of some strings, one or more, look like dates."""
    words = list(words)
    return bool(words) and all(_DATE.fullmatch(word) for word in words)


def are_number_words(words: Any) -> bool:
    """Whether all of some strings are numbers, and not all of them digits alone, as ids are."""
    words = list(words)
    numbers = bool(words) and all(map(is_number_word, words))
    return numbers and not all(_DIGITS.fullmatch(word) for word in words)


def is_number_word(word: str) -> bool:
    """Whether a string is a finite number."""
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def is_number(value: Any) -> bool:
    # numpy has spans of time among its whole numbers
    return isinstance(value, NUMBERS) and not isinstance(value, np.timedelta64)


def is_date(value: Any) -> bool:
    return isinstance(value, datetime.date | np.datetime64)


def is_span(value: Any) -> bool:
    return isinstance(value, datetime.timedelta | np.timedelta64)


def first_no_number(values: np.ndarray) -> Any:
    """The first value that is no number; None where all are."""
    if values.dtype.kind in "biuf":
        return None
    return next((v for v in values.ravel() if not is_number(v)), None)
