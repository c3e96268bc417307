"""Several uncertain rows at once, by the covariance of what is not known of them.

Each choice conditions the variance of the others, which takes no labels: for Gaussian
posteriors, in closed form or from the draws of a bootstrap.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..estimators import ProbabilisticRegressor
from ..learners import FunctionLearner
from ..tasks import indexable, taken
from ._posterior import noise_variance, predictive_covariance, takes
from .measures import bootstrap_draws, uncertainty

#: Uncertain rows that take part for each that is chosen, in batches (the beta of Zhdanov 2019).
PREFILTER = 10
#: Rows whose covariance is computed, at most; the most uncertain.
COVARIANCE_ROWS = 1000


def by_covariance(
    estimator: Any, X_pool: Any, n: int, strategy: str, X: Any, y: Any, n_draws: int, rng: Any
) -> np.ndarray | None:
    """Greedily the row of the largest variance given those chosen; None without a covariance.

    That is the order of the mutual information too, where the noise is the same for all rows.
    """
    closed = noise_variance(estimator) is not None or _knows_covariance(estimator)
    if closed:
        scores = uncertainty(estimator, X_pool, "variance")
        rows = decreasing(scores, rng)[: max(COVARIANCE_ROWS, PREFILTER * n)]
        covariance = predictive_covariance(estimator, taken(indexable(X_pool), rows))
        assert covariance is not None
    elif strategy == "bald" or not takes(estimator, "return_std"):
        draws = bootstrap_draws(estimator, X_pool, X, y, strategy, n_draws, rng)
        rows = decreasing(draws.var(0).sum(1), rng)[: max(COVARIANCE_ROWS, PREFILTER * n)]
        off = (draws - draws.mean(0))[:, rows].transpose(2, 1, 0)
        covariance = off @ off.transpose(0, 2, 1) / len(draws)
    else:
        return None
    return rows[_most_variance(covariance, n)]


def _knows_covariance(estimator: Any) -> bool:
    """Whether it says how rows vary together; ours that answer each by itself say nothing of it."""
    ours = isinstance(estimator, ProbabilisticRegressor)
    alone = ours and not issubclass(estimator._learner_class, FunctionLearner)
    return takes(estimator, "return_cov") and not alone


def _most_variance(covariance: np.ndarray, n: int) -> np.ndarray:
    """Pivoted Cholesky of covariances (n_outputs, n_rows, n_rows): the first n pivots."""
    covariance = covariance.astype(np.float64)
    chosen: list[int] = []
    for _ in range(n):
        variance = np.diagonal(covariance, axis1=1, axis2=2)
        total = variance.sum(0)
        total[chosen] = -np.inf
        i = int(total.argmax())
        chosen.append(i)
        column = covariance[:, :, i]
        scale = np.maximum(variance[:, i], np.finfo(float).tiny)
        covariance = covariance - column[:, :, None] * (column / scale[:, None])[:, None, :]
    return np.array(chosen)


def decreasing(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Row numbers by score, largest first, equals in random order."""
    return np.lexsort((rng.random(len(scores)), -scores))
