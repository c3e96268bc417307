"""Statistics of labelled rows: as loops compute them; no row is both labelled and predicted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from fewshot_sklearn.model_selection._feature_space import FeatureSpace
from fewshot_sklearn.model_selection._mixed_model import MixedModel, fit_mixed_model
from fewshot_sklearn.model_selection._statistics_examples import N_QUERY, draw, examples
from fewshot_sklearn.model_selection._task_statistics import (
    KERNEL_NOISE,
    WIDTHS,
    Labelled,
    TaskStatistics,
)


@pytest.fixture(scope="module")
def past():
    """(X, Y, task): ragged tasks, one of them of a single row, two targets."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(30), np.r_[1, rng.integers(3, 15, 29)])
    X = rng.normal([0, 5, -1], [1, 10, 0.1], (len(task), 3))
    Y = X @ rng.normal(size=(3, 2)) + rng.normal(size=(30, 2))[task]
    return X, Y + rng.normal(size=Y.shape), task


@pytest.fixture(scope="module")
def statistics(past):
    return TaskStatistics(*past, np.random.default_rng(0))


def one_by_one(statistics, Z, Y, R, z):
    """The statistics of a query z by loops over the labelled rows."""
    n, m = len(Z), Y.shape[1]
    mean_R = R.mean(0) if n else np.zeros(m)
    told = {
        "count": [np.log(1 + min(n, 5))],
        "mean target": Y.mean(0) if n else np.zeros(m),
        "deviation of target": Y.std(0) if n else np.zeros(m),
        "mean residual": mean_R,
        "deviation of residual": R.std(0) if n else np.zeros(m),
        "row": z,
    }
    slopes = []
    for j in range(Z.shape[1]):
        for o in range(m):
            top = sum((Z[i, j] - Z[:, j].mean()) * (R[i, o] - mean_R[o]) for i in range(n))
            slopes.append(top / (1 + sum((Z[i, j] - Z[:, j].mean()) ** 2 for i in range(n))))
    told["slope"] = slopes
    away = [np.sqrt(((z - row) ** 2).sum()) / statistics.length for row in Z]
    near = int(np.argmin(away)) if n else None
    told["nearest target"] = Y[near] if n else np.zeros(m)
    told["nearest residual"] = R[near] if n else np.zeros(m)
    told["nearness"] = [1 / (1 + away[near]) if n else 0]
    for width in WIDTHS:
        bell = [np.exp(-((d / width) ** 2) / 2) for d in away]
        K = [
            [1 + np.exp(-((a - b) ** 2).sum() / (statistics.length * width) ** 2 / 2) for b in Z]
            for a in Z
        ]
        told[f"neighbours {width:g}"] = [sum(bell)]
        told[f"kernel {width:g}"] = (
            (1 + np.array(bell)) @ np.linalg.solve(np.array(K) + KERNEL_NOISE * np.eye(n), R)
            if n
            else np.zeros(m)
        )
    mixed, full = statistics.mixed, np.c_[np.ones(n), Z]
    D = mixed.factor @ mixed.factor.T
    V = full @ D @ full.T + mixed.noise * np.eye(n)
    b = mixed.mean + D @ full.T @ np.linalg.solve(V, R - full @ mixed.mean)
    told["effect"] = np.r_[1, z] @ b
    return told


