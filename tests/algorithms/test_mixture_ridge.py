"""A linear head under a mixture of Gaussians: the formulas, and what they are for."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.linear_model import Ridge

from fewshot_sklearn import (
    MetaTrainer,
    MixtureRidgeRegressor,
    RidgeHeadRegressor,
    TaskwiseRegressor,
)
from fewshot_sklearn.algorithms._mixture_prior import mixture_prior
from fewshot_sklearn.algorithms.mixture_ridge import MixtureRidge
from fewshot_sklearn.encoders import Identity
from fewshot_sklearn.tasks import Support


def learner_with_any_prior(n_outputs=2):
    torch.manual_seed(0)
    learner = MixtureRidge(Identity((3,)), (3,), n_outputs, n_components=4).double()
    with torch.no_grad():
        learner.prior_factor.normal_()
        learner.prior_means.normal_()
        learner.log_shares.normal_()
        learner.log_noise.normal_(std=0.3)
    return learner


@pytest.mark.parametrize("n_rows", [1, 3, 12])
def test_it_is_bayes_with_a_mixture(n_rows):
    """As the joint normal of weights and targets has it, for each Gaussian of the prior."""
    learner = learner_with_any_prior()
    rng = np.random.default_rng(n_rows)
    X, y, X_query = (rng.normal(size=(n, d)) for n, d in ((n_rows, 3), (n_rows, 2), (5, 3)))
    with torch.no_grad():
        support = Support(torch.tensor(X), torch.tensor(y), torch.ones(n_rows).double())
        outputs = learner.predict(learner.adapt(support), torch.tensor(X_query))
    phi, asked = (np.column_stack([rows, np.ones(len(rows))]) for rows in (X, X_query))
    factor, means = learner.prior_factor.detach().numpy(), learner.prior_means.detach().numpy()
    noise, log_shares = (
        learner.log_noise.detach().exp().numpy(),
        learner.log_shares.detach().numpy(),
    )
    covariance = factor @ factor.T  # in units of the noise
    logs, expected, variances = [], [], []
    for k in range(4):
        at, spread, log = [], [], log_shares[k]
        for j in range(2):
            K = noise[j] * (phi @ covariance @ phi.T + np.eye(n_rows))
            C = noise[j] * asked @ covariance @ phi.T
            rest = y[:, j] - phi @ means[k, :, j]
            log = log + multivariate_normal(np.zeros(n_rows), K).logpdf(rest)
            at.append(asked @ means[k, :, j] + C @ np.linalg.solve(K, rest))
            prior = noise[j] * (np.einsum("ij,jk,ik->i", asked, covariance, asked) + 1)
            spread.append(prior - np.einsum("ij,ji->i", C, np.linalg.solve(K, C.T)))
        logs.append(log)
        expected.append(np.stack(at, 1))
        variances.append(np.stack(spread, 1))
    shares, expected = softmax(logs)[:, None, None], np.stack(expected)
    mean = (shares * expected).sum(0)
    variance = (shares * (np.stack(variances) + expected**2)).sum(0) - mean**2
    np.testing.assert_allclose(outputs.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(outputs.variance, variance, rtol=1e-7)


def test_without_a_past_it_is_a_ridge_regression():
    rng = np.random.default_rng(0)
    X, X_query = rng.normal(size=(9, 4)), rng.normal(size=(5, 4))
    y = X @ rng.normal(size=(4, 2)) + 7
    found = MixtureRidgeRegressor(scale_inputs=False).fit(X, y).predict(X_query)
    np.testing.assert_allclose(found, Ridge(alpha=1.0).fit(X, y).predict(X_query), rtol=1e-4)


def test_a_weight_of_zero_is_no_row_and_of_two_two_rows():
    rng = np.random.default_rng(0)
    learner = learner_with_any_prior()
    X, y = torch.tensor(rng.normal(size=(4, 3))), torch.tensor(rng.normal(size=(4, 2)))

    def coef(rows, w):
        with torch.no_grad():
            state = learner.adapt(Support(X[rows], y[rows], torch.tensor(w).double()))
        return state["coef"], state["log_shares"]

    torch.testing.assert_close(coef([0, 1, 2], [1, 0, 2]), coef([0, 2, 2], [1, 1, 1]))


def two_kinds(n_tasks, seed):
    """Lines that all rise by 2 or all fall by 2, and hardly differ otherwise; much noise."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), 12)
    X = rng.normal(size=(len(groups), 1))
    slope = (rng.choice([-2.0, 2.0], n_tasks) + 0.1 * rng.normal(size=n_tasks))[groups]
    truth = slope * X[:, 0]
    return X, truth + rng.normal(size=len(truth)), groups, truth


