"""Rows chosen by where they lie among others, in the features that an estimator sees.

O. Sener and S. Savarese. Active learning for convolutional neural networks: a core-set
approach. ICLR 2018.

G. Hacohen, A. Dekel and D. Weinshall. Active learning on a budget: opposite strategies
suit high and low budgets. ICML 2022.

F. Zhdanov. Diverse mini-batch active learning. arXiv:1901.05954, 2019.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

from ..tasks import n_rows

#: Neighbours that a row's typicality is measured by, at most (Hacohen 2022).
NEIGHBOURS = 20
#: Clusters from which on they are found by mini-batches, as its authors' code does.
MANY_CLUSTERS = 50
#: Rows whose distances to all of a pool are held at once.
AT_ONCE = 256


def features(estimator: Any, X: Any) -> np.ndarray:
    """What an estimator sees of rows: the features of its encoder, or else the rows themselves.

    Parameters
    ----------
    estimator : estimator
        With or without ``embed``; or a pipeline.
    X : array-like of shape (n_rows, ...)
        Rows.

    Returns
    -------
    ndarray of shape (n_rows, n_features)
        Features.
    """
    estimator, X, _ = last_step(estimator, X, None)
    Z = estimator.embed(X) if hasattr(estimator, "embed") else X
    Z = check_array(Z, accept_sparse="csr", dtype=[np.float64, np.float32], allow_nd=True)
    return Z.toarray() if hasattr(Z, "toarray") else Z.reshape(len(Z), -1)


def last_step(estimator: Any, X_pool: Any, X: Any) -> tuple[Any, Any, Any]:
    """The last step of a pipeline and the rows as that sees them; anything else as it is."""
    while isinstance(estimator, Pipeline):
        before, estimator = estimator[:-1], estimator.steps[-1][1]
        if len(before):
            X_pool = before.transform(X_pool)
            X = X if X is None or not n_rows(X) else before.transform(X)
    return estimator, X_pool, X


def centred(Z: np.ndarray, *more: np.ndarray) -> list[np.ndarray]:
    """Features in float64 less the mean of the first: far from zero, differences drown."""
    mean = Z.mean(0, dtype=np.float64)
    return [rows.astype(np.float64) - mean for rows in (Z, *more)]


def coreset(Z: np.ndarray, known: np.ndarray, n: int) -> np.ndarray:
    """Greedily the row farthest from all known and chosen ones (Sener 2018, algorithm 1)."""
    chosen: list[int] = []
    if len(known):
        nearest = _to_nearest(Z, known)
    else:
        chosen.append(int(_to_nearest(Z, Z.mean(0, keepdims=True)).argmin()))
        nearest = _to_nearest(Z, Z[chosen])
    while len(chosen) < n:
        nearest[chosen] = -np.inf  # copies of a row are chosen only when nothing else is left
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _to_nearest(Z, Z[chosen[-1:]]))
    return np.array(chosen)


def _to_nearest(Z: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each row to the nearest of others, from differences: exact far from zero too."""
    parts = (others[i : i + AT_ONCE] for i in range(0, len(others), AT_ONCE))
    return np.min([cdist(Z, part).min(1) for part in parts], axis=0)


def typiclust(Z: np.ndarray, known: np.ndarray, n: int, rng: Any) -> np.ndarray:
    """The most typical row of each of the largest clusters without a label (Hacohen 2022)."""
    everyone = np.concatenate([known, Z])
    k = min(len(known) + n, len(np.unique(everyone, axis=0)))
    means = KMeans if k <= MANY_CLUSTERS else MiniBatchKMeans
    codes = means(k, n_init=1, random_state=seed(rng)).fit_predict(everyone)
    labels = np.bincount(codes[: len(known)], minlength=k)
    codes = codes[len(known) :]
    free = np.ones(len(Z), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < n:
        # fewest labels first, and of those the largest
        sizes = np.bincount(codes[free], minlength=k)
        order = np.lexsort((-np.bincount(codes, minlength=k), labels))
        cluster = next(c for c in order if sizes[c])
        rows = np.flatnonzero(codes == cluster)
        typical = np.where(free[rows], _typicality(Z[rows]), -np.inf)
        row = int(rows[typical.argmax()])
        chosen.append(row)
        free[row] = False
        labels[cluster] += 1
    return np.array(chosen)


def _typicality(Z: np.ndarray) -> np.ndarray:
    """Minus the mean distance to the nearest rows of a cluster: the order of typicality."""
    if len(Z) == 1:
        return np.zeros(1)
    k = min(NEIGHBOURS, max(len(Z) // 2, 1))
    return -NearestNeighbors(n_neighbors=k).fit(centred(Z)[0]).kneighbors()[0].mean(1)


def spread_out(Z: np.ndarray, scores: np.ndarray, n: int, rng: Any) -> np.ndarray:
    """The row nearest to each centre of weighted k-means (Zhdanov 2019), most uncertain first."""
    most = scores.max()
    weights = np.maximum(scores / most, 1e-6) if most > 0 else np.ones(len(scores))
    k = min(n, len(np.unique(Z, axis=0)))
    means = KMeans(k, n_init=3, random_state=seed(rng)).fit(Z, sample_weight=weights)
    distances = cdist(Z, means.cluster_centers_)
    chosen: list[int] = []
    for centre in range(k):
        distances[chosen] = np.inf
        chosen.append(int(distances[:, centre].argmin()))
    chosen += np.setdiff1d(np.arange(len(Z)), chosen)[: n - k].tolist()
    return np.array(sorted(chosen, key=lambda i: -scores[i]))


def seed(rng: np.random.Generator) -> int:
    """A seed as scikit-learn takes it, drawn from a generator."""
    return int(rng.integers(2**31))
