"""Artificial tasks: reproducible, valid, and varied in the ways that they promise."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import ROOT
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

TRAINING = ROOT / "training"
if not (TRAINING / "task_priors.py").exists():
    pytest.skip("training scripts are not here", allow_module_level=True)
sys.path.insert(0, str(TRAINING))

import task_priors  # noqa: E402
from task_priors import CAUSES, TaskPrior, measured, told_apart  # noqa: E402


@pytest.fixture(scope="module")
def tasks():
    prior = TaskPrior(n_tables=150, seed=3)
    return [prior(np.random.default_rng([1, i])) for i in range(300)]


def test_tasks_are_valid(tasks):
    for X, y, X_query, y_query in tasks:
        assert X.shape[1] == X_query.shape[1] == 64
        assert 2 <= len(X) == len(y) <= 60 and 1 <= len(X_query) == len(y_query) <= 40
        assert np.isfinite(X).all() and np.isfinite(X_query).all()
        assert len(set(y)) >= 2 and set(y_query) <= set(y)


def test_tasks_vary(tasks):
    n_rows = np.array([len(task.y) for task in tasks])
    n_way = np.array([len(set(task.y)) for task in tasks])
    widths = np.array([(task.X != 0).any(0).sum() for task in tasks])
    assert (n_rows <= 6).mean() > 0.1 and (n_rows >= 40).mean() > 0.05
    assert (n_way == 2).mean() > 0.2 and (n_way >= 6).mean() > 0.05 and n_way.max() > 10
    assert (widths <= 3).mean() > 0.1 and (widths >= 30).mean() > 0.05
    balanced = [np.ptp(np.bincount(t.y)[np.unique(t.y)]) <= 1 for t in tasks]
    assert 0.2 < np.mean(balanced) < 0.9


def test_a_task_depends_on_the_seeds_alone():
    one = TaskPrior(n_tables=50, seed=3)(np.random.default_rng(5))
    other = TaskPrior(n_tables=50, seed=3)
    other(np.random.default_rng(6))
    for a, b in zip(one, other(np.random.default_rng(5)), strict=True):
        np.testing.assert_array_equal(a, b)
    different = TaskPrior(n_tables=50, seed=4)(np.random.default_rng(5))
    assert one.X.shape != different.X.shape or (one.X != different.X).any()


def test_support_and_queries_are_different_rows():
    prior = TaskPrior(n_tables=20, fill=False)
    for i in range(20):
        X, _, X_query, _ = prior(np.random.default_rng(i))
        if X.shape[1] > 8:  # of few or discrete features rows may well coincide
            assert len(np.unique(np.concatenate([X, X_query]), axis=0)) > 0.5 * len(X)


@pytest.mark.parametrize("rule", [rule for rule, _ in CAUSES], ids=lambda rule: rule.__name__)
def test_every_rule_makes_classes_that_features_tell(rule):
    told = []
    for seed in range(12):
        X, y = rule(np.random.default_rng(seed), 400, 5, 3)
        assert len(X) == len(y) == 400 and np.isfinite(X).all()
        assert set(y) <= {0, 1, 2}
        told.append(told_apart(X, y))
    assert np.mean(told) > 0.15
    assert max(told) > 0.4


def test_chances_of_the_rules_add_up():
    assert sum(chance for _, chance in CAUSES) == pytest.approx(1)


def test_linear_rules_are_linear_and_trees_are_not():
    def ahead(rule):
        """By how much logistic regression is better than a tree."""
        gaps = []
        for seed in range(8):
            X, y = rule(np.random.default_rng(seed), 500, 4, 2)
            models = (
                make_pipeline(StandardScaler(), LogisticRegression()),
                DecisionTreeClassifier(max_depth=6, random_state=0),
            )
            first, second = (cross_val_score(model, X, y, cv=3).mean() for model in models)
            gaps.append(first - second)
        return np.mean(gaps)

    assert ahead(task_priors.linear_rule) > 0.02
    assert ahead(task_priors.tree_ensemble) < ahead(task_priors.linear_rule) - 0.03


def test_measured_features_are_of_all_kinds():
    X = np.random.default_rng(0).normal(size=(300, 5))
    levels, skewed, copies = [], [], []
    for seed in range(40):
        table = measured(np.random.default_rng(seed), X, 12)
        assert table.shape == (300, 12)
        levels += [len(np.unique(column)) for column in table.T]
        z = (table - table.mean(0)) / table.std(0).clip(1e-12)
        skewed += list(np.abs((z**3).mean(0)))
        r = np.corrcoef(z.T + 1e-9 * np.random.default_rng(1).normal(size=z.T.shape))
        copies.append((np.abs(r[np.triu_indices(12, 1)]) > 0.8).sum())
    levels = np.array(levels)
    assert (levels == 2).any() and (levels == 300).mean() > 0.3 and (levels < 20).mean() > 0.03
    assert (np.array(skewed) > 1).mean() > 0.05
    assert max(copies) > 0


def test_told_apart_is_nought_for_noise_and_one_for_the_obvious():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    assert told_apart(rng.normal(size=(200, 3)), y) < 0.2
    assert told_apart(rng.normal(size=(200, 3)) + 20 * y[:, None], y) == pytest.approx(1)
