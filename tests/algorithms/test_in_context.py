"""In-context learners against numpy, torch's transformer, and what any set of rows must obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.special import logsumexp, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch.nn import functional as F

from fewshot_sklearn import InContextClassifier, InContextRegressor, few_shot_score
from fewshot_sklearn.algorithms import in_context
from fewshot_sklearn.algorithms.in_context import InContextClassification, InContextRegression
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import Identity
from fewshot_sklearn.tasks import add_rotations


def random_learner(make, n_outputs=None):
    """A float64 learner on three features none of whose weights is zero."""
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "n_hidden": 16, "n_heads": 4}
    learner = make(Identity((3,)), (3,), n_outputs, **sizes)
    for p in learner.answer.parameters():
        torch.nn.init.normal_(p)
    for layer in learner.layers:
        torch.nn.init.normal_(layer.norm_rows.bias)
        torch.nn.init.normal_(layer.norm_mixed.weight)
    if learner.smooths:
        torch.nn.init.zeros_(learner.smoother.log_sharpness)
    return learner.double().requires_grad_(False)


LEARNERS = pytest.mark.parametrize(
    ("make", "n_outputs"), [(InContextClassification, None), (InContextRegression, 3)]
)


def random_task(n=7, classes=True):
    g = torch.Generator().manual_seed(1)
    X, X_query = (torch.randn(m, 3, generator=g, dtype=torch.float64) for m in (n, 5))
    if classes:
        return X, torch.eye(3, dtype=torch.float64)[torch.arange(n) % 3], X_query
    return X, torch.randn(n, 3, generator=g, dtype=torch.float64), X_query


def outputs(learner, X, y, w, X_query):
    """All that the learner says, as one float64 tensor (n_query, ...)."""
    w = torch.as_tensor(w, dtype=torch.float64)
    out = learner.eval().predict_features(learner.adapt_features(X, y, w), X_query)
    return out.softmax(-1) if isinstance(out, torch.Tensor) else torch.cat(out, -1)


# ------------------------------------------------------------------ the network
def torch_transformer(learner, X, label, X_query):
    """Answers of torch's own encoder to tokens under a mask: all may read the support only."""
    n, m = len(X), len(X_query)
    h = torch.cat(
        [learner.row(X) + learner.label(label[:, None]), learner.row(X_query) + learner.unknown]
    )[None]
    hidden = torch.ones(n + m, n + m, dtype=torch.bool)
    hidden[:, :n] = False
    for ours in learner.layers:
        layer = torch.nn.TransformerEncoderLayer(
            16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
        ).eval()
        attention, own = layer.self_attn, ours.attention
        parts = own.query, own.key, own.value
        with torch.no_grad():
            attention.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
            attention.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        pairs = (
            (own.out, attention.out_proj), (ours.mlp[0], layer.linear1),
            (ours.mlp[2], layer.linear2), (ours.norm_rows, layer.norm1),
            (ours.norm_mixed, layer.norm2),
        )  # fmt: skip
        for part, other in pairs:
            other.load_state_dict(part.state_dict())
        h = layer(h, src_mask=hidden).detach()
    return learner.answer(F.layer_norm(h[0, n:], (16,)))


def log_kernel(X_query, X):
    """The smoother's logarithms at a sharpness of one."""
    return F.log_softmax(-torch.cdist(X_query, X).square(), -1)


def test_classifier_is_a_transformer_for_each_class_against_the_rest():
    learner = random_learner(InContextClassification)
    X, y, X_query = random_task()
    answers = torch.cat([torch_transformer(learner, X, c, X_query) for c in y.T], 1)
    smoothed = (log_kernel(X_query, X).exp() @ y).log()
    state = learner.adapt_features(X, y, torch.ones(7, dtype=torch.float64))
    logits = learner.eval().predict_features(state, X_query)
    torch.testing.assert_close(logits, smoothed + answers, rtol=1e-5, atol=1e-5)


def test_regressor_is_a_transformer_for_each_target():
    learner = random_learner(InContextRegression, 3)
    learner.y_mean, learner.y_scale = torch.tensor([[5.0, 0.0, -1.0], [2.0, 1.0, 0.5]]).double()
    X, y, X_query = random_task(classes=False)
    target = (y - learner.y_mean) / learner.y_scale
    answers = torch.stack([torch_transformer(learner, X, t, X_query) for t in target.T], 1)
    mean = answers[..., 0]
    sigma = 0.01 + 0.99 * F.softplus(answers[..., 1])
    state = learner.adapt_features(X, y, torch.ones(7, dtype=torch.float64))
    out = learner.eval().predict_features(state, X_query)
    expected = mean * learner.y_scale + learner.y_mean
    torch.testing.assert_close(out.mean, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.variance, (sigma * learner.y_scale) ** 2, rtol=1e-5, atol=1e-5)


