"""What a fitted strategy answers: targets, or probabilities of classes, of whatever kind it is."""

from __future__ import annotations

from typing import Any

import numpy as np


def probabilities(strategy: Any, X: Any, classes: np.ndarray) -> np.ndarray:
    """Class probabilities (n_rows, n_classes) of any fitted classifier.

    Parameters
    ----------
    strategy : estimator
        One without probabilities counts with the softmax of its decision function, or else is sure
        of its predictions.
    X : array-like of shape (n_rows, ...)
        Rows.
    classes : ndarray of shape (n_classes,)
        Labels of the columns, sorted; the strategy's are among them.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
        Probabilities.
    """
    if hasattr(strategy, "predict_proba"):
        try:
            return _in_columns(strategy.predict_proba(X), strategy.classes_, classes)
        except ValueError:  # NearestCentroid has them, but not of one row a class
            return _sure(strategy.predict(X), classes)
    if hasattr(strategy, "decision_function"):
        logits = np.asarray(strategy.decision_function(X), dtype=float)
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], 1)
        if logits.shape[1] == len(strategy.classes_):  # not one for each pair of classes
            odds = np.exp(logits - logits.max(1, keepdims=True))
            return _in_columns(odds / odds.sum(1, keepdims=True), strategy.classes_, classes)
    return _sure(strategy.predict(X), classes)


def _in_columns(proba: np.ndarray, own: np.ndarray, classes: np.ndarray) -> np.ndarray:
    out = np.zeros((len(proba), len(classes)))
    out[:, np.searchsorted(classes, own)] = proba
    return out


def _sure(predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return (np.asarray(predicted)[:, None] == classes).astype(float)


def errors(strategy: Any, X: Any, y: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """What a fitted strategy is off by: of targets, or of memberships in classes.

    Parameters
    ----------
    strategy : estimator
        A fitted one.
    X, y : array-like of shape (n_rows, ...)
        Rows and the truth.
    classes : ndarray or None
        Labels of the task; None for a regression.

    Returns
    -------
    ndarray of shape (n_rows, n_classes or n_outputs)
        Answers less the truth.
    """
    if classes is None:
        truth = y.reshape(len(y), -1).astype(np.float64)
        return np.asarray(strategy.predict(X), dtype=np.float64).reshape(truth.shape) - truth
    return probabilities(strategy, X, classes) - (np.asarray(y)[:, None] == classes)
