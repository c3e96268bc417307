"""Regressors that say how sure they are, by what past tasks taught: any regressor, calibrated.

Y. Lee, R. F. Barber and R. Willett. Distribution-free inference with hierarchical
data. arXiv 2306.06342, 2023.

`TrustLearner` learns the calibration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_consistent_length, column_or_1d, get_tags
from sklearn.utils.validation import validate_data

from ..model_selection import means_of
from ..tasks import Learns, check_parameters, check_rows, number_targets
from ._trusted_fit import FitsAndCompares


class TrustedRegressor(RegressorMixin, FitsAndCompares):
    """Regressor with calibrated deviations, intervals, and a sense for unknown tasks.

    `fit` fits the estimator. What `TrustLearner` learned from past tasks of as many
    shots then says what its answers are worth: standard deviations are scaled, or
    made where the estimator has none; `predict_interval` holds the target with a
    promised probability, from one label on [1]_; `task_p_value_` tells whether the
    task is like the past ones, without which nothing is promised.

    Parameters
    ----------
    estimator : estimator or None, default=None
        Any regressor, meta-trained ones and pipelines included; the one that
        `calibration` is about. None is ``RidgeHeadRegressor()``.
    calibration : TaskCalibration, path or None, default=None
        What past tasks taught, or a file of it. Without any this is the bare
        estimator.
    fallback : estimator or None, default=None
        Regressor that answers in place of `estimator` where a task is unlike the
        past ones, ``task_p_value_ < novelty_level``.
    novelty_level : float, default=0.01
        Share of tasks like the past ones that may be taken for novel. It takes 200
        past tasks for p-values below 0.01 where there are two of them to combine.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    calibration_ : TaskCalibration or None
        What past tasks taught.
    n_shots_ : float
        Number of rows of positive weight.
    task_p_values_ : dict of str to float
        Conformal p-values of the support's distance to past rows (``"distance"``)
        and of its loss when held out (``"loss"``), where they can be known.
    task_p_value_ : float
        Bonferroni's combination, the smaller one times their number; NaN if there
        are none. Below `a` for a share `a` of tasks like the past ones, at most.
    used_fallback_ : bool
        Whether `fallback_` answers.
    fallback_ : estimator
        The fitted fallback, if used.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    TrustLearner : Learns the calibration from past tasks.
    TrustedClassifier : The same for classification.

    Notes
    -----
    The promise of `predict_interval` is about the average over new tasks and rows,
    not about each task; and about tasks exchangeable with the past ones.

    References
    ----------
    .. [1] Y. Lee, R. F. Barber and R. Willett, "Distribution-free inference with
       hierarchical data", arXiv 2306.06342, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from fewshot_sklearn import TrustLearner
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(1200, 1)), np.repeat(np.arange(60), 20)
    >>> y = rng.normal(size=60)[groups] * X[:, 0] + 0.1 * rng.normal(size=1200)
    >>> learner = TrustLearner(Ridge(0.1), n_shots=(5,), n_episodes=30, random_state=0)
    >>> reg = learner.fit(X, y, groups).estimator_.fit([[0.], [1.], [2.], [3.], [4.]], range(5))
    >>> reg.predict_interval([[2.]], coverage=0.9).round(1)
    array([[1.8, 2.2]])
    """

    _estimator_type = "regressor"
    _constraints = dict.fromkeys(("estimator", "fallback"), Learns("regressor") | None)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TrustedRegressor:
        """Fit the estimator, and see whether the task is like the past ones.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Support rows, of whatever kind the estimator takes.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets; several where the estimator takes several.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights, for estimators that take them.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When `calibration` is none, one of classifiers, of another number of
            targets, or learned with another estimator.
        """
        check_parameters(self)
        check_rows(X, self)
        validate_data(self, X, y, skip_check_array=True)
        several = get_tags(self).target_tags.multi_output
        y = number_targets(y)
        check_consistent_length(X, y)
        y = y if several else column_or_1d(y, warn=True)
        self._targets_shape = y.shape[1:]
        self._fit(X, y, sample_weight, None)
        known, n_outputs = self.calibration_, int(np.prod(self._targets_shape, dtype=int))
        if known is not None and known.scales.shape[1] != n_outputs:
            raise ValueError(
                f"y has {n_outputs} output(s), but the calibration was learned on "
                f"{known.scales.shape[1]}."
            )
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets, with the predictive standard deviation if asked.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.
        return_std : bool, default=False
            Whether to return the standard deviation too.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            What the estimator predicts, or the fallback if it was used.
        std : ndarray of the same shape
            Calibrated standard deviation, noise included; only with
            ``return_std=True``. Of a fallback, its own.

        Raises
        ------
        ValueError
            When a deviation is asked for, and neither a calibration nor the
            estimator that answers has one.
        """
        X = self._checked(X)
        answering, known = self._answering(), self.calibration_
        if not return_std:
            return answering.predict(X)
        mean, std = means_of(answering, X)
        if known is not None and not self.used_fallback_:
            std = known.scale_at(self.n_shots_) * (np.ones_like(mean) if std is None else std)
        if std is None:
            raise ValueError(
                f"{answering!r} has no standard deviations, and there is no calibration of it. "
                "Learn one with TrustLearner, or leave return_std out."
            )
        return mean.reshape(-1, *self._targets_shape), std.reshape(-1, *self._targets_shape)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> np.ndarray:
        """Predict intervals that hold the target with a promised probability.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.
        coverage : float, default=0.9
            Probability, over new tasks and their rows, that an interval holds the
            target; of each output on its own.

        Returns
        -------
        ndarray of shape (n_rows, 2) or (n_rows, n_outputs, 2)
            Lower and upper ends. Infinite where nothing smaller can be promised: K
            past tasks promise K / (K + 1) at most; the support has fewer rows than
            any calibrated number; or the fallback was used.

        Raises
        ------
        ValueError
            When there is no calibration.
        """
        X, known = self._checked(X), self._calibrated()
        mean, std = means_of(self.estimator_, X)
        ends = known.intervals(mean, std, self.n_shots_, coverage)
        if self.used_fallback_:
            ends = ends + np.array([-np.inf, np.inf])
        return ends.reshape(-1, *self._targets_shape, 2)
