"""Kernel logistic regression on a few rows, and on many more whose class is not known.

K. Nigam, A. McCallum, S. Thrun and T. Mitchell. Text classification from labeled and unlabeled
documents using EM. Machine Learning 39, 2000.
"""

from __future__ import annotations

import numpy as np

from ..algorithms import KernelLogisticClassifier

#: How often rows without a label are told anew, and learned from.
ROUNDS = 3
#: Smallest probability whose logarithm is taken.
TINY = 1e-30


def fitted_head(
    Z: np.ndarray, codes: np.ndarray, weights: np.ndarray, further: np.ndarray | None = None
) -> KernelLogisticClassifier:
    """A head on rows with a label, and on further ones as far as it can tell them itself.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_features)
        Rows of length one.
    codes : ndarray of shape (n_rows,), int
        Their classes.
    weights : ndarray of shape (n_rows,)
        Their weights.
    further : ndarray of shape (n_further, n_features) or None, default=None
        Rows without a label. Each counts as the probabilities that the head gives it, in
        rounds; together they weigh as much as those with a label, and none more than one of
        these.

    Returns
    -------
    KernelLogisticClassifier
        Whose classes are the codes that occur.
    """
    head = _new().fit(Z, codes, weights)
    if further is None or not len(further) or len(head.classes_) < 2:
        return head
    import pandas as pd  # type: ignore[import-untyped]  # not before it is needed

    classes = head.classes_
    known = (codes[:, None] == classes).astype(np.float64)
    share = weights.mean() * min(1.0, len(Z) / len(further))
    rows = np.concatenate([Z, further])
    all_weights = np.concatenate([weights, np.full(len(further), share)])
    for _ in range(ROUNDS):
        told = head.predict_proba(further).astype(np.float64)
        told /= told.sum(1, keepdims=True)
        table = pd.DataFrame(np.concatenate([known, told]), columns=classes)
        head = _new().fit(rows, table, all_weights)
    return head


def log_probabilities(head: KernelLogisticClassifier, Z: np.ndarray, n_classes: int) -> np.ndarray:
    """Logarithms of probabilities (n_rows, n_classes); of classes unknown to a head, tiny ones."""
    found = np.full((len(Z), n_classes), np.log(TINY))
    found[:, head.classes_] = np.log(np.maximum(head.predict_proba(Z), TINY))
    return found


def _new() -> KernelLogisticClassifier:
    return KernelLogisticClassifier(encoder="residual", lengthscale=1.0, device="cpu")
