"""The mixture of Gaussians that the weights of past tasks are most likely of.

A. P. Dempster, N. M. Laird and D. B. Rubin. Maximum likelihood from incomplete data via the EM
algorithm. JRSS B 39 (1977).

Weights are not seen, but rows of each task are: the E-step is the posterior of a task's weights for
each Gaussian, and of which it was; the M-step takes moments of these. All Gaussians have one
covariance, so that a task has one posterior covariance, and hundreds of Gaussians cost little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from ..learners import is_over

#: Variance that a direction gives the targets of a task, all rows together, in units of the
#: noise's, below which it tells next to nothing; and directions, at most, that tell more.
LEAST_VARIANCE, MOST_DIRECTIONS = 0.5, 128
#: Variances to choose from for directions that tell next to nothing, as a share of what it was.
SHARES_LEFT = (1.0, 0.3, 0.1, 0.03, 0.01)
#: Past tasks for each Gaussian, at least.
TASKS_OF_EACH = 8
#: Rounds of EM at most, and the gain in log-likelihood a task below which it ends.
ROUNDS, LITTLE = 200, 1e-5
#: The same of one Gaussian, for the noise: the change of its logarithm below which it ends.
NOISE_ROUNDS, STILL = 100, 1e-3
#: Numbers that a round holds at most, which bounds the tasks that are looked at.
MOST_NUMBERS = 5_000_000


@dataclass(frozen=True)
class MixturePrior:
    """Weights v ~ N(means_k, factor factor') with probability shares_k."""

    #: (n_components, p, n_outputs).
    means: np.ndarray
    #: (p, p).
    factor: np.ndarray
    #: (n_components,).
    shares: np.ndarray
    #: (n_outputs,), standard deviations in units of the noise that was known before.
    noise: np.ndarray
    #: Log-likelihood a task, but for a constant, after each round.
    loglik: list[float]


def mixture_prior(
    psi: np.ndarray, targets: np.ndarray, tasks: np.ndarray, n_components: int
) -> MixturePrior | None:
    """Fit a mixture, and the noise, to past tasks by maximum likelihood.

    Parameters
    ----------
    psi : ndarray of shape (n, p)
        Features, scaled so that the weights are N(0, 1) under the prior that was known before.
        Directions of which rows tell next to nothing keep it, or a share of that variance.
    targets : ndarray of shape (n, n_outputs)
        In units of the noise's standard deviation, as far as that was known. `means` and `factor`
        of what is returned are in units of the noise that was found.
    tasks : ndarray of int of shape (n,)
        Which task each row is of.
    n_components : int
        Number of Gaussians.

    Returns
    -------
    MixturePrior or None
        None where there is one task alone, or rows tell of no or very many directions. With few
        tasks several Gaussians are the same one.
    """
    names, codes = np.unique(tasks, return_inverse=True)
    if len(names) < 2:
        return None
    order = np.random.default_rng(0).permutation(len(names))
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    rows = [rows[i] for i in order]
    few = rows[: max(1, MOST_NUMBERS // psi.shape[1] ** 2)]
    noise = _noise(psi, targets, few)
    # weights are those that they were, in units of the noise that was found
    usual = float(np.sqrt(np.square(noise).mean()))
    psi, targets = psi / usual, targets / noise
    values, vectors = np.linalg.eigh(psi.T @ psi / len(names))
    told = values > LEAST_VARIANCE
    known, rest = vectors[:, told], vectors[:, ~told]
    (_, q), m = known.shape, targets.shape[1]
    if not 0 < q <= MOST_DIRECTIONS:
        return None
    fewer = max(1, min(n_components, len(names) // TASKS_OF_EACH))
    most = max(fewer, MOST_NUMBERS // (q * max(q, fewer * m)))
    A, b = _sums(psi @ known, targets, rows[:most])
    means, cov, shares, loglik = _fitted(A, b, fewer)
    # the same mixture, of more Gaussians
    again = np.arange(n_components) % fewer
    means, shares = means[again], (shares / np.bincount(again))[again]
    left = _share_left(*_sums(psi @ vectors, targets, few), told)
    inside = known @ np.linalg.cholesky(cov) @ known.T + left**0.5 * rest @ rest.T
    return MixturePrior(known @ means / usual, inside / usual, shares, noise, loglik)


def _noise(psi: np.ndarray, targets: np.ndarray, rows: list[np.ndarray]) -> np.ndarray:
    """The noise (n_outputs,) that is likeliest with one Gaussian, in units of what was known.

    Descent, if it was short, has not found it; and what tasks vary in is judged by it.
    """
    A, b = _sums(psi, targets, rows)
    squares = np.stack([np.square(targets[own]).sum(0) for own in rows]).sum(0)
    n, T, (_, p, m) = sum(map(len, rows)), len(rows), b.shape
    variance, mean, cov = np.ones(m), np.zeros((p, m)), np.eye(p)
    for _ in range(NOISE_ROUNDS):
        spread = np.linalg.inv(A + np.linalg.inv(cov))
        weights = mean + spread @ (b / np.sqrt(variance) - A @ mean)
        # of each output in units of its own noise
        missed = squares / variance - 2 * (weights * b).sum((0, 1)) / np.sqrt(variance)
        missed = missed + (weights * (A @ weights)).sum((0, 1)) + np.einsum("tij,tji->", A, spread)
        change = np.maximum(missed / n, np.finfo(float).eps)
        mean = weights.mean(0)
        off = weights - mean
        cov = np.einsum("tim,tjm->ij", off / change, off) / (T * m)
        cov = cov + spread.mean(0) * (1 / change).mean()
        cov = (cov + cov.T) / 2 + np.finfo(float).eps * np.trace(cov) * np.eye(p)
        mean, variance = mean / np.sqrt(change), variance * change
        if is_over() or np.abs(np.log(change)).max() < STILL:
            break
    return np.sqrt(variance)


def _sums(
    psi: np.ndarray, targets: np.ndarray, rows: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """psi' psi (T, q, q) and psi' targets (T, q, n_outputs) of tasks that have these rows."""
    parts = [(psi[own], targets[own]) for own in rows]
    return np.stack([p.T @ p for p, _ in parts]), np.stack([p.T @ t for p, t in parts])


def _share_left(A: np.ndarray, b: np.ndarray, told: np.ndarray) -> float:
    """The variance, of SHARES_LEFT, of directions not told, that makes past tasks most likely.

    All directions are Gaussian for that, those that are told with the variance that was known.
    """
    likely = []
    for share in SHARES_LEFT:
        variance = np.where(told, 1.0, share)
        spread = np.linalg.inv(A + np.diag(1 / variance))
        volume = np.linalg.slogdet(spread)[1] - np.log(variance).sum()
        likely.append((b * (spread @ b)).sum((1, 2)) + b.shape[2] * volume)
    return SHARES_LEFT[int(np.argmax(np.mean(likely, 1)))]


def _fitted(
    A: np.ndarray, b: np.ndarray, n_components: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
    """Means, covariance and shares of most likelihood, found from a fit to tasks' own weights."""
    T, q, m = b.shape
    spread = np.linalg.inv(A + np.eye(q))
    own = (spread @ b).reshape(T, q * m)
    start = GaussianMixture(n_components, covariance_type="tied", random_state=0).fit(own)
    shares, means = start.weights_, start.means_.reshape(n_components, q, m)
    # of the weights of all outputs together; theirs have one covariance
    blocks = start.covariances_.reshape(q, m, q, m)
    cov = np.einsum("ijkj->ik", blocks) / m + spread.mean(0)
    loglik: list[float] = []
    for _ in range(ROUNDS):
        spread = np.linalg.inv(A + np.linalg.inv(cov))
        beside = means.transpose(1, 0, 2).reshape(q, -1)
        seen = A @ beside
        left = np.tile(b, n_components) - seen
        shift = spread @ left
        explained = np.tile(b, n_components) * beside - 0.5 * beside * seen + 0.5 * left * shift
        logs = explained.sum(1).reshape(T, n_components, m).sum(-1) + np.log(shares)
        total = logsumexp(logs, axis=1)
        volume = np.linalg.slogdet(spread)[1] - np.linalg.slogdet(cov)[1]
        loglik.append(float((total + 0.5 * m * volume).mean()))
        if is_over() or (len(loglik) > 1 and loglik[-1] - loglik[-2] < LITTLE):
            break
        part = np.exp(logs - total[:, None])
        counts = part.sum(0)
        weights = (beside + shift).reshape(T, q, n_components, m)
        sums = np.einsum("tk,tqkm->kqm", part, weights)
        # as if one more task were of each Gaussian, at its mean, so that none is lost
        means = (sums + means) / (counts + 1)[:, None, None]
        shares = (counts + 1) / (T + n_components)
        off = weights - means.transpose(1, 0, 2)
        heavy = (part[:, None, :, None] * off).transpose(1, 0, 2, 3).reshape(q, -1)
        cov = heavy @ off.transpose(1, 0, 2, 3).reshape(q, -1).T / (T * m) + spread.mean(0)
        cov = (cov + cov.T) / 2
    return means, cov, shares, loglik
