"""Rows, labels, tasks and weights as they should not be, at every entrance; for `robustness.py`.

What may be is answered as the same in plain arrays is; what may not be is refused with a
ValueError or a TypeError that says what of; no answer is NaN.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from robustness_entrances import ENTRANCES, Entrance
from robustness_trials import Fell, Trial

#: What an error must speak of, by what was wrong.
WORDS = {
    "X": r"\bX\b|feature|column|sample|array|sparse|number|float|\brows?\b|dtype|DType",
    "y": r"\by\b|label|class|target|sample|output|length|number",
    "groups": r"group|task|sample|length",
    "sample_weight": r"weight|sample",
}
#: What scikit-learn says of the same, to whom it is left.
COMMON_WORDS = (
    r"Complex data|Expected sequence|Input should have|Input contains|strategies failed|"
    r"^float\(\) argument|array element|convert string to float|NA is ambiguous|[Ss]parse|"
    r"bytes/strings"
)
#: Where scikit-learn's own Ridge, one for each task, is left alone with what it makes of X.
OF_RIDGE = r"Taskwise\..* of RidgeHeadRegressor"
#: What numpy and torch say, and somebody else has to guess.
RAW_WORDS = (
    r"^(len\(\) of|'<' not|unsupported operand|can't convert|At least one stride|ufunc|the res)"
)


class Fault(NamedTuple):
    """One change of one argument."""

    what: str
    argument: str
    #: Makes what is given of what should be: a data frame or a series.
    change: Callable[[Any], Any]
    #: Whether it must be answered as the plain argument is ("same"), refused ("refused"), either;
    #: "columns" is refused where columns are known, "width" where the number of columns is, and
    #: "renamed" is the same where names were not known before.
    must: str


def with_one(value: Any, dtype: Any = object) -> Callable[[Any], Any]:
    """A change: one value is another."""

    def change(given: Any) -> Any:
        other = given.astype(dtype).copy()
        if isinstance(value, dict | list):  # pandas would spread them out
            cells = other.to_numpy(copy=True)
            cells[(2, 1)[: cells.ndim]] = value
            return cells
        if isinstance(other, pd.DataFrame):
            other.iloc[2, 1] = value
        else:
            other.iloc[2] = value
        return other

    return change


def one_column(make: Callable[[pd.Series], Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A change: the second column is another."""
    return lambda X: X.assign(c1=make(X["c1"]))


def dates(values: pd.Series) -> pd.Series:
    """A day for each."""
    return pd.Series(pd.Timestamp("2020-01-01"), values.index) + pd.to_timedelta(
        np.arange(len(values)) % 7, "D"
    )


def backwards(X: pd.DataFrame) -> np.ndarray:
    """Rows in memory that goes backwards."""
    return np.ascontiguousarray(X.to_numpy()[::-1, ::-1])[::-1, ::-1]


def read_only(given: Any) -> np.ndarray:
    """An array that may not be written to."""
    array = np.array(given)
    array.setflags(write=False)
    return array


