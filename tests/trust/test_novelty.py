"""Scores of rows and of tasks, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from fewshot_sklearn import TrustLearner
from fewshot_sklearn.trust import ROW_SCORES, row_scores, task_distance
from fewshot_sklearn.trust.novelty import within_class_spread


def test_spread_is_the_pooled_covariance():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(6), 20)
    Z = 9 * rng.normal(size=(6, 3))[classes] + rng.normal(size=(120, 3)) * [1.0, 2.0, 0.01]
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(Z, classes)
    variance = np.diag(lda.covariance_) * 120 / 114  # it divides by n, not by n - n_classes
    found = within_class_spread(Z, classes, each=True)
    np.testing.assert_allclose(found**2, variance + 0.1 * variance.mean(), rtol=1e-9)
    shared = within_class_spread(Z, classes, each=False)
    np.testing.assert_allclose(shared**2, variance.mean())


def test_spread_of_nothing_that_varies():
    assert within_class_spread(np.ones((4, 2)), np.arange(4), each=True).tolist() == [1, 1]
    assert within_class_spread(np.ones((4, 2)), np.zeros(4), each=False).tolist() == [1, 1]


def test_row_scores_by_hand():
    Z = np.array([[0.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
    codes, asked = np.array([0, 0, 1]), np.array([[0.0, 1.0], [5.0, 3.0]])
    logits = np.log([[0.5, 0.25], [1.0, 3.0]])
    np.testing.assert_allclose(row_scores("class_mean", logits, Z, codes, asked), [0, -3])
    np.testing.assert_allclose(row_scores("support_row", logits, Z, codes, asked), [-1, -3])
    np.testing.assert_allclose(row_scores("energy", logits), np.log([0.75, 4]))
    np.testing.assert_allclose(row_scores("max_probability", logits), np.log([2 / 3, 3 / 4]))


@pytest.mark.parametrize("name", ROW_SCORES)
def test_rows_of_other_classes_score_lower(name):
    X, y = load_digits(return_X_y=True)
    support = np.concatenate([np.flatnonzero(y == label)[:5] for label in (0, 1, 2)])
    means = np.stack([X[support][y[support] == label].mean(0) for label in (0, 1, 2)])
    rest = np.setdiff1d(np.arange(len(y)), support)
    logits = -np.square(X[rest, None] - means).sum(2) / 100
    spread = within_class_spread(X[y > 2], y[y > 2], each=False)
    scores = row_scores(name, logits, X[support] / spread, y[support], X[rest] / spread)
    assert roc_auc_score(y[rest] <= 2, scores) > 0.8


def test_unknown_score():
    with pytest.raises(ValueError, match="novelty_score must be 'class_mean', 'support_row', 'e"):
        TrustLearner(novelty_score="distance").fit(*load_digits(return_X_y=True))


def test_task_distance_is_to_the_five_nearest_rows_of_other_tasks():
    rng = np.random.default_rng(0)
    Z, past, other = rng.normal(size=(4, 3)), rng.normal(size=(60, 3)), rng.random(60) < 0.5
    reference = NearestNeighbors(n_neighbors=5).fit(past[other]).kneighbors(Z)[0].mean()
    assert task_distance(Z, past, other) == pytest.approx(reference)
    assert task_distance(Z, past[:2]) == pytest.approx(
        np.linalg.norm(Z[:, None] - past[:2], axis=2).mean()
    )
    assert np.isnan(task_distance(Z, past, np.zeros(60, dtype=bool)))
