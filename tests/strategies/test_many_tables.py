"""Strategies over tables of different widths: features, what they are worth, and what is kept."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from scipy.sparse import csr_matrix
from scipy.stats import skew
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from fewshot_sklearn import Experience, StrategyRegressor, StrategySelector
from fewshot_sklearn.meta_init import write_sealed
from fewshot_sklearn.strategies import _past_tables, selection
from fewshot_sklearn.strategies._task_features import FEATURES, task_features

# a table of few classes or rows says so, which is nothing to these tests
pytestmark = pytest.mark.filterwarnings("ignore:Some of the data is short")


class Part(KNeighborsClassifier):
    """The nearest neighbour in the first two columns alone, or in all others."""

    def __init__(self, first=True):
        super().__init__(1)
        self.first = first

    def _part(self, X):
        return np.asarray(X)[:, :2] if self.first else np.asarray(X)[:, 2:]

    def fit(self, X, y):
        return super().fit(self._part(X), y)

    def predict(self, X):
        return super().predict(self._part(X))


WORLD = {"first": Part(True), "rest": Part(False)}


def world_table(width, rng, n_rows=120):
    """Wide tables have their classes in the last columns, narrow ones in the first two."""
    y = np.arange(n_rows) % 3
    X = rng.normal(size=(n_rows, width))
    centres = 2.0 * rng.normal(size=(3, width))
    centres[:, slice(0, 2) if width > 8 else slice(2, None)] = 0.0
    return X + centres[y], y


def world(n_tables, seed):
    # the package's own, which `make seeds` shifts
    rng = np.random.default_rng(selection.check_random_state(seed).randint(2**31))
    widths = [int(rng.integers(4, 7) if i % 2 else rng.integers(14, 25)) for i in range(n_tables)]
    return [world_table(width, rng) for width in widths]


def learner(**options):
    few = {"n_way": 3, "n_shots": (2, 5), "n_episodes": 12, "random_state": 0}
    return StrategySelector(WORLD, **(few | options))


@pytest.fixture(scope="module")
def selector():
    return learner().fit_many(world(14, seed=0))


# ------------------------------------------------------------------ choosing by features
def chosen_right(estimator, tables):
    """How much better the choice is than the better of both strategies for all, and how often."""
    gains, right = [], []
    for X, y in tables:
        for k in (2, 5):
            support = slice(0, 3 * k)
            made = clone(estimator).fit(X[support], y[support])
            scores = {n: s.fit(X[support], y[support]).score(X[15:], y[15:]) for n, s in
                      ((n, clone(s)) for n, s in WORLD.items())}  # fmt: skip
            gains.append([scores[made.best_strategy_], *scores.values()])
            right.append(made.best_strategy_ == ("rest" if X.shape[1] > 8 else "first"))
    chosen, *each = np.mean(gains, axis=0)
    return chosen - max(each), np.mean(right)


def test_wide_and_narrow_tables_want_different_strategies(selector, margin):
    new = world(12, seed=1)
    gain, right = chosen_right(selector.estimator_, new)
    margin.above(right, 0.8, "right")
    margin.above(gain, 0.05, "gain")
    by_shots = clone(selector.estimator_).set_params(features=False)
    margin.below(chosen_right(by_shots, new)[0], 0.01, "gain without features")


def made_table(features, scores):
    """Experience of one table of one number of shots: (episodes, features), (episodes, 2)."""
    return Experience.from_scores(("a", "b"), {4: np.array(scores)}, {4: np.array(features)})


def known_world(place, helps):
    """Six tables that are told apart by one feature, and want "a" or "b" by it, or by chance."""
    found = []
    for i in range(6):
        features = np.zeros((2, len(FEATURES)))
        features[:, place] = 10.0 * (i >= 3) + i
        wants_b = i >= 3 if helps else i % 2
        found.append(made_table(features, [[0.2, 0.9] if wants_b else [0.8, 0.3]] * 2))
    total = found[0]
    for one in found[1:]:
        total = one + total
    return total


@pytest.mark.parametrize("place", [FEATURES.index("n_columns"), FEATURES.index("linear")])
def test_features_are_used_where_they_help(place):
    known = known_world(place, helps=True)
    assert known.features_help(4) and known.features_help(100)
    for value, best in [(1.0, 0), (14.0, 1), (-5.0, 0), (25.0, 1)]:
        asked = dict.fromkeys(FEATURES, 0.0) | {FEATURES[place]: value}
        assert known.scores_at(4, asked, 3).argmax() == best
    asked = dict.fromkeys(FEATURES, 0.0) | {FEATURES[place]: 1.0}
    values = np.array([0, 1, 2, 13, 14, 15])
    weights = 1 / (0.1 + (values - 1) ** 2 / values.var())
    scores = np.array([[0.8, 0.3]] * 3 + [[0.2, 0.9]] * 3)
    for k in (3, 6):
        expected = (weights[:k] @ scores[:k] + scores.mean(0)) / (weights[:k].sum() + 1)
        np.testing.assert_allclose(known.scores_at(4, asked, k), expected, rtol=1e-9)
    asked[FEATURES[place]] = 1e9  # like none of them
    np.testing.assert_allclose(known.scores_at(4, asked, 6), known.scores_at(4), rtol=1e-9)


def test_features_that_mislead_are_not_used():
    place = FEATURES.index("n_columns")
    known = known_world(place, helps=False)
    # "a" is better on average; each other table's nearest wants the wrong one
    lone = made_table(np.zeros((2, len(FEATURES))), [[0.99, 0.0]] * 2)
    known = known + lone + lone + lone
    asked = dict.fromkeys(FEATURES, 0.0) | {"n_columns": 11.0}
    assert not known.features_help(4, 1)
    np.testing.assert_array_equal(known.scores_at(4, asked, 1), known.scores_at(4))


def test_two_tables_are_too_few_to_tell():
    one = made_table(np.zeros((2, len(FEATURES))), [[0.2, 0.9]] * 2)
    other = made_table(np.ones((2, len(FEATURES))), [[0.2, 0.9]] * 2)
    assert not (one + other).features_help(4) and (one + one + other).features_help(4)
    assert not (one + one + one).features_help(4)  # all alike
    with pytest.raises(ValueError, match="features must be those of a task"):
        one.scores_at(4, {"n_rows": 1.0})


def test_a_strategy_that_only_fails_is_not_chosen_by_features():
    one = made_table(np.zeros((2, len(FEATURES))), [[np.nan, 0.1]] * 2)
    other = made_table(np.ones((2, len(FEATURES))), [[np.nan, 0.1]] * 2)
    known = one + one + other
    assert known.features_help(4)
    found = known.scores_at(4, dict.fromkeys(FEATURES, 0.0))
    np.testing.assert_allclose(found, [-np.inf, 0.1])


# ------------------------------------------------------------------ what fit_many learns
def test_one_table_without_features_is_fit():
    X, y = world(1, seed=3)[0]
    groups = np.arange(len(y)) // 60
    plain, many = learner(features=False), learner(features=False)
    assert many.fit_many([(X, y)]).experience_ == plain.fit(X, y).experience_
    assert many.fit_many([(X, y, groups)]).experience_ == plain.fit(X, y, groups).experience_
    with_features = learner().fit_many([(X, y)]).experience_
    np.testing.assert_array_equal(
        with_features.mean_scores, learner().fit(X, y).experience_.mean_scores
    )
    assert len(with_features.tables) == 1 and not plain.experience_.tables


def test_tables_in_any_order_or_one_by_one(selector):
    tables = world(14, seed=0)
    parts = learner()
    for table in tables[::-1]:
        parts.partial_fit_many([table])
    a, b = parts.experience_, selector.experience_
    assert a.tables == b.tables and a.n_episodes == b.n_episodes == (168, 168)
    np.testing.assert_allclose(a.mean_scores, b.mean_scores, rtol=1e-12)
    parts.partial_fit(*tables[0])  # adds to the means, and is no table
    assert parts.experience_.n_episodes == (180, 180) and parts.experience_.tables == b.tables
    with parallel_config("threading"):
        assert learner(n_jobs=2).fit_many(tables).experience_ == b


def test_regression_without_groups_is_one_task_a_table():
    rng = np.random.default_rng(0)
    tables = []
    for width in (1, 2, 6, 9):
        X = rng.normal(size=(60, width))
        tables.append((X, X.sum(1) + 0.1 * rng.normal(size=60)))
    strategies = {"mean": DummyRegressor(), "linear": LinearRegression()}
    made = StrategySelector(strategies, n_way=None, n_shots=(4, 20), n_episodes=10, random_state=0)
    reg = made.fit_many(tables).estimator_
    assert isinstance(reg, StrategyRegressor)
    groups = [(X, y, np.zeros(60)) for X, y in tables]
    assert clone(made).fit_many(groups).experience_ == made.experience_
    X, y = tables[2]
    assert reg.fit(X[:20], y[:20]).best_strategy_ == "linear"
    assert set(reg.task_features_) == set(FEATURES)


def test_data_frames_with_strings_and_missing_values():
    rng = np.random.default_rng(0)
    tables = []
    for width in (2, 3, 4):
        y = np.repeat(["a", "b"], 20)
        frame = pd.DataFrame(
            {f"c{j}": np.where(rng.random(40) < 0.8, y, "z") for j in range(width)}
        )
        frame.loc[rng.random(40) < 0.1, "c0"] = None
        tables.append((frame, y))
    encoded = make_pipeline(OneHotEncoder(handle_unknown="ignore"), GaussianNB(var_smoothing=0.1))
    encoded.steps[0][1].set_params(sparse_output=False)
    made = StrategySelector({"encoded": encoded}, n_way=2, n_shots=(3,), n_episodes=4)
    clf = made.fit_many(tables).estimator_.fit(*tables[0])
    assert clf.task_features_["categorical"] == 1.0 and clf.task_features_["missing"] > 0
    assert clf.score(*tables[0]) > 0.6


# ------------------------------------------------------------------ the features
def test_features_of_columns():
    frame = pd.DataFrame(
        {
            "number": [0.5, np.nan, 2.0, np.inf],
            "flag": [True, False, True, True],
            "word": ["x", None, "y", "x"],
            "when": pd.to_datetime(["2020-01-01", None, "2021-01-01", "2022-01-01"]),
            "kind": pd.Categorical([1, 2, 1, None]),
            "whole": pd.array([3, None, 4, 5], dtype="Int64"),
            "nothing": [None] * 4,
        }
    )
    found = task_features(frame, np.array(["u", "v", "v", "v"]), "classifier")
    shares = [found[name] for name in ("numeric", "binary", "categorical", "missing")]
    np.testing.assert_allclose(shares, np.array([3, 2, 2, 10 / 4]) / 7)
    np.testing.assert_allclose(found["n_columns"], np.log(7))
    p = np.array([1, 3]) / 4
    np.testing.assert_allclose(found["imbalance"], 1 + (p * np.log2(p)).sum())
    assert list(found) == list(FEATURES) and np.isfinite(list(found.values())).all()


def test_landmarks_of_classes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 9)
    X = rng.normal(size=(27, 3)) + 0.9 * y[:, None]
    X = (X - X.mean(0)) / X.std(0)
    found = task_features(X * 7 + 3, y, "classifier")  # scales do not count
    for name, other in [("nearest_neighbor", KNeighborsClassifier(1)), ("linear", None)]:
        other = other or RidgeClassifier(alpha=3.0)  # its penalty, times the columns
        right = (cross_val_predict(other, X, y, cv=LeaveOneOut()) == y).mean()
        np.testing.assert_allclose(found[name], (right - 1 / 3) / (2 / 3))
    shuffled = rng.permutation(27)
    again = task_features(X[shuffled], y[shuffled], "classifier")
    assert again["nearest_neighbor"] == found["nearest_neighbor"]
    assert again["linear"] == found["linear"] and found["skewness"] == 0


def test_landmarks_of_targets_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    X = (X - X.mean(0)) / X.std(0)
    y = X[:, 0] + 0.3 * rng.normal(size=30)
    found = task_features(X, y, "regressor")
    for name, other in [("nearest_neighbor", KNeighborsRegressor(1)), ("linear", Ridge(2.0))]:
        told = cross_val_predict(other, X, y, cv=LeaveOneOut())
        expected = 1 - ((told - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        np.testing.assert_allclose(found[name], expected, rtol=1e-6)
    np.testing.assert_allclose(found["skewness"], skew(y), rtol=1e-6)
    step = task_features(X, (X[:, 0] > 0) * 1.0, "regressor")
    assert step["stump"] > 0.7 > found["stump"]


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_what_a_landmark_cannot_know_is_0(kind):
    few = 3 if kind == "classifier" else 2
    X = np.arange(few)[:, None] * 1e300
    found = task_features(X, np.arange(few), kind)
    assert [found[name] for name in ("nearest_neighbor", "stump", "linear")] == [0, 0, 0]
    # a class of one row is left out of the question, and not counted as wrong
    found = task_features(
        np.array([[0.0], [0.1], [5.0], [5.1], [90.0]]), np.array([0, 0, 1, 1, 2]), "classifier"
    )
    assert found["nearest_neighbor"] == 1
    for odd in (np.zeros((4, 3)), np.zeros((4, 0)), np.full((4, 1), np.nan), ["a", "b", "c", "d"]):
        told = task_features(odd, np.array([0, 0, 1, 1]), kind)
        assert np.isfinite(list(told.values())).all()


# ------------------------------------------------------------------ kept
def test_file_clone_and_pickle(selector, tmp_path):
    known = selector.experience_
    known.save(tmp_path / "known.json")
    loaded = Experience.load(tmp_path / "known.json")
    assert loaded == known and loaded + loaded == known + known
    assert (tmp_path / "known.json").stat().st_size < 14 * 12_000
    X, y = world(1, seed=2)[0]
    by_path = clone(selector.estimator_).set_params(experience=tmp_path / "known.json")
    chosen = selector.estimator_.fit(X[:6], y[:6])
    for other in (by_path, clone(chosen), pickle.loads(pickle.dumps(chosen))):
        assert other.fit(X[:6], y[:6]).strategy_probabilities_ == chosen.strategy_probabilities_
        assert other.task_features_ == chosen.task_features_ is not None
    damaged = (tmp_path / "known.json").read_bytes().replace(b"totals", b"totalz", 1)
    (tmp_path / "known.json").write_bytes(damaged)
    with pytest.raises(ValueError, match="does not hold the experience"):
        Experience.load(tmp_path / "known.json")


def test_files_without_tables_are_as_they_were(tmp_path, selector):
    X, y = world(1, seed=2)[0]
    plain = learner().fit(X, y).experience_
    plain.save(tmp_path / "plain.json")
    head = json.loads((tmp_path / "plain.json").read_bytes().partition(b"}")[0] + b"}")
    assert head["format"] == 1 and "tables" not in head and len(head) == 7
    assert Experience.load(tmp_path / "plain.json") == plain
    told = json.dumps({"format": 2, "features": ["other"]})
    write_sealed(tmp_path / "other.json", told.encode())
    with pytest.raises(ValueError, match="does not hold the experience"):
        Experience.load(tmp_path / "other.json")


# ------------------------------------------------------------------ refused
GOOD = (np.random.default_rng(0).normal(size=(12, 2)), np.repeat([0, 1, 2], 4))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "tables must be a list .* got an empty list"),
        (3, "tables must be a list .* got int"),
        (GOOD, r"tables\[0\] is a ndarray"),
        ([GOOD, [*GOOD]], r"tables\[1\] is a list"),
        ([GOOD, (*GOOD, None, None)], r"tables\[1\] is a tuple of 4"),
        ([GOOD, (GOOD[0], GOOD[0][:, 0])], r"tables\[1\]: the strategies are classifiers, but y"),
        ([GOOD, (GOOD[0], GOOD[1][:-1])], r"tables\[1\]: Found input variables with inconsistent"),
        ([(csr_matrix(GOOD[0]), GOOD[1])], r"tables\[0\]: X is sparse.*features=False"),
        ([GOOD, (GOOD[0][:0], GOOD[1][:0])], r"tables\[1\]: Found array with 0 sample"),
    ],
)
def test_wrong_tables(tables, message):
    made = StrategySelector(
        {"nb": KNeighborsClassifier(1)}, n_way=3, n_shots=(1,), n_query=2, n_episodes=2
    )
    for method in (made.fit_many, made.partial_fit_many):
        with pytest.raises(ValueError, match=message):
            method(tables)
    assert not hasattr(made, "experience_")


def test_classes_are_no_targets():
    made = StrategySelector(n_way=None, n_shots=(2,), n_episodes=2)
    words = GOOD[0], np.repeat(["a", "b", "c"], 4)
    with pytest.raises(ValueError, match=r"tables\[1\]: the strategies are regressors, and y must"):
        made.fit_many([GOOD, words])


def test_sparse_rows_without_features():
    made = StrategySelector(
        {"nb": KNeighborsClassifier(1)}, n_way=3, n_shots=(1,), n_query=2, n_episodes=2,
        features=False,
    )  # fmt: skip
    assert not made.fit_many([(csr_matrix(GOOD[0]), GOOD[1])] * 3).experience_.tables


def test_sparse_rows_are_refused_where_features_are_wanted(selector):
    X, y = world(1, seed=2)[0]
    with pytest.raises(ValueError, match="X is sparse"):
        clone(selector.estimator_).fit(csr_matrix(X[:6]), y[:6])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"features": 1}, "features must be"), ({"n_neighbors": 0}, "n_neighbors must be")],
)
def test_wrong_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        learner(**options).fit_many([GOOD])
    with pytest.raises(ValueError, match=message):
        StrategyRegressor(**options).fit([[0.0], [1.0]], [0.0, 1.0])


def test_few_episodes_are_kept_of_many():
    made = learner(n_shots=(1,), n_episodes=_past_tables.KEPT + 5).fit_many(world(1, seed=4))
    (table,) = made.experience_.tables
    assert np.shape(table.features) == (1, _past_tables.KEPT, len(FEATURES))
    assert table.n_episodes == (_past_tables.KEPT + 5,)