@LEARNERS
def test_rows_are_a_weighted_set(make, n_outputs):
    learner = random_learner(make, n_outputs)
    X, y, X_query = random_task(classes=n_outputs is None)
    once = outputs(learner, X[:5], y[:5], [1, 2, 0, 1, 1], X_query)
    rows = [4, 3, 1, 0, 1]
    torch.testing.assert_close(outputs(learner, X[rows], y[rows], [1] * 5, X_query), once)
    torch.testing.assert_close(outputs(learner, X[:5], y[:5], [3, 6, 0, 3, 3], X_query), once)
    assert (outputs(learner, X[:5], y[:5], [1, 1, 0, 1, 1], X_query) - once).abs().max() > 1e-3


@LEARNERS
def test_renamed_classes_permute_the_columns(make, n_outputs):
    learner = random_learner(make, n_outputs)
    X, y, X_query = random_task(classes=n_outputs is None)
    plain = outputs(learner, X, y, [1] * 7, X_query)
    renamed = outputs(learner, X, y[:, [2, 0, 1]], [1] * 7, X_query)
    columns = [2, 0, 1] if n_outputs is None else [2, 0, 1, 5, 3, 4]
    torch.testing.assert_close(renamed, plain[:, columns])


@LEARNERS
def test_queries_know_nothing_of_each_other(make, n_outputs, monkeypatch):
    learner = random_learner(make, n_outputs)
    X, y, X_query = random_task(classes=n_outputs is None)
    together = outputs(learner, X, y, [1] * 7, X_query)
    alone = torch.cat([outputs(learner, X, y, [1] * 7, x[None]) for x in X_query])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)
    monkeypatch.setattr(in_context, "QUERIES_AT_ONCE", 2)
    chunks = outputs(learner, X, y, [1] * 7, X_query)
    torch.testing.assert_close(chunks, together, rtol=1e-10, atol=1e-12)


@LEARNERS
def test_leading_axes_of_tasks(make, n_outputs):
    learner = random_learner(make, n_outputs)
    g = torch.Generator().manual_seed(2)
    X, y, X_query = (torch.randn(2, 3, n, 3, generator=g, dtype=torch.float64) for n in (6, 6, 4))
    y = y.softmax(-1) if n_outputs is None else y
    w = torch.rand(2, 3, 6, generator=g, dtype=torch.float64)
    together = learner.episode_of_features(X, y, w, X_query)
    alone = learner.episode_of_features(X[1, 2], y[1, 2], w[1, 2], X_query[1, 2])
    pairs = [(together, alone)] if n_outputs is None else zip(together, alone, strict=True)
    for many, one in pairs:
        torch.testing.assert_close(many[1, 2], one)


def test_a_class_without_rows_changes_no_other_and_no_gradient():
    learner = random_learner(InContextClassification)
    X, y, X_query = random_task()
    w = (y[:, 1] == 0).double()
    proba = outputs(learner, X, y, w, X_query)
    assert (proba[:, 1] == 0).all()
    torch.testing.assert_close(
        proba[:, [0, 2]], outputs(learner, X[w > 0], y[w > 0][:, [0, 2]], [1] * 5, X_query)
    )
    learner.requires_grad_(True)
    logits = learner.train().episode_of_features(X, y, w, X_query)
    learner.loss(logits[None], torch.tensor([[0, 2, 0, 2, 0]])).backward()
    assert all(p.grad.isfinite().all() for p in learner.parameters())


# ------------------------------------------------------------------ without a past
def scaled_kernel(X, X_query, w):
    mean = np.average(X, axis=0, weights=w)
    scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=w))
    gaps = (((X_query[:, None] - X) / scale) ** 2).sum(-1)
    return np.log(np.maximum(w, 1e-300)) - 10 / X.shape[1] * gaps


