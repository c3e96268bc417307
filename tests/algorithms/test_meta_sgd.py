"""Meta-SGD against its equations written out with torch.autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from sklearn.datasets import load_digits
from test_maml import make_batch
from torch.func import functional_call
from torch.nn import functional as F

from fewshot_sklearn import MetaInit, MetaSGDClassifier, MetaSGDRegressor, few_shot_score
from fewshot_sklearn.algorithms.meta_sgd import MetaSGDClassification, MetaSGDRegression
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Support, add_rotations


# ------------------------------------------------------------------ by hand
def make_learner(kind, **options):
    """A learner in float64 whose parameters, step sizes included, are all random."""
    torch.manual_seed(0)
    if kind == "regression":
        learner = MetaSGDRegression(
            make_encoder("mlp", (2,), {"hidden": (8, 6)}), (2,), 2, **options
        )
        learner.y_mean += 0.3
        learner.y_scale *= 1.7
    elif kind == "convolution":
        learner = MetaSGDClassification(
            make_encoder("conv4", (8, 8), {"width": 4}), (8, 8), **options
        )
    else:
        activation = "gelu" if kind == "vmapped classification" else "tanh"
        encoder = make_encoder("mlp", (3,), {"hidden": (8,), "activation": activation})
        learner = MetaSGDClassification(encoder, (3,), **options)
    for name, p in learner.named_parameters():
        noise = torch.randn_like(p)
        p.data = 0.1 + 0.2 * noise if name.startswith("alpha") else p.data + 0.3 * noise
    return learner.double()


def by_hand(learner, batch, y_query):
    """Eq. 3 with torch.autograd, one task after the other; the outputs and the loss of eq. 4."""
    theta = {f"encoder.{k}": p for k, p in learner.encoder.named_parameters()}
    alpha = {k: learner.alpha[k.replace(".", "/")] for k in theta}
    head = {k: learner.alpha[f"head/{k}"] for k in ("weight", "bias")}
    outputs, total = [], 0.0

    def network(params, X):
        inner = {k.removeprefix("encoder."): p for k, p in params.items() if "head" not in k}
        Z = functional_call(learner.encoder, inner, (X,))
        return Z @ params["head.weight"].T + params["head.bias"]

    for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
        X, y, w = X[w > 0], y[w > 0], w[w > 0]
        params, rate = dict(theta), dict(alpha)
        if learner.n_outputs is None:  # each class: a row of zeros, and the same row of rates
            zeros = X.new_zeros(y.shape[1], learner.n_features + 1).requires_grad_()
            params |= {"head.weight": zeros[:, :-1], "head.bias": zeros[:, -1]}
            rate["head.weight"] = torch.stack([head["weight"]] * y.shape[1])
            rate["head.bias"] = torch.stack([head["bias"]] * y.shape[1])
        else:
            params |= {"head.weight": learner.head.weight, "head.bias": learner.head.bias}
            rate |= {"head.weight": head["weight"], "head.bias": head["bias"]}
        for _ in range(learner.n_steps):
            if learner.n_outputs is None:
                loss = F.cross_entropy(network(params, X), y)
            else:
                loss = F.mse_loss(network(params, X), (y - learner.y_mean) / learner.y_scale)
            grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params = {k: p - rate[k] * g for (k, p), g in zip(params.items(), grads, strict=True)}
        out = network(params, X_query)
        if learner.n_outputs is not None:
            out = out * learner.y_scale + learner.y_mean
        outputs.append(out)
        total = total + learner.loss(out[None], y_query[i : i + 1]) / len(y_query)
    return torch.stack(outputs), total


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize(
    "kind", ["regression", "classification", "vmapped classification", "convolution"]
)
def test_outputs_and_gradients_of_start_and_step_sizes(kind, n_steps):
    learner = make_learner(kind, n_steps=n_steps)
    batch, y_query = make_batch(learner)
    outputs, loss = by_hand(learner, batch, y_query)
    names, parameters = zip(*learner.named_parameters(), strict=True)
    expected = torch.autograd.grad(loss, parameters, allow_unused=True)
    found_loss, found = learner.training_loss(**batch, y_query=y_query)
    torch.testing.assert_close(found, outputs, rtol=1e-8, atol=1e-10)
    grads = torch.autograd.grad(found_loss, parameters, allow_unused=True)
    for name, a, b in zip(names, grads, expected, strict=True):
        a = torch.zeros_like(b) if a is None else a
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
        if n_steps > 1 or kind == "regression" or "head" in name:
            assert b.abs().max() > 1e-7, name


def test_without_a_meta_init_it_is_one_step_of_gradient_descent():
    X, y = load_digits(return_X_y=True)
    X, y = X[:100], y[:100]
    clf = MetaSGDClassifier(inner_lr=0.2).fit(X, y)
    scale = np.where(X.std(0) > 0, X.std(0), 1)
    Z = (X - X.mean(0)) / scale
    members = np.eye(10)[y]
    logits = 0.2 * (Z @ ((members - 0.1).T @ Z / 100).T + (members - 0.1).mean(0))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    # step sizes are parameters, made in float32
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-7)


# ------------------------------------------------------------------ more steps than trained with
@pytest.fixture(scope="module")
def pool():
    """(X, y) of 28 classes of turned digits to learn from, and (X, y) of 12 others.

    Half of the columns are noise, which meta-training learns to leave out.
    """
    digits = load_digits()
    X, y = add_rotations(digits.images, digits.target)
    X, y = X.reshape(len(X), -1), np.unique(y, return_inverse=True)[1]
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])
    new = np.isin(y, np.random.default_rng(0).permutation(40)[:12])
    return (X[~new], y[~new]), (X[new], y[new])


def meta_trained(pool, **epochs):
    """A classifier and a regressor, after so many epochs of each."""
    net = {"encoder": "mlp", "encoder__hidden": (64,), "inner_lr": 0.3, "random_state": 0}
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    waves = {"encoder": "mlp", "encoder__hidden": (32, 32), "inner_lr": 0.05, "random_state": 0}
    few, data = {"n_way": 5, "n_shot": 1, "n_query": 10}, (past.data, past.target, past.groups)
    return {
        "classifier": meta_train(
            MetaSGDClassifier(**net), *pool[0], **few, max_epochs=epochs["classifier"]
        ),
        "regressor": meta_train(
            MetaSGDRegressor(**waves), *data, n_shot=10, max_epochs=epochs["regressor"]
        ),
    }


@pytest.fixture(scope="module")
def trained(pool):
    return meta_trained(pool, classifier=6, regressor=20)


@pytest.fixture(scope="module")
def untrained(pool):
    return meta_trained(pool, classifier=0, regressor=0)


def rows_of(name, pool):
    if name == "classifier":
        X, y = pool[1]
        kept = np.concatenate([np.flatnonzero(y == label)[:3] for label in np.unique(y)[:4]])
        return X[kept], y[kept]
    new = make_sinusoid_tasks(1, n_shot=10, n_query=15, random_state=5)
    return new.data[:10], new.target[:10]


def with_larger_steps(estimator, factor):
    """The estimator, its learned step sizes multiplied."""
    init = estimator.meta_init
    state = {k: t * factor if "alpha" in k else t for k, t in init.state_dict().items()}
    larger = MetaInit.from_state(state, init.spec, init.provenance)
    return type(estimator)(larger)


@pytest.mark.parametrize("n_steps", [1, 5, 10, 50])
@pytest.mark.parametrize("factor", [1, 20, 1e4])
@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_no_number_of_steps_diverges(trained, pool, name, factor, n_steps):
    X, y = rows_of(name, pool)
    est = with_larger_steps(trained[name], factor).set_params(n_steps=n_steps).fit(X, y)
    assert est.loss_curve_.shape == (n_steps,)
    assert (est.loss_curve_ <= est.loss_curve_[0]).all()
    assert (np.diff(est.loss_curve_[1:]) <= 0).all()  # beyond the one step trained with
    assert np.isfinite(est.predict(X)).all()


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_without_the_guard_it_would_diverge(trained, pool, name, margin):
    X, y = rows_of(name, pool)
    if name == "classifier":  # one row under two labels, so that no giant step can fit all
        X, y = np.vstack([X, X[:1]]), np.append(y, y[-1])
    est = with_larger_steps(trained[name], 1e4).set_params(n_steps=10, dtype="float64").fit(X, y)
    learner = est._rebuild(est.meta_init)
    codes = np.unique(y, return_inverse=True)[1]
    target = np.eye(4)[codes] if name == "classifier" else y[:, None]
    Z, y, w = learner.embed(torch.tensor(X)), torch.tensor(target), torch.ones(len(X)).double()
    loss = learner.support_loss(learner.targets(y), w)
    _, curve = learner.descended(learner.start(Z, y, w), Z, loss)
    growth = torch.stack(curve).nan_to_num(1e300).clamp(max=1e300).max() / curve[0]
    margin.above(growth.log10(), 3, "logarithm")


def test_a_trained_step_is_kept_as_it_was_trained(trained, pool):
    """A larger `inner_lr` means nothing to learned step sizes."""
    X, y = rows_of("classifier", pool)
    plain = trained["classifier"].fit(X, y).predict_proba(X)
    told = MetaSGDClassifier(trained["classifier"].meta_init, inner_lr=9.0).fit(X, y)
    np.testing.assert_array_equal(told.predict_proba(X), plain)
    params = told._learner_params(told.meta_init.spec["hyperparameters"])
    assert params["trained_steps"] == 1


# ------------------------------------------------------------------ meta-training
def test_meta_training_helps_with_new_classes(trained, untrained, pool, margin):
    options = {"n_way": 5, "n_shot": 1, "n_query": 15, "n_episodes": 100, "random_state": 0}
    before, after = (
        few_shot_score(made["classifier"], *pool[1], **options).mean
        for made in (untrained, trained)
    )
    margin.above(after - before, 0.07)


def test_meta_training_helps_with_new_sinusoids(trained, untrained, margin):
    new = make_sinusoid_tasks(30, n_shot=10, n_query=15, random_state=1)
    errors = []
    for reg in (trained["regressor"], untrained["regressor"]):
        squares = []
        for task in range(30):
            X, y = new.data[task * 25 :][:25], new.target[task * 25 :][:25]
            squares.append(np.mean((reg.fit(X[:10], y[:10]).predict(X[10:]) - y[10:]) ** 2))
        errors.append(np.mean(squares))
    margin.below(errors[0] / errors[1], 0.7)


def test_step_sizes_are_learned_and_kept(trained, margin):
    tensors = trained["regressor"].meta_init.tensors
    alpha = {k: t for k, t in tensors.items() if k.startswith("alpha.")}
    assert set(alpha) == {
        "alpha." + k.replace(".", "/") for k in tensors if k.startswith(("encoder.", "head."))
    }
    for name, rates in alpha.items():
        assert rates.shape == tensors[name.removeprefix("alpha.").replace("/", ".")].shape
        if rates.size > 1:  # they started alike
            margin.above(np.ptp(rates), 1e-3, name)


@pytest.mark.parametrize(("n_way", "least"), [(1, 0.9), (2, 0.6), (3, 0.45), (12, 0.2)])
def test_any_number_of_classes(trained, pool, n_way, least, margin):
    X, y = pool[1]
    kept = np.concatenate([np.flatnonzero(y == label)[:5] for label in np.unique(y)[:n_way]])
    clf = trained["classifier"].fit(X[kept], y[kept])
    assert clf.predict_proba(X).shape == (len(X), n_way)
    mine = np.isin(y, clf.classes_)
    margin.above(clf.score(X[mine], y[mine]), least)


def test_a_batch_of_tasks_is_each_alone():
    learner = make_learner("classification", n_steps=4).eval()
    batch, _ = make_batch(learner, 5)
    with torch.no_grad():
        together = learner(**batch)
        for i, (X, y, w, X_query) in enumerate(zip(*batch.values(), strict=True)):
            state = learner.adapt(Support(X[w > 0], y[w > 0], w[w > 0]))
            alone = learner.predict(state, X_query)
            torch.testing.assert_close(together[i], alone, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("params", "message"), [({"n_steps": -1}, "n_steps must"),
                                                 ({"inner_lr": 0.0}, "inner_lr must")])  # fmt: skip
def test_bad_hyperparameters(params, message):
    with pytest.raises(ValueError, match=message):
        MetaSGDRegressor(**params).fit([[0.0], [1.0]], [0.0, 1.0])
