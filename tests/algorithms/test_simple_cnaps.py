"""Simple CNAPS against its equations in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_digits import assert_learns
from scipy.special import softmax
from sklearn.datasets import load_iris

from fewshot_sklearn import SimpleCNAPSClassifier
from fewshot_sklearn.algorithms.simple_cnaps import SimpleCNAPS
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Task, pad_tasks


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    return X[rows], y[rows]


def probabilities(X, y, X_query, beta):
    """Equations 2 and 3, row by row."""
    of_task = np.cov(X.T)
    out = np.empty((len(X_query), 3))
    for k in range(3):
        own = X[y == k]
        share = len(own) / (len(own) + 1)
        of_class = np.cov(own.T) if len(own) > 1 else np.zeros_like(of_task)
        Q = share * of_class + (1 - share) * of_task + beta * np.eye(len(of_task))
        for i, x in enumerate(X_query):
            apart = x - own.mean(0)
            out[i, k] = -0.5 * apart @ np.linalg.solve(Q, apart)
    return softmax(out, 1)


@pytest.mark.parametrize("n", [12, 40])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_class_distances(iris, n, beta):
    X, y = iris
    assert set(y[:n]) == {0, 1, 2}
    net = SimpleCNAPS(make_encoder("identity", (4,), {}), (4,), beta=beta).double()
    batch, _ = pad_tasks([Task(X[:n], y[:n], X[50:], y[50:])], torch.float64)
    expected = probabilities(X[:n], y[:n], X[50:], beta)
    np.testing.assert_allclose(
        net(**batch)[0].softmax(-1).detach(), expected, rtol=1e-6, atol=1e-12
    )


def test_fewer_rows_than_features(iris):
    X, y = iris
    X = np.random.default_rng(0).normal(size=(150, 30)) + y[:, None]
    net = SimpleCNAPS(make_encoder("identity", (30,), {}), (30,), beta=0.3).double()
    batch, _ = pad_tasks([Task(X[:20], y[:20], X[50:], y[50:])], torch.float64)
    expected = probabilities(X[:20], y[:20], X[50:], 0.3)
    full, along = (net.train(training)(**batch)[0].detach() for training in (True, False))
    np.testing.assert_allclose(full.softmax(-1), expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(along, full, rtol=1e-7)


def test_without_a_past_rows_are_scaled(iris):
    X, y = iris
    clf = SimpleCNAPSClassifier().fit(X[:40], y[:40])
    scaled = (X - X[:40].mean(0)) / X[:40].std(0)
    expected = probabilities(scaled[:40], y[:40], scaled[50:], 1.0)
    np.testing.assert_allclose(clf.predict_proba(X[50:]), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("size", [1e-8, 1e8])
def test_features_of_any_size(iris, size):
    X, y = iris
    X = np.hstack([size * X, np.zeros((150, 1))])
    X[20:40] = X[:20]
    net = SimpleCNAPS(make_encoder("identity", (5,), {}), (5,)).double()
    batch, y_query = pad_tasks([Task(X[:40], y[:40], X[50:], y[50:])], torch.float64)
    batch["X"].requires_grad_()
    loss, outputs = net.training_loss(**batch, y_query=y_query)
    loss.backward()
    assert outputs.isfinite().all() and batch["X"].grad.isfinite().all()


def test_meta_training_helps_on_new_classes(margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    assert_learns(SimpleCNAPSClassifier(**net), margin)
