"""MAML++ against its equations written out with torch.autograd, and finite differences."""

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
    MAMLPlusPlusClassifier,
    MAMLPlusPlusRegressor,
    MetaTrainer,
    few_shot_score,
)
from fewshot_sklearn.algorithms.maml_plus_plus import (
    MAMLPlusPlusClassification,
    MAMLPlusPlusRegression,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Support, add_rotations

KINDS = ["regression", "classification", "vmapped classification", "convolution"]


def make_learner(kind, **options):
    """A learner in float64 whose parameters, step sizes included, are all random."""
    torch.manual_seed(0)
    options = {"n_steps": 3, "multi_step_tasks": 10} | options
    if kind == "regression":
        encoder = make_encoder("mlp", (2,), {"hidden": (8, 6), "activation": "tanh"})
        learner = MAMLPlusPlusRegression(encoder, (2,), 2, **options)
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    elif kind == "convolution":
        encoder = make_encoder("conv4", (8, 8), {"width": 4})
        learner = MAMLPlusPlusClassification(encoder, (8, 8), **options)
    else:
        activation = "gelu" if kind == "vmapped classification" else "tanh"
        encoder = make_encoder("mlp", (3,), {"hidden": (8,), "activation": activation})
        learner = MAMLPlusPlusClassification(encoder, (3,), **options)
    for name, p in learner.named_parameters():
        noise = torch.randn_like(p)
        p.data = 0.15 + 0.15 * noise if name == "alpha" else p.data + 0.3 * noise
    return learner.double()


def by_hand(learner, batch, y_query, seen=0):
    """Eq. 4 with torch.autograd, one task after the other, `seen` tasks after the beginning.

    A task's losses are weighted by how many were before it, and so is decided
    whether second derivatives count.
    """
    modules = dict.fromkeys(k.rpartition(".")[0] for k, _ in learner.encoder.named_parameters())
    layers = [*modules, "head"]

    def network(params, X):
        inner = {k: p for k, p in params.items() if "head" not in k}
        Z = functional_call(learner.encoder, inner, (X,))
        return Z @ params["head.weight"].T + params["head.bias"]

    total, n = 0.0, learner.n_steps
    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        X, y, w = X[w > 0], y[w > 0], w[w > 0]
        params = dict(learner.encoder.named_parameters())
        if learner.n_outputs is None:
            zeros = X.new_zeros(y.shape[1], learner.n_features + 1).requires_grad_()
            params |= {"head.weight": zeros[:, :-1], "head.bias": zeros[:, -1]}
        else:
            params |= {"head.weight": learner.head.weight, "head.bias": learner.head.bias}
        progress = min((seen + i) / learner.multi_step_tasks, 1.0)
        second = seen + i >= learner.first_order_tasks
        for step in range(n):
            if learner.n_outputs is None:
                loss = F.cross_entropy(network(params, X), y)
            else:
                loss = F.mse_loss(network(params, X), (y - learner.y_mean) / learner.y_scale)
            grads = torch.autograd.grad(loss, list(params.values()), create_graph=second)
            params = {
                k: p - learner.alpha[step, layers.index(k.rpartition(".")[0])] * g
                for (k, p), g in zip(params.items(), grads, strict=True)
            }
            out = network(params, X_query)
            if learner.n_outputs is not None:
                out = out * learner.y_scale + learner.y_mean
            v = (1 - progress) / n + (progress if step == n - 1 else 0.0)
            total = total + v * learner.loss(out[None], y_query[i : i + 1]) / len(y_query)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("seen", "first_order_tasks"),
    [(0, 0), (8, 0), (500, 0), (0, 1000), (6, 8)],
    ids=["start", "annealing", "late", "first order", "first then second order"],
)
def test_loss_and_gradients(kind, seen, first_order_tasks):
    learner = make_learner(kind, first_order_tasks=first_order_tasks)
    batch, y_query = make_batch(learner, 5)  # seen = 8: before and after the end of annealing
    expected = by_hand(learner, batch, y_query, seen)
    learner.tasks_seen.fill_(seen)
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    parameters = list(learner.parameters())
    found = torch.autograd.grad(loss, parameters)
    wanted = torch.autograd.grad(expected, parameters)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
        assert b.abs().max() > 1e-7
    assert int(learner.tasks_seen) == seen + 5
    torch.testing.assert_close(outputs, learner(**batch), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_meta_gradient_is_that_of_finite_differences(kind):
    learner = make_learner(kind)
    batch, y_query = make_batch(learner)

    def loss():
        learner.tasks_seen.fill_(4)
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


def test_first_order_differs_from_second():
    batch, y_query = make_batch(make_learner("classification"))
    grads = []
    for tasks in (0, 100):
        learner = make_learner("classification", first_order_tasks=tasks)
        loss, _ = learner.training_loss(**batch, y_query=y_query)
        grads.append(torch.autograd.grad(loss, list(learner.parameters())))
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_of_a_batch_make_no_difference(kind):
    whole, parts = (make_learner(kind, first_order_tasks=2) for _ in range(2))
    batch, y_query = make_batch(whole, 6)
    whole.training_loss(**batch, y_query=y_query)[0].backward()
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        part = {name: t[rows] for name, t in batch.items()}
        loss, _ = parts.training_loss(**part, y_query=y_query[rows])
        (loss * len(y_query[rows]) / 6).backward()
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-11)
    assert int(parts.tasks_seen) == int(whole.tasks_seen) == 6


