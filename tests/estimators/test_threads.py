"""Any number of threads get the answers of one, bit by bit, and leave nothing behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import CLASSIFIERS, every_estimator, scores_of
from joblib import parallel_backend
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from torch import nn

import fewshot_sklearn
from fewshot_sklearn import (
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    ReptileClassifier,
    RidgeHeadClassifier,
)

N_THREADS = 8


class Bumpy(nn.Module):
    """An encoder of a user's own that draws when made, and while it is trained."""

    def __init__(self, input_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*input_shape, 16), nn.GELU(), nn.Dropout(0.3))
        self.shift = nn.Parameter(torch.randn(16))

    def forward(self, X):
        return self.layers(X) + self.shift


def in_threads(function, n):
    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(function, range(n)))


def tasks_of(name, digits_new, sinusoid_new):
    """Two tasks, with other rows to ask about."""
    if name in CLASSIFIERS:
        X, y = digits_new
        return [(X[:12], y[:12], X[100:130]), (X[40:60], y[40:60], X[130:150])]
    X, y, groups = sinusoid_new
    return [(X[groups == g][:10], y[groups == g][:10], X[groups == g][10:]) for g in (1, 2)]


@every_estimator
def test_fits_and_predictions_in_threads(trained, digits_new, sinusoid_new, name):
    tasks = tasks_of(name, digits_new, sinusoid_new)
    estimator = trained[name]
    alone = [scores_of(clone(estimator).fit(X, y), asked) for X, y, asked in tasks]
    fitted = [clone(estimator).fit(X, y) for X, y, _ in tasks]

    def fit(i):
        X, y, asked = tasks[i % 2]
        return scores_of(clone(estimator).fit(X, y), asked)

    for i, got in enumerate(in_threads(fit, 12)):
        np.testing.assert_array_equal(got, alone[i % 2])
    for i, got in enumerate(in_threads(lambda i: scores_of(fitted[i % 2], tasks[i % 2][2]), 12)):
        np.testing.assert_array_equal(got, alone[i % 2])
    np.testing.assert_array_equal(fit(0), alone[0])  # nothing is left behind


@every_estimator
def test_networks_that_fit_makes_in_threads(digits_new, sinusoid_new, name):
    X, y, asked = tasks_of(name, digits_new, sinusoid_new)[0]
    make = getattr(fewshot_sklearn, name)
    estimator = make(encoder=Bumpy, random_state=0)
    alone = scores_of(clone(estimator).fit(X, y), asked)
    torch.manual_seed(5)
    stream = torch.rand(500)
    torch.manual_seed(5)
    with ThreadPoolExecutor(N_THREADS) as pool:
        fits = [pool.submit(clone(estimator).fit, X, y) for _ in range(8)]
        drawn = torch.stack([torch.rand(()) for _ in range(500)])
        for fit in fits:
            np.testing.assert_array_equal(scores_of(fit.result(), asked), alone)
    assert torch.equal(stream, drawn)  # the caller's own random numbers


def test_adapting_a_convolutional_network_in_threads():
    rng = np.random.default_rng(0)
    X, y = rng.random((12, 12, 12)), np.arange(12) % 3
    start = {"encoder": "conv4", "encoder__width": 4, "random_state": 0, "n_steps": 3}
    clf = MAMLClassifier(MAMLClassifier(**start).fit(X, y).meta_init_)
    alone = [clf.fit(X[i:], y[i:]).predict_proba(X) for i in range(3)]
    fits = in_threads(lambda i: clone(clf).fit(X[i % 3 :], y[i % 3 :]).predict_proba(X), 24)
    for i, got in enumerate(fits):
        np.testing.assert_array_equal(got, alone[i % 3])


def test_cross_validation_under_the_threading_backend(digits_new):
    X, y = digits_new
    clf = ProtoNetClassifier(encoder=Bumpy, random_state=0)
    alone = cross_val_score(clf, X, y, cv=8)
    with parallel_backend("threading", n_jobs=4):
        threads = cross_val_score(clf, X, y, cv=8)
    np.testing.assert_array_equal(alone, threads)


@pytest.mark.parametrize("make", [ProtoNetClassifier, RidgeHeadClassifier, ReptileClassifier])
@pytest.mark.parametrize(
    "encoder", [{"encoder": "mlp", "encoder__dropout": 0.3}, {"encoder": Bumpy}]
)
def test_trainings_in_threads_repeat(make, encoder):
    X, y = load_digits(return_X_y=True)

    def train(_):
        trainer = MetaTrainer(
            make(**encoder), n_way=3, n_episodes=24, max_epochs=2, random_state=0, verbose=0,
            device="cpu", validation_fraction=0,
        )  # fmt: skip
        return trainer.fit(X[:600], y[:600]).meta_init_.digest

    before = torch.get_rng_state()
    digests = {train(0), *in_threads(train, 4)}
    assert len(digests) == 1
    assert torch.equal(before, torch.get_rng_state())
