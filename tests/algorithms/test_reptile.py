"""Reptile against torch's own optimisers, one task after the other."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.datasets import load_digits
from test_maml import make_batch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from fewshot_sklearn import MetaTrainer, ReptileClassifier, ReptileRegressor, few_shot_score
from fewshot_sklearn.algorithms.reptile import ReptileClassification, ReptileRegression
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import IGNORED_CODE, Support, add_rotations

KINDS = ["regression", "gelu regression", "classification", "convolution"]
OPTIMIZERS = ["sgd", "adam"]


def make_learner(kind, **options):
    """A learner in float64 with random parameters, head included."""
    torch.manual_seed(0)
    options = {"n_steps": 4, "inner_lr": 0.05, "train_steps": 6, "inner_batch": 3} | options
    if "regression" in kind:
        activation = "gelu" if "gelu" in kind else "relu"
        encoder = make_encoder("mlp", (2,), {"hidden": (8, 6), "activation": activation})
        learner = ReptileRegression(encoder, (2,), 2, **options)
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    elif kind == "classification":
        encoder = make_encoder("mlp", (3,), {"hidden": (8,), "activation": "tanh"})
        learner = ReptileClassification(encoder, (3,), **options)
    else:
        learner = ReptileClassification(
            make_encoder("conv4", (8, 8), {"width": 4}), (8, 8), **options
        )
    for p in learner.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return learner.double()


class Network(nn.Module):
    """The encoder of a learner and a head of its own or of zeros, for torch's optimisers."""

    def __init__(self, learner, n_way):
        super().__init__()
        self.encoder = copy.deepcopy(learner.encoder)
        if learner.n_outputs is None:
            self.head = nn.Linear(learner.n_features, n_way).double()
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        else:
            self.head = copy.deepcopy(learner.head)

    def forward(self, X):
        return self.head(self.encoder(X))


def optimizer_of(learner, network):
    if learner.inner_optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=learner.inner_lr)
    return torch.optim.Adam(network.parameters(), lr=learner.inner_lr, betas=(0.0, 0.999))


def loss_of(learner, network, X, y):
    if learner.n_outputs is None:
        return F.cross_entropy(network(X), y)
    return F.mse_loss(network(X), (y - learner.y_mean) / learner.y_scale)


def labelled_rows(learner, batch, y_query, i):
    """All rows of a task, the queries' too, and which of them are not padding."""
    X = torch.cat([batch["X"][i], batch["X_query"][i]])
    if learner.n_outputs is None:
        codes = torch.where(batch["w"][i] > 0, batch["y"][i].argmax(1), IGNORED_CODE)
        codes = torch.cat([codes, y_query[i]])
        return X, codes, codes >= 0
    y = torch.cat([batch["y"][i], y_query[i]])
    return X, y, torch.cat([batch["w"][i] > 0, ~y_query[i].isnan().any(1)])


