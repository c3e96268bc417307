"""Matching networks against plain numpy, scikit-learn's neighbours and torch's own LSTMs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from fewshot_sklearn import MatchingNetClassifier, few_shot_score
from fewshot_sklearn.algorithms.matching import MatchingNet
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.learners import reading_order
from fewshot_sklearn.tasks import Support, Task, add_rotations, memberships, pad_tasks


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(np.unique(X, axis=0, return_index=True)[1])
    return X[rows] - X.mean(0), y[rows]


def plain_learner(d=4, scale=10.0, **options):
    """On the features as they are."""
    learner = MatchingNet(make_encoder("identity", (d,), {}), (d,), **options).double()
    with torch.no_grad():
        learner.log_scale.fill_(np.log(scale))
    return learner


def context_learner(n_reads=3):
    """With context, and LSTMs of random weights in place of those that change nothing."""
    torch.manual_seed(0)
    learner = plain_learner(full_context=True, n_reads=n_reads)
    with torch.no_grad():
        for cell in (learner.forwards, learner.backwards, learner.reader):
            cell.gates.weight.normal_(0, 0.7)
            cell.gates.bias.normal_(0, 0.3)
    return learner


def support(X, y, w=None, n_way=3):
    w = np.ones(len(X)) if w is None else w
    members = memberships(torch.as_tensor(y), n_way, torch.float64)
    return Support(torch.as_tensor(X), members, torch.as_tensor(w, dtype=torch.float64))


def answers(learner, X_query, *args, **options):
    with torch.no_grad():
        state = learner.adapt(support(*args, **options))
        return learner.predict(state, torch.as_tensor(X_query)).softmax(-1).numpy()


# ------------------------------------------------------------------ without context
@pytest.mark.parametrize("weighted", [False, True])
def test_attention(iris, weighted):
    X, y = iris
    w = np.random.default_rng(1).uniform(0.1, 3, 30) if weighted else np.ones(30)
    proba = MatchingNetClassifier().fit(X[:30], y[:30], sample_weight=w).predict_proba(X)
    attention = softmax(10 * (1 - cdist(X, X[:30], "cosine")) + np.log(w), axis=1)
    np.testing.assert_allclose(proba, attention @ np.eye(3)[y[:30]], rtol=2e-6)


def test_outputs_are_log_probabilities(iris):
    X, y = iris
    learner = plain_learner()
    outputs = learner.predict(learner.adapt(support(X[:30], y[:30])), torch.as_tensor(X))
    torch.testing.assert_close(outputs.exp().sum(-1), torch.ones(len(X)).double())


@pytest.mark.parametrize("n_rows", [3, 30])
def test_at_a_high_temperature_it_is_the_nearest_neighbour(iris, n_rows):
    X, y = iris
    rows = [np.flatnonzero(y == label)[0] for label in range(3)] if n_rows == 3 else range(n_rows)
    theirs = KNeighborsClassifier(1, metric="cosine").fit(X[rows], y[rows])
    ours = answers(plain_learner(scale=1e5), X, X[rows], y[rows])
    np.testing.assert_array_equal(ours.argmax(1), theirs.predict(X))


@pytest.mark.parametrize("full_context", [False, True])
def test_gradients_are_finite_where_nothing_is_near_or_a_class_is_missing(full_context):
    learner = plain_learner(scale=1e3, full_context=full_context).float()
    X = np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    task = Task(X, np.array([0, 2]), X[:1], np.array([2]))
    batch, y_query = pad_tasks([task])
    outputs = learner(**batch)
    assert (outputs[..., 1] == -torch.inf).all()
    loss = learner.loss(outputs, y_query)
    np.testing.assert_allclose(loss.item(), 2000, rtol=1e-4)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


# ------------------------------------------------------------------ full context
def torch_order(cell):
    """Weights and biases in torch's order of gates: i, f, g, o."""
    i, f, o, g = cell.gates.weight.detach().chunk(4)
    weight = torch.cat([i, f, g, o])
    i, f, o, g = cell.gates.bias.detach().chunk(4)
    return weight, torch.cat([i, f, g, o])


def by_hand(learner, X_query, X, y):
    """Appendix A of the paper, by torch.nn.LSTM and torch.nn.LSTMCell, for weights of one."""
    d, n_hidden = X.shape[1], X.shape[1]
    context = nn.LSTM(d, n_hidden, bidirectional=True).double()
    reader = nn.LSTMCell(2 * d, n_hidden).double()
    with torch.no_grad():
        for cell, suffix in ((learner.forwards, "_l0"), (learner.backwards, "_l0_reverse")):
            weight, bias = torch_order(cell)
            for name, value in {
                "weight_ih": weight[:, :d],
                "weight_hh": weight[:, d:],
                "bias_ih": bias,
                "bias_hh": 0 * bias,
            }.items():
                getattr(context, name + suffix).copy_(value)
        weight, bias = torch_order(learner.reader)
        reader.weight_ih.copy_(weight[:, : 2 * d])
        reader.weight_hh.copy_(weight[:, 2 * d :])
        reader.bias_ih.copy_(bias)
        reader.bias_hh.zero_()
        order = reading_order(torch.as_tensor(X)).argsort()
        g0 = torch.as_tensor(X)[order]
        both = context(g0)[0]
        g = both[:, :n_hidden] + both[:, n_hidden:] + g0  # A.2
        f0 = torch.as_tensor(X_query)
        h, c = f0, torch.zeros_like(f0)
        for _ in range(learner.n_reads):
            r = torch.softmax(h @ g.T, 1) @ g  # eq. 5 and 6
            hat, c = reader(torch.cat([f0, r], 1), (h, c))  # eq. 3
            h = hat + f0  # eq. 4
    cosines = 1 - cdist(h.numpy(), g.numpy(), "cosine")
    return softmax(10 * cosines, axis=1) @ np.eye(3)[y[order]]


