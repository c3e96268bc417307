"""LaplacianShot against its steps written out with scikit-learn's neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from fewshot_sklearn import TransductiveLaplacianShotClassifier


@pytest.fixture(scope="module")
def task():
    X, y = load_digits(n_class=4, return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:60]
    return X[rows[:12]], y[rows[:12]], np.linspace(0.5, 2.0, 12), X[rows[12:]]


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def rectified(means, S, w, Q):
    """BD-CSPN: weighted means of the rows that each class is likeliest for."""
    rows = np.concatenate([S, Q + np.average(S, axis=0, weights=w) - Q.mean(0)])
    mass = np.concatenate([w, np.ones(len(Q))])
    sure = softmax(10 * unit(rows) @ unit(means).T, axis=1)
    own = [sure.argmax(1) == k for k in range(len(means))]
    return np.stack(
        [np.average(rows[o], axis=0, weights=mass[o] * sure[o, k]) for k, o in enumerate(own)]
    )


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("n_neighbors", [2, 5])
def test_steps_of_the_bound(task, rectify, n_neighbors):
    X, y, w, X_query = task
    S, Q = unit(X), unit(X_query)
    means = np.stack([np.average(S[y == k], axis=0, weights=w[y == k]) for k in range(4)])
    if rectify:
        means = rectified(means, S, w, Q)
    unary = ((Q[:, None] - means) ** 2).sum(2)
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(Q).kneighbors(return_distance=False)
    answers = softmax(-unary, axis=1)
    for _ in range(20):
        answers = softmax(-unary + 0.7 * answers[near].sum(1), axis=1)
    clf = TransductiveLaplacianShotClassifier(n_neighbors=n_neighbors, rectify=rectify)
    np.testing.assert_allclose(clf.fit(X, y, w).predict_proba(X_query), answers, rtol=1e-7)


def test_copies_of_queries_are_all_neighbours(task):
    """Which of equal rows come first decides nothing."""
    X, y, _, X_query = task
    asked = np.repeat(X_query[:6], 4, axis=0)
    clf = TransductiveLaplacianShotClassifier().fit(X, y)
    proba = clf.predict_proba(asked)
    for copies in np.split(proba, 6):
        np.testing.assert_allclose(copies, np.broadcast_to(copies[0], copies.shape), rtol=1e-9)


def test_a_class_that_wins_no_row_keeps_its_mean():
    # by cosine both rows of the second class are likelier of the first
    X = np.array([[1.0, 0.1], [1.0, 0.0], [0.1, 1.0], [-0.2, -1.0]])
    clf = TransductiveLaplacianShotClassifier().fit(X, [0, 0, 1, 1])
    assert np.isfinite(clf.predict_proba(X)).all()