def by_hand(learner, batch, y_query, drawn):
    """Lines 3 to 6 of Algorithm 2: theta minus the mean of the trained weights; query outputs."""
    total, outputs = {}, []
    for i, numbers in enumerate(drawn):
        X, y, real = labelled_rows(learner, batch, y_query, i)
        network = Network(learner, batch["y"].shape[-1])
        optimizer = optimizer_of(learner, network)
        for rows in numbers:
            rows = rows[real[rows]]
            target = F.one_hot(y[rows], batch["y"].shape[-1]).double() if y.ndim == 1 else y[rows]
            optimizer.zero_grad()
            loss_of(learner, network, X[rows], target).backward()
            optimizer.step()
        for name, p in network.named_parameters():
            total[name] = total.get(name, 0) + p.detach() / len(drawn)
        with torch.no_grad():
            out = network(batch["X_query"][i])
        outputs.append(out if y.ndim == 1 else out * learner.y_scale + learner.y_mean)
    gradient = {name: p.detach() - total[name] for name, p in learner.named_parameters()}
    return gradient, torch.stack(outputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("inner_batch", [1, 3, 100])
def test_gradient_is_theta_minus_the_trained_weights(kind, optimizer, inner_batch):
    learner = make_learner(kind, inner_optimizer=optimizer, inner_batch=inner_batch)
    batch, y_query = make_batch(learner, 5)
    asked = y_query >= 0 if y_query.ndim == 2 else ~y_query.isnan().any(-1)
    torch.manual_seed(3)
    drawn = learner.minibatches(torch.cat([batch["w"], asked.double()], 1))
    expected, wanted = by_hand(learner, batch, y_query, drawn)
    torch.manual_seed(3)
    loss, outputs = learner.backward_by_hand(**batch, y_query=y_query, share=0.5)
    for name, p in learner.named_parameters():
        torch.testing.assert_close(p.grad, 0.5 * expected[name], rtol=1e-6, atol=1e-10)
        assert p.grad.abs().max() > 1e-6
    torch.testing.assert_close(outputs, wanted, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(loss, 0.5 * learner.loss(wanted, y_query), rtol=1e-6, atol=1e-9)


def test_gradients_add_up():
    learner = make_learner("classification", inner_batch=100)
    batch, y_query = make_batch(learner, 6)
    learner.backward_by_hand(**batch, y_query=y_query, share=1.0)
    whole = [p.grad for p in learner.parameters()]
    learner.zero_grad()
    for rows in (slice(0, 2), slice(2, 6)):
        part = {name: t[rows] for name, t in batch.items()}
        learner.backward_by_hand(**part, y_query=y_query[rows], share=len(y_query[rows]) / 6)
    for a, p in zip(whole, learner.parameters(), strict=True):
        torch.testing.assert_close(p.grad, a, rtol=1e-9, atol=1e-12)


def test_minibatches_draw_every_row_of_a_task_and_no_padding():
    learner = make_learner("classification", train_steps=400, inner_batch=4)
    w = torch.tensor(
        [[1, 1, 1, 1, 1, 1, 1, 1.0], [1, 1, 0, 1, 0, 1, 1, 0], [0, 1, 0, 0, 0, 0, 1, 0]]
    )
    torch.manual_seed(0)
    drawn = learner.minibatches(w)
    assert drawn.shape == (3, 400, 4)
    for numbers, weights in zip(drawn, w, strict=True):
        assert all(len(set(rows.tolist())) == 4 for rows in numbers)
        shares = np.bincount(numbers.flatten().numpy(), minlength=8) / 400
        n_real = int(weights.sum())
        np.testing.assert_allclose(shares[weights > 0], min(1, 4 / n_real), atol=0.1)
        if n_real >= 4:
            assert (shares[weights == 0] == 0).all()
    assert len({tuple(sorted(rows.tolist())) for rows in drawn[0]}) > 50


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_padding_changes_nothing(kind):
    learner = make_learner(kind, inner_batch=100)
    batch, y_query = make_batch(learner, 3)
    learner.backward_by_hand(**batch, y_query=y_query, share=1.0)
    plain = [p.grad for p in learner.parameters()]
    learner.zero_grad()
    asked = y_query >= 0 if y_query.ndim == 2 else ~y_query.isnan().any(-1)
    batch["X"] = torch.where(batch["w"][..., None] > 0, batch["X"], 5.0)
    batch["X_query"] = torch.where(asked[..., None], batch["X_query"], -7.0)
    assert not asked.all() and not (batch["w"] > 0).all()
    learner.backward_by_hand(**batch, y_query=y_query, share=1.0)
    for a, p in zip(plain, learner.parameters(), strict=True):
        torch.testing.assert_close(p.grad, a, rtol=1e-9, atol=1e-12)


# ------------------------------------------------------------------ fit
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fit_is_the_inner_optimiser_on_all_support_rows(kind, optimizer):
    lr = 0.05 if optimizer == "sgd" else 0.0005
    learner = make_learner(kind, inner_optimizer=optimizer, inner_lr=lr, n_steps=8).eval()
    batch, _ = make_batch(learner, 3)
    for X, y, w, X_query in zip(*batch.values(), strict=True):
        with torch.no_grad():
            state = learner.adapt(Support(X, y, w))
            found = learner.predict(state, X_query)
        network, losses = Network(learner, y.shape[-1]), []
        descent = optimizer_of(learner, network)
        for _ in range(8):
            descent.zero_grad()
            loss = loss_of(learner, network, X[w > 0], y[w > 0])
            losses.append(loss.item())
            loss.backward()
            descent.step()
        assert losses == sorted(losses, reverse=True)  # or the guard would step in
        np.testing.assert_allclose(state["loss_curve"], losses, rtol=1e-7)
        expected = functional_call(network, {}, (X_query,)).detach()
        if learner.n_outputs is not None:
            expected = expected * learner.y_scale + learner.y_mean
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_tasks_is_each_alone(kind, optimizer):
    """Also where steps are too large and some tasks' are taken back."""
    learner = make_learner(kind, inner_optimizer=optimizer, inner_lr=1.0, n_steps=12).eval()
    batch, _ = make_batch(learner, 5)
    with torch.no_grad():
        together = learner(**batch)
        for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
            state = learner.adapt(Support(X[w > 0], y[w > 0], w[w > 0]))
            alone = learner.predict(state, X_query)
            torch.testing.assert_close(together[i], alone, rtol=1e-6, atol=1e-8)
            assert (state["loss_curve"].diff() <= 0).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("inner_lr", [1.0, 1e4])
def test_huge_steps_do_no_harm(optimizer, inner_lr, margin):
    X, y = load_digits(return_X_y=True)
    X, y = X[:60], y[:60]
    clf = ReptileClassifier(
        encoder="mlp", random_state=0, inner_optimizer=optimizer, inner_lr=inner_lr
    )
    clf.fit(X, y)
    assert np.isfinite(clf.loss_curve_).all() and (np.diff(clf.loss_curve_) <= 0).all()
    margin.below(clf.loss_curve_[-1] / clf.loss_curve_[0], 1)
    assert np.isfinite(clf.predict_proba(X)).all()


# ------------------------------------------------------------------ meta-training
@pytest.fixture(scope="module")
def pool():
    """(X, y) of 28 classes of turned digits to learn from, and (X, y) of 12 others.

    Two of three columns are noise, which meta-training learns to leave out.
    """
    digits = load_digits()
    X, y = add_rotations(digits.images, digits.target)
    X, y = X.reshape(len(X), -1), np.unique(y, return_inverse=True)[1]
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, (len(X), 128))])
    new = np.isin(y, np.random.default_rng(0).permutation(40)[:12])
    return (X[~new], y[~new]), (X[new], y[new])


