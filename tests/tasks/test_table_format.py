"""Tables as numbers: what past rows teach of columns that are categories, dates or incomplete."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from fewshot_sklearn.tasks import TableFormat
from fewshot_sklearn.tasks.table_format import MOST_INDICATORS


def kinds(table):
    return [column.kind for column in table.columns]


def test_rows_that_are_numbers_need_no_format():
    numbers = np.ones((3, 2))
    assert TableFormat.of(numbers) is None
    assert TableFormat.of(pd.DataFrame(numbers, columns=["a", "b"])) is None
    assert TableFormat.of(pd.DataFrame({"a": [True, False], "b": [1, 2]})) is None
    assert TableFormat.of(np.ones((3, 4, 4))) is None
    assert TableFormat.of([1.0, 2.0]) is None


def test_kinds_of_columns():
    X = pd.DataFrame(
        {
            "number": [1.0, 2.0, 4.0],
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "decimal": [Decimal("1.5"), None, Decimal("2.5")],
            "text": ["x", "y", None],
            "category": pd.Categorical([1, 2, 1]),
            "stamp": pd.to_datetime(["2024-01-01", "2024-01-03", None]),
            "zoned": pd.to_datetime(["2024-01-01"] * 3).tz_localize("Europe/Berlin"),
            "day": [datetime.date(2024, 1, 1), None, datetime.date(2024, 1, 3)],
            "flag": [True, False, None],
        }
    )
    table = TableFormat.of(X)
    assert kinds(table) == (["number"] * 3 + ["category"] * 2 + ["date"] * 3 + ["number"])
    assert table.names == tuple(X)
    rows = table.numbers(X)
    assert rows.shape == (3, table.width) and np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[:, 0], [1, 2, 4])
    np.testing.assert_array_equal(rows[:, 1:3], [[1, 0], [2, 1], [3, 0]])  # the mean, and a mark
    np.testing.assert_array_equal(rows[:, 3:5], [[1.5, 0], [2, 1], [2.5, 0]])
    np.testing.assert_array_equal(rows[:, 5:8], np.eye(3))  # x, y and missing
    np.testing.assert_array_equal(rows[:, 8:10], [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_allclose(rows[:, 10:12], [[-1, 0], [1, 0], [0, 1]])  # days about the mean


def test_what_the_past_does_not_know():
    past = pd.DataFrame({"text": ["x", "y", "x", "x"], "number": [1.0, 2.0, 3.0, np.nan]})
    table = TableFormat.of(past)
    new = pd.DataFrame({"text": ["never seen", None, "y"], "number": [np.nan, 5.0, 6.0]})
    np.testing.assert_allclose(
        table.numbers(new),
        [[0.75, 0.25, 2, 1], [0.75, 0.25, 5, 0], [0, 1, 6, 0]],  # as likely any as in the past
    )


def test_many_categories_are_codes_at_the_end():
    names = np.array([f"item {i}" for i in range(MOST_INDICATORS + 1)])
    past = pd.DataFrame({"item": np.append(names, None), "number": np.arange(len(names) + 1.0)})
    table = TableFormat.of(past)
    assert table.sizes == [len(names) + 1] and table.n_numbers == 1
    new = pd.DataFrame({"item": ["item 3", None, "never seen"], "number": [7.0, 8.0, 9.0]})
    np.testing.assert_array_equal(
        table.numbers(new), [[7, 3], [8, len(names)], [9, len(names) + 1]]
    )


@pytest.mark.parametrize("asked", [["b"], [1], [-1], [False, True], np.array([False, True])])
def test_columns_marked_as_categories(asked):
    X = pd.DataFrame({"a": [1, 2, 3], "b": [5, 6, 5]})
    table = TableFormat.of(X, asked)
    assert kinds(table) == ["number", "category"] and table.columns[1].values == (5, 6)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("all", "categorical_features must be 'from_dtype'"),
        (3, "categorical_features must be"),
        (["c"], "categorical_features names 'c'"),
        ([2], "categorical_features names 2"),
        ([True], "a mask of 1 columns, but X has 2"),
    ],
)
def test_columns_that_there_are_not(asked, told):
    with pytest.raises(ValueError, match=told):
        TableFormat.of(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), asked)


def test_text_that_is_to_be_no_category():
    with pytest.raises(ValueError, match=r"Column 'b' of X holds what is no number.*such as 'x'"):
        TableFormat.of(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), None)


def test_categories_of_no_plain_kind():
    with pytest.raises(ValueError, match=r"Column 'a' of X holds .* of tuple"):
        TableFormat.of(pd.DataFrame({"a": [(1, 2), (3, 4)]}))


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ({"number": ["word", 1.0]}, "Column 'number' of X held numbers in the past, got 'word'"),
        ({"number": [np.inf, 1.0]}, "Column 'number' of X contains infinity"),
        ({"day": [3, 4]}, "Column 'day' of X held dates in the past, got"),
    ],
)
def test_what_was_a_number_or_a_date_and_is_none(new, told):
    past = {"number": [1.0, None], "day": pd.to_datetime(["2024-01-01", "2024-01-02"])}
    table = TableFormat.of(pd.DataFrame(past))
    with pytest.raises(ValueError, match=told):
        table.numbers(pd.DataFrame(past | new))


def test_another_number_of_columns():
    table = TableFormat.of(np.array([[1.0, np.nan], [2.0, 3.0]]))
    with pytest.raises(ValueError, match="X has 3 columns, but the past had 2"):
        table.numbers(np.ones((2, 3)))


def test_arrays_with_gaps():
    X = np.array([[1.0, np.nan], [2.0, 3.0], [3.0, 5.0]])
    table = TableFormat.of(X)
    assert table.names is None
    np.testing.assert_array_equal(table.numbers(X), [[1, 4, 1], [2, 3, 0], [3, 5, 0]])
    mixed = TableFormat.of(np.array([[1, "x"], [2, "y"]], dtype=object))
    assert kinds(mixed) == ["number", "category"]


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_other_frames_are_the_same(library):
    frames = pytest.importorskip(library)
    data = {"a": [1.0, None, 3.0], "b": ["x", None, "y"], "c": [1, 2, None]}
    days = [datetime.datetime(2024, 1, 1), None, datetime.datetime(2024, 1, 5)]
    pandas = pd.DataFrame(data | {"d": days})
    make = frames.DataFrame if library == "polars" else frames.table
    other = make(data | {"d": days})
    expected, table = TableFormat.of(pandas), TableFormat.of(other)
    assert kinds(table) == kinds(expected)
    np.testing.assert_allclose(table.numbers(other), expected.numbers(pandas))


def test_polars_categories():
    pl = pytest.importorskip("polars")
    X = pl.DataFrame({"a": ["x", "y"], "b": [1, 2]})
    X = X.with_columns(pl.col("a").cast(pl.Categorical), pl.col("b"))
    assert kinds(TableFormat.of(X)) == ["category", "number"]


def test_there_and_back_as_json():
    X = pd.DataFrame(
        {"a": [1.0, None], "b": ["x", "y"], "c": pd.to_datetime(["2024-01-01", "2025-01-01"])}
    )
    table = TableFormat.of(X)
    assert TableFormat.from_json(json.loads(json.dumps(table.to_json()))) == table


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "word"}, {"fill": float("nan")}, {"fill": "x"}, {"incomplete": 3},
        {"values": ["x"]}, {"values": [["x"], "y"]}, {"values": ["x", "x"]}, {"shares": [2.0, 1.0]},
        {"epoch": None}, {"more": 1},
    ],
)  # fmt: skip
def test_forged(wrong):
    told = TableFormat.of(pd.DataFrame({"b": ["x", "y"]})).to_json()
    told["columns"][0] |= wrong
    with pytest.raises(ValueError, match="no format of a table"):
        TableFormat.from_json(told)


@pytest.mark.parametrize("told", [None, [], {}, {"columns": 3, "names": None}, {"columns": [3]}])
def test_forged_whole(told):
    with pytest.raises(ValueError, match="no format of a table"):
        TableFormat.from_json(told)


def test_no_rows():
    past = pd.DataFrame({"a": [1.0, None], "b": ["x", "y"], "c": pd.Categorical(["u", "v"])})
    table = TableFormat.of(past)
    assert table.numbers(past[:0]).shape == (0, table.width)


def test_nothing_but_gaps():
    with pytest.raises(ValueError, match="X contains NaN or another missing value in every cell"):
        TableFormat.of(np.full((3, 2), np.nan))
    half = TableFormat.of(pd.DataFrame({"a": [1.0, 2.0], "b": [None, None]}))
    assert np.isfinite(half.numbers(pd.DataFrame({"a": [1.0], "b": [None]}))).all()


def test_words_among_numbers_are_a_mistake():
    X = pd.DataFrame({"price": [1.0, 2.5, "3,5"], "b": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"Column 'price' of X holds '3,5' and 1\.0: words and"):
        TableFormat.of(X)
    assert kinds(TableFormat.of(X, ["price"])) == ["category", "number"]