def test_weights_of_the_steps():
    learner = make_learner("regression", n_steps=4, multi_step_tasks=100)
    v = learner.step_weights(torch.tensor([0.0, 50.0, 100.0, 1e9])).numpy()
    expected = [[0.25] * 4, [0.125, 0.125, 0.125, 0.625], [0, 0, 0, 1], [0, 0, 0, 1]]
    np.testing.assert_allclose(v, expected, atol=1e-7)
    last = make_learner("regression", n_steps=2, multi_step_tasks=0).step_weights(torch.arange(2.0))
    np.testing.assert_array_equal(last.numpy(), [[0, 1], [0, 1]])


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


TASKS = {"n_way": 5, "n_shot": 1, "n_query": 10, "max_epochs": 6}


@pytest.fixture(scope="module")
def classifier(pool):
    clf = MAMLPlusPlusClassifier(**NET, multi_step_tasks=500, first_order_tasks=100)
    return meta_train(clf, *pool[0], **TASKS)


@pytest.fixture(scope="module")
def waves():
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    net = NET | {"encoder__hidden": (32, 32), "inner_lr": 0.05}
    data = past.data, past.target, past.groups
    reg = MAMLPlusPlusRegressor(**net, multi_step_tasks=1000)
    return [meta_train(reg, *data, n_shot=10, max_epochs=n) for n in (14, 0)]


def test_meta_training_helps_with_new_classes(classifier, pool, margin):
    options = {"n_way": 5, "n_shot": 1, "n_query": 15, "n_episodes": 100, "random_state": 0}
    untrained = meta_train(MAMLPlusPlusClassifier(**NET), *pool[0], **(TASKS | {"max_epochs": 0}))
    before = few_shot_score(untrained, *pool[1], **options).mean
    margin.above(few_shot_score(classifier, *pool[1], **options).mean - before, 0.08)


def test_meta_training_helps_with_new_sinusoids(waves, margin):
    new = make_sinusoid_tasks(30, n_shot=10, n_query=15, random_state=1)
    errors = []
    for reg in waves:
        squares = []
        for task in range(30):
            X, y = new.data[task * 25 :][:25], new.target[task * 25 :][:25]
            squares.append(np.mean((reg.fit(X[:10], y[:10]).predict(X[10:]) - y[10:]) ** 2))
        errors.append(np.mean(squares))
    margin.below(errors[0] / errors[1], 0.6)


def test_step_sizes_are_learned_by_layer_and_step(classifier):
    tensors = classifier.meta_init.tensors
    assert tensors["alpha"].shape == (5, 2)
    learned = np.abs(tensors["alpha"] - 0.1) > 1e-4
    assert learned.sum() == 9
    assert not learned[0, 0]  # the first step, from a head of zeros, moves the head alone
    assert tensors["tasks_seen"] == 160 * 6


