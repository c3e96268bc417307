"""The kernels written by hand give what autograd gives, at both orders, compiled or not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewshot_sklearn.algorithms.maml import MAMLClassification, MAMLRegression
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.learners import Learner, episode_loss
from fewshot_sklearn.learners.descent import CrossEntropy, SquaredError, backpropagate, run

KINDS = ["relu", "tanh", "deep", "no hidden layer", "classification"]


def make_learner(kind, **options):
    torch.manual_seed(0)
    options = {"n_steps": 3, "inner_lr": 0.3, **options}
    hidden = {"deep": (7, 3, 9), "no hidden layer": ()}.get(kind, (8, 6))
    activation = "tanh" if kind == "tanh" else "relu"
    encoder = make_encoder("mlp", (4,), {"hidden": hidden, "activation": activation})
    if kind == "classification":
        learner = MAMLClassification(encoder, (4,), **options)
    else:
        learner = MAMLRegression(encoder, (4,), 2, **options)
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    for parameter in learner.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return learner.double()


def make_batch(learner, n_tasks=4):
    """Tasks with rows that weigh more, less and nothing, and one with a class left out."""
    generator = torch.Generator().manual_seed(1)
    X, X_query = (torch.randn(n_tasks, n, 4, generator=generator).double() for n in (6, 5))
    w = torch.rand(n_tasks, 6, generator=generator).double()
    w[0, 3:] = 0
    if learner.n_outputs:
        y, y_query = (torch.randn(n_tasks, n, 2, generator=generator).double() for n in (6, 5))
    else:
        y = torch.eye(3).double()[torch.arange(6) % 3].repeat(n_tasks, 1, 1)
        w[1, 2::3] = 0
        y_query = torch.arange(5).repeat(n_tasks, 1) % 2
    return {"X": X, "y": y, "w": w, "X_query": X_query}, y_query


def outputs_and_gradient(forward, learner, batch, y_query):
    outputs = forward(**batch)
    loss = episode_loss(outputs, y_query)
    return outputs, torch.autograd.grad(loss, list(learner.parameters()))


def assert_close(one, other):
    for a, b in zip([one[0], *one[1]], [other[0], *other[1]], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_by_hand_is_what_autograd_does(kind, n_steps, first_order):
    learner = make_learner(kind, n_steps=n_steps, first_order=first_order)
    batch, y_query = make_batch(learner)

    def by_autograd(**batch):  # the same two functions that a fit calls
        return Learner.forward(learner, **batch)

    assert learner.takes_batches and learner.training
    by_hand = outputs_and_gradient(learner, learner, batch, y_query)
    assert_close(by_hand, outputs_and_gradient(by_autograd, learner, batch, y_query))


def test_more_tasks_than_a_chunk():
    learner = make_learner("relu")
    batch, _ = make_batch(learner, 60)
    whole = learner(**batch)
    parts = [learner(**{k: t[i : i + 1] for k, t in batch.items()}) for i in range(60)]
    torch.testing.assert_close(whole, torch.cat(parts))


@pytest.mark.parametrize("loss_class", [SquaredError, CrossEntropy])
def test_derivatives_of_the_support_losses(loss_class):
    torch.manual_seed(0)
    outputs = torch.randn(3, 5, 4).double().requires_grad_()
    y, w = torch.softmax(torch.randn(3, 5, 4).double(), -1), torch.rand(3, 5).double()
    loss = loss_class(y, w)
    value = loss.value(outputs).sum()
    (slope,) = torch.autograd.grad(value, outputs, create_graph=True)
    torch.testing.assert_close(loss.slope(outputs), slope)
    torch.testing.assert_close(loss.value_and_slope(outputs)[1], slope)
    torch.testing.assert_close(loss.value_and_slope(outputs)[0].sum(), value)
    direction = torch.randn_like(outputs)
    (change,) = torch.autograd.grad(slope, outputs, direction)
    torch.testing.assert_close(loss.curvature(outputs, direction), change)


def test_backpropagation_of_shared_and_of_own_layers():
    torch.manual_seed(0)
    shared = [(torch.randn(5, 3), torch.randn(5)), (torch.randn(2, 5), torch.randn(2))]
    own = [(w.expand(4, *w.shape), b.expand(4, 1, *b.shape)) for w, b in shared]
    x, slope = torch.randn(4, 6, 3), torch.randn(4, 6, 2)
    for squash in (False, True):
        one, other = run(shared, x, squash), run(own, x, squash)
        torch.testing.assert_close(one[-1], other[-1])
        for a, b in zip(
            backpropagate(shared, one, slope, squash),
            backpropagate(own, other, slope, squash),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_a_network_that_somebody_altered_is_left_to_autograd():
    encoder = make_encoder("mlp", (4,), {"hidden": (8,)})
    assert MAMLRegression(encoder, (4,), 1).takes_batches
    encoder.layers[0].register_forward_hook(lambda module, args, out: 2 * out)
    assert not MAMLRegression(encoder, (4,), 1).takes_batches
    encoder = make_encoder("mlp", (4,), {"hidden": (8,)})
    nn.utils.parametrizations.spectral_norm(encoder.layers[0])
    assert not MAMLRegression(encoder, (4,), 1).takes_batches
