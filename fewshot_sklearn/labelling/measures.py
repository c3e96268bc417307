"""How uncertain an estimator is of rows without a label.

B. Settles. Active learning literature survey. University of Wisconsin-Madison, 2009.

N. Houlsby, F. Huszár, Z. Ghahramani and M. Lengyel. Bayesian active learning for
classification and preference learning. arXiv:1112.5745, 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import xlogy
from sklearn.base import is_classifier, is_regressor
from sklearn.utils import check_random_state

from ..tasks import OneOf, Seed, Whole, check_arguments, check_rows, n_rows
from ._by_features import last_step
from ._posterior import bootstrap_predictions, noise_variance, takes

CLASSIFICATION = ("entropy", "margin", "least_confident")
MEASURES = (*CLASSIFICATION, "bald", "variance")
#: What the arguments may be that choosing rows has too.
DRAWING = {"n_draws": Whole(2), "random_state": Seed()}
_ARGUMENTS = {"measure": OneOf(*MEASURES), **DRAWING}


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
    check_arguments(_ARGUMENTS, measure=measure, n_draws=n_draws, random_state=random_state)
    check_measure(estimator, measure)
    check_rows(X_pool)
    rng = generator(random_state)
    estimator, X_pool, X = last_step(estimator, X_pool, X)
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
    draws = bootstrap_draws(estimator, X_pool, X, y, measure, n_draws, rng)
    if is_classifier(estimator):
        # rounding may leave a little less than nothing
        known = _of_probabilities(draws, "entropy").mean(0)
        return np.maximum(_of_probabilities(draws.mean(0), "entropy") - known, 0)
    return draws.var(0).sum(1)


def check_measure(estimator: Any, measure: str) -> None:
    """Raise a ValueError where a measure is for another kind of estimator."""
    kinds = (is_classifier(estimator), is_regressor(estimator))
    if (measure in CLASSIFICATION and not kinds[0]) or (measure == "variance" and not kinds[1]):
        other = "a classifier; take 'variance' or 'bald'" if kinds[1] else "a regressor"
        raise ValueError(f"{measure!r} needs {other}, got {type(estimator).__name__}.")


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
    if not takes(estimator, "return_std"):
        return None
    std = np.asarray(estimator.predict(X_pool, return_std=True)[1], dtype=np.float64)
    return std.reshape(len(std), -1)


def bootstrap_draws(
    estimator: Any, X_pool: Any, X: Any, y: Any, measure: str, n_draws: int, rng: Any
) -> np.ndarray:
    """Predictions (n_draws, n_pool, n_outputs) of the bootstrap's draws, if rows are given."""
    if X is None or y is None or not n_rows(X):
        raise ValueError(
            f"{measure!r} refits {type(estimator).__name__} on the labelled rows: pass them as X "
            "and y."
        )
    return bootstrap_predictions(estimator, X, y, X_pool, n_draws, rng)


def generator(random_state: Any) -> np.random.Generator:
    """A generator that is seeded by what scikit-learn takes for a seed."""
    return np.random.default_rng(check_random_state(random_state).randint(2**31))
