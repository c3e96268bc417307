"""Covariances of rows and draws of functions, of all regressors that predict a distribution."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn
import torch
from conftest import meta_train, public_subclasses, sinusoid
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import BayesianRidge

import fewshot_sklearn
from fewshot_sklearn import (
    DeepKernelRegressor,
    InContextRegressor,
    NeuralProcessRegressor,
    RidgeHeadRegressor,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.estimators import ProbabilisticRegressor
from fewshot_sklearn.learners import with_intercept
from fewshot_sklearn.learners.functions import root_of

PROBABILISTIC = public_subclasses(ProbabilisticRegressor)
#: Those that have a distribution of functions.
JOINT = ("DeepKernelRegressor", "RidgeHeadRegressor")
#: Few rows of many features, which the ridge head keeps no whole posterior of.
WIDE = np.random.default_rng(5).normal(size=(4, 7))

every_probabilistic = pytest.mark.parametrize("name", PROBABILISTIC)
every_joint = pytest.mark.parametrize("name", JOINT)


@pytest.fixture(scope="module")
def past():
    """Meta-trained a little, on two targets of unlike size, by class name."""
    tasks = make_sinusoid_tasks(40, n_shot=10, n_query=10, random_state=0)
    y = np.c_[50 * tasks.target + 200, 0.01 * np.cos(tasks.target)]
    sizes = {
        "InContextRegressor": {"n_layers": 1, "n_hidden": 16},
        "NeuralProcessRegressor": {"n_hidden": 16},
    }
    made = {}
    for name in PROBABILISTIC:
        start = getattr(fewshot_sklearn, name)(
            encoder="mlp", encoder__hidden=(16,), **sizes.get(name, {})
        )
        few = {"n_shot": 5, "n_query": 5, "n_episodes": 40, "max_epochs": 2}
        made[name] = meta_train(start, tasks.data, y, tasks.groups, **few)
    return made


@pytest.fixture(params=["past, two targets", "past, no rows", "no past", "few rows, wide"])
def fitted(request, past):
    """Callable name -> a fitted regressor and rows to ask it about."""

    def make(name):
        X, y = sinusoid(12)
        if request.param == "no past":
            return getattr(fewshot_sklearn, name)().fit(X, 9 * y + 4), X[::2] + 0.1
        if request.param == "few rows, wide":
            return getattr(fewshot_sklearn, name)().fit(WIDE, WIDE[:, 0]), WIDE[::-1] * 0.9
        reg = clone(past[name]).set_params(dtype="float64")
        if request.param == "past, no rows":
            return reg.fit_prior(), X[::2] + 0.1
        return reg.fit(X[:5], np.c_[50 * y + 200, 0.01 * np.cos(y)][:5]), X[::2] + 0.1

    return make


@every_probabilistic
def test_the_diagonal_is_the_squared_standard_deviation(fitted, name):
    reg, X = fitted(name)
    before = pickle.dumps(reg)
    mean, std = reg.predict(X, return_std=True)
    same, cov = reg.predict(X, return_cov=True)
    np.testing.assert_array_equal(mean, same)
    assert cov.dtype == np.float64 and cov.shape == (len(X), *mean.shape)
    cov = cov.reshape(len(X), len(X), -1)
    std = std.reshape(len(X), -1)
    np.testing.assert_allclose(np.einsum("iik->ik", cov), std**2, rtol=1e-10)
    for k in range(cov.shape[-1]):
        np.testing.assert_array_equal(cov[..., k], cov[..., k].T)
        least = np.linalg.eigvalsh(cov[..., k]).min()
        assert least > 0  # the noise alone makes it so
        off = cov[..., k] - np.diag(np.diag(cov[..., k]))
        assert (off != 0).any() == (name in JOINT)
    assert pickle.dumps(reg) == before


@every_probabilistic
def test_draws_have_that_mean_and_covariance(fitted, name):
    n = 20_000
    reg, X = fitted(name)
    mean, cov = reg.predict(X, return_cov=True)
    drawn = reg.sample_y(X, n, random_state=1)
    assert drawn.shape == (*mean.shape, n)
    drawn, cov = drawn.reshape(len(X), -1, n), cov.reshape(len(X), len(X), -1)
    mean = mean.reshape(len(X), -1)
    for k in range(mean.shape[1]):
        variance = np.diag(cov[..., k])
        # five standard errors: var(mean) = v / n; var(s_ij) = (v_i v_j + c_ij^2) / n
        off = np.abs(drawn[:, k].mean(-1) - mean[:, k])
        assert (off < 5 * np.sqrt(variance / n)).all()
        error = np.sqrt((np.outer(variance, variance) + cov[..., k] ** 2) / n)
        assert (np.abs(np.cov(drawn[:, k]) - cov[..., k]) < 5 * error).all()
    if mean.shape[1] == 2:  # targets are independent
        between = [np.corrcoef(drawn[i])[0, 1] for i in range(len(X))]
        assert np.abs(between).max() < 5 / np.sqrt(n)


@every_joint
def test_draws_without_noise_are_functions(fitted, name):
    reg, X = fitted(name)
    twice = np.r_[X, X]
    clean = reg.sample_y(twice, 50, noise=False)
    mean, cov = reg.predict(X, return_cov=True)
    cov = cov.reshape(len(X), len(X), -1)
    # what is drawn twice is the same, to the root of the jitter
    size = np.sqrt(np.einsum("iik->ik", cov).max(0)).reshape(mean.shape[1:])
    apart = np.abs(clean[: len(X)] - clean[len(X) :]).max((0, -1))
    assert (apart < 1e-4 * size).all()
    noisy = reg.sample_y(twice, 50)
    assert (np.abs(noisy[: len(X)] - noisy[len(X) :]).max((0, -1)) > 1e-4 * size).all()


@pytest.mark.parametrize("name", sorted(set(PROBABILISTIC) - set(JOINT)))
def test_no_functions_where_rows_are_independent(name):
    reg = getattr(fewshot_sklearn, name)().fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match="noise must be True"):
        reg.sample_y([[0.5]], noise=False)


@every_probabilistic
def test_seeds_repeat_and_nobody_else_draws(fitted, name):
    reg, X = fitted(name)
    torch_state, numpy_state = torch.get_rng_state(), repr(np.random.get_state(legacy=False))  # noqa: NPY002
    first = reg.sample_y(X, 3)
    np.testing.assert_array_equal(first, reg.sample_y(X, 3, random_state=0))
    assert (first != reg.sample_y(X, 3, random_state=1)).all()
    rng = np.random.RandomState(0)
    np.testing.assert_array_equal(first, reg.sample_y(X, 3, random_state=rng))
    assert (first != reg.sample_y(X, 3, random_state=rng)).all()  # it goes on from there
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == repr(np.random.get_state(legacy=False))  # noqa: NPY002
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: reg.sample_y(X, 3, random_state=seed), [0, 1] * 8))
    for drawn in together[::2]:
        np.testing.assert_array_equal(drawn, first)


@every_probabilistic
def test_in_single_precision(past, name):
    X, y = sinusoid(12)
    Y = np.c_[50 * y + 200, 0.01 * np.cos(y)]
    single, double = (clone(past[name]).set_params(dtype=d).fit(X, Y) for d in (None, "float64"))
    near = np.linspace(-1, 1, 60)[:, None]  # nearly the same rows: a covariance of low rank
    std, cov = single.predict(near, return_std=True)[1], single.predict(near, return_cov=True)[1]
    np.testing.assert_allclose(np.einsum("iik->ik", cov), std**2, rtol=1e-5)
    unit = np.sqrt(np.einsum("iik->ik", cov))
    error = np.abs(cov - double.predict(near, return_cov=True)[1]) / (unit[:, None] * unit)
    assert error.max() < 1e-3
    assert np.isfinite(single.sample_y(near, 5)).all()


# ------------------------------------------------------------------ independent references
def test_ridge_is_the_closed_form(past):
    reg = clone(past["RidgeHeadRegressor"]).set_params(dtype="float64")
    X, y = sinusoid(9)
    Y, w = np.c_[50 * y + 200, 0.01 * np.cos(y)], np.linspace(0.5, 2, 9)
    reg.fit(X, Y, sample_weight=w)
    asked = np.linspace(-3, 3, 6)[:, None]
    learner = reg._rebuild(reg.meta_init_)
    phi, phi_asked = (
        with_intercept(torch.from_numpy(reg.embed(rows).astype(float))).numpy()
        for rows in (X, asked)
    )
    C = learner.prior_factor.detach().double().numpy()
    precision = np.linalg.inv(C @ C.T) + phi.T @ (w[:, None] * phi)
    function = phi_asked @ np.linalg.solve(precision, phi_asked.T)
    noise = np.exp(learner.log_noise.detach().double().numpy())
    unit = learner.y_scale.double().numpy() ** 2 * noise
    expected = (function + np.eye(6))[..., None] * unit
    np.testing.assert_allclose(reg.predict(asked, return_cov=True)[1], expected, rtol=1e-8)


def test_ridge_without_a_past_is_bayesian_ridge():
    """With scikit-learn's precisions fixed to ours, and the rows centred for the intercept."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=30)
    reg = RidgeHeadRegressor(noise=0.3, alpha=2.0).fit(X, y)
    theirs = BayesianRidge(fit_intercept=False)
    # it would tune the precisions: its posterior is made of ours instead
    noise = (0.3 * y.std()) ** 2
    theirs.X_offset_, theirs.X_scale_ = np.zeros(4), np.ones(4)
    phi = np.c_[X - X.mean(0), np.ones(30)]
    theirs.sigma_ = noise * np.linalg.inv(phi.T @ phi + np.diag([2.0, 2.0, 2.0, 1e-8]))
    theirs.coef_, theirs.intercept_ = (
        np.linalg.solve(phi.T @ phi + np.diag([2.0, 2.0, 2.0, 1e-8]), phi.T @ y),
        0.0,
    )
    theirs.alpha_ = 1 / noise
    asked = rng.normal(size=(5, 3))
    at = np.c_[asked - X.mean(0), np.ones(5)]
    mean, std = theirs.predict(at, return_std=True)
    ours, cov = reg.predict(asked, return_cov=True)
    np.testing.assert_allclose(ours, mean, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), std, rtol=1e-6)
    np.testing.assert_allclose(cov, at @ theirs.sigma_ @ at.T + noise * np.eye(5), rtol=1e-5)


