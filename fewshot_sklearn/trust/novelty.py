"""Rows that belong to none of a task's classes, and tasks that are like none of the past.

W. Liu, X. Wang, J. D. Owens and Y. Li. Energy-based out-of-distribution detection.
NeurIPS 2020.

K. Lee, K. Lee, H. Lee and J. Shin. A simple unified framework for detecting
out-of-distribution samples and adversarial attacks. NeurIPS 2018 (distance to class
means in features).

D. Hendrycks and K. Gimpel. A baseline for detecting misclassified and
out-of-distribution examples in neural networks. ICLR 2017 (maximum probability).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, logsumexp

#: Scores of how much a row is like one of a task's classes, best first.
ROW_SCORES = ("class_mean", "support_row", "energy", "max_probability")
#: Share of the mean variance that is added to that of each feature: some hardly ever vary.
FLOOR = 0.1
#: Past rows that a new support row is compared with.
NEIGHBORS = 5


def within_class_spread(Z: np.ndarray, classes: np.ndarray, *, each: bool) -> np.ndarray:
    """How far rows lie from the mean of their class, learned from classes of past tasks.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_features)
        Features.
    classes : ndarray of shape (n_rows,)
        Class of each row, equal labels of two groups apart; classes of a single
        row tell nothing.
    each : bool
        Whether each feature has a spread of its own, as features in units of their
        own need; else they share one, which keeps the metric of an embedding.

    Returns
    -------
    ndarray of shape (n_features,)
        Pooled standard deviations; ones where nothing varies.
    """
    _, code, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(code, column) / sizes for column in Z.T], 1)
    freedom = max(len(Z) - len(sizes), 1)
    variance = np.square(Z - means[code]).sum(0) / freedom
    mean = variance.mean()
    if not mean > 0:
        return np.ones(Z.shape[1])
    return np.sqrt(variance + FLOOR * mean if each else np.full_like(variance, mean))


def class_distances(Z: np.ndarray, codes: np.ndarray, Z_query: np.ndarray) -> np.ndarray:
    """Euclidean distance (n_query,) from each query to the nearest class mean of the support."""
    members = (codes[:, None] == np.unique(codes)).astype(np.float64)
    means = (members / members.sum(0)).T @ Z
    return cdist(Z_query, means).min(1)


def row_scores(
    name: str,
    logits: np.ndarray,
    Z: np.ndarray | None = None,
    codes: np.ndarray | None = None,
    Z_query: np.ndarray | None = None,
) -> np.ndarray:
    """How much each query is like one of the task's classes: higher is more.

    Parameters
    ----------
    name : {"class_mean", "support_row", "energy", "max_probability"}
        Minus the distance to the nearest class mean [1]_, or to the nearest support
        row; minus the energy, log sum exp(logits) [2]_; or the logarithm of the
        largest probability [3]_.
    logits : ndarray of shape (n_query, n_classes)
        Logits of the queries, over the temperature.
    Z : ndarray of shape (n_support, n_features) or None, default=None
        Features of the support over the within-class spread; only distances need them.
    codes : ndarray of shape (n_support,) or None, default=None
        Class codes of the support rows.
    Z_query : ndarray of shape (n_query, n_features) or None, default=None
        Features of the queries over the within-class spread.

    Returns
    -------
    ndarray of shape (n_query,)
        Scores.

    References
    ----------
    .. [1] K. Lee, K. Lee, H. Lee and J. Shin, "A simple unified framework for detecting
       out-of-distribution samples and adversarial attacks", NeurIPS 2018, eq. 2.
    .. [2] W. Liu, X. Wang, J. D. Owens and Y. Li, "Energy-based out-of-distribution
       detection", NeurIPS 2020, eq. 4.
    .. [3] D. Hendrycks and K. Gimpel, "A baseline for detecting misclassified and
       out-of-distribution examples in neural networks", ICLR 2017.
    """
    if name == "energy":
        return logsumexp(logits, axis=1)
    if name == "max_probability":
        return log_softmax(logits, axis=1).max(1)
    assert Z is not None and codes is not None and Z_query is not None
    if name == "class_mean":
        return -class_distances(Z, codes, Z_query)
    return -cdist(Z_query, Z).min(1)


def task_distance(Z: np.ndarray, past: np.ndarray, other: np.ndarray | None = None) -> float:
    """How far support rows lie from rows of past tasks.

    Parameters
    ----------
    Z : ndarray of shape (n_support, n_features)
        Features of the support rows.
    past : ndarray of shape (n_past, n_features)
        Features of a sample of past rows.
    other : ndarray of shape (n_past,) or None, default=None
        Which past rows to compare with: for a past task, those of other tasks.

    Returns
    -------
    float
        Mean Euclidean distance to the five nearest past rows; NaN without any.
    """
    past = past if other is None else past[other]
    if not len(past) or not len(Z):
        return float("nan")
    distances = cdist(Z, past)
    k = min(NEIGHBORS, len(past))
    return float(np.partition(distances, k - 1, axis=1)[:, :k].mean())
