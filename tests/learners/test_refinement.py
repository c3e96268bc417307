"""Prototypes refined with unlabelled rows: Ren et al. 2018 in plain numpy, and what it is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.spatial.distance import cdist
from scipy.special import expit, softmax
from scipy.stats import kurtosis, skew
from sklearn.base import clone
from sklearn.datasets import load_digits

from fewshot_sklearn import ProtoNetClassifier
from fewshot_sklearn.learners import Refinement
from fewshot_sklearn.learners.refinement import KINDS
from fewshot_sklearn.tasks import ClassEpisodes


@pytest.fixture
def rows():
    """Rows around three centres: two labelled ones each, 20 that are not."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 4)) * 2
    y = np.repeat(np.arange(3), 22)
    X = centres[y] + rng.normal(size=(66, 4))
    known = np.tile(np.arange(22) < 2, 3)
    return X, np.where(known, y, -1), y


def means(X, y):
    return np.array([X[y == k].mean(0) for k in range(3)])


def test_soft_k_means(rows):
    X, y, _ = rows
    p = means(X, y)
    one_hot = np.eye(3)[y[y >= 0]]
    for _ in range(3):
        shares = softmax(-cdist(X[y < 0], p, "sqeuclidean"), axis=1)
        total = one_hot.sum(0) + shares.sum(0)
        p = (one_hot.T @ X[y >= 0] + shares.T @ X[y < 0]) / total[:, None]
    clf = ProtoNetClassifier(unlabelled=-1, n_refinements=3).fit(X, y)
    np.testing.assert_allclose(clf.prototypes_, p, rtol=1e-9)
    np.testing.assert_array_equal(clf.classes_, range(3))


def refined(kind, X, y, change=lambda module: None):
    module = Refinement(kind, 1).double()
    with torch.no_grad():
        change(module)
    p = torch.tensor(means(X, y))
    members = torch.tensor(np.where(y[:, None] >= 0, np.eye(3)[y], 0.0))
    rows, w = torch.tensor(X), torch.ones(len(X), dtype=torch.float64)

    def logits(p, Z):  # the row's own norm left out, as the learner does
        return 2 * Z @ p.T - p.square().sum(-1)

    with torch.no_grad():
        return module(p, rows, members, w, logits).numpy()


