"""Artificial regression tasks: reproducible, valid, and varied in the ways that they promise."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import ROOT
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_predict

TRAINING = ROOT / "training"
if not (TRAINING / "target_priors.py").exists():
    pytest.skip("training scripts are not here", allow_module_level=True)
sys.path.insert(0, str(TRAINING))

from target_priors import (  # noqa: E402
    FARTHEST,
    SOURCES,
    TargetPrior,
    bent,
    categories,
    explained,
    noisy,
)


@pytest.fixture(scope="module")
def prior():
    return TargetPrior(n_tables=120, seed=3)


@pytest.fixture(scope="module")
def tasks(prior):
    return [prior(np.random.default_rng([1, i])) for i in range(300)]


def test_tasks_are_valid(tasks):
    for X, y, X_query, y_query in tasks:
        assert X.shape[1] == X_query.shape[1] == 64
        assert 2 <= len(X) == len(y) <= 100 and len(X_query) == len(y_query) == 24
        assert np.isfinite(X).all() and np.isfinite(X_query).all()
        assert np.isfinite(y).all() and np.isfinite(y_query).all()


def test_support_and_queries_are_different_rows(prior):
    numbers = np.arange(150.0)
    for seed in range(20):
        task = prior._task(np.random.default_rng(seed), numbers[:, None], numbers)
        assert not set(task.X[:, 0]) & set(task.X_query[:, 0])
        sign = np.sign(task.y.sum())
        np.testing.assert_array_equal(task.X[:, 0], sign * task.y)
        np.testing.assert_array_equal(task.X_query[:, 0], sign * task.y_query)


def test_tasks_vary(tasks, prior):
    n_rows = np.array([len(task.y) for task in tasks])
    widths = np.array([(task.X != 0).any(0).sum() for task in tasks])
    assert (n_rows <= 5).mean() > 0.1 and (n_rows >= 60).mean() > 0.05
    assert (widths <= 3).mean() > 0.1 and (widths >= 25).mean() > 0.05
    told = np.array([explained(*prior.table(i)) for i in range(60)])
    assert (told > 0.9).mean() > 0.03 and (told < 0.4).mean() > 0.05


def test_targets_have_deviation_one(prior):
    for i in range(60):
        y = prior.table(i)[1]
        np.testing.assert_allclose((y.mean(), y.std()), (0, 1), atol=1e-9)
        assert np.abs(y).max() <= 2 * FARTHEST


def test_a_task_depends_on_the_seeds_alone():
    one = TargetPrior(n_tables=50, seed=3)(np.random.default_rng(5))
    other = TargetPrior(n_tables=50, seed=3)
    other(np.random.default_rng(6))
    for a, b in zip(one, other(np.random.default_rng(5)), strict=True):
        np.testing.assert_array_equal(a, b)
    different = TargetPrior(n_tables=50, seed=4)(np.random.default_rng(5))
    assert one.X.shape != different.X.shape or (one.X != different.X).any()


def test_what_is_explained_is_what_a_regression_finds():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    for noise in (0.1, 1.0, 3.0):
        y = X @ [1.0, -1.0, 0.5, 0.0] + noise * rng.normal(size=200)
        left = cross_val_predict(LinearRegression(), X, y, cv=20)
        share = 1 - np.mean((left - y) ** 2) / y.var()
        assert abs(explained(X, y) - max(share, 0)) < 0.05
    assert explained(X, rng.normal(size=200)) < 0.1


@pytest.mark.parametrize("source", [source for source, _ in SOURCES])
def test_sources(source):
    for seed in range(5):
        X, scores = source(np.random.default_rng(seed), 50, 6, 1)
        assert len(X) == 50 and scores.shape == (50, 1)
        assert np.isfinite(X).all() and np.isfinite(scores).all() and scores.std() > 0


def test_categories_are_columns_of_which_each_row_is_in_one():
    shifts = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        columns, shift = categories(rng, rng.normal(size=(80, 3)), 6)
        assert 2 <= columns.shape[1] <= 6 and set(np.unique(columns)) == {0.0, 1.0}
        whole = columns.sum(1)
        assert (whole == whole[0]).all() and 1 <= whole[0] <= 3
        assert abs(shift.mean()) < 1e-12
        shifts.append(shift.std())
    assert min(shifts) == 0 and max(shifts) > 0.5


def test_noise_is_from_none_to_much_and_targets_are_bent():
    rng = np.random.default_rng(0)
    signal, X = rng.normal(size=400), rng.normal(size=(400, 2))
    gaps = np.array([(noisy(rng, signal, X) - signal).std() for _ in range(200)])
    assert (gaps == 0).any() and (gaps > 1.5).any() and ((gaps > 0) & (gaps < 0.1)).any()
    told = [bent(rng, signal) for _ in range(60)]
    assert any(len(np.unique(y)) < 20 for y in told)
    skews = [np.mean(((y - y.mean()) / y.std()) ** 3) for y in told]
    assert max(skews) > 1 and np.median(np.abs(skews)) < 0.5
