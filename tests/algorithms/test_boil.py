"""BOIL against its equations written out with torch.autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from test_maml import make_batch
from torch.func import functional_call
from torch.nn import functional as F

from fewshot_sklearn import BOILClassifier, BOILRegressor, MAMLClassifier, few_shot_score
from fewshot_sklearn.algorithms.boil import BOILClassification, BOILRegression
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Support

KINDS = ["regression", "classification", "vmapped classification", "convolution"]


def make_learner(kind, **options):
    """A learner in float64 whose parameters are all random."""
    torch.manual_seed(0)
    options = {"inner_lr": 0.3} | options
    if kind == "regression":
        learner = BOILRegression(make_encoder("mlp", (2,), {"hidden": (8, 6)}), (2,), 2, **options)
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    elif kind == "convolution":
        learner = BOILClassification(make_encoder("conv4", (8, 8), {"width": 4}), (8, 8), **options)
    else:
        activation = "gelu" if kind == "vmapped classification" else "tanh"
        encoder = make_encoder("mlp", (3,), {"hidden": (8,), "activation": activation})
        learner = BOILClassification(encoder, (3,), **options)
    for p in learner.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return learner.double()


def cosines(n, size):
    """The first n rows of the orthonormal discrete cosine transform, but for the constant one."""
    t = torch.arange(size).double() + 0.5
    rows = torch.stack([torch.cos(np.pi * k * t / size) for k in range(1, n + 1)])
    return rows / rows.norm(dim=1, keepdim=True)


def head_of(learner, X, y):
    """Rows of the head, and biases: of a class by where the mean of its rows lies."""
    if learner.n_outputs is not None:
        return learner.head.weight, learner.head.bias
    n_way, size = y.shape[1], learner.n_features
    rows = X.flatten(1)
    along = torch.cos(37.0 * torch.arange(1, rows.shape[1] + 1).double().sqrt())
    places = [float((rows[y[:, k] > 0] @ along).mean()) for k in range(n_way)]
    place = np.argsort(np.argsort(places))
    return cosines(n_way, size)[place] @ learner.turned, learner.head_bias.expand(n_way)


def by_hand(learner, batch, y_query):
    """Eq. 2 with torch.autograd, one task after the other; outputs and query loss."""
    outputs, total = [], 0.0
    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        X, y, w = X[w > 0], y[w > 0], w[w > 0]
        weight, bias = head_of(learner, X, y)
        body = dict(learner.encoder.named_parameters())

        def network(body, X, weight=weight, bias=bias):
            return functional_call(learner.encoder, body, (X,)) @ weight.T + bias

        for _ in range(learner.n_steps):
            if learner.n_outputs is None:
                loss = F.cross_entropy(network(body, X), y)
            else:
                loss = F.mse_loss(network(body, X), (y - learner.y_mean) / learner.y_scale)
            grads = torch.autograd.grad(loss, list(body.values()), create_graph=True)
            body = {
                k: p - learner.inner_lr * g for (k, p), g in zip(body.items(), grads, strict=True)
            }
        out = network(body, X_query)
        if learner.n_outputs is not None:
            out = out * learner.y_scale + learner.y_mean
        outputs.append(out)
        total = total + learner.loss(out[None], y_query[i : i + 1]) / len(y_query)
    return torch.stack(outputs), total


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients(kind, n_steps):
    learner = make_learner(kind, n_steps=n_steps)
    batch, y_query = make_batch(learner)
    outputs, loss = by_hand(learner, batch, y_query)
    names, parameters = zip(*learner.named_parameters(), strict=True)
    expected = torch.autograd.grad(loss, parameters)
    found_loss, found = learner.training_loss(**batch, y_query=y_query)
    torch.testing.assert_close(found, outputs, rtol=1e-8, atol=1e-10)
    grads = torch.autograd.grad(found_loss, parameters)
    for name, a, b in zip(names, grads, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
        if name != "head_bias":  # the same for all classes, which no softmax sees
            assert b.abs().max() > 1e-7, name


def test_the_head_stays_and_the_body_moves():
    X, y = load_digits(return_X_y=True)
    clf = BOILClassifier(encoder="mlp", encoder__hidden=(32,), n_steps=20, random_state=0)
    clf.fit(X[:40], y[:40])
    still = clf.set_params(n_steps=0).fit(X[:40], y[:40]).state_
    moved = clf.set_params(n_steps=20).fit(X[:40], y[:40]).state_
    for name, before in still.items():
        if name.startswith("head."):
            np.testing.assert_array_equal(before, moved[name])
        elif name.startswith("encoder."):
            assert np.abs(before - moved[name]).max() > 1e-3
    assert clf.loss_curve_[-1] < 0.5 * clf.loss_curve_[0]


def test_without_a_body_it_is_a_linear_layer_below_orthonormal_rows():
    """Gradient descent of B in W B from zeros, for any orthonormal W, is what adapts."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:60, 1:31], y[:60] % 3
    clf = BOILClassifier(inner_lr=0.2, n_steps=5, dtype="float64").fit(X, y)
    scale = np.where(X.std(0) > 0, X.std(0), 1)
    Z, members = torch.tensor((X - X.mean(0)) / scale), torch.tensor(y)
    W = torch.linalg.qr(torch.randn(8, 3, generator=torch.Generator().manual_seed(1)))[0].double()
    B = torch.zeros(8, 31, dtype=torch.float64, requires_grad=True)
    Z1 = torch.cat([Z, torch.ones(60, 1)], 1)
    for _ in range(5):
        loss = F.cross_entropy(Z1 @ B.T @ W, members)
        B = (B - 0.2 * torch.autograd.grad(loss, B)[0]).detach().requires_grad_()
    expected = (Z1 @ B.T @ W).softmax(1).detach()
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-5, atol=1e-9)
    same = MAMLClassifier(inner_lr=0.2, n_steps=5, dtype="float64").fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), same.predict_proba(X))


