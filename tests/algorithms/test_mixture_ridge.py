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
