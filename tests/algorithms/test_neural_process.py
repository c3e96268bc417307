"""Neural processes against numpy, and the attention they are built from against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.base import clone
from torch.nn import functional as F

from fewshot_sklearn import NeuralProcessRegressor
from fewshot_sklearn.algorithms.neural_process import NeuralProcess
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import Identity
from fewshot_sklearn.learners import MultiHeadAttention, TransformerLayer
from fewshot_sklearn.learners.attention import KernelSmoother

BOTH = pytest.mark.parametrize("attentive", [True, False])


def random_learner(attentive, n_outputs=2, **sizes):
    """A float64 learner on three features none of whose weights is zero."""
    torch.manual_seed(0)
    sizes = {"n_hidden": 16, "n_heads": 4} | sizes
    learner = NeuralProcess(Identity((3,)), (3,), n_outputs, attentive=attentive, **sizes)
    for p in learner.g[-1].parameters():
        torch.nn.init.normal_(p)
    learner.y_mean, learner.y_scale = torch.tensor([5.0, -1.0]), torch.tensor([2.0, 0.5])
    return learner.double().requires_grad_(False)


def random_task(n=6, n_outputs=2):
    g = torch.Generator().manual_seed(1)
    sizes = (n, 3), (n, n_outputs), (4, 3)
    return [torch.randn(size, generator=g, dtype=torch.float64) for size in sizes]


def numpy_mlp(network, x):
    layers = [m for m in network if isinstance(m, torch.nn.Linear)]
    for i, layer in enumerate(layers):
        x = x @ layer.weight.numpy().T + layer.bias.numpy()
        x = x if i == len(layers) - 1 else np.maximum(x, 0)
    return x


def nadaraya_watson(X, y, X_query, w, sharpness=10.0):
    """Rows' features at unit spread in all, weighted as fit weighs them."""
    mean = np.average(X, axis=0, weights=w)
    scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=w))
    gaps = (X_query[:, None] - X) / scale
    kernel = w * np.exp(-sharpness / X.shape[1] * (gaps**2).sum(-1))
    return kernel @ y / kernel.sum(1, keepdims=True)


# ------------------------------------------------------------------ attention
def torch_attention(ours):
    """torch's own attention with the same weights."""
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True, dtype=torch.float64)
    parts = ours.query, ours.key, ours.value
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    return theirs


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours = MultiHeadAttention(16, 4).double()
    q, k, v = (torch.randn(2, n, 16, dtype=torch.float64) for n in (5, 7, 7))
    w = torch.ones(2, 7, dtype=torch.float64)
    w[1, 4:] = 0
    expected = torch_attention(ours)(q, k, v, key_padding_mask=w == 0)[0]
    torch.testing.assert_close(ours(q, *ours.project(k, v), w), expected)


def test_weights_of_attention_are_a_mask_of_logarithms():
    torch.manual_seed(0)
    ours = MultiHeadAttention(16, 4).double()
    q, k, v = (torch.randn(3, 2, n, 16, dtype=torch.float64) for n in (5, 7, 7))
    w = torch.rand(3, 2, 7, dtype=torch.float64)
    heads = [
        t.unflatten(-1, (4, 4)).transpose(-2, -3)
        for t in (ours.query(q), ours.key(k), ours.value(v))
    ]
    mask = w.log()[:, :, None, None].expand(3, 2, 4, 5, 7)
    attended = F.scaled_dot_product_attention(*heads, attn_mask=mask)
    expected = ours.out(attended.transpose(-2, -3).flatten(-2))
    torch.testing.assert_close(ours(q, *ours.project(k, v), w), expected)


def test_transformer_layer_is_that_of_torch():
    torch.manual_seed(0)
    ours = TransformerLayer(16, 4).double()
    theirs = torch.nn.TransformerEncoderLayer(
        16, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    ).eval()
    theirs.self_attn = torch_attention(ours.attention)
    for own, other in (
        (ours.mlp[0], theirs.linear1), (ours.mlp[2], theirs.linear2),
        (ours.norm_rows, theirs.norm1), (ours.norm_mixed, theirs.norm2),
    ):  # fmt: skip
        torch.nn.init.normal_(own.bias)
        other.load_state_dict(own.state_dict())
    h = torch.randn(2, 7, 16, dtype=torch.float64)
    w = torch.ones(2, 7, dtype=torch.float64)
    torch.testing.assert_close(ours(h, *ours.read(h), w), theirs(h))


def test_second_derivatives_of_attention_under_vmap():
    torch.manual_seed(0)
    layer = TransformerLayer(4, 2).double()
    w = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    h = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda h: layer(h, *layer.read(h), w), (h,))
    hs = torch.randn(2, 3, 4, dtype=torch.float64)

    def hessian(h):
        return torch.func.hessian(lambda h: layer(h, *layer.read(h), w).square().sum())(h)

    alone = torch.stack([hessian(h) for h in hs])
    torch.testing.assert_close(torch.func.vmap(hessian)(hs), alone)


