"""Which unlabelled rows of a task to have labelled next.

B. Settles. Active learning literature survey. University of Wisconsin-Madison, 2009.

N. Houlsby, F. Huszár, Z. Ghahramani and M. Lengyel. Bayesian active learning for
classification and preference learning. arXiv:1112.5745, 2011.

O. Sener and S. Savarese. Active learning for convolutional neural networks: a core-set
approach. ICLR 2018.

G. Hacohen, A. Dekel and D. Weinshall. Active learning on a budget: opposite strategies
suit high and low budgets. ICML 2022.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.base import is_classifier, is_regressor
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import NotFittedError
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from ..estimators import PRIOR
from ..tasks import n_rows
from ._posterior import bootstrap_predictions, noise_variance, predictive_covariance

CLASSIFICATION = ("entropy", "margin", "least_confident")
MEASURES = (*CLASSIFICATION, "bald", "variance")
STRATEGIES = ("auto", *MEASURES, "coreset", "typiclust", "random")
#: Neighbours that a row's typicality is measured by, at most (Hacohen 2022).
NEIGHBOURS = 20
#: Labels a class below which other classes may well be undiscovered.
FEW_LABELS = 2
#: Clusters from which on they are found by mini-batches, as its authors' code does.
MANY_CLUSTERS = 50
#: Uncertain rows that a batch is chosen among, in batches (the beta of Zhdanov 2019).
PREFILTER = 10
#: Rows whose covariance is computed, at most; the most uncertain.
COVARIANCE_ROWS = 1000


def uncertainty(
    estimator: Any,
    X_pool: Any,
    measure: str = "entropy",
    *,
    X: Any = None,
    y: Any = None,
    n_draws: int = 50,
    random_state: Any = None,
) -> np.ndarray:
    """How uncertain an estimator is of each row: the larger, the more.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier with ``predict_proba``, or fitted regressor; of this
        package or any other.
    X_pool : array-like of shape (n_pool, ...)
        Unlabelled rows.
    measure : {"entropy", "margin", "least_confident", "bald", "variance"}, default="entropy"
        With class probabilities p, largest first:

        - ``"entropy"``: -sum_k p_k log p_k, in nats (section 3.1 of [1]_);
        - ``"margin"``: 1 - (p_1 - p_2), from 0 (sure) to 1;
        - ``"least_confident"``: 1 - p_1.

        For both kinds, ``"bald"``: mutual information between a row's label and
        the model, in nats (eq. 2 of [2]_). It is 1/2 sum log(1 + v_k / s_k) over
        targets of epistemic variance v and noise variance s where the posterior
        is Gaussian (`RidgeHeadRegressor`, `DeepKernelRegressor`). For other
        classifiers it is H[mean_b p_b] - mean_b H[p_b] over draws b from the
        Bayesian bootstrap posterior [3]_, which needs X and y; for other
        regressors the variance of the draws' means, in squared target units.

        For regressors, ``"variance"``: the square of the predictive standard
        deviation, summed over targets; where ``predict`` returns none, the
        variance of the bootstrap's means.
    X : array-like of shape (n_rows, ...) or None, default=None
        The labelled rows; needed where the bootstrap is.
    y : array-like of shape (n_rows,) or None, default=None
        Their labels or targets.
    n_draws : int, default=50
        Draws of the bootstrap.
    random_state : int, RandomState instance or None, default=None
        Seeds the bootstrap.

    Returns
    -------
    ndarray of shape (n_pool,)
        Uncertainty of each row, float64, at least zero.

    Raises
    ------
    ValueError
        When the measure is not for this kind of estimator, or the bootstrap
        lacks X and y.

    See Also
    --------
    select_queries : Chooses rows by it.

    References
    ----------
    .. [1] B. Settles, "Active learning literature survey", 2009.
    .. [2] N. Houlsby, F. Huszár, Z. Ghahramani and M. Lengyel, "Bayesian active
       learning for classification and preference learning", arXiv:1112.5745, 2011.
    .. [3] D. B. Rubin, "The Bayesian bootstrap", Annals of Statistics 9, 1981.

    Examples
    --------
    >>> from fewshot_sklearn import ProtoNetClassifier, uncertainty
    >>> clf = ProtoNetClassifier().fit([[0.], [2.]], ["a", "b"])
    >>> uncertainty(clf, [[0.], [1.], [2.]], "margin").round(2)
    array([0.04, 1.  , 0.04])
    """
    _check_measure(estimator, measure)
    rng = _generator(random_state)
    estimator, X_pool, X = _last_step(estimator, X_pool, X)
    if measure in CLASSIFICATION:
        return _of_probabilities(_probabilities(estimator, X_pool), measure)
    if measure == "variance":
        std = _predictive_std(estimator, X_pool)
        if std is not None:
            return np.square(std).sum(1)
    elif (noise := noise_variance(estimator)) is not None:
        std = _predictive_std(estimator, X_pool)
        assert std is not None
        return 0.5 * np.log(np.maximum(np.square(std) / noise, 1)).sum(1)
    draws = _draws(estimator, X_pool, X, y, measure, n_draws, rng)
    if is_classifier(estimator):
        # rounding may leave a little less than nothing
        known = _of_probabilities(draws, "entropy").mean(0)
        return np.maximum(_of_probabilities(draws.mean(0), "entropy") - known, 0)
    return draws.var(0).sum(1)


def select_queries(
    estimator: Any,
    X_pool: Any,
    n: int = 1,
    *,
    strategy: str = "auto",
    X: Any = None,
    y: Any = None,
    n_draws: int = 50,
    random_state: Any = None,
) -> np.ndarray:
    """Choose the rows of a pool that are to be labelled next.

    Parameters
    ----------
    estimator : estimator
        Classifier or regressor, of this package or any other; fitted, for the
        strategies that ask what it is unsure of. ``"coreset"`` and
        ``"typiclust"`` look at features only: those of ``embed``, which a
        meta-init gives without a fit, of the last step of a pipeline, or else
        the columns of the rows.
    X_pool : array-like of shape (n_pool, ...)
        Unlabelled rows.
    n : int, default=1
        Rows to choose, at most n_pool.
    strategy : str, default="auto"
        - ``"entropy"``, ``"margin"``, ``"least_confident"``, ``"bald"``,
          ``"variance"``: the most uncertain rows; see `uncertainty`.
        - ``"coreset"``: k-center greedy (algorithm 1 of [1]_), the row farthest
          from all labelled and chosen ones; without any, first the row nearest
          to the pool's mean.
        - ``"typiclust"`` [2]_: k-means of labelled rows and pool into as many
          clusters as there will be labels; of the largest clusters without a
          label, the row whose nearest neighbours are nearest.
        - ``"random"``: any.
        - ``"auto"``: by our measurements (see the guide), ``"variance"`` for a
          fitted regressor that predicts it; ``"margin"`` for a fitted
          classifier, from two labels a class seen, or where X is not passed;
          ``"typiclust"`` for all else.
    X : array-like of shape (n_rows, ...) or None, default=None
        The labelled rows so far: ``"coreset"`` and ``"typiclust"`` keep away
        from them, and the bootstrap refits on them.
    y : array-like of shape (n_rows,) or None, default=None
        Their labels or targets; only the bootstrap needs them.
    n_draws : int, default=50
        Draws of the bootstrap.
    random_state : int, RandomState instance or None, default=None
        Seeds k-means, the bootstrap, and the choice among equals.

    Returns
    -------
    ndarray of shape (n,)
        Distinct row numbers of X_pool, best first.

    Raises
    ------
    ValueError
        When n or the strategy do not fit the pool or the estimator.

    See Also
    --------
    uncertainty : The scores alone.

    Notes
    -----
    Several rows at once should not be alike. Uncertain rows are therefore
    chosen as follows. For regressors whose posterior covariance is known (by
    ``predict(return_cov=True)``, in closed form, or from the bootstrap's
    draws): greedily, each choice conditions the variance of the others, which
    depends on no label; at most the 1,000 most uncertain rows take part. For
    all others: the 10 n most uncertain rows are clustered into n by k-means of
    their features, weighted by uncertainty, and the row nearest to each centre
    is taken [3]_; BatchBALD, which knows better, is too dear.

    Without labels the clusters of ``"typiclust"`` may be small, so that, unlike
    in [2]_, none is passed over for its size.

    References
    ----------
    .. [1] O. Sener and S. Savarese, "Active learning for convolutional neural
       networks: a core-set approach", ICLR 2018.
    .. [2] G. Hacohen, A. Dekel and D. Weinshall, "Active learning on a budget: opposite
       strategies suit high and low budgets", ICML 2022.
    .. [3] F. Zhdanov, "Diverse mini-batch active learning", arXiv:1901.05954, 2019.

    Examples
    --------
    >>> from fewshot_sklearn import ProtoNetClassifier, RidgeHeadRegressor, select_queries
    >>> clf = ProtoNetClassifier().fit([[0.], [2.]], ["a", "b"])
    >>> select_queries(clf, [[0.], [1.2], [2.]], strategy="margin")
    array([1])

    Two rows for a line through one: the far end, and then the other.

    >>> reg = RidgeHeadRegressor().fit([[0.]], [1.])
    >>> select_queries(reg, [[-2.], [-1.], [0.], [2.8], [3.]], 2)
    array([4, 0])
    """
    n_pool = n_rows(X_pool)
    if not isinstance(n, int | np.integer) or not 1 <= n <= n_pool:
        raise ValueError(f"n must be an int from 1 to the {n_pool} rows of X_pool, got {n!r}.")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {list(STRATEGIES)}, got {strategy!r}.")
    rng = _generator(random_state)
    if strategy == "random":
        return rng.choice(n_pool, n, replace=False)
    estimator, X_pool, X = _last_step(estimator, X_pool, X)
    if strategy == "auto":
        strategy = _best_strategy(estimator, X)
    if strategy in ("coreset", "typiclust"):
        Z = features(estimator, X_pool)
        known = features(estimator, X) if X is not None and n_rows(X) else Z[:0]
        if known.shape[1] != Z.shape[1]:
            raise ValueError(f"X has {known.shape[1]} features, but X_pool has {Z.shape[1]}.")
        return _coreset(Z, known, n) if strategy == "coreset" else _typiclust(Z, known, n, rng)
    _check_measure(estimator, strategy)
    if n > 1 and is_regressor(estimator):
        chosen = _conditioned(estimator, X_pool, n, strategy, X, y, n_draws, rng)
        if chosen is not None:
            return chosen
    scores = uncertainty(
        estimator, X_pool, strategy, X=X, y=y, n_draws=n_draws, random_state=_seed(rng)
    )
    order = _decreasing(scores, rng)
    if n == 1:
        return order[:1]
    candidates = order[: PREFILTER * n]
    Z = features(estimator, X_pool)[candidates]
    return candidates[_spread(Z, scores[candidates], n, rng)]


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
    estimator, X, _ = _last_step(estimator, X, None)
    Z = estimator.embed(X) if hasattr(estimator, "embed") else X
    Z = check_array(Z, accept_sparse="csr", dtype=[np.float64, np.float32], allow_nd=True)
    return Z.toarray() if hasattr(Z, "toarray") else Z.reshape(len(Z), -1)


def _last_step(estimator: Any, X_pool: Any, X: Any) -> tuple[Any, Any, Any]:
    """The last step of a pipeline and the rows as that sees them; anything else as it is."""
    while isinstance(estimator, Pipeline):
        before, estimator = estimator[:-1], estimator.steps[-1][1]
        if len(before):
            X_pool = before.transform(X_pool)
            X = X if X is None or not n_rows(X) else before.transform(X)
    return estimator, X_pool, X


# -------------------------------------------------------------------- what is uncertain
def _check_measure(estimator: Any, measure: str) -> None:
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {list(MEASURES)}, got {measure!r}.")
    kinds = (is_classifier(estimator), is_regressor(estimator))
    if (measure in CLASSIFICATION and not kinds[0]) or (measure == "variance" and not kinds[1]):
        other = "a classifier; take 'variance' or 'bald'" if kinds[1] else "a regressor"
        raise ValueError(f"{measure!r} needs {other}, got {type(estimator).__name__}.")


def _best_strategy(estimator: Any, X: Any) -> str:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return "typiclust"
    if is_regressor(estimator):
        return "variance" if _takes(estimator, "return_std") else "typiclust"
    if not hasattr(estimator, "predict_proba") or PRIOR in getattr(estimator, "state_", {}):
        return "typiclust"
    few = X is not None and n_rows(X) < FEW_LABELS * len(estimator.classes_)
    return "typiclust" if few else "margin"


def _probabilities(estimator: Any, X_pool: Any) -> np.ndarray:
    if not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"{type(estimator).__name__} has no predict_proba, so what it is unsure of is not "
            "known. Take strategy 'typiclust' or 'coreset', or calibrate it by "
            "sklearn.calibration.CalibratedClassifierCV."
        )
    return np.asarray(estimator.predict_proba(X_pool), dtype=np.float64)


def _of_probabilities(p: np.ndarray, measure: str) -> np.ndarray:
    """Uncertainty of class probabilities (..., n_classes)."""
    if measure == "entropy":
        return np.maximum(-xlogy(p, p).sum(-1), 0)
    first = p.max(-1)
    if measure == "least_confident":
        return 1 - first
    second = np.partition(p, -2)[..., -2] if p.shape[-1] > 1 else np.zeros_like(first)
    return 1 - (first - second)


def _predictive_std(estimator: Any, X_pool: Any) -> np.ndarray | None:
    """Standard deviation (n_pool, n_outputs), of regressors that predict one."""
    if not _takes(estimator, "return_std"):
        return None
    std = np.asarray(estimator.predict(X_pool, return_std=True)[1], dtype=np.float64)
    return std.reshape(len(std), -1)


def _draws(
    estimator: Any, X_pool: Any, X: Any, y: Any, measure: str, n_draws: int, rng: Any
) -> np.ndarray:
    if X is None or y is None or not n_rows(X):
        raise ValueError(
            f"{measure!r} refits {type(estimator).__name__} on the labelled rows: pass them as X "
            "and y."
        )
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws!r}.")
    return bootstrap_predictions(estimator, X, y, X_pool, n_draws, rng)


# -------------------------------------------------------------------- several at once
def _conditioned(
    estimator: Any, X_pool: Any, n: int, strategy: str, X: Any, y: Any, n_draws: int, rng: Any
) -> np.ndarray | None:
    """Greedily the row of the largest variance given those chosen; None without a covariance.

    That is the order of the mutual information too, where the noise is the same for all rows.
    """
    closed = noise_variance(estimator) is not None or _takes(estimator, "return_cov")
    if closed:
        scores = uncertainty(estimator, X_pool, "variance")
        rows = _decreasing(scores, rng)[: max(COVARIANCE_ROWS, PREFILTER * n)]
        covariance = predictive_covariance(estimator, _rows_of(X_pool, rows))
        assert covariance is not None
    elif strategy == "bald" or not _takes(estimator, "return_std"):
        draws = _draws(estimator, X_pool, X, y, strategy, n_draws, rng)
        rows = _decreasing(draws.var(0).sum(1), rng)[: max(COVARIANCE_ROWS, PREFILTER * n)]
        off = (draws - draws.mean(0))[:, rows].transpose(2, 1, 0)
        covariance = off @ off.transpose(0, 2, 1) / len(draws)
    else:
        return None
    return rows[_most_variance(covariance, n)]


def _most_variance(covariance: np.ndarray, n: int) -> np.ndarray:
    """Pivoted Cholesky of covariances (n_outputs, n_rows, n_rows): the first n pivots."""
    covariance = covariance.astype(np.float64)
    chosen: list[int] = []
    for _ in range(n):
        variance = np.diagonal(covariance, axis1=1, axis2=2)
        total = variance.sum(0)
        total[chosen] = -np.inf
        i = int(total.argmax())
        chosen.append(i)
        column = covariance[:, :, i]
        scale = np.maximum(variance[:, i], np.finfo(float).tiny)
        covariance = covariance - column[:, :, None] * (column / scale[:, None])[:, None, :]
    return np.array(chosen)


def _spread(Z: np.ndarray, scores: np.ndarray, n: int, rng: Any) -> np.ndarray:
    """The row nearest to each centre of weighted k-means (Zhdanov 2019), most uncertain first."""
    weights = np.maximum(scores, max(1e-6 * scores.max(), np.finfo(float).tiny))
    k = min(n, len(np.unique(Z, axis=0)))
    means = KMeans(k, n_init=3, random_state=_seed(rng)).fit(Z, sample_weight=weights)
    distances = pairwise_distances(Z, means.cluster_centers_)
    chosen: list[int] = []
    for centre in range(k):
        distances[chosen] = np.inf
        chosen.append(int(distances[:, centre].argmin()))
    chosen += np.setdiff1d(np.arange(len(Z)), chosen)[: n - k].tolist()
    return np.array(sorted(chosen, key=lambda i: -scores[i]))


# -------------------------------------------------------------------- without the model
def _coreset(Z: np.ndarray, known: np.ndarray, n: int) -> np.ndarray:
    chosen: list[int] = []
    if len(known):
        nearest = pairwise_distances(Z, known).min(1)
    else:
        chosen.append(int(pairwise_distances(Z, Z.mean(0, keepdims=True)).argmin()))
        nearest = pairwise_distances(Z, Z[chosen])[:, 0]
    while len(chosen) < n:
        nearest[chosen] = -np.inf  # copies of a row are chosen only when nothing else is left
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, pairwise_distances(Z, Z[chosen[-1:]])[:, 0])
    return np.array(chosen)


def _typiclust(Z: np.ndarray, known: np.ndarray, n: int, rng: Any) -> np.ndarray:
    everyone = np.concatenate([known, Z])
    k = min(len(known) + n, len(np.unique(everyone, axis=0)))
    means = KMeans if k <= MANY_CLUSTERS else MiniBatchKMeans
    codes = means(k, n_init=1, random_state=_seed(rng)).fit_predict(everyone)
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
    return -NearestNeighbors(n_neighbors=k).fit(Z).kneighbors()[0].mean(1)


def _takes(estimator: Any, option: str) -> bool:
    predict = getattr(estimator, "predict", None)
    return predict is not None and option in inspect.signature(predict).parameters


def _rows_of(X: Any, rows: np.ndarray) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else np.asarray(X)[rows]


def _generator(random_state: Any) -> np.random.Generator:
    return np.random.default_rng(check_random_state(random_state).randint(2**31))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _decreasing(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Row numbers by score, largest first, equals in random order."""
    return np.lexsort((rng.random(len(scores)), -scores))
