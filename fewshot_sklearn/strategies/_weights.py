"""Weights of rows, handed on to strategies that take them; and which do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from ..estimators import FrozenStep, check_weights, final_step
from ..tasks import indexable, taken
from ._candidates import Strategies


def weighed(X: Any, y: np.ndarray, sample_weight: Any = None) -> tuple[Any, np.ndarray, Any]:
    """Rows of some weight, their labels or targets, and their weights.

    Parameters
    ----------
    X : array-like of shape (n_rows, ...)
        Rows.
    y : ndarray of shape (n_rows, ...)
        Labels or targets.
    sample_weight : array-like of shape (n_rows,) or None, default=None
        Weights.

    Returns
    -------
    X, y, sample_weight : array-like, ndarray, ndarray or None
        As they came, if no weights are given.

    Raises
    ------
    ValueError
        When they are no weights.
    """
    if sample_weight is None:
        return X, y, None
    weights = check_weights(sample_weight, len(y))
    some = np.flatnonzero(weights)
    return taken(indexable(X), some), y[some], weights[some]


def weights_for(strategy: Any, sample_weight: np.ndarray | None) -> dict[str, Any]:
    """Arguments of a strategy's `fit` that tell it the weights of its rows.

    Parameters
    ----------
    strategy : estimator
        One that takes weights; all steps of a pipeline that do are told.
    sample_weight : ndarray of shape (n_rows,) or None
        The weights.

    Returns
    -------
    dict
        Empty for None.
    """
    if sample_weight is None:
        return {}
    return {name: sample_weight for name in _places(strategy)}


def refuse_those_without_weights(strategies: Strategies) -> None:
    """Refuse weights of rows where a strategy that is to be fitted cannot take them.

    Parameters
    ----------
    strategies : list of (str, estimator)
        Those that are to be fitted.

    Raises
    ------
    ValueError
        When there is one; it is named.
    """
    unable = [name for name, one in strategies if not _takes_weights(one)]
    if unable:
        raise ValueError(
            f"sample_weight must be None: {unable}, which would answer here, cannot weigh rows. "
            "Leave the weights out, or strategies (fall_back of a MetaTrainer) that cannot take "
            "them."
        )


def _takes_weights(strategy: Any) -> bool:
    return has_fit_parameter(final_step(strategy), "sample_weight")


def _places(strategy: Any) -> list[str]:
    if not isinstance(strategy, Pipeline):
        return ["sample_weight"] if has_fit_parameter(strategy, "sample_weight") else []
    return [
        f"{name}__{place}"
        for name, step in strategy.steps
        if not isinstance(step, FrozenStep | str | None)
        for place in _places(step)
    ]
