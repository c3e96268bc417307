"""What a classifier says of rows that it has not seen, and how sure it may be of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

#: Standard deviation of the logarithm of the temperature before any row is seen.
SPREAD = 0.5


def folds_of(codes: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold of each row, drawn so that each class is spread over all; -1 stays in all trainings.

    Parameters
    ----------
    codes : ndarray of shape (n_rows,), int
        Classes, numbered.
    n_folds : int
        How many folds.
    rng : numpy.random.Generator
        What is drawn from.

    Returns
    -------
    ndarray of shape (n_rows,), int
        From 0 to n_folds - 1, or -1 for the only row of a class.
    """
    fold = np.full(len(codes), -1)
    for code in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == code))
        if len(rows) > 1:
            # small classes do not all begin with the same fold
            fold[rows] = (np.arange(len(rows)) + rng.integers(n_folds)) % n_folds
    return fold


def unseen_scores(
    fold: np.ndarray, n_classes: int, scores: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Scores of each row by a classifier of the rows of other folds.

    Parameters
    ----------
    fold : ndarray of shape (n_rows,), int
        Of `folds_of`.
    n_classes : int
        Number of classes.
    scores : callable
        ``(seen, asked) -> ndarray of shape (n_asked, n_classes)``, both as row numbers.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
        NaN for rows that are in all trainings.
    """
    found = np.full((len(fold), n_classes), np.nan)
    for k in np.unique(fold[fold >= 0]):
        asked = fold == k
        found[asked] = scores(np.flatnonzero(~asked), np.flatnonzero(asked))
    return found


def likeliest_temperature(
    logp: np.ndarray, codes: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """The temperature under which unseen rows are most likely, and their loss with it.

    Unlike that of many rows it has a prior about one: ten rows that are all told right would
    else have classifiers that are sure of everything.

    Parameters
    ----------
    logp : ndarray of shape (n_rows, n_classes)
        Logarithms of probabilities of unseen rows; rows of NaN do not count.
    codes : ndarray of shape (n_rows,), int
        True classes.
    weights : ndarray of shape (n_rows,)
        Weights.

    Returns
    -------
    temperature : float
        One where no row counts.
    loss : float
        Mean negative log-likelihood at the temperature; infinite where no row counts.
    """
    counted = ~np.isnan(logp).any(1)
    logp, codes, weights = logp[counted], codes[counted], weights[counted]
    if not len(logp):
        return 1.0, np.inf

    def loss(log_temperature: float) -> float:
        told = log_softmax(logp / np.exp(log_temperature), axis=1)
        return -float(weights @ np.take_along_axis(told, codes[:, None], 1)[:, 0])

    best = minimize_scalar(
        lambda t: loss(t) + 0.5 * (t / SPREAD) ** 2, bounds=(-4, 4), method="bounded"
    ).x
    return float(np.exp(best)), float(loss(best) / weights.sum())
