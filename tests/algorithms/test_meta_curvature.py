"""Meta-Curvature against Kronecker products and torch.autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.datasets import load_digits
from test_maml import make_batch
from torch.func import functional_call
from torch.nn import functional as F

from fewshot_sklearn import (
    MAMLClassifier,
    MetaCurvatureClassifier,
    MetaCurvatureRegressor,
    few_shot_score,
)
from fewshot_sklearn.algorithms.meta_curvature import (
    Curvature,
    MetaCurvatureClassification,
    MetaCurvatureRegression,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Support

KINDS = ["regression", "classification", "vmapped classification", "convolution"]


def make_learner(kind, **options):
    """A learner in float64 whose parameters, matrices included, are all random."""
    torch.manual_seed(0)
    if kind == "regression":
        encoder = make_encoder("mlp", (2,), {"hidden": (8, 6)})
        learner = MetaCurvatureRegression(encoder, (2,), 2, **options)
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    elif kind == "convolution":
        encoder = make_encoder("conv4", (8, 8), {"width": 4})
        learner = MetaCurvatureClassification(encoder, (8, 8), **options)
    else:
        activation = "gelu" if kind == "vmapped classification" else "tanh"
        encoder = make_encoder("mlp", (3,), {"hidden": (8,), "activation": activation})
        learner = MetaCurvatureClassification(encoder, (3,), **options)
    for p in learner.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return learner.double()


def whole_matrix(curvature):
    """The whole matrix of a weight's curvature: the Kronecker product of those of its axes."""
    M = torch.ones(1, 1).double()
    for axis, size in enumerate(curvature.sizes):
        own = curvature.along[str(axis)] if str(axis) in curvature.along else torch.eye(size)
        M = torch.kron(M, torch.diag(own) if own.ndim == 1 else own.double())
    return M


@pytest.mark.parametrize("shape", [(5,), (4, 3), (4, 3, 3, 2), (2, 3, 5)])
def test_mode_products_are_a_kronecker_product(shape):
    torch.manual_seed(0)
    curvature = Curvature(shape).double()
    G = torch.randn(3, *shape).double()
    torch.testing.assert_close(curvature(G), G)  # the identity at first
    for p in curvature.parameters():
        p.data = torch.randn_like(p)
    expected = (G.flatten(1) @ whole_matrix(curvature).T).view_as(G)
    torch.testing.assert_close(curvature(G), expected)
    torch.testing.assert_close(curvature(G[0]), expected[0])


def test_a_wide_axis_has_a_number_for_each_entry():
    curvature = Curvature((3, 2000))
    assert [p.shape for p in curvature.parameters()] == [(3, 3), (2000,)]
    G = torch.randn(3, 2000)
    torch.testing.assert_close(curvature(G), G)


def by_hand(learner, batch, y_query):
    """theta - inner_lr M grad, M a whole matrix; outputs and query loss."""
    matrices = {k.replace("/", "."): whole_matrix(c) for k, c in learner.curvature.items()}
    outputs, total = [], 0.0

    def network(params, X):
        inner = {k.removeprefix("encoder."): p for k, p in params.items() if "head" not in k}
        Z = functional_call(learner.encoder, inner, (X,))
        return Z @ params["head.weight"].T + params["head.bias"]

    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        X, y, w = X[w > 0], y[w > 0], w[w > 0]
        params = {f"encoder.{k}": p for k, p in learner.encoder.named_parameters()}
        bent = dict(matrices)
        if learner.n_outputs is None:
            zeros = X.new_zeros(y.shape[1], learner.n_features + 1).requires_grad_()
            params |= {"head.weight": zeros[:, :-1], "head.bias": zeros[:, -1]}
            eye = torch.eye(y.shape[1]).double()
            bent["head.weight"] = torch.kron(eye, matrices["head.weight"])
            bent["head.bias"] = learner.of_biases * eye
        else:
            params |= {"head.weight": learner.head.weight, "head.bias": learner.head.bias}
        for _ in range(learner.n_steps):
            if learner.n_outputs is None:
                loss = F.cross_entropy(network(params, X), y)
            else:
                loss = F.mse_loss(network(params, X), (y - learner.y_mean) / learner.y_scale)
            grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params = {
                k: p - learner.inner_lr * (bent[k] @ g.flatten()).view_as(p)
                for (k, p), g in zip(params.items(), grads, strict=True)
            }
        out = network(params, X_query)
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
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    found_loss, found = learner.training_loss(**batch, y_query=y_query)
    torch.testing.assert_close(found, outputs, rtol=1e-8, atol=1e-10)
    grads = torch.autograd.grad(found_loss, parameters, allow_unused=True)
    for name, a, b in zip(names, grads, expected, strict=True):
        a = torch.zeros_like(b) if a is None else a
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
        if "norm" not in name and (n_steps > 1 or kind == "regression" or "head" in name):
            assert b.abs().max() > 1e-7, name


