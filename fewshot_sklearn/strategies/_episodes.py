"""One episode: how each strategy does on it, what it looks like."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..estimators import final_step, fitted_to_labels, fitted_to_nothing, known_classes
from ._answers import errors
from ._task_features import task_features


class Episode(NamedTuple):
    """How each strategy did on one episode.

    Parameters
    ----------
    scores : list of float
        NaN where it failed.
    told : list of str
        What it said then.
    products : ndarray of shape (n_strategies, n_strategies) or None
        Mean products of their errors, zero where one failed; None where they were not asked for.
    features : dict of str to float or None
        Of the task.
    """

    scores: list[float]
    told: list[str]
    products: np.ndarray | None
    features: dict[str, float] | None


def tried(
    scored: list[tuple[Any, Any]], X: Any, y: Any, X_query: Any, y_query: Any, kind: str,
    described: bool, stacked: bool,
) -> Episode:  # fmt: skip
    """Try each strategy on one episode.

    Parameters
    ----------
    scored : list of (estimator, scorer)
        The strategies.
    X, y, X_query, y_query : array-like
        The episode. Of no support rows strategies answer with their `fit_prior`.
    kind : {"classifier", "regressor"}
        What they are.
    described, stacked : bool
        Whether to look at features of the task, and at products of errors.

    Returns
    -------
    Episode
        How each did.
    """
    scores, told, off = [], [], []
    classes = _classes(scored, np.asarray(y)) if kind == "classifier" else None
    with warnings.catch_warnings():
        # of a few rows much is undefined; a strategy that suffers from it scores low
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for strategy, scorer in scored:
            score, error, answers = np.nan, "", None
            try:
                known = len(y) > 0
                fitted = fitted_to_labels(strategy, X, y) if known else fitted_to_nothing(strategy)
                score = float(scorer(fitted, X_query, y_query))
                if stacked:
                    answers = errors(fitted, X_query, y_query, classes)
            except Exception as raised:  # whatever it is, that strategy is no good here
                score, answers = np.nan, None
                error = f"{type(raised).__name__}: {str(raised).strip().partition(chr(10))[0]}"
            scores.append(score)
            told.append(error or ("" if np.isfinite(score) else f"a score of {score}"))
            off.append(answers)
    features = task_features(X, y, kind) if described else None
    return Episode(scores, told, _products(off) if stacked else None, features)


def _classes(scored: list[tuple[Any, Any]], y: np.ndarray) -> np.ndarray:
    """Those of the rows, and those that strategies know without a row."""
    found = np.unique(y)
    for strategy, _ in scored:
        known = known_classes(final_step(strategy), y)
        found = found if known is None else np.union1d(found, known)
    return found


def _products(off: list[np.ndarray | None]) -> np.ndarray:
    """Mean products, over the queries, of the errors of each two strategies."""
    shape = next((one.shape for one in off if one is not None), (1, 1))
    fine = [one if one is not None and np.isfinite(one).all() else np.zeros(shape) for one in off]
    flat = np.stack([one.ravel() for one in fine])
    return flat @ flat.T / shape[0]
