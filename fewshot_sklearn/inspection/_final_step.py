"""Displays look at what answers: the last step of a pipeline, and rows as they reach it."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline

from ..estimators import FewShotEstimator, final_step, frozen_steps, through


def final_and_rows(estimator: Any, *given: Any) -> tuple[Any, ...]:
    """The last step of a pipeline of frozen steps, or the estimator; and rows as it sees them.

    Parameters
    ----------
    estimator : estimator
        Any.
    *given : array-like, data frame or None
        Rows as the estimator takes them.

    Returns
    -------
    tuple
        What answers, and each of the `given`.

    Raises
    ------
    ValueError
        When a step before the last is not frozen: few rows would fit it anew.
    """
    steps, final = frozen_steps(estimator)
    if isinstance(final, Pipeline) and isinstance(final_step(final), FewShotEstimator):
        raise ValueError(
            "estimator is a pipeline whose steps before the last must be frozen, and some are not: "
            "each fit would make other features. MetaTrainer(pipeline) freezes them; those fitted "
            "to the past already can be wrapped in sklearn.frozen.FrozenEstimator."
        )
    return (final, *(None if X is None else through(steps, X) for X in given))