def test_tasks_of_two_kinds_are_told_apart(margin):
    torch.set_num_threads(1)
    X, y, groups, _ = two_kinds(400, 0)
    X_new, y_new, new, truth = two_kinds(600, 1)
    first = np.arange(len(new)) % 12 < 2
    errors = []
    for estimator in (MixtureRidgeRegressor(n_components=4), RidgeHeadRegressor()):
        trainer = MetaTrainer(
            estimator, n_shot=(1, 4), n_query=8, n_episodes=640, max_epochs=12, lr=2e-2,
            random_state=0, verbose=0,
        ).fit(X, y, groups=groups)  # fmt: skip
        fitted = TaskwiseRegressor(trainer.estimator_)
        fitted.fit(X_new[first], y_new[first], groups=new[first])
        predicted = fitted.predict(X_new[~first], groups=new[~first])
        errors.append(np.square(predicted - truth[~first]).mean())
    margin.above(errors[1] / errors[0], 1.3)


# ---------------------------------------------------------------- learned from all past tasks
MEANS = 4 * np.array(
    [[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, -1.0]]]
)
SHARES = np.array([0.5, 0.3, 0.2])


def tasks_of_three_kinds(n_tasks, seed=0, n=6):
    """Rows of two features and two outputs, with noise of one: features, targets, tasks."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, n_tasks, p=SHARES)
    weights = MEANS[kinds] + 0.5 * rng.normal(size=(n_tasks, 2, 2))
    psi = rng.normal(size=(n_tasks, n, 2))
    targets = psi @ weights + rng.normal(size=(n_tasks, n, 2))
    order = rng.permutation(n_tasks * n)
    tasks = np.repeat(np.arange(n_tasks), n)[order]
    return psi.reshape(-1, 2)[order], targets.reshape(-1, 2)[order], tasks


def test_the_mixture_that_tasks_were_drawn_from_is_found():
    found = mixture_prior(*tasks_of_three_kinds(3000), 3)
    order = np.argsort(-found.shares)
    np.testing.assert_allclose(found.shares[order], SHARES, atol=0.03)
    np.testing.assert_allclose(found.means[order], MEANS, atol=0.12)
    np.testing.assert_allclose(found.factor @ found.factor.T, 0.25 * np.eye(2), atol=0.04)
    assert np.all(np.diff(found.loglik) > -1e-9)


def test_what_rises_is_the_likelihood_of_rows():
    """Whose weights are integrated out: as the joint normal of a task's targets has it."""
    psi, targets, tasks = tasks_of_three_kinds(60)
    found = mixture_prior(psi, targets, tasks, 3)
    targets = targets / found.noise
    told = []
    for task in range(60):
        rows = tasks == task
        cov = psi[rows] @ found.factor @ found.factor.T @ psi[rows].T + np.eye(rows.sum())
        logs = [
            np.log(share) + sum(multivariate_normal(psi[rows] @ mean[:, j], cov).logpdf(y)
                                for j, y in enumerate(targets[rows].T))
            for share, mean in zip(found.shares, found.means, strict=True)
        ]  # fmt: skip
        nothing = multivariate_normal(np.zeros(2 * rows.sum())).logpdf(targets[rows].ravel())
        told.append(np.logaddexp.reduce(logs) - nothing)
    assert np.mean(told) == pytest.approx(found.loglik[-1], abs=1e-3)


def test_directions_of_which_rows_tell_nothing_stay_as_they_are():
    psi, targets, tasks = tasks_of_three_kinds(300)
    plain = mixture_prior(psi, targets, tasks, 3)
    wide = mixture_prior(np.c_[psi, 1e-3 * psi[:, ::-1] ** 2, 0 * psi], targets, tasks, 3)
    covariance = wide.factor @ wide.factor.T
    usual = np.square(wide.noise).mean()  # it is in units of this, and was in units of one
    np.testing.assert_allclose(usual * covariance[2:, 2:], np.eye(4), atol=1e-4)
    np.testing.assert_allclose(covariance[:2, :2], plain.factor @ plain.factor.T, atol=1e-3)
    np.testing.assert_allclose(wide.means[:, :2], plain.means, atol=1e-2)


@pytest.mark.parametrize("known", [0.1, 1.0, 30.0])
def test_the_noise_is_found_whatever_it_was_taken_for(known):
    """As descent leaves it that was short: directions are judged by what it is."""
    psi, targets, tasks = tasks_of_three_kinds(400)
    targets = targets * [1.0, 2.0]
    # weights of a size of four
    usual, found = (mixture_prior(4 / k * psi, targets / k, tasks, 3) for k in (1.0, known))
    np.testing.assert_allclose(known * found.noise, [1.0, 2.0], rtol=0.05)
    np.testing.assert_allclose(known * found.noise, usual.noise, rtol=1e-2)


