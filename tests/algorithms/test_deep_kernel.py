"""Deep kernel transfer against scikit-learn's Gaussian processes and plain numpy."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.special import expit
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern, WhiteKernel

from fewshot_sklearn import DeepKernelClassifier, DeepKernelRegressor, MetaInit, few_shot_score
from fewshot_sklearn.algorithms import DeepKernelRegression
from fewshot_sklearn.algorithms.deep_kernel_classifier import DeepKernelClassification
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import Identity
from fewshot_sklearn.learners import make_kernel
from fewshot_sklearn.tasks import Task, pad_tasks

KERNELS = ["rbf", "matern52", "linear", "cosine", "spectral"]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def randomised(learner, seed=0):
    """The learner with hyperparameters of its own, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return learner.double()


def regression(kernel="rbf", n_outputs=1, n_features=3):
    encoder = Identity((n_features,))
    return randomised(DeepKernelRegression(encoder, (n_features,), n_outputs, kernel=kernel))


def classification(kernel="cosine", n_features=3):
    return randomised(
        DeepKernelClassification(Identity((n_features,)), (n_features,), kernel=kernel)
    )


def sklearn_kernel(learner):
    """The covariance of a learner as scikit-learn writes it, noise included."""
    value = {name: p.detach().double().exp() for name, p in learner.named_parameters()}
    scale = ConstantKernel(value["kernel.log_scale"].item())
    white = WhiteKernel(learner.noise().item())
    if type(learner.kernel).__name__ == "Linear":
        return scale * DotProduct(1e-12) + white
    length = value["kernel.log_lengthscale"].item()
    smooth = type(learner.kernel).__name__ == "RBF"
    return scale * (RBF(length) if smooth else Matern(length, nu=2.5)) + white


def spectral_mixture(kernel, A, B):
    """Wilson and Adams (2013), eq. 12, a number at a time."""
    t = {name: p.detach().numpy() for name, p in kernel.named_parameters()}
    K = np.zeros((len(A), len(B)))
    for i, a in enumerate(A):
        for j, b in enumerate(B):
            for w, mu, v in zip(np.exp(t["log_weights"]), t["means"], np.exp(t["log_variances"]),
                                strict=True):  # fmt: skip
                factors = [
                    np.exp(-2 * np.pi**2 * (p - q) ** 2 * v_p) * np.cos(2 * np.pi * (p - q) * mu_p)
                    for p, q, mu_p, v_p in zip(a, b, mu, v, strict=True)
                ]
                K[i, j] += w * np.prod(factors)
    return K


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X, X_query = rng.normal(size=(12, 3)), rng.normal(size=(7, 3))
    return X, np.sin(X) @ rng.normal(size=(3, 2)), rng.uniform(0.2, 3, 12), X_query


# ------------------------------------------------------------------ kernels
def test_spectral_mixture_and_cosine(rows):
    X, _, _, X_query = rows
    spectral = regression("spectral").kernel
    assert len(spectral.means.unique(dim=0)) == 4  # the components do not coincide
    with torch.no_grad():
        K = spectral(torch.tensor(X_query), torch.tensor(X))
    np.testing.assert_allclose(K, spectral_mixture(spectral, X_query, X), rtol=1e-10)
    cosine = regression("cosine").kernel
    centre, scale = cosine.centre.detach().numpy(), np.exp(cosine.log_scale.item())
    expected = [
        [scale * (a - centre) @ (b - centre) / np.linalg.norm(a - centre)
         / np.linalg.norm(b - centre) for b in X] for a in X_query
    ]  # fmt: skip
    with torch.no_grad():
        K = cosine(torch.tensor(X_query), torch.tensor(X))
    np.testing.assert_allclose(K, expected, rtol=1e-10)


