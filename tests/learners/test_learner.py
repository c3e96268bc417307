"""The engine's identities: an episode is forward, fit is adapt, and how it runs changes nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import CLASSIFIERS, REGRESSORS
from scipy.stats import norm
from torch import nn

from fewshot_sklearn import (
    MAMLClassifier,
    MAMLRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
)
from fewshot_sklearn.algorithms.maml import MAMLClassification, MAMLRegression
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.encoders._task_conv import TaskConv
from fewshot_sklearn.learners import Gaussian, Learner, episode_loss
from fewshot_sklearn.learners import learner as engine
from fewshot_sklearn.tasks import IGNORED_CODE, Task, pad_tasks

NAMES = CLASSIFIERS + REGRESSORS


def of(estimator):
    return estimator._rebuild(estimator._resolve_meta_init())


def as_task(name, X, y, X_query, y_query):
    if name in REGRESSORS:
        return Task(X, y[:, None], X_query, y_query[:, None])
    classes, codes = np.unique(y, return_inverse=True)
    return Task(X, codes, X_query, np.searchsorted(classes, y_query))


# ---------------------------------------------------------------- fit = adapt, episode = forward
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_an_estimator_predicts_what_forward_gives_for_that_episode(
    trained, task, name, dtype, margin
):
    estimator = trained[name].set_params(dtype=dtype, device="cpu")
    X, y, X_query, y_query = task(name)
    batch, _ = pad_tasks([as_task(name, X, y, X_query, y_query)], getattr(torch, dtype))
    with torch.no_grad():
        outputs = of(estimator)(**batch)
    estimator.fit(X, y)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-9}
    if name in CLASSIFIERS:
        expected = outputs[0].softmax(-1).numpy()
        np.testing.assert_allclose(estimator.predict_proba(X_query), expected, **close)
        margin.above(np.ptp(expected), 0.1)
    elif isinstance(outputs, Gaussian):
        mean, std = estimator.predict(X_query, return_std=True)
        np.testing.assert_allclose(mean, outputs.mean[0, :, 0].numpy(), **close)
        np.testing.assert_allclose(std, outputs.variance[0, :, 0].sqrt().numpy(), **close)
    else:
        np.testing.assert_allclose(estimator.predict(X_query), outputs[0, :, 0].numpy(), **close)


@pytest.mark.parametrize("name", NAMES)
def test_adapting_with_gradients_on_is_adapting_with_gradients_off(trained, task, name):
    estimator = trained[name].set_params(dtype="float64", device="cpu")
    learner = copy.deepcopy(of(estimator)).requires_grad_(True)
    batch, _ = pad_tasks([as_task(name, *task(name))], torch.float64)
    with torch.no_grad():
        off = learner(**batch)
    with torch.inference_mode():
        inferred = learner(**batch)
    on = learner(**batch)
    for a, b, c in zip(parts(on), parts(off), parts(inferred), strict=True):
        assert a.requires_grad
        assert not b.requires_grad
        torch.testing.assert_close(a.detach(), b)
        torch.testing.assert_close(c.clone(), b)


# ---------------------------------------------------------------- how it runs changes nothing
def parts(outputs):
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


def assert_close(one, other):
    for a, b in zip(parts(one), parts(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


def episodes(name, n, rng):
    """Tasks of one size, as a batch in double precision."""
    if name in REGRESSORS:
        made = [
            Task(*(rng.normal(size=s) for s in ((5, 1), (5, 1), (4, 1), (4, 1)))) for _ in range(n)
        ]
    else:
        codes = np.arange(6) % 3
        made = [
            Task(rng.uniform(0, 16, (6, 64)), codes, rng.uniform(0, 16, (4, 64)), codes[:4])
            for _ in range(n)
        ]
    return pad_tasks(made, torch.float64)[0]


#: Those whose steps end when numbers are right, which vmap cannot ask; they take batches.
ENDS_WHEN_RIGHT = {"TransductivePTMAPClassifier"}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ENDS_WHEN_RIGHT])
def test_a_loop_over_the_tasks_gives_what_vmap_gives(trained, name):
    learner = of(trained[name].set_params(dtype="float64", device="cpu"))
    batch = episodes(name, 7, np.random.default_rng(0))
    vmapped = copy.deepcopy(learner)
    vmapped.takes_batches = False
    looped = copy.deepcopy(vmapped)
    looped.convolves = True  # on a CPU, one task after the other
    assert_close(Learner.forward(looped, **batch), Learner.forward(vmapped, **batch))
    assert_close(learner(**batch), Learner.forward(looped, **batch))


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("name", NAMES)
def test_chunks_do_not_change_results(trained, monkeypatch, name, chunk):
    learner = of(trained[name].set_params(dtype="float64", device="cpu"))
    batch = episodes(name, 7, np.random.default_rng(0))
    whole = learner(**batch)
    monkeypatch.setattr(engine, "TASKS_PER_CHUNK", chunk)
    monkeypatch.setattr(engine, "ROWS_PER_CHUNK", chunk)
    assert_close(learner(**batch), whole)


@pytest.mark.parametrize("learner_class", [MAMLClassification, MAMLRegression])
def test_convolutions_looped_are_convolutions_vmapped(learner_class):
    torch.manual_seed(0)
    n_outputs = 2 if learner_class is MAMLRegression else None
    encoder = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten())
    learner = learner_class(
        encoder, (6, 6), n_outputs, n_steps=3, inner_lr=0.3, trained_steps=3
    ).double()
    if n_outputs is not None:
        nn.init.normal_(learner.head.weight)
    assert learner.convolves
    rng = np.random.default_rng(0)
    X, X_query = (torch.as_tensor(rng.normal(size=(4, n, 6, 6))) for n in (6, 3))
    y, w = torch.eye(2).double().repeat(4, 3, 1), torch.ones(4, 6).double()
    looped = learner(X, y, w, X_query)
    learner.convolves = False
    vmapped = learner(X, y, w, X_query)
    torch.testing.assert_close(looped, vmapped)

    def gradient(outputs):
        return torch.autograd.grad(outputs.square().sum(), [*learner.parameters()])

    for a, b in zip(gradient(looped), gradient(vmapped), strict=True):
        torch.testing.assert_close(a, b)


BUNDLED = {
    "conv4": {"width": 8},
    "conv4, turned": {"width": 8, "turns": 2, "rms": 1.0},
    "conv4, colours": {"width": 8, "pool": "moments", "color_moments": True, "norm": "instance"},
    "resnet8": {"widths": (4, 8, 8)},
    "resnet12": {"widths": (4, 8, 8), "norm": "layer"},
    "series": {"width": 8, "n_blocks": 2, "kernel_sizes": (3, 5)},
}


@pytest.mark.parametrize("name", BUNDLED)
def test_second_derivatives_of_bundled_convolutions_vmapped(monkeypatch, name):
    torch.manual_seed(0)
    shape = {"series": (12, 2), "conv4, colours": (8, 8, 3)}.get(name, (8, 8))
    encoder = make_encoder(name.partition(",")[0], shape, BUNDLED[name])
    learner = MAMLClassification(encoder, shape, n_steps=2, inner_lr=0.3, trained_steps=2)
    learner = learner.double()
    for parameter in learner.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    assert learner.vmaps and learner.convolves
    rng = np.random.default_rng(0)
    X, X_query = (torch.as_tensor(rng.normal(size=(3, n, *shape))) for n in (4, 3))
    y, w = torch.eye(2).double().repeat(3, 2, 1), torch.ones(3, 4).double()
    parameters, found = list(learner.parameters()), []
    for how in ("looped", "vmapped", "vmapped, as on a GPU"):
        learner.convolves = how == "looped"
        if "GPU" in how:
            monkeypatch.setattr(TaskConv, "forward", TaskConv._of_patches)
        outputs = learner(X, y, w, X_query)
        slopes = torch.autograd.grad(outputs.square().sum(), parameters, materialize_grads=True)
        found.append([outputs.detach(), *slopes])
    for vmapped in found[1:]:
        torch.testing.assert_close(found[0], vmapped)


@pytest.mark.parametrize("chunk", [1, 4, 80])
def test_encoding_in_chunks_of_rows_changes_nothing(monkeypatch, chunk):
    X = np.random.default_rng(0).uniform(size=(30, 8, 8))
    y = np.arange(30) % 3
    clf = ProtoNetClassifier(encoder="conv4", encoder__width=16, random_state=0)
    whole = clf.fit(X, y).predict_proba(X)
    monkeypatch.setattr(engine, "ROWS_PER_CHUNK", chunk)
    np.testing.assert_allclose(clf.fit(X, y).predict_proba(X), whole, rtol=1e-7)


def test_every_task_of_a_batch_has_dropout_of_its_own():
    learner = MAMLRegressor(encoder="mlp", encoder__dropout=0.5)._new_learner((3,), 1, seed=0)
    learner = learner.train()
    nn.init.ones_(learner.head.weight)
    one = episodes("MAMLRegressor", 1, np.random.default_rng(0))
    X, y, w, X_query = (t.float().repeat(4, *[1] * (t.ndim - 1)) for t in one.values())
    outputs = learner(X.expand(-1, -1, 3), y, w, X_query.expand(-1, -1, 3))
    assert len(set(outputs[:, 0, 0].tolist())) > 1


# ---------------------------------------------------------------- scale
def test_the_scale_of_flat_rows_is_one_number_a_feature():
    learner = MAMLRegressor()._new_learner((3,), 2, seed=0).double()
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(3, 2, (20, 3)), rng.normal(-1, 5, (20, 2)), rng.uniform(0, 1, 20)
    learner.fit_scale(*(torch.as_tensor(a) for a in (X, y, w)))
    for values, mean, scale in (
        (X, learner.x_mean, learner.x_scale),
        (y, learner.y_mean, learner.y_scale),
    ):
        expected = np.average(values, axis=0, weights=w)
        spread = np.average((values - expected) ** 2, axis=0, weights=w) ** 0.5
        np.testing.assert_allclose(mean, expected)
        np.testing.assert_allclose(scale, spread)


def test_without_weights_the_scale_is_the_standard_deviation():
    learner = MAMLRegressor()._new_learner((3,), 1, seed=0).double()
    X = np.random.default_rng(0).normal(3, 2, (20, 3))
    learner.fit_scale(torch.as_tensor(X), None)
    np.testing.assert_allclose(learner.x_mean, X.mean(0))
    np.testing.assert_allclose(learner.x_scale, X.std(0))
    np.testing.assert_allclose(learner.scaled(torch.as_tensor(X)), (X - X.mean(0)) / X.std(0))
    assert (learner.y_mean.item(), learner.y_scale.item()) == (0, 1)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_feature_is_not_scaled(value, dtype):
    learner = MAMLRegressor()._new_learner((2,), 1, seed=0).to(dtype)
    X = torch.full((7, 2), value, dtype=torch.float64)
    X[:, 1] = torch.arange(7)
    learner.fit_scale(X, X[:, :1])
    assert learner.x_scale[0] == learner.y_scale[0] == 1
    assert learner.x_scale[1] == pytest.approx(2)
    assert torch.isfinite(learner.scaled(X.to(dtype))).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
@pytest.mark.parametrize(
    "options", [{"encoder": "conv4", "encoder__width": 8}, {"encoder": "mlp"}, {}]
)
def test_the_scale_of_images_is_one_number_in_all(options, dtype):
    learner = MAMLClassifier(**options)._new_learner((4, 4), None, seed=0).double()
    X = torch.as_tensor(np.random.default_rng(0).integers(0, 255, (10, 4, 4))).to(dtype)
    w = torch.as_tensor(np.random.default_rng(1).uniform(size=10))
    learner.fit_scale(X, None, w)
    values, weights = X.numpy().astype(float).ravel(), np.repeat(w.numpy(), 16)
    mean = np.average(values, weights=weights)
    assert learner.x_mean.shape == learner.x_scale.shape == ()
    assert learner.x_mean.item() == pytest.approx(mean)
    spread = np.average((values - mean) ** 2, weights=weights) ** 0.5
    assert learner.x_scale.item() == pytest.approx(spread)


def test_flattened_images_for_a_convolving_encoder_have_one_scale():
    learner = MAMLClassifier(encoder="conv4")._new_learner((64,), None, seed=0)
    assert learner.x_scale.shape == ()


# ---------------------------------------------------------------- loss
def test_classification_loss_averages_per_task_then_over_tasks():
    p = torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]], [[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]])
    y = torch.tensor([[0, 1, 0], [0, IGNORED_CODE, IGNORED_CODE]])
    first = -(np.log(0.5) + np.log(0.75) + np.log(0.9)) / 3
    assert episode_loss(p.log(), y).item() == pytest.approx((first - np.log(0.2)) / 2)


def test_ways_that_are_padded_change_no_loss():
    logits = torch.tensor([[[1.0, 2.0], [0.5, -0.5]]], requires_grad=True)
    y = torch.tensor([[0, 1]])
    padded = torch.cat([logits, torch.full((1, 2, 3), -torch.inf)], -1)
    one, other = episode_loss(logits, y), episode_loss(padded, y)
    assert one.item() == pytest.approx(other.item())
    (gradient,) = torch.autograd.grad(other, logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(one, logits)[0])


def test_squared_error_averages_per_task_then_over_tasks():
    outputs = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 0.0], [7.0, 7.0]]])
    nan = float("nan")
    y = torch.tensor([[[0.0, 0.0], [3.0, 0.0]], [[2.0, 1.0], [nan, nan]]])
    expected = ((1 + 4 + 0 + 16) / 4 + (9 + 1) / 2) / 2
    assert episode_loss(outputs, y).item() == pytest.approx(expected)


def test_gaussian_loss_is_the_negative_log_likelihood():
    rng = np.random.default_rng(0)
    mean, y = rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 3, 2))
    variance = rng.uniform(0.1, 2, (2, 3, 2))
    y[1, 2] = np.nan
    nll = -norm.logpdf(y, mean, variance**0.5) - 0.5 * np.log(2 * np.pi)
    outputs = Gaussian(torch.as_tensor(mean), torch.as_tensor(variance))
    loss = episode_loss(outputs, torch.as_tensor(y))
    assert loss.item() == pytest.approx((nll[0].mean() + nll[1, :2].mean()) / 2)


@pytest.mark.parametrize("gaussian", [True, False])
def test_a_padded_query_has_no_gradient(gaussian):
    outputs = torch.ones(1, 2, 1, requires_grad=True)
    variance = torch.ones(1, 2, 1)
    y = torch.tensor([[[3.0], [float("nan")]]])
    loss = episode_loss(Gaussian(outputs, variance) if gaussian else outputs, y)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert gradient[0, 0, 0] != 0
    assert gradient[0, 1, 0] == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_ragged_batch_is_the_mean_of_the_losses_of_its_tasks(trained, name):
    learner = of(trained[name].set_params(dtype="float64", device="cpu"))
    rng = np.random.default_rng(0)
    tasks = []
    for n, n_query in ((4, 3), (6, 1), (5, 6)):
        if name in REGRESSORS:
            tasks.append(Task(*(rng.normal(size=(m, 1)) for m in (n, n, n_query, n_query))))
        else:
            X, X_query = rng.uniform(0, 16, (n, 64)), rng.uniform(0, 16, (n_query, 64))
            tasks.append(Task(X, np.arange(n) % (n - 2), X_query, np.arange(n_query) % (n - 2)))

    def loss(some):
        batch, y_query = pad_tasks(some, torch.float64, tell_queries=learner.transductive)
        return episode_loss(learner(**batch), y_query).item()

    assert loss(tasks) == pytest.approx(np.mean([loss([task]) for task in tasks]))


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_loss_of_a_regression_is_in_units_of_its_scale(gaussian):
    learner = RidgeHeadRegressor()._new_learner((2,), 2, seed=0).double()
    rng = np.random.default_rng(0)
    y = torch.as_tensor(rng.normal(size=(3, 4, 2)))
    y[0, 2:] = torch.nan
    out, variance = torch.as_tensor(rng.normal(size=(2, 3, 4, 2))).square()
    told = Gaussian(out, variance) if gaussian else out
    expected = learner.loss(told, y)
    torch.testing.assert_close(expected, episode_loss(told, y))  # the scale is one
    scale, mean = torch.tensor([1e-6, 1e9]).double(), torch.tensor([5e3, 1e12]).double()
    learner.y_mean, learner.y_scale = mean, scale
    moved = out * scale + mean
    told = Gaussian(moved, variance * scale.square()) if gaussian else moved
    torch.testing.assert_close(learner.loss(told, y * scale + mean), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("offset", [0.0, 1e6, 1.7e9, -1e12])
def test_what_is_far_from_zero_is_centred_before_it_is_rounded(offset):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 2)) + offset, rng.normal(size=(50, 1)) - offset
    learner = MAMLRegressor()._new_learner((2,), 1, seed=0)
    learner.fit_scale(torch.as_tensor(X), torch.as_tensor(y))
    for ours, theirs in (
        (learner.scaled(torch.as_tensor(X)), (X - X.mean(0)) / X.std(0)),
        (learner.scaled_targets(torch.as_tensor(y)), (y - y.mean(0)) / y.std(0)),
    ):
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours, theirs, atol=1e-5 + 1e-15 * abs(offset))
    back = learner.in_units(learner.scaled_targets(torch.as_tensor(y)))
    assert back.dtype == torch.float64
    np.testing.assert_allclose(back, y, atol=1e-6 + 1e-15 * abs(offset))
