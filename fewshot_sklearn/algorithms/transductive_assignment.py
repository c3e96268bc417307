"""Rows of a call shared out among the classes, each of which is known to be asked so many times.

H. W. Kuhn. The Hungarian method for the assignment problem. Naval Research Logistics
Quarterly 2, 1955 (the labels).

M. Cuturi. Sinkhorn distances: lightspeed computation of optimal transport. NeurIPS 2013
(the probabilities).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import log_softmax, logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from ..estimators import fitted_to_labels, logits_of
from ..learners import BYTES, numbers_at_once
from ..tasks import (
    Kind,
    Learns,
    Whole,
    check_parameters,
    check_rows,
    class_labels,
    distinct,
)
from .protonet import ProtoNetClassifier

#: Sweeps over rows and classes in which probabilities are balanced, at most, and how far their
#: sums may then be off.
SWEEPS, OFF_BY = 1000, 1e-9
#: Logarithm of the probability of a class that the estimator rules out.
LEAST = -700.0
#: Tables of rows and places that are held at once.
TABLES = 4


class TransductiveAssignmentClassifier(ClassifierMixin, BaseEstimator):
    """Any classifier, where it is known how often each class is asked about in a call.

    **Transductive**: all rows of a call of `predict` are answered together, and the answer to
    one depends on the others. Each class has so many places, and the rows take them such that
    the sum of the log probabilities that the estimator gives is greatest [1]_. A row thus
    loses its likeliest class only to others that need it more. With equal rows, or others
    between which the estimator sees no difference, which of them gets which class is
    arbitrary. Probabilities are the estimator's, balanced by Sinkhorn's iterations [2]_.

    Parameters
    ----------
    estimator : classifier or None, default=None
        Any classifier: of this package or scikit-learn's. None is ``ProtoNetClassifier()``.
    n_queries_per_class : int, dict or None, default=None
        Places of each class in a call: one number, or one for each class by its label; those
        that a dict leaves out have none. None is as many as make all rows fit, the same for
        each class: rows are then balanced. Rows may be fewer than places.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    estimator_ : classifier
        The fitted estimator.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    TransductivePTMAPClassifier : Moves the class means meanwhile.

    References
    ----------
    .. [1] H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research
       Logistics Quarterly 2, 1955.
    .. [2] M. Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport", NeurIPS
       2013.

    Examples
    --------
    >>> from fewshot_sklearn import TransductiveAssignmentClassifier
    >>> clf = TransductiveAssignmentClassifier(n_queries_per_class=1)
    >>> clf.fit([[0.], [1.], [2.]], ["a", "b", "c"]).predict([[1.2], [1.9], [1.3]])
    array(['a', 'c', 'b'], dtype='<U1')
    >>> clf.predict([[1.2]])  # by itself
    array(['b'], dtype='<U1')
    """

    _constraints = {
        "estimator": Learns("classifier") | None,
        "n_queries_per_class": Whole(1) | Kind(Mapping, told="a dict of ints") | None,
    }

    def __init__(self, estimator: Any = None, n_queries_per_class: Any = None):
        self.estimator = estimator
        self.n_queries_per_class = n_queries_per_class

    def _inner(self) -> Any:
        return ProtoNetClassifier() if self.estimator is None else self.estimator

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TransductiveAssignmentClassifier:
        """Fit the estimator.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows, of whatever kind the estimator takes.
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
            When `n_queries_per_class` names a class that is none, or no int at least zero.
        """
        check_parameters(self)
        check_rows(X, self)
        validate_data(self, X, y, skip_check_array=True)
        y = class_labels(y)
        check_consistent_length(X, y)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        if weights and not has_fit_parameter(self._inner(), "sample_weight"):
            raise ValueError(f"{self._inner()!r} takes no sample_weight. Leave it out.")
        fitted = fitted_to_labels(self._inner(), X, y, **weights)
        classes = getattr(fitted, "classes_", distinct(y, "y")[0])
        _check_places(self.n_queries_per_class, classes)
        self.estimator_, self.classes_ = fitted, classes
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels of rows that are asked about together.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            All rows.

        Returns
        -------
        ndarray of shape (n_rows,)
            Labels, none more often than it has places.

        Raises
        ------
        ValueError
            When there are more rows than places, or they take more memory than they may.
        """
        asked = self._asked(X)
        return self.classes_[self._assigned(*asked)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities of rows that are asked about together.

        The estimator's probabilities are multiplied by a number for each row and one for each
        class, such that rows sum to one and no class to more than its places. Where
        another class than the one that `predict` assigns would then be likelier, the two
        change places.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            All rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Probabilities, columns in the order of `classes_`.

        Raises
        ------
        ValueError
            When there are more rows than places, or they take more memory than they may.
        """
        logs, places = self._asked(X)
        assigned = self._assigned(logs, places)
        proba = np.exp(_balanced(logs, places))
        rows, best = np.arange(len(proba)), proba.argmax(1)
        proba[rows, best], proba[rows, assigned] = proba[rows, assigned], proba[rows, best]
        equal = rows[proba.argmax(1) != assigned]  # which is likelier only rounding would say
        proba[equal, assigned[equal]] *= 1 + 1e-9
        return proba / proba.sum(1, keepdims=True)

    def _asked(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Log probabilities (n, K) of the rows, and how often each class may be answered."""
        check_is_fitted(self)
        check_rows(X, self)
        if getattr(X, "ndim", 2) > 1:  # an estimator says best what is wrong with a single axis
            validate_data(self, X, reset=False, skip_check_array=True)
        logs = log_softmax(logits_of(self.estimator_, X), axis=1)
        n, n_classes = logs.shape
        told = self.n_queries_per_class
        if isinstance(told, Mapping):
            places = np.array([told.get(label, 0) for label in self.classes_.tolist()])
        else:
            places = np.full(n_classes, -(-n // n_classes) if told is None else told)
        if n > places.sum():
            raise ValueError(
                f"X has {n} rows, but n_queries_per_class={told!r} has places for {places.sum()}: "
                "ask about fewer rows at once, or say that classes occur more often."
            )
        most, needed = numbers_at_once(), TABLES * n * int(np.minimum(places, n).sum())
        if needed > most:
            raise ValueError(
                f"{n} rows would take about {needed * BYTES / 1e9:.1f} GB of memory, more than the "
                f"{most * BYTES / 1e9:.1f} GB that they may. Ask about fewer rows, or "
                "allow more, in MiB: "
                f"sklearn.set_config(working_memory={-(-needed * BYTES // 2**20)})."
            )
        return np.maximum(logs, LEAST), np.minimum(places, n)

    @staticmethod
    def _assigned(logs: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Which class (n,) each row gets."""
        of_place = np.repeat(np.arange(len(places)), places)
        rows, taken = linear_sum_assignment(logs[:, of_place], maximize=True)
        return of_place[taken[np.argsort(rows)]]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), self._inner()
        if hasattr(inner, "__sklearn_tags__"):  # else fit will say what is wrong with it
            inner = get_tags(inner)
            tags.input_tags.sparse = inner.input_tags.sparse
            tags.input_tags.allow_nan = inner.input_tags.allow_nan
        return tags


def _check_places(told: Any, classes: np.ndarray) -> None:
    """Refuse a dict of numbers that are none, or of classes that are none."""
    if not isinstance(told, Mapping):
        return
    known = set(classes.tolist())
    if strangers := [label for label in told if label not in known]:
        raise ValueError(f"n_queries_per_class names {strangers}, which are not among {classes}.")
    if wrong := [n for n in told.values() if not Whole(0).allows(n)]:
        raise ValueError(f"n_queries_per_class must hold ints, at least 0, got {wrong}.")


def _balanced(logs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Log probabilities, rows summing to one and classes to no more than their places.

    Rows that are not there, equally likely of all classes, take the places that are left.
    """
    absent = places.sum() - len(logs)
    room = np.log(places, where=places > 0, out=np.full(len(places), -np.inf))
    logs, price = logs + np.where(places > 0, 0.0, -np.inf), np.zeros(len(places))
    for _ in range(SWEEPS):
        found = logs - price
        found = found - logsumexp(found, axis=1, keepdims=True)
        total = logsumexp(found, axis=0)
        if absent:
            rest = -price + np.where(places > 0, 0.0, -np.inf)
            total = np.logaddexp(total, np.log(absent) + rest - logsumexp(rest))
        step = np.where(places > 0, total - np.where(places > 0, room, 0.0), 0.0)
        if np.abs(np.expm1(step)).max() <= OFF_BY:
            break
        price = price + step
    return found
