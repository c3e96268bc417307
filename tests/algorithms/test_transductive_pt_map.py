"""PT-MAP against its steps written out with Sinkhorn's algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fewshot_sklearn import TransductivePTMAPClassifier


@pytest.fixture(scope="module")
def task():
    X, y = load_digits(n_class=4, return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:60]
    return X[rows[:12]], y[rows[:12]], np.linspace(0.5, 2.0, 12), X[rows[12:]]


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def transport(kernel, room):
    """Rows that sum to one, columns to `room`."""
    for _ in range(5000):
        kernel = kernel / kernel.sum(0) * room
        kernel = kernel / kernel.sum(1, keepdims=True)
    return kernel


def reference(X, y, w, X_query, balanced):
    S, Q = (unit((Z / Z.max(1, keepdims=True) + 1e-6) ** 0.5) for Z in (X, X_query))
    S, Q = unit(S - np.average(S, axis=0, weights=w)), unit(Q - Q.mean(0))
    mass = w[:, None] * np.eye(4)[y]
    means = mass.T @ S / mass.sum(0)[:, None]

    def answers():
        kernel = np.exp(-10 * ((Q[:, None] - means) ** 2).sum(2))
        if balanced:
            return transport(kernel, len(Q) / 4)
        return kernel / kernel.sum(1, keepdims=True)

    for _ in range(20):
        p = answers()
        found = (mass.T @ S + p.T @ Q) / (mass.sum(0) + p.sum(0))[:, None]
        means = means + 0.2 * (found - means)
    return answers()


@pytest.mark.parametrize("balanced", [True, False])
def test_steps_of_the_paper(task, balanced):
    X, y, w, X_query = task
    clf = TransductivePTMAPClassifier(balanced=balanced).fit(X, y, w)
    proba = clf.predict_proba(X_query)
    np.testing.assert_allclose(proba, reference(*task, balanced), rtol=1e-5, atol=1e-8)
    even = np.allclose(proba.sum(0), len(X_query) / 4, rtol=1e-6)
    assert even == balanced


def test_negative_features_keep_their_sign(task):
    X, y, _, X_query = task
    clf = TransductivePTMAPClassifier()
    X, X_query = X + 1, X_query + 1  # zero has no sign
    plain = clf.fit(X, y).predict_proba(X_query)
    turned = clf.fit(-X, y).predict_proba(-X_query)
    np.testing.assert_allclose(turned, plain, rtol=1e-6, atol=1e-9)


def test_fewer_rows_than_classes_need_not_be_even(task):
    X, y, _, X_query = task
    clf = TransductivePTMAPClassifier().fit(X, y)
    few = clf.predict_proba(X_query[:3])
    clf.set_params(balanced=False)
    np.testing.assert_allclose(few, clf.predict_proba(X_query[:3]))
