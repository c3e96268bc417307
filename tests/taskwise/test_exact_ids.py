"""No task is taken for another: ids of any kind of number, and times with and without a zone."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB

from fewshot_sklearn import TaskwiseClassifier, TaskwiseRegressor

IDS = 2**53 + np.arange(6).repeat(4)
INEXACT = "holds floats such as"


@pytest.fixture(params=["adapts", "any"])
def inner(request, trained):
    return trained["RidgeHeadRegressor"] if request.param == "adapts" else Ridge()


def rows(n=24):
    rng = np.random.default_rng(0)
    return rng.uniform(-5, 5, (n, 1)), rng.normal(size=n)


@pytest.fixture
def fitted(inner):
    return TaskwiseRegressor(inner, unseen="error").fit(*rows(), IDS)


@pytest.mark.parametrize("kind", ["uint64", "object", "Int64", "UInt64"])
def test_the_same_integers_are_the_same_tasks(fitted, kind):
    X, y = rows()
    ids = pd.Series(IDS).astype(kind)
    np.testing.assert_array_equal(fitted.predict(X, ids), fitted.predict(X, IDS))
    expected = fitted.predict(X, IDS)
    fitted.partial_fit(X[:8], y[:8], ids[:8])
    assert fitted.tasks_.tolist() == np.unique(IDS).tolist() and fitted.tasks_.dtype == np.int64
    np.testing.assert_allclose(fitted.predict(X, IDS), expected, rtol=1e-5, atol=1e-5)
    fitted.forget(ids[:1])
    assert fitted.tasks_.tolist() == np.unique(IDS)[1:].tolist()


def test_floats_that_may_be_several_ids_are_refused_at_every_entrance(fitted, inner):
    X, y = rows()
    floats, known = IDS.astype(float), fitted.tasks_.copy()
    for call in (
        lambda: fitted.predict(X, floats),
        lambda: fitted.score(X, y, floats),
        lambda: fitted.partial_fit(X, y, floats),
        lambda: fitted.forget([float(2**53 + 2)]),
        lambda: fitted.forget(float(2**53 + 2)),
        lambda: fitted.task_estimator(float(2**53 + 2)),
        lambda: TaskwiseRegressor(inner).fit(X, y, floats),
        lambda: TaskwiseRegressor(inner, task=1).fit(np.c_[X, floats], y),
        lambda: TaskwiseRegressor(inner, task=1).fit(np.c_[X, floats].tolist(), y),
    ):
        with pytest.raises(ValueError, match=INEXACT):
            call()
    np.testing.assert_array_equal(fitted.tasks_, known)


def test_a_frame_made_an_array_of_floats_is_refused(inner):
    X, y = rows()
    table = pd.DataFrame({"x": X[:, 0], "customer": IDS})
    fitted = TaskwiseRegressor(inner, task="customer", unseen="error").fit(table, y)
    with pytest.raises(ValueError, match=INEXACT):
        fitted.predict(table.to_numpy())
    exact = table.astype(object).to_numpy()
    np.testing.assert_array_equal(fitted.predict(table), fitted.predict(exact))


@pytest.mark.parametrize("more", [3.0, 3.5, np.uint64(2**63 + 5), True])
def test_more_ids_of_another_kind_of_number_change_no_task(fitted, more):
    X, y = rows()
    expected = fitted.predict(X, IDS)
    fitted.partial_fit(X[:4], y[:4], np.full(4, more))
    assert fitted.tasks_.tolist() == sorted([*np.unique(IDS).tolist(), more.item()
                                             if hasattr(more, "item") else more])  # fmt: skip
    np.testing.assert_array_equal(fitted.predict(X, IDS), expected)
    assert fitted.predict(X[:1], [more]).shape == (1,)
    fitted.forget([more])
    assert fitted.tasks_.tolist() == np.unique(IDS).tolist()
    np.testing.assert_array_equal(fitted.predict(X, IDS), expected)


def test_classes_of_other_kinds_of_number_stay_apart(trained):
    X = np.random.default_rng(0).normal(size=(8, 64))
    for inner in (trained["ProtoNetClassifier"], GaussianNB()):
        clf = TaskwiseClassifier(inner).fit(X, 2**53 + np.arange(8) % 2, np.repeat([0, 1], 4))
        clf.partial_fit(X[:4], np.array([0.0, 1.0, 0.0, 1.0]), [2] * 4)
        clf.partial_fit(X[:4], np.array([2, 3, 2, 3], np.uint64), [3] * 4)
        assert clf.classes_.tolist() == [0, 1, 2, 3, 2**53, 2**53 + 1]
        assert set(clf.predict(X[:4], [0] * 4).tolist()) <= {2**53, 2**53 + 1}
        assert clf.predict_proba(X[:4], [3] * 4)[:, [2, 3]].sum(1) == pytest.approx(1)


NAIVE = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(6).repeat(4), "D")
TIMES = {
    "naive": NAIVE,
    "with a zone": NAIVE.tz_localize("CET"),
    "dates": np.array([t.date() for t in NAIVE], dtype=object),
}


@pytest.mark.parametrize("known", TIMES)
@pytest.mark.parametrize("asked", TIMES)
def test_times_of_another_kind_are_an_error(inner, known, asked):
    X, y = rows()
    fitted = TaskwiseRegressor(inner, unseen="prior").fit(X, y, TIMES[known])
    if known == asked:
        assert fitted.predict(X, TIMES[asked]).shape == (24,)
        return
    for call in (
        lambda: fitted.predict(X, TIMES[asked]),
        lambda: fitted.partial_fit(X, y, TIMES[asked]),
    ):
        with pytest.raises(ValueError, match="of the kind that fit saw"):
            call()
    with pytest.raises(ValueError, match="There are no tasks"):
        fitted.forget(TIMES[asked][:1])
    assert len(fitted.tasks_) == 6


def test_zones_may_differ(inner):
    X, y = rows()
    fitted = TaskwiseRegressor(inner, unseen="error").fit(X, y, TIMES["with a zone"])
    elsewhere = TIMES["with a zone"].tz_convert("UTC")
    np.testing.assert_array_equal(
        fitted.predict(X, elsewhere), fitted.predict(X, TIMES["with a zone"])
    )
    assert isinstance(TIMES["dates"][0], date)


@pytest.mark.parametrize("kind", [TaskwiseRegressor, TaskwiseClassifier])
@pytest.mark.parametrize("own", [True, False])
def test_a_task_without_weight_is_named(kind, own):
    X, y = rows()
    any_other = Ridge() if kind is TaskwiseRegressor else GaussianNB()
    y = y if kind is TaskwiseRegressor else np.arange(24) % 2
    who = np.repeat(["ann", "bob", "eve"], 8)
    for estimator in (None, any_other) if own else (any_other,):
        with pytest.raises(ValueError, match=r"all are zero of \['bob'\]"):
            kind(estimator).fit(X, y, who, sample_weight=(who != "bob").astype(float))


def test_a_file_is_the_same_each_time(trained, tmp_path):
    fitted = TaskwiseRegressor(trained["RidgeHeadRegressor"]).fit(*rows(), IDS)
    written = set()
    for i in range(6):
        fitted.save_tasks(tmp_path / str(i))
        written.add((tmp_path / str(i)).read_bytes())
    assert len(written) == 1
    again = TaskwiseRegressor(trained["RidgeHeadRegressor"]).load_tasks(tmp_path / "0")
    np.testing.assert_array_equal(again.predict(rows()[0], IDS), fitted.predict(rows()[0], IDS))
