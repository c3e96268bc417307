"""Implicit MAML against dense solves, and against differentiating very many steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from test_maml import make_batch
from torch.func import functional_call
from torch.nn import functional as F

from fewshot_sklearn import IMAMLClassifier, IMAMLRegressor, few_shot_score
from fewshot_sklearn.algorithms.imaml import (
    IMAMLClassification,
    IMAMLRegression,
    conjugate_gradients,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Support, add_rotations

KINDS = ["regression", "tanh regression", "classification", "vmapped classification", "convolution"]


def make_learner(kind, **options):
    """A learner in float64 whose parameters are all random."""
    torch.manual_seed(0)
    lam = 30.0 if kind == "convolution" else 2.0
    options = {"n_steps": 16, "inner_lr": 0.1 / lam, "lam": lam} | options
    if "regression" in kind:
        activation = "tanh" if "tanh" in kind else "relu"
        encoder = make_encoder("mlp", (2,), {"hidden": (8, 6), "activation": activation})
        learner = IMAMLRegression(encoder, (2,), 2, **options)
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    elif kind == "convolution":
        encoder = make_encoder("conv4", (8, 8), {"width": 4})
        learner = IMAMLClassification(encoder, (8, 8), **options)
    else:
        activation = "gelu" if kind == "vmapped classification" else "tanh"
        encoder = make_encoder("mlp", (3,), {"hidden": (8,), "activation": activation})
        learner = IMAMLClassification(encoder, (3,), **options)
    for p in learner.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return learner.double()


class OneTask:
    """Losses of one task as functions of all weights in one vector, written out."""

    def __init__(self, learner, X, y, w):
        self.learner, self.X, self.y = learner, X[w > 0], y[w > 0]
        body = {f"encoder.{k}": p.detach() for k, p in learner.encoder.named_parameters()}
        if learner.n_outputs is None:
            zeros = X.new_zeros(y.shape[1], learner.n_features + 1)
            head = {"head.weight": zeros[:, :-1], "head.bias": zeros[:, -1]}
        else:
            head = {f"head.{k}": p.detach() for k, p in learner.head.named_parameters()}
        self.shapes = {k: p.shape for k, p in (body | head).items()}
        self.start = torch.cat([p.flatten() for p in (body | head).values()])

    def named(self, vector):
        parts = vector.split([shape.numel() for shape in self.shapes.values()])
        named = zip(self.shapes.items(), parts, strict=True)
        return {k: part.view(shape) for (k, shape), part in named}

    def network(self, vector, X):
        p = self.named(vector)
        inner = {k.removeprefix("encoder."): t for k, t in p.items() if "head" not in k}
        Z = functional_call(self.learner.encoder, inner, (X,))
        return Z @ p["head.weight"].T + p["head.bias"]

    def loss(self, vector):
        if self.learner.n_outputs is None:
            return F.cross_entropy(self.network(vector, self.X), self.y)
        target = (self.y - self.learner.y_mean) / self.learner.y_scale
        return F.mse_loss(self.network(vector, self.X), target)

    def pulled(self, vector, start):
        return self.loss(vector) + self.learner.lam / 2 * (vector - start).square().sum()

    def query_loss(self, vector, X_query, y_query):
        out = self.network(vector, X_query)
        if self.learner.n_outputs is not None:
            out = out * self.learner.y_scale + self.learner.y_mean
        return self.learner.loss(out[None], y_query[None])

    def descended(self, start, differentiable=False):
        phi = start
        for _ in range(self.learner.n_steps):
            slope = torch.autograd.grad(self.pulled(phi, start), phi, create_graph=differentiable)[
                0
            ]
            phi = phi - self.learner.inner_lr * slope
            phi = phi if differentiable else phi.detach().requires_grad_()
        return phi


def tasks_of(learner, batch, y_query):
    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        yield OneTask(learner, X, y, w), X_query, y_query[i]


def dense(learner, batch, y_query):
    """Mean over tasks of the exact solution of (I + H / lam) x = g, by name."""
    total = 0.0
    for task, X_query, y in tasks_of(learner, batch, y_query):
        phi = task.descended(task.start.requires_grad_())
        g = torch.autograd.grad(task.query_loss(phi, X_query, y), phi)[0].numpy()
        H = torch.autograd.functional.hessian(task.loss, phi.detach()).numpy()
        x = np.linalg.solve(np.eye(len(g)) + H / learner.lam, g)
        total = total + torch.tensor(x) / len(y_query)
    return task.named(total)


def unrolled(learner, batch, y_query):
    """The same by torch.autograd through all steps."""
    total = 0.0
    for task, X_query, y in tasks_of(learner, batch, y_query):
        start = task.start.requires_grad_()
        loss = task.query_loss(task.descended(start, differentiable=True), X_query, y)
        total = total + torch.autograd.grad(loss, start)[0] / len(y_query)
    return task.named(total)


def meta_gradient(learner, batch, y_query):
    learner.zero_grad(set_to_none=True)
    loss, outputs = learner.backward_by_hand(**batch, y_query=y_query, share=1.0)
    return loss, outputs, {k: p.grad for k, p in learner.named_parameters()}


def assert_alike(learner, found, expected, **close):
    for name in dict(learner.named_parameters()):
        torch.testing.assert_close(
            found[name], expected[name], msg=lambda m, n=name: f"{n}: {m}", **close
        )


@pytest.mark.parametrize("kind", KINDS)
def test_meta_gradient_is_that_of_a_dense_solve(kind):
    learner = make_learner(kind, cg_steps=60 if kind == "convolution" else 150)
    batch, y_query = make_batch(learner)
    loss, outputs, found = meta_gradient(learner, batch, y_query)
    assert_alike(learner, found, dense(learner, batch, y_query), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(outputs, learner(**batch))
    torch.testing.assert_close(loss, learner.loss(outputs, y_query))


@pytest.mark.parametrize("kind", ["tanh regression", "classification", "vmapped classification"])
def test_meta_gradient_is_that_of_maml_with_very_many_steps(kind):
    learner = make_learner(kind, cg_steps=100, n_steps=400)
    batch, y_query = make_batch(learner)
    found = meta_gradient(learner, batch, y_query)[2]
    expected = unrolled(learner, batch, y_query)
    assert_alike(learner, found, expected, rtol=1e-5, atol=1e-8)
    far = meta_gradient(make_learner(kind, cg_steps=0, n_steps=400), batch, y_query)[2]
    gaps = [(far[k] - expected[k]).abs().max() for k in found]
    assert max(gaps) > 1e-3  # no steps of conjugate gradients are another gradient


def test_conjugate_gradients_of_many_tasks_at_once():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3, 5, 5))
    A = torch.tensor(A @ A.transpose(0, 2, 1) + np.eye(5))
    b = torch.tensor(rng.normal(size=(3, 5)))
    x = conjugate_gradients(
        lambda v: {"x": (A @ v["x"][..., None])[..., 0]}, {"x": b}, n_steps=20, lead=1
    )
    np.testing.assert_allclose(x["x"], np.linalg.solve(A, b[..., None])[..., 0], rtol=1e-9)


def test_conjugate_gradients_end_where_there_is_no_minimum():
    A = torch.diag(torch.tensor([2.0, -3.0]))
    b = torch.tensor([0.0, 1.0])
    x = conjugate_gradients(lambda v: {"x": A @ v["x"]}, {"x": b}, n_steps=9, lead=0)
    assert torch.equal(x["x"], b)


def test_without_a_past_it_is_regularised_regression():
    X, y = load_digits(return_X_y=True)
    X, y = X[:80], y[:80]
    Z = (X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1)
    Z1 = np.column_stack([Z, np.ones(80)])  # the bias is pulled, too
    how = {"n_steps": 3000, "lam": 0.5, "dtype": "float64"}
    clf = IMAMLClassifier(**how).fit(X, y)
    theirs = LogisticRegression(C=1 / (0.5 * 80), fit_intercept=False, tol=1e-10, max_iter=10**4)
    np.testing.assert_allclose(
        clf.predict_proba(X), theirs.fit(Z1, y).predict_proba(Z1), rtol=1e-4, atol=1e-6
    )
    t = X[:, 20] - X[:, 30]
    reg = IMAMLRegressor(**how, inner_lr=0.02).fit(X, t)
    scaled = (t - t.mean()) / t.std()
    ridge = Ridge(alpha=0.25 * 80, fit_intercept=False).fit(Z1, scaled).predict(Z1)
    np.testing.assert_allclose(reg.predict(X), ridge * t.std() + t.mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_batch_of_tasks_is_each_alone(kind):
    learner = make_learner(kind).eval()
    batch, _ = make_batch(learner, 5)
    with torch.no_grad():
        together = learner(**batch)
        for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
            state = learner.adapt(Support(X[w > 0], y[w > 0], w[w > 0]))
            alone = learner.predict(state, X_query)
            torch.testing.assert_close(together[i], alone, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------ meta-training
def test_meta_training_helps_with_new_digits(margin):
    digits = load_digits()
    X, y = add_rotations(digits.images, digits.target)
    X, y = X.reshape(len(X), -1), np.unique(y, return_inverse=True)[1]
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])  # and columns of noise
    new = np.isin(y, np.random.default_rng(0).permutation(40)[:12])
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    few, found = {"n_way": 5, "n_shot": 1, "n_query": 10}, []
    for epochs in (0, 8):
        made = meta_train(IMAMLClassifier(**net), X[~new], y[~new], **few, max_epochs=epochs)
        score = few_shot_score(made, X[new], y[new], **few, n_episodes=100, random_state=0)
        found.append(score.mean)
    margin.above(found[1] - found[0], 0.05)
    margin.above(found[1], 0.25, "accuracy")


def test_meta_training_helps_with_new_sinusoids(margin):
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    new = make_sinusoid_tasks(30, n_shot=10, n_query=15, random_state=1)
    net = {"encoder": "mlp", "encoder__hidden": (32, 32), "inner_lr": 0.05, "random_state": 0}
    errors = []
    for epochs in (0, 12):
        data = past.data, past.target, past.groups
        reg = IMAMLRegressor(**net)
        reg = meta_train(reg, *data, n_shot=10, max_epochs=epochs, lr=1e-2)
        tasks = [(new.data[t * 25 :][:25], new.target[t * 25 :][:25]) for t in range(30)]
        squares = [(reg.fit(X[:10], y[:10]).predict(X[10:]) - y[10:]) ** 2 for X, y in tasks]
        errors.append(np.mean(squares))
    margin.below(errors[1] / errors[0], 0.8)


@pytest.mark.parametrize(("params", "message"), [({"lam": 0.0}, "lam must"),
                                                 ({"cg_steps": -1}, "cg_steps must")])  # fmt: skip
def test_bad_hyperparameters(params, message):
    with pytest.raises(ValueError, match=message):
        IMAMLRegressor(**params).fit([[0.0], [1.0]], [0.0, 1.0])
