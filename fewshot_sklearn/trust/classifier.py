"""Classifiers that say how sure they are, by what past tasks taught: any classifier, calibrated.

C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger. On calibration of modern neural
networks. ICML 2017.

Y. Lee, R. F. Barber and R. Willett. Distribution-free inference with hierarchical
data. arXiv 2306.06342, 2023.

`TrustLearner` learns the calibration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from ..model_selection import features_of, logits_of
from ..tasks import Learns, check_parameters, check_rows, class_labels, distinct
from ._trusted_fit import FitsAndCompares
from .novelty import row_scores


def _has_probabilities(self: Any) -> bool:
    return self.calibration is not None or hasattr(self._inner(), "predict_proba")


class TrustedClassifier(ClassifierMixin, FitsAndCompares):
    """Classifier with calibrated probabilities, sets of classes, and a sense for the unknown.

    `fit` fits the estimator. What `TrustLearner` learned from past tasks of as many
    shots then says what its answers are worth: probabilities are softmax(logits / T)
    [1]_; `predict_set` holds the true class with a promised probability, from one
    label a class on [2]_; `is_novel` tells rows of no known class; and
    `task_p_value_` tells whether the task is like the past ones, without which
    nothing is promised.

    Parameters
    ----------
    estimator : estimator or None, default=None
        Any classifier, meta-trained ones and pipelines included; the one that
        `calibration` is about. None is ``ProtoNetClassifier()``.
    calibration : TaskCalibration, path or None, default=None
        What past tasks taught, or a file of it. Without any this is the bare
        estimator.
    fallback : estimator or None, default=None
        Classifier that answers in place of `estimator` where a task is unlike the
        past ones, ``task_p_value_ < novelty_level``.
    novelty_level : float, default=0.01
        Share of tasks like the past ones that may be taken for novel. It takes 200
        past tasks for p-values below 0.01 where there are two of them to combine.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    estimator_ : estimator
        The fitted estimator.
    calibration_ : TaskCalibration or None
        What past tasks taught.
    n_shots_ : float
        Mean number of rows a class, of positive weight.
    temperature_ : float
        T at that number of shots; 1 without calibration.
    offset_ : float
        `score_samples` below which 5 % of rows of known classes fall, at most;
        minus infinity without calibration.
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
    TrustedRegressor : The same for regression.

    Notes
    -----
    The promise of `predict_set` is about the average over new tasks and rows, not
    about each task; and about tasks exchangeable with the past ones.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern
       neural networks", ICML 2017, eq. 9.
    .. [2] Y. Lee, R. F. Barber and R. Willett, "Distribution-free inference with
       hierarchical data", arXiv 2306.06342, 2023.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from fewshot_sklearn import TrustLearner
    >>> X, y = make_blobs(900, centers=30, n_features=3, random_state=0)
    >>> past, new = y < 27, y >= 27
    >>> learner = TrustLearner(
    ...     GaussianNB(), n_way=3, n_shots=(4,), n_episodes=20, random_state=0
    ... )
    >>> clf = learner.fit(X[past], y[past]).estimator_.fit(X[new][:15], y[new][:15])
    >>> clf.predict_set(X[new][15:18], coverage=0.9)
    array([[False,  True, False],
           [False, False,  True],
           [False, False,  True]])
    """

    _estimator_type = "classifier"
    _constraints = dict.fromkeys(("estimator", "fallback"), Learns("classifier") | None)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TrustedClassifier:
        """Fit the estimator, and see whether the task is like the past ones.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Support rows, of whatever kind the estimator takes.
        y : array-like of shape (n_rows,)
            Class labels.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights, for estimators that take them.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When `calibration` is none, one of regressors, or learned with another estimator.
        """
        check_parameters(self)
        check_rows(X, self)
        validate_data(self, X, y, skip_check_array=True)
        y = class_labels(y)
        check_consistent_length(X, y)
        self.classes_, codes = distinct(y, "y")
        self._fit(X, y, sample_weight, codes)
        own = getattr(self._answering(), "classes_", self.classes_)
        if len(own) > len(self.classes_):  # it knows classes without a row
            self.classes_ = own
        known = self.calibration_
        self.temperature_ = 1.0 if known is None else float(known.scale_at(self.n_shots_)[0])
        self.offset_ = -np.inf if known is None else known.row_threshold(self.n_shots_, 0.05)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels; a temperature changes none.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,)
            What the estimator predicts, or the fallback if it was used.
        """
        X = self._checked(X)
        return self._answering().predict(X)

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict calibrated class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            softmax(logits / `temperature_`); those of the bare estimator without
            calibration; those of the fallback, as they are, if it was used.
        """
        X = self._checked(X)
        if self.calibration_ is None:
            return self.estimator_.predict_proba(X)
        answering = self._answering()
        return softmax(
            logits_of(answering, X) / (1.0 if self.used_fallback_ else self.temperature_), axis=1
        )

    def predict_set(
        self, X: Any, coverage: float = 0.9, *, allow_empty: bool = False
    ) -> np.ndarray:
        """Predict sets of classes that hold the true one with a promised probability.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.
        coverage : float, default=0.9
            Probability, over new tasks and their rows, that a set holds the true
            class; that class being one of `classes_`.
        allow_empty : bool, default=False
            Whether sets may be empty. If not, each holds at least the class of the
            largest logit, and the coverage is a little larger.

        Returns
        -------
        ndarray of bool of shape (n_rows, n_classes)
            Which classes each set holds. All of them where nothing smaller can be
            promised: K past tasks promise K / (K + 1) at most; the support has fewer
            rows a class than any calibrated number; or the fallback was used.

        Raises
        ------
        ValueError
            When there is no calibration.
        """
        X, known = self._checked(X), self._calibrated()
        logits = logits_of(self.estimator_, X)
        sets = known.class_sets(logits, self.n_shots_, coverage, allow_empty)
        return np.ones_like(sets) if self.used_fallback_ else sets

    def score_samples(self, X: Any) -> np.ndarray:
        """How much rows are like one of the task's classes: higher is more.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,)
            By default minus the distance of their features to the nearest class
            mean, in units of the spread within past classes.
        """
        X = self._checked(X)
        known = self.calibration_
        name = "max_probability" if known is None else known.settings["novelty_score"]
        logits = logits_of(self.estimator_, X) / self.temperature_
        if name in ("energy", "max_probability"):
            return row_scores(name, logits)
        Z = features_of(self.estimator_, X)
        assert known is not None
        if Z is None or self._support is None:
            raise ValueError(
                "X must hold finite numbers to be scored by distance. Learn with "
                "TrustLearner(novelty_score='max_probability')."
            )
        return row_scores(name, logits, *self._support, Z / known.spread)

    def is_novel(self, X: Any, level: float = 0.05) -> np.ndarray:
        """Whether rows are of none of the task's classes.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.
        level : float, default=0.05
            Share of rows of known classes, over new tasks, that may be taken for
            novel.

        Returns
        -------
        ndarray of bool of shape (n_rows,)
            True where `score_samples` is below what past tasks say is usual. False
            where the past tasks are too few for the level.

        Raises
        ------
        ValueError
            When there is no calibration.
        """
        known = self._calibrated()
        return self.score_samples(X) < known.row_threshold(self.n_shots_, level)
