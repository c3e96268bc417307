"""One adapted classifier a task, behind one scikit-learn classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if

from ..algorithms import ProtoNetClassifier
from ..tasks import Learns, class_labels, in_one_kind, places
from ._base import Taskwise


def _has_probabilities(self: Any) -> bool:
    getattr(self._inner(), "predict_proba")  # noqa: B009  (its error says why not)
    return True


class TaskwiseClassifier(ClassifierMixin, Taskwise):
    """One classifier a task: fits thousands of tasks at once, predicts each row by its own.

    The task of each row is a column of X, or comes as `groups`.
    Without either all rows are one task. A meta-trained estimator of this
    package adapts to all tasks in batched calls, with the answers of one `fit`
    after the other up to rounding. Any other estimator, a pipeline or one
    without a meta-init included, is cloned and fitted for each task. Tasks may have
    different classes, and different numbers of them and of rows.

    Parameters
    ----------
    estimator : estimator or None, default=None
        Classifier to adapt to each task; it is cloned, and does not see the
        column of tasks. None is ``ProtoNetClassifier()``.
    task : str, int or None, default=None
        Name of the column of X that holds the tasks' ids: numbers, strings,
        times or anything else that can be sorted; an int that names none is the
        column's place, from 0. Of an array, after a fit to a data frame, it
        is the column of the same place. None: ids come as `groups`.
    unseen : {"prior", "error"}, default="prior"
        What to do about rows to predict whose task `fit` did not see. ``"prior"``
        answers as for a task without labels: a meta-trained estimator gives
        the known classes equal probabilities, or those that it learned where
        classes recur (see ``fit_prior`` of the estimator). In place of any other,
        a clone fitted on the rows of all tasks together answers; `fit` fits it, and
        `partial_fit` and `forget` leave it as it is. ``"error"`` raises an error.
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
    classes_ : ndarray of shape (n_classes,)
        Labels of the classes that some task has, sorted.
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
    TaskwiseRegressor : The same for regression.
    MetaTrainer : Meta-trains the estimator on past tasks.

    Notes
    -----
    With scikit-learn's metadata routing on, ``cross_validate(..., params={"groups": groups})``
    and its like pass `groups` to `fit` and `score`. Scorers by name, such as
    ``scoring="f1_macro"``, cannot pass them to `predict`: for those give the
    tasks as a column of X.

    Examples
    --------
    >>> from fewshot_sklearn import TaskwiseClassifier
    >>> X = [[0.], [1.], [0.], [1.]]
    >>> y = ["low", "high", "high", "low"]
    >>> clf = TaskwiseClassifier().fit(X, y, groups=["ann", "ann", "bob", "bob"])
    >>> clf.predict([[0.9], [0.9]], groups=["ann", "bob"])
    array(['high', 'low'], dtype='<U4')
    >>> clf.task_estimator("bob").predict([[0.9]])
    array(['low'], dtype='<U4')
    """

    _constraints = {"estimator": Learns("classifier") | None}
    _kind = "classifier"
    _default = ProtoNetClassifier

    def _checked_y(self, y: Any, inner: Any) -> np.ndarray:
        return class_labels(y, unlabelled=getattr(inner, "unlabelled", None))

    def fit(
        self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None
    ) -> TaskwiseClassifier:
        """Adapt to every task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows of all tasks, in any order.
        y : array-like of shape (n_rows,)
            Class labels.
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
        classes: Any = None,
        mode: str = "replace",
    ) -> TaskwiseClassifier:
        """Adapt to new tasks, and to further rows of known ones; all others stay as they are.

        Parameters
        ----------
        X, y, groups, sample_weight : see `fit`
            Rows of the tasks to begin, to refit, or to add rows to. New classes are
            added to `classes_`.
        classes : object, default=None
            Ignored; other estimators' ``partial_fit`` has it.
        mode : {"replace", "add"}, default="replace"
            What becomes of what a known task was fitted on before. With ``"replace"``
            it no longer counts: the task is refitted on these rows alone. With
            ``"add"`` these rows are added to it, as if all had come together; the old
            rows are not needed, but `updatable` must have been True when the first
            task was fitted. Estimators that are not meta-trained ones of this package
            do what their own `partial_fit` does, which takes no classes that are
            new to the task (this package's take them).

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

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any, groups: Any = None) -> np.ndarray:
        """Predict class probabilities, each row's by the model of its task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows, of any tasks in any order.
        groups : array-like of shape (n_rows,) or None, default=None
            Task of each row, where X has no column of that.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Probabilities, columns in the order of `classes_`, zero for classes
            that the row's task does not have.
        """
        X, numbers = self._routed(X, groups)
        shape = len(numbers), len(self.classes_)
        if not self._stacked:
            out = np.zeros(shape)
            for rows, some, inner in self._each(X, numbers):
                out[rows] = self._in_columns(inner.predict_proba(some), inner.classes_)
            return out
        X, answered = self._answered(X, numbers)
        out = torch.zeros(shape, dtype=self._template._compute_dtype(), device="cpu").numpy()
        for rows, real, logits, own in answered:
            columns = np.broadcast_to(own[:, None], (*real.shape, own.shape[1]))[real]
            out[rows[real][:, None], columns] = logits.softmax(-1).cpu().numpy()[real]
        if len(new := np.flatnonzero(numbers < 0)):
            out[new] = self._prior().predict_proba(X[new])
        return out

    def predict(self, X: Any, groups: Any = None) -> np.ndarray:
        """Predict class labels, each row's by the model of its task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows, of any tasks in any order.
        groups : array-like of shape (n_rows,) or None, default=None
            Task of each row, where X has no column of that.

        Returns
        -------
        ndarray of shape (n_rows,)
            Labels, each of a class that the row's task has.
        """
        X, numbers = self._routed(X, groups)
        known = self.classes_ if self._pooled is None else self._pooled.classes_
        out = np.empty(len(numbers), np.result_type(*in_one_kind(self.classes_, known)))
        if not self._stacked:
            for rows, some, inner in self._each(X, numbers):
                out[rows] = self._labels(inner, some)
            return out
        X, answered = self._answered(X, numbers)
        for rows, real, logits, own in answered:
            codes = np.take_along_axis(own, logits.argmax(-1).cpu().numpy(), 1)
            out[rows[real]] = self.classes_[codes[real]]
        if len(new := np.flatnonzero(numbers < 0)):
            out[new] = self._prior().predict(X[new])
        return out

    def _in_columns(self, proba: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Probabilities of all classes, from those of some.

        The model of all rows may know classes that no task has any more: what it gives them goes
        to the others.
        """
        at = places(self.classes_, own)
        kept = at >= 0
        out = np.zeros((len(proba), len(self.classes_)))
        out[:, at[kept]] = proba[:, kept]
        if kept.all():
            return out
        total = out.sum(1, keepdims=True)
        return np.where(total > 0, out / np.where(total > 0, total, 1), 1 / out.shape[1])

    def _labels(self, inner: Any, X: Any) -> np.ndarray:
        """What an estimator predicts, of the classes that some task has."""
        if (places(self.classes_, inner.classes_) >= 0).all() or not hasattr(
            inner, "predict_proba"
        ):
            return inner.predict(X)
        proba = self._in_columns(inner.predict_proba(X), inner.classes_)
        return self.classes_[proba.argmax(1)]

    def score(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> float:
        """Accuracy over all rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.
        y : array-like of shape (n_rows,)
            Class labels.
        groups : array-like of shape (n_rows,) or None, default=None
            Task of each row, where X has no column of that.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights.

        Returns
        -------
        float
            Mean accuracy.
        """
        return accuracy_score(y, self.predict(X, groups), sample_weight=sample_weight)
