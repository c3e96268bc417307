"""Classifiers that take no labels but the codes 0, 1, ..., such as XGBoost's: encoded for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if

from .base import FewShotEstimator


def _asks(name: str) -> Any:
    """Whether the estimator within has a method, in whose own words it says if not."""

    def has(self: Any) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self.estimator, name)
        return True

    return has


class CodedLabels(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """A classifier that is given codes 0, 1, ... in place of labels, and answers in labels.

    Parameters
    ----------
    estimator : estimator
        The classifier, not fitted; it is cloned.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    estimator_ : estimator
        The fitted classifier.
    """

    def __init__(self, estimator: Any):
        self.estimator = estimator

    def fit(self, X: Any, y: Any, **options: Any) -> CodedLabels:
        """Fit to the codes of the labels."""
        self.classes_, codes = np.unique(np.asarray(y), return_inverse=True)
        self.estimator_ = clone(self.estimator).fit(X, codes, **options)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels."""
        return self.classes_[np.asarray(self.estimator_.predict(X)).ravel().astype(int)]

    @available_if(_asks("predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities, in the order of the labels."""
        return self.estimator_.predict_proba(X)

    @available_if(_asks("decision_function"))
    def decision_function(self, X: Any) -> np.ndarray:
        """Decision function, in the order of the labels."""
        return self.estimator_.decision_function(X)

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        return tags


def fitted_to_labels(estimator: Any, X: Any, y: Any, **options: Any) -> Any:
    """A fitted clone of any estimator; of one that refuses the labels, on their codes.

    Parameters
    ----------
    estimator : estimator
        Any; never fitted itself.
    X : array-like of shape (n_rows, ...)
        Rows.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Labels or targets.
    **options : dict
        Further arguments of `fit`.

    Returns
    -------
    estimator
        The clone, or a `CodedLabels` around one.

    Raises
    ------
    Exception
        What the estimator raises, if codes do not help.
    """
    try:
        return clone(estimator).fit(X, y, **options)
    except Exception:
        if not _codes_may_help(estimator, y):
            raise
        try:
            return CodedLabels(estimator).fit(X, y, **options)
        except Exception:
            pass
        raise  # what it said of the labels as they are


def _codes_may_help(estimator: Any, y: Any) -> bool:
    labels = np.asarray(y)
    if isinstance(estimator, FewShotEstimator) or not is_classifier(estimator) or labels.ndim != 1:
        return False
    classes = np.unique(labels)
    coded = classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes)))
    return len(classes) > 0 and not coded