ROWS = [
    ("columns in another order", lambda X: X[list(X)[::-1]], "columns"),
    ("columns renamed", lambda X: X.add_prefix("other "), "columns"),
    ("a column renamed", lambda X: X.rename(columns={"c1": "d"}), "columns"),
    ("columns named twice", lambda X: X.rename(columns={"c1": "c0"}), "columns"),
    ("a column missing", lambda X: X.drop(columns="c1"), "width"),
    ("a column too many", lambda X: X.assign(more=1.0), "width"),
    ("a column missing of an array", lambda X: X.to_numpy()[:, 1:], "width"),
    ("a column too many of an array", lambda X: X.to_numpy()[:, [0, 0, 1, 2, 3, 4]], "width"),
    ("no columns", lambda X: X[[]], "refused"),
    ("no columns of an array", lambda X: X.to_numpy()[:, :0], "refused"),
    ("no rows", lambda X: X[:0], "either"),
    ("no rows of an array", lambda X: X.to_numpy()[:0], "either"),
    ("NaN", with_one(np.nan, float), "refused"),
    ("infinity", with_one(np.inf, float), "refused"),
    ("minus infinity", with_one(-np.inf, float), "refused"),
    ("None", with_one(None), "refused"),
    ("None in an array", lambda X: with_one(None)(X).to_numpy(), "refused"),
    ("NA", with_one(pd.NA), "refused"),
    ("NA in Float64", with_one(pd.NA, "Float64"), "refused"),
    ("NaT", with_one(pd.NaT), "refused"),
    ("a word", with_one("word"), "refused"),
    ("words", lambda X: X.astype(object).map(lambda v: f"word {v}"), "refused"),
    ("words in an array", lambda X: X.to_numpy().astype(str).astype("U3") + "w", "refused"),
    ("numbers as words", lambda X: X.astype(str), "either"),
    ("bytes", lambda X: X.to_numpy().astype("S8"), "either"),
    ("a dict", with_one({}), "refused"),
    ("a list", with_one([1.0]), "refused"),
    ("complex numbers", lambda X: X.to_numpy() * 1j, "refused"),
    ("dates", one_column(dates), "either"),
    ("dates with NaT", one_column(lambda c: dates(c).where(c > 0)), "refused"),
    ("all dates", lambda X: X.apply(dates).to_numpy(), "either"),
    ("differences of dates", one_column(lambda c: dates(c) - pd.Timestamp("2020")), "either"),
    ("categories", one_column(lambda c: pd.Categorical(np.where(c > 0, "a", "b"))), "refused"),
    ("a sparse matrix", lambda X: sp.csr_matrix(X.to_numpy()), "either"),
    ("a sparse array", lambda X: sp.csc_array(X.to_numpy()), "either"),
    ("a sparse array of coordinates", lambda X: sp.coo_array(X.to_numpy()), "either"),
    ("a matrix", lambda X: np.asmatrix(X.to_numpy()), "either"),
    ("one dimension", lambda X: X["c0"], "refused"),
    ("one dimension of an array", lambda X: X.to_numpy()[:, 0], "refused"),
    ("three dimensions", lambda X: X.to_numpy()[:, :, None], "width"),
    ("a number", lambda X: 1.0, "refused"),
    ("nothing", lambda X: None, "refused"),
    ("text", lambda X: "X", "refused"),
    ("an object", lambda X: object(), "refused"),
    ("a dict of columns", lambda X: {n: X[n].tolist() for n in X}, "refused"),
    ("an empty list", lambda X: [], "refused"),
    ("ragged lists", lambda X: [row[: 5 - i % 2] for i, row in enumerate(X.values)], "refused"),
    ("records", lambda X: X.to_records(index=False), "refused"),
    ("an iterator", lambda X: iter(X.to_numpy().tolist()), "refused"),
    # which may be
    ("an array", lambda X: X.to_numpy(), "same"),
    ("lists", lambda X: X.to_numpy().tolist(), "same"),
    ("objects", lambda X: X.astype(object), "same"),
    ("objects in an array", lambda X: X.to_numpy().astype(object), "same"),
    ("Float64", lambda X: X.astype("Float64"), "same"),
    ("another byte order", lambda X: X.to_numpy().astype(">f8"), "same"),
    ("long doubles", lambda X: X.to_numpy().astype(np.longdouble), "same"),
    ("column after column", lambda X: np.asfortranarray(X), "same"),
    ("backwards in memory", backwards, "same"),
    ("read only", read_only, "same"),
    ("another index", lambda X: X.set_axis(np.arange(len(X))[::-1] + 7), "same"),
    ("an index of one name", lambda X: X.set_axis(["row"] * len(X)), "same"),
    ("sparse columns", lambda X: X.astype(pd.SparseDtype(float, 0)), "either"),
    ("a tensor", lambda X: torch.tensor(X.to_numpy()), "either"),
    ("half precision", lambda X: X.to_numpy().astype(np.float16), "either"),
    ("booleans", lambda X: X > 0, "either"),
    ("whole numbers", lambda X: X.astype(int), "either"),
    ("Int64", lambda X: X.astype(int).astype("Int64"), "either"),
    ("a masked array", lambda X: np.ma.masked_greater(X.to_numpy(), 1.0), "either"),
]  # fmt: skip

