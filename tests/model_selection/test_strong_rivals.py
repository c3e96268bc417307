"""Rivals that are given statistics of the task: seeds, sharing, pickling, and their strength."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import check_estimator

from fewshot_sklearn import (
    PastRows,
    PooledClassifier,
    PooledMixedRegressor,
    PooledRegressor,
    PooledStatisticsClassifier,
    PooledStatisticsRegressor,
    ProtoNetClassifier,
    compare_few_shot,
)

ALL = [PooledMixedRegressor, PooledStatisticsClassifier, PooledStatisticsRegressor]
QUICK = {
    PooledMixedRegressor: {},
    PooledStatisticsRegressor: {"max_rows": 600, "n_shot": 6},
    PooledStatisticsClassifier: {"max_rows": 600, "n_shot": 6},
}


def waves(n_tasks, seed, n=20):
    """(X, y, groups): one bent function of two features; tasks differ in level and in a slope."""
    rng = np.random.default_rng(seed)
    X, groups = rng.uniform(-2, 2, (n_tasks * n, 2)), np.repeat(np.arange(n_tasks), n) + 1000 * seed
    level, slope = rng.normal(size=(2, n_tasks)).repeat(n, 1)
    y = 2 * np.sin(3 * X[:, 0]) * X[:, 1] + 2 * level + slope * X[:, 0]
    return X, y + 0.2 * rng.normal(size=len(y)), groups


@pytest.fixture(scope="module")
def known():
    X, y, groups = waves(40, 0)
    return X, y, groups


def of_kind(kind, y):
    return np.where(y > 0, "up", "down") if kind is PooledStatisticsClassifier else y


@pytest.mark.parametrize("kind", ALL)
def test_scikit_learns_checks(kind):
    check_estimator(kind())


@pytest.mark.parametrize("kind", ALL)
def test_clones_share_what_is_learned_and_pickles_keep_it(known, kind):
    X, y, groups = known
    rows, (X_new, y_new, _) = PastRows(X, of_kind(kind, y), groups), waves(1, 1)
    y_new = of_kind(kind, y_new)
    one = kind(past=rows, **QUICK[kind]).fit(X_new[:5], y_new[:5])
    n_kept = len(rows._kept)
    again = clone(one).fit(X_new[:5], y_new[:5])
    assert len(rows._kept) == n_kept
    told = one.predict(X_new)
    np.testing.assert_array_equal(again.predict(X_new), told)
    other = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(other.predict(X_new), told)
    np.testing.assert_array_equal(clone(other).fit(X_new[:5], y_new[:5]).predict(X_new), told)


@pytest.mark.parametrize("kind", ALL[1:])
def test_seeds_repeat(known, kind):
    X, y, groups = known
    X_new, y_new, _ = waves(1, 1)
    y, y_new = of_kind(kind, y), of_kind(kind, y_new)

    def told(seed):
        model = kind(past=(X, y, groups), random_state=seed, **QUICK[kind])
        model.fit(X_new[:5], y_new[:5])
        ask = model.predict if kind is PooledStatisticsRegressor else model.predict_proba
        return ask(X_new)

    np.testing.assert_array_equal(told(0), told(0))
    assert np.abs(told(0) - told(1)).max() > 0


def errors(model, tasks, n_shot):
    X, y, groups = tasks
    out = []
    for g in np.unique(groups):
        X_one, y_one = X[groups == g], y[groups == g]
        fitted = clone(model).fit(X_one[:n_shot], y_one[:n_shot])
        out.append(np.square(fitted.predict(X_one[n_shot:]) - y_one[n_shot:]).mean())
    return np.mean(out)


def test_boosting_beats_what_is_linear_where_rows_bend(margin):
    rows, new = PastRows(*waves(200, 0)), waves(40, 1)
    boosting = PooledStatisticsRegressor(past=rows, n_shot=8, max_rows=8000)
    linear = [PooledRegressor(past=rows, with_task=True), PooledMixedRegressor(past=rows)]
    for n_shot in (1, 5):
        ours = errors(boosting, new, n_shot)
        best = min(errors(model, new, n_shot) for model in linear)
        margin.below(ours, 0.85 * best, f"{n_shot} labels")


def test_a_mixed_model_uses_slopes_that_random_intercepts_cannot(margin):
    rng = np.random.default_rng(0)
    X, task = rng.normal(size=(2000, 2)), np.repeat(np.arange(100), 20)
    y = (X * rng.normal(size=(100, 2))[task]).sum(1) + 0.1 * rng.normal(size=2000)
    old = task < 70
    rows, new = PastRows(X[old], y[old], task[old]), (X[~old], y[~old], task[~old])
    ours = errors(PooledMixedRegressor(past=rows), new, 4)
    margin.below(ours, 0.3 * errors(PooledRegressor(past=rows, with_task=True), new, 4))


def test_classes_that_tasks_turn_around_are_read_off_the_labelled_rows(margin):
    rng = np.random.default_rng(0)
    X, task = rng.normal(size=(3000, 2)), np.repeat(np.arange(150), 20)
    y = np.where(X[:, 0] * rng.choice([-1, 1], 150)[task] > 0, "up", "down")
    old = task < 110
    rows = PastRows(X[old], y[old], task[old])
    ours = PooledStatisticsClassifier(past=rows, n_shot=8, max_rows=8000)
    shares = {"statistics": [], "pooled": []}
    for g in range(110, 150):
        X_one, y_one = X[task == g], y[task == g]
        for name, model in (("statistics", ours), ("pooled", PooledClassifier(past=rows))):
            fitted = clone(model).fit(X_one[:5], y_one[:5])
            shares[name].append(fitted.score(X_one[5:], y_one[5:]))
    margin.above(np.mean(shares["statistics"]), np.mean(shares["pooled"]) + 0.2)


def test_any_estimator_may_be_given_the_statistics(known):
    X_new, y_new, _ = waves(1, 1)
    X, y, groups = known
    both = (X, np.stack([y, -y], 1), groups)
    for model in (LinearRegression(), HistGradientBoostingRegressor(max_iter=5)):
        reg = PooledStatisticsRegressor(model, past=both, max_rows=500)
        told = reg.fit(X_new[:4], np.stack([y_new, -y_new], 1)[:4]).predict(X_new)
        assert told.shape == (20, 2) and np.corrcoef(told.T)[0, 1] < -0.8
    clf = PooledStatisticsClassifier(
        RandomForestClassifier(5), past=(X, y > 0, groups), max_rows=500
    )
    assert clf.fit(X_new[:4], y_new[:4] > 0).predict_proba(X_new).shape == (20, 2)


def test_a_search_chooses_by_tasks_held_out(known):
    """Rows of one task are never on both sides of its splits."""
    X, y, _ = known

    class Watched(GroupKFold):
        def split(self, X, y=None, groups=None):
            for train, test in super().split(X, y, groups):
                seen.append(set(groups[train]) & set(groups[test]))
                yield train, test

    seen = []
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=Watched(3))
    reg = PooledStatisticsRegressor(search, past=known, max_rows=300).fit(X[:3], y[:3])
    assert seen == [set()] * 3 and reg.estimator_.best_params_["alpha"] in (0.1, 10.0)


def test_labels_that_the_past_lacks_have_no_share():
    X = np.random.default_rng(0).normal(size=(60, 2))
    past = X, np.where(X[:, 0] > 0, "a", "c"), np.repeat(np.arange(6), 10)
    clf = PooledStatisticsClassifier(past=past, max_rows=200).fit(X[:3], ["b", "a", "c"])
    assert clf.classes_.tolist() == ["a", "b", "c"]
    told = clf.predict_proba(X)
    assert (told[:, 1] == 0).all()
    np.testing.assert_allclose(told.sum(1), 1)
    with pytest.raises(ValueError, match="two classes or more"):
        PooledStatisticsClassifier(past=(X, ["a"] * 60)).fit(X[:2], ["a", "b"])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("groups", [None, np.arange(40)])
def test_a_past_without_tasks_of_two_rows_will_do(kind, groups):
    X, y, _ = waves(2, 0)
    model = kind(past=(X, of_kind(kind, y), groups), **QUICK[kind])
    labels = of_kind(kind, np.array([1.0, -1.0]))
    assert len(model.fit(X[:2], labels).predict(X)) == 40


@pytest.mark.parametrize(
    ("kind", "change", "match"),
    [
        (PooledStatisticsRegressor, {"n_shot": 0}, "n_shot must be"),
        (PooledStatisticsRegressor, {"max_rows": 0.5}, "max_rows must be"),
        (PooledStatisticsRegressor, {"max_rows": None}, "max_rows must be"),
        (PooledStatisticsRegressor, {"estimator": LogisticRegression()}, "estimator must be"),
        (PooledStatisticsClassifier, {"estimator": Ridge()}, "estimator must be"),
        (PooledStatisticsClassifier, {"balanced": 2}, "balanced must be"),
        (PooledStatisticsClassifier, {"random_state": -1}, "random_state must be"),
        (PooledMixedRegressor, {"random_state": "seed"}, "random_state must be"),
        (PooledMixedRegressor, {"past": np.zeros((3, 2))}, "past must be"),
        (PooledStatisticsClassifier, {"past": ([[0.0]], ["a"])}, "past have 1"),
    ],
)
def test_what_may_not_be_is_said(kind, change, match):
    y = ["a", "b"] if kind is PooledStatisticsClassifier else [0.0, 1.0]
    with pytest.raises(ValueError, match=match):
        kind(**change).fit([[0.0, 1.0], [1.0, 2.0]], y)


# ---------------------------------------------------------------- in compare_few_shot
def test_strong_rivals_stand_beside_where_the_past_is_given(known):
    X, y, groups = waves(10, 1)
    table = compare_few_shot(
        Ridge(), X, y, groups, past=known, n_shots=(2, 5), n_way=None, n_query=8, n_episodes=6
    )
    assert list(dict.fromkeys(table.estimator)) == [
        "Ridge", "ridge", "random forest", "Gaussian process", "mean",
        "pooled", "pooled, with task", "mixed model", "pooled network", "pooled boosting",
    ]  # fmt: skip
    assert (table.failures == 0).all() and np.isfinite(table["mean"]).all()


def test_the_default_ones_are_what_they_were(known):
    X, y, groups = waves(10, 1)
    table = compare_few_shot(
        Ridge(), X, y, groups, past=known, baselines="default", n_shots=(2,), n_way=None,
        n_query=8, n_episodes=2,
    )  # fmt: skip
    assert list(dict.fromkeys(table.estimator)) == [
        "Ridge", "ridge", "random forest", "Gaussian process", "mean", "pooled", "pooled, with task"
    ]  # fmt: skip


def test_strong_rivals_of_classes_and_of_images():
    X, y = load_digits(return_X_y=True)
    keep = y < 3
    X, y, task = (
        X[keep].reshape(-1, 8, 8),
        np.array(list("abc"))[y[keep]],
        np.arange(keep.sum()) % 6,
    )
    old, few = task < 4, {"n_shots": (1, 3), "n_way": 3, "n_query": 4, "n_episodes": 2}
    table = compare_few_shot(
        ProtoNetClassifier(), X[~old], y[~old], task[~old], past=(X[old], y[old], task[old]), **few
    )
    assert list(dict.fromkeys(table.estimator))[-5:] == [
        "in-context", "pooled", "pooled, with task", "pooled network", "pooled boosting"
    ]  # fmt: skip
    assert table[table.estimator.str.startswith("pooled")]["mean"].min() > 0.8
    # labels of their own: nothing to pool
    table = compare_few_shot(
        KNeighborsClassifier(1), X[~old].reshape(-1, 64), y[~old], task[~old],
        past=(X[old].reshape(-1, 64), np.char.add(y[old], "2"), task[old]), **few,
    )  # fmt: skip
    assert list(dict.fromkeys(table.estimator))[-2:] == ["prior", "in-context"]


def test_many_labelled_rows_are_not_read_in_context():
    X, _, _ = waves(3, 0, n=400)
    y = np.arange(len(X)) % 2
    few = {"n_way": 2, "n_query": 4, "n_episodes": 2}
    for n_shot, there in ((150, True), (151, False)):
        table = compare_few_shot(ProtoNetClassifier(), X, y, n_shots=(n_shot,), **few)
        assert ("in-context" in set(table.estimator)) is there


def test_baselines_of_another_name_are_refused(known):
    X, y = load_digits(return_X_y=True)
    with pytest.raises(ValueError, match="'default', 'strong'"):
        compare_few_shot(DummyClassifier(), X, y, baselines="stronger")
