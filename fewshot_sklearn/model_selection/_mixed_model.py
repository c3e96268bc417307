"""A mixed model with random slopes: what tasks have in common, how they differ, and the noise.

N. M. Laird and J. H. Ware. Random-effects models for longitudinal data. Biometrics 38,
1982. (EM for restricted maximum likelihood)

C. R. Henderson. Best linear unbiased estimation and prediction under a selection
model. Biometrics 31, 1975.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: EM stops here at the latest, or where no variance changes by this share any more.
MAX_STEPS, TOLERANCE = 300, 1e-3
#: Tasks that the variances are learned from, drawn where there are more.
MAX_TASKS = 1000
#: Least variance, as a share of that of the targets: a share of exactly zero could not grow again.
LEAST = 1e-8


@dataclass(frozen=True)
class MixedModel:
    """y = z'(mean + b_t) + noise, with b_t ~ N(0, factor factor'); z begins with a constant.

    Parameters
    ----------
    mean : ndarray of shape (p, m)
        Weights that tasks have in common, for each of m targets.
    factor : ndarray of shape (p, q)
        Of the covariance of the weights between tasks.
    noise : float
        Variance of the noise.
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
    """Restricted maximum likelihood by EM, of a diagonal covariance between tasks.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, p)
        Rows, a constant first.
    Y : ndarray of shape (n_rows, m)
        Targets; all share the variances.
    task : ndarray of shape (n_rows,)
        Numbers of the tasks.
    rng : Generator
        Draws tasks where there are very many.

    Returns
    -------
    MixedModel
        The model.
    """
    moments = _Moments(Z, Y, task, rng)
    p, m = Z.shape[1], Y.shape[1]
    total = float(np.var(Y, 0).mean()) or 1.0
    variance, noise = np.full(p, 0.1 * total), 0.5 * total
    step = np.zeros((p, m))
    for _ in range(MAX_STEPS):
        before = np.append(variance, noise)
        step, variance, noise = moments.em_step(variance, noise)
        variance, noise = np.maximum(variance, LEAST * total), max(noise, LEAST * total)
        moved = np.abs(np.append(variance, noise) - before)
        if (moved <= TOLERANCE * np.maximum(before, 1e-3 * total)).all():
            break
    return MixedModel(step, np.diag(np.sqrt(variance)), noise)


class _Moments:
    """Sums over the rows of each task, all that EM looks at."""

    def __init__(self, Z: np.ndarray, Y: np.ndarray, task: np.ndarray, rng: np.random.Generator):
        order = np.argsort(task, kind="stable")
        starts = np.flatnonzero(np.diff(task[order], prepend=-1))
        parts = np.split(order, starts[1:])
        if len(parts) > MAX_TASKS:
            parts = [parts[i] for i in rng.permutation(len(parts))[:MAX_TASKS]]
        self.n = sum(map(len, parts))
        self.ZZ = np.stack([Z[part].T @ Z[part] for part in parts])
        self.ZY = np.stack([Z[part].T @ Y[part] for part in parts])
        self.YY = float(sum(np.square(Y[part]).sum() for part in parts))

    def em_step(self, variance: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray, float]:
        """The mean at these variances, and the next variances (Laird and Ware 1982, section 4)."""
        p, m = self.ZY.shape[1:]
        # of b_t given the mean; symmetric inverses stay defined where a variance is tiny
        root = np.sqrt(variance)
        inner = root[:, None] * self.ZZ * root / noise + np.eye(p)
        C = root[:, None] * np.linalg.inv(inner) * root
        shrunk = C @ self.ZZ / noise
        left = np.eye(p) - shrunk
        W = self.ZZ @ left / noise
        information = W.sum(0)
        # columns may depend on each other, as those of one category do
        information = information + 1e-6 * (np.trace(information) / p + 1e-300) * np.eye(p)
        mean_cov = np.linalg.inv(information)
        mean = mean_cov @ (left.mT @ self.ZY).sum(0) / noise
        b = C @ (self.ZY - self.ZZ @ mean) / noise
        spread = np.einsum("tii->ti", C) + np.einsum("tij,jk,tik->ti", shrunk, mean_cov, shrunk)
        both = C + left @ mean_cov @ left.mT
        w = mean + b
        misfit = self.YY - 2 * (w * self.ZY).sum() + (w * (self.ZZ @ w)).sum()
        new_noise = (misfit / m + (self.ZZ * both).sum()) / self.n
        return mean, (np.square(b).mean(-1) + spread).mean(0), float(new_noise)
