"""Label propagation against scikit-learn's LabelSpreading, and the learned graph against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.semi_supervised import LabelSpreading

from fewshot_sklearn import ProtoNetClassifier, TransductivePropagationClassifier
from fewshot_sklearn.tasks import Support, Task, pad_tasks


@pytest.fixture(scope="module")
def task():
    X, y = load_digits(n_class=4, return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))[:60]
    return X[rows[:12]], y[rows[:12]], X[rows[12:]]


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_is_label_spreading_of_scikit_learn(task, alpha):
    X, y, X_query = task
    both = np.concatenate([X, X_query])
    length = 0.25 * np.sqrt((both - both.mean(0)).var(0).mean() * both.shape[1])
    spreading = LabelSpreading(
        kernel=lambda A, B: np.exp(-0.5 * euclidean_distances(A, B, squared=True) / length**2),
        alpha=alpha,
        max_iter=2000,
        tol=1e-12,
    ).fit(both, np.concatenate([y, np.full(len(X_query), -1)]))
    clf = TransductivePropagationClassifier(alpha=alpha, n_neighbors=1000).fit(X, y)
    expected = spreading.label_distributions_[len(X) :]
    np.testing.assert_allclose(clf.predict_proba(X_query), expected, rtol=1e-6, atol=1e-9)


def random_learner(**params):
    clf = TransductivePropagationClassifier(**params)
    learner = clf._new_learner((5,), None, seed=0).double()
    with torch.no_grad():
        for parameter in learner.lengths.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    return learner


def reference(learner, Z, y, k, alpha):
    """Equations 2 to 4, of rows of which the first have labels."""
    with torch.no_grad():
        length = learner.lengths(torch.tensor(Z)).exp().numpy()
    scaled = (Z - Z.mean(0)) / (0.25 * np.sqrt(Z.var(0).mean()) * length)
    d = ((scaled[:, None] - scaled) ** 2).mean(2)
    n = len(Z)
    near = np.zeros((n, n), bool)
    for i in range(n):
        others = [j for j in np.argsort(d[i]) if j != i][:k]
        near[i, others] = True
    W = np.exp(-d / 2) * (near | near.T)
    degree = W.sum(1)
    S = W / np.sqrt(degree[:, None] * degree)
    Y = np.zeros((n, y.shape[1]))
    Y[: len(y)] = y
    return np.linalg.inv(np.eye(n) - alpha * S) @ Y


@pytest.mark.parametrize("k", [2, 6, 100])
def test_the_learned_graph(k):
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(25, 5)), np.eye(3)[np.arange(9) % 3]
    learner = random_learner(n_neighbors=k, alpha=0.9)
    rows, asked = torch.tensor(Z[:9]), torch.tensor(Z[9:])
    state = learner.adapt(Support(rows, torch.tensor(y), torch.ones(9).double()))
    with torch.no_grad():
        found = learner.predict(state, asked).exp().numpy()
    np.testing.assert_allclose(found, reference(learner, Z, y, k, 0.9)[9:], rtol=1e-8)


def test_trains_on_all_rows_of_an_episode():
    rng = np.random.default_rng(0)
    Z, codes = rng.normal(size=(14, 5)), np.arange(14) % 2
    learner = random_learner(n_neighbors=4).train()
    batch, y_query = pad_tasks([Task(Z[:4], codes[:4], Z[4:], codes[4:])], torch.float64)
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    F = reference(learner, Z, np.eye(2)[codes[:4]], 4, 0.99)
    np.testing.assert_allclose(outputs[0].detach().exp(), F[4:], rtol=1e-8)
    logs = np.log(F / F.sum(1, keepdims=True))
    np.testing.assert_allclose(loss.item(), -logs[np.arange(14), codes].mean(), rtol=1e-8)
    loss.backward()
    assert all(p.grad.abs().max() > 0 for p in learner.lengths.parameters())


def test_padded_queries_train_nothing():
    rng = np.random.default_rng(0)
    make = [(4, 10), (6, 3)]
    tasks = [
        Task(rng.normal(size=(n, 5)), np.arange(n) % 2, rng.normal(size=(m, 5)), np.arange(m) % 2)
        for n, m in make
    ]
    learner = random_learner(n_neighbors=3).train()
    batch, y_query = pad_tasks(tasks, torch.float64, tell_queries=True)
    together, _ = learner.training_loss(**batch, y_query=y_query)
    alone = []
    for one in tasks:
        batch, y_query = pad_tasks([one], torch.float64, tell_queries=True)
        alone.append(learner.training_loss(**batch, y_query=y_query)[0].item())
    np.testing.assert_allclose(together.item(), np.mean(alone), rtol=1e-9)


def test_a_meta_init_of_prototypes_knows_no_lengths(trained, digits_new):
    X, y = digits_new
    init = trained["ProtoNetClassifier"].meta_init
    clf = TransductivePropagationClassifier(init, n_neighbors=5).fit(X[:15], y[:15])
    assert clf._rebuild(clf.meta_init_).lengths is None
    Z = ProtoNetClassifier(init).embed(X[:15])
    np.testing.assert_allclose(clf.embed(X[:15]), Z, rtol=1e-6)
    assert clf.score(X[15:], y[15:]) > 0.4
