"""What a fitted classifier says of rows, whichever kind it is, as logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from .classifier import FewShotClassifier

#: What counts as the probability of a class that an estimator rules out.
RULED_OUT = 1e-12


def logits_of(fitted: Any, X: Any) -> np.ndarray:
    """Logits (n_rows, n_classes) of a fitted classifier, up to a number for each row.

    Parameters
    ----------
    fitted : estimator
        A fitted classifier.
    X : array-like of shape (n_rows, ...)
        Rows.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
        A learner's own logits; else logarithms of probabilities, none below
        log 1e-12; else the decision function; else what the prediction alone says.
    """
    if isinstance(fitted, FewShotClassifier):
        return fitted._outputs(X).cpu().double().numpy()
    n_classes = len(fitted.classes_)
    if hasattr(fitted, "predict_proba"):
        try:
            return np.log(np.maximum(fitted.predict_proba(X), RULED_OUT))
        except ValueError:  # NearestCentroid has them, but not of one row a class
            pass
    elif hasattr(fitted, "decision_function"):
        scores = np.asarray(fitted.decision_function(X), dtype=np.float64)
        if scores.ndim == 1 and n_classes == 2:
            scores = np.stack([np.zeros_like(scores), scores], 1)
        if scores.shape[1:] == (n_classes,):  # not one for each pair of classes
            return scores
    sure = np.asarray(fitted.predict(X))[:, None] == fitted.classes_
    return np.log(np.where(sure, 1.0, RULED_OUT))
