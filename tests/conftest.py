"""Small meta-trained estimators and unseen tasks to try them on."""

from __future__ import annotations

from collections import UserDict

import matplotlib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from fewshot_sklearn import (
    MAMLClassifier,
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks

matplotlib.use("Agg")
torch.set_num_threads(1)

CLASSIFIERS = ("ProtoNetClassifier", "RidgeHeadClassifier", "MAMLClassifier")
REGRESSORS = ("RidgeHeadRegressor", "MAMLRegressor")
IMAGE_CLASSIFIERS = [ProtoNetClassifier, RidgeHeadClassifier, MAMLClassifier]

every_classifier = pytest.mark.parametrize("name", CLASSIFIERS)
every_regressor = pytest.mark.parametrize("name", REGRESSORS)
every_estimator = pytest.mark.parametrize("name", CLASSIFIERS + REGRESSORS)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")


def scores_of(estimator, X):
    """Probabilities or predictions: whatever says most."""
    return getattr(estimator, "predict_proba", estimator.predict)(X)


class Clones(UserDict):
    """Hands out a clone at each look-up, so that no test sees another's fit."""

    def __getitem__(self, name):
        return clone(super().__getitem__(name))


def meta_train(estimator, X, y, groups=None, **options):
    """A few seconds of meta-training, reproducibly."""
    few = {"n_episodes": 160, "max_epochs": 3, "lr": 3e-3, "validation_fraction": 0}
    fixed = {"random_state": 0, "verbose": 0, "device": "cpu"}
    return MetaTrainer(estimator, **(few | fixed | options)).fit(X, y, groups).estimator_


@pytest.fixture(scope="session")
def trained():
    """Meta-trained, not yet fitted estimators by class name; each look-up gives a clone.

    Classifiers know the handwritten digits 0 to 6, regressors 200 sinusoids.
    """
    X, y = load_digits(return_X_y=True)
    X, y = X[y < 7], y[y < 7]
    net = {"encoder": "mlp", "encoder__hidden": (64,)}
    few = {"n_way": 3, "n_shot": 3, "n_query": 10}
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    waves = {"encoder": "mlp", "encoder__hidden": (32, 32)}
    made = [
        meta_train(ProtoNetClassifier(**net), X, y, **few),
        meta_train(RidgeHeadClassifier(**net), X, y, **few),
        meta_train(MAMLClassifier(**net, n_steps=5, inner_lr=0.1), X, y, **few),
        meta_train(
            RidgeHeadRegressor(**waves, encoder__activation="tanh"),
            past.data, past.target, past.groups, n_shot=(5, 10), max_epochs=12,
        ),
        meta_train(
            MAMLRegressor(**waves, n_steps=5, inner_lr=0.05),
            past.data, past.target, past.groups, n_shot=10, max_epochs=12,
        ),
    ]  # fmt: skip
    return Clones({type(estimator).__name__: estimator for estimator in made})


@pytest.fixture(scope="session")
def digits_new():
    """(X, y) of the digits 7 to 9, in random order: classes no estimator was trained on."""
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(y >= 7))
    return X[rows], y[rows]


@pytest.fixture(scope="session")
def sinusoid_new():
    """(X, y, groups) of 20 sinusoids no estimator was trained on, 25 rows each."""
    new = make_sinusoid_tasks(20, n_shot=10, n_query=15, random_state=1)
    return new.data, new.target, new.groups


@pytest.fixture
def task(digits_new, sinusoid_new):
    """Callable name -> (X, y, X_query, y_query): one new task for the estimator of that name."""

    def new_task(name):
        if name in REGRESSORS:
            X, y, groups = sinusoid_new
            X, y = X[groups == 1], y[groups == 1]
            return X[:10].copy(), y[:10].copy(), X[10:].copy(), y[10:].copy()
        X, y = digits_new
        return X[:15].copy(), y[:15].copy(), X[15:115].copy(), y[15:115].copy()

    return new_task
