"""One adapted regressor a task, behind one scikit-learn regressor."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.pipeline import Pipeline
from sklearn.utils import column_or_1d, get_tags

from ..algorithms import RidgeHeadRegressor
from ..estimators import adapts_in_batches, predicts
from ..learners import Gaussian
from ..tasks import Learns, number_targets
from ._base import Taskwise


class TaskwiseRegressor(RegressorMixin, Taskwise):
    """One regressor a task: fits thousands of tasks at once, predicts each row by its own.

    The task of each row is a column of X, or comes as `groups`.
    Without either all rows are one task. A meta-trained estimator of this
    package adapts to all tasks in batched calls, with the answers of one `fit`
    after the other up to rounding. Any other estimator, a pipeline or one
    without a meta-init included, is cloned and fitted for each task. Tasks may have
    different numbers of rows.

    Parameters
    ----------
    estimator : estimator or None, default=None
        Regressor to adapt to each task; it is cloned, and does not see the
        column of tasks. None is ``RidgeHeadRegressor()``.
    task : str, int or None, default=None
        Name of the column of X that holds the tasks' ids: numbers, strings,
        times or anything else that can be sorted; an int that names none is the
        column's place, from 0. Of an array, after a fit to a data frame, it
        is the column of the same place. None: ids come as `groups`.
    unseen : {"prior", "error"}, default="prior"
        What to do about rows to predict whose task `fit` did not see. ``"prior"``
        answers as for a task without labels: a meta-trained estimator predicts
        what past tasks have in common (see ``fit_prior`` of the estimator). In
        place of any other, a clone fitted on the rows of all tasks together
        answers; `fit` fits it, and `partial_fit` and `forget` leave it as it
        is. ``"error"`` raises an error.
    updatable : bool, default=False
        Whether to keep beside the states what ``partial_fit(mode="add")`` needs:
        sums by class, or the features of all rows, as the method has it. Methods
        that adapt to all rows of a task at once have nothing of the kind: an error
        says which have. Of estimators that are not meta-trained ones of this
        package nothing more is kept; they must have a `partial_fit`.
    n_jobs : int or None, default=None
        Processes to fit in. Those of a meta-trained estimator of this package take a
        chunk of the tasks each, which pays where adapting to them takes longer than
        sending their states back; without, all are batched in this one. Predictions
        are made in this process.

    Attributes
    ----------
    tasks_ : ndarray of shape (n_tasks,)
        Ids of the tasks, sorted; a zero where all rows are one task.
    n_tasks_ : int
        Number of tasks.
    nbytes_ : int
        Bytes of the states of all tasks; of the pickled estimators where these
        are not meta-trained ones.
    n_features_in_ : int
        Size of the second axis of X, the column of tasks included.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names, that of the tasks included.

    See Also
    --------
    TaskwiseClassifier : The same for classification.
    MetaTrainer : Meta-trains the estimator on past tasks.

    Notes
    -----
    With scikit-learn's metadata routing on, ``cross_validate(..., params={"groups": groups})``
    and its like pass `groups` to `fit` and `score`. Scorers by name, such as
    ``scoring="neg_mean_absolute_error"``, cannot pass them to `predict`: for
    those give the tasks as a column of X.

    Examples
    --------
    >>> from fewshot_sklearn import TaskwiseRegressor
    >>> X, y = [[0.], [1.], [0.], [1.]], [0., 1., 0., -1.]
    >>> reg = TaskwiseRegressor().fit(X, y, groups=["ann", "ann", "bob", "bob"])
    >>> reg.predict([[2.], [2.]], groups=["ann", "bob"]).round(2)
    array([ 1., -1.])
    >>> reg.task_estimator("bob").coef_.round(2)
    array([-0.33])
    """

    _constraints = {"estimator": Learns("regressor") | None}
    _kind = "regressor"
    _default = RidgeHeadRegressor

    def _checked_y(self, y: Any, inner: Any) -> np.ndarray:
        if adapts_in_batches(inner):
            return number_targets(y).astype(np.float64, copy=False)
        several = get_tags(inner).target_tags.multi_output
        return number_targets(y) if several else column_or_1d(number_targets(y), warn=True)

    def fit(
        self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None
    ) -> TaskwiseRegressor:
        """Adapt to every task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows of all tasks, in any order.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        groups : array-like of shape (n_rows,) or None, default=None
            Task of each row, where X has no column of that.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights, at least zero, for estimators that take them.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When the tasks are told twice or, with `task`, not at all, or a
            task has no row that weighs anything.

        Warns
        -----
        UserWarning
            When all rows are one task, as when a search has kept `groups` to itself.
        """
        self._learn(X, y, groups, sample_weight, afresh=True)
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        sample_weight: Any = None,
        mode: str = "replace",
    ) -> TaskwiseRegressor:
        """Adapt to new tasks, and to further rows of known ones; all others stay as they are.

        Parameters
        ----------
        X, y, groups, sample_weight : see `fit`
            Rows of the tasks to begin, to refit, or to add rows to.
        mode : {"replace", "add"}, default="replace"
            What becomes of what a known task was fitted on before. With ``"replace"``
            it no longer counts: the task is refitted on these rows alone. With
            ``"add"`` these rows are added to it, as if all had come together; the old
            rows are not needed, but `updatable` must have been True when the first
            task was fitted. Estimators that are not meta-trained ones of this package
            do what their own `partial_fit` does.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            As in `fit`, and with ``mode="add"`` where the estimator takes no further
            rows in. All tasks are then as they were.
        """
        self._learn(X, y, groups, sample_weight, afresh=False, mode=mode)
        return self

    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> Any:
        """Predict targets, each row's by the model of its task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows, of any tasks in any order.
        groups : array-like of shape (n_rows,) or None, default=None
            Task of each row, where X has no column of that.
        return_std : bool, default=False
            Whether to return the predictive standard deviation too, of
            estimators that have it.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictions.
        std : ndarray of the same shape
            Predictive standard deviation; only with ``return_std=True``.
        """
        X, numbers = self._routed(X, groups)
        if return_std and not _gives_std(self._template):
            raise ValueError(
                f"return_std=True, but {type(self._template).__name__} predicts no standard "
                "deviation."
            )
        options = {"return_std": True} if return_std else {}
        out: list[np.ndarray] = []

        def put(rows: np.ndarray, answer: Any) -> None:
            parts = answer if return_std else (answer,)
            if not out:
                out.extend(np.empty((len(numbers), *p.shape[1:]), p.dtype) for p in parts)
            for whole, part in zip(out, parts, strict=True):
                whole[rows] = part

        if not self._stacked:
            for rows, some, inner in self._each(X, numbers):
                put(rows, inner.predict(some, **options))
        else:
            y_ndim, (X, answered) = self._template._y_ndim, self._answered(X, numbers)
            for rows, real, outputs, _ in answered:
                if isinstance(outputs, Gaussian):
                    tensors = [outputs.mean, outputs.variance.sqrt()][: 1 + return_std]
                else:
                    tensors = [outputs]
                parts = [t.cpu().numpy()[real] for t in tensors]
                parts = [p if y_ndim == 2 else p[:, 0] for p in parts]
                put(rows[real], tuple(parts) if return_std else parts[0])
            if len(new := np.flatnonzero(numbers < 0)):
                put(new, self._prior().predict(X[new], **options))
        return tuple(out) if return_std else out[0]

    def score(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> float:
        """R^2 over all rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        groups : array-like of shape (n_rows,) or None, default=None
            Task of each row, where X has no column of that.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights.

        Returns
        -------
        float
            Coefficient of determination.
        """
        return r2_score(y, self.predict(X, groups), sample_weight=sample_weight)


def _gives_std(estimator: Any) -> bool:
    passed_on = isinstance(estimator, Pipeline)  # which has the last step say so
    return passed_on or predicts(estimator, "return_std")