@pytest.mark.parametrize("n_reads", [1, 4])
def test_full_context_is_what_torchs_lstms_give(iris, n_reads):
    X, y = iris
    learner = context_learner(n_reads)
    ours = answers(learner, X[30:60], X[:30], y[:30])
    np.testing.assert_allclose(ours, by_hand(learner, X[30:60], X[:30], y[:30]), rtol=1e-8)
    assert np.abs(ours - answers(plain_learner(), X[30:60], X[:30], y[:30])).max() > 0.1


def test_untrained_context_changes_nothing(iris):
    X, y = iris
    plain = MatchingNetClassifier().fit(X[:30], y[:30])
    context = MatchingNetClassifier(full_context=True, random_state=0).fit(X[:30], y[:30])
    np.testing.assert_allclose(context.predict_proba(X), plain.predict_proba(X), rtol=1e-10)


def test_order_and_weights_and_names(iris):
    X, y = iris
    rng = np.random.default_rng(0)
    learner = context_learner()
    X_query, X, y = X[30:], X[:12].copy(), y[:12].copy()
    X[1], y[:2] = X[0], (0, 1)  # one row under two labels
    w = rng.integers(0, 4, 12).astype(float)
    w[:2] = 1, 2
    expected = answers(learner, X_query, X, y, w)
    order = rng.permutation(12)
    repeats = np.repeat(order, w[order].astype(int))
    same = {"rtol": 1e-8, "atol": 1e-12}
    np.testing.assert_allclose(
        answers(learner, X_query, X[order], y[order], w[order]), expected, **same
    )
    np.testing.assert_allclose(answers(learner, X_query, X[repeats], y[repeats]), expected, **same)
    renamed = answers(learner, X_query, X, (y + 1) % 3, w)
    np.testing.assert_allclose(np.roll(expected, 1, 1), renamed, **same)
    other = answers(learner, X_query, X, y)
    assert np.abs(other - expected).max() > 1e-2


def test_context_in_a_padded_batch(iris):
    X, y = iris
    learner = context_learner()
    tasks = [Task(X[:9], y[:9], X[90:95], y[90:95]), Task(X[9:13], y[9:13], X[95:], y[95:])]
    batch, _ = pad_tasks(tasks, torch.float64)
    with torch.no_grad():
        together = learner(**batch).softmax(-1).numpy()
    for both, task in zip(together, tasks, strict=True):
        alone = answers(learner, task.X_query, task.X, task.y)
        np.testing.assert_allclose(both[: len(alone)], alone, rtol=1e-8, atol=1e-12)


def test_queries_are_answered_one_by_one(iris):
    X, y = iris
    learner = context_learner()
    together = answers(learner, X[30:40], X[:30], y[:30])
    alone = np.concatenate([answers(learner, x[None], X[:30], y[:30]) for x in X[30:40]])
    np.testing.assert_allclose(together, alone, rtol=1e-10)


# ------------------------------------------------------------------ meta-training
@pytest.fixture(scope="module")
def noisy_digits():
    """Digits turned four ways, beside as many columns of noise; 28 past and 12 new classes."""
    digits = load_digits()
    images, y = add_rotations(digits.images, digits.target)
    rng = np.random.default_rng(0)
    X = np.hstack([images.reshape(-1, 64), rng.normal(0, 12, (len(images), 64))])
    y = np.unique(y, return_inverse=True)[1]
    return X[y < 28], y[y < 28], X[y >= 28], y[y >= 28]


@pytest.mark.parametrize("full_context", [False, True])
def test_meta_training_helps_on_new_classes(noisy_digits, full_context, margin):
    X, y, X_new, y_new = noisy_digits
    net = {"encoder": "mlp", "encoder__hidden": (32,), "random_state": 0}
    clf = MatchingNetClassifier(full_context=full_context, n_reads=2, **net)
    few = {"n_way": 5, "n_shot": 3, "n_query": 10}
    start, trained = (meta_train(clf, X, y, **few, max_epochs=n) for n in (0, 3))
    untrained = few_shot_score(start, X_new, y_new, n_shot=3, n_episodes=20)
    learned = few_shot_score(trained, X_new, y_new, n_shot=3, n_episodes=50)
    margin.above(learned.mean - untrained.mean, 0.08, "gain")
    for n_way, n_shot, least in [(2, 1, 0.65), (5, 1, 0.4), (12, 10, 0.3)]:
        score = few_shot_score(trained, X_new, y_new, n_way=n_way, n_shot=n_shot, n_episodes=20)
        margin.above(score.mean, least, f"{n_way} ways, {n_shot} shots")
    if full_context:  # what the cells write started at zero
        written = [trained.meta_init.tensors[f"{cell}.gates.weight"][96:]
                   for cell in ("forwards", "backwards", "reader")]  # fmt: skip
        margin.above(min(np.abs(weights).mean() for weights in written), 1e-3, "cells")


# ------------------------------------------------------------------ hyperparameters
@pytest.mark.parametrize("bad", [{"n_reads": 0}, {"n_reads": 2.5}, {"full_context": "yes"}])
def test_bad_hyperparameters(iris, bad):
    ((name, value),) = bad.items()
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value!r}"):
        MatchingNetClassifier(**bad).fit(*iris)