def test_untrained_classifier_smooths_the_labels():
    rng = np.random.default_rng(0)
    X, X_query = rng.normal(3, 20, (30, 4)), rng.normal(3, 20, (10, 4))
    y, w = np.arange(30) % 3, rng.integers(1, 3, 30).astype(float)
    kernel = scaled_kernel(X, X_query, w)
    scores = np.stack([logsumexp(kernel[:, y == k], axis=1) for k in range(3)], 1)
    clf = InContextClassifier(encoder="identity", random_state=0).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(clf.predict_proba(X_query), softmax(scores, 1), rtol=1e-4, atol=1e-9)


def test_untrained_classifier_smooths_soft_labels():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 4)), rng.dirichlet(np.ones(3), 12)
    kernel = scaled_kernel(X, X, np.ones(12))
    expected = softmax(kernel, 1) @ y
    np.testing.assert_allclose(
        InContextClassifier(encoder="identity").fit(X, y).predict_proba(X), expected, rtol=1e-5
    )


def test_untrained_regressor_smooths_the_targets():
    rng = np.random.default_rng(0)
    X, X_query = rng.normal(3, 20, (30, 4)), rng.normal(3, 20, (10, 4))
    y, w = rng.normal(5, 3, (30, 2)), rng.integers(0, 3, 30).astype(float)
    expected = softmax(scaled_kernel(X, X_query, w), 1) @ y
    reg = InContextRegressor(encoder="identity", random_state=0).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(reg.predict(X_query), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [InContextClassifier, InContextRegressor])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_layers": 0}, r"n_layers must be an int, at least 1.*got 0"),
        ({"n_hidden": 1.5}, r"n_hidden must be an int, at least 1.*got 1.5"),
        ({"n_hidden": 10, "n_heads": 4}, "n_heads must divide n_hidden, got n_heads=4"),
    ],
)
def test_bad_hyperparameters(make, params, message):
    with pytest.raises(ValueError, match=message):
        make(**params).fit([[0.0], [1.0]], [0, 1])


# ------------------------------------------------------------------ meta-trained
TASKS = {"n_way": 5, "n_shot": (1, 3), "n_query": 5, "max_epochs": 5}
SMALL = {"n_layers": 2, "n_hidden": 32, "n_heads": 4, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    """(past X, past y, new X, new y): the digits 0 to 6 and their turns; 7 to 9 and theirs.

    Half of the columns are noise, which meta-training learns to leave out.
    """
    data = load_digits()
    X, y = add_rotations(data.images, data.target)
    X, y = X.reshape(len(X), -1), np.unique(y, return_inverse=True)[1]
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])
    digit = np.tile(data.target, 4)
    return X[digit < 7], y[digit < 7], X[digit >= 7], y[digit >= 7]


@pytest.fixture(scope="module")
def trained_classifier(digits):
    return meta_train(InContextClassifier(encoder="mlp", **SMALL), *digits[:2], **TASKS)


def test_meta_training_helps_on_new_classes(digits, trained_classifier, margin):
    few = {"n_way": 5, "n_shot": 1, "n_query": 5, "n_episodes": 60}
    past = few_shot_score(clone(trained_classifier), *digits[2:], **few).mean
    untrained = InContextClassifier(encoder="mlp", **SMALL)
    untrained = meta_train(untrained, *digits[:2], **(TASKS | {"max_epochs": 0}))
    without = few_shot_score(untrained, *digits[2:], **few).mean
    margin.above(past - without, 0.1)


@pytest.mark.parametrize(("n_way", "n_shot", "least"), [(2, 1, 0.6), (12, 5, 0.35)])
def test_ways_and_shots_not_trained_with(digits, trained_classifier, n_way, n_shot, least, margin):
    few = {"n_way": n_way, "n_shot": n_shot, "n_query": 5, "n_episodes": 40}
    margin.above(few_shot_score(clone(trained_classifier), *digits[2:], **few).mean, least)


def test_meta_training_helps_on_new_sinusoids(margin):
    past = make_sinusoid_tasks(300, n_shot=10, n_query=10, random_state=0)
    few = {"n_shot": (5, 10), "n_query": 10, "n_episodes": 320}
    reg, untrained = (
        meta_train(
            InContextRegressor(**SMALL), past.data, past.target, past.groups, **few, max_epochs=n
        )
        for n in (10, 0)
    )
    new = make_sinusoid_tasks(40, n_shot=10, n_query=30, random_state=1)

    def error(reg):
        squared = []
        for g in range(40):
            X, y = new.data[new.groups == g], new.target[new.groups == g]
            squared.append((reg.fit(X[:5], y[:5]).predict(X[10:]) - y[10:]) ** 2)
        return np.mean(squared)

    margin.below(error(reg) / error(untrained), 0.95)
