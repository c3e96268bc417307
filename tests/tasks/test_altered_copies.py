"""`n_augment`: `fit` sees altered copies of its rows, which share a row's weight."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score

from fewshot_sklearn import (
    EpisodeSplit,
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    TaskwiseClassifier,
    few_shot_score,
)
from fewshot_sklearn.tasks import RandomAffine

KINDS = (ProtoNetClassifier, RidgeHeadClassifier, MAMLClassifier)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X.reshape(-1, 8, 8)[:60], y[:60]


class Shifted:
    """Adds what is drawn; keeps what it was called with."""

    def __init__(self):
        self.drawn = []

    def __call__(self, X, rng):
        self.drawn.append(rng.normal(size=X.shape))
        return X + self.drawn[-1]


def test_the_prototype_is_the_mean_over_a_row_and_its_copies(digits):
    X, y = digits
    shifted = Shifted()
    clf = ProtoNetClassifier(n_augment=3, augment=shifted, random_state=0).fit(X, y)
    everything = np.concatenate([X, *(X + drawn for drawn in shifted.drawn)])
    labels = np.tile(y, 4)
    means = [everything[labels == c].reshape(-1, 64).mean(0) for c in range(10)]
    assert len(shifted.drawn) == 3
    assert_allclose(clf.prototypes_, means)


@every_kind
def test_copies_that_are_the_same_change_nothing(digits, kind):
    X, y = digits
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    plain = kind().fit(X, y, sample_weight=weights)
    copied = kind(n_augment=4, augment=lambda X, rng: X).fit(X, y, sample_weight=weights)
    assert_allclose(copied.predict_proba(X), plain.predict_proba(X), rtol=1e-7, atol=1e-9)


@every_kind
def test_images_are_altered_a_little_by_default_and_the_seed_says_how(digits, kind):
    X, y = digits
    first, again, other, plain = (
        kind(n_augment=n, random_state=seed).fit(X, y).decision_function(X)
        for n, seed in ((2, 0), (2, 0), (2, 1), (0, 0))
    )
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-6
    assert np.abs(first - plain).max() > 1e-6


def test_fit_leaves_its_rows_and_the_global_generator_alone(digits):
    X, y = digits
    before, state = X.copy(), np.random.get_state()[1].copy()  # noqa: NPY002
    clf = ProtoNetClassifier(n_augment=2, random_state=0).fit(X, y)
    assert_array_equal(X, before)
    assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert len(clf._support[0]) == len(X)  # what explanations are made of
    assert clone(clf).n_augment == 2


def test_rows_that_are_no_images_need_a_callable():
    X, y = np.eye(4), [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"n_augment=2 needs augment="):
        ProtoNetClassifier(n_augment=2).fit(X, y)
    noisy = ProtoNetClassifier(n_augment=2, augment=lambda X, rng: X + rng.normal(size=X.shape))
    assert noisy.fit(X, y).predict(X).shape == (4,)


@pytest.mark.parametrize("n_augment", [-1, 1.5, "two"])
def test_a_number_of_copies_that_is_none_is_an_error(digits, n_augment):
    with pytest.raises((ValueError, TypeError), match="n_augment"):
        ProtoNetClassifier(n_augment=n_augment).fit(*digits)


@pytest.fixture(scope="module")
def trained(digits):
    trainer = MetaTrainer(
        ProtoNetClassifier(encoder="conv4", encoder__width=8),
        n_way=3, n_shot=1, n_query=2, n_episodes=8, max_epochs=1, validation_fraction=0,
        random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    return trainer.fit(*digits).meta_init_


def test_scores_are_those_of_fits_with_copies(digits, trained):
    X, y = digits
    seen = {"n_way": 3, "n_shot": 1, "n_query": 3, "n_episodes": 8, "random_state": 0}
    twisted = RandomAffine(degrees=60)
    clf = ProtoNetClassifier(trained, n_augment=3, augment=twisted, random_state=0, device="cpu")
    with pytest.warns(UserWarning, match="optimistic"):
        scores = few_shot_score(clf, X, y, **seen).scores
    one_by_one = cross_val_score(clf, X, y, cv=EpisodeSplit(**seen))
    assert_array_equal(scores, one_by_one)


def test_one_model_a_task_with_copies(digits, trained):
    X, y = digits
    groups = np.arange(len(y)) // 30
    clf = ProtoNetClassifier(trained, n_augment=2, random_state=0, device="cpu")
    several = TaskwiseClassifier(clf, unseen="error").fit(X, y, groups=groups)
    for task in (0, 1):
        rows = groups == task
        alone = clone(clf).fit(X[rows], y[rows])
        assert_array_equal(several.predict(X[rows], groups=groups[rows]), alone.predict(X[rows]))
