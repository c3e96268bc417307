"""Tables without a history: `fit` itself learns how their columns become numbers."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.utils import get_tags

from fewshot_sklearn import (
    InContextClassifier,
    InContextRegressor,
    TaskwiseClassifier,
    TaskwiseRegressor,
    load_meta_init,
)
from fewshot_sklearn.tasks import TableFormat

BOTH = pytest.mark.parametrize("make", [InContextClassifier, InContextRegressor])
N = 30


def table(n=N, seed=0):
    """Numbers with gaps, words, dates and codes; and targets that hang on the words."""
    rng = np.random.default_rng(seed)
    words = rng.choice(["red", "green", "blue"], n)
    X = pd.DataFrame(
        {
            "price": rng.normal(100, 20, n),
            "colour": words,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, n), "D"),
            "shop": pd.Categorical(rng.integers(0, 3, n)),
        }
    )
    X.loc[[2, 5], "price"] = np.nan
    X.loc[4, "colour"] = None
    return X, np.where(words == "red", 3.0, -1.0) + 0.05 * rng.normal(size=n)


def but_most_frequent(column):
    """Its categories in order, but for the one that most rows have."""
    counts = column.value_counts(sort=False).sort_index()
    return [c for c in counts.index if c != counts.idxmax()]


def answers(estimator, X):
    classifies = hasattr(estimator, "predict_proba")
    return estimator.predict_proba(X) if classifies else estimator.predict(X)


def targets(make, y):
    return np.where(y > 0, "high", "low") if make is InContextClassifier else y


@BOTH
def test_any_column_may_come(make, margin):
    X, y = table()
    fitted = make().fit(X, targets(make, y))
    kinds = [column.kind for column in fitted.table_format_.columns]
    assert kinds == ["number", "category", "date", "category"]
    assert fitted.n_features_in_ == 4
    new, y_new = table(seed=1)
    assert fitted.score(new, targets(make, y_new)) > 0.8  # numbers alone tell nothing
    assert (
        make().fit(X[["price"]], targets(make, y)).score(new[["price"]], targets(make, y_new)) < 0.8
    )


@BOTH
def test_it_is_as_if_columns_had_been_made_by_hand(make):
    X, y = table()
    fitted, price = make().fit(X, targets(make, y)), X["price"]
    by_hand = np.column_stack(
        [
            price.fillna(price.mean()), price.isna(),
            *(X["colour"] == c for c in but_most_frequent(X["colour"])), X["colour"].isna(),
            (X["day"] - X["day"].mean()) / pd.Timedelta(days=1),
            *(X["shop"] == c for c in but_most_frequent(X["shop"])),
        ]
    ).astype(float)  # fmt: skip
    plain = make().fit(by_hand, targets(make, y))
    assert plain.table_format_ is None
    np.testing.assert_allclose(answers(fitted, X), answers(plain, by_hand), rtol=1e-6, atol=1e-9)


@BOTH
@pytest.mark.parametrize("words", [("no", "yes"), ("yes", None)])
def test_two_categories_are_one_number(make, words):
    X, y = table()
    flag = np.resize([1, 0, 0, 1, 1], N).astype(bool)
    told = make().fit(X[["price"]].assign(flag=np.where(flag, *words)), targets(make, y))
    assert told.table_format_.width == 3  # price, whether it is missing, and one for both words
    price = X["price"]
    by_hand = np.column_stack([price.fillna(price.mean()), price.isna(), flag]).astype(float)
    plain = make().fit(by_hand, targets(make, y))
    rows = X[["price"]].assign(flag=np.where(flag, *words))
    np.testing.assert_allclose(answers(told, rows), answers(plain, by_hand), rtol=1e-6, atol=1e-9)
    # a third word is as likely either as they were in fit: the rarer has the number
    strange = rows[:1].assign(flag="perhaps")
    assert told.table_format_.numbers(strange)[0, 2] == pytest.approx(1 - flag.mean())


@BOTH
def test_what_fit_did_not_see_is_answered(make):
    X, y = table()
    fitted = make().fit(X, targets(make, y))
    strange = X[:3].assign(
        colour=["violet", None, np.nan], shop=[17, None, 0], day=[pd.NaT] * 3, price=np.nan
    )
    assert np.isfinite(answers(fitted, strange)).all()
    # a category that is not known is as likely any as it was in fit
    violet = fitted.table_format_.numbers(strange[:1])[0, 2:5]
    counts = X["colour"].value_counts()
    shares = [counts[c] / N for c in but_most_frequent(X["colour"])]
    np.testing.assert_allclose(violet, [*shares, 1 / N])


@BOTH
def test_gaps_in_arrays(make):
    X, y = load_iris(return_X_y=True)
    X, gaps = X[::5].copy(), X[::5].copy()
    gaps[::7, 0], gaps[:, 2] = np.nan, np.nan
    fitted = make().fit(gaps, y[::5])
    assert np.isfinite(answers(fitted, gaps)).all()
    # of a column that was empty nothing is known
    filled = gaps.copy()
    filled[:, 2] = X[:, 2]
    elsewhere = filled.copy()
    elsewhere[:, 2] += 100
    np.testing.assert_allclose(answers(fitted, elsewhere), answers(fitted, filled), atol=1e-12)
    # gaps come later only: they are filled with the mean
    whole = make().fit(X[:, :2], y[::5])
    np.testing.assert_array_equal(whole.predict(gaps[1:7, :2]), whole.predict(X[1:7, :2]))
    mean = np.array([[X[:, 0].mean(), 3.0]])
    for gap in ([[np.nan, 3.0]], [[None, 3.0]]):
        np.testing.assert_allclose(answers(whole, gap), answers(whole, mean))
    with pytest.raises(ValueError, match="NaN or another missing value in every cell"):
        make().fit(np.full((6, 2), np.nan), y[:6])


@BOTH
@pytest.mark.parametrize("empty", [[None] * N, [np.nan] * N, [pd.NaT] * N])
def test_a_column_with_nothing_in_it(make, empty):
    X, y = table()
    fitted = make().fit(X.assign(empty=empty), targets(make, y))
    without = make().fit(X, targets(make, y))
    np.testing.assert_allclose(answers(fitted, X.assign(empty=empty)), answers(without, X))
    if empty[0] is None:
        np.testing.assert_allclose(answers(fitted, X.assign(empty="word")), answers(without, X))


@BOTH
def test_many_categories(make):
    X, y = table()
    names = np.array([f"name {i}" for i in range(N)])
    often = np.where(np.arange(N) < 20, np.array([f"kind {i % 10}" for i in range(N)]), names)
    fitted = make().fit(X.assign(name=names, often=often), targets(make, y))
    name, kind = fitted.table_format_.columns[-2:]
    assert name.width == 0 and name.values == ()
    assert kind.width == 8 and all(value.startswith("kind") for value in kind.values)
    assert sum(kind.shares) + kind.rest == pytest.approx(1)
    new = X.assign(name="who", often="what")
    assert np.isfinite(answers(fitted, new)).all()


@BOTH
def test_wrong_columns_are_refused(make):
    X, y = table()
    fitted = make().fit(X, targets(make, y))
    for wrong, told in (
        (X[["price", "colour"]], "feature names should match"),
        (X[["colour", "price", "day", "shop"]], "same order"),
        (X.rename(columns={"price": "cost"}), "unseen at fit time"),
        (X.to_numpy()[:, :3], "3 features"),
        (X.assign(price="dear"), "'price' of X held numbers"),
        (X.assign(day=5.0), "'day' of X held dates"),
    ):
        with pytest.raises(ValueError, match=told), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an array has no names
            fitted.predict(wrong)
    with pytest.raises(ValueError, match="words and others"):
        make().fit(X.assign(price=["cheap", *X["price"][1:]]), targets(make, y))
    with pytest.raises(ValueError, match="infinity"):
        make().fit(X.assign(price=[np.inf, *X["price"][1:]]), targets(make, y))


@BOTH
def test_a_failed_fit_changes_nothing(make):
    X, y = table()
    fitted = make().fit(X, targets(make, y))
    before = answers(fitted, X)
    with pytest.raises(ValueError, match="infinity"):
        fitted.fit(X[["price"]].assign(price=np.inf), targets(make, y))
    with pytest.raises(ValueError, match="held numbers"):
        fitted.partial_fit(X.assign(price="dear"), targets(make, y))
    np.testing.assert_array_equal(answers(fitted, X), before)


@BOTH
def test_plain_numbers_learn_no_format(make):
    X, y = load_iris(return_X_y=True)
    X, y = X[::5], y[::5]
    plain = make().fit(X, y)
    assert plain.table_format_ is None
    for same in (pd.DataFrame(X), X.astype(object), X.tolist()):
        fitted = make().fit(same, y)
        assert fitted.table_format_ is None
        np.testing.assert_array_equal(answers(fitted, same), answers(plain, X))


@BOTH
def test_weights_are_rows(make):
    X, y = table()
    w = np.arange(N) % 3
    X.loc[w == 0, "colour"] = "a colour of no weight"
    once = make().fit(X, targets(make, y), sample_weight=w)
    rows = np.repeat(np.arange(N), w)
    again = make().fit(X.iloc[rows], targets(make, y)[rows])
    assert once.table_format_.columns[1].values == again.table_format_.columns[1].values
    np.testing.assert_allclose(answers(once, X), answers(again, X), rtol=1e-6, atol=1e-9)


@BOTH
def test_further_rows_equal_a_fit_on_all(make):
    X, y = table()
    X.loc[20:, "colour"] = "new"  # further rows have categories of their own
    y = targets(make, y)
    whole = make().fit(X, y)
    by_parts = make().partial_fit(X[:10], y[:10]).partial_fit(X[10:], y[10:])
    assert by_parts.table_format_ == whole.table_format_
    np.testing.assert_allclose(answers(by_parts, X), answers(whole, X), rtol=1e-9, atol=1e-12)
    numbers = X[["price"]].to_numpy()  # plain at first, with gaps later
    order = [*range(10, N), *range(10)]
    by_parts = make().fit(numbers[10:], y[10:]).partial_fit(numbers[:10], y[:10])
    whole = make().fit(numbers[order], y[order])
    assert by_parts.table_format_ == whole.table_format_ is not None
    np.testing.assert_allclose(answers(by_parts, numbers), answers(whole, numbers))


def test_forgetting_a_class_forgets_its_categories():
    X, _ = table()
    y = np.where(np.arange(N) < 20, X["colour"] == "red", 2)
    X.loc[20:, "colour"] = "of two only"
    clf = InContextClassifier().fit(X, y).forget(2)
    rest = InContextClassifier().fit(X[:20], y[:20])
    assert clf.table_format_ == rest.table_format_
    np.testing.assert_array_equal(clf.predict_proba(X), rest.predict_proba(X))


@BOTH
def test_pickles_clones_and_scores(make):
    X, y = table()
    y = targets(make, y)
    fitted = make().fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(answers(again, X), answers(fitted, X))
    assert again.table_format_ == fitted.table_format_
    assert not hasattr(clone(fitted), "table_format_")
    assert np.isfinite(cross_val_score(make(), X, y, cv=3, error_score="raise")).all()
    explained = fitted.explain(X[:2])
    assert len(explained) == 6


@BOTH
def test_after_numbers_a_table_and_the_other_way_round(make):
    X, y = table()
    y = targets(make, y)
    plain = np.random.default_rng(0).normal(size=(N, 3))
    fresh = make().fit(plain, y)
    used = make().fit(X, y).fit(plain, y)
    np.testing.assert_array_equal(answers(used, plain), answers(fresh, plain))
    np.testing.assert_array_equal(answers(used.fit(X, y), X), answers(make().fit(X, y), X))


@BOTH
def test_polars(make):
    polars = pytest.importorskip("polars")
    X, y = table()
    X = X[["price", "colour"]]
    frame = polars.DataFrame({"price": X["price"].tolist(), "colour": X["colour"].tolist()})
    ours, theirs = (make().fit(rows, targets(make, y)) for rows in (X, frame))
    np.testing.assert_allclose(answers(theirs, frame), answers(ours, X))


@BOTH
def test_tags_say_so_only_where_it_is_so(make):
    assert get_tags(make()).input_tags.allow_nan
    assert get_tags(make(load_meta_init(make._for_any_table))).input_tags.allow_nan
    assert not get_tags(make(encoder="identity")).input_tags.allow_nan
    assert not get_tags(make("no such file")).input_tags.allow_nan
    X, y = table()
    with pytest.raises(ValueError, match=r"is no number|NaN"):
        make(encoder="identity").fit(X[["price", "colour"]], targets(make, y))


def answers_of_tasks(many, X, groups):
    classifies = hasattr(many, "predict_proba")
    return many.predict_proba(X, groups=groups) if classifies else many.predict(X, groups=groups)


@pytest.mark.parametrize("given", [False, True])
@BOTH
def test_taskwise(make, given, tmp_path):
    X, y = table(60)
    y, groups = targets(make, y), np.arange(60) % 3
    inner = make(load_meta_init(make._for_any_table) if given else None)
    of = TaskwiseClassifier if make is InContextClassifier else TaskwiseRegressor
    many = of(inner, unseen="error").fit(X, y, groups=groups)
    told, rows = answers_of_tasks(many, X, groups), groups == 1
    alone = many.task_estimator(1)
    np.testing.assert_allclose(answers(alone, X[rows]), told[rows], rtol=1e-4, atol=1e-5)
    assert (alone.table_format_ == getattr(many._template, "table_format_", None)) == given
    with pytest.raises(ValueError, match=r"feature names|features"):
        many.predict(X[["price"]], groups=groups)
    if given:
        many.save_tasks(tmp_path / "tasks.safetensors")
        loaded = of(inner, unseen="error").load_tasks(tmp_path / "tasks.safetensors")
        np.testing.assert_array_equal(answers_of_tasks(loaded, X, groups), told)
        again = many.partial_fit(X[rows], y[rows], groups=groups[rows])
        np.testing.assert_allclose(answers_of_tasks(again, X, groups), told, rtol=1e-4, atol=1e-5)


def test_a_format_survives_as_plain_values():
    X = pd.DataFrame({"name": [f"{i // 2}" for i in range(24)]})
    looked_up, own = TableFormat.of(X), TableFormat.of(X, looks_up=False)
    assert looked_up.sizes == [12] and own.sizes == [] and own.width == 8
    assert TableFormat.from_json(looked_up.to_json()) == looked_up
    assert TableFormat.from_json(own.to_json()) == own
    three = TableFormat.of(X[:6], looks_up=False)
    assert three.width == 2 and TableFormat.from_json(three.to_json()) == three
    odd = own.to_json()
    odd["columns"][0]["one_less"] = True  # there are others, which must not look like the first
    with pytest.raises(ValueError, match="cannot be so"):
        TableFormat.from_json(odd)
