"""What all few-shot classifiers share: labels in, probabilities out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ..tasks import check_parameters, comparable, distinct, memberships, refuse_missing
from ._kept_support import kept_support
from ._memory import refuse_too_many_labels
from .base import FewShotEstimator
from .validation import check_weights, validated

#: Name of the state of a classifier that has seen no row: the probabilities of the classes.
PRIOR = "class_probabilities"


class FewShotClassifier(ClassifierMixin, FewShotEstimator):
    """Base class of the classifiers."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FewShotClassifier:
        """Adapt to a task from its labelled rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Support rows.
        y : array-like of shape (n_rows,), or (n_rows, n_classes) of float
            Class labels of any kind: any number of classes, any rows a class.
            Or class probabilities, such as a teacher's: rows that sum to one;
            the classes are then the column names of a DataFrame, or 0, 1, ...
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights, at least zero.

        Returns
        -------
        self : object
            The fitted estimator. The meta-init is read, never changed.

        Raises
        ------
        ValueError
            When y has several columns that are no probabilities, or all
            weights are zero.
        """
        check_parameters(self)
        with self._all_or_nothing():
            given, known = X, np.asarray(y)
            # of objects scikit-learn says less clearly what is wrong
            if known.ndim and known.dtype.kind == "O":
                refuse_missing(known, "y", "class")
            shape = known.shape
            soft = len(shape) == 2 and shape[1] > 1
            names = getattr(y, "columns", None)
            table = self._table()
            X, y = validated(self, table, X, y, multi_output=soft)
            self._support = kept_support(given, X, known, names if soft else None, table)
            weights = check_weights(sample_weight, len(X))
            self.classes_, members = _soft(y, names) if soft else self._classes_and_members(y)
            self._adapt(X, members, weights, None)
        return self

    def _classes_and_members(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sorted class labels, and which class each row is of (n_rows, n_classes)."""
        y = comparable(y, "y")
        with warnings.catch_warnings():
            # one row a class is what these estimators are for
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(y)
        classes, codes = distinct(y, "y")
        refuse_too_many_labels(self, len(codes), len(classes))
        members = memberships(torch.from_numpy(codes), len(classes), torch.float64)
        return classes, members.numpy()

    def fit_prior(self, classes: Any, probabilities: Any = None) -> FewShotClassifier:
        """Adapt to a task of which only the classes are known, and no row.

        Parameters
        ----------
        classes : array-like of shape (n_classes,)
            Class labels. Past tasks say nothing about which is which.
        probabilities : array-like of shape (n_classes,) or None, default=None
            How often each occurs; None is equally often.

        Returns
        -------
        self : object
            The fitted estimator. It predicts these probabilities for every row.

        Raises
        ------
        ValueError
            When there is no meta-init, or `probabilities` are none.
        """
        init = self._begin_without_rows()
        self.classes_, first = np.unique(np.asarray(classes), return_index=True)
        shares = np.ones(len(classes)) if probabilities is None else np.asarray(probabilities)
        numbers = shares.shape == (len(classes),) and shares.dtype.kind in "fiub"
        if not numbers or not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
            raise ValueError(
                f"probabilities must be {len(classes)} finite numbers, one a class, at least zero "
                f"and not all zero, got {probabilities!r}."
            )
        if len(first) < len(shares):
            raise ValueError(f"classes must all differ, got {classes!r}.")
        self.meta_init_ = init
        self.state_ = {PRIOR: shares[first] / shares.sum()}
        return self

    def _outputs(self, X: Any) -> Any:
        check_is_fitted(self)
        if PRIOR not in self.state_:
            return super()._outputs(X)
        _, rows = self._fitted_learner_and_rows(X)
        logits = torch.from_numpy(self.state_[PRIOR]).to(self._compute_dtype()).log()
        return logits.expand(len(rows), -1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Probabilities, columns in the order of `classes_`.
        """
        return self._outputs(X).softmax(-1).cpu().numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,)
            Labels.
        """
        codes = self._outputs(X).argmax(-1).cpu().numpy()
        return self.classes_[codes]

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits of the classes; for two classes, of the second against the first.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes
            Finite logits; a class whose support weighs nothing has the least.
        """
        logits = self._outputs(X).cpu().numpy()
        logits = np.nan_to_num(logits, neginf=float(np.finfo(np.float32).min))
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits


def _soft(y: np.ndarray, names: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes and memberships, from class probabilities."""
    probabilities = np.asarray(y)
    numeric = probabilities.dtype.kind in "fiub"
    if (
        not numeric
        or (probabilities < 0).any()
        or not np.allclose(probabilities.sum(1), 1, atol=1e-3)
    ):
        raise ValueError(
            "y with several columns must hold class probabilities, at least zero, in rows that sum "
            f"to one; got an array of shape {probabilities.shape}."
        )
    classes = np.arange(probabilities.shape[1]) if names is None else np.asarray(names)
    order = np.argsort(classes, kind="stable")
    return classes[order], probabilities.astype(np.float64, copy=False)[:, order]
