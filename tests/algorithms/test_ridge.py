"""The closed-form heads against scikit-learn's Ridge and Bayesian regression in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import meta_train
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import Ridge

from fewshot_sklearn import MetaInit, MetaTrainer, RidgeHeadClassifier, RidgeHeadRegressor
from fewshot_sklearn.algorithms.ridge_classifier import RidgeHeadClassification
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.encoders import make_encoder


@pytest.fixture(params=[6, 200], ids=["fewer rows than features", "more"])
def diabetes(request):
    X, y = load_diabetes(return_X_y=True)
    X = 20 * X
    n = request.param
    w = np.random.default_rng(0).uniform(0.1, 3, n)
    return X[:n], y[:n], w, X[300:]


def with_intercept(Z):
    return np.hstack([Z, np.ones((len(Z), 1))])


# ------------------------------------------------------------------ scikit-learn's Ridge
@pytest.mark.parametrize("alpha", [None, 0.01, 30.0])
def test_ridge(diabetes, alpha):
    X, y, _, X_query = diabetes
    ours = RidgeHeadRegressor(alpha=alpha).fit(X, y)
    theirs = Ridge(alpha=1.0 if alpha is None else alpha).fit(X, y)
    np.testing.assert_allclose(ours.predict(X_query), theirs.predict(X_query), rtol=1e-6)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-6)


def test_weighted_ridge(diabetes):
    X, y, w, X_query = diabetes
    ours, theirs = RidgeHeadRegressor().fit(X, y, w), Ridge().fit(X, y, w)
    np.testing.assert_allclose(ours.predict(X_query), theirs.predict(X_query), rtol=1e-6)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-6)


def test_ridge_of_several_targets(diabetes):
    X, y, _, X_query = diabetes
    Y = np.column_stack([y, -2 * y + X[:, 0], X[:, 1]])
    ours, theirs = RidgeHeadRegressor().fit(X, Y), Ridge().fit(X, Y)
    np.testing.assert_allclose(ours.predict(X_query), theirs.predict(X_query), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-5, atol=1e-6)


def test_ridge_far_from_the_origin(diabetes):
    X, y, _, X_query = diabetes
    ours, theirs = RidgeHeadRegressor().fit(X, y + 1e4), Ridge().fit(X, y + 1e4)
    np.testing.assert_allclose(ours.predict(X_query), theirs.predict(X_query), rtol=1e-6)


# ------------------------------------------------------------------ uncertainty
def bayesian_regression(Phi, y, w, mean, covariance, noise, Phi_query):
    """Textbook Gaussian process on features: prior of the weights N(mean, noise * covariance).

    Rasmussen and Williams 2006, eq. 2.25-2.26 with kernel phi' covariance phi, in
    units of the noise variance; a row of weight w has noise variance noise / w.
    """
    kernel = Phi @ covariance @ Phi.T + np.diag(1 / w)
    cross = Phi_query @ covariance @ Phi.T
    posterior_mean = Phi_query @ mean + cross @ np.linalg.solve(kernel, y - Phi @ mean)
    explained = np.einsum("ij,ji->i", cross, np.linalg.solve(kernel, cross.T))
    prior = np.einsum("ij,jk,ik->i", Phi_query, covariance, Phi_query)
    return posterior_mean, noise * (1 + prior - explained)[:, None]


@pytest.mark.parametrize("weighted", [False, True])
def test_predictive_variance_without_a_past(diabetes, weighted):
    X, y, w, X_query = diabetes
    w = w if weighted else np.ones_like(w)
    reg = RidgeHeadRegressor(noise=0.5, alpha=2.0).fit(X, y, w)
    _, std = reg.predict(X_query, return_std=True)
    y_mean = np.average(y, weights=w)
    y_scale = np.sqrt(np.average((y - y_mean) ** 2, weights=w))
    # the intercept is free: a flat prior. Centring takes it out (Hastie et al. 2009, 3.4.1)
    centre = np.average(X, axis=0, weights=w)
    covariance = np.linalg.inv((X - centre).T @ (w[:, None] * (X - centre)) + 2.0 * np.eye(10))
    distance = np.einsum("ij,jk,ik->i", X_query - centre, covariance, X_query - centre)
    expected = y_scale * 0.5 * np.sqrt(1 + 1 / w.sum() + distance)
    np.testing.assert_allclose(std, expected, rtol=1e-5)


def test_uncertainty_grows_away_from_the_data(diabetes):
    X, y, _, _ = diabetes
    reg = RidgeHeadRegressor().fit(X, y)
    centre = X.mean(0)
    line = centre + np.linspace(0, 100, 12)[:, None] * (X[0] - centre)
    _, std = reg.predict(line, return_std=True)
    assert (np.diff(std) > 0).all() and std[-1] > 2 * std[0]


def test_uncertainty_shrinks_with_rows(trained, sinusoid_new, margin):
    X, y, groups = sinusoid_new
    X, y = X[groups == 1], y[groups == 1]
    stds = [
        trained["RidgeHeadRegressor"].fit(X[:n], y[:n]).predict(X[20:], return_std=True)[1]
        for n in (1, 5, 20)
    ]
    assert (np.diff(stds, axis=0) < 1e-6).all()  # whatever was learned
    margin.below(stds[-1].mean() / stds[0].mean(), 0.9)


@pytest.mark.parametrize("n_rows", [1, 5, 25])
@pytest.mark.parametrize("weighted", [False, True])
def test_meta_trained_is_bayesian_regression(trained, sinusoid_new, n_rows, weighted, margin):
    X, y, _ = sinusoid_new
    X_query = np.linspace(-6, 6, 50)[:, None]
    X, y, w = X[:n_rows], y[:n_rows], np.ones(n_rows)
    if weighted:
        w = np.random.default_rng(0).uniform(0.1, 3, n_rows)
    reg = trained["RidgeHeadRegressor"].set_params(dtype="float64")
    mean, std = reg.fit(X, y, w).predict(X_query, return_std=True)

    t = {name: array.astype(float) for name, array in reg.meta_init.tensors.items()}

    def features(X):
        Z = (X - t["x_mean"]) / t["x_scale"]
        for layer in (0, 2):
            Z = np.tanh(
                Z @ t[f"encoder.layers.{layer}.weight"].T + t[f"encoder.layers.{layer}.bias"]
            )
        return with_intercept(Z)

    expected, variance = bayesian_regression(
        features(X),
        (y[:, None] - t["y_mean"]) / t["y_scale"],
        w,
        t["prior_mean"],
        t["prior_factor"] @ t["prior_factor"].T,
        np.exp(t["log_noise"]),
        features(X_query),
    )
    np.testing.assert_allclose(
        mean, (expected * t["y_scale"] + t["y_mean"])[:, 0], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(std, (np.sqrt(variance) * t["y_scale"])[:, 0], rtol=1e-6)
    margin.above(np.abs(t["prior_mean"]).max(), 0, "prior mean")
    margin.above(np.abs(np.triu(t["prior_factor"], 1)).max(), 0, "prior covariance")


def test_meta_trained_uncertainty_is_calibrated(trained, sinusoid_new, margin):
    X, y, groups = sinusoid_new
    errors = []
    for group in np.unique(groups):
        rows, rest = np.split(np.flatnonzero(groups == group), [8])
        mean, std = trained["RidgeHeadRegressor"].fit(X[rows], y[rows]).predict(X[rest], True)
        errors.append((y[rest] - mean) / std)
    margin.above(np.mean(np.abs(errors) < 1.96), 0.7)


# ------------------------------------------------------------------ classification
def indicators(y):
    return (y[:, None] == np.unique(y)).astype(float)


@pytest.fixture(params=[3, 30], ids=["dual", "primal"])
def iris(request):
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(150)
    X, y, n = X[rows], y[rows], request.param
    w = np.random.default_rng(1).uniform(0.1, 3, n)
    return X[:n], y[:n], w, X[n:], y[n:]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [0.1, 5.0])
def test_classifier_is_ridge_of_the_indicators(iris, alpha, weighted):
    X, y, w, X_query, _ = iris
    w = w if weighted else np.ones_like(w)
    clf = RidgeHeadClassifier(alpha=alpha).fit(X, y, w)
    ridge = Ridge(alpha=alpha, fit_intercept=False)  # the intercept is penalised like the rest
    centre = np.average(X, axis=0, weights=w)  # rows lie about zero, wherever they come from
    ridge.fit(with_intercept(X - centre), indicators(y), w)
    coef = np.atleast_2d(ridge.coef_)
    np.testing.assert_allclose(clf.coef_, coef[:, :-1], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(clf.intercept_, coef[:, -1] - coef[:, :-1] @ centre, rtol=1e-5)
    scores = 10 * ridge.predict(with_intercept(X_query - centre)).reshape(len(X_query), -1)
    np.testing.assert_allclose(clf.predict_proba(X_query), softmax(scores, axis=1), rtol=1e-5)


def test_primal_equals_dual():
    """Rows of weight zero switch from one to the other."""
    rng = np.random.default_rng(0)
    Z, y, w = torch.tensor(rng.normal(size=(4, 5))), torch.eye(4, 3).double(), torch.ones(4)
    learner = RidgeHeadClassification(make_encoder("identity", (5,), {}), (5,)).double()
    with torch.no_grad():
        learner.log_precision += torch.tensor(rng.normal(size=6))
        dual = learner.adapt_features(Z, y, w)["coef"]
        padded = (torch.cat([part, part.new_zeros(3, *part.shape[1:])]) for part in (Z, y, w))
        primal = learner.adapt_features(*padded)["coef"]
    np.testing.assert_allclose(dual, primal, rtol=1e-9)


@pytest.mark.parametrize("n_rows", [10, 100], ids=["dual", "primal"])
def test_meta_trained_classifier(trained, digits_new, n_rows, margin):
    X, y = digits_new
    X, y, X_query = X[:n_rows], y[:n_rows], X[n_rows:]
    clf = trained["RidgeHeadClassifier"].set_params(dtype="float64").fit(X, y)
    t = {name: array.astype(float) for name, array in clf.meta_init.tensors.items()}

    def features(X):
        Z = (X - t["x_mean"]) / t["x_scale"]
        return with_intercept(
            np.maximum(Z @ t["encoder.layers.0.weight"].T + t["encoder.layers.0.bias"], 0)
        )

    Phi, precision = features(X), np.diag(np.exp(t["log_precision"]))
    coef = np.linalg.solve(Phi.T @ Phi + precision, Phi.T @ indicators(y))
    expected = softmax(np.exp(t["log_scale"]) * features(X_query) @ coef, axis=1)
    np.testing.assert_allclose(clf.predict_proba(X_query), expected, rtol=1e-5, atol=1e-9)
    margin.above(np.ptp(t["log_precision"]), 0, "precisions")
    margin.above(np.log10(np.abs(np.exp(t["log_scale"]) - 10)), -4, "scale, logarithm")


# ------------------------------------------------------------------ start of meta-training
@pytest.mark.parametrize(
    ("estimator", "params"),
    [(RidgeHeadRegressor(), {"alpha": 50.0}), (RidgeHeadClassifier(), {"alpha": 50.0})],
)
def test_stronger_regularisation_shrinks(estimator, params):
    X, y = load_iris(return_X_y=True)
    plain = clone(estimator).fit(X, y)
    strong = clone(estimator).set_params(**params).fit(X, y)
    assert np.abs(strong.coef_).sum() < 0.9 * np.abs(plain.coef_).sum()


def test_noise_of_any_size_is_found_in_a_short_training(margin):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 20)
    X, offsets = rng.normal(size=(4000, 2)), rng.normal(size=200)
    for noise in (0.3, 1.0):
        y = offsets[groups] + noise * rng.normal(size=4000)
        reg = meta_train(RidgeHeadRegressor(encoder="identity"), X, y, groups, max_epochs=20)
        t = reg.meta_init.tensors
        learned = np.exp(t["log_noise"] / 2) * t["y_scale"]
        margin.below(np.abs(learned / noise - 1).max(), 0.2, f"of {noise}")


def test_the_learning_rate_of_a_parameter_can_be_chosen():
    past = make_sinusoid_tasks(20, random_state=0)

    def rates(**options):
        trainer = MetaTrainer(
            RidgeHeadRegressor(), lr=0.01, max_epochs=1, n_episodes=16, verbose=0, random_state=0,
            **options,
        )  # fmt: skip
        groups = trainer.fit(past.data, past.target, past.groups).optimizer_.param_groups
        return {(len(group["params"]), group["lr"]) for group in groups}

    assert rates() == {(2, 0.01), (1, 0.1)}
    own = [("log_noise", {"lr": 0.5})]
    assert rates(optimizer__param_groups=own) == {(2, 0.01), (1, 0.5)}


# ------------------------------------------------------------------ fewer rows than features
def plain_learner(n_features, n_outputs=2):
    learner = RidgeHeadRegressor()._new_learner((n_features,), n_outputs, seed=0, past=False)
    return learner.double().eval().requires_grad_(False)


def wide_task(size, weighted):
    rng = np.random.default_rng(0)
    Z, y = size * rng.normal(size=(3, 7, 40)), rng.normal(size=(3, 7, 2))
    w = rng.uniform(0.2, 3, (3, 7)) if weighted else np.ones((3, 7))
    w[:, -1] = 0.0
    return [torch.as_tensor(a) for a in (Z, y, w)]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_rows_span_is_all_that_there_is(size, weighted):
    """Adaptation by rows against adaptation by features, which training keeps to."""
    learner, (Z, y, w) = plain_learner(40), wide_task(size, weighted)
    by_rows = learner.adapt_features(Z, y, w)
    by_features = learner.train().adapt_features(Z, y, w)
    assert "spread" not in by_rows and by_features["spread"].shape == (3, 41, 41)
    torch.testing.assert_close(by_rows["coef"], by_features["coef"], rtol=1e-6, atol=1e-9)
    Z_query = torch.cat([Z, size * torch.randn(3, 5, 40).double()], 1)
    ours, theirs = (learner.predict_features(s, Z_query) for s in (by_rows, by_features))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)
    phi = torch.cat([Z_query, torch.ones(3, 12, 1)], -1).double()
    halves = [learner.halves(state, phi) for state in (by_rows, by_features)]
    one, other = (H @ H.mT for H in halves)
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))


@pytest.mark.parametrize("n", [2, 30, 299])
def test_wide_rows_are_scikit_learns_ridge(n):
    rng = np.random.default_rng(0)
    X, X_query = rng.normal(size=(n, 300)), rng.normal(size=(9, 300))
    y, w = rng.normal(size=(n, 2)), rng.uniform(0.1, 3, n)
    ours, theirs = RidgeHeadRegressor().fit(X, y, w), Ridge().fit(X, y, w)
    np.testing.assert_allclose(ours.predict(X_query), theirs.predict(X_query), rtol=1e-6)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6, atol=1e-9)


def test_what_was_kept_of_all_pairs_of_features_still_predicts():
    """State and meta-init as versions before kept them of a fit without a past."""
    rng = np.random.default_rng(0)
    X, X_query = rng.normal(size=(5, 30)), rng.normal(size=(9, 30))
    reg = RidgeHeadRegressor().fit(X, X[:, 0])
    expected = reg.predict(X_query, return_std=True)
    learner = reg._rebuild(reg.meta_init_)
    factor = torch.diag(learner.prior_factor)
    state = {name: torch.as_tensor(a) for name, a in reg.state_.items()}
    inside = torch.linalg.solve_triangular(state["root"], state["directions"], upper=False)
    across = torch.eye(31) - state["directions"].mT @ state["directions"]
    spread = torch.cat([inside, across]).double() @ factor
    reg.state_ = {"coef": reg.state_["coef"], "spread": spread.numpy()}
    tensors = reg.meta_init_.state_dict() | {"prior_factor": factor}
    reg.meta_init_ = MetaInit.from_state(tensors, reg.meta_init_.spec)
    for found, known in zip(reg.predict(X_query, return_std=True), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-9)


# ------------------------------------------------------------------ fewer rows, with a past
def learned_prior(n_features, n_outputs=2):
    """A learner with a full prior, such as past tasks teach, which takes rows in."""
    learner = RidgeHeadRegressor()._new_learner((n_features,), n_outputs, seed=0)
    learner = learner.double().eval().requires_grad_(False)
    rng = np.random.default_rng(1)
    factor = np.eye(n_features + 1) + rng.normal(size=2 * [n_features + 1]) / n_features**0.5
    learner.prior_factor.copy_(torch.as_tensor(factor))
    learner.prior_mean.copy_(torch.as_tensor(rng.normal(size=(n_features + 1, n_outputs))))
    return learner


def some_rows(n, seed, n_features=40, n_tasks=3):
    rng = np.random.default_rng(seed)
    w = rng.uniform(0.2, 3, (n_tasks, n))
    w[0, -1] = 0.0
    made = rng.normal(size=(n_tasks, n, n_features)), rng.normal(size=(n_tasks, n, 2)), w
    return [torch.as_tensor(a) for a in made]


def all_of_it(learner, state, Z):
    return *learner.predict_features(state, Z), learner.covariance_of_features(state, Z)


@pytest.mark.parametrize("n, kept", [(1, 41 + 1), (5, 5 * (41 + 5)), (20, 20 * 61), (21, 41**2)])
def test_of_the_posterior_no_more_is_kept_than_the_rows_say(n, kept):
    learner, task = learned_prior(40), some_rows(n, 0)
    state = learner.adapt_features(*task)
    whole = learner.train().adapt_features(*task)
    learner.eval()
    assert sum(t[0].numel() for name, t in state.items() if name != "coef") == kept
    Z = torch.cat([task[0], some_rows(7, 2)[0]], 1)
    for ours, theirs in zip(*(all_of_it(learner, s, Z) for s in (state, whole)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("first, further", [(1, 1), (5, 3), (5, 14), (19, 3), (30, 4)])
@pytest.mark.parametrize("older", [False, True])
def test_further_rows_join_those_that_are_kept_in_either_form(first, further, older):
    """Directions, the matrix that they become where rows are many, and that of older versions."""
    learner = learned_prior(40)
    one, two = some_rows(first, 0), some_rows(further, 1)
    state = learner.train(older).adapt_features(*one)
    learner.eval()
    state = learner.take_in_features(state, *two)
    both = [torch.cat(parts, 1) for parts in zip(one, two, strict=True)]
    whole = learner.train().adapt_features(*both)
    learner.eval()
    few = 2 * (first + further) < 41
    assert ("directions" in state) == (few and not older) and "coef" in state
    Z = torch.cat([both[0], some_rows(7, 2)[0]], 1)
    for ours, theirs in zip(*(all_of_it(learner, s, Z) for s in (state, whole)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_rows_without_weight_leave_all_as_it_was():
    learner, (Z, y, w) = learned_prior(40), some_rows(4, 0)
    state = learner.adapt_features(Z, y, w)
    again = learner.take_in_features(state, Z, y, torch.zeros_like(w))
    for ours, theirs in zip(*(all_of_it(learner, s, Z) for s in (state, again)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
