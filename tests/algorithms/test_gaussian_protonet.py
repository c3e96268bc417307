"""Gaussian prototypical networks against the formulas in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import NearestCentroid

from fewshot_sklearn import GaussianProtoNetClassifier, few_shot_score
from fewshot_sklearn.algorithms.gaussian_protonet import GaussianProtoNet
from fewshot_sklearn.encoders import Identity
from fewshot_sklearn.tasks import Support, Task, pad_tasks

every_precision = pytest.mark.parametrize("precision", ["radius", "diagonal"])


def by_hand(X, y, w, raw, scale, X_query):
    """Fort (2017), eq. 4-7, a class and a row at a time; raw maps a row to its raw precision."""

    def precision_of(row):
        return np.ones(X.shape[1]) * (1 + np.log1p(np.exp(raw(row))))

    logits = []
    for label in np.unique(y):
        rows, weights = X[y == label], w[y == label]
        S = np.array([precision_of(row) for row in rows])
        S_c = sum(weight * s for weight, s in zip(weights, S, strict=True))
        p_c = sum(weight * s * row for weight, s, row in zip(weights, S, rows, strict=True)) / S_c
        logits.append([-scale * np.sqrt((row - p_c) @ np.diag(S_c) @ (row - p_c))
                       for row in X_query])  # fmt: skip
    return np.array(logits).T


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    y = np.array([0, 0, 1, 1, 1, 2, 2, 1])
    return rng.normal(size=(8, 4)), y, rng.uniform(0.2, 3, 8), rng.normal(size=(6, 4))


def learner_of(precision, n_features=4):
    """With weights of its own, in float64."""
    learner = GaussianProtoNet(
        Identity((n_features,)), (n_features,), precision=precision, pooling="sum"
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return learner.double()


@every_precision
def test_formulas(task, precision):
    X, y, w, X_query = task
    learner = learner_of(precision)
    weight, bias = learner.raw.weight.detach().numpy(), learner.raw.bias.detach().numpy()
    scale = learner.log_scale.exp().item()
    expected = by_hand(X, y, w, lambda row: weight @ row + bias, scale, X_query)
    support = Support(*(torch.tensor(a) for a in (X, np.eye(3)[y], w)))
    with torch.no_grad():
        logits = learner.predict(learner.adapt(support), torch.tensor(X_query))
    np.testing.assert_allclose(logits, expected, rtol=1e-10)


@every_precision
def test_without_a_past(task, precision):
    X, y, w, X_query = task
    clf = GaussianProtoNetClassifier(precision=precision, pooling="sum").fit(X, y, w)
    expected = softmax(by_hand(X, y, w, lambda row: np.zeros(1), 1.0, X_query), axis=1)
    np.testing.assert_allclose(clf.predict_proba(X_query), expected, rtol=1e-6)
    mass = np.array([w[y == label].sum() for label in range(3)])
    width = 1 if precision == "radius" else 4
    np.testing.assert_allclose(
        clf.precisions_, np.tile((1 + np.log(2)) * mass[:, None], width), rtol=1e-6
    )


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")
@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_classes_of_the_same_size_give_the_nearest_centroid(offset):
    X, y = load_iris(return_X_y=True)
    kept = np.concatenate([np.flatnonzero(y == label)[:7] for label in range(3)])
    ours = GaussianProtoNetClassifier().fit(X[kept] + offset, y[kept])
    theirs = NearestCentroid().fit(X[kept], y[kept])
    np.testing.assert_allclose(ours.prototypes_ - offset, theirs.centroids_, atol=1e-7)
    np.testing.assert_array_equal(ours.predict(X + offset), theirs.predict(X))


def test_with_sums_a_class_of_more_rows_reaches_less_far():
    clf = GaussianProtoNetClassifier(pooling="sum")
    clf.fit([[0.0], [0.0], [0.0], [0.0], [1.0]], list("aaaab"))
    # the distances are 2 sqrt(s) |x| and sqrt(s) |x - 1|, equal at a third
    np.testing.assert_array_equal(clf.predict([[0.3], [0.36]]), ["a", "b"])


def test_mean_pooling_counts_classes_as_though_of_one_size(task):
    X, y, w, X_query = task
    clf = GaussianProtoNetClassifier(pooling="mean").fit(X, y, w)
    # all rows have the precision s: S_c = s W / 3, with W the weight of all rows
    means = np.array([np.average(X[y == c], axis=0, weights=w[y == c]) for c in range(3)])
    root = np.sqrt((1 + np.log(2)) * w.sum() / 3)
    np.testing.assert_allclose(
        clf.predict_proba(X_query), softmax(-root * cdist(X_query, means), axis=1), rtol=1e-6
    )
    of_one_size = np.arange(7)  # two rows of each, once the third of class 1 weighs nothing
    weights = np.array([1, 1, 1, 1, 0, 1, 1.0])
    probabilities = [
        GaussianProtoNetClassifier(pooling=pooling)
        .fit(X[of_one_size], y[of_one_size], weights)
        .predict_proba(X_query)
        for pooling in ("sum", "mean")
    ]
    np.testing.assert_allclose(*probabilities, rtol=1e-10)


def test_mean_pooling_bears_classes_of_different_sizes():
    X, y = load_digits(n_class=2, return_X_y=True)
    few = np.concatenate([np.flatnonzero(y == 0)[:20], np.flatnonzero(y == 1)[:3]])
    assert GaussianProtoNetClassifier(pooling="mean").fit(X[few], y[few]).score(X, y) > 0.95


@every_precision
def test_gradients(task, precision):
    X, y, w, X_query = task
    learner = learner_of(precision)
    rest = torch.tensor(np.eye(3)[y]), torch.tensor(w)
    Z, Z_query = torch.tensor(X, requires_grad=True), torch.tensor(X_query, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda Z, Z_query: learner.predict(learner.adapt(Support(Z, *rest)), Z_query), (Z, Z_query)
    )


@every_precision
def test_a_row_on_its_prototype_has_finite_gradients(precision):
    learner = learner_of(precision).float()
    Z = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    support = Support(Z, torch.eye(3), torch.ones(3))
    outputs = learner.predict(learner.adapt(support), Z)
    learner.loss(outputs[None], torch.arange(3)[None]).backward()
    assert Z.grad.abs().max() < 100
    assert all(p.grad.isfinite().all() for p in learner.parameters())


@every_precision
def test_padding_weights_and_order(task, precision):
    X, y, _, X_query = task
    learner = learner_of(precision)
    few = y != 2
    tasks = [Task(X, y, X_query, np.zeros(6, int)), Task(X[few], y[few], X_query[:2], y[:2])]
    batch, _ = pad_tasks(tasks, torch.float64)
    with torch.no_grad():
        together = learner(**batch)
        for i, one in enumerate(tasks):
            alone, _ = pad_tasks([one], torch.float64)
            n_way = alone["y"].shape[-1]
            np.testing.assert_allclose(
                together[i, : len(one.X_query), :n_way], learner(**alone)[0], rtol=1e-10
            )
        assert together[1, :, 2].isneginf().all()
        twice = np.repeat(np.arange(8), [2, 1, 0, 1, 2, 1, 1, 1])
        weights = torch.bincount(torch.tensor(twice), minlength=8).double()
        order = np.random.default_rng(0).permutation(len(twice))
        repeated = Support(
            torch.tensor(X[twice][order]),
            torch.tensor(np.eye(3)[y[twice]][order]),
            torch.ones(len(twice)).double(),
        )
        weighted = Support(torch.tensor(X), torch.tensor(np.eye(3)[y]), weights)
        np.testing.assert_allclose(
            learner.predict(learner.adapt(weighted), torch.tensor(X_query)),
            learner.predict(learner.adapt(repeated), torch.tensor(X_query)),
            rtol=1e-10,
        )


def test_meta_training_helps_on_new_classes(margin):
    """Two of three columns are noise, which meta-training learns to leave out."""
    X, y = load_digits(return_X_y=True)
    noise = np.random.default_rng(0).normal(0, 12, (len(X), 128))
    X = np.hstack([X, noise])
    old = y < 6
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0, "precision": "diagonal"}
    few = {"n_way": 4, "n_shot": 3, "n_query": 10}
    start, learned = (
        meta_train(GaussianProtoNetClassifier(**net), X[old], y[old], **few, max_epochs=n)
        for n in (0, 3)
    )
    judged = few | {"n_episodes": 100, "random_state": 0}
    before, after = (few_shot_score(e, X[~old], y[~old], **judged).mean for e in (start, learned))
    margin.above(after - before, 0.05, "gain")
    trust = np.abs(learned.meta_init.tensors["raw.weight"]).max()
    margin.above(trust, 1e-3, "what was learned of trust")
    many = learned.fit(X[::20], y[::20])
    assert many.predict_proba(X).shape == (len(X), 10)
    assert np.ptp(many.precisions_, axis=1).min() > 0


def test_bad_parameters():
    with pytest.raises(ValueError, match=r"precision must be 'radius', .* got 'full'"):
        GaussianProtoNetClassifier(precision="full").fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match="pooling must be 'sum', 'mean' or None, got 'max'"):
        GaussianProtoNetClassifier(pooling="max").fit([[0.0], [1.0]], [0, 1])
