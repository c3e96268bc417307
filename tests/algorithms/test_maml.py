"""MAML against gradient descent written out by hand, finite differences and `higher`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from fewshot_sklearn import MAMLClassifier, MAMLRegressor
from fewshot_sklearn.algorithms.maml import MAMLClassification, MAMLRegression
from fewshot_sklearn.encoders import MLP, make_encoder
from fewshot_sklearn.learners import TASKS_PER_CHUNK, episode_loss
from fewshot_sklearn.tasks import Support, Task, pad_tasks


# ------------------------------------------------------------------ by hand
def mlp(params, X):
    """Two hidden layers and a head, or one: weights and biases in turn."""
    *hidden, weight, bias = params
    for W, b in zip(hidden[::2], hidden[1::2], strict=True):
        X = torch.relu(X @ W.T + b)
    return X @ weight.T + bias


def descend(init, X, y, w, X_query, *, n_steps, inner_lr, n_way=None):
    """Eq. 1 of Finn et al. 2017 with torch.autograd, in float64; predictions and losses."""
    t = {name: torch.tensor(array).double() for name, array in init.tensors.items()}
    y_mean = t["y_mean"] + t["y_rest"] if n_way is None else None
    names = sorted(n for n in t if n.startswith("encoder."))
    names.sort(key=lambda n: (n.rpartition(".")[0], n.endswith("bias")))  # weight before bias
    params = [t[name] for name in names]
    if n_way is None:
        head = [t["head.weight"], t["head.bias"]]
    else:  # every class starts from zeros
        head = [torch.zeros(n_way, len(params[-1])).double(), torch.zeros(n_way).double()]
    params = [p.clone().requires_grad_() for p in params + head]
    X, X_query = (
        (torch.tensor(A) - t["x_mean"] - t["x_rest"]) / t["x_scale"] for A in (X, X_query)
    )
    y, w, losses = torch.tensor(y), torch.tensor(w), []
    for _ in range(n_steps):
        out = mlp(params, X)
        if n_way is None:
            each = (out - (y[:, None] - y_mean) / t["y_scale"]).square().mean(1)
        else:
            each = F.cross_entropy(out, y, reduction="none")
        loss = (w * each).sum() / w.sum()
        losses.append(loss.item())
        grads = torch.autograd.grad(loss, params)
        params = [
            (p - inner_lr * g).detach().requires_grad_() for p, g in zip(params, grads, strict=True)
        ]
    out = mlp(params, X_query).detach()
    if n_way is None:
        return (out * t["y_scale"] + y_mean)[:, 0].numpy(), losses
    return out.softmax(1).numpy(), losses


@pytest.fixture(params=[False, True], ids=["", "weighted"])
def weights(request):
    return lambda n: np.linspace(0.2, 3, n) if request.param else np.ones(n)


@pytest.mark.parametrize("n_steps", [0, 1, 5])
@pytest.mark.parametrize("inner_lr", [0.1, 0.03])
def test_classifier_is_gradient_descent(trained, task, weights, n_steps, inner_lr):
    X, y, X_query, _ = task("MAMLClassifier")
    clf = trained["MAMLClassifier"]
    clf.set_params(n_steps=n_steps, inner_lr=inner_lr, dtype="float64").fit(X, y, weights(len(X)))
    expected, losses = descend(
        clf.meta_init, X, y - 7, weights(len(X)), X_query,
        n_steps=n_steps, inner_lr=inner_lr, n_way=3,
    )  # fmt: skip
    np.testing.assert_allclose(clf.predict_proba(X_query), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(clf.loss_curve_, losses, rtol=1e-10)


@pytest.mark.parametrize("n_steps", [0, 1, 5])
@pytest.mark.parametrize("inner_lr", [0.05, 0.01])
def test_regressor_is_gradient_descent(trained, task, weights, n_steps, inner_lr):
    X, y, X_query, _ = task("MAMLRegressor")
    reg = trained["MAMLRegressor"]
    reg.set_params(n_steps=n_steps, inner_lr=inner_lr, dtype="float64").fit(X, y, weights(len(X)))
    expected, losses = descend(
        reg.meta_init, X, y, weights(len(X)), X_query, n_steps=n_steps, inner_lr=inner_lr
    )
    np.testing.assert_allclose(reg.predict(X_query), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(reg.loss_curve_, losses, rtol=1e-10)


def test_adaptation_helps_a_classifier(trained, task, margin):
    X, y, X_query, y_query = task("MAMLClassifier")
    scores = [
        trained["MAMLClassifier"].set_params(n_steps=n).fit(X, y).score(X_query, y_query)
        for n in (0, 1)
    ]
    margin.above(scores[1] - scores[0], 0.1)


def test_adaptation_helps_a_regressor(trained, sinusoid_new, margin):
    X, y, groups = sinusoid_new
    errors = {0: [], 5: []}
    for group in np.unique(groups):
        rows, rest = np.split(np.flatnonzero(groups == group), [10])
        for n_steps, found in errors.items():
            reg = trained["MAMLRegressor"].set_params(n_steps=n_steps).fit(X[rows], y[rows])
            found.append(np.mean((reg.predict(X[rest]) - y[rest]) ** 2))
    margin.below(np.mean(errors[5]) / np.mean(errors[0]), 0.75)


# ------------------------------------------------------------------ the guard
@pytest.mark.parametrize("name", ["MAMLClassifier", "MAMLRegressor"])
@pytest.mark.parametrize("inner_lr", [1.0, 1e3, 1e8])
@pytest.mark.parametrize("meta_trained", [True, False])
def test_huge_steps_do_no_harm(trained, task, name, inner_lr, meta_trained, margin):
    X, y, X_query, _ = task(name)
    est = trained[name]
    if not meta_trained:
        est = type(est)(encoder="mlp", random_state=0)
    est.set_params(inner_lr=inner_lr, n_steps=50).fit(X, y)
    assert est.loss_curve_.shape == (50,) and np.isfinite(est.loss_curve_).all()
    assert (np.diff(est.loss_curve_) <= 0).all()
    margin.below(est.loss_curve_[-1] / est.loss_curve_[0], 1)
    assert np.isfinite(getattr(est, "predict_proba", est.predict)(X_query)).all()


@pytest.mark.parametrize("name", ["MAMLClassifier", "MAMLRegressor"])
def test_more_steps_than_meta_trained_with(trained, task, name, margin):
    X, y, X_query, _ = task(name)
    as_trained = trained[name].fit(X, y)
    further = trained[name].set_params(n_steps=50).fit(X, y)
    np.testing.assert_allclose(further.loss_curve_[:5], as_trained.loss_curve_, rtol=1e-6)
    assert (np.diff(further.loss_curve_[5:]) <= 0).all()
    margin.below(further.loss_curve_[-1] / as_trained.loss_curve_[-1], 1)
    assert np.isfinite(getattr(further, "predict_proba", further.predict)(X_query)).all()


@pytest.mark.parametrize("estimator", [MAMLClassifier(), MAMLRegressor()], ids=str)
@pytest.mark.parametrize("n_steps", [0, 1, 7, np.int64(3)])
def test_loss_curve_has_one_loss_a_step(estimator, n_steps):
    est = clone(estimator).set_params(n_steps=n_steps).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    assert est.loss_curve_.shape == (n_steps,)


def test_loss_of_a_head_of_zeros():
    X, y = [[0.0], [1.0], [3.0]], np.array([0, 1, 2])
    np.testing.assert_allclose(MAMLClassifier().fit(X, y).loss_curve_[0], np.log(3))
    np.testing.assert_allclose(MAMLRegressor().fit(X, y).loss_curve_[0], 1.0)  # scaled targets


def test_batch_norm_is_refused():
    net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="batch normalisation"):
        MAMLRegressor(encoder=net).fit([[0.0], [1.0]], [0.0, 1.0])


class Doubled(MLP):
    def forward(self, x):
        return 2 * super().forward(x)


class Wrapped(nn.Module):
    def __init__(self, input_shape):
        super().__init__()
        self.mlp = MLP(input_shape)

    def forward(self, x):
        return 2 * self.mlp(x)


@pytest.mark.parametrize("name", ["MAMLClassifier", "MAMLRegressor"])
def test_encoder_of_ones_own(task, name):
    X, y, X_query, _ = task(name)
    make = {"MAMLClassifier": MAMLClassifier, "MAMLRegressor": MAMLRegressor}[name]
    derived, wrapped = (make(encoder=net, random_state=0).fit(X, y) for net in (Doubled, Wrapped))
    np.testing.assert_allclose(derived.loss_curve_, wrapped.loss_curve_, rtol=1e-8)
    answers = [getattr(e, "predict_proba", e.predict)(X_query) for e in (derived, wrapped)]
    np.testing.assert_allclose(*answers, rtol=1e-6, atol=1e-9)


# ------------------------------------------------------------------ the meta-gradient
REGRESSIONS = {
    "regression": {"activation": "tanh"},
    "relu": {"activation": "relu"},
    "layer norm": {"activation": "gelu", "norm": "layer"},
    "layer norm of one's own": {},  # torch's layer_norm has a wrong second derivative in vmap
}
KINDS = [*REGRESSIONS, "classification", "convolution"]


def make_learner(kind, *, n_steps=2, first_order=False):
    """A learner in float64 whose parameters, head included, are all random."""
    options = {"n_steps": n_steps, "inner_lr": 0.3, "first_order": first_order}
    options["trained_steps"] = n_steps
    torch.manual_seed(0)
    if kind in REGRESSIONS:
        encoder = make_encoder("mlp", (1,), {"hidden": (8, 6)} | REGRESSIONS[kind])
        if kind == "layer norm of one's own":
            encoder = nn.Sequential(nn.Linear(1, 6), nn.LayerNorm(6), nn.Tanh())
        learner = MAMLRegression(encoder, (1,), 2, **options)
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    elif kind == "classification":
        encoder = make_encoder("mlp", (3,), {"hidden": (8,), "activation": "tanh"})
        learner = MAMLClassification(encoder, (3,), **options)
    else:
        norm = {"convolution": "group", "convolution without norm": None}[kind]
        encoder = make_encoder("conv4", (8, 8), {"width": 4, "norm": norm})
        learner = MAMLClassification(encoder, (8, 8), **options)
    for parameter in learner.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return learner.double()


def make_batch(learner, n_tasks=3):
    """Ragged tasks for it, as meta-training sees them."""
    rng = np.random.default_rng(1)
    tasks = []
    for i in range(n_tasks):
        n, n_query = 4 + i % 3, 3 + i % 2
        X = rng.normal(size=(n + n_query, *learner.input_shape))
        y = rng.normal(size=(n + n_query, 2)) if learner.n_outputs else np.arange(len(X)) % 3
        tasks.append(Task(X[:n], y[:n], X[n:], y[n:]))
    return pad_tasks(tasks, torch.float64)


def meta_gradient(learner, batch, y_query):
    loss = episode_loss(learner(**batch), y_query)
    return torch.autograd.grad(loss, list(learner.parameters()))


def inner(a, b):
    return sum((x * y).sum() for x, y in zip(a, b, strict=True)).item()


@pytest.mark.parametrize("kind", KINDS)
def test_meta_gradient_is_that_of_finite_differences(kind):
    learner = make_learner(kind)
    batch, y_query = make_batch(learner)
    gradient, step = meta_gradient(learner, batch, y_query), 1e-6
    parameters = list(learner.parameters())
    for (name, _), part in zip(learner.named_parameters(), gradient, strict=True):
        assert part.abs().max() > 1e-6, name
    start = [p.detach().clone() for p in parameters]
    for seed in range(4):
        torch.manual_seed(seed)
        direction, losses = [torch.randn_like(p) for p in parameters], []
        for sign in (1, -1):
            for p, origin, d in zip(parameters, start, direction, strict=True):
                p.data = origin + sign * step * d
            losses.append(episode_loss(learner(**batch), y_query).item())
        slope = (losses[0] - losses[1]) / (2 * step)
        assert inner(gradient, direction) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def meta_loss_by_hand(learner, batch, y_query):
    """Detached inner steps with torch.autograd, one task after the other."""

    def network(params, X):
        inner = {k.removeprefix("encoder."): p for k, p in params.items() if "head" not in k}
        Z = functional_call(learner.encoder, inner, (X,))
        return Z @ params["head.weight"].T + params["head.bias"]

    total = 0.0
    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        params = dict(learner.named_parameters())
        if learner.n_outputs is None:
            for name, shape in (("head.weight", (learner.n_features,)), ("head.bias", ())):
                params[name] = X.new_zeros(y.shape[1], *shape).requires_grad_()
        for _ in range(learner.n_steps):
            out = network(params, X)
            if learner.n_outputs is None:
                each = F.cross_entropy(out, y, reduction="none")
            else:
                each = (out - (y - learner.y_mean) / learner.y_scale).square().mean(1)
            grads = torch.autograd.grad((w * each).sum() / w.sum(), list(params.values()))
            params = {
                k: p - learner.inner_lr * g for (k, p), g in zip(params.items(), grads, strict=True)
            }
        out = network(params, X_query)
        if learner.n_outputs is not None:
            out = out * learner.y_scale + learner.y_mean
        total = total + episode_loss(out[None], y_query[i : i + 1]) / len(y_query)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_first_order_gradient_is_that_of_detached_steps(kind):
    learner = make_learner(kind, first_order=True)
    batch, y_query = make_batch(learner)
    loss = meta_loss_by_hand(learner, batch, y_query)
    torch.testing.assert_close(episode_loss(learner(**batch), y_query), loss, rtol=1e-10, atol=0)
    expected = torch.autograd.grad(loss, list(learner.parameters()))
    found = meta_gradient(learner, batch, y_query)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    second = meta_gradient(make_learner(kind), batch, y_query)
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(found, second, strict=True))


@pytest.mark.parametrize("kind", [*KINDS, "convolution without norm"])
def test_batched_equals_one_task_after_the_other(kind):
    learner = make_learner(kind)
    batch, y_query = make_batch(learner, 4 if learner.convolves else TASKS_PER_CHUNK + 3)

    def one(X, y, w, X_query):
        return learner.predict(learner.adapt(Support(X, y, w)), X_query)

    ways = {
        "forward": learner(**batch),
        "loop": torch.stack([one(*parts) for parts in zip(*batch.values(), strict=True)]),
    }
    if kind in ("regression", "classification", "convolution without norm"):
        ways["vmap"] = vmap(one)(*batch.values())
    gradients = {
        way: torch.autograd.grad(episode_loss(outputs, y_query), list(learner.parameters()))
        for way, outputs in ways.items()
    }
    for way in ways:
        torch.testing.assert_close(ways[way], ways["loop"], rtol=1e-9, atol=1e-10)
        for a, b in zip(gradients[way], gradients["loop"], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_each_task_of_a_batch_is_guarded_on_its_own(kind):
    learner = make_learner(kind, n_steps=8).eval()
    learner.inner_lr, learner.trained_steps = 4.0, 2  # too large for some tasks, not for others
    batch, _ = make_batch(learner, 6)

    def one(X, y, w, X_query):
        state = learner.adapt(Support(X, y, w))
        return learner.predict(state, X_query), state["loss_curve"]

    with torch.no_grad():
        together = learner(**batch)
        alone = [one(*parts) for parts in zip(*batch.values(), strict=True)]
    for a, (b, _) in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    curves = torch.stack([curve for _, curve in alone])
    assert (curves[:, 1:3] <= curves[:, :1]).all() and (curves[:, 2:].diff() <= 0).all()
    taken_back = (curves.diff() == 0).any(1)
    assert taken_back.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("kind", KINDS)
def test_meta_gradient_on_cuda(kind):
    learner = make_learner(kind)
    batch, y_query = make_batch(learner)
    on_cpu = meta_gradient(learner, batch, y_query)
    batch = {name: part.cuda() for name, part in batch.items()}
    on_gpu = meta_gradient(learner.cuda(), batch, y_query.cuda())
    for a, b in zip(on_gpu, on_cpu, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-7, atol=1e-9)


def test_padding_changes_nothing():
    learner = make_learner("classification")
    batch, _ = make_batch(learner, 3)
    garbage = {**batch, "X": torch.where(batch["w"][..., None] > 0, batch["X"], 5.0)}
    assert not torch.equal(garbage["X"], batch["X"])
    torch.testing.assert_close(learner(**garbage), learner(**batch), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_second_order_meta_gradient_against_higher(n_steps):
    higher = pytest.importorskip("higher")
    learner = make_learner("regression", n_steps=n_steps)
    batch, y_query = make_batch(learner)
    network = nn.Sequential(learner.encoder, learner.head)
    sgd = torch.optim.SGD(network.parameters(), lr=learner.inner_lr)
    total = [torch.zeros_like(p) for p in network.parameters()]
    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        X, y = X[w > 0], (y[w > 0] - learner.y_mean) / learner.y_scale
        asked = ~y_query[i].isnan().any(1)
        with higher.innerloop_ctx(network, sgd, copy_initial_weights=False) as (adapted, descent):
            for _ in range(n_steps):
                descent.step(F.mse_loss(adapted(X), y))
            out = adapted(X_query[asked]) * learner.y_scale + learner.y_mean
            loss = F.mse_loss(out, y_query[i][asked]) / len(batch["X"])
            grads = torch.autograd.grad(loss, list(network.parameters()))
        total = [t + g for t, g in zip(total, grads, strict=True)]
    names = {id(p): j for j, p in enumerate(learner.parameters())}
    found = meta_gradient(learner, batch, y_query)
    for p, expected in zip(network.parameters(), total, strict=True):
        torch.testing.assert_close(found[names[id(p)]], expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("n_steps", [0, 4])
def test_the_head_alone_adapts_on_features_that_stay(n_steps):
    """ANIL by hand: gradient descent of a linear head on frozen features."""
    encoder = make_encoder("conv4", (8, 8), {"width": 4})
    learner = MAMLClassification(encoder, (8, 8), n_steps=n_steps, inner_lr=0.5, head_only=True)
    learner = learner.double()
    batch, y_query = make_batch(learner)
    outputs = learner(**batch)
    total = 0.0
    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        Z, Z_query = learner.encoder(X), learner.encoder(X_query)
        head = torch.zeros(3, learner.n_features + 1, requires_grad=True).double()
        for _ in range(n_steps):
            out = Z @ head[:, :-1].T + head[:, -1]
            loss = (w * F.cross_entropy(out, y, reduction="none")).sum() / w.sum()
            head = head - 0.5 * torch.autograd.grad(loss, head, create_graph=True)[0]
        logits = Z_query @ head[:, :-1].T + head[:, -1]
        torch.testing.assert_close(outputs[i], logits)
        total = total + episode_loss(logits[None], y_query[i : i + 1]) / len(y_query)
    if n_steps:
        expected = torch.autograd.grad(total, list(learner.parameters()))
        for a, b in zip(meta_gradient(learner, batch, y_query), expected, strict=True):
            torch.testing.assert_close(a, b)


def test_the_state_of_a_head_holds_no_encoder(digits_new, margin):
    X, y = digits_new
    clf = MAMLClassifier(encoder="mlp", head_only=True, random_state=0).fit(X[:20], y[:20])
    assert set(clf.state_) == {"head.weight", "head.bias", "present", "loss_curve"}
    margin.below(np.divide(clf.loss_curve_[1:], clf.loss_curve_[:-1]).max(), 1)