@every_kernel
def test_kernels_are_covariances(rows, kernel):
    k = regression(kernel).kernel
    A = torch.tensor(rows[0])
    with torch.no_grad():
        K, diagonal = k(A, A), k.diagonal(A)
        batch = k(A.expand(2, 5, 12, 3), A[:4].expand(2, 5, 4, 3))
    np.testing.assert_allclose(K, K.T, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(K.diagonal(), diagonal, rtol=1e-10)
    assert torch.linalg.eigvalsh(K).min() > -1e-10
    np.testing.assert_allclose(batch[1, 3], K[:, :4], rtol=1e-10, atol=1e-12)


@every_kernel
def test_kernels_have_finite_slopes_where_rows_coincide(kernel):
    k = make_kernel(kernel, 2).double()
    A = torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]], dtype=torch.float64).requires_grad_()
    k(A, A).square().sum().backward()
    assert A.grad.isfinite().all() and A.grad.abs().max() < 1e6
    assert all(p.grad.isfinite().all() for p in k.parameters())


# ------------------------------------------------------------------ regression
@pytest.mark.parametrize("kernel", ["rbf", "matern52", "linear"])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_scikit_learn(rows, kernel, n_outputs):
    X, Y, _, X_query = rows
    learner = regression(kernel, n_outputs)
    learner.fit_scale(None, torch.tensor(Y[:, :n_outputs] * 7 + 3))
    reg = DeepKernelRegressor(
        MetaInit.from_state(learner.state_dict(), spec_of(learner, kernel)), dtype="float64"
    )
    y = 7 * Y + 3 if n_outputs == 2 else 7 * Y[:, 0] + 3
    mean, std = reg.fit(X, y).predict(X_query, return_std=True)
    _, cov = reg.predict(X_query, return_cov=True)

    constant, centre, spread = (
        getattr(learner, n).detach().numpy() for n in ("constant", "y_mean", "y_scale")
    )
    t = (y.reshape(12, -1) - centre) / spread - constant
    theirs = GaussianProcessRegressor(sklearn_kernel(learner), alpha=0.0, optimizer=None)
    expected, expected_cov = theirs.fit(X, t).predict(X_query, return_cov=True)
    _, expected_std = theirs.predict(X_query, return_std=True)
    shape = mean.shape
    expected = (expected.reshape(7, -1) + constant) * spread + centre
    np.testing.assert_allclose(mean, expected.reshape(shape), rtol=1e-8)
    np.testing.assert_allclose(
        std, (expected_std.reshape(7, -1) * spread).reshape(shape), rtol=1e-8
    )
    assert cov.shape == ((7, 7, 2) if n_outputs == 2 else (7, 7))
    expected_cov = expected_cov.reshape(7, 7, -1) * spread**2
    np.testing.assert_allclose(cov, expected_cov.reshape(cov.shape), rtol=1e-8, atol=1e-8)
    variances = cov.diagonal() if n_outputs == 1 else np.einsum("iik->ik", cov)
    np.testing.assert_allclose(np.sqrt(variances), std, rtol=1e-8)

    loss, _ = learner.training_loss(*episode(X, y.reshape(12, -1), split=8))
    theirs.fit(X, t)  # sums over targets
    np.testing.assert_allclose(
        loss.item(), -theirs.log_marginal_likelihood_value_ / (12 * n_outputs), rtol=1e-8
    )


def spec_of(learner, kernel):
    return {
        "algorithm": type(learner).__name__,
        "hyperparameters": {"kernel": kernel, "lengthscale": None, "n_mixtures": 4, "noise": 0.1},
        "encoder": {"name": "identity", "params": {}},
        "input_shape": list(learner.input_shape),
        "n_outputs": learner.n_outputs,
    }


def episode(X, y, split):
    """One task as a batch: support up to `split`, queries after."""
    X, y = torch.tensor(X)[None], torch.tensor(y)[None]
    w = torch.ones(1, split).double()
    return X[:, :split], y[:, :split], w, X[:, split:], y[:, split:]


def test_without_a_past():
    X, y = load_diabetes(return_X_y=True)
    X, y, X_query = 50 * X[:60] + 9, y[:60], 50 * X[60:90] + 9
    A = (X - X.mean(0)) / X.std(0)
    kernel = 1.0 * RBF(np.sqrt(10)) + WhiteKernel(0.01)
    theirs = GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None)
    theirs.fit(A, (y - y.mean()) / y.std())
    mean, std = theirs.predict((X_query - X.mean(0)) / X.std(0), return_std=True)
    ours, our_std = DeepKernelRegressor().fit(X, y).predict(X_query, return_std=True)
    # the noise is a millionth larger
    np.testing.assert_allclose(ours, mean * y.std() + y.mean(), rtol=1e-3)
    np.testing.assert_allclose(our_std, std * y.std(), rtol=1e-3)
    longer = DeepKernelRegressor(lengthscale=20.0).fit(X, y).predict(X_query)
    assert np.abs(longer - ours).max() > 1


