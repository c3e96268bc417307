"""Choosing a strategy by past tasks: what is learned, looked up, weighed and combined."""

from __future__ import annotations

import json
import pickle
from functools import partial

import numpy as np
import pytest
from joblib import parallel_config
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from fewshot_sklearn import (
    EpisodeSplit,
    Experience,
    StrategyClassifier,
    StrategyRegressor,
    StrategySelector,
    few_shot_score,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning:sklearn"),
    pytest.mark.filterwarnings("ignore:self.within_class_std_dev_"),
]

TABLE = Experience(
    ("flat", "linear"), (1, 4, 16), (2, 2, 4), ((2, 2), (2, 2), (4, 4)),
    ((1.0, 0.5), (1.1, 1.1), (2.4, 3.2)), (0.1, 0.2, 0.3),
)  # fmt: skip


def linear_tasks(n_tasks, seed, n_rows=40):
    """Regression tasks: noisy slopes around a task's own level."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), 4))
    slope, level = rng.normal(size=(n_tasks, 4)), 3 * rng.normal(size=n_tasks)
    noise = 2 * rng.normal(size=len(groups))
    return X, (X * slope[groups]).sum(1) + level[groups] + noise, groups + 1000 * seed


REGRESSORS = [("mean", DummyRegressor()), ("linear", LinearRegression())]
MSE = {"scoring": "neg_mean_squared_error"}


@pytest.fixture(scope="module")
def selector():
    made = StrategySelector(
        REGRESSORS, n_way=None, n_shots=(2, 5, 20), n_episodes=40, random_state=0, **MSE
    )
    return made.fit(*linear_tasks(30, seed=0))


# ------------------------------------------------------------------ scikit-learn's checks
@parametrize_with_checks(
    [
        StrategyClassifier(
            {"neighbor": KNeighborsClassifier(1), "svm": LinearSVC(random_state=0)},
            combine="ensemble",
        ),
        StrategyRegressor({"flat": DummyRegressor(), "linear": Ridge(0.1)}, combine="ensemble"),
    ]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


# ------------------------------------------------------------------ the table
def test_means_are_those_of_cross_validation():
    X, y = load_digits(return_X_y=True)
    strategies = {"centroid": NearestCentroid(), "neighbor": KNeighborsClassifier(1)}
    selector = StrategySelector(strategies, n_shots=(1, 5), n_episodes=20, random_state=3)
    found = selector.fit(X, y).experience_
    seed = np.random.RandomState(3).randint(2**31)
    expected = [
        [
            cross_val_score(est, X, y, cv=EpisodeSplit(5, k, 15, 20, seed)).mean()
            for est in strategies.values()
        ]
        for k in (1, 5)
    ]
    np.testing.assert_allclose(found.mean_scores, expected, rtol=1e-12)
    assert found.names == ("centroid", "neighbor") and found.n_shots == (1, 5)
    np.testing.assert_array_equal(found.counts, 20)


def test_parts_equal_the_pooled_means():
    parts = [linear_tasks(12, seed) for seed in (1, 2)]
    make = partial(StrategySelector, REGRESSORS, n_way=None, random_state=0, **MSE)
    alone = [
        make(n_shots=shots, n_episodes=n).fit(*part).experience_
        for part, shots, n in zip(parts, [(2, 5), (5, 9)], [10, 30], strict=True)
    ]
    for order in ((0, 1), (1, 0)):
        both = make()
        for i in order:
            both.set_params(n_shots=[(2, 5), (5, 9)][i], n_episodes=[10, 30][i])
            both.partial_fit(*parts[i])
        found = both.experience_
        assert found.n_shots == (2, 5, 9) and found.n_episodes == (10, 40, 30)
        middle = (10 * alone[0].mean_scores[1] + 30 * alone[1].mean_scores[0]) / 40
        expected = [alone[0].mean_scores[0], middle, alone[1].mean_scores[1]]
        np.testing.assert_allclose(found.mean_scores, expected, rtol=1e-12)
        assert both.estimator_.experience == found
    assert both.fit(*parts[0]).experience_.n_episodes == (10, 10)  # fit starts anew
    with pytest.raises(ValueError, match="fit starts anew"):
        both.set_params(strategies=REGRESSORS[:1]).partial_fit(*parts[1])


def test_jobs_change_nothing(selector):
    with parallel_config("threading"):  # processes would have to import torch first
        parallel = clone(selector).set_params(n_jobs=2).fit(*linear_tasks(30, seed=0))
    assert parallel.experience_ == selector.experience_


def test_frame_and_file(tmp_path):
    frame = TABLE.to_frame()
    assert list(frame.strategy) == ["flat", "linear"] * 3
    np.testing.assert_array_equal(frame.n_shots, [1, 1, 4, 4, 16, 16])
    np.testing.assert_allclose(frame.mean_score, [0.5, 0.25, 0.55, 0.55, 0.6, 0.8])
    TABLE.save(tmp_path / "table.json")
    assert Experience.load(tmp_path / "table.json") == TABLE
    by_path = StrategyRegressor(REGRESSORS, experience=tmp_path / "other.json")
    for wrong in ("[]", "{", json.dumps({"format": 1, "names": ["a"]}), '{"format": 2}'):
        (tmp_path / "other.json").write_text(wrong)
        with pytest.raises(ValueError, match="does not hold the experience"):
            by_path.fit([[0.0], [1.0]], [0.0, 1.0])


def test_table_cannot_be_changed():
    with pytest.raises(AttributeError):
        TABLE.names = ()
    TABLE.mean_scores[:] = 0
    assert TABLE.mean_scores[0, 0] == 0.5


# ------------------------------------------------------------------ looking up
@pytest.mark.parametrize(
    ("n_shots", "expected"),
    [(0.5, [0.5, 0.25]), (1, [0.5, 0.25]), (2, [0.525, 0.4]), (4, [0.55, 0.55]),
     (8, [0.575, 0.675]), (100, [0.6, 0.8])],
)  # fmt: skip
def test_interpolation_in_the_logarithm_of_shots(n_shots, expected):
    np.testing.assert_allclose(TABLE.scores_at(n_shots), expected, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.01, 0.3])
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 2, 1), (8, 8, 30)])
def test_probabilities_are_the_softmax_of_the_table(counts, temperature):
    y = np.repeat([0, 1, 2], counts)
    X = np.random.default_rng(0).normal(size=(len(y), 2)) + y[:, None]
    strategies = {"linear": NearestCentroid(), "flat": DummyClassifier()}
    clf = StrategyClassifier(strategies, experience=TABLE, temperature=temperature).fit(X, y)
    assert clf.n_shots_ == np.median(counts)
    expected = softmax(TABLE.scores_at(np.median(counts))[::-1] / temperature)
    assert list(clf.strategy_probabilities_) == ["linear", "flat"]
    np.testing.assert_allclose(list(clf.strategy_probabilities_.values()), expected, rtol=1e-10)
    assert clf.best_strategy_ == ["linear", "flat"][expected.argmax()]
    assert list(clf.estimators_) == [clf.best_strategy_]
    np.testing.assert_array_equal(
        clf.predict(X), clone(strategies[clf.best_strategy_]).fit(X, y).predict(X)
    )


def test_regression_counts_the_rows_of_the_task(selector):
    X, y, _ = linear_tasks(1, seed=5)
    reg = clone(selector.estimator_).fit(X[:7], y[:7])
    assert reg.n_shots_ == 7
    scores = selector.experience_.scores_at(7) / 0.01
    np.testing.assert_allclose(list(reg.strategy_probabilities_.values()), softmax(scores))


def test_without_experience_all_are_alike_and_the_first_is_taken():
    reg = StrategyRegressor(REGRESSORS).fit([[0.0], [1.0]], [0.0, 1.0])
    assert reg.strategy_probabilities_ == {"mean": 0.5, "linear": 0.5}
    assert reg.best_strategy_ == "mean"


# ------------------------------------------------------------------ combining
@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(90, centers=3, cluster_std=2, random_state=0)
    return X, np.array(["c", "a", "b"])[y]


def test_ensemble_without_experience_is_soft_voting(blobs):
    strategies = [("neighbor", KNeighborsClassifier(5)), ("linear", LogisticRegression())]
    ours = StrategyClassifier(strategies, combine="ensemble").fit(*blobs)
    theirs = VotingClassifier(strategies, voting="soft").fit(*blobs)
    np.testing.assert_allclose(ours.predict_proba(blobs[0]), theirs.predict_proba(blobs[0]))
    np.testing.assert_array_equal(ours.predict(blobs[0]), theirs.predict(blobs[0]))


def test_ensemble_of_strategies_without_probabilities(blobs):
    X, y = blobs
    svm, centroid = LinearSVC(random_state=0), NearestCentroid()
    known = Experience(("svm", "centroid"), (1,), (1,), ((1, 1),), ((0.5, 0.4),), (0.4,))
    clf = StrategyClassifier(
        {"svm": svm, "centroid": centroid}, experience=known, temperature=0.1, combine="ensemble"
    )
    p = softmax([5, 4])
    part = softmax(clone(svm).fit(X, y).decision_function(X), axis=1)
    other = clone(centroid).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(clf.fit(X, y).predict_proba(X), p[0] * part + p[1] * other)
    one_each = np.array([0, 1, 2, *range(3, 30)])
    firsts = [int(np.flatnonzero(y == label)[0]) for label in "abc"]
    clf.fit(X[firsts], y[firsts])  # where NearestCentroid's own probabilities are undefined
    sure = clone(centroid).fit(X[firsts], y[firsts]).predict(X[one_each])[:, None] == clf.classes_
    part = softmax(clone(svm).fit(X[firsts], y[firsts]).decision_function(X[one_each]), axis=1)
    np.testing.assert_allclose(clf.predict_proba(X[one_each]), p[0] * part + p[1] * sure)


def test_binary_decision_function(blobs):
    X, y = blobs[0][blobs[1] != "c"], blobs[1][blobs[1] != "c"]
    clf = StrategyClassifier({"svm": LinearSVC(random_state=0)}).fit(X, y)
    decision = LinearSVC(random_state=0).fit(X, y).decision_function(X)
    np.testing.assert_allclose(clf.predict_proba(X)[:, 1], 1 / (1 + np.exp(-decision)))


@pytest.mark.parametrize("n_outputs", [None, 1, 2])
def test_ensemble_of_regressors(n_outputs):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=(20, n_outputs or 1))
    y = y[:, 0] if n_outputs is None else y
    strategies = {"flat": DummyRegressor(), "linear": Ridge()}
    reg = StrategyRegressor(strategies, experience=TABLE, temperature=0.1, combine="ensemble")
    p = softmax(TABLE.scores_at(20) / 0.1)
    parts = [clone(s).fit(X, y).predict(X).reshape(y.shape) for s in strategies.values()]
    np.testing.assert_allclose(reg.fit(X, y).predict(X), p[0] * parts[0] + p[1] * parts[1])
    reg.set_params(min_probability=0.2).fit(X, y)  # too little for "flat"
    assert list(reg.estimators_) == ["linear"]
    np.testing.assert_allclose(reg.predict(X), parts[1])


# ------------------------------------------------------------------ choosing well
def test_the_strategy_that_suits_the_number_of_rows(selector):
    X, y, groups = linear_tasks(40, seed=7)
    reg = selector.estimator_
    assert clone(reg).fit(X[:2], y[:2]).best_strategy_ == "mean"
    assert clone(reg).fit(X[:20], y[:20]).best_strategy_ == "linear"
    asked = {"n_way": None, "n_query": 15, "n_episodes": 100, **MSE}
    scores = {
        name: [few_shot_score(est, X, y, groups, n_shot=k, **asked).mean for k in (2, 5, 20)]
        for name, est in [("chosen", reg), *REGRESSORS]
    }
    mean, linear, chosen = (np.array(scores[name]) for name in ("mean", "linear", "chosen"))
    assert mean[0] > linear[0] and linear[2] > mean[2]
    np.testing.assert_array_equal(chosen, np.maximum(mean, linear))
    assert chosen.mean() > max(mean.mean(), linear.mean()) + 0.1


def test_new_classes_of_digits():
    X, y = load_digits(return_X_y=True)
    strategies = [("flat", DummyClassifier()), ("neighbor", KNeighborsClassifier(1))]
    strategies += [("centroid", NearestCentroid())]
    selector = StrategySelector(strategies, n_way=3, n_shots=(1, 10), n_episodes=30, random_state=0)
    clf = selector.fit(X[y < 6], y[y < 6]).estimator_
    new = X[y >= 6], y[y >= 6]
    for k in (1, 10):
        asked = {"n_way": 3, "n_shot": k, "n_episodes": 60}
        chosen = few_shot_score(clf, *new, **asked)
        fixed = max(few_shot_score(s, *new, **asked).mean for _, s in strategies)
        assert chosen.mean > fixed - 2 * chosen.ci95


# ------------------------------------------------------------------ failures
class Fails(ClassifierMixin, BaseEstimator):
    """Cannot do with fewer than three rows a class."""

    def fit(self, X, y):
        self.classes_, counts = np.unique(y, return_counts=True)
        if counts.min() < 3:
            raise RuntimeError("too few rows")
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


def test_failures_are_the_worst_score_and_are_told_once():
    X, y = load_digits(return_X_y=True)
    # the first cannot be chosen where it fails, though it is first and nothing is better
    strategies = [
        ("fails", Fails()),
        ("many", KNeighborsClassifier(6)),
        ("flat", DummyClassifier()),
    ]
    selector = StrategySelector(strategies, n_shots=(1, 3), n_episodes=6, random_state=0)
    with pytest.warns(UserWarning, match="Strategies failed") as caught:
        selector.fit(X, y)
    told = [str(w.message) for w in caught if "Strategies failed" in str(w.message)]
    assert len(told) == 1 and "'fails' on 6 of 12 (RuntimeError: too few rows)" in told[0]
    assert "'many' on 6 of 12 (ValueError: Expected n_neighbors <= n_samples_fit" in told[0]
    assert "'flat'" not in told[0]
    found = selector.experience_
    assert found.mean_scores[0, 0] == -np.inf and found.mean_scores[1, 0] == pytest.approx(0.2)
    assert found.to_frame().n_failures[0] == 6
    clf = selector.estimator_
    assert clf.fit([[0.0], [1.0]], [0, 1]).best_strategy_ != "fails"
    assert clf.strategy_probabilities_["fails"] == 0


def test_some_failures():
    scores = {1: np.array([[0.5, np.nan], [0.4, 0.9], [0.3, -np.inf]])}
    table = Experience.from_scores(("a", "b"), scores)
    np.testing.assert_allclose(table.mean_scores, [[0.4, (0.9 + 2 * 0.3) / 3]])
    np.testing.assert_allclose((table + table).mean_scores, table.mean_scores)


def test_nothing_but_failures():
    X, y = load_digits(return_X_y=True)
    selector = StrategySelector({"fails": Fails()}, n_shots=(1,), n_episodes=3, random_state=0)
    with pytest.raises(ValueError, match=r"All strategies failed .* of 1 shot\(s\).*too few rows"):
        selector.fit(X, y)


# ------------------------------------------------------------------ as an estimator
def test_parameters_of_strategies():
    strategies = {"ridge": make_pipeline(StandardScaler(), Ridge(2.0)), "flat": DummyRegressor()}
    reg = StrategyRegressor(strategies, experience=TABLE)
    assert reg.get_params()["ridge__ridge__alpha"] == 2.0
    assert "ridge" not in reg.get_params(deep=False)
    copied = clone(reg).set_params(ridge__ridge__alpha=5.0, flat=Ridge(7.0), flat__alpha=8.0)
    assert copied.get_params()["ridge__ridge__alpha"] == 5.0
    assert copied.get_params()["flat__alpha"] == 8.0
    assert reg.get_params()["ridge__ridge__alpha"] == 2.0
    assert isinstance(strategies["flat"], DummyRegressor)  # the caller's is left alone
    assert copied.experience == TABLE


@pytest.mark.parametrize("as_dict", [True, False])
def test_grid_search_and_pickle(blobs, as_dict):
    strategies = [("linear", LogisticRegression()), ("flat", DummyClassifier())]
    clf = StrategyClassifier(dict(strategies) if as_dict else strategies, experience=TABLE)
    grid = {"temperature": [0.01, 10.0], "combine": ["best", "ensemble"], "linear__C": [0.1, 1.0]}
    search = GridSearchCV(clf, grid, cv=3).fit(*blobs)
    assert search.best_score_ > 0.5
    loaded = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(loaded.predict(blobs[0]), search.predict(blobs[0]))


def test_default_strategies():
    X, y = load_digits(return_X_y=True)
    clf = StrategySelector(n_shots=(1,), n_episodes=1, random_state=0).fit(X, y).estimator_
    assert isinstance(clf, StrategyClassifier) and len(clf.experience.names) == 5
    assert not (clf.experience.counts - np.array(clf.experience.successes)).any()
    reg = StrategySelector(n_way=None, n_shots=(1, 3), n_episodes=2, random_state=0)
    reg = reg.fit(*linear_tasks(5, seed=0)).estimator_
    assert isinstance(reg, StrategyRegressor) and len(reg.experience.names) == 4
    X, y, _ = linear_tasks(1, seed=1)
    predicted = reg.set_params(combine="ensemble", temperature=10.0).fit(X, y).predict(X)
    assert mean_squared_error(y, predicted) < np.var(y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategies": 3}, "strategies must be a list"),
        ({"strategies": []}, "strategies must be at least one"),
        ({"strategies": [("a", Ridge()), ("a", Ridge())]}, "different names"),
        ({"strategies": {"a__b": Ridge()}}, "names without '__'"),
        ({"strategies": {"combine": Ridge()}}, "other than"),
        ({"strategies": {"a": DummyClassifier()}}, "must all be regressors"),
        ({"temperature": 0}, "temperature must be a positive"),
        ({"combine": "all"}, "combine must be 'best', 'ensemble' or 'stack'"),
        ({"min_probability": 1}, "min_probability must be"),
        ({"experience": 3}, "experience must be"),
        ({"experience": TABLE, "strategies": {"new": Ridge()}}, "experience must know"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        StrategyRegressor(**options).fit([[0.0], [1.0]], [0.0, 1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategies": [*REGRESSORS, ("c", DummyClassifier())]}, "must all be regressors"),
        ({"n_shots": 3}, "n_shots must be"),
        ({"n_shots": (1, 1)}, "n_shots must be"),
        ({"strategies": {"c": DummyClassifier()}}, "n_way must be a number"),
    ],
)
def test_wrong_parameters_of_the_selector(options, message):
    with pytest.raises(ValueError, match=message):
        StrategySelector(**({"n_way": None} | options)).fit(*linear_tasks(3, seed=0))
    with pytest.raises(ValueError, match="groups is needed"):
        StrategySelector(REGRESSORS, n_way=None).fit(*linear_tasks(3, seed=0)[:2])
