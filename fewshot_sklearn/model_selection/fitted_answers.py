"""What one fitted estimator answers, whichever kind it is: logits, means, features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..estimators import (
    adapts_in_batches,
    as_final_sees,
    fitted_to_labels,
    logits_of,
    predicts,
)
from ..tasks import taken
from .answers import Answers


def fitted_answers(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    known: np.ndarray,
    codes: np.ndarray | None,
    asked: np.ndarray,
    asked_codes: np.ndarray | None,
) -> Answers:
    """Outputs for the rows `asked` of a clone that is fitted on the rows `known`."""
    with warnings.catch_warnings():  # of a few rows much does not converge
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = fitted_to_labels(estimator, taken(X, known), y[known])
    episode = np.zeros(len(asked), dtype=int)
    if codes is None or asked_codes is None:
        mean, std = means_of(fitted, taken(X, asked))
        return Answers(mean, std, y.reshape(len(y), -1)[asked].astype(np.float64), episode, asked)
    # columns in the order of the episode's codes, which is not that of the sorted labels
    numbers, first = np.unique(codes, return_index=True)
    logits = logits_of(fitted, taken(X, asked))
    out = np.full((len(asked), numbers[-1] + 1), -np.inf)
    out[:, numbers] = logits[:, np.searchsorted(fitted.classes_, y[known[first]])]
    return Answers(out, None, asked_codes, episode, asked)


def means_of(fitted: Any, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions (n_rows, n_outputs) of a fitted regressor, and their deviations where it has any.

    Parameters
    ----------
    fitted : estimator
        A fitted regressor.
    X : array-like of shape (n_rows, ...)
        Rows.

    Returns
    -------
    mean, std : ndarray of shape (n_rows, n_outputs), ndarray of that shape or None
        The predictions.
    """
    if not predicts(fitted, "return_std"):
        mean = np.asarray(fitted.predict(X), dtype=np.float64)
        return mean.reshape(len(mean), -1), None
    mean, std = (np.asarray(a, dtype=np.float64) for a in fitted.predict(X, return_std=True))
    mean, std = mean.reshape(len(mean), -1), std.reshape(len(std), -1)
    # where all deviations of one output underflow, there still is something to divide by
    return mean, np.broadcast_to(np.maximum(std, np.finfo(np.float64).tiny), mean.shape)


def features_of(estimator: Any, X: Any) -> np.ndarray | None:
    """Features (n_rows, n_features) of any rows, as `EpisodeAnswers.features` has them."""
    if adapts_in_batches(estimator):
        estimator, X = as_final_sees(estimator, X)
        return estimator.embed(X).astype(np.float64)
    return plain_features(X)


def plain_features(X: Any) -> np.ndarray | None:
    """Rows as numbers (n_rows, n_features); None where they are not numbers."""
    try:
        Z = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return Z.reshape(len(Z), -1) if Z.ndim > 1 and np.isfinite(Z).all() else None