#: Of labels, targets, tasks and weights alike.
ONE_A_ROW = [
    ("None", with_one(None), "refused"),
    ("NA", with_one(pd.NA), "refused"),
    ("too few", lambda y: y[:-1], "refused"),
    ("too many", lambda y: np.append(y, y.iloc[0]), "refused"),
    ("a table", lambda y: np.column_stack([y, y, y]), "refused"),
    ("a number", lambda y: 1, "refused"),
    ("text", lambda y: "y", "refused"),
    ("an object", lambda y: object(), "refused"),
    ("an empty list", lambda y: [], "refused"),
    ("a dict", lambda y: dict(enumerate(y)), "refused"),
    ("complex numbers", lambda y: np.asarray(y) * 1j, "either"),
    ("lists in it", with_one([1]), "refused"),
    ("a sparse column", lambda y: sp.csr_matrix(np.asarray(y, float)[:, None]), "either"),
    ("an array", lambda y: y.to_numpy(), "same"),
    ("a list", lambda y: y.tolist(), "same"),
    ("read only", read_only, "same"),
    ("backwards in memory", lambda y: np.ascontiguousarray(y.to_numpy()[::-1])[::-1], "same"),
    ("objects", lambda y: y.astype(object), "same"),
    ("another index", lambda y: y.set_axis(np.arange(len(y))[::-1] + 7), "same"),
    ("an index of one name", lambda y: y.set_axis(["row"] * len(y)), "same"),
    ("another byte order", lambda y: y.to_numpy().astype(y.dtype.newbyteorder(">")), "same"),
]
NUMBERS = [
    ("NaN", with_one(np.nan, float), "refused"),
    ("infinity", with_one(np.inf, float), "refused"),
    ("Float64 with NA", with_one(pd.NA, "Float64"), "refused"),
    ("Float64", lambda y: y.astype("Float64"), "same"),
    ("words", lambda y: np.array([f"word {v}" for v in y]), "refused"),
]
NAMES = [
    ("NaN", with_one(np.nan, float), "refused"),
    ("NaN among words", lambda y: with_one(np.nan)(y.astype(str)), "refused"),
    ("Int64 with NA", with_one(pd.NA, "Int64"), "refused"),
    ("words with NA", lambda y: with_one(pd.NA, "string")(y.astype(str)), "refused"),
    ("a category missing", lambda y: with_one(None, "category")(y.astype(str)), "refused"),
    ("NaT", lambda y: dates(y).where(y.index != 2), "refused"),
    ("words and numbers", with_one("word"), "refused"),
    ("infinity", with_one(np.inf, float), "either"),
    ("dates", lambda y: pd.Timestamp("2020-01-01") + pd.to_timedelta(y, "D"), "either"),
    ("pairs", lambda y: pd.Series([(int(v), 0) for v in y]), "either"),
    ("days", lambda y: [datetime.date(2020, 1, 1 + int(v)) for v in y], "either"),
    ("Int64", lambda y: y.astype("Int64"), "same"),
    ("Int64 beyond floats", lambda y: y.astype("Int64") + 2**53, "renamed"),
    ("integers beyond floats", lambda y: y.to_numpy() + 2**53, "renamed"),
    ("unsigned beyond int64", lambda y: y.to_numpy().astype("u8") + np.uint64(2**63), "renamed"),
    ("negative", lambda y: y - 100, "renamed"),
    ("words", lambda y: np.array([f"task {v}" for v in y]), "renamed"),
    ("string", lambda y: y.map("task {}".format).astype("string"), "renamed"),
    ("categories", lambda y: y.map("task {}".format).astype("category"), "renamed"),
    ("bytes", lambda y: np.array([f"task {v}".encode() for v in y]), "either"),
    ("whole floats", lambda y: y.astype(float), "same"),
    ("a column", lambda y: y.to_numpy()[:, None], "either"),
    ("one for all", lambda y: y * 0, "either"),
    ("another for each", lambda y: y * 0 + np.arange(len(y)), "either"),
]  # fmt: skip
FRACTIONS = [("fractions", lambda y: y + 0.5, "either")]
WEIGHTS = [
    ("negative", with_one(-1.0, float), "refused"),
    ("all zero", lambda w: w * 0, "refused"),
    ("booleans", lambda w: w > 0, "either"),
    ("one for all", lambda w: 2.0, "either"),
    ("a column", lambda w: w.to_numpy()[:, None], "either"),
]


