"""Quantiles over past tasks keep their promise, and MAPIE takes our estimators."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

from fewshot_sklearn import ProtoNetClassifier, RidgeHeadRegressor
from fewshot_sklearn.trust._conformal import TaskQuantiles, class_scores, class_sets, intervals


def mass_up_to(scores, tasks, limit):
    """The definition: every past task's scores share 1 / (K + 1)."""
    names, sizes = np.unique(tasks, return_counts=True)
    size = dict(zip(names, sizes, strict=True))
    shares = [1 / ((len(names) + 1) * size[t]) for t in tasks]
    return sum(w for w, s in zip(shares, scores, strict=True) if s <= limit)


@pytest.mark.parametrize("level", [0.05, 0.3, 0.5, 0.8, 0.9])
def test_quantile_is_the_smallest_score_with_enough_mass(level):
    rng = np.random.default_rng(0)
    tasks = rng.integers(0, 15, 60)
    scores = rng.normal(size=60).round(1)  # with ties
    found = TaskQuantiles.from_scores(scores, tasks).quantile(level)
    enough = [s for s in scores if mass_up_to(scores, tasks, s) >= level - 1e-9]
    assert found == min(enough)


def test_tasks_of_a_single_score_are_split_conformal_prediction():
    scores = np.random.default_rng(0).normal(size=99)
    known = TaskQuantiles.from_scores(scores, np.arange(99))
    for level in (0.5, 0.9, 0.95, 0.99):  # the ceil((n + 1) level)-th smallest
        assert known.quantile(level) == np.sort(scores)[round(100 * level) - 1]
    assert known.quantile(0.995) == np.inf


def test_many_scores_are_thinned_and_round_levels_stay_exact():
    rng = np.random.default_rng(0)
    tasks, scores = rng.integers(0, 300, 40_000), rng.normal(size=40_000)
    known = TaskQuantiles.from_scores(scores, tasks)
    assert len(known.values) <= 2001
    order = np.argsort(scores)
    sizes = np.bincount(tasks)
    mass = np.cumsum(1 / (301 * sizes[tasks[order]]))
    for level in (0.1, 0.5, 0.9, 0.95, 0.99):
        assert known.quantile(level) == scores[order][np.searchsorted(mass, level - 1e-12)]
    odd = 0.90037  # between two steps: cautious
    exact = scores[order][np.searchsorted(mass, odd)]
    assert exact <= known.quantile(odd) <= scores[order][np.searchsorted(mass, odd + 1 / 2000)]


def test_p_value_is_the_mass_at_least_as_large():
    rng = np.random.default_rng(0)
    tasks, scores = rng.integers(0, 12, 50), rng.normal(size=50)
    known = TaskQuantiles.from_scores(scores, tasks)
    for limit in (-9.0, -1.0, 0.1, float(scores[3]), 9.0):
        below = mass_up_to(scores, tasks, np.nextafter(limit, -np.inf))
        assert known.p_value(limit) == pytest.approx(1 - below)
    assert known.p_value(9.0) == pytest.approx(1 / (len(np.unique(tasks)) + 1))


def test_coverage_holds_for_new_tasks_and_pooling_the_rows_would_break_it():
    """Tasks differ in scale and those of large scale have many rows; what counts is a new task."""
    rng = np.random.default_rng(0)

    def a_task():
        scale = rng.lognormal(sigma=1.5)
        n = 100 if scale < 1 else 4
        return np.abs(scale * rng.normal(size=n))

    held, held_pooled = [], []
    for _ in range(600):
        past = [a_task() for _ in range(25)]
        names = np.repeat(np.arange(25), [len(t) for t in past])
        limit = TaskQuantiles.from_scores(np.concatenate(past), names).quantile(0.8)
        new = a_task()
        held.append((new <= limit).mean())
        held_pooled.append((new <= np.quantile(np.concatenate(past), 0.8)).mean())
    assert 0.78 < np.mean(held) < 0.88
    assert np.mean(held_pooled) < 0.7


