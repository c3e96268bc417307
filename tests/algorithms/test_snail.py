"""SNAIL against torch's causal convolutions, one query and one sequence at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_digits import assert_learns
from sklearn import config_context
from sklearn.datasets import load_iris
from torch.nn import functional as F

from fewshot_sklearn import MetaInit, SNAILClassifier
from fewshot_sklearn.algorithms.snail import SNAIL
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.learners import reading_order
from fewshot_sklearn.tasks import Task, pad_tasks

SIZES = {"n_filters": 4, "n_dilations": 3, "n_codes": 5}


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    X, rows = X - X.mean(0), np.random.default_rng(0).permutation(150)
    return X[rows], y[rows]


@pytest.fixture
def learner():
    """With random weights, on the features as they are."""
    torch.manual_seed(0)
    net = SNAIL(make_encoder("identity", (4,), {}), (4,), **SIZES)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
        net.smoother.log_sharpness.fill_(-1.0)
    return net.double()


def convolved(layer, h):
    """Both convolutions of kernel size two, causal, of rows h (n, width)."""
    kernel = torch.stack([layer.before.weight, layer.now.weight], -1)
    padded = F.pad(h.T[None], (layer.dilation, 0))
    return F.conv1d(padded, kernel, layer.now.bias, dilation=layer.dilation)[0].T


def network(learner, h):
    """Outputs for the last of rows h (n, width), by the pseudocode of the paper."""
    for block in learner.blocks:
        if hasattr(block, "dilation"):
            filters, gates = convolved(block, h).chunk(2, -1)
            added = torch.tanh(filters) * torch.sigmoid(gates)
        else:
            one = (block.query(h)[None], block.key(h)[None], block.value(h)[None])
            added = F.scaled_dot_product_attention(*one, is_causal=True)[0]
        h = torch.cat([h, added], -1)
    return learner.answer(h[-1])


def logits_of(learner, X, y, x, codes):
    order = reading_order(X).argsort()
    rows = torch.cat([X, codes[y]], -1)[order]
    said = network(learner, torch.cat([rows, torch.cat([x, x.new_zeros(5)])[None]]))
    near = (-np.exp(-1.0) * (X - x).square().sum(1)).softmax(0)
    smoothed = torch.stack([near[y == k].sum() for k in range(len(codes))])
    return codes @ said + smoothed.log()


def test_a_sequence_for_each_query(iris, learner):
    """Of tasks of different sizes: padding comes before the first row."""
    X, y = iris
    X = X + 1e-3 * np.random.default_rng(0).normal(size=X.shape)  # no two rows the same
    tasks = [Task(X[:12], y[:12], X[12:20], y[12:20]), Task(X[20:40], y[20:40], X[40:44], y[40:44])]
    batch, _ = pad_tasks(tasks, torch.float64)
    found = learner(**batch).detach()
    for i, task in enumerate(tasks):
        rows, codes, queries = (torch.as_tensor(t) for t in (task.X, task.y, task.X_query))
        w = torch.ones(len(rows)).double()
        state = learner.adapt_features(rows, torch.eye(3).double()[codes], w)
        for j, x in enumerate(queries):
            expected = logits_of(learner, rows, codes, x, state["codes"]).detach()
            torch.testing.assert_close(found[i, j], expected, rtol=1e-7, atol=1e-7)


def fitted(learner, X, y, **options):
    spec = SNAILClassifier(**SIZES)._spec(learner)
    init = MetaInit.from_state(learner.state_dict(), spec)
    return SNAILClassifier(init, dtype="float64").fit(X, y, **options)


def test_neither_order_nor_names_nor_copies_nor_parts_change_anything(iris, learner):
    X, y = iris
    plain = fitted(learner, X[:60], y[:60]).predict_proba(X)
    order = np.random.default_rng(1).permutation(60)
    named = fitted(learner, X[order], np.array(["c", "a", "b"])[y[order]])
    np.testing.assert_allclose(named.predict_proba(X)[:, [2, 0, 1]], plain, rtol=1e-8)
    twice = fitted(learner, X[np.r_[:60, :9]], y[np.r_[:60, :9]]).predict_proba(X)
    weight = np.where(np.arange(60) < 9, 2.0, 1.0)
    weighed = fitted(learner, X[:60], y[:60], sample_weight=weight).predict_proba(X)
    assert np.abs(weighed - plain).max() > 1e-4
    with config_context(working_memory=1):
        parts = fitted(learner, X[:60], y[:60]).predict_proba(X)
    np.testing.assert_allclose(parts, plain, rtol=1e-8)
    np.testing.assert_allclose(twice, weighed, rtol=1e-8)


def test_queries_know_nothing_of_each_other(iris, learner):
    X, y = iris
    clf = fitted(learner, X[:60], y[:60])
    together = clf.predict_proba(X[60:])
    alone = np.vstack([clf.predict_proba(x[None]) for x in X[60:70]])
    np.testing.assert_allclose(together[:10], alone, rtol=1e-8)


def test_training_draws_all_codes(iris, learner):
    X, y = iris
    batch, y_query = pad_tasks([Task(X[:12], y[:12], X[12:20], y[12:20])], torch.float64)
    torch.manual_seed(0)
    losses = {
        round(learner.training_loss(**batch, y_query=y_query)[0].item(), 9) for _ in range(20)
    }
    assert len(losses) > 5


def test_without_a_past_there_is_no_network(iris):
    X, y = iris
    clf = SNAILClassifier().fit(X[:60], y[:60])
    assert not any("blocks" in name for name in clf.meta_init_.tensors)
    many = SNAILClassifier().fit(np.arange(100.0)[:, None], np.arange(100))
    assert (many.predict(np.arange(100.0)[:, None]) == np.arange(100)).all()


def test_meta_training_helps_on_new_classes(margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    trained = assert_learns(SNAILClassifier(**net, n_filters=16), margin)
    assert np.abs(trained.meta_init.tensors["answer.weight"]).max() > 0
