"""Baseline++ and Baseline against autograd, scikit-learn's logistic regression and plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from fewshot_sklearn import BaselinePlusPlusClassifier, few_shot_score
from fewshot_sklearn.algorithms.baseline_plus_plus import BaselinePlusPlus
from fewshot_sklearn.encoders import Identity
from fewshot_sklearn.tasks import Support, Task, add_rotations, pad_tasks

LOADERS = {"iris": load_iris, "wine": load_wine, "digits": load_digits}
both_heads = pytest.mark.parametrize("cosine", [True, False])


@pytest.fixture(params=LOADERS)
def data(request):
    X, y = LOADERS[request.param](return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))
    return StandardScaler().fit_transform(X[rows]), y[rows]


@pytest.fixture(scope="module")
def digits():
    """(X, y, new): turned digits beside noise, and which rows are of 7 to 9, kept from training."""
    images = load_digits()
    X, y = add_rotations(images.images, images.target)
    X = X.reshape(len(X), -1)
    X = np.hstack([X, np.random.default_rng(0).normal(0, 5, X.shape)])
    return X, y, np.array([label[0] in "789" for label in y])


@pytest.fixture(scope="module")
def pretrained(digits):
    """By whether the heads are cosine."""
    X, y, new = digits
    few = {"n_way": 5, "n_shot": 5, "n_query": 10, "n_episodes": 160, "max_epochs": 6}
    net = {"encoder": "mlp", "encoder__hidden": (64,)}
    return {
        cosine: meta_train(
            BaselinePlusPlusClassifier(**net, cosine=cosine), X[~new][::3], y[~new][::3], **few
        )
        for cosine in (True, False)
    }


def support(n_way=3, n=12, n_features=5):
    """Rows, soft memberships and weights of one task."""
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(n, n_features)), rng.dirichlet(np.ones(n_way), n), rng.random(n)
    return Support(*(torch.as_tensor(a) for a in (X, y, w)))


def learner(n_features=5, **params):
    return BaselinePlusPlus(Identity((n_features,)), (n_features,), **params).double()


# ------------------------------------------------------------------ the descent
@pytest.mark.parametrize("n_steps", [0, 1, 7])
def test_cosine_descent_is_autograds(n_steps):
    X, y, w = task = support()
    mass = w[:, None] * y
    W = F.normalize(mass.T @ F.normalize(X))
    for _ in range(n_steps):
        W = W.detach().requires_grad_()
        logits = 3.0 * F.cosine_similarity(X[:, None], W[None], dim=-1)
        loss = (w * F.cross_entropy(logits, y, reduction="none")).sum() / w.sum()
        (slope,) = torch.autograd.grad(loss, W)
        W = F.normalize(W - 0.3 * slope)
    state = learner(n_steps=n_steps, inner_lr=0.3, scale=3.0).adapt(task)
    torch.testing.assert_close(state["weight"], W.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_steps", [0, 1, 7])
@pytest.mark.parametrize("inner_lr", [0.05, 1e9])
def test_linear_descent_is_autograds(n_steps, inner_lr):
    X, y, w = task = support()
    W, b = torch.zeros(3, 5, dtype=X.dtype), torch.zeros(3, dtype=X.dtype)
    # never a longer step than the inverse of the most that the slope can change by
    share = w / w.sum()
    rate = min(inner_lr, 1 / (0.5 * (share * (X.square().sum(1) + 1)).sum().item() + 0.2))
    for _ in range(n_steps):
        W, b = W.detach().requires_grad_(), b.detach().requires_grad_()
        loss = (share * F.cross_entropy(X @ W.T + b, y, reduction="none")).sum()
        slopes = torch.autograd.grad(loss + 0.2 * W.square().sum() / 2, (W, b))
        W, b = W - rate * slopes[0], b - rate * slopes[1]
    options = {"n_steps": n_steps, "inner_lr": inner_lr, "weight_decay": 0.2}
    state = learner(cosine=False, **options).adapt(task)
    torch.testing.assert_close(state["weight"], W.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(state["bias"], b.detach(), rtol=1e-10, atol=1e-12)


def test_without_steps_the_nearest_class_mean_by_cosine(data):
    X, y = data
    Z = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = np.array([Z[:30][y[:30] == k].mean(0) for k in np.unique(y[:30])])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    clf = BaselinePlusPlusClassifier(n_steps=0, scale=4.0).fit(X[:30], y[:30])
    np.testing.assert_allclose(clf.coef_, means, rtol=1e-10)
    np.testing.assert_array_equal(clf.intercept_, 0)
    np.testing.assert_allclose(clf.predict_proba(X), softmax(4.0 * Z @ means.T, 1), rtol=1e-8)


def test_with_many_steps_the_linear_head_is_logistic_regression(data):
    X, y = data
    X = StandardScaler().fit_transform(X[:60, :8])  # as the classifier does by itself
    y, decay = y[:60], 0.1
    clf = BaselinePlusPlusClassifier(
        cosine=False, n_steps=5000, inner_lr=10.0, weight_decay=decay
    ).fit(X, y)
    theirs = LogisticRegression(C=1 / (decay * len(X)), tol=1e-10, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(clf.coef_, theirs.coef_, atol=1e-4)


@both_heads
def test_steps_lower_the_loss(data, cosine, margin):
    X, y = data
    losses = []
    for n_steps in (0, 3, 30, 300):
        clf = BaselinePlusPlusClassifier(cosine=cosine, n_steps=n_steps).fit(X[:40], y[:40])
        right = clf.predict_proba(X[:40])[np.arange(40), np.searchsorted(clf.classes_, y[:40])]
        losses.append(-np.log(right).mean())
    margin.below(np.divide(losses[1:], losses[:-1]).max(), 1)


@both_heads
@pytest.mark.parametrize("factor", [1e-6, 1.0, 10.0])
def test_no_scale_of_the_features_makes_it_diverge(pretrained, digits, cosine, factor, margin):
    X, y, new = digits
    X, y = factor * X[new][:300], y[new][:300]
    clf = clone(pretrained[cosine]).set_params(inner_lr=1e3).fit(X[:50], y[:50])
    assert np.isfinite(clf.predict_proba(X)).all()
    if factor == 1.0 and not cosine:
        margin.above(clf.score(X[:50], y[:50]), 0.9)


@both_heads
def test_a_class_mean_of_zero(cosine):
    X, y = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], [0, 0, 1, 1]
    for n_steps in (0, 100):
        clf = BaselinePlusPlusClassifier(cosine=cosine, n_steps=n_steps).fit(X, y)
        assert np.isfinite(clf.predict_proba([*X, [0.0, 0.0]])).all()


# ------------------------------------------------------------------ the same for every row
@both_heads
def test_order_weights_and_names(cosine):
    X, y, w = support(n_way=3)
    make = learner(cosine=cosine, inner_lr=0.5)
    queries = torch.as_tensor(np.random.default_rng(1).normal(size=(6, 5)))

    def outputs(X, y, w):
        return make.predict(make.adapt(Support(X, y, w)), queries)

    expected = outputs(X, y, w)
    close = {"rtol": 1e-9, "atol": 1e-10}
    turned = torch.arange(len(X)).flip(0)
    torch.testing.assert_close(outputs(X[turned], y[turned], w[turned]), expected, **close)
    renamed = [2, 0, 1]
    torch.testing.assert_close(outputs(X, y[:, renamed], w), expected[:, renamed], **close)
    twice = [torch.cat([t, t[:4]]) for t in (X, y, w)]
    heavy = w.clone()
    heavy[:4] *= 2
    torch.testing.assert_close(outputs(*twice), outputs(X, y, heavy), **close)
    padded = [torch.cat([X, 9 + X[:2]]), torch.cat([y, 0 * y[:2]]), torch.cat([w, 0 * w[:2]])]
    torch.testing.assert_close(outputs(*padded), expected, **close)
    absent = outputs(X, F.pad(y, (0, 1)), w)
    assert (absent[:, 3] == -torch.inf).all()
    torch.testing.assert_close(absent[:, :3], expected, **close)


@both_heads
def test_ragged_tasks_in_one_batch(digits, pretrained, cosine):
    X, y, new = digits
    codes = np.unique(y[new], return_inverse=True)[1]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(codes < 4))
    X, codes = X[new][rows], codes[rows]
    tasks = [Task(X[:20], codes[:20], X[20:25], codes[20:25]),
             Task(X[:9], codes[:9] % 2, X[30:40], codes[30:40] % 2)]  # fmt: skip
    batch, _ = pad_tasks(tasks)
    clf = pretrained[cosine]
    with torch.no_grad():
        outputs = clf._rebuild(clf.meta_init).forward(**batch).softmax(-1)
    for task, answers in zip(tasks, outputs.numpy(), strict=True):
        alone = clone(clf).fit(task.X, task.y)
        expected = alone.predict_proba(task.X_query)
        found = answers[: len(expected), alone.classes_]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------ parameters, and a past
@pytest.mark.parametrize(
    ("params", "message"),
    [({"n_steps": -1}, r"n_steps must be an int, at least 0.*got -1"),
     ({"n_steps": 1.5}, "n_steps must be an int"),
     ({"inner_lr": 0.0}, r"inner_lr must be .*positive.*got 0.0"),
     ({"scale": -1.0}, r"scale must be .*positive.*got -1.0"),
     ({"weight_decay": -1.0}, r"weight_decay must be .*at least 0.*got -1.0")],
)  # fmt: skip
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        BaselinePlusPlusClassifier(**params).fit([[0.0], [1.0]], [0, 1])


@both_heads
def test_pretraining_helps_with_new_classes(digits, pretrained, cosine, margin):
    X, y, new = digits
    few = {"n_way": 5, "n_shot": 5, "n_query": 10}
    untrained = BaselinePlusPlusClassifier(
        encoder="mlp", encoder__hidden=(64,), cosine=cosine, random_state=0
    )
    untrained = meta_train(untrained, X[~new][::3], y[~new][::3], **few, max_epochs=0)
    options = {"n_way": 5, "n_shot": 5, "n_episodes": 200, "random_state": 0}
    before, after = (
        few_shot_score(e, X[new], y[new], **options).mean for e in (untrained, pretrained[cosine])
    )
    margin.above(after, 0.75, "accuracy")
    margin.above(after - before, 0.04, "gain")
