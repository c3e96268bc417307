"""Conformal prediction whose calibration points come in tasks.

Y. Lee, R. F. Barber and R. Willett. Distribution-free inference with hierarchical
data. arXiv 2306.06342, 2023.

A. Fisch, T. Schuster, T. Jaakkola and R. Barzilay. Few-shot conformal prediction with
auxiliary tasks. ICML 2021.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

#: Steps of the distribution function that are kept: quantiles at multiples of 1/2000 are exact.
STEPS = 2000
#: What sums of shares may fall short of a round level by.
ROUNDING = 1e-12


class TaskQuantiles(NamedTuple):
    """Distribution of a score over past tasks, for statements about one more task.

    K exchangeable tasks and a new one: each past task's n_k scores share the mass
    1 / (K + 1) evenly, and the new task's own share lies at infinity [1]_. The
    quantile of that distribution at level 1 - alpha is at least a score of the new
    task with probability 1 - alpha, however few or many scores each task has.

    Parameters
    ----------
    values : ndarray of shape (n_steps,)
        Scores in ascending order, thinned to at most 2,001.
    mass : ndarray of shape (n_steps,)
        Mass of the scores up to and including each.
    n_tasks : int
        Number K of past tasks.

    References
    ----------
    .. [1] Y. Lee, R. F. Barber and R. Willett, "Distribution-free inference with
       hierarchical data", arXiv 2306.06342, 2023, section 3 (hierarchical conformal
       prediction).

    Examples
    --------
    >>> from fewshot_sklearn.trust._conformal import TaskQuantiles
    >>> known = TaskQuantiles.from_scores([1.0, 2.0, 3.0, 9.0], ["a", "a", "b", "c"])
    >>> known.quantile(0.5), known.quantile(0.75), known.quantile(0.9)
    (3.0, 9.0, inf)
    >>> known.p_value(10.0)
    0.25
    """

    values: np.ndarray
    mass: np.ndarray
    n_tasks: int

    @classmethod
    def from_scores(cls, scores: Any, tasks: Any) -> TaskQuantiles:
        """Sum up scores and the tasks they are from.

        Parameters
        ----------
        scores : array-like of shape (n_scores,)
            Scores; infinite ones are never reached by a quantile.
        tasks : array-like of shape (n_scores,)
            Past task of each.

        Returns
        -------
        TaskQuantiles
            Their distribution.

        Raises
        ------
        ValueError
            When there is no score, or one is NaN.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if not len(scores) or np.isnan(scores).any():
            raise ValueError("scores must be at least one number, none of them NaN.")
        _, task, sizes = np.unique(np.asarray(tasks), return_inverse=True, return_counts=True)
        order = np.argsort(scores, kind="stable")
        share = 1 / ((len(sizes) + 1) * sizes[task[order]])
        mass, values = np.cumsum(share), scores[order]
        last = np.append(values[1:] != values[:-1], True)  # of equal scores, all their mass
        values, mass = values[last], mass[last]
        step = np.floor((mass + ROUNDING) * STEPS)
        kept = np.append(True, step[1:] > step[:-1])
        return cls(values[kept], mass[kept], len(sizes))

    def quantile(self, level: float) -> float:
        """The smallest score that at least this share of the mass does not exceed.

        Parameters
        ----------
        level : float
            Share of the mass, between 0 and 1.

        Returns
        -------
        float
            Infinity where the past tasks are too few to promise the level: above
            K / (K + 1).
        """
        place = int(np.searchsorted(self.mass, level - ROUNDING))
        return float(self.values[place]) if place < len(self.values) else float("inf")

    def p_value(self, score: float) -> float:
        """Mass of the scores at least as large, the new task's own share included.

        Parameters
        ----------
        score : float
            Score of the new task.

        Returns
        -------
        float
            At least 1 / (K + 1). At most a, with probability at most a, for a task
            exchangeable with the past ones.
        """
        place = int(np.searchsorted(self.values, score))
        return float(1 - self.mass[place - 1]) if place else 1.0


def check_coverage(coverage: Any, name: str = "coverage") -> float:
    """The level as a float, or a ValueError that names it."""
    if not isinstance(coverage, int | float | np.number) or not 0 < coverage < 1:
        raise ValueError(f"{name} must be a number between 0 and 1, both excluded; got {coverage}.")
    return float(coverage)


def class_scores(log_proba: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How little each row's true class was expected: 1 - p (Sadinle, Lei and Wasserman 2019).

    Parameters
    ----------
    log_proba : ndarray of shape (n_rows, n_classes)
        Logarithms of class probabilities.
    truth : ndarray of shape (n_rows,)
        Column of the true class; negative where no column is.

    Returns
    -------
    ndarray of shape (n_rows,)
        Scores in [0, 1]; infinity where no set of the known classes can hold the truth.
    """
    known = truth >= 0
    expected = np.take_along_axis(log_proba, np.where(known, truth, 0)[:, None], 1)[:, 0]
    return np.where(known, -np.expm1(expected), np.inf)


def class_sets(log_proba: np.ndarray, quantile: float, allow_empty: bool) -> np.ndarray:
    """Classes whose score is within the quantile: a boolean (n_rows, n_classes)."""
    if np.isposinf(quantile):
        return np.ones(log_proba.shape, dtype=bool)
    sets = -np.expm1(log_proba) <= quantile
    if not allow_empty and len(sets):
        sets[np.arange(len(sets)), log_proba.argmax(1)] = True
    return sets


def intervals(mean: np.ndarray, std: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Means minus and plus the quantiles times the standard deviations, on a new last axis."""
    half = quantiles * std
    return np.stack([mean - half, mean + half], -1)
