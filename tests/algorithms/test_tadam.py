"""TADAM against an encoder whose layers are scaled and shifted by hooks, task by task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from noisy_digits import assert_learns
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from fewshot_sklearn import ProtoNetClassifier, TADAMClassifier
from fewshot_sklearn.algorithms.tadam import TADAM
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Task, pad_tasks

ENCODERS = {
    "mlp": ((64,), {"hidden": (16, 8)}),
    "conv4": ((8, 8), {"width": 8}),
    "conv4 without norms": ((8, 8), {"width": 8, "norm": None}),
}


@pytest.fixture(params=ENCODERS)
def learner(request):
    torch.manual_seed(0)
    shape, params = ENCODERS[request.param]
    net = TADAM(make_encoder(request.param.split()[0], shape, params), shape).double()
    with torch.no_grad():
        for name, p in net.conditions.named_parameters():
            p.copy_(0.3 * torch.randn_like(p))
            if "norm.weight" in name:
                p.add_(1.0)
    return net


def told(part, task):
    """Section 3.2, one network: a layer, three residual ones, a multiplier a channel."""
    h = F.relu(part.first.weight @ task + part.first.bias)
    for layer in part.residual:
        h = h + F.relu(layer.weight @ h + layer.bias)
    return part.multiplier * h


def by_hooks(learner, task):
    """Log-probabilities of one task's queries; layers' outputs are scaled and shifted."""
    X, X_query = (torch.as_tensor(t) for t in (task.X, task.X_query))
    kinds = nn.GroupNorm if any(isinstance(m, nn.GroupNorm) for m in learner.encoder.modules()) \
        else (nn.Linear, nn.Conv2d)  # fmt: skip
    layers = [m for m in learner.encoder.modules() if isinstance(m, kinds)]
    means = [learner.encoder(X)[task.y == k].mean(0) for k in np.unique(task.y)]
    like = torch.stack(means).mean(0)
    like = (like - like.mean()) / (like.var(correction=0) + 1e-5).sqrt()
    like = like * learner.conditions.norm.weight + learner.conditions.norm.bias
    hooks = []
    for layer, gamma, beta in zip(layers, learner.conditions.gamma, learner.conditions.beta,
                                  strict=True):  # fmt: skip
        scale, shift = 1 + told(gamma, like), told(beta, like)

        def condition(module, args, out, scale=scale, shift=shift):
            shape = (-1,) + (1,) * (out.ndim - 2)
            return out * scale.reshape(shape) + shift.reshape(shape)

        hooks.append(layer.register_forward_hook(condition))
    Z, Z_query = learner.encoder(X), learner.encoder(X_query)
    for hook in hooks:
        hook.remove()
    means = torch.stack([Z[task.y == k].mean(0) for k in np.unique(task.y)])
    apart = Z_query[:, None] - means
    return (-learner.log_scale.exp() * apart.square().sum(-1)).log_softmax(-1)


def test_layers_are_scaled_and_shifted_by_the_task(learner):
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, *learner.input_shape) / 16
    three = np.flatnonzero(y < 3)[:60]
    tasks = [Task(X[three[:20]], y[three[:20]], X[three[20:30]], y[three[20:30]]),
             Task(X[three[30:42]], y[three[30:42]], X[three[42:60]], y[three[42:60]])]  # fmt: skip
    batch, y_query = pad_tasks(tasks, torch.float64)
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    expected = []
    for i, task in enumerate(tasks):
        logp = by_hooks(learner, task)
        found = outputs[i, : len(logp)].log_softmax(-1)
        np.testing.assert_allclose(found.detach(), logp.detach(), rtol=1e-7)
        expected.append(-logp[torch.arange(len(logp)), torch.as_tensor(task.y_query)].mean())
    parts = [*learner.conditions.gamma, *learner.conditions.beta]
    penalty = 0.01 * sum(part.multiplier.square().sum() for part in parts)
    np.testing.assert_allclose(loss.item(), (sum(expected) / 2 + penalty).item(), rtol=1e-7)


def test_untrained_and_frozen_it_is_a_prototypical_network():
    X, y = load_digits(return_X_y=True)
    net = {"encoder": "mlp", "random_state": 0}
    ours, theirs = (
        kind(**net).fit(X[:40], y[:40]) for kind in (TADAMClassifier, ProtoNetClassifier)
    )
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6, atol=1e-9)
    frozen = make_encoder("mlp", (64,), {}).requires_grad_(False)
    learner = TADAM(frozen, (64,))
    assert learner.conditions is None and learner.takes_batches
    start = TADAM(make_encoder("mlp", (64,), {}), (64,))
    state = start.adapt_features(torch.randn(4, 64), torch.eye(2).repeat(2, 1), torch.ones(4))
    own = dict(start.named_parameters())
    assert len(state) == 6 and all(torch.equal(state[k], own[k]) for k in state if k in own)


def test_meta_training_helps_on_new_classes(margin):
    net = {"encoder": "mlp", "encoder__hidden": (64,), "random_state": 0}
    trained = assert_learns(TADAMClassifier(**net), margin)
    tensors = trained.meta_init.tensors
    assert any(np.abs(t).max() > 0 for name, t in tensors.items() if "multiplier" in name)
