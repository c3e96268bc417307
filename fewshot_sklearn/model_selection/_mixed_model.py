"""A mixed model with random slopes: what tasks have in common, how they differ, and the noise.

N. M. Laird and J. H. Ware. Random-effects models for longitudinal data. Biometrics 38,
1982.

C. R. Henderson. Best linear unbiased estimation and prediction under a selection
model. Biometrics 31, 1975.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..learners import task_prior

#: Tasks that the variances are learned from, drawn where there are more.
MAX_TASKS = 300


@dataclass(frozen=True)
class MixedModel:
    """y = z'(mean + b_t) + noise, with b_t ~ N(0, factor factor'); z begins with a constant.

    Parameters
    ----------
    mean : ndarray of shape (p, m)
        Weights that tasks have in common, for each of m targets.
    factor : ndarray of shape (p, q)
        Of the covariance of a new task's weights: of how tasks vary, and of how uncertain
        the mean is.
    noise : float
        Variance of the noise, a mean over the targets.
    """

    mean: np.ndarray
    factor: np.ndarray
    noise: float

    def weights(self, Z: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Best linear predictions (p, m) of a task's weights, from its rows (n, p) and (n, m)."""
        return self.mean + self.effects(Z, Y - Z @ self.mean)

    def effects(self, Z: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        """Best linear predictions (..., p, m) of b_t; rows (..., n, p) of zeros count for nothing.

        With U = Z factor it is factor U' (U U' + noise I)^-1 residuals, computed in the smaller
        of the two dimensions.
        """
        U = Z @ self.factor
        n, q = U.shape[-2:]
        if n < q:
            pull = U.mT @ np.linalg.solve(U @ U.mT + self.noise * np.eye(n), residuals)
        else:
            pull = np.linalg.solve(U.mT @ U + self.noise * np.eye(q), U.mT @ residuals)
        return self.factor @ pull


def with_constant(Z: np.ndarray) -> np.ndarray:
    """Rows with a column of ones before all others."""
    return np.concatenate([np.ones((*Z.shape[:-1], 1)), Z], -1)


def fit_mixed_model(
    Z: np.ndarray, Y: np.ndarray, task: np.ndarray, rng: np.random.Generator
) -> MixedModel:
    """Restricted maximum likelihood; what varies between tasks is chosen, see `task_prior`.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, p)
        Rows, a constant first.
    Y : ndarray of shape (n_rows, m)
        Targets; all share the covariance, in units of their noise.
    task : ndarray of shape (n_rows,)
        Numbers of the tasks.
    rng : Generator
        Draws tasks where there are very many.

    Returns
    -------
    MixedModel
        The model.
    """
    if len(Z) < 2:  # tells nothing of how rows or tasks differ
        mean = np.zeros((Z.shape[1], Y.shape[1]))
        mean[0] = Y.mean(0)
        return MixedModel(mean, np.eye(Z.shape[1]), 1.0)
    known = np.unique(task)
    if len(known) > MAX_TASKS:
        some = np.isin(task, rng.permutation(known)[:MAX_TASKS])
        Z, Y, task = Z[some], Y[some], task[some]
    prior = task_prior(np.roll(Z, -1, 1), Y, task)
    # predictions of b_t depend on its covariance in units of the noise only, which targets share
    noise = float(prior.noise_variance.mean())
    mean, factor = (np.roll(A.numpy(), 1, 0) for A in (prior.mean, prior.factor))
    return MixedModel(mean, noise**0.5 * factor, noise)