def test_matrices_of_one_multiple_are_a_step_size():
    """With the matrix of outputs twice the identity this is MAML with twice the step size."""
    torch.manual_seed(0)
    learner = make_learner("vmapped classification", inner_lr=0.2, n_steps=3)
    for name, curvature in learner.curvature.items():
        for axis, M in curvature.along.items():
            twice = 2.0 if axis == "0" or name.startswith("head") else 1.0
            M.data = twice * (torch.ones_like(M) if M.ndim == 1 else torch.eye(len(M)).double())
    learner.of_biases.data.fill_(2.0)
    maml = MAMLClassifier._learner_class(learner.encoder, (3,), n_steps=3, inner_lr=0.4).double()
    batch, _ = make_batch(learner)
    torch.testing.assert_close(learner(**batch), maml(**batch))


# ------------------------------------------------------------------ meta-training
def test_meta_training_helps_with_new_digits(margin):
    X, y = load_digits(return_X_y=True)
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])  # and columns of noise
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    few = {"n_way": 3, "n_shot": 3, "n_query": 10}
    found = []
    for epochs in (0, 12):
        made = meta_train(
            MetaCurvatureClassifier(**net), X[y < 7], y[y < 7], **few, max_epochs=epochs
        )
        new = X[y >= 7], y[y >= 7]
        found.append(few_shot_score(made, *new, **few, n_episodes=100, random_state=0).mean)
    margin.above(found[1] - found[0], 0.02)
    margin.above(found[1], 0.5)


def test_meta_training_helps_with_new_sinusoids(margin):
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    new = make_sinusoid_tasks(30, n_shot=10, n_query=15, random_state=1)
    net = {"encoder": "mlp", "encoder__hidden": (32, 32), "inner_lr": 0.05, "random_state": 0}
    errors = []
    for epochs in (0, 16):
        data = past.data, past.target, past.groups
        reg = meta_train(MetaCurvatureRegressor(**net), *data, n_shot=10, max_epochs=epochs)
        tasks = [(new.data[t * 25 :][:25], new.target[t * 25 :][:25]) for t in range(30)]
        squares = [(reg.fit(X[:10], y[:10]).predict(X[10:]) - y[10:]) ** 2 for X, y in tasks]
        errors.append(np.mean(squares))
    margin.below(errors[1] / errors[0], 0.7)
    matrices = [t for k, t in reg.meta_init.tensors.items() if k.startswith("curvature.")]
    assert max(np.abs(M - np.eye(len(M))).max() for M in matrices if M.ndim == 2) > 1e-3


def test_a_batch_of_tasks_is_each_alone():
    learner = make_learner("classification", n_steps=4).eval()
    batch, _ = make_batch(learner, 5)
    with torch.no_grad():
        together = learner(**batch)
        for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
            state = learner.adapt(Support(X[w > 0], y[w > 0], w[w > 0]))
            alone = learner.predict(state, X_query)
            torch.testing.assert_close(together[i], alone, rtol=1e-8, atol=1e-10)
