"""Means of several strategies' answers, weighed by what their errors on past tasks share."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

from fewshot_sklearn import (
    Experience,
    PooledMixedRegressor,
    StrategyClassifier,
    StrategyRegressor,
    StrategySelector,
)
from fewshot_sklearn.strategies import _stacking
from fewshot_sklearn.strategies._stacking import stacking_weights


class Off(RegressorMixin, BaseEstimator):
    """Answers the first column, and is off by another."""

    def __init__(self, column=1):
        self.column = column

    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return X[:, 0] + X[:, self.column]


def tasks(scales, n=400, seed=0):
    """Targets are the first column; the others are errors of these standard deviations."""
    X = np.random.default_rng(seed).normal(size=(n, 1 + len(scales))) * [1, *scales]
    return X, X[:, 0], np.repeat(np.arange(n // 20), 20)


def selector(strategies, **params):
    params = {"n_way": None, "n_shots": (2,), "n_episodes": 100, "random_state": 0} | params
    return StrategySelector(strategies, combine="stack", **params)


# ------------------------------------------------------------------ weights
def test_weights_are_those_of_least_squares(monkeypatch):
    monkeypatch.setattr(_stacking, "DOUBT", 0.0)
    errors = np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 1, 3]
    errors[:, 2] += errors[:, 0]
    products = errors.T @ errors / 50
    expected = minimize(
        lambda w: w @ products @ w, np.full(4, 0.25), bounds=[(0, 1)] * 4, tol=1e-12,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    ).x  # fmt: skip
    np.testing.assert_allclose(stacking_weights(products, 50), expected, atol=1e-4)


def test_few_episodes_are_doubted():
    products = np.diag([1.0, 4.0])
    many, few = (stacking_weights(products, n) for n in (10_000, 4))
    np.testing.assert_allclose(many, [0.8, 0.2], atol=0.01)
    assert 0.5 < few[0] < many[0]


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        ([[np.inf, np.inf], [np.inf, 1.0]], [0, 1]),
        ([[0.0, 0.0], [0.0, 1.0]], [1, 0]),
        ([[0.0, 0.0], [0.0, 0.0]], [0.5, 0.5]),
        ([[np.inf, 0.0], [0.0, np.inf]], [0, 0]),
    ],
)
def test_those_that_fail_or_never_err(products, expected):
    np.testing.assert_allclose(stacking_weights(np.array(products), 20), expected, atol=1e-6)


# ------------------------------------------------------------------ learned and used
def test_a_stack_is_better_than_each_where_errors_are_independent():
    past, new = tasks([1, 1, 2]), tasks([1, 1, 2], seed=1)
    strategies = {f"off by {i}": Off(i) for i in (1, 2, 3)}
    reg = selector(strategies).fit(*past).estimator_.fit(new[0][:2], new[1][:2])
    found = list(reg.strategy_probabilities_.values())
    # as the inverses of the variances
    np.testing.assert_allclose(found, np.array([4, 4, 1]) / 9, atol=0.08)

    def error(one):
        return np.square(one.predict(new[0]) - new[1]).mean()

    assert error(reg) < 0.7 * min(error(one.fit(*new[:2])) for one in strategies.values())


def test_weights_change_with_the_number_of_labels_and_are_interpolated():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 30)
    X = rng.normal(size=(len(groups), 3))
    y = (X * rng.normal(size=(40, 3))[groups]).sum(1) + rng.normal(size=len(groups))
    strategies = {"mean": DummyRegressor(), "line": LinearRegression()}
    known = selector(strategies, n_shots=(4, 8, 25)).fit(X, y, groups).experience_
    few, some, many = (known.stacking_weights_at(n)[1] for n in (4, 10, 25))
    assert few < some < many
    share = np.log(10 / 8) / np.log(25 / 8)
    between = (1 - share) * known.stacking_weights_at(8) + share * known.stacking_weights_at(25)
    np.testing.assert_allclose(known.stacking_weights_at(10), between)
    np.testing.assert_array_equal(known.stacking_weights_at(900), known.stacking_weights_at(25))


def test_without_labels_those_that_have_a_prior_answer():
    X, y, groups = tasks([1])
    # some noise: the likelihood of none has no end
    y = y + np.random.default_rng(0).normal(0, 0.1 * y.std(), len(y))
    strategies = {"mixed": PooledMixedRegressor(past=(X, y, groups)), "line": LinearRegression()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what has no prior has not failed
        reg = selector(strategies, n_shots=(0, 2)).fit(X, y, groups).estimator_
    prior = reg.fit_prior()
    assert list(prior.estimators_) == ["mixed"]
    np.testing.assert_allclose(prior.predict(X), y, atol=0.5 * y.std())
    assert prior.n_features_in_ == 2
    with pytest.raises(ValueError, match=r"None of \['line'\] has an answer"):
        StrategyRegressor({"line": LinearRegression()}).fit_prior()


def test_units_of_tables_do_not_matter():
    past = tasks([1, 2])
    strategies = {"one": Off(1), "two": Off(2)}
    plain = selector(strategies).fit(*past).experience_
    large = selector(strategies).fit(past[0] * 1e6, past[1] * 1e6, past[2]).experience_
    np.testing.assert_allclose(large.products, plain.products)


def test_experience_is_added_saved_and_loaded(tmp_path):
    strategies = {"one": Off(1), "two": Off(2)}
    first, second = (selector(strategies).fit(*tasks([1, 2], seed=s)).experience_ for s in (0, 1))
    both = first + second
    np.testing.assert_allclose(both.products, np.add(first.products, second.products))
    assert both == second + first
    both.save(tmp_path / "known.json")
    assert Experience.load(tmp_path / "known.json") == both
    plain = StrategySelector(strategies, n_way=None, n_shots=(2,)).fit(*tasks([1, 2])).experience_
    assert plain.products == () == (plain + first).products
    with pytest.raises(ValueError, match="combine='stack'"):
        StrategyRegressor(strategies, experience=plain, combine="stack").fit(*tasks([1, 2])[:2])


def test_probabilities_are_stacked():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(30), 20)
    X = 2 * rng.normal(size=(30, 4))[y] + rng.normal(size=(600, 4))
    strategies = {"prior": DummyClassifier(), "logistic": LogisticRegression()}
    chooser = StrategySelector(
        strategies, combine="stack", n_way=3, n_shots=(1, 5), random_state=0, n_query=5
    )
    clf = chooser.fit(X, y).estimator_
    assert isinstance(clf, StrategyClassifier)
    fitted = clf.fit(X[:60], y[:60])
    assert fitted.strategy_probabilities_["logistic"] > 0.8
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1)
    with pytest.raises(ValueError, match="at least 1"):
        StrategySelector(strategies, n_shots=(0, 1)).fit(X, y)