def test_both_std_and_cov():
    reg = DeepKernelRegressor().fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(RuntimeError, match="At most one of return_std or return_cov"):
        reg.predict([[0.0]], return_std=True, return_cov=True)


@every_kernel
def test_a_weight_divides_the_noise(rows, kernel):
    X, Y, w, X_query = rows
    learner = regression(kernel)
    noise, constant = learner.noise().item(), learner.constant.item()
    with torch.no_grad():
        k = [learner.kernel(torch.tensor(a), torch.tensor(b)).numpy()
             for a, b in ((X, X), (X_query, X), (X_query, X_query))]  # fmt: skip
        support = [torch.tensor(a) for a in (X, Y[:, :1], w)]
        outputs = learner.predict_features(learner.adapt_features(*support), torch.tensor(X_query))
    solved = np.linalg.solve(k[0] + np.diag(noise / w), np.c_[Y[:, 0] - constant, k[1].T])
    np.testing.assert_allclose(outputs.mean[:, 0], k[1] @ solved[:, 0] + constant, rtol=1e-8)
    variance = np.diag(k[2] - k[1] @ solved[:, 1:]) + noise
    np.testing.assert_allclose(outputs.variance[:, 0], variance, rtol=1e-8)


@every_kernel
def test_marginal_likelihood_of_padded_tasks(rows, kernel):
    """Of two ragged tasks in a batch, by scipy's density of the rows that are there."""
    X, Y, _, X_query = rows
    Y_query = np.cos(X_query[:, :2])
    learner = regression(kernel, n_outputs=2)
    tasks = [Task(X, Y, X_query[:3], Y_query[:3]), Task(X[:5] + 1, Y[:5], X_query, Y_query)]
    batch, y_query = pad_tasks(tasks, torch.float64)
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    expected = []
    for task in tasks:
        rows_of, y = np.vstack([task.X, task.X_query]), np.vstack([task.y, task.y_query])
        with torch.no_grad():
            K = learner.kernel(torch.tensor(rows_of), torch.tensor(rows_of)).numpy()
        covariance = K + learner.noise().item() * np.eye(len(y))
        density = [
            multivariate_normal(np.full(len(y), c), covariance).logpdf(column)
            for c, column in zip(learner.constant.tolist(), y.T, strict=True)
        ]
        expected.append(np.sum(density) / y.size)
    np.testing.assert_allclose(loss.item(), -np.mean(expected), rtol=1e-8)
    for i, task in enumerate(tasks):
        alone, _ = pad_tasks([task], torch.float64)
        ours = [t[i, : len(task.X_query)] for t in outputs]
        for got, one in zip(ours, learner(**alone), strict=True):
            np.testing.assert_allclose(got, one[0].detach(), rtol=1e-8)
    # what stands in the padding does not matter, not even to the gradients
    loss.backward()
    slopes = [p.grad.clone() for p in learner.parameters()]
    learner.zero_grad()
    batch["X"][1, 5:], batch["X_query"][0, 3:] = 1e3, -50.0
    again, _ = learner.training_loss(**batch, y_query=y_query)
    again.backward()
    np.testing.assert_allclose(again.item(), loss.item(), rtol=1e-8)
    for slope, p in zip(slopes, learner.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, slope, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e8])
@every_kernel
def test_rows_of_any_size_and_rows_that_coincide(rows, kernel, factor):
    X, Y, _, X_query = rows
    X = factor * np.vstack([X, X, X[:1] + 1e-9])
    learner = regression(kernel)
    with torch.no_grad():
        learner.log_noise.fill_(-40.0)
        support = torch.tensor(X), torch.tensor(np.resize(Y, (25, 1))), torch.ones(25).double()
        outputs = learner.predict_features(learner.adapt_features(*support), torch.tensor(X_query))
    assert outputs.mean.isfinite().all() and (outputs.variance > 0).all()