def test_smoother_weights():
    g = torch.Generator().manual_seed(0)
    Z, Z_query = (torch.randn(n, 3, generator=g, dtype=torch.float64) for n in (6, 4))
    w = torch.tensor([1.0, 2.0, 0.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    smoother = KernelSmoother().double()
    smoother.fit(Z, w)
    z, q, v = Z.numpy(), Z_query.numpy(), w.numpy()
    variance = np.average((z - np.average(z, axis=0, weights=v)) ** 2, axis=0, weights=v).sum()
    kernel = v * np.exp(-10 / variance * ((q[:, None] - z) ** 2).sum(-1))
    expected = kernel / kernel.sum(1, keepdims=True)
    np.testing.assert_allclose(smoother(Z_query, Z, w).exp().detach(), expected, rtol=1e-6)
    same = torch.full((4, 3), 7.0, dtype=torch.float64)
    smoother.fit(same, w[:4])
    assert smoother.log_sharpness.exp().item() == pytest.approx(10.0)


# ------------------------------------------------------------------ the network
def test_conditional_form_by_hand():
    learner = random_learner(attentive=False)
    X, y, X_query = random_task()
    w = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    out = learner.predict_features(learner.adapt_features(X, y, w), X_query)
    y_mean, y_scale = learner.y_mean.numpy(), learner.y_scale.numpy()
    rows = np.hstack([X.numpy(), (y.numpy() - y_mean) / y_scale])
    r = np.average(numpy_mlp(learner.h, rows), axis=0, weights=w.numpy())
    asked = np.hstack([X_query.numpy(), np.tile(r, (4, 1))])
    mean, spread = np.split(numpy_mlp(learner.g, asked), 2, axis=1)
    np.testing.assert_allclose(out.mean, mean * y_scale + y_mean, rtol=1e-9)
    sigma = (0.01 + 0.99 * np.logaddexp(0, spread)) * y_scale
    np.testing.assert_allclose(out.variance, sigma**2, rtol=1e-9)


def test_attentive_form_by_torch():
    learner = random_learner(attentive=True)
    X, y, X_query = random_task()
    w = torch.ones(6, dtype=torch.float64)
    out = learner.predict_features(learner.adapt_features(X, y, w), X_query)
    target = (y - learner.y_mean) / learner.y_scale
    r = torch.from_numpy(numpy_mlp(learner.h, torch.cat([X, target], 1).numpy()))
    summary = r.mean(0).expand(4, -1)
    layer = learner.self_attention
    n = F.layer_norm(r, (16,))
    r = r + torch_attention(layer.attention)(n[None], n[None], n[None])[0][0]
    n = F.layer_norm(r, (16,))
    r = r + F.gelu(n @ layer.mlp[0].weight.T + layer.mlp[0].bias) @ layer.mlp[2].weight.T
    r = r + layer.mlp[2].bias
    queries, keys = (torch.from_numpy(numpy_mlp(learner.place, t.numpy())) for t in (X_query, X))
    read = torch_attention(learner.cross_attention)(queries[None], keys[None], r[None])[0][0]
    asked = torch.cat([X_query, summary, read], 1).detach().numpy()
    mean, spread = np.split(numpy_mlp(learner.g, asked), 2, axis=1)
    expected = mean * learner.y_scale.numpy() + learner.y_mean.numpy()
    np.testing.assert_allclose(out.mean, expected, rtol=1e-9)
    sigma = (0.01 + 0.99 * np.logaddexp(0, spread)) * learner.y_scale.numpy()
    np.testing.assert_allclose(out.variance, sigma**2, rtol=1e-9)


@BOTH
def test_rows_are_a_weighted_set(attentive):
    learner = random_learner(attentive)
    X, y, X_query = random_task()

    def outputs(rows, w):
        w = torch.tensor(w, dtype=torch.float64)
        return torch.cat(
            learner.predict_features(learner.adapt_features(X[rows], y[rows], w), X_query)
        )

    once = outputs([0, 1, 2, 3], [1, 2, 0, 1])
    torch.testing.assert_close(outputs([3, 1, 0, 1], [1, 1, 1, 1]), once)
    torch.testing.assert_close(outputs([0, 1, 3], [7, 14, 7]), once)
    assert (outputs([0, 1, 3], [1, 1, 1]) - once).abs().max() > 1e-3


@BOTH
def test_leading_axes_of_tasks(attentive):
    learner = random_learner(attentive)
    g = torch.Generator().manual_seed(2)
    sizes = (2, 3, 6, 3), (2, 3, 6, 2), (2, 3, 4, 3)
    X, y, X_query = (torch.randn(s, generator=g, dtype=torch.float64) for s in sizes)
    w = torch.rand(2, 3, 6, generator=g, dtype=torch.float64)
    together = learner.episode_of_features(X, y, w, X_query)
    alone = learner.episode_of_features(X[1, 2], y[1, 2], w[1, 2], X_query[1, 2])
    for many, one in zip(together, alone, strict=True):
        torch.testing.assert_close(many[1, 2], one)


# ------------------------------------------------------------------ without a past
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_untrained_attentive_form_is_a_kernel_smoother(n_outputs):
    rng = np.random.default_rng(0)
    X, X_query = rng.normal(3, 20, (30, 4)), rng.normal(3, 20, (10, 4))
    y, w = rng.normal(5, 3, (30, n_outputs)), rng.integers(0, 3, 30).astype(float)
    reg = NeuralProcessRegressor(random_state=0).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(
        reg.predict(X_query), nadaraya_watson(X, y, X_query, w), rtol=1e-5, atol=1e-6
    )


def test_untrained_conditional_form_predicts_the_mean():
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(30, 4)), rng.normal(5, 3, 30), rng.random(30)
    reg = NeuralProcessRegressor(attentive=False).fit(X, y, sample_weight=w)
    np.testing.assert_allclose(reg.predict(X), np.average(y, weights=w), rtol=1e-12)


def test_only_the_untrained_conditional_form_is_a_poor_score():
    for attentive, poor in ((None, False), (True, False), (False, True)):
        tags = NeuralProcessRegressor(attentive=attentive).__sklearn_tags__()
        assert tags.regressor_tags.poor_score is poor
    assert (
        not NeuralProcessRegressor("x", attentive=False)
        .__sklearn_tags__()
        .regressor_tags.poor_score
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"attentive": "yes"}, r"attentive must be True or False.*got 'yes'"),
        ({"n_hidden": 0}, r"n_hidden must be an int, at least 1.*got 0"),
        ({"n_heads": 1.5}, r"n_heads must be an int, at least 1.*got 1.5"),
        ({"n_hidden": 12, "n_heads": 8}, "n_heads must divide n_hidden, got n_heads=8"),
    ],
)
def test_bad_hyperparameters(params, message):
    with pytest.raises(ValueError, match=message):
        NeuralProcessRegressor(**params).fit([[0.0], [1.0]], [0.0, 1.0])


