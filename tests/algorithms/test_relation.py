"""Relation networks against plain numpy and scikit-learn's neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier

from fewshot_sklearn import MetaInit, RelationNetClassifier, few_shot_score
from fewshot_sklearn.algorithms.relation import RelationNet
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Support, Task, add_rotations, memberships, pad_tasks


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(X))
    return X[rows] + rng.normal(0, 1e-3, X.shape), y[rows]  # so that no two distances are equal


def class_means(X, y, w):
    return np.array([np.average(X[y == k], axis=0, weights=w[y == k]) for k in np.unique(y)])


# ------------------------------------------------------------------ untrained
@pytest.mark.parametrize("weighted", [False, True])
def test_untrained_it_is_a_distance_to_class_means(iris, weighted):
    X, y = iris
    w = np.random.default_rng(1).uniform(0.1, 3, 30) if weighted else np.ones(30)
    proba = RelationNetClassifier().fit(X[:30], y[:30], sample_weight=w).predict_proba(X)
    r = expit(3 - 12 / 4 * cdist(X, class_means(X[:30], y[:30], w), "cityblock"))
    np.testing.assert_allclose(proba, r / r.sum(1, keepdims=True), rtol=1e-5)


def test_untrained_it_is_what_the_network_starts_from(iris):
    """Without a past there is no network; what was fitted when there was one still predicts."""
    X, y = iris
    clf = RelationNetClassifier().fit(X[:30], y[:30])
    expected = clf.predict_proba(X)
    assert not any("hidden" in name for name in clf.meta_init_.tensors)
    start = RelationNet(make_encoder("identity", (4,), {}), (4,)).double()
    tensors = start.state_dict() | clf.meta_init_.state_dict()
    clf.meta_init_ = MetaInit.from_state(tensors, clf.meta_init_.spec)
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-12)
    with torch.no_grad():
        members = memberships(torch.as_tensor(y[:30]), 3, torch.float64)
        state = start.adapt(Support(torch.as_tensor(X[:30]), members, torch.ones(30).double()))
        outputs = start.predict(state, torch.as_tensor(X)).softmax(-1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-9)


def test_meta_training_goes_on_from_no_past(iris):
    X, y = iris
    clf = RelationNetClassifier().fit(X[:30], y[:30])
    going_on = RelationNetClassifier(clf.meta_init_)
    trained = meta_train(going_on, X, y, n_way=2, n_shot=2, n_query=2, n_episodes=4, max_epochs=1)
    assert "hidden.weight" in trained.meta_init.tensors


def test_one_row_a_class_is_the_nearest_neighbour(iris):
    X, y = iris
    first = [np.flatnonzero(y == label)[0] for label in range(3)]
    theirs = KNeighborsClassifier(1, metric="manhattan").fit(X[first], y[first])
    ours = RelationNetClassifier().fit(X[first], y[first])
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("width", [1, 5, 40, 200])
def test_any_number_of_hidden_units(iris, width, margin):
    X, y = iris
    X = (X - X.mean(0)) / X.std(0)
    clf = RelationNetClassifier(relation_hidden=width, random_state=0).fit(X[:30], y[:30])
    assert clf.meta_init_.tensors["hidden.weight"].shape == (width, 8)
    again = RelationNetClassifier(relation_hidden=width, random_state=0).fit(X[:30], y[:30])
    np.testing.assert_array_equal(clf.predict_proba(X), again.predict_proba(X))
    if width >= 40:
        margin.above(clf.score(X, y), 0.7)


@pytest.mark.parametrize("width", [0, -3, 2.5])
def test_bad_number_of_hidden_units(iris, width):
    with pytest.raises(ValueError, match=f"relation_hidden must be .*got {width}"):
        RelationNetClassifier(relation_hidden=width).fit(*iris)


# ------------------------------------------------------------------ the network
@pytest.fixture
def learner():
    """With a random relation network on the features as they are."""
    torch.manual_seed(0)
    net = RelationNet(make_encoder("identity", (4,), {}), (4,), relation_hidden=7).double()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    return net


def relations(learner, X, y, w, X_query):
    """Equation 1: a perceptron of concatenated features of class and row."""
    t = {name: p.detach().numpy() for name, p in learner.named_parameters()}
    means = class_means(X, y, w)
    out = np.empty((len(X_query), len(means)))
    for i, x in enumerate(X_query):
        for k, mean in enumerate(means):
            both = np.concatenate([mean, x])
            hidden = np.maximum(t["hidden.weight"] @ both + t["hidden.bias"], 0)
            out[i, k] = expit(t["out.weight"] @ hidden + t["out.bias"]).item()
    return out


def test_relations(iris, learner):
    X, y = iris
    w = np.random.default_rng(0).uniform(0.1, 3, 30)
    members = memberships(torch.as_tensor(y[:30]), 3, torch.float64)
    state = learner.adapt(Support(torch.as_tensor(X[:30]), members, torch.as_tensor(w)))
    outputs = learner.predict(state, torch.as_tensor(X[30:]))
    expected = relations(learner, X[:30], y[:30], w, X[30:])
    np.testing.assert_allclose(outputs.exp().detach(), expected, rtol=1e-9)


def test_loss_is_the_squared_error_of_the_relations(iris, learner):
    X, y = iris
    tasks = [Task(X[:30], y[:30], X[40:45], y[40:45]), Task(X[30:40], y[30:40], X[45:], y[45:])]
    batch, y_query = pad_tasks(tasks, torch.float64)
    expected = []
    for task in tasks:
        r = relations(learner, task.X, task.y, np.ones(len(task.X)), task.X_query)
        expected.append(np.mean((r - np.eye(3)[task.y_query]) ** 2))
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    np.testing.assert_allclose(loss.item(), np.mean(expected), rtol=1e-9)
    np.testing.assert_allclose(learner.loss(outputs, y_query).item(), np.mean(expected), rtol=1e-9)


def test_classes_without_support_are_left_out_of_the_loss(iris, learner):
    X, y = iris
    kept = y[:30] != 1
    X, X_query, y_query = X[:30][kept], X[30:], y[30:]
    task = Task(X, y[:30][kept], X_query, y_query)
    batch, y_query = pad_tasks([task], torch.float64)
    r = relations(learner, X, task.y, np.ones(len(X)), X_query)
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    assert (outputs[..., 1] == -torch.inf).all()
    expected = np.mean((r - np.eye(3)[task.y_query][:, [0, 2]]) ** 2)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-9)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


# ------------------------------------------------------------------ meta-training
@pytest.fixture(scope="module")
def noisy_digits():
    """Digits turned four ways, beside twice as many columns of noise; 28 past and 12 new classes.

    Without a past, nothing tells the noise from the rest.
    """
    digits = load_digits()
    images, y = add_rotations(digits.images, digits.target)
    rng = np.random.default_rng(0)
    X = np.hstack([images.reshape(-1, 64), rng.normal(0, 12, (len(images), 128))])
    y = np.unique(y, return_inverse=True)[1]
    return X[y < 28], y[y < 28], X[y >= 28], y[y >= 28]


TASKS = {"n_way": 5, "n_shot": 3, "n_query": 10}


@pytest.mark.parametrize("relation_hidden", [None, 40])
def test_meta_training_helps_on_new_classes(noisy_digits, relation_hidden, margin):
    X, y, X_new, y_new = noisy_digits
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    clf = RelationNetClassifier(relation_hidden=relation_hidden, **net)
    start, trained = (meta_train(clf, X, y, **TASKS, max_epochs=n) for n in (0, 6))
    untrained = few_shot_score(start, X_new, y_new, n_shot=3, n_episodes=20)
    learned = few_shot_score(trained, X_new, y_new, n_shot=3)
    margin.above(learned.mean - untrained.mean, 0.1, "gain")
    for n_way, n_shot, least in [(2, 1, 0.7), (5, 1, 0.45), (12, 10, 0.4)]:
        score = few_shot_score(trained, X_new, y_new, n_way=n_way, n_shot=n_shot, n_episodes=50)
        margin.above(score.mean, least, f"{n_way} ways, {n_shot} shots")


def test_meta_training_learns_to_compare(noisy_digits, margin):
    """On features as they are, all that is learned is the relation network."""
    X, y, X_new, y_new = noisy_digits
    start, trained = (
        meta_train(RelationNetClassifier(), X, y, **TASKS, max_epochs=n, lr=1e-3) for n in (0, 12)
    )
    before, after = (
        few_shot_score(clf, X_new, y_new, n_shot=3, n_episodes=200).mean for clf in (start, trained)
    )
    margin.above(after - before, 0.03)
