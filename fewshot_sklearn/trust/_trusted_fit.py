"""Fitting an estimator to a task, and seeing whether the task is like the past ones.

Y. Lee, R. F. Barber and R. Willett. Distribution-free inference with hierarchical
data. arXiv 2306.06342, 2023.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from ..algorithms import ProtoNetClassifier, RidgeHeadRegressor
from ..estimators import check_weights, fitted_to_labels
from ..model_selection import EpisodeAnswers, held_out_losses
from ..tasks import Anything, EpisodeRows, Number, check_rows, indexable, taken
from .novelty import task_distance
from .task_calibration import TaskCalibration


class FitsAndCompares(BaseEstimator):
    """What `TrustedClassifier` and `TrustedRegressor` share."""

    _constraints = {
        "calibration": Anything(),
        "novelty_level": Number(above=0, below=1),
    }
    _estimator_type: str

    def __init__(
        self,
        estimator: Any = None,
        calibration: Any = None,
        *,
        fallback: Any = None,
        novelty_level: float = 0.01,
    ):
        self.estimator = estimator
        self.calibration = calibration
        self.fallback = fallback
        self.novelty_level = novelty_level

    def _inner(self) -> Any:
        if self.estimator is not None:
            return self.estimator
        return (
            ProtoNetClassifier() if self._estimator_type == "classifier" else RidgeHeadRegressor()
        )

    def _known(self) -> TaskCalibration | None:
        known = self.calibration
        if isinstance(known, str | os.PathLike):
            known = TaskCalibration.load(known)
        if known is None:
            return None
        if not isinstance(known, TaskCalibration):
            raise ValueError(
                f"calibration must be a TaskCalibration, a path or None, got {known!r}."
            )
        if known.kind != self._estimator_type:
            raise ValueError(
                f"calibration must be of a {self._estimator_type}, got one of a {known.kind}."
            )
        known.check_made_with(self._inner())
        return known

    def _calibrated(self) -> TaskCalibration:
        check_is_fitted(self)
        if self.calibration_ is None:
            raise ValueError(
                f"{type(self).__name__} has no calibration, so it can promise nothing. Learn one "
                "from past tasks: TrustLearner(estimator).fit(X, y, groups).estimator_."
            )
        return self.calibration_

    def _fit(self, X: Any, y: np.ndarray, sample_weight: Any, codes: np.ndarray | None) -> None:
        self.calibration_ = self._known()
        weights = check_weights(sample_weight, len(y))
        self.estimator_ = _fitted(self._inner(), X, y, sample_weight)
        used = np.flatnonzero(weights > 0)
        n_classes = 1 if codes is None else len(np.unique(codes[used]))
        self.n_shots_ = len(used) / n_classes
        self.task_p_values_: dict[str, float] = {}
        self._support: tuple[np.ndarray, np.ndarray | None] | None = None
        if self.calibration_ is not None:
            self._compare_task(self.calibration_, X, y, used, codes)
        # two looks at a task: Bonferroni
        looks = self.task_p_values_.values()
        self.task_p_value_ = min(1.0, len(looks) * min(looks)) if looks else float("nan")
        self.used_fallback_ = bool(
            self.fallback is not None
            and self.task_p_value_ < self.novelty_level
            and (codes is None or n_classes > 1)
        )
        self.__dict__.pop("fallback_", None)
        if self.used_fallback_:
            self.fallback_: Any = _fitted(self.fallback, X, y, sample_weight)

    def _compare_task(
        self,
        known: TaskCalibration,
        X: Any,
        y: np.ndarray,
        used: np.ndarray,
        codes: np.ndarray | None,
    ) -> None:
        answers = EpisodeAnswers(self.estimator_, taken(indexable(X), used), y[used])
        Z = answers.features()
        distance = loss = float("nan")
        if Z is not None:
            if Z.shape[1] != len(known.spread):
                raise ValueError(
                    f"X has {Z.shape[1]} features as {self.estimator_!r} sees it, but the "
                    f"calibration was learned on {len(known.spread)}."
                )
            Z = Z / known.spread
            distance = task_distance(Z, known.past_rows)
            self._support = Z, None if codes is None else codes[used]
        if any(quantiles is not None for quantiles in known.losses):
            rows = EpisodeRows(np.arange(len(used))[None], np.zeros((1, 0), dtype=int), None, None)
            held_out = answers.about_held_out_support(rows)
            if len(held_out.truth):
                loss = float(held_out_losses(held_out, known.scale_at(self.n_shots_)).mean())
        self.task_p_values_ = known.task_p_values(distance, loss, self.n_shots_)

    def _answering(self) -> Any:
        check_is_fitted(self)
        return self.fallback_ if self.used_fallback_ else self.estimator_

    def _checked(self, X: Any) -> Any:
        """Rows as they came: what they may be is for the estimator to say."""
        check_is_fitted(self)
        check_rows(X, self)
        if getattr(X, "ndim", 2) > 1:  # an estimator says best what is wrong with a single axis
            validate_data(self, X, reset=False, skip_check_array=True)
        return X

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), self._inner()
        if not hasattr(inner, "__sklearn_tags__"):  # fit will say what is wrong with it
            return tags
        inner = get_tags(inner)
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.target_tags.multi_output = (
            self._estimator_type == "regressor" and inner.target_tags.multi_output
        )
        return tags


def _fitted(estimator: Any, X: Any, y: np.ndarray, sample_weight: Any) -> Any:
    if sample_weight is None:
        return fitted_to_labels(estimator, X, y)
    if not has_fit_parameter(estimator, "sample_weight"):
        raise ValueError(f"{estimator!r} takes no sample_weight. Leave it out.")
    return fitted_to_labels(estimator, X, y, sample_weight=sample_weight)