def test_a_cluster_for_distractors(rows):
    X, y, _ = rows
    p, width = means(X, y), 1.7
    centres = np.vstack([p, X.mean(0)])
    widths = np.array([1, 1, 1, width])
    scores = -cdist(X[y < 0], centres, "sqeuclidean") / widths**2 - np.log(widths)
    shares = softmax(scores, axis=1)[:, :3]
    one_hot = np.eye(3)[y[y >= 0]]
    total = one_hot.sum(0) + shares.sum(0)
    expected = (one_hot.T @ X[y >= 0] + shares.T @ X[y < 0]) / total[:, None]
    ours = refined("distractors", X, y, lambda m: m.log_width.fill_(np.log(width)))
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_masks(rows):
    X, y, _ = rows
    p, U = means(X, y), X[y < 0]
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(20, 5)), rng.normal(size=20)
    c, e = rng.normal(size=(2, 20)) * 0.1, np.array([2.0, 1.0])

    def change(module):
        for part, array in zip(module.mask.parameters(), (a, b, c, e), strict=True):
            part.copy_(torch.tensor(array))

    d = cdist(U, p, "sqeuclidean")
    d = d / d.mean(0)
    facts = np.array([d.min(0), d.max(0), d.var(0), skew(d), kurtosis(d, fisher=False)]).T
    slope, threshold = (np.tanh(facts @ a.T + b) @ c.T + e).T
    shares = softmax(-cdist(U, p, "sqeuclidean"), axis=1) * expit(-slope * (d - threshold))
    one_hot = np.eye(3)[y[y >= 0]]
    total = one_hot.sum(0) + shares.sum(0)
    expected = (one_hot.T @ X[y >= 0] + shares.T @ U) / total[:, None]
    # the spread that skew and kurtosis divide by is kept from zero by 1e-6
    np.testing.assert_allclose(refined("masked", X, y, change), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_without_unlabelled_rows_nothing_changes(rows, kind, metric):
    X, _, y = rows
    plain = ProtoNetClassifier(metric=metric).fit(X, y)
    ours = ProtoNetClassifier(metric=metric, unlabelled=-1, refinement=kind).fit(X, y)
    np.testing.assert_allclose(ours.prototypes_, plain.prototypes_, rtol=1e-12)


def test_minus_one_is_an_ordinary_label_unless_said_otherwise(rows):
    X, y, _ = rows
    np.testing.assert_array_equal(ProtoNetClassifier().fit(X, y).classes_, [-1, 0, 1, 2])
    named = np.where(y < 0, "?", np.array(list("abc"))[y])
    clf = ProtoNetClassifier(unlabelled="?").fit(X, named)
    np.testing.assert_array_equal(clf.classes_, list("abc"))
    by_number = ProtoNetClassifier(unlabelled=-1).fit(X, y)
    np.testing.assert_array_equal(clf.prototypes_, by_number.prototypes_)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_unlabelled_rows(rows, kind):
    X, y, _ = rows
    w = np.random.default_rng(0).integers(0, 3, len(y))
    clf = ProtoNetClassifier(unlabelled=-1, refinement=kind)
    weighted = clone(clf).fit(X, y, sample_weight=w)
    repeated = clone(clf).fit(X.repeat(w, 0), y.repeat(w))
    np.testing.assert_allclose(weighted.prototypes_, repeated.prototypes_, rtol=1e-9)


def test_errors(rows):
    X, y, _ = rows
    with pytest.raises(ValueError, match="All rows are unlabelled"):
        ProtoNetClassifier(unlabelled=-1).fit(X, np.full(len(X), -1))
    with pytest.raises(ValueError, match="refinement must be 'soft', 'distractors'"):
        ProtoNetClassifier(unlabelled=-1, refinement="hard").fit(X, y)
    with pytest.raises(ValueError, match="n_refinements must be an int, at least 1"):
        ProtoNetClassifier(unlabelled=-1, n_refinements=0).fit(X, y)
    with pytest.raises(ValueError, match="n_unlabelled needs an estimator"):
        meta_train(ProtoNetClassifier(), X, y, n_unlabelled=2)


@pytest.mark.parametrize("kind", KINDS)
def test_without_unlabelled_rows_nothing_is_refined(rows, kind):
    X, y, _ = rows
    X, y = 1e3 * X[y != -1], y[y != -1]
    plain = ProtoNetClassifier().fit(X, y).predict_proba(X)
    clf = ProtoNetClassifier(unlabelled=-1, refinement=kind, dtype="float32")
    refined = clf.fit(X, y).predict_proba(X)
    np.testing.assert_allclose(refined, plain, atol=1e-4)


def test_episodes_with_unlabelled_rows():
    y = np.repeat(np.arange(6), 10)
    sampler = ClassEpisodes(y, n_way=4, n_shot=(1, 2), n_query=3, n_unlabelled=4)
    many = sampler.draw(np.random.default_rng(0), 50)
    for i in range(50):
        one = many.episode(i)
        codes, counts = np.unique(one.support_codes, return_counts=True)
        assert codes.tolist() == [-1, 0, 1, 2, 3] and counts[0] == 16
        assert set(counts[1:]) <= {1, 2} and len(one.query) == 12
        assert not set(one.support) & set(one.query)


@pytest.mark.parametrize("kind", KINDS)
def test_unlabelled_rows_help_on_new_classes(kind, margin):
    """One labelled digit of each of three new kinds and 50 without label, 60 draws."""
    X, y = load_digits(return_X_y=True)
    net = {"encoder": "mlp", "encoder__hidden": (64,), "refinement": kind}
    clf = meta_train(
        ProtoNetClassifier(unlabelled=-1, **net), X[y < 7], y[y < 7],
        n_way=3, n_shot=1, n_query=10, n_unlabelled=20, max_epochs=6,
    )  # fmt: skip
    plain, ours = [], []
    new = y >= 7
    for seed in range(60):
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(new))
        one = np.concatenate([rows[y[rows] == k][:1] for k in (7, 8, 9)])
        rest = np.setdiff1d(rows, one, assume_unique=True)
        others, asked = rest[:150], rest[150:]
        plain.append(clone(clf).fit(X[one], y[one]).score(X[asked], y[asked]))
        support = np.concatenate([one, others])
        labels = np.concatenate([y[one], np.full(len(others), -1)])
        ours.append(clone(clf).fit(X[support], labels).score(X[asked], y[asked]))
    margin.above(np.mean(ours) - np.mean(plain), 0.01)