@pytest.mark.parametrize("sizes", [(0, 1, 2, 7), (0,), (7,)])
def test_statistics_are_what_loops_give(statistics, sizes):
    rng = np.random.default_rng(1)
    width = max(sizes)
    Z, Y, R = (rng.normal(size=(len(sizes), width, c)) for c in (3, 2, 2))
    w = (np.arange(width) < np.array(sizes)[:, None]).astype(float)
    queries, base = rng.normal(size=(len(sizes), 4, 3)), rng.normal(size=(len(sizes), 4, 2))
    told = statistics.columns(Labelled(Z, Y, R, w), queries, base, 5)
    for i, n in enumerate(sizes):
        for q in range(4):
            loops = one_by_one(statistics, Z[i, :n], Y[i, :n], R[i, :n], queries[i, q])
            assert set(told) == {*loops, "base"}
            for name, value in loops.items():
                np.testing.assert_allclose(told[name][i, q], value, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(told["base"], base)


def test_statistics_of_classes_are_their_shares_and_means(past):
    X, _, task = past
    rng = np.random.default_rng(0)
    members = np.eye(3)[rng.integers(0, 3, len(X))]
    statistics = TaskStatistics(X, members, task, rng, classes=True)
    known = statistics.labelled(X[:6], members[:6])
    Z = statistics.space(X[6:9])[None]
    told = statistics.columns(known, Z, statistics.base(Z), 20)
    for c in range(3):
        of = members[:6, c] == 1
        np.testing.assert_allclose(told["mean target"][0, :, c], of.mean())
        center = known.Z[0, of].mean(0) if of.any() else None
        far = None if center is None else np.linalg.norm(Z[0] - center, axis=1) / statistics.length
        near = np.zeros(3) if far is None else 1 / (1 + far)
        np.testing.assert_allclose(told["class nearness"][0, :, c], near)


def test_what_a_regression_leaves_of_a_row_is_of_one_without_its_task(past):
    X, Y, task = past
    changed = Y.copy()
    changed[task == 7] += 100.0
    left, moved = (
        TaskStatistics(X, targets, task, np.random.default_rng(0), classes=True)
        for targets in (Y, changed)
    )
    predicted = [(s.Y - s.R)[task == 7] for s in (left, moved)]
    assert len(predicted[0]) > 2
    # the penalty is chosen by all tasks; with the same penalty the task's own rows have no say
    np.testing.assert_allclose(*(p - p.mean(0) for p in predicted), atol=0.5)
    assert np.abs(predicted[1] - predicted[0]).max() < 5


@pytest.mark.parametrize("codes", [False, True])
def test_no_row_is_labelled_and_predicted_in_one_draw(past, codes):
    _, _, task = past
    kinds = np.random.default_rng(3).integers(0, 3, len(task)) if codes else None
    draws = draw(task, 6, 500, np.random.default_rng(0), kinds)
    sizes = []
    for support, query in zip(*draws, strict=True):
        support, query = support[support >= 0], query[query >= 0]
        sizes.append(len(support))
        assert len(query) and not set(support) & set(query)
        rows = [*support, *query]
        assert len(set(rows)) == len(rows) and len(set(task[rows])) == 1
    assert set(sizes) == set(range(7)) and (draws.query >= 0).sum() == 500
    assert draws.query.shape[1] == N_QUERY
    assert set(task[draws.query[:30, 0]]) == set(range(30))  # tasks take turns
    for one in draws.support if codes else ():  # as even as the task's classes allow
        if one[0] < 0:
            continue
        counts = np.bincount(kinds[one[one >= 0]], minlength=3)
        there = np.bincount(kinds[task == task[one[0]]], minlength=3)
        assert all(counts.max() - c <= 1 or c == t for c, t in zip(counts, there, strict=True))


def test_an_example_does_not_know_its_own_target(past):
    """Another target of a row changes the examples in which it is labelled, not its own."""
    X, Y, task = past
    statistics = TaskStatistics(X, Y, task, np.random.default_rng(0))
    draws = draw(task, 6, 400, np.random.default_rng(0))
    before, _, row = examples(statistics, draws, 6)
    statistics.Y[40] += 5.0
    statistics.R[40] += 5.0
    after, _, _ = examples(statistics, draws, 6)
    np.testing.assert_allclose(before[row == 40], after[row == 40], atol=1e-9)
    assert (row == 40).any() and np.abs(before - after).max() > 0.1


def test_examples_in_parts_are_those_at_once(past, monkeypatch):
    X, Y, task = past
    statistics = TaskStatistics(X, Y, task, np.random.default_rng(0))
    draws = draw(task, 6, 300, np.random.default_rng(0))
    whole = examples(statistics, draws, 6)
    monkeypatch.setattr("fewshot_sklearn.model_selection._statistics_examples.AT_ONCE", 500)
    for a, b in zip(whole, examples(statistics, draws, 6), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_many_features_become_few_columns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 100)) + 7
    space = FeatureSpace(np.c_[X, np.full(200, 3.0)], rng)
    Z = space(np.c_[X, np.full(200, 3.0)])
    assert Z.shape == (200, 64) and np.isfinite(Z).all()
    coef = rng.normal(size=(65, 2))
    weights, intercept = space.of_rows(coef)
    np.testing.assert_allclose(
        np.c_[X, np.full(200, 3.0)] @ weights + intercept, coef[0] + Z @ coef[1:]
    )


# ---------------------------------------------------------------- the mixed model
def restricted_likelihood(covariance, noise, Z, y, task):
    """Minus the REML criterion, from dense matrices."""
    V = noise * np.eye(len(y)) + (task[:, None] == task) * (Z @ covariance @ Z.T)
    inverse = np.linalg.inv(V)
    information = Z.T @ inverse @ Z
    r = y - Z @ np.linalg.solve(information, Z.T @ inverse @ y)
    logdets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    return 0.5 * (logdets + r @ inverse @ r)


