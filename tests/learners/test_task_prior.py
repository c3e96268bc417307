"""The learned prior of a linear model against dense Gaussians, differences and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import null_space
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from fewshot_sklearn.learners import _mixed_choice, _mixed_rows, task_prior
from fewshot_sklearn.learners._mixed_likelihood import Criterion
from fewshot_sklearn.learners._mixed_rows import batches
from fewshot_sklearn.learners._mixed_search import MEANS, STRUCTURES, Layout, em_step, search


def made(n_tasks=12, p=4, n_outputs=1, spread=1.0, seed=0, most=9):
    """Tasks of one to `most` rows in random order, the last feature an intercept."""
    rng = np.random.default_rng(seed)
    tasks = rng.permutation(np.repeat(np.arange(n_tasks), rng.integers(1, most + 1, n_tasks)))
    Phi = np.column_stack([rng.standard_normal((len(tasks), p - 1)), np.ones(len(tasks))])
    mean = rng.standard_normal((p, n_outputs))
    weights = mean + spread * rng.standard_normal((n_tasks, p, n_outputs))
    Y = np.einsum("np,npk->nk", Phi, weights[tasks])
    return Phi, Y + 0.5 * rng.standard_normal(Y.shape), tasks


def slopes(seed=1, n_tasks=20, n_rows=8, sd=(0.7, 1.5)):
    """A slope and an intercept that vary together."""
    rng = np.random.default_rng(seed)
    tasks = np.repeat(np.arange(n_tasks), n_rows)
    Phi = np.column_stack([rng.uniform(-1, 3, len(tasks)), np.ones(len(tasks))])
    z = rng.standard_normal((n_tasks, 2))
    weights = np.array([2.0, -1.0]) + z @ [[sd[0], sd[1] / 2], [0.0, sd[1]]]
    return Phi, (Phi * weights[tasks]).sum(1) + rng.standard_normal(len(tasks)), tasks


def criterion(Phi, Y, tasks, restricted=True):
    Phi, Y, tasks = torch.tensor(Phi), torch.tensor(Y), torch.tensor(tasks)
    basis = torch.eye(Phi.shape[1], dtype=torch.float64)
    floor = torch.full((Y.shape[1],), 1e-12, dtype=torch.float64)
    return Criterion(batches(Phi, Y, tasks), basis, floor, restricted)


def in_units_of_noise(Phi, tasks, covariance):
    """Covariance of all targets, in units of the noise."""
    return np.eye(len(Phi)) + (tasks[:, None] == tasks) * (Phi @ covariance @ Phi.T)


# ------------------------------------------------------------------ the criterion
@pytest.mark.parametrize("q", [1, 3, 6], ids=["fewer columns than rows", "some", "more"])
@pytest.mark.parametrize("restricted", [False, True])
def test_likelihood_is_that_of_dense_gaussians(q, restricted):
    Phi, Y, tasks = made(n_outputs=2)
    C = torch.tensor(np.random.default_rng(1).standard_normal((4, q)))
    fit = criterion(Phi, Y, tasks, restricted)(C)
    V = in_units_of_noise(Phi, tasks, (C @ C.T).numpy())
    total = 0.0
    for y, mean, noise in zip(Y.T, fit.mean.T.numpy(), fit.noise_variance.numpy(), strict=True):
        gls = np.linalg.solve(Phi.T @ np.linalg.solve(V, Phi), Phi.T @ np.linalg.solve(V, y))
        np.testing.assert_allclose(mean, gls)
        if restricted:  # what is orthogonal to the features, and the constant that lme4 has
            A = null_space(Phi.T)
            total += multivariate_normal.logpdf(A.T @ y, cov=noise * A.T @ V @ A)
            total -= np.linalg.slogdet(Phi.T @ Phi)[1] / 2
        else:
            total += multivariate_normal.logpdf(y, Phi @ gls, noise * V)
    assert fit.value == pytest.approx(-2 * total, rel=1e-10)
    covariance = (fit.mean_root @ fit.mean_root.T).numpy()
    np.testing.assert_allclose(covariance, np.linalg.inv(Phi.T @ np.linalg.solve(V, Phi)))


def test_mean_of_a_normal_prior_varies_between_all_tasks_at_once():
    Phi, Y, tasks = made()
    C, spread = torch.eye(4).double(), torch.tensor([0.5, 2.0, 0.1, 1.0]).double()
    fit = criterion(Phi, Y, tasks)(C, spread)
    V = in_units_of_noise(Phi, tasks, np.eye(4))
    V += Phi[:, :3] @ np.diag([0.25, 4.0, 0.01]) @ Phi[:, :3].T
    A = null_space(np.ones((1, len(Phi))))
    noise = fit.noise_variance.item()
    like = multivariate_normal.logpdf(A.T @ Y[:, 0], cov=noise * A.T @ V @ A)
    assert fit.value == pytest.approx(-2 * like + np.log(len(Phi)), rel=1e-10)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradient_is_that_of_differences(structure, mean):
    whole = criterion(*made(n_outputs=2))
    layout = Layout.of(structure, mean, 4, rank=2)
    theta = torch.tensor(np.random.default_rng(2).uniform(0.2, 2, layout.n_parameters))

    def value(flat):
        at = torch.tensor(flat)
        return whole(layout.factor(at), layout.spread(at)).value

    ours = layout.gradient(theta, whole(layout.factor(theta), layout.spread(theta)))
    np.testing.assert_allclose(
        ours, approx_fprime(theta.numpy(), value, 1e-7), rtol=1e-4, atol=1e-4
    )


def test_maximum_likelihood_has_a_gradient_of_its_own():
    whole = criterion(*made(), restricted=False)
    layout = Layout.of("full", "flat", 4, 0)
    theta = torch.tensor(np.random.default_rng(2).uniform(0.2, 2, layout.n_parameters))
    ours = layout.gradient(theta, whole(layout.factor(theta)))
    differences = approx_fprime(
        theta.numpy(), lambda flat: whole(layout.factor(torch.tensor(flat))).value, 1e-7
    )
    np.testing.assert_allclose(ours, differences, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("structure", [s for s in STRUCTURES if s != "low_rank"])
def test_expectation_maximisation_never_makes_it_less_likely(structure, mean):
    whole = criterion(*made(n_outputs=2))
    layout = Layout.of(structure, mean, 4, rank=0)
    theta = torch.tensor(np.random.default_rng(3).uniform(0.2, 2, layout.n_parameters))
    values = []
    for _ in range(6):
        theta, fit = em_step(whole, layout, theta)
        values.append(fit.value)
    assert np.all(np.diff(values) < 0)


def test_tasks_are_the_same_in_any_batches(monkeypatch):
    Phi, Y, tasks = made(n_tasks=40, most=30)
    C = torch.eye(4).double()
    at_once = criterion(Phi, Y, tasks)(C)
    monkeypatch.setattr(_mixed_rows, "AT_ONCE", 200)
    monkeypatch.setattr(_mixed_rows, "FEW", 0)
    parts = criterion(Phi, Y, tasks)
    assert len(parts.data) > 3
    assert parts.n_rows == len(Phi) and parts.n_tasks == 40
    assert parts(C).value == pytest.approx(at_once.value, rel=1e-12)


# ------------------------------------------------------------------ its maximum
#: Log-likelihoods of `slopes()` that MixedLM of statsmodels 0.15.0 found.
FOUND_BY_STATSMODELS = {
    ("intercept", True): -299.511721,
    ("intercept", False): -298.332924,
    ("full", True): -264.201268,
    ("full", False): -263.402621,
}


@pytest.mark.parametrize("structure, restricted", FOUND_BY_STATSMODELS)
def test_maximum_is_that_of_statsmodels(structure, restricted):
    prior = task_prior(*slopes(), structure=structure, mean="flat", restricted=restricted)
    expected = FOUND_BY_STATSMODELS[structure, restricted]
    assert prior.loglik == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("structure, restricted", FOUND_BY_STATSMODELS)
def test_estimates_are_those_of_statsmodels(structure, restricted):
    statsmodels = pytest.importorskip("statsmodels.api")
    Phi, y, tasks = slopes(seed=2)
    prior = task_prior(Phi, y, tasks, structure=structure, mean="flat", restricted=restricted)
    varies = Phi if structure == "full" else Phi[:, 1:]
    theirs = statsmodels.MixedLM(y, Phi, tasks, exog_re=varies).fit(reml=restricted)
    assert prior.loglik == pytest.approx(theirs.llf, abs=1e-5)
    np.testing.assert_allclose(prior.mean[:, 0], theirs.fe_params, rtol=1e-4)
    noise = prior.noise_variance.item()
    assert noise == pytest.approx(theirs.scale, rel=1e-3)
    between = prior.between[-varies.shape[1] :].numpy()
    np.testing.assert_allclose(noise * between @ between.T, theirs.cov_re, rtol=2e-3)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_richer_structures_are_likelier_than_what_they_contain(structure):
    data = made(n_tasks=30, seed=4)
    prior = task_prior(*data, structure=structure, mean="flat")
    simpler = STRUCTURES[: STRUCTURES.index(structure)]
    for name in simpler:
        assert prior.loglik >= task_prior(*data, structure=name, mean="flat").loglik - 1e-6


def test_variance_of_nothing_is_zero():
    _, y, tasks = slopes(sd=(0.0, 1.5))
    # tasks whose slopes differ by less than the noise alone would have them do
    x = np.tile(np.linspace(-1, 1, 8), 20)
    by_task = (x * y).reshape(20, 8).sum(1) / np.square(x[:8]).sum()
    y = y - (0.9 * (by_task - by_task.mean()))[tasks] * x
    Phi = np.column_stack([x, np.ones(len(x))])
    diagonal = task_prior(Phi, y, tasks, structure="diagonal", mean="flat")
    alone = task_prior(Phi, y, tasks, structure="intercept", mean="flat")
    assert abs(diagonal.between[0, 0]) < 1e-4
    assert diagonal.loglik == pytest.approx(alone.loglik, abs=1e-6)


def test_zero_is_left_where_the_likelihood_rises():
    Phi, y, tasks = slopes()
    whole = criterion(Phi, y[:, None], tasks)
    layout = Layout.of("diagonal", "flat", 2, 0)
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    found = search(whole, layout, start, em_steps=0)
    far = search(whole, layout, torch.ones(2, dtype=torch.float64))
    assert found.fit.value == pytest.approx(far.fit.value, abs=1e-6)


def test_units_of_features_and_targets_do_not_matter():
    Phi, Y, tasks = made(n_tasks=30, n_outputs=2)
    units, of_targets = np.array([1e-3, 10.0, 1e4, 1.0]), np.array([1e-6, 1e5])
    for mean in ("flat", "ard"):
        plain = task_prior(Phi, Y, tasks, structure="diagonal", mean=mean)
        other = task_prior(Phi * units, Y * of_targets, tasks, structure="diagonal", mean=mean)
        in_units = plain.mean.numpy() * of_targets / units[:, None]
        np.testing.assert_allclose(other.mean, in_units, rtol=1e-4)
        factor = other.factor.numpy() * units[:, None]
        np.testing.assert_allclose(factor, plain.factor, atol=1e-3)


def test_all_tasks_are_searched_after_some(monkeypatch):
    data = made(n_tasks=60, most=6)
    plain = task_prior(*data, structure="full")
    monkeypatch.setattr(_mixed_choice, "FIRST", 200)
    assert task_prior(*data, structure="full").loglik == pytest.approx(plain.loglik, abs=1e-6)


# ------------------------------------------------------------------ what a new task is told
@pytest.mark.parametrize("mean", ["flat", "ridge"])
def test_prediction_is_that_of_all_tasks_at_once(mean):
    Phi, Y, tasks = made()
    prior = task_prior(Phi, Y, tasks, structure="diagonal", mean=mean)
    rng = np.random.default_rng(5)
    A = np.column_stack([rng.standard_normal((5, 3)), np.ones(5)])
    y = rng.standard_normal(3)
    S = (prior.factor @ prior.factor.T).numpy()
    gain = S @ A[:3].T @ np.linalg.inv(np.eye(3) + A[:3] @ S @ A[:3].T)
    ours = A[3:] @ (prior.mean[:, 0].numpy() + gain @ (y - A[:3] @ prior.mean[:, 0].numpy()))

    every, codes = np.vstack([Phi, A]), np.r_[tasks, np.full(5, 99)]
    V = in_units_of_noise(every, codes, (prior.between @ prior.between.T).numpy())
    free = np.minimum(prior.mean_spread.numpy(), 1e4)
    V += every @ np.diag(free**2) @ every.T
    known = np.arange(len(every) - 2)
    joint = V[-2:, known] @ np.linalg.solve(V[np.ix_(known, known)], np.r_[Y[:, 0], y])
    np.testing.assert_allclose(ours, joint, rtol=1e-4)


@pytest.mark.parametrize("structure", ["auto", *STRUCTURES])
def test_factor_is_a_triangle(structure):
    prior = task_prior(*made(n_outputs=2), structure=structure)
    assert prior.factor.shape == (4, 4)
    assert torch.equal(prior.factor, prior.factor.tril())
    total = prior.between @ prior.between.T + prior.mean_covariance
    np.testing.assert_allclose(prior.factor @ prior.factor.T, total, atol=1e-12)


def test_a_feature_twice_and_a_constant_one_share_what_they_say():
    Phi, Y, tasks = made(n_tasks=30)
    more = np.column_stack([Phi[:, 0], np.zeros(len(Phi)), Phi])
    plain = task_prior(Phi, Y, tasks, structure="intercept", mean="flat")
    other = task_prior(more, Y, tasks, structure="intercept", mean="flat")
    assert torch.isfinite(other.factor).all()
    np.testing.assert_allclose(more @ other.mean.numpy(), Phi @ plain.mean.numpy(), atol=1e-5)


# ------------------------------------------------------------------ the choice
@pytest.mark.parametrize(
    "deviations, expected",
    [
        ([0.0] * 5 + [2.0], "intercept"),
        ([2.0] * 5 + [2.0], "isotropic"),
        ([0.0, 0.0, 3.0, 0.3, 0.0, 1.0], "diagonal"),
    ],
)
def test_structure_is_what_varies(deviations, expected):
    rng = np.random.default_rng(6)
    tasks = np.repeat(np.arange(50), 12)
    Phi = np.column_stack([rng.standard_normal((len(tasks), 5)), np.ones(len(tasks))])
    weights = 1 + rng.standard_normal((50, 6)) * deviations
    y = (Phi * weights[tasks]).sum(1) + rng.standard_normal(len(tasks))
    prior = task_prior(Phi, y, tasks)
    assert prior.structure == expected
    assert prior.choice[expected] == min(v for k, v in prior.choice.items() if "mean" not in k)


def test_directions_in_which_all_varies():
    rng = np.random.default_rng(7)
    tasks = np.repeat(np.arange(80), 12)
    Phi = np.column_stack([rng.standard_normal((len(tasks), 9)), np.ones(len(tasks))])
    weights = rng.standard_normal((80, 2)) @ rng.standard_normal((2, 10))
    y = (Phi * weights[tasks]).sum(1) + 0.5 * rng.standard_normal(len(tasks))
    prior = task_prior(Phi, y, tasks)
    assert prior.structure == "low_rank"
    assert prior.between.shape == (10, 12)


@pytest.mark.parametrize("useless, expected", [(27, "ard"), (0, "ridge")])
def test_mean_is_sparse_where_features_are_useless(useless, expected):
    rng = np.random.default_rng(8)
    tasks = np.repeat(np.arange(12), 10)
    Phi = np.column_stack([rng.standard_normal((len(tasks), 30)), np.ones(len(tasks))])
    weights = rng.standard_normal(31) * (np.arange(31) >= useless)
    y = Phi @ weights + rng.standard_normal(len(tasks))
    told = task_prior(Phi, y, tasks).choice
    assert min(("mean ridge", "mean ard"), key=told.get) == f"mean {expected}"


def few_tasks_many_useless():
    rng = np.random.default_rng(9)
    tasks = np.repeat(np.arange(10), 30)
    Phi = np.column_stack([rng.standard_normal((len(tasks), 20)), np.ones(len(tasks))])
    weights = rng.standard_normal((10, 21)) * np.r_[np.zeros(14), np.full(6, 2.0), 1.0]
    return Phi, (Phi * weights[tasks]).sum(1) + rng.standard_normal(len(tasks)), tasks


def test_fewer_tasks_than_features_may_tell_which_are_useless():
    prior = task_prior(*few_tasks_many_useless())
    assert prior.structure == "diagonal"
    deviations = prior.between.diagonal().abs()
    assert deviations[:14].max() < 0.6 * deviations[14:20].min()


def test_variances_of_few_tasks_are_shrunk_to_the_common_one():
    data = few_tasks_many_useless()
    scale = np.sqrt(np.square(data[0]).mean(0))
    auto, alone, common = (
        np.square(task_prior(*data, structure=s).between.diagonal().numpy() * scale)[:20]
        for s in ("auto", "diagonal", "isotropic")
    )
    prior = _mixed_choice.PRIOR_DRAWS * (1 - 2 / 20)
    np.testing.assert_allclose(auto, (10 * alone + prior * common) / (10 + prior), rtol=1e-6)


# ------------------------------------------------------------------ edges
@pytest.mark.parametrize("n_tasks", [1, 2, 3])
@pytest.mark.parametrize("exact", [False, True])
def test_few_tasks_and_targets_without_noise(n_tasks, exact):
    Phi, Y, tasks = made(n_tasks=n_tasks, p=9, most=4, seed=2)
    Y = Y if not exact else Phi[:, :1]
    prior = task_prior(Phi, Y, tasks)
    assert prior.structure in STRUCTURES
    for part in (prior.mean, prior.factor, prior.noise_variance.log()):
        assert torch.isfinite(part).all()


def test_constant_targets():
    Phi, Y, tasks = made()
    prior = task_prior(Phi, np.full_like(Y, 3.0), tasks)
    np.testing.assert_allclose(prior.mean[:, 0], [0, 0, 0, 3], atol=1e-6)


def test_intercept_alone():
    Phi, Y, tasks = made(p=1)
    assert task_prior(Phi, Y, tasks).structure == "intercept"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"structure": "banded"}, "structure must be auto or one of"),
        ({"mean": "zero"}, "mean auto or one of"),
        ({"restricted": False}, "wants mean='flat'"),
        ({"mean": "flat"}, "3 rows do not determine 3 weights"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        task_prior(np.eye(3) + 1, np.arange(3.0), np.arange(3), **options)


def test_same_data_same_prior():
    data = made(n_outputs=2)
    first, second = task_prior(*data), task_prior(*data)
    assert torch.equal(first.factor, second.factor) and torch.equal(first.mean, second.mean)