# ------------------------------------------------------------------ meta-trained
def meta_trained(attentive, max_epochs):
    past = make_sinusoid_tasks(400, n_shot=10, n_query=10, random_state=0)
    few = {"n_shot": (5, 10), "n_query": 10, "n_episodes": 480, "lr": 3e-3}
    sizes = {"n_hidden": 32, "n_heads": 4} if attentive else {"n_hidden": 64}
    return meta_train(
        NeuralProcessRegressor(attentive=attentive, **sizes, random_state=0),
        past.data, past.target, past.groups, **few, max_epochs=max_epochs,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return {True: meta_trained(True, 12), False: meta_trained(False, 36)}


def errors(reg, n_shot):
    """Squared error and log likelihood on 40 new sinusoids."""
    new = make_sinusoid_tasks(40, n_shot=10, n_query=30, random_state=1)
    squared, likely = [], []
    for g in range(40):
        X, y = new.data[new.groups == g], new.target[new.groups == g]
        mean, std = reg.fit(X[:n_shot], y[:n_shot]).predict(X[10:], return_std=True)
        squared.append((mean - y[10:]) ** 2)
        likely.append(-0.5 * (squared[-1] / std**2) - np.log(std))
    return np.mean(squared), np.mean(likely)


@BOTH
def test_meta_training_helps_on_new_sinusoids(trained, attentive, margin):
    past = errors(clone(trained[attentive]), n_shot=5)
    without = errors(meta_trained(attentive, max_epochs=0), n_shot=5)
    margin.below(past[0] / without[0], 0.9, "error")
    margin.above(past[1] - without[1], 0, "log likelihood")


@BOTH
def test_any_number_of_rows(trained, attentive, margin):
    reg = clone(trained[attentive])
    squared = [errors(reg, n_shot)[0] for n_shot in (1, 5, 10)]
    margin.below(max(squared[1:]) / squared[0], 0.85)


@BOTH
def test_a_past_leaves_no_kernel(trained, attentive):
    assert not [name for name in trained[attentive].meta_init.tensors if "smoother" in name]


@BOTH
def test_uncertainty_tells_where_errors_are(trained, attentive, margin):
    reg = clone(trained[attentive])
    new = make_sinusoid_tasks(40, n_shot=10, n_query=30, random_state=2)
    squared, stds = [], []
    for g in range(40):
        X, y = new.data[new.groups == g], new.target[new.groups == g]
        mean, std = reg.fit(X[:5], y[:5]).predict(X[10:], return_std=True)
        squared.append((mean - y[10:]) ** 2)
        stds.append(std)
    squared, sure = np.concatenate(squared), np.concatenate(stds) < np.median(stds)
    margin.below(squared[sure].mean() / squared[~sure].mean(), 0.8)