NET = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
TASKS = {"n_way": 5, "n_shot": 5, "n_query": 10}


@pytest.fixture(scope="module")
def trained(pool):
    clf = ReptileClassifier(**NET, inner_lr=0.3)
    return meta_train(clf, *pool[0], **TASKS, max_epochs=12, lr=1e-2)


def test_sgd_outside_moves_the_start_by_epsilon(pool, margin):
    """Line 7 of Algorithm 2: theta + epsilon (W - theta), W the mean of the trained weights."""
    rows = np.random.default_rng(0).permutation(len(pool[0][0]))[:1000]
    X, y = pool[0][0][rows], pool[0][1][rows]
    few = {"n_episodes": 4, "batch_size": 4, "max_epochs": 1, "optimizer": torch.optim.SGD}
    once = {"device": "cpu", "verbose": 0, "random_state": 0, "validation_fraction": 0}
    net = NET | {"inner_batch": 100}
    weights = []
    for epsilon in (0.0, 0.25, 1.0):
        trainer = MetaTrainer(ReptileClassifier(**net), **TASKS, **few, **once, lr=epsilon)
        tensors = trainer.fit(X, y).meta_init_.tensors
        weights.append(tensors["encoder.layers.0.weight"].astype(float))
    start, quarter, whole = weights
    margin.above(np.abs(whole - start).max(), 1e-3)
    np.testing.assert_allclose(quarter, start + 0.25 * (whole - start), atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_meta_training_is_reproducible_and_leaves_the_random_state_alone(pool, optimizer):
    X, y = pool[0]
    clf = ReptileClassifier(**NET, inner_optimizer=optimizer, inner_lr=0.02)
    few = TASKS | {"max_epochs": 1, "n_episodes": 20}
    before = torch.get_rng_state()
    first, again = (meta_train(clf, X, y, **few).meta_init for _ in range(2))
    other = meta_train(clf, X, y, **few, chunk_size=3).meta_init
    assert first == again and torch.equal(torch.get_rng_state(), before)
    # Chunks sum in another order: a weight near a kink may round away, the movement may not.
    start = meta_train(clf, X, y, **few | {"max_epochs": 0}).meta_init.tensors
    moved = {name: np.linalg.norm(t - start[name]) for name, t in first.tensors.items()}
    apart = {name: np.linalg.norm(other.tensors[name] - t) for name, t in first.tensors.items()}
    assert max(moved.values()) > 0.01
    assert all(apart[name] <= 0.05 * moved[name] for name in moved), (apart, moved)


def test_convolutions_are_trained(pool):
    X, y = pool[0]
    clf = ReptileClassifier(encoder="conv4", encoder__width=4, train_steps=2, random_state=0)
    few = TASKS | {"max_epochs": 1, "n_episodes": 4, "batch_size": 2}
    untrained = clf.fit(X[:50], y[:50]).meta_init_.tensors
    tensors = meta_train(clf, X, y, **few).meta_init.tensors
    moved = [
        n for n, t in tensors.items() if n in untrained and not np.array_equal(t, untrained[n])
    ]
    assert {n for n in tensors if n.startswith("encoder.")} <= set(moved)


def test_meta_training_helps_with_new_classes(trained, pool, margin):
    options = {"n_way": 5, "n_shot": 1, "n_query": 15, "n_episodes": 50, "random_state": 0}
    untrained = ReptileClassifier(**NET, inner_lr=0.3)
    untrained = meta_train(untrained, *pool[0], **TASKS, max_epochs=0)
    before = few_shot_score(untrained, *pool[1], **options).mean
    margin.above(few_shot_score(trained, *pool[1], **options).mean - before, 0.02)


@pytest.mark.parametrize(("optimizer", "inner_lr"), [("sgd", 0.1), ("adam", 0.01)])
def test_meta_training_helps_with_new_sinusoids(optimizer, inner_lr, margin):
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    new = make_sinusoid_tasks(30, n_shot=10, n_query=15, random_state=1)
    net = NET | {"encoder__hidden": (32, 32), "inner_lr": inner_lr, "inner_optimizer": optimizer}
    data, errors = (past.data, past.target, past.groups), []
    for epochs in (18, 0):
        few = {"n_shot": 10, "max_epochs": epochs, "n_episodes": 100, "lr": 1e-2}
        reg, squares = meta_train(ReptileRegressor(**net), *data, **few), []
        for task in range(30):
            X, y = new.data[task * 25 :][:25], new.target[task * 25 :][:25]
            squares.append(np.mean((reg.fit(X[:10], y[:10]).predict(X[10:]) - y[10:]) ** 2))
        errors.append(np.mean(squares))
    margin.below(errors[0] / errors[1], 0.75)


@pytest.mark.parametrize(("n_way", "least"), [(1, 0.9), (2, 0.6), (3, 0.45), (12, 0.2)])
def test_any_number_of_classes(trained, pool, n_way, least, margin):
    X, y = pool[1]
    kept = np.concatenate([np.flatnonzero(y == label)[:5] for label in np.unique(y)[:n_way]])
    clf = trained.fit(X[kept], y[kept])
    assert clf.predict_proba(X).shape == (len(X), n_way)
    mine = np.isin(y, clf.classes_)
    margin.above(clf.score(X[mine], y[mine]), least)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"inner_optimizer": "adamw"}, r"inner_optimizer must be 'sgd', 'adam'.*got 'adamw'"),
        ({"train_steps": 0}, r"train_steps must be an int, at least 1.*got 0"),
        ({"inner_batch": 2.5}, r"inner_batch must be an int, at least 1.*got 2.5"),
        ({"n_steps": -1}, "n_steps must"),
        ({"inner_lr": 0.0}, "inner_lr must"),
    ],
)
def test_bad_hyperparameters(params, message):
    with pytest.raises(ValueError, match=message):
        ReptileClassifier(**params).fit([[0.0], [1.0]], [0, 1])