def test_a_killed_training_goes_on_exactly(pool, tmp_path):
    X, y = pool[0]
    rows = np.random.default_rng(0).permutation(len(X))[:1500]
    few = {"n_way": 3, "n_shot": 1, "n_query": 5, "n_episodes": 20, "batch_size": 6, "verbose": 0}
    few |= {"random_state": 0, "validation_fraction": 0, "lr": 1e-2, "device": "cpu"}

    def train(**options):
        clf = MAMLPlusPlusClassifier(**NET, multi_step_tasks=50, first_order_tasks=25)
        return MetaTrainer(clf, **few, **options).fit(X[rows], y[rows]).meta_init_

    whole = train(max_epochs=3)
    train(max_epochs=1, checkpoint=tmp_path / "c")
    resumed = train(max_epochs=3, checkpoint=tmp_path / "c")
    for name, tensor in whole.tensors.items():
        np.testing.assert_array_equal(tensor, resumed.tensors[name], err_msg=name)
    assert resumed.tensors["tasks_seen"] == 60


# ------------------------------------------------------------------ other numbers of steps
@pytest.mark.parametrize("n_steps", [0, 2, 5, 9, 50])
def test_steps_beyond_those_trained_take_the_last_step_sizes(waves, n_steps):
    reg = MAMLPlusPlusRegressor(waves[0].meta_init, n_steps=n_steps)
    new = make_sinusoid_tasks(1, n_shot=10, n_query=15, random_state=3)
    reg.fit(new.data[:10], new.target[:10])
    alpha = reg._rebuild(reg.meta_init).alpha.numpy()
    trained = reg.meta_init.tensors["alpha"]
    assert trained.shape == (5, 3)
    rows = np.minimum(np.arange(n_steps), 4)
    np.testing.assert_array_equal(alpha, trained[rows])
    curve = reg.loss_curve_
    assert curve.shape == (n_steps,) and np.isfinite(curve).all()
    assert (curve <= curve[:1]).all() and (np.diff(curve[5:]) <= 0).all()
    as_trained = waves[0].fit(new.data[:10], new.target[:10]).loss_curve_
    np.testing.assert_allclose(curve[:5], as_trained[:n_steps], rtol=1e-6)


def test_meta_training_can_go_on_with_more_steps(waves):
    past = make_sinusoid_tasks(20, n_shot=10, n_query=15, random_state=0)
    more = MAMLPlusPlusRegressor(waves[0].meta_init, n_steps=7)
    further = meta_train(
        more, past.data, past.target, past.groups, n_shot=10, max_epochs=1, n_episodes=8
    )
    assert further.meta_init.tensors["alpha"].shape == (7, 3)
    assert further.meta_init.tensors["tasks_seen"] == more.meta_init.tensors["tasks_seen"] + 8


@pytest.mark.parametrize(("n_way", "least"), [(1, 0.9), (2, 0.6), (3, 0.45), (12, 0.2)])
def test_any_number_of_classes(classifier, pool, n_way, least, margin):
    X, y = pool[1]
    kept = np.concatenate([np.flatnonzero(y == label)[:5] for label in np.unique(y)[:n_way]])
    clf = classifier.fit(X[kept], y[kept])
    assert clf.predict_proba(X).shape == (len(X), n_way)
    mine = np.isin(y, clf.classes_)
    margin.above(clf.score(X[mine], y[mine]), least)


def test_a_batch_of_tasks_is_each_alone():
    learner = make_learner("classification", n_steps=4, trained_steps=2).eval()
    batch, _ = make_batch(learner, 5)
    with torch.no_grad():
        together = learner(**batch)
        for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
            state = learner.adapt(Support(X[w > 0], y[w > 0], w[w > 0]))
            alone = learner.predict(state, X_query)
            torch.testing.assert_close(together[i], alone, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["n_steps", "multi_step_tasks", "first_order_tasks"])
@pytest.mark.parametrize("value", [-1, 2.5])
def test_bad_hyperparameters(name, value):
    with pytest.raises(ValueError, match=f"{name} must be an int, at least 0.*got {value}"):
        MAMLPlusPlusRegressor(**{name: value}).fit([[0.0], [1.0]], [0.0, 1.0])
