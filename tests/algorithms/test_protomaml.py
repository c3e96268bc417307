"""Proto-MAML against the nearest centroid, torch.autograd by hand and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler
from test_maml import make_batch
from torch.func import functional_call
from torch.nn import functional as F

from fewshot_sklearn import ProtoMAMLClassifier, ProtoNetClassifier, few_shot_score
from fewshot_sklearn.algorithms.protomaml import ProtoMAML
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.learners import episode_loss
from fewshot_sklearn.tasks import Support, add_rotations

pytestmark = pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")


# ------------------------------------------------------------------ without steps
@pytest.mark.parametrize("loader", [load_iris, load_wine, load_digits])
@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_without_steps_it_is_the_nearest_class_mean(loader, offset):
    X, y = loader(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))
    X, y = X[rows] + offset, y[rows]
    scaler = StandardScaler().fit(X[:60])
    Z = scaler.transform(X)
    clf = ProtoMAMLClassifier(n_steps=0).fit(X[:60], y[:60])
    nearest = NearestCentroid().fit(Z[:60], y[:60])
    constant = scaler.var_ == 0  # among the support rows: rows that differ there are left out
    same = (Z[:, constant] == Z[0, constant]).all(1)
    np.testing.assert_array_equal(clf.predict(X[same]), nearest.predict(Z[same]))
    proto = ProtoNetClassifier().fit(Z[:60], y[:60])
    np.testing.assert_allclose(
        clf.predict_proba(X[same]), proto.predict_proba(Z[same]), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("n_steps", [0, 1, 5])
def test_weighted_rows_make_weighted_means(n_steps):
    X, y = load_iris(return_X_y=True)
    w = np.random.default_rng(0).integers(0, 4, len(y))
    weighted = ProtoMAMLClassifier(n_steps=n_steps).fit(X, y, sample_weight=w)
    repeated = ProtoMAMLClassifier(n_steps=n_steps).fit(np.repeat(X, w, 0), np.repeat(y, w))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-8)


def test_steps_lower_the_support_loss(margin):
    X, y = load_wine(return_X_y=True)
    X = X @ np.random.default_rng(0).normal(size=(13, 13))
    start, end = (ProtoMAMLClassifier(n_steps=n, inner_lr=0.1).fit(X, y) for n in (1, 100))
    assert end.loss_curve_[0] == start.loss_curve_[0]
    margin.below(np.divide(end.loss_curve_[1:], end.loss_curve_[:-1]).max(), 1, "each step")
    margin.below(end.loss_curve_[-1] / end.loss_curve_[0], 0.9, "all steps")


# ------------------------------------------------------------------ by hand
def make_learner(kind, **options):
    """A learner in float64 with random parameters."""
    torch.manual_seed(0)
    options = {"n_steps": 2, "inner_lr": 0.2} | options
    if kind == "convolution":
        learner = ProtoMAML(make_encoder("conv4", (8, 8), {"width": 4}), (8, 8), **options)
    else:
        encoder = make_encoder("mlp", (3,), {"hidden": (8, 5), "activation": kind})
        learner = ProtoMAML(encoder, (3,), **options)
    for p in learner.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return learner.double()


def by_hand(learner, batch, y_query, first_order=False):
    """Section 3 with torch.autograd, one task after the other: W = 2 c and b = -c'c as they are."""
    outputs, total = [], 0.0
    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        X, codes = X[w > 0], y[w > 0].argmax(1)
        params = dict(learner.encoder.named_parameters())
        Z = functional_call(learner.encoder, params, (X,))
        c = torch.stack([Z[codes == k].mean(0) for k in range(y.shape[1])])
        # the inner gradient takes the head for what it is, not for a function of the encoder
        params = {k: 1 * p for k, p in params.items()} | {"W": 2 * c, "b": -c.square().sum(1)}

        def network(params, X):
            inner = {k: p for k, p in params.items() if k not in "Wb"}
            return functional_call(learner.encoder, inner, (X,)) @ params["W"].T + params["b"]

        for _ in range(learner.n_steps):
            loss = F.cross_entropy(network(params, X), codes)
            grads = torch.autograd.grad(
                loss, list(params.values()), create_graph=not first_order, retain_graph=True
            )
            params = {
                k: p - learner.inner_lr * g for (k, p), g in zip(params.items(), grads, strict=True)
            }
        outputs.append(network(params, X_query).log_softmax(1))
        total = total + episode_loss(outputs[-1][None], y_query[i : i + 1]) / len(y_query)
    return torch.stack(outputs), total


