"""DN4, FRN and DeepEMD against their papers' equations, place by place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from noisy_digits import assert_learns, pictures
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity
from torch import nn

import fewshot_sklearn
from fewshot_sklearn import DeepEMDClassifier, DN4Classifier, FRNClassifier, few_shot_score
from fewshot_sklearn.algorithms.deep_emd import DeepEMD, matched
from fewshot_sklearn.algorithms.dn4 import DN4
from fewshot_sklearn.algorithms.frn import FRN
from fewshot_sklearn.encoders import make_encoder, map_channels
from fewshot_sklearn.tasks import Task, pad_tasks

NAMES = ["DN4Classifier", "FRNClassifier", "DeepEMDClassifier"]
of_places = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    rows = np.flatnonzero(y < 3)[:80]
    return X[rows].reshape(-1, 8, 8) / 16, y[rows]


@pytest.fixture(scope="module")
def encoder():
    """To maps of 2 x 2 places, of 8 channels."""
    torch.manual_seed(0)
    return make_encoder("conv4", (8, 8), {"width": 8, "pools": 2})


def maps(encoder, X):
    """Descriptors (n, n_places, n_channels), from the last layer itself."""
    with torch.no_grad():
        Z = encoder.double()(torch.as_tensor(X)).numpy()
    return Z.reshape(len(X), 8, 4).transpose(0, 2, 1)


def compared(learner, X, y, parts=2):
    """Log-probabilities of queries of a batch of ragged tasks; the tasks."""
    tasks = [Task(X[:14], y[:14], X[14:24], y[14:24]), Task(X[30:40], y[30:40], X[40:57], y[40:57])]
    batch, y_query = pad_tasks(tasks[:parts], torch.float64)
    _, outputs = learner.training_loss(**batch, y_query=y_query)
    return tasks, [outputs[i, : len(t.X_query)].detach().numpy() for i, t in enumerate(tasks)]


def assert_same(found, expected):
    """But for what all classes have in common."""
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=1e-7)


# ------------------------------------------------------------------ the equations
@pytest.mark.parametrize("n_neighbors", [1, 3, 100])
def test_nearest_places(digits, encoder, n_neighbors):
    learner = DN4(encoder, (8, 8), n_neighbors=n_neighbors).double()
    for task, found in zip(*compared(learner, *digits), strict=True):
        rows, asked = maps(encoder, task.X), maps(encoder, task.X_query)
        expected = np.empty((len(asked), 3))
        for k in range(3):
            near = rows[task.y == k].reshape(-1, 8)
            for i, places in enumerate(asked):
                cosines = np.sort(cosine_similarity(places, near), 1)[:, ::-1]
                expected[i, k] = 20 * cosines[:, :n_neighbors].mean()
        assert_same(found, expected)


@pytest.mark.parametrize("alpha, beta", [(0.0, 0.0), (-1.0, 0.2)])
@pytest.mark.parametrize("training", [True, False])
def test_places_are_put_together(digits, encoder, alpha, beta, training):
    learner = FRN(encoder, (8, 8)).double().train(training)
    with torch.no_grad():
        learner.alpha.fill_(alpha)
        learner.beta.fill_(beta)
        learner.log_scale.fill_(1.5)
    for task, found in zip(*compared(learner, *digits), strict=True):
        rows, asked = maps(encoder, task.X), maps(encoder, task.X_query)
        expected = np.empty((len(asked), 3))
        for k in range(3):
            pool = rows[task.y == k].reshape(-1, 8)
            ridge = Ridge(len(pool) * np.exp(alpha), fit_intercept=False)
            for i, places in enumerate(asked):
                again = np.exp(beta) * ridge.fit(pool.T, places.T).predict(pool.T).T
                expected[i, k] = -np.exp(1.5) * np.square(places - again).sum(1).mean() / 8
        assert_same(found, expected)


def test_fewer_places_than_channels(digits):
    """Of one row with 4 places of 30 channels all is done along the 4 directions that it spans."""
    X, y = digits
    torch.manual_seed(0)
    learner = FRN(make_encoder("conv4", (8, 8), {"width": 32, "pools": 2}), (8, 8)).double()
    first = np.array([np.flatnonzero(y == k)[0] for k in range(2)])
    batch, _ = pad_tasks([Task(X[first], y[first], X[40:50], y[40:50])], torch.float64)
    state = learner.eval().adapt_features(
        learner.embed(batch["X"][0]), batch["y"][0], batch["w"][0]
    )
    assert state["rest"].shape == (3, 8, 8)
    full, along = (learner.train(mode)(**batch)[0].detach() for mode in (True, False))
    np.testing.assert_allclose(along, full, rtol=1e-8)


def transported(cosines, a, b):
    """The linear program of equation 4."""
    n = len(a)
    rows = [np.kron(np.eye(n)[i], np.ones(n)) for i in range(n)]
    columns = [np.kron(np.ones(n), np.eye(n)[i]) for i in range(n)]
    sums = np.concatenate([a, b])
    return -linprog(-cosines.ravel(), A_eq=np.array(rows + columns), b_eq=sums).fun


def weights(U, V):
    """Equation 7, with the least weight in units of the mean."""
    likeness = np.maximum(U @ V.mean(0), 0)
    likeness = likeness + 1e-3 * likeness.mean()
    return likeness / likeness.sum()


def test_places_are_matched(digits, encoder):
    learner = DeepEMD(encoder, (8, 8), entropy=0.01, n_steps=3000).double()
    for task, found in zip(*compared(learner, *digits), strict=True):
        rows, asked = maps(encoder, task.X), maps(encoder, task.X_query)
        means = [rows[task.y == k].mean(0) for k in range(3)]
        best = [
            [transported(cosine_similarity(U, V), weights(U, V), weights(V, U)) for V in means]
            for U in asked
        ]
        # an entropy of n places is worth log n at most
        gap = 12.5 * np.array(best) - found
        assert (gap > -1e-6).all() and (gap < 12.5 * 0.01 * np.log(4)).all()


def test_derivatives_of_the_matching():
    torch.manual_seed(0)
    cosines = (2 * torch.rand(2, 4, 4, dtype=torch.double) - 1).requires_grad_()
    a, b = (torch.randn(2, 4, dtype=torch.double, requires_grad=True) for _ in range(2))

    def value(cosines, a, b):
        return matched(cosines, a.softmax(-1), b.softmax(-1), 0.1, 500)

    assert torch.autograd.gradcheck(value, (cosines, a, b))


def test_usual_number_of_steps_is_enough():
    rng = np.random.default_rng(0)
    cosines = torch.as_tensor(rng.uniform(-1, 1, (50, 9, 9)))
    a, b = (torch.as_tensor(rng.dirichlet(np.ones(9), 50)) for _ in range(2))
    usual, best = (matched(cosines, a, b, 0.05, n) for n in (100, 20000))
    np.testing.assert_allclose(usual, best, atol=2e-3)


# ------------------------------------------------------------------ maps
def test_channels_of_maps():
    for name, params, channels in [
        ("conv4", {"width": 8}, 8), ("resnet8", {"widths": (4, 8, 12)}, 12),
        ("resnet12", {"widths": (4, 8, 12, 16), "pool": None}, 16),
    ]:  # fmt: skip
        net = make_encoder(name, (32, 32), params)
        n_features = net(torch.zeros(1, 32, 32)).shape[1]
        assert map_channels(net, n_features) == channels and n_features > channels
    assert map_channels(make_encoder("mlp", (5,), {}), 64) == 64


@of_places
@pytest.mark.parametrize("params", [{"pool": "mean"}, {"turns": 4}, {"color_moments": True}])
def test_maps_that_were_pooled_are_refused(digits, name, params):
    X, y = digits
    params = {f"encoder__{k}": v for k, v in params.items()}
    with pytest.raises(ValueError, match="encoder__pool=None"):
        getattr(fewshot_sklearn, name)(encoder="conv4", **params).fit(X, y)


class OwnMaps(nn.Module):
    """Three channels of a picture's rows."""

    map_channels = 3

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(8, self.map_channels, 3)

    def forward(self, x):
        return self.layer(x).flatten(1)