def test_names_of_classes_and_order_of_rows_play_no_part():
    X, y = load_digits(return_X_y=True)
    X, y = X[:50], y[:50]
    clf = BOILClassifier(encoder="mlp", encoder__hidden=(16,), random_state=0, dtype="float64")
    plain = clf.fit(X, y).predict_proba(X)
    order = np.random.default_rng(0).permutation(50)
    other = clf.fit(X[order], 9 - y[order]).predict_proba(X)
    np.testing.assert_allclose(other[:, ::-1], plain, rtol=1e-9, atol=1e-12)


def test_more_classes_than_features_can_be_told_apart():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(12, 20)) * 4
    y = np.repeat(np.arange(12), 6)
    X = centres[y] + rng.normal(size=(72, 20)) * 0.3
    net = {"encoder": "mlp", "encoder__hidden": (32, 8), "random_state": 0}
    clf = BOILClassifier(**net, n_steps=400).fit(X, y)
    assert clf.score(X, y) > 0.8
    assert LogisticRegression(max_iter=1000).fit(X, y).score(X, y) == 1.0


# ------------------------------------------------------------------ meta-training
@pytest.fixture(scope="module")
def digits():
    """Digits beside as many columns of noise, to learn from and new ones."""
    X, y = load_digits(return_X_y=True)
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])
    return (X[y < 7], y[y < 7]), (X[y >= 7], y[y >= 7])


@pytest.fixture(scope="module")
def scores(digits):
    """Accuracy on new digits, untrained and meta-trained."""
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    few = {"n_way": 3, "n_shot": 3, "n_query": 10}
    found = []
    for epochs in (0, 6):
        made = meta_train(BOILClassifier(**net), *digits[0], **few, max_epochs=epochs)
        found.append(few_shot_score(made, *digits[1], **few, n_episodes=60, random_state=0).mean)
    return found


def test_meta_training_helps_with_new_digits(scores, margin):
    margin.above(scores[1] - scores[0], 0.02)
    margin.above(scores[1], 0.6)


def test_meta_training_helps_with_new_sinusoids(margin):
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    new = make_sinusoid_tasks(30, n_shot=10, n_query=15, random_state=1)
    net = {"encoder": "mlp", "encoder__hidden": (32, 32), "inner_lr": 0.05, "random_state": 0}
    errors = []
    for epochs in (0, 20):
        data = past.data, past.target, past.groups
        reg = meta_train(BOILRegressor(**net), *data, n_shot=10, max_epochs=epochs, lr=1e-2)
        tasks = [(new.data[t * 25 :][:25], new.target[t * 25 :][:25]) for t in range(30)]
        squares = [(reg.fit(X[:10], y[:10]).predict(X[10:]) - y[10:]) ** 2 for X, y in tasks]
        errors.append(np.mean(squares))
    margin.below(errors[1] / errors[0], 0.7)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_batch_of_tasks_is_each_alone(kind):
    learner = make_learner(kind, n_steps=4).eval()
    batch, _ = make_batch(learner, 5)
    with torch.no_grad():
        together = learner(**batch)
        for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
            state = learner.adapt(Support(X[w > 0], y[w > 0], w[w > 0]))
            alone = learner.predict(state, X_query)
            torch.testing.assert_close(together[i], alone, rtol=1e-8, atol=1e-10)
