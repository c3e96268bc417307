"""CAVIA against its equations written out with torch.autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.datasets import load_digits
from test_maml import make_batch
from torch.nn import functional as F

from fewshot_sklearn import CAVIAClassifier, CAVIARegressor, MAMLClassifier, few_shot_score
from fewshot_sklearn.algorithms.cavia import CAVIAClassification, CAVIARegression
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Support

KINDS = ["regression", "classification", "convolution"]


def make_learner(kind, **options):
    """A learner in float64 whose parameters are all random."""
    torch.manual_seed(0)
    options = {"n_context": 5, "n_hidden": 7} | options
    if kind == "regression":
        learner = CAVIARegression(make_encoder("mlp", (2,), {"hidden": (8, 6)}), (2,), 2, **options)
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    elif kind == "convolution":
        encoder = make_encoder("conv4", (8, 8), {"width": 4})
        learner = CAVIAClassification(encoder, (8, 8), **options)
    else:
        encoder = make_encoder("mlp", (3,), {"hidden": (8,)})
        learner = CAVIAClassification(encoder, (3,), **options)
    for p in learner.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return learner.double()


def told(learner, x, phi):
    """What the network makes of one row of features and one context: written out."""
    scale, shift = (learner.film.weight @ phi).chunk(2)
    h = (learner.reads.weight @ x + learner.reads.bias) * (1 + scale) + shift
    more = torch.relu(learner.hidden.weight @ torch.relu(h) + learner.hidden.bias)
    return learner.direct.weight @ h + learner.out.weight @ more + learner.out.bias


def network(learner, phi, X):
    """Outputs of rows, one row and one class at a time."""
    Z = learner.encoder(X)
    if learner.n_outputs is not None:
        return torch.stack([told(learner, z, phi[0]) for z in Z])
    return torch.stack([torch.cat([told(learner, z, p) for p in phi]) for z in Z]).log_softmax(1)


def by_hand(learner, batch, y_query):
    """Eq. 3 with torch.autograd, one task after the other; outputs and the loss of eq. 4."""
    outputs, total = [], 0.0
    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        X, y, w = X[w > 0], y[w > 0], w[w > 0]
        n_contexts = y.shape[1] if learner.n_outputs is None else 1
        phi = torch.zeros(n_contexts, learner.n_context).double().requires_grad_()
        for _ in range(learner.n_steps):
            if learner.n_outputs is None:
                loss = F.cross_entropy(network(learner, phi, X), y)
            else:
                target = (y - learner.y_mean) / learner.y_scale
                loss = F.mse_loss(network(learner, phi, X), target)
            phi = phi - learner.inner_lr * torch.autograd.grad(loss, phi, create_graph=True)[0]
        out = network(learner, phi, X_query)
        if learner.n_outputs is not None:
            out = out * learner.y_scale + learner.y_mean
        outputs.append(out)
        total = total + learner.loss(out[None], y_query[i : i + 1]) / len(y_query)
    return torch.stack(outputs), total


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients(kind, n_steps):
    learner = make_learner(kind, n_steps=n_steps, inner_lr=0.4)
    batch, y_query = make_batch(learner)
    outputs, loss = by_hand(learner, batch, y_query)
    names, parameters = zip(*learner.named_parameters(), strict=True)
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    found_loss, found = learner.training_loss(**batch, y_query=y_query)
    torch.testing.assert_close(found, outputs, rtol=1e-8, atol=1e-10)
    grads = torch.autograd.grad(found_loss, parameters, allow_unused=True)
    for name, a, b in zip(names, grads, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
        if "norm" not in name and ".bias" not in name:  # which all classes share
            assert b.abs().max() > 1e-7, name


def test_only_the_context_adapts():
    X, y = load_digits(return_X_y=True)
    net = {"encoder": "mlp", "encoder__hidden": (8,), "n_context": 3, "n_hidden": 5}
    few = {"n_way": 3, "n_shot": 2, "n_query": 3, "n_episodes": 4, "max_epochs": 1}
    clf = meta_train(CAVIAClassifier(**net), X[y < 7], y[y < 7], **few).fit(X[:40], y[:40])
    assert set(clf.state_) == {"context", "present", "loss_curve"}
    assert clf.context_.shape == (10, 3) and np.abs(clf.context_).max() > 1e-3


def test_without_a_past_it_is_a_linear_head_from_zeros():
    X, y = load_digits(return_X_y=True)
    how = {"inner_lr": 0.2, "n_steps": 5, "dtype": "float64"}
    expected = MAMLClassifier(**how).fit(X[:60], y[:60]).predict_proba(X)
    np.testing.assert_allclose(
        CAVIAClassifier(**how).fit(X[:60], y[:60]).predict_proba(X), expected, rtol=1e-8
    )


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


# ------------------------------------------------------------------ meta-training
def test_meta_training_helps_with_new_digits(margin):
    X, y = load_digits(return_X_y=True)
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])  # and columns of noise
    few = {"n_way": 3, "n_shot": 3, "n_query": 10}
    found = []
    for epochs in (0, 8):
        made = meta_train(
            CAVIAClassifier(random_state=0), X[y < 7], y[y < 7], **few, max_epochs=epochs
        )
        new = X[y >= 7], y[y >= 7]
        found.append(few_shot_score(made, *new, **few, n_episodes=100, random_state=0).mean)
    margin.above(found[1] - found[0], 0.02)
    margin.above(found[1], 0.5)


def test_meta_training_helps_with_new_sinusoids(margin):
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    new = make_sinusoid_tasks(30, n_shot=10, n_query=15, random_state=1)
    errors = []
    for epochs in (0, 20):
        data = past.data, past.target, past.groups
        reg = CAVIARegressor(n_hidden=40, random_state=0)
        reg = meta_train(reg, *data, n_shot=10, max_epochs=epochs)
        tasks = [(new.data[t * 25 :][:25], new.target[t * 25 :][:25]) for t in range(30)]
        squares = [(reg.fit(X[:10], y[:10]).predict(X[10:]) - y[10:]) ** 2 for X, y in tasks]
        errors.append(np.mean(squares))
    margin.below(errors[1] / errors[0], 0.7)


@pytest.mark.parametrize(("params", "message"), [({"n_context": 0}, "n_context must"),
                                                 ({"n_hidden": 0}, "n_hidden must")])  # fmt: skip
def test_bad_hyperparameters(params, message):
    with pytest.raises(ValueError, match=message):
        CAVIARegressor(**params).fit([[0.0], [1.0]], [0.0, 1.0])
