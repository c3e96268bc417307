"""Digits among noise: what is like what can only be learned from other digits."""

from __future__ import annotations

from functools import cache

import numpy as np
from conftest import meta_train
from sklearn.datasets import load_digits

from fewshot_sklearn import few_shot_score
from fewshot_sklearn.tasks import add_rotations

TASKS = {"n_way": 5, "n_shot": 3, "n_query": 10}


@cache
def noisy_digits():
    """Digits turned four ways, beside twice as many noise columns; 28 past and 12 new classes."""
    digits = load_digits()
    images, y = add_rotations(digits.images, digits.target)
    rng = np.random.default_rng(0)
    X = np.hstack([images.reshape(-1, 64), rng.normal(0, 12, (len(images), 128))])
    y = np.unique(y, return_inverse=True)[1]
    return X[y < 28], y[y < 28], X[y >= 28], y[y >= 28]


@cache
def pictures():
    """The same digits as pictures (16, 16), without noise."""
    digits = load_digits()
    images, y = add_rotations(digits.images, digits.target)
    y = np.unique(y, return_inverse=True)[1]
    images = images.repeat(2, 1).repeat(2, 2)
    return images[y < 28], y[y < 28], images[y >= 28], y[y >= 28]


def assert_learns(clf, margin, gain=0.1, least=0.4, scored=100, **options):
    """New classes are told apart better after meta-training than before, and than by chance."""
    X, y, X_new, y_new = noisy_digits()
    start, trained = (meta_train(clf, X, y, **TASKS | options | {"max_epochs": n})
                      for n in (0, options.get("max_epochs", 6)))  # fmt: skip
    asked = {"n_query": 5, "n_episodes": scored}
    untrained = few_shot_score(start, X_new, y_new, n_shot=3, **asked)
    learned = few_shot_score(trained, X_new, y_new, n_shot=3, **asked)
    margin.above(learned.mean - untrained.mean, gain, "gain")
    margin.above(learned.mean, least, "5 ways, 3 shots")
    for n_way, n_shot in [(2, 1), (12, 4)]:  # and for other numbers, than by chance
        score = few_shot_score(trained, X_new, y_new, n_way=n_way, n_shot=n_shot, **asked)
        margin.above(score.mean * n_way, 1.2, f"{n_way} ways, {n_shot} shots")
    return trained
