"""The linear rival where tasks differ in their slopes too: a mixed model of past and new rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..tasks import Anything, Seed
from ._feature_space import FeatureSpace
from ._mixed_model import MixedModel, fit_mixed_model, with_constant
from ._past_ridge import PastRidge
from ._pooled_base import in_columns
from .past_rows import PastRows
from .pooled import PooledRegressor


class PooledMixedRegressor(PooledRegressor):
    """A mixed model with random intercepts and random slopes, learned from past tasks.

    A task's weights are those that all tasks have in common, plus ones of its
    own: y = x'(b + u_t) + noise, with u_t ~ N(0, D) for each task. b, D and the
    noise are learned from the past by restricted maximum likelihood [1]_; what D
    is, from a variance of the intercept alone to any covariance of standardised
    features, an information criterion chooses. `fit` computes the best linear
    prediction of the new task's weights [2]_.

    Parameters
    ----------
    past : (X, y), (X, y, groups), PastRows or None, default=None
        Past tasks; with ``PastRows`` all clones share what is learned from them
        once. None leaves a ridge regression of the new rows.
    random_state : int, RandomState instance or None, default=0
        Draws a thousand past tasks where there are more, and seeds the principal
        components.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Weights of the new task.
    intercept_ : float or ndarray of shape (n_outputs,)
        Its intercept.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    PooledRegressor : With ``with_task=True`` a mixed model of random intercepts alone.
    PooledStatisticsRegressor : A boosted model that starts from one like this.

    Notes
    -----
    More than 64 features are reduced to as many leading principal components. The
    new task's rows change its own weights, and nothing of what was learned. b is
    given a normal prior, whose variance is learned, too; how uncertain b remains
    counts as more that tasks may differ by.

    References
    ----------
    .. [1] N. M. Laird and J. H. Ware, "Random-effects models for longitudinal data",
       Biometrics 38, 1982.
    .. [2] C. R. Henderson, "Best linear unbiased estimation and prediction under a
       selection model", Biometrics 31, 1975.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn import PooledMixedRegressor
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(400, 1)), np.repeat(np.arange(40), 10)
    >>> slope = 3 + rng.normal(size=40)
    >>> y = slope[groups] * X[:, 0] + 0.1 * rng.normal(size=400)
    >>> reg = PooledMixedRegressor(past=(X, y, groups)).fit([[1.]], [5.])  # a slope of 5
    >>> bool(abs(reg.coef_[0] - 5) < 0.2)
    True
    """

    _constraints = {"past": Anything(), "random_state": Seed()}

    estimator = None

    def __init__(self, *, past: Any = None, random_state: Any = 0):
        self.past = past
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> PooledMixedRegressor:
        """Predict the weights of a new task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows of the new task.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._learn(*self._given(X, y, classify=False))

    def _learn(self, X: np.ndarray, y: np.ndarray) -> PooledMixedRegressor:
        past = self._past_rows(X.shape[1])
        y = self._near(past, X, y)
        targets = in_columns(y)
        if past is None:
            coef, intercept = PastRidge(X, targets).solution(1.0)
        else:
            known = self._targets_of(past, targets)
            key = ("mixed", repr(self.random_state))
            space, models = past._once(key, lambda: self._learned(past, known))
            Z = with_constant(space(X))
            weights = [m.weights(Z, targets[:, [i]]) for i, m in enumerate(models)]
            coef, intercept = space.of_rows(np.hstack(weights))
        self._keep_weights(coef, intercept, y.ndim)
        return self

    def _learned(self, past: PastRows, known: np.ndarray) -> tuple[FeatureSpace, list[MixedModel]]:
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        space = FeatureSpace(past.X, rng)
        Z = with_constant(space(past.X))
        return space, [fit_mixed_model(Z, column[:, None], past.task, rng) for column in known.T]