@of_places
def test_maps_of_an_own_network(digits, name):
    X, y = digits
    clf = getattr(fewshot_sklearn, name)(encoder=OwnMaps(), random_state=0)
    assert clf._new_learner((8, 8), None, 0).n_places == 6
    assert clf.fit(X[:40], y[:40]).predict_proba(X[40:]).shape == (40, 3)
    wrong = OwnMaps()
    wrong.map_channels = 7
    with pytest.raises(ValueError, match="map_channels of OwnMaps must be an int that divides"):
        clf.set_params(encoder=wrong).fit(X, y)


@of_places
@pytest.mark.parametrize("size", [1e-8, 1e8])
def test_features_of_any_size(name, size):
    rng = np.random.default_rng(0)
    X = size * np.hstack([rng.normal(size=(30, 12)), np.zeros((30, 12))])
    X[10:15], X[15] = X[:5], 0.0
    kind = getattr(fewshot_sklearn, name)._learner_class
    net = nn.Identity()
    net.map_channels = 6
    learner = kind(net, (24,)).double()
    batch, y_query = pad_tasks([Task(X[:20], np.arange(20) % 3, X[20:], np.arange(10) % 3)],
                               torch.float64)  # fmt: skip
    batch["X"].requires_grad_()
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    loss.backward()
    assert outputs.isfinite().all() and batch["X"].grad.isfinite().all()


# ------------------------------------------------------------------ meta-training
@pytest.mark.parametrize(
    "estimator",
    [DN4Classifier(), FRNClassifier(), DeepEMDClassifier(n_steps=20)],
    ids=lambda e: type(e).__name__,
)
def test_meta_training_helps_on_new_classes(estimator, margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    assert_learns(estimator.set_params(**net), margin)


@pytest.mark.parametrize(
    "estimator",
    [DN4Classifier(), FRNClassifier(), DeepEMDClassifier(n_steps=20)],
    ids=lambda e: type(e).__name__,
)
def test_meta_training_on_maps(estimator, margin):
    """Pictures, of whose maps all places count, are told apart better than by chance."""
    net = {"encoder": "conv4", "encoder__width": 8, "encoder__pools": 2, "random_state": 0}
    few = {"n_episodes": 24, "max_epochs": 2, "n_query": 5, "n_shot": 1}
    X, y, X_new, y_new = pictures()
    trained = meta_train(estimator.set_params(**net), X, y, n_way=5, **few)
    score = few_shot_score(trained, X_new, y_new, n_shot=3, n_query=5, n_episodes=30)
    margin.above(score.mean, 0.4)
    learner = trained._rebuild(trained.meta_init)
    assert (learner.n_places, learner.n_descriptors) == (16, 8)
