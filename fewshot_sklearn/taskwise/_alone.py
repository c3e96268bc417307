"""A model of a task on its own: any estimator, cloned and fitted to the rows of one task."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from inspect import signature
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import has_fit_parameter

from ..estimators import FewShotEstimator, fitted_to_labels
from ..tasks import RowsByTask, indexable, taken
from ._adding import refuse_new_labels
from ._ids import named


def fit_each(
    inner: Any,
    X: Any,
    y: np.ndarray,
    weights: np.ndarray | None,
    by_task: RowsByTask,
    n_jobs: int | None,
) -> np.ndarray:
    """Clones of an estimator, one fitted on each task."""
    out = np.empty(len(by_task.tasks), object)
    if len(out) == 1:  # the rows as they came
        out[0] = fit_one(inner, X, y, weights)
        return out
    X = indexable(X)
    out[:] = Parallel(n_jobs=n_jobs)(
        delayed(fit_one)(inner, taken(X, rows), y[rows], None if weights is None else weights[rows])
        for rows in map(by_task.of_task, range(len(out)))
    )
    return out


def fit_further(
    inner: Any,
    X: Any,
    y: np.ndarray,
    weights: np.ndarray | None,
    by_task: RowsByTask,
    n_jobs: int | None,
    before: Sequence[Any],
    tasks: np.ndarray,
) -> np.ndarray:
    """Copies of fitted estimators, each after a `partial_fit`; where None was fitted, a clone."""
    X, out = indexable(X), np.empty(len(by_task.tasks), object)
    out[:] = Parallel(n_jobs=n_jobs)(
        delayed(_further)(
            inner, old, taken(X, rows), y[rows], None if weights is None else weights[rows], task
        )
        for old, task, rows in zip(
            before, tasks, map(by_task.of_task, range(len(out))), strict=True
        )
    )
    return out


def _further(
    inner: Any, fitted: Any, X: Any, y: np.ndarray, weights: np.ndarray | None, task: Any
) -> Any:
    if fitted is None:
        return fit_one(inner, X, y, weights)
    if not hasattr(fitted, "partial_fit"):
        raise ValueError(
            f"{type(inner).__name__} could not be fitted to the labels of task "
            f"{named([task])[1:-1]} as they are, so no rows can be added to it. Pass all rows of "
            'the task, with mode="replace".'
        )
    ours = isinstance(inner, FewShotEstimator)
    if weights is not None and not weights.any() and not ours:
        return fitted
    if is_classifier(inner) and not ours:
        refuse_new_labels(inner, fitted, y, task)
    options = {}
    if weights is not None:
        if "sample_weight" not in signature(fitted.partial_fit).parameters:
            raise ValueError(
                f"sample_weight was given, but the partial_fit of {inner!r} takes none."
            )
        options["sample_weight"] = weights
    return deepcopy(fitted).partial_fit(X, y, **options)


def fit_one(inner: Any, X: Any, y: Any, weights: np.ndarray | None) -> Any:
    """A fitted clone; of a single class, where the estimator refuses that, its constant."""
    options = {} if weights is None else {weight_option(inner): weights}
    try:
        return fitted_to_labels(inner, X, y, **options)
    except ValueError:
        ours = isinstance(inner, FewShotEstimator)
        if ours or not is_classifier(inner) or len(np.unique(y)) != 1:
            raise
        return DummyClassifier(strategy="most_frequent").fit(X, y)


def weight_option(inner: Any) -> str:
    """Name under which the fit of an estimator takes sample weights."""
    if isinstance(inner, Pipeline):
        name, last = inner.steps[-1]
        if get_config()["enable_metadata_routing"]:
            return "sample_weight"  # which the pipeline routes, or says why not
        if has_fit_parameter(last, "sample_weight"):
            return f"{name}__sample_weight"
    if not has_fit_parameter(inner, "sample_weight"):
        raise ValueError(f"sample_weight was given, but the fit of {inner!r} takes none.")
    return "sample_weight"