def test_what_cannot_be_promised_is_infinite():
    known = TaskQuantiles.from_scores([0.1, 0.2, 0.3], ["a", "b", "c"])
    assert (known.quantile(0.75), known.quantile(0.76)) == (0.3, np.inf)
    never = TaskQuantiles.from_scores([0.1, np.inf], [0, 1])
    assert never.quantile(0.5) == np.inf
    assert TaskQuantiles.from_scores([0.1], [0]).p_value(5.0) == 0.5


@pytest.mark.parametrize("scores", [[], [1.0, np.nan]])
def test_scores_that_are_none(scores):
    with pytest.raises(ValueError, match="scores must be at least one number"):
        TaskQuantiles.from_scores(scores, np.zeros(len(scores)))


def test_sets_and_intervals():
    proba = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
    scores = class_scores(np.log(proba), np.array([1, -1]))
    assert scores[0] == pytest.approx(0.8) and scores[1] == np.inf
    found = class_sets(np.log(proba), 0.7, allow_empty=True)
    assert found.tolist() == [[True, False, False], [True, True, False]]
    none = class_sets(np.log(proba), 0.1, allow_empty=True)
    assert not none.any()
    assert class_sets(np.log(proba), 0.1, allow_empty=False)[:, 0].all()
    assert class_sets(np.log(proba), np.inf, allow_empty=True).all()
    ends = intervals(np.array([[1.0, 2.0]]), np.array([[0.5, 1.0]]), np.array([2.0, 3.0]))
    assert ends.tolist() == [[[0.0, 2.0], [-1.0, 5.0]]]


# ---------------------------------------------------------------- MAPIE
def test_mapie_takes_a_regressor_fitted_before():
    mapie = pytest.importorskip("mapie.regression")
    X, y = load_diabetes(return_X_y=True)
    reg = RidgeHeadRegressor(alpha=1e-3).fit(X[:150], y[:150])
    conformal = mapie.SplitConformalRegressor(reg, confidence_level=0.9, prefit=True)
    mean, ends = conformal.conformalize(X[150:300], y[150:300]).predict_interval(X[300:])
    np.testing.assert_allclose(mean, reg.predict(X[300:]))
    # the same as by hand: residuals of the 150 rows, each a task of its own
    limit = TaskQuantiles.from_scores(
        np.abs(y[150:300] - reg.predict(X[150:300])), np.arange(150)
    ).quantile(0.9)
    np.testing.assert_allclose(ends[:, 1, 0] - mean, limit)


def test_mapie_fits_our_regressors_itself():
    mapie = pytest.importorskip("mapie.regression")
    X, y = load_diabetes(return_X_y=True)
    split = mapie.SplitConformalRegressor(RidgeHeadRegressor(), prefit=False)
    split.fit(X[:150], y[:150]).conformalize(X[150:300], y[150:300])
    cross = mapie.CrossConformalRegressor(RidgeHeadRegressor(), cv=5, random_state=0)
    cross.fit_conformalize(X[:300], y[:300])
    for conformal in (split, cross):
        ends = conformal.predict_interval(X[300:])[1][..., 0]
        held = (ends[:, 0] <= y[300:]) & (y[300:] <= ends[:, 1])
        assert 0.8 < held.mean() < 1


@pytest.mark.parametrize("prefit", [True, False])
def test_mapie_takes_a_classifier(prefit):
    mapie = pytest.importorskip("mapie.classification")
    X, y = load_digits(return_X_y=True)
    X = X / 16  # squared distances of raw pixels leave no doubt, and no doubt no small sets
    names = np.array([f"digit {label}" for label in range(10)])
    y = names[y]
    clf = ProtoNetClassifier()
    if prefit:
        clf.fit(X[:100], y[:100])
    conformal = mapie.SplitConformalClassifier(clf, confidence_level=0.9, prefit=prefit)
    if not prefit:
        conformal.fit(X[:100], y[:100])
    conformal.conformalize(X[100:600], y[100:600])
    predicted, sets = conformal.predict_set(X[600:])
    held = sets[np.arange(len(sets)), np.searchsorted(names, y[600:]), 0]
    assert set(predicted) <= set(names)
    assert 0.85 < held.mean() < 0.97
