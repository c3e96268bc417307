"""FEAT against attention of prototypes written out in numpy, and its two losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_digits import assert_learns
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from sklearn.datasets import load_iris
from sklearn.neighbors import NearestCentroid

from fewshot_sklearn import FEATClassifier
from fewshot_sklearn.algorithms.feat import FEAT
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Task, pad_tasks


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    return X[rows], y[rows]


@pytest.fixture(params=[1, 2], ids=["one head", "two heads"])
def learner(request):
    """With random attention on the features as they are."""
    torch.manual_seed(0)
    net = FEAT(make_encoder("identity", (4,), {}), (4,), n_heads=request.param, contrast=0.3)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.5 * torch.randn_like(p))
    return net.double()


def read(learner, members):
    """Equations 6 to 9 for one set, by loops over heads and members."""
    t = {name: p.detach().numpy() for name, p in learner.adaptation.named_parameters()}
    apart = members - members.mean(1, keepdims=True)
    seen = apart / np.sqrt((apart**2).mean(1, keepdims=True) + 1e-5)
    seen = seen * t["norm.weight"] + t["norm.bias"]
    q, k, v = (seen @ t[f"attention.{n}.weight"].T + t[f"attention.{n}.bias"]
               for n in ("query", "key", "value"))  # fmt: skip
    heads, d = [], len(seen.T) // learner.adaptation.attention.n_heads
    for first in range(0, len(seen.T), d):
        part = slice(first, first + d)
        scores = [softmax([q_i[part] @ k_j[part] / np.sqrt(d) for k_j in k]) for q_i in q]
        heads.append(np.array(scores) @ v[:, part])
    out = np.hstack(heads) @ t["attention.out.weight"].T + t["attention.out.bias"]
    return members + out


def log_probabilities(learner, prototypes, X):
    scale = learner.log_scale.exp().item()
    return log_softmax(-scale * cdist(X, prototypes, "sqeuclidean"), 1)


def test_prototypes_read_each_other(iris, learner):
    X, y = iris
    present = [0, 2]
    rows = np.isin(y[:40], present)
    batch, _ = pad_tasks([Task(X[:40][rows], y[:40][rows], X[40:], y[40:])], torch.float64)
    outputs = learner(**batch)[0].detach().log_softmax(-1)
    means = np.array([X[:40][y[:40] == k].mean(0) for k in present])
    expected = log_probabilities(learner, read(learner, means), X[40:])
    np.testing.assert_allclose(outputs[:, present], expected, rtol=1e-8)
    assert (outputs[:, 1] == -torch.inf).all()


def test_loss_is_that_of_the_queries_and_of_adapted_centres(iris, learner):
    X, y = iris
    tasks = [Task(X[:20], y[:20], X[20:30], y[20:30]), Task(X[30:40], y[30:40], X[40:47], y[40:47])]
    batch, y_query = pad_tasks(tasks, torch.float64)
    loss, _ = learner.training_loss(**batch, y_query=y_query)
    expected = []
    for task in tasks:
        means = np.array([task.X[task.y == k].mean(0) for k in range(3)])
        logp = log_probabilities(learner, read(learner, means), task.X_query)
        of_queries = -logp[np.arange(len(task.y_query)), task.y_query].mean()
        rows, codes = np.vstack([task.X, task.X_query]), np.concatenate([task.y, task.y_query])
        centres = np.array([read(learner, rows[codes == k]).mean(0) for k in range(3)])
        logp = log_probabilities(learner, centres, rows)
        expected.append(of_queries - 0.3 * logp[np.arange(len(codes)), codes].mean())
    np.testing.assert_allclose(loss.item(), np.mean(expected), rtol=1e-8)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


def test_untrained_it_is_the_nearest_centroid(iris):
    X, y = iris
    ours, theirs = FEATClassifier().fit(X[:30], y[:30]), NearestCentroid().fit(X[:30], y[:30])
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    start = FEAT(make_encoder("identity", (4,), {}), (4,)).double()
    batch, _ = pad_tasks([Task(X[:30], y[:30], X, y)], torch.float64)
    proba = start(**batch)[0].softmax(-1).detach()
    np.testing.assert_allclose(proba, ours.predict_proba(X), rtol=1e-6)


def test_heads_that_do_not_fit():
    with pytest.raises(ValueError, match="n_heads must divide"):
        FEAT(make_encoder("identity", (4,), {}), (4,), n_heads=3)


@pytest.mark.parametrize("contrast", [0.0, 0.1])
def test_meta_training_helps_on_new_classes(contrast, margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    trained = assert_learns(FEATClassifier(**net, contrast=contrast), margin)
    assert np.abs(trained.meta_init.tensors["adaptation.attention.out.weight"]).max() > 0