def test_meta_training_on_sinusoids(margin):
    past = make_sinusoid_tasks(200, n_shot=5, n_query=10, random_state=0)
    new = make_sinusoid_tasks(30, n_shot=5, n_query=20, random_state=1)
    start = DeepKernelRegressor(
        encoder="mlp", encoder__hidden=(40, 40), encoder__activation="tanh", random_state=0
    )
    learned = meta_train(
        start, past.data, past.target, past.groups, n_shot=5, n_query=10, max_epochs=12, lr=1e-2
    )
    judged = {"n_way": None, "n_shot": 5, "n_query": 20, "n_episodes": 60, "random_state": 0}
    judged["scoring"] = "neg_mean_squared_error"
    before, after = (
        few_shot_score(e, new.data, new.target, 1000 + new.groups, **judged).mean
        for e in (start, learned)
    )
    margin.below(after / before, 0.75, "error")

    X, y = new.data[new.groups == 3], new.target[new.groups == 3]
    stds = [learned.fit(X[:n], y[:n]).predict(X[20:], return_std=True)[1] for n in (1, 5, 20)]
    assert (np.diff(stds, axis=0) < 1e-6).all()  # whatever was learned
    margin.below(stds[-1].mean() / stds[0].mean(), 0.9, "uncertainty")
    again = pickle.loads(pickle.dumps(clone(learned).fit(X[:20], y[:20])))
    np.testing.assert_array_equal(again.predict(X), learned.predict(X))


# ------------------------------------------------------------------ classification
@pytest.fixture
def classes(rows):
    X, _, w, X_query = rows
    return X, np.arange(12) % 3, w, X_query


@every_kernel
def test_one_against_the_rest(classes, kernel):
    X, y, w, X_query = classes
    learner = classification(kernel)
    noise, constant = learner.noise().item(), learner.constant.item()
    soft = np.random.default_rng(1).dirichlet(np.ones(3), 12)
    for members in (np.eye(3)[y], soft):
        with torch.no_grad():
            K, k = (learner.kernel(torch.tensor(a), torch.tensor(X)).numpy() for a in (X, X_query))
            support = [torch.tensor(a) for a in (X, members, w)]
            logits = learner.predict_features(
                learner.adapt_features(*support), torch.tensor(X_query)
            )
        means = [
            constant + k @ np.linalg.solve(K + np.diag(noise / w), 2 * column - 1 - constant)
            for column in members.T
        ]
        sigmoids = expit(learner.log_scale.exp().item() * np.array(means).T)
        np.testing.assert_allclose(
            logits.softmax(-1), sigmoids / sigmoids.sum(1, keepdims=True), rtol=1e-8
        )


def test_two_classes_have_the_sigmoid_of_the_mean(classes):
    """With a mean of zero the two processes are each other's opposites."""
    X, y, _, X_query = classes
    clf = DeepKernelClassifier(kernel="rbf").fit(X, y > 0)
    theirs = GaussianProcessRegressor(RBF(3**0.5) + WhiteKernel(0.09), alpha=0.0, optimizer=None)
    centre, spread = X.mean(0), X.std(0)
    theirs.fit((X - centre) / spread, np.where(y > 0, 1.0, -1.0))
    scale = np.exp(clf.meta_init_.tensors["log_scale"])
    expected = expit(scale * theirs.predict((X_query - centre) / spread))
    np.testing.assert_allclose(clf.predict_proba(X_query)[:, 1], expected, rtol=1e-4)