def test_deep_kernel_without_a_past_is_scikit_learns():
    X, y = sinusoid(15)
    y = 7 * y + 100
    reg = DeepKernelRegressor(lengthscale=0.7, noise=0.2).fit(X, y)
    theirs = GaussianProcessRegressor(
        RBF(0.7) + WhiteKernel(0.04 + 1e-6), alpha=0.0, optimizer=None, normalize_y=True
    )
    asked = np.linspace(-4, 4, 9)[:, None]
    scaled = [(rows - X.mean()) / X.std() for rows in (X, asked)]
    mean, cov = theirs.fit(scaled[0], y).predict(scaled[1], return_cov=True)
    ours, our_cov = reg.predict(asked, return_cov=True)
    np.testing.assert_allclose(ours, mean, rtol=1e-7)
    np.testing.assert_allclose(our_cov, cov, rtol=1e-6, atol=1e-9 * cov.max())
    assert reg.sample_y(asked, 4).shape == theirs.sample_y(scaled[1], 4).shape
    both = reg.fit(X, np.c_[y, y]), theirs.fit(scaled[0], np.c_[y, y])
    shapes = [both[0].sample_y(asked, 4).shape, both[1].sample_y(scaled[1], 4).shape]
    assert shapes == [(9, 2, 4)] * 2
    assert both[0].predict(asked, return_cov=True)[1].shape == (9, 9, 2)


