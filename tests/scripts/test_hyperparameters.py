"""The parts of benchmarks/hyperparameters.py, beside scikit-learn, draws and sums."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from loading import loaded
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


@pytest.fixture
def search(monkeypatch):
    """The script."""
    return loaded("benchmarks/hyperparameters.py", monkeypatch)


@pytest.fixture
def surrogates(search):
    return import_module("hyperparameters_surrogates")


def test_accuracies_are_those_of_cross_validation(search, monkeypatch):
    table = import_module("hyperparameters_table")
    monkeypatch.setattr(table, "LOG_C", np.array([-2.0, 1.0]))
    monkeypatch.setattr(table, "LOG_GAMMA", np.array([-3.0, 0.0, 1.0]))
    X, y = (part[::2] for part in load_iris(return_X_y=True))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    expected = [
        cross_val_score(
            make_pipeline(StandardScaler(), SVC(C=10**log_C, gamma=10**log_gamma)), X, y, cv=folds
        ).mean()
        for log_C, log_gamma in table.grid()
    ]
    found = table.accuracies(X, y)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found.ravel(), expected)


def test_expected_improvement_is_the_mean_of_draws(search):
    draws = 0.3 + 0.2 * np.random.default_rng(0).standard_normal(400_000)
    improved = np.maximum(draws - 0.4, 0)
    found = search.expected_improvement(np.array([0.3]), np.array([0.2]), 0.4)
    assert abs(found[0] - improved.mean()) < 5 * improved.std() / len(draws) ** 0.5


def test_regret_at_random_is_the_mean_over_orders(search):
    rng = np.random.default_rng(0)
    accuracy = rng.integers(0, 6, 12) / 10  # with ties
    drawn = [search.regrets(accuracy, rng.permutation(12)[:5]) for _ in range(20_000)]
    error = np.std(drawn, axis=0) / len(drawn) ** 0.5
    found = search.regrets_at_random(accuracy, 5)
    assert (np.abs(found - np.mean(drawn, axis=0)) < 5 * error).all()
    np.testing.assert_allclose(search.regrets_at_random(accuracy, 12)[-1], 0, atol=1e-12)


def test_the_gaussian_of_tables_says_what_regression_does(surrogates, monkeypatch):
    """Regressing another setting on a tried one, over very many tables."""
    monkeypatch.setattr(surrogates, "N_FACTORS", 2)
    rng = np.random.default_rng(0)
    grid = np.arange(4.0)[:, None] * [1.0, 1.0]
    tables = 0.5 + 0.1 * rng.standard_normal((20_000, 2)) @ rng.standard_normal((2, 4))
    tables += 0.02 * rng.standard_normal(tables.shape)
    known = np.tile([100.0, 5, 2, 0.5], (len(tables), 1))
    form = surrogates.Form(scale=surrogates.as_it_is)
    past = surrogates.Past(grid, tables, known)
    surrogate = surrogates.gaussian_of_tables(form).learn(past)
    mean, std = surrogate(surrogates.Known(known[0], 0), grid[[1]], np.array([0.7]))
    slope, intercept = np.polyfit(tables[:, 1], tables[:, 3], 1)
    left = tables[:, 3] - slope * tables[:, 1] - intercept
    assert abs(mean[3] - slope * 0.7 - intercept) < 0.01
    assert abs(std[3] - left.std()) < 0.02


def test_a_portfolio_helps_where_its_first_setting_fails(surrogates):
    accuracy = np.array([[0.9, 0.8, 0.1], [0.9, 0.8, 0.2], [0.3, 0.3, 0.9]])
    past = surrogates.Past(np.zeros((3, 2)), accuracy, np.zeros((3, 4)))
    value, _ = surrogates.portfolio(past)(None, None, None)
    np.testing.assert_array_equal(np.argsort(-value), [0, 2, 1])
    value, _ = surrogates.by_mean_rank(past)(None, None, None)
    assert np.argsort(-value)[0] == 0