def test_few_tasks_have_fewer_gaussians():
    psi, targets, tasks = tasks_of_three_kinds(20)
    two, six = (mixture_prior(psi, targets, tasks, n) for n in (2, 6))
    assert len(np.unique(six.means.round(12), axis=0)) == 2
    assert six.shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(six.means[:2], two.means)
    np.testing.assert_allclose(six.shares.reshape(3, 2).sum(0), two.shares)


def test_it_is_none_of_too_few_tasks_or_directions():
    psi, targets, tasks = tasks_of_three_kinds(5)
    assert mixture_prior(psi, targets, 0 * tasks, 6) is None
    assert mixture_prior(1e-9 * psi, targets, tasks, 2) is None
    many = np.random.default_rng(0).normal(size=(2000, 130))
    assert mixture_prior(many, np.ones((2000, 1)), np.arange(2000) % 200, 2) is None


def test_learned_at_once_it_is_that_in_other_units():
    """Of a learner whose Gaussians are apart already, with a noise and a factor of its own."""
    psi, targets, tasks = tasks_of_three_kinds(400)
    torch.manual_seed(0)
    learner = MixtureRidge(Identity((2,)), (2,), 2, n_components=3)
    with torch.no_grad():
        learner.prior_factor.normal_()
        learner.prior_means.normal_()
        learner.log_noise.copy_(torch.tensor([0.3, -0.2]))
        X, y = torch.tensor(psi).float(), 7 * torch.tensor(targets).float()
        learner.y_scale.fill_(7.0)
        noise = (learner.log_noise / 2).exp()
        assert learner.learn_at_once(X, y * noise, tasks)
        found, noise = learner.prior_means[:, :2] / noise, noise.numpy()
    order = learner.log_shares.argsort(descending=True)
    np.testing.assert_allclose(found[order].numpy(), MEANS, atol=0.4)
    covariance = (learner.prior_factor @ learner.prior_factor.T)[:2, :2].detach()
    np.testing.assert_allclose(covariance, 0.25 * np.eye(2), atol=0.15)


def ring(rng):
    """A task of a plane whose slope is 3, in any direction."""
    angle, k = rng.uniform(0, 2 * np.pi), rng.integers(1, 5)
    X = rng.normal(size=(12, 2))
    y = 3 * X @ [np.cos(angle), np.sin(angle)] + rng.normal(size=12)
    return X[:k], y[:k], X[k:], y[k:]


def test_tasks_of_a_ring_are_learned_from_a_generator(margin):
    torch.set_num_threads(1)
    n, rng = 600, np.random.default_rng(5)
    angle, X = rng.uniform(0, 2 * np.pi, n), rng.normal(size=(n, 12, 2))
    truth = 3 * (X @ np.stack([np.cos(angle), np.sin(angle)], 1)[..., None])[..., 0]
    y, errors = truth + rng.normal(size=truth.shape), []
    support, asked = (np.repeat(np.arange(n), rows) for rows in (3, 9))
    for estimator in (
        MixtureRidgeRegressor(encoder="identity"),
        RidgeHeadRegressor(encoder="identity"),
    ):
        trainer = MetaTrainer(
            estimator, n_episodes=320, max_epochs=8, n_valid_episodes=320, lr=2e-2,
            random_state=0, verbose=0,
        ).fit(ring)  # fmt: skip
        fitted = TaskwiseRegressor(trainer.estimator_)
        fitted.fit(X[:, :3].reshape(-1, 2), y[:, :3].ravel(), groups=support)
        predicted = fitted.predict(X[:, 3:].reshape(-1, 2), groups=asked)
        errors.append(np.square(predicted - truth[:, 3:].ravel()).mean())
    margin.above(errors[1] / errors[0], 1.3)


@pytest.mark.parametrize("params", [{"alpha": 1.0}, {"noise": 1.0}])
def test_who_says_where_descent_begins_has_descent_alone(params, monkeypatch):
    def never(*args):
        raise AssertionError

    monkeypatch.setattr(MixtureRidge, "learn_at_once", never)
    X, y, groups, _ = two_kinds(20, 0)
    settings = {"n_shot": 2, "n_query": 4, "max_epochs": 1, "n_episodes": 8, "verbose": 0}
    estimator = MixtureRidgeRegressor(encoder="identity", n_components=2, **params)
    MetaTrainer(estimator, **settings).fit(X, y, groups=groups)
    with pytest.raises(AssertionError):
        estimator = MixtureRidgeRegressor(encoder="identity", n_components=2)
        MetaTrainer(estimator, **settings).fit(X, y, groups=groups)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"alpha": 0.0}, "alpha"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        MixtureRidgeRegressor(**params).fit([[0.0], [1.0]], [0.0, 1.0])