def test_ridge_draws_the_same_functions_whatever_the_rows(past):
    reg = clone(past["RidgeHeadRegressor"]).fit_prior()
    X = np.linspace(-3, 3, 40)[:, None]
    all_at_once = reg.sample_y(X, 3, noise=False)
    np.testing.assert_allclose(
        reg.sample_y(X[10:20], 3, noise=False), all_at_once[10:20], rtol=1e-5
    )
    with sklearn.config_context(working_memory=0.05):  # in parts
        np.testing.assert_allclose(reg.sample_y(X, 3, noise=False), all_at_once, rtol=1e-5)


def test_a_covariance_without_a_cholesky_factor_has_a_root():
    rng = np.random.default_rng(0)
    half = torch.from_numpy(rng.normal(size=(30, 2)) * [[1e6, 1e-3]])
    for covariance in (half @ half.mT, half @ half.mT - 1e-2 * torch.eye(30), torch.zeros(3, 3)):
        root = root_of(covariance.double())
        assert root.isfinite().all()
        error = (root @ root.mT - covariance).abs().max()
        assert error <= 1e-8 * covariance.diagonal().max() + 0.02


# ------------------------------------------------------------------ refused
@every_probabilistic
def test_what_is_refused(name):
    reg = getattr(fewshot_sklearn, name)()
    with pytest.raises(sklearn.exceptions.NotFittedError):
        reg.sample_y([[0.0]])
    reg.fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(RuntimeError, match="At most one of return_std or return_cov"):
        reg.predict([[0.0]], return_std=True, return_cov=True)
    with pytest.raises(ValueError, match="n_samples"):
        reg.sample_y([[0.0]], 0)
    with pytest.raises(TypeError, match="n_samples"):
        reg.sample_y([[0.0]], 1.5)
    with pytest.raises(ValueError, match="features"):
        reg.sample_y([[0.0, 1.0]])
    with pytest.raises(ValueError, match="seed"):
        reg.sample_y([[0.0]], random_state="x")


@every_probabilistic
def test_what_is_too_large_is_refused(name):
    reg = getattr(fewshot_sklearn, name)().fit([[0.0], [1.0]], [0.0, 1.0])
    X = np.zeros((300, 1))
    with sklearn.config_context(working_memory=0.5):
        with pytest.raises(ValueError, match=r"GB of memory for the covariance of 300 rows.*MiB"):
            reg.predict(X, return_cov=True)
        with pytest.raises(ValueError, match="500 draws at 300 rows"):
            reg.sample_y(X, 500)
        assert reg.sample_y(X[:3], 2).shape == (3, 2)
    many = np.linspace(0, 1, 100_000)[:, None]
    if name != "DeepKernelRegressor":  # which takes all pairs of rows
        assert reg.sample_y(many).shape == (100_000, 1)
    with pytest.raises(ValueError, match="covariance of 100000 rows"):
        reg.predict(many, return_cov=True)


def test_both_conditional_and_attentive_and_in_context_are_diagonal():
    X, y = sinusoid(6)
    for reg in (NeuralProcessRegressor(attentive=False), InContextRegressor()):
        cov = reg.fit(X, y).predict(X, return_cov=True)[1]
        assert np.count_nonzero(cov - np.diag(np.diag(cov))) == 0
        again = copy.deepcopy(reg)
        np.testing.assert_array_equal(again.sample_y(X), reg.sample_y(X))
