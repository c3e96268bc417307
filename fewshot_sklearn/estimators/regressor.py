"""What all few-shot regressors share: targets in, predictions out."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils import check_scalar
from torch import Tensor

from ..learners import Learner
from ..tasks import Support, TargetMove, check_parameters, refuse_no_numbers
from ._far_tasks import LEVEL, SPREAD, knows_targets, move_of, without_labels
from ._functions import covariance_of_rows, drawn_targets
from ._further_rows import GivenRows, TakesFurtherRows
from ._kept_support import kept_support
from .finite_answers import refuse_infinite, solvable
from .validation import check_weights, finite_targets, validated


class FewShotRegressor(RegressorMixin, TakesFurtherRows):
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
            self._fit_rows(self._given(X, y, sample_weight))
        return self

    def _given(self, X: Any, y: Any, sample_weight: Any, first: bool = True) -> GivenRows:
        """Rows as `fit` checks them; further ones, as those that it saw before."""
        given, known = X, np.asarray(y)
        if known.ndim:  # scikit-learn makes numbers of dates, and of words that are some
            refuse_no_numbers(known)
        table = self._format_of(X, sample_weight) if first else self._format_of_further(X)
        X, y = validated(self, table, X, y, reset=first, multi_output=True, y_numeric=True)
        weights = check_weights(sample_weight, len(X), some=first)
        return GivenRows(X, y, weights, kept_support(given, X, known, table=table))

    def _fit_rows(self, rows: GivenRows) -> None:
        self._keep(rows.kept, rows.w)
        targets = finite_targets(rows.y)
        self._y_ndim, self._n_targets = rows.y.ndim, targets.shape[1]
        self._adapt(rows.X, targets, rows.w, targets.shape[1])

    def _move(
        self, learner: Learner, support: Support, y: np.ndarray, w: np.ndarray
    ) -> TargetMove | None:
        if not knows_targets(self.meta_init_) or not w.any():
            return None
        X, known, weights = support

        def expected() -> np.ndarray:
            return without_labels(learner, learner.episode, X, known, weights)

        return move_of(learner, y, w, expected)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> FewShotRegressor:
        """Adapt to further rows, beside all that came before: equal to `fit` on all of them.

        How this is done the description of the class says: some methods take the rows
        into what they know, at no more cost than the rows themselves; the others, and
        all of them without a meta-init, where the scale of the targets is learned at
        `fit`, adapt anew to all rows, which the estimator keeps.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Further support rows.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets, in the shape that `fit` saw.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights, at least zero.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When rows or targets are not like those before, or rows are needed that were
            let go of (`drop_support`). The estimator is then as it was.
        """
        check_parameters(self)
        with self._all_or_nothing():
            if not self._seen():
                self._fit_rows(self._given(X, y, sample_weight))
            else:
                self._further(self._given(X, y, sample_weight, first=False))
        return self

    def _further(self, rows: GivenRows) -> None:
        targets = finite_targets(rows.y)
        self._check_further(rows.X, targets.shape[1])
        if rows.y.ndim != self._y_ndim:
            raise ValueError(f"y has {rows.y.ndim} axes, but fit saw targets of {self._y_ndim}.")
        learner = self._rebuild(self.meta_init_)
        why = self._why_not_into_state(learner, rows.X) or self._why_far(learner, targets, rows.w)
        if why:
            self._needs_rows(why)
            self._fit_rows(self._read_anew(self._joined(rows)))
        else:
            self._take_in(rows, targets, targets.shape[1], None)

    def _why_far(self, learner: Learner, targets: np.ndarray, w: np.ndarray) -> str:
        """Why all rows are needed of a task whose targets lie far from those of past ones."""
        far = LEVEL in self.state_
        if not far and knows_targets(self.meta_init_) and w.any():
            far = move_of(learner, targets, w, None) is not None
        return "its targets lie far from those of past tasks" if far else ""

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
            When there is no meta-init, or it is one for tables of any width, which
            knows nothing of targets.
        """
        init = self._begin_without_rows()
        spec = init.fixed_spec
        if spec.get("any_width"):
            raise ValueError(
                f"{init.told} is for tables without a past: without rows it knows neither the "
                "unit of a target nor where it lies. Call fit."
            )
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

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """Predict targets, with their standard deviation or covariance if asked.

        The covariance is that of a distribution of functions where the method has one:
        `RidgeHeadRegressor` and `DeepKernelRegressor`. The others predict each row by
        itself, given what `fit` left: their covariance is diagonal.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.
        return_std : bool, default=False
            Whether to return the standard deviation too.
        return_cov : bool, default=False
            Whether to return the covariance of the rows too.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictive mean.
        std : ndarray of the same shape
            Predictive standard deviation, noise included; only with
            ``return_std=True``.
        cov : ndarray of shape (n_rows, n_rows) or (n_rows, n_rows, n_outputs)
            Predictive covariance in float64: that of the function, and the noise on
            the diagonal, which is the square of the standard deviation; only with
            ``return_cov=True``. Targets are independent of each other.

        Raises
        ------
        RuntimeError
            When both are asked for.
        ValueError
            When the covariance is too large for the memory that scikit-learn's
            ``working_memory`` allows.
        """
        if return_std and return_cov:
            raise RuntimeError("At most one of return_std or return_cov can be requested.")
        if return_cov:
            outputs, covariance = self._together(X, covariance_of_rows)
            mean = self._as_targets(outputs.mean)
            if SPREAD in self.state_:
                covariance = covariance * self.state_[SPREAD] ** 2
            return mean, covariance if self._y_ndim == 2 else covariance[..., 0]
        outputs = self._outputs(X)
        mean = self._as_targets(outputs.mean)
        return (mean, self._as_targets(outputs.variance.sqrt())) if return_std else mean

    def sample_y(
        self, X: Any, n_samples: int = 1, random_state: Any = 0, noise: bool = True
    ) -> np.ndarray:
        """Draw targets of rows, all rows at once, from the predictive distribution.

        Where the method has a distribution of functions (`RidgeHeadRegressor`,
        `DeepKernelRegressor`) each draw is one function at all rows, observed with
        noise. The others draw each row by itself, since to them rows are independent
        given what `fit` left.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.
        n_samples : int, default=1
            Number of draws.
        random_state : int, RandomState instance or None, default=0
            Seeds the draws. With the same seed and ``noise=False`` draws of a
            `RidgeHeadRegressor` are the same functions whatever the rows.
        noise : bool, default=True
            Whether what is drawn has the noise of an observation, as the standard
            deviation and the covariance that `predict` returns have; False draws the
            function itself, of the methods that have one.

        Returns
        -------
        ndarray of shape (n_rows, n_samples) or (n_rows, n_outputs, n_samples)
            Draws, in the units of the targets.

        Raises
        ------
        ValueError
            When the method has no functions and `noise` is False, or the draws are
            too large for the memory that scikit-learn's ``working_memory`` allows.
        """
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        check_scalar(noise, "noise", (bool, np.bool_))
        _, drawn = self._together(
            X, drawn_targets, int(n_samples), random_state=random_state, noise=bool(noise)
        )
        if LEVEL in self.state_:
            drawn = drawn * self.state_[SPREAD][..., None] + self.state_[LEVEL][..., None]
        return drawn if self._y_ndim == 2 else drawn[:, 0]

    def _together(self, X: Any, what: Any, *args: Any, **options: Any) -> tuple[Any, np.ndarray]:
        """Predictions, and what a function makes of the rows all at once."""
        learner, rows = self._fitted_learner_and_rows(X)
        state = self._state_on(rows.device)
        with torch.no_grad(), solvable(self.meta_init_, "predict"):
            outputs = learner.predict_in_parts(state, rows)
            refuse_infinite(outputs, learner.n_outputs, self.meta_init_)
            made = what(self, learner, state, rows, outputs, *args, **options)
        return self._put_back(outputs), made