def faults(entrance: Entrance) -> Iterator[Fault]:
    """All that may be wrong at an entrance."""
    numbers = entrance.regression
    kinds = {
        "X": ROWS,
        "y": ONE_A_ROW + (NUMBERS if numbers else NAMES + FRACTIONS),
        "groups": ONE_A_ROW + NAMES,
        "sample_weight": ONE_A_ROW + NUMBERS + WEIGHTS,
    }
    for argument in entrance.takes:
        for what, change, must in kinds[argument]:
            if must == "columns":
                must = "refused" if entrance.columns else "either"
            elif must == "width":
                must = "refused" if entrance.width else "either"
            elif must == "renamed":
                must = "either" if argument in entrance.known_names else "same"
            elif argument == "y" and numbers and what == "a table":
                must = "either"
            if any(re.fullmatch(p, f"{entrance.what}({argument}: {what})") for p in MAY_BE):
                must = "either"
            yield Fault(what, argument, change, must)


#: What means something after all, or is refused by scikit-learn too.
MAY_BE = (
    r".*\(sample_weight: a number\)",
    # strategies that fail on an episode are scored worst there
    r"StrategySelector.*\([Xy]: (?!columns|a column).*",
    # integers as objects are an unknown kind of label, to scikit-learn
    r".*\(y: objects\)",
    # tables with gaps, words and dates are learned from
    r"(ES)?MetaTrainer\.fit of .*\(X: (NaN|None.*|NA.*|NaT|words.*|.*dates.*|categories)\)",
    # a file holds ids of any kind as words
    r"TaskMemory.*: (words and numbers|lists in it)\)",
)


def trial(entrance: Entrance, fault: Fault) -> str:
    """Come in with something wrong."""
    usual = _usual(entrance)
    given = entrance.given()
    given[fault.argument] = fault.change(given[fault.argument])
    try:
        got = np.asarray(entrance.call(**given), dtype=np.float64)
    except (ValueError, TypeError) as error:
        if fault.must == "same":
            raise Fell(f"refused: {type(error).__name__}: {error}") from None
        if fault.argument == "X" and re.fullmatch(OF_RIDGE, entrance.what):
            return "refused"
        words = f"{WORDS[fault.argument]}|{COMMON_WORDS}"
        if not re.search(words, str(error)) or re.search(RAW_WORDS, str(error)):
            raise Fell(f"unclear: {type(error).__name__}: {error}") from None
        return "refused"
    except Exception as error:
        raise Fell(f"raw: {type(error).__name__}: {error}") from None
    if fault.must == "refused":
        raise Fell(f"answered: {got.ravel()[:3]}")
    if not np.isfinite(got).all():
        raise Fell(f"answered: {(~np.isfinite(got)).sum()} of {got.size} are not finite")
    if fault.must == "same":
        if got.shape != usual.shape:
            raise Fell(f"another shape: {got.shape}, not {usual.shape}")
        if not np.allclose(got, usual, rtol=1e-5, atol=1e-6):
            raise Fell(f"another answer, by {np.abs(got - usual).max():.2g}")
        return "the same"
    return "answered"


@cache
def _usual(entrance: Entrance) -> np.ndarray:
    usual = np.asarray(entrance.call(**entrance.given()), dtype=np.float64)
    assert np.isfinite(usual).all(), entrance.what
    return usual


def row_trials() -> list[Trial]:
    """Every fault at every entrance."""
    return [
        Trial(
            f"{entrance.what}({fault.argument}: {fault.what})",
            lambda entrance=entrance, fault=fault: trial(entrance, fault),
        )
        for entrance in ENTRANCES
        for fault in faults(entrance)
    ]
