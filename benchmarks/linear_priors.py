"""Past tasks as a table, priors of linear models that are learned from it, and intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from fewshot_sklearn.learners import task_prior


class Table(NamedTuple):
    """Rows of tasks."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray

    def of(self, rows: np.ndarray) -> Table:
        return Table(*(part[rows] for part in self))


class Weights(NamedTuple):
    """A prior of the weights of the features as they are, and of an intercept."""

    mean: np.ndarray
    #: In units of the noise.
    covariance: np.ndarray


def standardised(X: np.ndarray, past: np.ndarray) -> np.ndarray:
    scale = past.std(0)
    return with_intercept((X - past.mean(0)) / np.where(scale > 0, scale, 1))


def with_intercept(X: np.ndarray) -> np.ndarray:
    return np.hstack([X, np.ones((len(X), 1))])


def pooled(past: Table) -> Weights:
    """One regression for all tasks, which labels do not change."""
    Phi = standardised(past.X, past.X)
    return Weights(np.linalg.lstsq(Phi, past.y, rcond=None)[0], np.zeros((Phi.shape[1],) * 2))


def ridge(past: Table) -> Weights:
    """Ridge regression of a task's rows; what it shrinks to is that of past targets."""
    p = past.X.shape[1] + 1
    spread = np.diag(np.r_[np.ones(p - 1), 1e6])
    return Weights(np.r_[np.zeros(p - 1), past.y.mean()], spread)


def closed_form(structure: str, mean: str) -> Callable[[Table], Weights]:
    def learn(past: Table) -> Weights:
        Phi = standardised(past.X, past.X)
        prior = task_prior(Phi, past.y, past.groups, structure=structure, mean=mean)
        return Weights(prior.mean[:, 0].numpy(), (prior.factor @ prior.factor.T).numpy())

    return learn


def interval(values: np.ndarray) -> str:
    """A mean and half of its 95% interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.3f} ± {half:.3f}"