@every_kernel
def test_marginal_likelihood_of_labels(classes, kernel):
    """Of two padded tasks, one of which lacks a class, by scipy's density."""
    X, y, _, X_query = classes
    y_query = np.arange(7) % 3
    learner = classification(kernel)
    few = y != 2
    tasks = [Task(X, y, X_query[:3], y_query[:3]), Task(X[few], y[few], X_query, y_query % 2)]
    batch, codes = pad_tasks(tasks, torch.float64)
    loss, outputs = learner.training_loss(**batch, y_query=codes)
    expected = []
    for task in tasks:
        rows_of, labels = np.vstack([task.X, task.X_query]), np.r_[task.y, task.y_query]
        with torch.no_grad():
            K = learner.kernel(torch.tensor(rows_of), torch.tensor(rows_of)).numpy()
        covariance = K + learner.noise().item() * np.eye(len(labels))
        mean = np.full(len(labels), learner.constant.item())
        density = [
            multivariate_normal(mean, covariance).logpdf(np.where(labels == label, 1.0, -1.0))
            for label in np.unique(labels)
        ]
        expected.append(np.mean(density) / len(labels))
    np.testing.assert_allclose(loss.item(), -np.mean(expected), rtol=1e-8)
    np.testing.assert_allclose(outputs.detach(), learner(**batch).detach(), rtol=1e-10)
    assert outputs[1, :, 2].isneginf().all()


def test_only_the_scale_descends_the_cross_entropy(classes):
    X, y, _, X_query = classes
    learner = classification()
    batch, codes = pad_tasks([Task(X, y, X_query, np.arange(7) % 3)], torch.float64)
    learner.training_loss(**batch, y_query=codes)[0].backward()
    by_evidence = {name: p.grad.clone() for name, p in learner.named_parameters()}
    learner.zero_grad()
    learner.loss(learner(**batch), codes).backward()
    np.testing.assert_allclose(by_evidence["log_scale"], learner.log_scale.grad, rtol=1e-8)
    learner.zero_grad()
    Z = learner.embed_tasks(batch["X"], batch["X_query"])
    labels = torch.cat([batch["y"], torch.eye(3).double()[codes]], 1)
    w = torch.ones(1, 19).double()
    (-learner.log_marginal_likelihood(Z, learner.targets(labels), w).mean() / 19).backward()
    for name, p in learner.named_parameters():
        if name != "log_scale":
            np.testing.assert_allclose(by_evidence[name], p.grad, rtol=1e-8, err_msg=name)


@every_kernel
def test_weights_order_and_names_of_classes(classes, kernel):
    X, y, _, X_query = classes
    rng = np.random.default_rng(2)
    weights = np.array([2, 1, 0, 1, 1, 2] * 2)
    twice = rng.permutation(np.repeat(np.arange(12), weights))
    clf = DeepKernelClassifier(kernel=kernel)
    weighted = clone(clf).fit(X, y, weights).predict_proba(X_query)
    repeated = clone(clf).fit(X[twice], y[twice]).predict_proba(X_query)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-8)
    renamed = clone(clf).fit(X, np.array(["z", "a", "k"])[y], weights).predict_proba(X_query)
    np.testing.assert_allclose(renamed[:, [2, 0, 1]], weighted, rtol=1e-8)


@pytest.mark.parametrize("kernel", ["cosine", "linear"])
def test_meta_training_helps_on_new_classes(kernel, margin):
    """Half of the columns are noise, which meta-training learns to leave out."""
    X, y = load_digits(return_X_y=True)
    X = np.hstack([X, np.random.default_rng(0).normal(0, 12, X.shape)])
    old = y < 6
    clf = DeepKernelClassifier(encoder="mlp", encoder__hidden=(64,), kernel=kernel, random_state=0)
    few = {"n_way": 4, "n_shot": 3, "n_query": 10}
    start, learned = (meta_train(clf, X[old], y[old], **few, max_epochs=n) for n in (0, 3))
    judged = few | {"n_episodes": 100, "random_state": 0}
    before, after = (few_shot_score(e, X[~old], y[~old], **judged).mean for e in (start, learned))
    margin.above(after - before, 0.02)
    proba = learned.fit(X[::20], y[::20]).predict_proba(X)
    assert proba.shape == (len(X), 10)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)


# ------------------------------------------------------------------ parameters
@pytest.mark.parametrize(
    "bad",
    [{"kernel": "sine"}, {"lengthscale": 0.0}, {"noise": -1.0}, {"n_mixtures": 0}],
    ids=lambda bad: next(iter(bad)),
)
@pytest.mark.parametrize("make", [DeepKernelRegressor, DeepKernelClassifier])
def test_bad_parameters(make, bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be .* got"):
        make(**bad).fit([[0.0], [1.0]], [0, 1])