KINDS = ["relu", "tanh", "gelu", "convolution"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_outputs_and_gradients(kind, first_order, n_steps):
    learner = make_learner(kind, first_order=first_order, n_steps=n_steps)
    batch, y_query = make_batch(learner)
    outputs, expected = by_hand(learner, batch, y_query, first_order)
    loss, found = learner.training_loss(**batch, y_query=y_query)
    torch.testing.assert_close(found.log_softmax(-1), outputs, rtol=1e-8, atol=1e-10)
    parameters = list(learner.parameters())
    wanted = torch.autograd.grad(expected, parameters)
    for a, b in zip(torch.autograd.grad(loss, parameters), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["tanh", "gelu", "convolution"])
def test_meta_gradient_is_that_of_finite_differences(kind):
    learner = make_learner(kind)
    batch, y_query = make_batch(learner)

    def loss():
        return learner.training_loss(**batch, y_query=y_query)[0]

    parameters, step = list(learner.parameters()), 1e-6
    gradient = torch.autograd.grad(loss(), parameters)
    start = [p.detach().clone() for p in parameters]
    for seed in range(3):
        torch.manual_seed(seed)
        direction, losses = [torch.randn_like(p) for p in parameters], []
        for sign in (1, -1):
            for p, origin, d in zip(parameters, start, direction, strict=True):
                p.data = origin + sign * step * d
            losses.append(loss().item())
        slope = (losses[0] - losses[1]) / (2 * step)
        along = sum((g * d).sum().item() for g, d in zip(gradient, direction, strict=True))
        assert along == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_tasks_is_each_alone(kind):
    learner = make_learner(kind, n_steps=4, trained_steps=2).eval()
    batch, _ = make_batch(learner, 4)
    with torch.no_grad():
        together = learner(**batch)
        for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
            state = learner.adapt(Support(X[w > 0], y[w > 0], w[w > 0]))
            alone = learner.predict(state, X_query)
            torch.testing.assert_close(together[i], alone, rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------ meta-training
@pytest.fixture(scope="module")
def pool():
    """(X, y) of 28 classes of turned digits to learn from, and (X, y) of 12 others.

    Half of the columns are noise, which meta-training learns to leave out.
    """
    digits = load_digits()
    X, y = add_rotations(digits.images, digits.target)
    X, y = X.reshape(len(X), -1), np.unique(y, return_inverse=True)[1]
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])
    new = np.isin(y, np.random.default_rng(0).permutation(40)[:12])
    return (X[~new], y[~new]), (X[new], y[new])


NET = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}


TASKS = {"n_way": 5, "n_shot": 1, "n_query": 10, "max_epochs": 5}


@pytest.fixture(scope="module")
def trained(pool):
    return meta_train(ProtoMAMLClassifier(**NET), *pool[0], **TASKS)


def test_meta_training_helps_with_new_classes(trained, pool, margin):
    options = {"n_way": 5, "n_shot": 1, "n_query": 15, "n_episodes": 100, "random_state": 0}
    untrained = meta_train(ProtoMAMLClassifier(**NET), *pool[0], **(TASKS | {"max_epochs": 0}))
    before = few_shot_score(untrained, *pool[1], **options).mean
    margin.above(few_shot_score(trained, *pool[1], **options).mean - before, 0.1)


@pytest.mark.parametrize(("n_way", "least"), [(1, 0.9), (2, 0.6), (3, 0.45), (12, 0.2)])
def test_any_number_of_classes(trained, pool, n_way, least, margin):
    X, y = pool[1]
    kept = np.concatenate([np.flatnonzero(y == label)[:5] for label in np.unique(y)[:n_way]])
    clf = trained.fit(X[kept], y[kept])
    assert clf.predict_proba(X).shape == (len(X), n_way)
    mine = np.isin(y, clf.classes_)
    margin.above(clf.score(X[mine], y[mine]), least)


def test_a_class_without_support_changes_nothing(trained, pool):
    X, y = pool[1]
    kept = np.concatenate([np.flatnonzero(y == label)[:5] for label in np.unique(y)[:4]])
    X_support, y_support = X[kept], y[kept]
    absent = np.unique(y)[1]
    weights = (y_support != absent).astype(float)
    proba = trained.fit(X_support, y_support, weights).predict_proba(X[:50])
    alone = trained.fit(X_support[weights > 0], y_support[weights > 0]).predict_proba(X[:50])
    assert (proba[:, 1] == 0).all()
    np.testing.assert_allclose(np.delete(proba, 1, 1), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("inner_lr", [1.0, 1e4, 1e8])
def test_huge_steps_do_no_harm(trained, pool, inner_lr):
    X, y = pool[1]
    clf = ProtoMAMLClassifier(trained.meta_init, inner_lr=inner_lr, n_steps=30).fit(X[:40], y[:40])
    assert np.isfinite(clf.loss_curve_).all() and (np.diff(clf.loss_curve_) <= 0).all()
    assert np.isfinite(clf.predict_proba(1e4 * X[:50])).all()


@pytest.mark.parametrize(("params", "message"), [({"n_steps": -1}, "n_steps must"),
                                                 ({"inner_lr": 0.0}, "inner_lr must")])  # fmt: skip
def test_bad_hyperparameters(params, message):
    with pytest.raises(ValueError, match=message):
        ProtoMAMLClassifier(**params).fit([[0.0], [1.0]], [0, 1])
