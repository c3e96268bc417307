"""The rivals of meta-learning that past tasks allow: one model of the past and the new rows.

With a task identity and a penalty of its own, pooled ridge regression is the
best linear predictor of a mixed model with a random intercept for each task:

C. R. Henderson. Best linear unbiased estimation and prediction under a selection
model. Biometrics 31, 1975.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.metaestimators import available_if

from ..estimators import fitted_to_labels
from ..tasks import Learns, Number
from ._past_ridge import PastRidge
from ._pooled_base import Pooled, in_columns
from .past_rows import PastRows


class PooledRegressor(RegressorMixin, Pooled):
    """One regression of the rows of all past tasks and of the new one.

    What to do with past tasks without meta-learning: pool them with the new
    task's rows, with or without a column that tells the tasks apart. By default
    a ridge regression on standardised features, whose penalties are those that
    predict the past rows best, each from all the others. With tasks told apart
    the effect of a task, u_t, has a penalty of its own, which makes the
    prediction that of a mixed model with random intercepts [1]_:

    min sum_i (y_i - x_i'b - b_0 - u_t(i))^2 + alpha b'b + task_alpha u'u.

    Parameters
    ----------
    estimator : regressor or None, default=None
        What to fit to the pooled rows, from scratch. None is the ridge
        regression, whose normal equations only have the new rows added to them:
        with past as ``PastRows``, a fit takes a few milliseconds, however many
        past rows there are.
    past : (X, y), (X, y, groups), PastRows or None, default=None
        Past tasks. None leaves an ordinary regression of the new rows.
    with_task : bool, default=False
        Whether to tell the tasks apart: one column a task, one for the new.
    alpha, task_alpha : float or None, default=None
        Penalties of the ridge regression: of the weights on standardised
        features, and of the task effects. None chooses by the leave-one-out
        error of the past rows; without past, 1.
    max_rows : int or None, default=None
        Past rows to use with an `estimator` of your own, drawn once by
        `random_state`; None uses all, as the ridge regression always does.
    random_state : int, RandomState instance or None, default=0
        Seeds that draw.

    Attributes
    ----------
    alpha_, task_alpha_ : float
        Penalties that were used; ridge regression only.
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Weights of the features; ridge regression only.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercept, the new task's effect included; ridge regression only.
    estimator_ : regressor
        What was fitted; with an `estimator` of your own only.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    RidgeHeadRegressor : Learns from past tasks in which directions tasks differ.
    compare_few_shot : Sets the two side by side.

    References
    ----------
    .. [1] C. R. Henderson, "Best linear unbiased estimation and prediction under a
       selection model", Biometrics 31, 1975.

    Examples
    --------
    >>> from fewshot_sklearn import PooledRegressor
    >>> past = [[0.], [1.], [0.], [1.]], [0., 1., 5., 6.], ["low", "low", "high", "high"]
    >>> reg = PooledRegressor(past=past, with_task=True, alpha=0.01, task_alpha=0.01)
    >>> reg.fit([[0.]], [8.]).predict([[1.]]).round(1)
    array([8.9])
    """

    _constraints = {
        "estimator": Learns("regressor") | None,
        "alpha": Number(low=0) | None,
        "task_alpha": Number(low=0) | None,
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        past: Any = None,
        with_task: bool = False,
        alpha: float | None = None,
        task_alpha: float | None = None,
        max_rows: int | None = None,
        random_state: Any = 0,
    ):
        self.estimator = estimator
        self.past = past
        self.with_task = with_task
        self.alpha = alpha
        self.task_alpha = task_alpha
        self.max_rows = max_rows
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> PooledRegressor:
        """Fit to the past rows and those of a new task.

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

    def _learn(self, X: np.ndarray, y: np.ndarray) -> PooledRegressor:
        past = self._past_rows(X.shape[1])
        y = self._near(past, X, y)
        if self.estimator is not None:
            self._past = past
            self.estimator_ = clone(self.estimator).fit(*self._pooled(past, X, y))
            return self
        targets = in_columns(y)
        if past is None:
            ridge = PastRidge(X, targets)
            coef, intercept = ridge.solution(1.0 if self.alpha is None else self.alpha)
        else:
            known = self._targets_of(past, targets)
            ridge = past._once("ridge", lambda: PastRidge(past.X, known, past.task))
            asked = self.with_task, self.alpha, self.task_alpha
            self.alpha_, self.task_alpha_ = past._once(
                ("penalties", *asked), lambda: ridge.penalties(*asked, past.X, known, past.task)
            )
            coef, intercept = ridge.solution(self.alpha_, self.task_alpha_, (X, targets))
        return self._keep_weights(coef, intercept, y.ndim)

    def _keep_weights(self, coef: np.ndarray, intercept: np.ndarray, ndim: int) -> PooledRegressor:
        """Keep weights (n_features, n_outputs), as they are for the task's own targets."""
        if self._move is not None:
            coef, intercept = coef * self._move.spread, self._put_back(intercept[None])[0]
        self.coef_ = coef.T if ndim == 2 else coef[:, 0]
        self.intercept_ = intercept if ndim == 2 else float(intercept[0])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets of the new task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictions.
        """
        X = self._checked(X)
        if self.estimator is not None:
            return self._put_back(self.estimator_.predict(self._columns(self._past, X)))
        return X @ self.coef_.T + self.intercept_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class PooledClassifier(ClassifierMixin, Pooled):
    """One classifier of the rows of all past tasks and of the new one.

    What to do without meta-learning where the tasks share their labels: pool
    the past rows with the new task's, with or without a column that tells the
    tasks apart. By default a logistic regression on standardised features.

    Parameters
    ----------
    estimator : classifier or None, default=None
        What to fit to the pooled rows, from scratch. None is
        ``LogisticRegression(max_iter=1000)`` on standardised features, which
        goes on from the fit to the past rows alone, to the same result.
    past : (X, y), (X, y, groups), PastRows or None, default=None
        Past tasks. None leaves an ordinary classifier of the new rows.
    with_task : bool, default=False
        Whether to tell the tasks apart: one column a task, one for the new.
    max_rows : int or None, default=2000
        Past rows to use, drawn once by `random_state`; None uses all. Every fit
        goes through them again.
    random_state : int, RandomState instance or None, default=0
        Seeds that draw.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the past rows and the new ones.
    estimator_ : classifier
        What was fitted.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    PooledRegressor : The same for regression.
    compare_few_shot : Sets it beside meta-learning.

    Examples
    --------
    >>> from fewshot_sklearn import PooledClassifier
    >>> past = [[0.], [1.], [2.], [3.]], ["no", "no", "yes", "yes"], [0, 1, 0, 1]
    >>> clf = PooledClassifier(past=past).fit([[1.4]], ["no"])
    >>> clf.predict([[0.5], [2.5]])
    array(['no', 'yes'], dtype='<U3')
    """

    _constraints = {"estimator": Learns("classifier") | None}

    def __init__(
        self,
        estimator: Any = None,
        *,
        past: Any = None,
        with_task: bool = False,
        max_rows: int | None = 2000,
        random_state: Any = 0,
    ):
        self.estimator = estimator
        self.past = past
        self.with_task = with_task
        self.max_rows = max_rows
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> PooledClassifier:
        """Fit to the past rows and those of a new task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows of the new task.
        y : array-like of shape (n_rows,)
            Labels.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._learn(*self._given(X, y, classify=True))

    def _learn(self, X: np.ndarray, y: np.ndarray) -> PooledClassifier:
        past = self._past = self._past_rows(X.shape[1])
        self._check_kind(past, y)
        self._check_columns(past, X)
        columns, labels = self._pooled(past, X, y)
        if self.estimator is not None:
            self.estimator_ = fitted_to_labels(self.estimator, columns, labels)
        else:
            start = None
            if past is not None:
                key = ("logistic", self.with_task, self.max_rows, repr(self.random_state))
                start = past._once(key, lambda: self._past_model(past))
            if start is None or not np.isin(y, start.classes_).all():
                start = LogisticRegression(max_iter=1000, tol=1e-6)
            self.scaler_ = StandardScaler().fit(columns[:, : X.shape[1]])
            self.estimator_ = deepcopy(start).fit(self._scaled(columns), labels)
        self.classes_ = self.estimator_.classes_
        return self

    def _past_model(self, past: PastRows) -> LogisticRegression | None:
        """Logistic regression of the past rows, from which further fits start."""
        chosen = self._sampled(past)
        if len(np.unique(past.y[chosen])) < 2:
            return None
        rows = StandardScaler().fit_transform(past.X[chosen])
        model = LogisticRegression(max_iter=1000, tol=1e-6, warm_start=True)
        return model.fit(self._columns(past, rows, past.task[chosen]), past.y[chosen])

    def _scaled(self, columns: np.ndarray) -> np.ndarray:
        n = self.n_features_in_
        return np.hstack([self.scaler_.transform(columns[:, :n]), columns[:, n:]])

    def _new_columns(self, X: Any) -> np.ndarray:
        X = self._checked(X)
        columns = self._columns(self._past, X)
        return columns if self.estimator is not None else self._scaled(columns)

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels of the new task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,)
            Labels.
        """
        columns = self._new_columns(X)
        return self.estimator_.predict(columns)

    @available_if(lambda self: self.estimator is None or hasattr(self.estimator, "predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities; where the `estimator` has them.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Probabilities, columns in the order of `classes_`.
        """
        columns = self._new_columns(X)
        return self.estimator_.predict_proba(columns)
