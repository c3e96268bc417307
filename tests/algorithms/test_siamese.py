"""Siamese networks against plain numpy, scikit-learn's neighbours and its log loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier

from fewshot_sklearn import SiameseClassifier, few_shot_score
from fewshot_sklearn.algorithms.siamese import Siamese, verification_loss
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Task, add_rotations, memberships, pad_tasks


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(X))
    return X[rows] + rng.normal(0, 1e-3, X.shape), y[rows]  # so that no two distances are equal


@pytest.fixture
def learner():
    """On plain features, with weights of either sign."""
    net = Siamese(make_encoder("identity", (4,), {}), (4,)).double()
    with torch.no_grad():
        net.alpha.copy_(torch.tensor([-1.0, 0.5, -0.2, 2.0]))
        net.bias.fill_(0.3)
    return net


def mean_by_class(p, y, w):
    return np.stack([np.average(p[:, y == k], 1, w[y == k]) for k in np.unique(y)], 1)


# ------------------------------------------------------------------ the formula
@pytest.mark.parametrize("weighted", [False, True])
def test_untrained(iris, weighted):
    X, y = iris
    w = np.random.default_rng(1).uniform(0.1, 3, 30) if weighted else np.ones(30)
    proba = SiameseClassifier().fit(X[:30], y[:30], sample_weight=w).predict_proba(X)
    p = mean_by_class(expit(4 - 16 / 4 * cdist(X, X[:30], "cityblock")), y[:30], w)
    np.testing.assert_allclose(proba, p / p.sum(1, keepdims=True), rtol=1e-9)


def test_one_row_a_class_is_the_nearest_neighbour(iris):
    X, y = iris
    first = [np.flatnonzero(y == label)[0] for label in range(3)]
    theirs = KNeighborsClassifier(1, metric="manhattan").fit(X[first], y[first])
    ours = SiameseClassifier().fit(X[first], y[first])
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_pair_logits_with_weights_of_either_sign(iris, learner):
    X, _ = iris
    Z, rows = X[:7], X[7:20]
    alpha = learner.alpha.detach().numpy()
    expected = np.abs(Z[:, None] - rows[None]) @ alpha + 0.3
    logits = learner.pair_logits(torch.tensor(Z), torch.tensor(rows))
    np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-10)


def test_gradients_of_pair_logits(iris, learner):
    X, _ = iris
    Z, rows = (torch.tensor(part, requires_grad=True) for part in (X[:7], X[7:20]))
    parts = (Z, rows, learner.alpha, learner.bias)
    upstream = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 13)))
    plain = (Z[:, None] - rows[None]).abs() @ learner.alpha + learner.bias
    expected = torch.autograd.grad((upstream * plain).sum(), parts)
    found = torch.autograd.grad((upstream * learner.pair_logits(Z, rows)).sum(), parts)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_nothing_underflows_far_from_all_rows(iris):
    X, y = iris
    far = X + 1e5
    clf = SiameseClassifier(dtype="float32").fit(X[:30], y[:30])
    logits = clf.decision_function(far)
    assert np.isfinite(logits).all() and np.ptp(logits, axis=1).min() > 0.01
    np.testing.assert_allclose(clf.predict_proba(far).sum(1), 1, rtol=1e-5)


# ------------------------------------------------------------------ what is trained
@pytest.fixture
def tasks():
    """Two tasks of unequal size, rows and queries."""
    rng = np.random.default_rng(0)
    y, y_query = np.array([0, 0, 1, 2, 1]), np.array([0, 2, 1])
    return [
        Task(rng.normal(size=(5, 4)), y, rng.normal(size=(3, 4)), y_query),
        Task(rng.normal(size=(3, 4)), y[1:4], rng.normal(size=(5, 4)), y[:5]),
    ]


@pytest.mark.parametrize("weighted", [False, True])
def test_verification_loss_is_the_balanced_log_loss(tasks, learner, weighted):
    rng = np.random.default_rng(1)
    expected = []
    batch, y_query = pad_tasks(tasks, torch.float64)
    w = batch["w"]
    if weighted:
        w = w * torch.from_numpy(rng.uniform(0.5, 2, w.shape))
    for task, weights in zip(tasks, w.numpy(), strict=True):
        z = np.abs(task.X_query[:, None] - task.X[None]) @ learner.alpha.detach().numpy() + 0.3
        same = task.y_query[:, None] == task.y[None]
        each = np.broadcast_to(weights[: len(task.X)], same.shape)
        share = np.where(same, each / each[same].sum(), each / each[~same].sum())
        expected.append(log_loss(same.ravel(), expit(z).ravel(), sample_weight=share.ravel()))
    loss, outputs = learner.training_loss(**(batch | {"w": w}), y_query=y_query)
    np.testing.assert_allclose(loss.item(), np.mean(expected), rtol=1e-9)
    torch.testing.assert_close(outputs, learner(**(batch | {"w": w})))


def test_a_task_of_one_class_has_a_loss(learner):
    y = memberships(torch.zeros(1, 3, dtype=torch.long), 1, torch.float64)
    logits = torch.tensor([[[1.0, -2.0, 0.5]]], dtype=torch.float64)
    loss = verification_loss(logits, y, torch.ones(1, 3).double(), torch.zeros(1, 1).long())
    expected = -0.5 * np.log(expit(logits.numpy())).mean()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-12)


def test_gradients_are_finite_where_a_class_has_no_support(learner):
    task = Task(np.zeros((2, 4)), np.array([0, 2]), np.zeros((3, 4)), np.array([0, 1, 2]))
    batch, y_query = pad_tasks([task], torch.float64)
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    assert (outputs[..., 1] == -torch.inf).all()
    (loss + learner.loss(outputs[:, ::2], y_query[:, ::2])).backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


# ------------------------------------------------------------------ meta-training
@pytest.fixture(scope="module")
def noisy_digits():
    """Digits turned four ways, beside twice as many columns of noise; 28 past and 12 new classes.

    Without a past, nothing tells the noise from the rest.
    """
    digits = load_digits()
    images, y = add_rotations(digits.images, digits.target)
    rng = np.random.default_rng(0)
    X = np.hstack([images.reshape(-1, 64), rng.normal(0, 12, (len(images), 128))])
    y = np.unique(y, return_inverse=True)[1]
    return X[y < 28], y[y < 28], X[y >= 28], y[y >= 28]


def test_meta_training_helps_on_new_classes(noisy_digits, margin):
    X, y, X_new, y_new = noisy_digits
    clf = SiameseClassifier(encoder="mlp", encoder__hidden=(64,), random_state=0)
    few = {"n_way": 5, "n_shot": 3, "n_query": 10}
    start, trained = (meta_train(clf, X, y, **few, max_epochs=n) for n in (0, 6))
    untrained = few_shot_score(start, X_new, y_new, n_shot=3, n_episodes=20)
    learned = few_shot_score(trained, X_new, y_new, n_shot=3)
    margin.above(learned.mean - untrained.mean, 0.1, "gain")
    for n_way, n_shot, least in [(2, 1, 0.7), (5, 1, 0.45), (12, 10, 0.35)]:
        score = few_shot_score(trained, X_new, y_new, n_way=n_way, n_shot=n_shot, n_episodes=50)
        margin.above(score.mean, least, f"{n_way} ways, {n_shot} shots")


def test_alpha_learns_which_features_tell(noisy_digits, margin):
    X, y, _, _ = noisy_digits
    trained = meta_train(SiameseClassifier(), X, y, n_way=5, n_shot=3, n_query=10, max_epochs=6)
    alpha = trained.meta_init.tensors["alpha"]
    telling = X[:, :64].std(0) > 1
    margin.below(alpha[:64][telling].mean() - alpha[64:].mean(), -0.01)
