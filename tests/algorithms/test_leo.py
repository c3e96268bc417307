"""LEO against the paper's equations, pair by pair, with autograd for its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_digits import assert_learns
from sklearn import config_context
from sklearn.datasets import load_iris
from sklearn.neighbors import NearestCentroid
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from fewshot_sklearn import LEOClassifier, MetaInit
from fewshot_sklearn.algorithms.leo import DECODED, LEO
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Task, pad_tasks

STEPS, FINE = 3, 2


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    return (X - X.mean(0))[rows], y[rows]


@pytest.fixture
def learner():
    """With random weights, on the features as they are."""
    torch.manual_seed(0)
    sizes = {"n_latent": 3, "n_steps": STEPS, "n_finetuning_steps": FINE, "finetuning_lr": 0.05}
    penalties = {"kl_weight": 0.2, "encoder_penalty": 0.3, "orthogonality_penalty": 0.4}
    net = LEO(make_encoder("identity", (4,), {}), (4,), **sizes, **penalties)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.double()


def by_hand(learner, X, y, x, chance=None):
    """Logits of the rows x, and what the three penalties are of."""
    ways = int(y.max()) + 1
    scale, (inner, fine) = (
        learner.log_scale.exp(),
        (learner.rates[k].exp() for k in ("latent", "weight")),
    )
    means = torch.stack([X[y == k].mean(0) for k in range(ways)])
    centre = means.mean(0)
    e = learner.encode(X)
    told = []
    for k in range(ways):  # eq. 4: pairs with the rows of each class, classes alike
        of_classes = []
        for m in range(ways):
            pairs = [torch.cat([a, b]) for a in e[y == k] for b in e[y == m]]
            first, second, last = learner.relate
            of_classes.append(last(second(first(torch.stack(pairs)).relu()).relu()).mean(0))
        told.append(torch.stack(of_classes).mean(0))
    mean, log = torch.stack(told).chunk(2, -1)
    z = mean if chance is None else mean + log.exp() * chance[:, :3]
    started = z

    def logits(w, rows):
        return (rows - centre) @ w.T - scale * (means - centre).square().sum(1)

    def decode(z):
        added, spread = learner.decode(z).chunk(2, -1)
        drawn = 0.0 if chance is None else DECODED * spread.exp() * chance[:, 3:]
        return 2 * scale * (means - centre + added + drawn)

    for _ in range(STEPS):
        value = F.cross_entropy(logits(decode(z), X), y)
        z = z - inner * torch.autograd.grad(value, z, create_graph=True)[0]
    w = decode(z)
    for _ in range(FINE):
        value = F.cross_entropy(logits(w, X), y)
        w = w - fine * torch.autograd.grad(value, w, create_graph=True)[0]
    kl = kl_divergence(Normal(mean, log.exp()), Normal(0.0, 1.0)).mean()
    moved = (z.detach() - started).square().mean()
    columns = learner.decode.weight.T
    alike = columns @ columns.T / (columns.norm(dim=1)[:, None] * columns.norm(dim=1))
    return logits(w, x), (kl, moved, (alike - torch.eye(3)).square().mean())


def tasks_of(X, y):
    """Uneven shots, and tasks of different sizes."""
    return [Task(X[:12], y[:12], X[12:20], y[12:20]), Task(X[20:40], y[20:40], X[40:44], y[40:44])]


def test_equations_at_fit(iris, learner):
    X, y = iris
    batch, _ = pad_tasks(tasks_of(X, y), torch.float64)
    learner.eval()
    found = learner(**batch).detach()
    for i, task in enumerate(tasks_of(X, y)):
        support, codes, query = (torch.as_tensor(t) for t in (task.X, task.y, task.X_query))
        expected, _ = by_hand(learner, support, codes, query)
        torch.testing.assert_close(found[i, : len(query)], expected.detach())


def test_equations_and_gradients_of_training(iris, learner):
    X, y = iris
    tasks = tasks_of(X, y)[:1]
    batch, y_query = pad_tasks(tasks, torch.float64)
    chance = torch.randn(1, 3, 7, dtype=torch.float64)
    learner._chance = lambda *_: chance
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    support, codes, query = (torch.as_tensor(t) for t in (tasks[0].X, tasks[0].y, tasks[0].X_query))
    expected, (kl, moved, alike) = by_hand(learner, support, codes, query, chance[0])
    torch.testing.assert_close(outputs[0], expected)
    theirs = F.cross_entropy(expected, y_query[0]) + 0.2 * kl + 0.3 * moved + 0.4 * alike
    torch.testing.assert_close(loss, theirs)
    own = list(learner.parameters())
    for a, b in zip(torch.autograd.grad(loss, own), torch.autograd.grad(theirs, own), strict=True):
        torch.testing.assert_close(a, b)


def test_training_draws_normal_numbers(learner):
    torch.manual_seed(0)
    drawn = learner._chance(2000, 3, torch.ones(1).double()).flatten().numpy()
    assert abs(drawn.mean()) < 0.02 and abs(drawn.std() - 1) < 0.02
    assert abs((drawn**4).mean() - 3) < 0.2


def test_neither_order_nor_names_nor_parts_change_anything(iris, learner):
    X, y = iris
    spec = LEOClassifier(n_latent=3, n_steps=STEPS, n_finetuning_steps=FINE)._spec(learner)
    clf = LEOClassifier(MetaInit.from_state(learner.state_dict(), spec), dtype="float64")
    plain = clf.fit(X[:60], y[:60]).predict_proba(X)
    order = np.random.default_rng(1).permutation(60)
    named = clf.fit(X[order], np.array(["c", "a", "b"])[y[order]])
    np.testing.assert_allclose(named.predict_proba(X)[:, [2, 0, 1]], plain, rtol=1e-8)
    twice = clf.fit(X[:60], y[:60], sample_weight=np.full(60, 2.0)).predict_proba(X)
    np.testing.assert_allclose(twice, plain, rtol=1e-8)
    with config_context(working_memory=1):  # in parts
        np.testing.assert_allclose(clf.fit(X[:60], y[:60]).predict_proba(X), plain, rtol=1e-8)


def test_a_step_that_goes_wrong_is_taken_back(iris, learner):
    X, y = (torch.as_tensor(t) for t in iris)
    labels, w = torch.eye(3).double()[y], torch.ones(150).double()
    learner.eval()
    with torch.no_grad():
        losses = []
        for rate in (-30.0, 8.0):  # hardly any step, and far too long ones
            learner.rates["latent"].fill_(rate)
            learner.rates["weight"].fill_(rate)
            state = learner.adapt_features(X, labels, w)
            losses.append(F.cross_entropy(learner.predict_features(state, X), y))
    assert losses[1] <= losses[0] + 1e-9


def test_without_a_past_the_nearest_class_mean_wins(iris):
    X, y = iris
    clf = LEOClassifier(scale_inputs=False).fit(X[:60], y[:60])
    assert not any("decode" in name for name in clf.meta_init_.tensors)
    np.testing.assert_array_equal(clf.predict(X), NearestCentroid().fit(X[:60], y[:60]).predict(X))


def test_meta_training_helps_on_new_classes(margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    assert_learns(LEOClassifier(**net), margin)
