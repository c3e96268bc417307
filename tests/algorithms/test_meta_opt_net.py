"""MetaOptNet against scikit-learn's Crammer-Singer machine, a QP solver, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_digits import assert_learns
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.svm import LinearSVC
from torch.nn import functional as F

from fewshot_sklearn import MetaOptNetClassifier
from fewshot_sklearn.algorithms._crammer_singer import crammer_singer, projected
from fewshot_sklearn.algorithms.meta_opt_net import MetaOptNet
from fewshot_sklearn.encoders import make_encoder


@pytest.fixture(scope="module", params=[20, 100], ids=["fewer rows than features", "more"])
def digits(request):
    X, y = load_digits(return_X_y=True)
    n = request.param
    return 0.1 * (X[:n] - X[:n].mean(0)), y[:n], 0.1 * (X[200:300] - X[:n].mean(0))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("C", [0.01, 0.1])
def test_scikit_learns_machine(digits, C):
    X, y, X_query = digits
    w = np.random.default_rng(0).uniform(0.5, 2, len(X))
    net = MetaOptNet(make_encoder("identity", (64,), {}), (64,), C=C, n_steps=3000).double()
    members = F.one_hot(torch.as_tensor(y), 10).double()
    state = net.adapt_features(torch.as_tensor(X), members, torch.as_tensor(w))
    theirs = LinearSVC(multi_class="crammer_singer", fit_intercept=False, C=C, tol=1e-7,
                       max_iter=20_000).fit(X, y, w)  # fmt: skip
    size = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(state["coef"].T, theirs.coef_, atol=1e-4 * size)
    logits = net.predict_features(state, torch.as_tensor(X_query)).detach()
    expected = 10 * theirs.decision_function(X_query)
    np.testing.assert_allclose(logits, expected, atol=1e-3 * np.abs(expected).max())


def test_usual_number_of_steps_is_enough_for_few_rows(digits):
    X, y, _ = digits
    Z, members = torch.as_tensor(X), F.one_hot(torch.as_tensor(y), 10).double()
    cost = torch.full((len(X),), 0.1).double()
    usual, best = (Z.mT @ crammer_singer(Z, members, cost, n) for n in (200, 5000))
    np.testing.assert_allclose(usual, best, atol=1e-3 * best.abs().max())


def test_without_a_past_rows_are_centred(digits):
    X, y, X_query = digits
    clf = MetaOptNetClassifier(n_steps=3000).fit(X + 50, y)
    theirs = LinearSVC(multi_class="crammer_singer", fit_intercept=False, C=0.1, tol=1e-7,
                       max_iter=20_000)  # fmt: skip
    theirs.fit(X - X.mean(0), y)
    size = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(clf.coef_, theirs.coef_, atol=1e-3 * size)
    np.testing.assert_array_equal(clf.predict(X_query + 50), theirs.predict(X_query - X.mean(0)))


def test_class_probabilities_as_labels():
    """The primal problem, as it is told, has the same value: there is no gap."""
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(12, 5)), rng.dirichlet(np.ones(3), 12)
    cost = rng.uniform(0.1, 1, 12)
    a = crammer_singer(*map(torch.as_tensor, (Z, y, cost)), 5000).numpy()

    def primal(W):
        scores = Z @ W.reshape(5, 3)
        losses = (scores + 1 - y).max(1) - (y * scores).sum(1)
        return 0.5 * np.square(W).sum() + cost @ losses

    constant = cost @ (1 - np.square(y).sum(1))
    dual = -0.5 * np.square(Z.T @ a).sum() + (a * y).sum() + constant
    np.testing.assert_allclose(primal((Z.T @ a).ravel()), dual, rtol=1e-8)


def test_projection():
    rng = np.random.default_rng(0)
    v, most = rng.normal(size=(2, 50, 4))
    most = np.abs(most) * (rng.random((50, 4)) > 0.3)
    there = np.ones((50, 4), bool)
    there[:, 3] = False
    found = projected(*map(torch.as_tensor, (v, most, there))).numpy()
    assert (found[:, 3] == 0).all() and (found <= most).all()
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-12)
    for row, bound, ours in zip(v[:, :3], most[:, :3], found[:, :3], strict=True):
        best = minimize(
            lambda a, row=row: np.square(a - row).sum(), np.zeros(3), method="SLSQP",
            bounds=[(None, b) for b in bound], options={"ftol": 1e-14},
            constraints={"type": "eq", "fun": lambda a: a.sum()},
        )  # fmt: skip
        np.testing.assert_allclose(ours, best.x, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (2, 9, 4)], ids=["one task", "a batch"])
@pytest.mark.parametrize("C", [0.1, 1.0, 30.0])
def test_derivatives_are_those_of_the_solution(shape, C):
    torch.manual_seed(0)
    Z = torch.randn(shape, dtype=torch.double, requires_grad=True)
    codes = torch.arange(shape[-2]) % 3
    y = F.one_hot(codes, 4).double().expand(*shape[:-1], 4)  # the last has no rows
    cost = torch.full(shape[:-1], C).double()
    cost[..., -1] = 0.0

    def weights(Z):
        return Z.mT @ crammer_singer(Z, y, cost, 3000)

    assert torch.autograd.gradcheck(weights, (Z,), atol=1e-5, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("size", [1e-8, 1e8])
def test_features_of_any_size(size):
    torch.manual_seed(0)
    Z = (size * torch.randn(8, 3, dtype=torch.double)).requires_grad_()
    y = F.one_hot(torch.arange(8) % 2, 2).double()
    Z.data[4:] = Z.data[:4]
    Z.data[:, 2] = 0.0
    W = Z.mT @ crammer_singer(Z, y, torch.full((8,), 0.1).double(), 200)
    W.sum().backward()
    assert W.isfinite().all() and Z.grad.isfinite().all()


def test_meta_training_helps_on_new_classes(margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    assert_learns(MetaOptNetClassifier(**net, n_steps=50), margin)
