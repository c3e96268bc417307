"""Which unlabelled rows of a task to have labelled next.

`measures` has the papers on uncertainty, `_by_features` those on rows that stand for others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ..estimators import PRIOR
from ..tasks import OneOf, Whole, check_arguments, check_rows, n_rows
from ._by_covariance import PREFILTER, by_covariance, decreasing
from ._by_features import centred, coreset, features, last_step, seed, spread_out, typiclust
from ._posterior import takes
from .measures import DRAWING, MEASURES, check_measure, generator, uncertainty

STRATEGIES = ("auto", *MEASURES, "coreset", "typiclust", "random")
#: Labels a class below which other classes may well be undiscovered.
FEW_LABELS = 2
_ARGUMENTS = {"strategy": OneOf(*STRATEGIES), **DRAWING}


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
    check_arguments(_ARGUMENTS, strategy=strategy, n_draws=n_draws, random_state=random_state)
    n_pool = check_rows(X_pool)
    if not Whole(1, n_pool).allows(n):
        raise ValueError(f"n must be an int from 1 to the {n_pool} rows of X_pool, got {n!r}.")
    rng = generator(random_state)
    if strategy == "random":
        return rng.choice(n_pool, n, replace=False)
    estimator, X_pool, X = last_step(estimator, X_pool, X)
    if strategy == "auto":
        strategy = _best_strategy(estimator, X)
    if strategy in ("coreset", "typiclust"):
        Z = features(estimator, X_pool)
        known = features(estimator, X) if X is not None and n_rows(X) else Z[:0]
        if known.shape[1] != Z.shape[1]:
            raise ValueError(f"X has {known.shape[1]} features, but X_pool has {Z.shape[1]}.")
        Z, known = centred(Z, known)
        return coreset(Z, known, n) if strategy == "coreset" else typiclust(Z, known, n, rng)
    check_measure(estimator, strategy)
    if n > 1 and is_regressor(estimator):
        chosen = by_covariance(estimator, X_pool, n, strategy, X, y, n_draws, rng)
        if chosen is not None:
            return chosen
    scores = uncertainty(
        estimator, X_pool, strategy, X=X, y=y, n_draws=n_draws, random_state=seed(rng)
    )
    order = decreasing(scores, rng)
    if n == 1:
        return order[:1]
    candidates = order[: PREFILTER * n]
    Z = centred(features(estimator, X_pool)[candidates])[0]
    return candidates[spread_out(Z, scores[candidates], n, rng)]


def _best_strategy(estimator: Any, X: Any) -> str:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return "typiclust"
    if is_regressor(estimator):
        return "variance" if takes(estimator, "return_std") else "typiclust"
    if not hasattr(estimator, "predict_proba") or PRIOR in getattr(estimator, "state_", {}):
        return "typiclust"
    few = X is not None and n_rows(X) < FEW_LABELS * len(estimator.classes_)
    return "typiclust" if few else "margin"