def slopes_of_tasks(n_tasks=40, deviations=(1.5, 0.8, 0.0), seed=0):
    """A constant and slopes that vary by an amount of their own."""
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(n_tasks), rng.integers(3, 9, n_tasks))
    p = len(deviations)
    Z = np.c_[np.ones(len(task)), rng.normal(size=(len(task), p - 1))]
    drawn = rng.normal(size=(n_tasks, p))
    if p < n_tasks:  # without the correlations that chance has
        drawn = np.linalg.qr(drawn - drawn.mean(0))[0] * n_tasks**0.5
    b = np.arange(p) + 1.0 + drawn * deviations
    return Z, (Z * b[task]).sum(1) + 0.7 * rng.normal(size=len(task)), task


def test_it_is_about_the_most_likely_by_dense_matrices():
    Z, y, task = slopes_of_tasks()
    found = minimize(
        lambda t: restricted_likelihood(np.diag(np.exp(t[:3])), np.exp(t[3]), Z, y, task),
        np.zeros(4), method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-4, "fatol": 1e-6},
    )  # fmt: skip
    model = fit_mixed_model(Z, y[:, None], task, np.random.default_rng(0))
    covariance = model.factor @ model.factor.T
    # how uncertain the mean is comes on top, about a 40th of the variance
    assert restricted_likelihood(covariance, model.noise, Z, y, task) <= found.fun + 0.2
    np.testing.assert_allclose(covariance, np.diag(np.exp(found.x[:3])), rtol=0.05, atol=0.03)
    np.testing.assert_allclose(model.noise, np.exp(found.x[3]), rtol=0.02)
    V = model.noise * np.eye(len(y)) + (task[:, None] == task) * (Z @ covariance @ Z.T)
    mean = np.linalg.solve(Z.T @ np.linalg.solve(V, Z), Z.T @ np.linalg.solve(V, y))
    np.testing.assert_allclose(model.mean[:, 0], mean, atol=0.05)


def test_slopes_vary_by_amounts_of_their_own_though_tasks_are_few():
    """Fewer tasks than slopes, of which two differ between tasks."""
    deviations = np.r_[1.0, 4.0, 3.0, np.zeros(9)]
    Z, y, task = slopes_of_tasks(9, deviations)
    model = fit_mixed_model(Z, y[:, None], task, np.random.default_rng(0))
    spread = np.sqrt(np.square(model.factor).sum(1))
    assert spread[1:3].min() > 4 * np.median(spread[3:])


def test_targets_share_how_tasks_vary_in_units_of_their_noise():
    Z, y, task = slopes_of_tasks()
    one = fit_mixed_model(Z, y[:, None], task, np.random.default_rng(0))
    two = fit_mixed_model(Z, np.c_[y, 100 * y + 7], task, np.random.default_rng(0))
    expected = one.weights(Z[:4], y[:4, None])[:, 0]
    for column, (scale, shift) in zip(
        two.weights(Z[:4], np.c_[y, 100 * y + 7][:4]).T, [(1, 0), (100, 7)], strict=True
    ):
        np.testing.assert_allclose((column - [shift, 0, 0]) / scale, expected, atol=0.05)


def test_of_very_many_tasks_some_are_drawn(monkeypatch):
    Z, y, task = slopes_of_tasks()
    monkeypatch.setattr("fewshot_sklearn.model_selection._mixed_model.MAX_TASKS", 20)
    some = np.isin(task, np.random.default_rng(3).permutation(40)[:20])
    drawn = fit_mixed_model(Z, y[:, None], task, np.random.default_rng(3))
    alone = fit_mixed_model(Z[some], y[some, None], task[some], np.random.default_rng(3))
    np.testing.assert_array_equal(drawn.mean, alone.mean)


def test_a_past_of_one_row_tells_a_level():
    model = fit_mixed_model(np.array([[1.0, 5.0]]), np.array([[3.0]]), np.zeros(1, int), None)
    assert model.weights(np.empty((0, 2)), np.empty((0, 1))).ravel().tolist() == [3.0, 0.0]


@pytest.mark.parametrize("n", [0, 1, 2, 8])
def test_weights_are_the_posterior_mean(n):
    rng = np.random.default_rng(0)
    model = MixedModel(rng.normal(size=(3, 1)), rng.normal(size=(3, 4)), 0.3)
    Z, y = np.c_[np.ones(n), rng.normal(size=(n, 2))], rng.normal(size=(n, 1))

    def minus_log_posterior(b):
        prior = multivariate_normal(model.mean[:, 0], model.factor @ model.factor.T)
        return -prior.logpdf(b) + np.square(y[:, 0] - Z @ b).sum() / (2 * model.noise)

    best = minimize(minus_log_posterior, model.mean[:, 0], tol=1e-10).x
    np.testing.assert_allclose(model.weights(Z, y)[:, 0], best, atol=1e-4)
