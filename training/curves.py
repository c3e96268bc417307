"""Measure regressors on new tasks of one-dimensional curves, beside what is best possible.

The sinusoids of C. Finn, P. Abbeel and S. Levine, Model-agnostic meta-learning, ICML 2017;
the harmonics of A. Lacoste et al., Uncertainty in multitask transfer learning, 2018.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from fewshot_sklearn import TaskwiseRegressor
from fewshot_sklearn.datasets import make_harmonic_tasks, make_sinusoid_tasks

SHOTS = (5, 10, 20)
N_TASKS = 1000
N_QUERY = 50
#: Two-sided normal quantile of a 90 % interval.
NORMAL_90 = 1.6449
#: Phases of sin(x + phase), as published, and of sin(x - phase), as in the authors' code.
PLUS, MINUS, BOTH_SIGNS = (0.0, np.pi), (-np.pi, 0.0), (-np.pi, np.pi)
MAKERS: dict[str, Any] = {
    "sinusoids": make_sinusoid_tasks,
    "sinusoids of minus the phase": partial(make_sinusoid_tasks, phase=MINUS),
    "harmonics": make_harmonic_tasks,
}


def curve_tasks(kind: str, n_shot: int, noise: float) -> tuple[np.ndarray, ...]:
    """Draw the tasks that figures are of.

    Parameters
    ----------
    kind : str
        Which curves, one of MAKERS.
    n_shot : int
        Support rows a task.
    noise : float
        Standard deviation of the noise on y.

    Returns
    -------
    X, y, X_query, y_query, truth : ndarray with a leading axis of tasks
        Support rows and targets; queries, their targets with noise and without.
    """
    noisy, clean = (
        MAKERS[kind](n_shot=n_shot, n_query=N_QUERY, noise=level) for level in (noise, 0.0)
    )
    # the noise is drawn last, so that the same seed gives the same curve
    X, y, X_query, y_query, _ = noisy.batch(np.random.default_rng(2024), N_TASKS)
    truth = clean.batch(np.random.default_rng(2024), N_TASKS)[3]
    return X, y, X_query, y_query, truth


def measure_curves(estimator: Any, kind: str = "sinusoids", noise: float = 0.0) -> Iterator[dict]:
    """Mean squared error against the noiseless curves, and how often 90 % intervals cover.

    Parameters
    ----------
    estimator : regressor
        A meta-trained one, or any of scikit-learn's.
    kind : str, default="sinusoids"
        Which curves, one of MAKERS.
    noise : float, default=0.0
        Standard deviation of the noise on y; above zero, coverage of noisy targets is
        measured too.

    Yields
    ------
    dict
        ``task``, ``score``, ``mean``, ``ci95``, ``episodes`` of each figure; for the error
        also ``worst``, that of the worst task.
    """
    for n_shot in SHOTS:
        X, y, X_query, y_query, truth = curve_tasks(kind, n_shot, noise)
        tasks, asked = (np.repeat(np.arange(N_TASKS), n) for n in (n_shot, N_QUERY))
        fitted = TaskwiseRegressor(estimator, unseen="error")
        fitted.fit(X.reshape(-1, 1), y.ravel(), groups=tasks)
        rows = X_query.reshape(-1, 1)
        name = f"{kind}, K={n_shot}" + (f", noise {noise:g}" if noise else "")
        if noise:
            mean, std = fitted.predict(rows, groups=asked, return_std=True)
            covered = np.abs(mean - y_query.ravel()) <= NORMAL_90 * std
            by_task = 100 * covered.reshape(truth.shape).mean(1)
            yield _figure(name, "coverage of 90 % intervals, %", by_task)
        else:
            mean = fitted.predict(rows, groups=asked)
        errors = np.square(mean.reshape(truth.shape) - truth).mean(1)
        yield _figure(name, "MSE", errors) | {"worst": _short(errors.max())}


def measure_sinusoids(estimator: Any, noise: float = 0.0) -> Iterator[dict]:
    """`measure_curves` of the sinusoids as published, then of those of minus the phase.

    Parameters
    ----------
    estimator, noise : see `measure_curves`
        What is measured.

    Yields
    ------
    dict
        The figures.
    """
    for kind in ("sinusoids", "sinusoids of minus the phase"):
        yield from measure_curves(estimator, kind, noise)


def bayes_floor(n_shot: int, noise: float, phase: tuple[float, float] = PLUS) -> float:
    """MSE of the posterior mean of the sinusoid itself, for one who knows how tasks are drawn.

    Parameters
    ----------
    n_shot : int
        Support rows a task.
    noise : float
        Standard deviation of the noise on y.
    phase : (low, high), default=PLUS
        What is known of the phase. The error is that on phases of PLUS; with BOTH_SIGNS, of
        which one is the mirror image of the other, it is the same on both.

    Returns
    -------
    float
        What no method can be better than, on the tasks of `curve_tasks`.
    """
    X, y, X_query, _, truth = curve_tasks("sinusoids", n_shot, noise)
    n = round(250 * (phase[1] - phase[0]) / np.pi)
    amplitude, at = np.meshgrid(np.linspace(0.1, 5.0, 250), np.linspace(*phase, n))
    # A sin(x + p) is linear in (A cos p, A sin p)
    points = np.stack([(amplitude * np.cos(at)).ravel(), (amplitude * np.sin(at)).ravel()])
    errors = []
    for x, target, x_query, right in zip(X, y, X_query, truth, strict=True):
        seen = np.concatenate([np.sin(x), np.cos(x)], 1) @ points
        log_posterior = -np.square(target[:, None] - seen).sum(0) / (2 * noise**2)
        weights = np.exp(log_posterior - log_posterior.max())
        centre = points @ weights / weights.sum()
        asked = np.concatenate([np.sin(x_query), np.cos(x_query)], 1) @ centre
        errors.append(np.square(asked - right).mean())
    return float(np.mean(errors))


def _figure(task: str, score: str, values: np.ndarray) -> dict[str, Any]:
    ci95 = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return {
        "task": task,
        "score": score,
        "mean": _short(values.mean()),
        "ci95": _short(ci95),
        "episodes": len(values),
    }


def _short(value: float) -> float:
    return float(f"{value:.3g}")
