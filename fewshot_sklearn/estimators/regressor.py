"""What all few-shot regressors share: targets in, predictions out."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from torch import Tensor

from ..tasks import check_parameters, refuse_missing
from ._kept_support import kept_support
from .base import FewShotEstimator
from .validation import check_weights, finite_targets, validated


class FewShotRegressor(RegressorMixin, FewShotEstimator):
    """Base class of the regressors."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FewShotRegressor:
        """Adapt to a task from its labelled rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Support rows.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights, at least zero.

        Returns
        -------
        self : object
            The fitted estimator. The meta-init is read, never changed.
        """
        check_parameters(self)
        with self._all_or_nothing():
            given, known = X, np.asarray(y)
            if known.ndim and known.dtype.kind == "O":  # None among objects would become NaN
                refuse_missing(known, "y", "target")
            table = self._table()
            X, y = validated(self, table, X, y, multi_output=True, y_numeric=True)
            self._support = kept_support(given, X, known, table=table)
            weights = check_weights(sample_weight, len(X))
            targets = finite_targets(y)
            self._y_ndim = y.ndim
            self._adapt(X, targets, weights, targets.shape[1])
        return self

    def fit_prior(self) -> FewShotRegressor:
        """Adapt to a task of which no row is known: predict what past tasks have in common.

        Returns
        -------
        self : object
            The fitted estimator, whose predictions are those of the meta-init
            with an empty support set. To have it trained for that, let
            ``n_shot`` of `MetaTrainer` start at 0.

        Raises
        ------
        ValueError
            When there is no meta-init.
        """
        spec = self._begin_without_rows().spec
        n_outputs = spec["n_outputs"]
        self._y_ndim = 1 if n_outputs == 1 else 2
        nothing = np.zeros((1, *spec["input_shape"])), np.zeros((1, n_outputs)), np.zeros(1)
        self._adapt(*nothing, n_outputs)
        return self

    def _as_targets(self, values: Tensor) -> np.ndarray:
        array = values.cpu().numpy()
        return array if self._y_ndim == 2 else array[:, 0]

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictions.
        """
        outputs = self._outputs(X)
        return self._as_targets(outputs if isinstance(outputs, Tensor) else outputs.mean)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class ProbabilisticRegressor(FewShotRegressor):
    """Base class of the regressors whose learners predict a `Gaussian`."""

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict targets, with the predictive standard deviation if asked.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.
        return_std : bool, default=False
            Whether to return the standard deviation too.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictive mean.
        std : ndarray of the same shape
            Predictive standard deviation, noise included; only with
            ``return_std=True``.
        """
        outputs = self._outputs(X)
        mean = self._as_targets(outputs.mean)
        return (mean, self._as_targets(outputs.variance.sqrt())) if return_std else mean
