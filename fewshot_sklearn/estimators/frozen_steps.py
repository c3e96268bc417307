"""Pipelines that end in a few-shot estimator: steps before it that stay as the past left them.

Five rows cannot tell how to scale a column or which categories there are; the past can. So the
steps before the last are fitted once, on past rows, and wrapped in scikit-learn's
`FrozenEstimator`: a later `fit` of the pipeline adapts its last step alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from inspect import signature
from typing import Any

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from .base import FewShotEstimator
from .known_classes import known_classes


class FrozenStep(FrozenEstimator):
    """scikit-learn's, each of whose clones is an object of its own around the same estimator.

    A pipeline that is being fitted writes to its steps for a moment (scikit-learn 1.9's callbacks):
    clones that threads fit at the same time must not share them.
    """

    def __sklearn_clone__(self) -> FrozenStep:
        return FrozenStep(self.estimator)


def final_step(estimator: Any) -> Any:
    """The last step of a pipeline, that of the last one where it ends in another; else itself.

    Parameters
    ----------
    estimator : estimator
        Any.

    Returns
    -------
    estimator
        What answers.
    """
    while isinstance(estimator, Pipeline) and estimator.steps:
        estimator = estimator.steps[-1][1]
    return estimator


def frozen_steps(estimator: Any) -> tuple[list[Any], Any]:
    """The steps that rows go through, all of them frozen, and the last step.

    Parameters
    ----------
    estimator : estimator
        Any.

    Returns
    -------
    steps : list of transformer
        Those before the last; none where the estimator is no pipeline, or one of them is fitted
        anew by every `fit`: then the whole pipeline is what answers.
    final : estimator
        What answers.
    """
    before = list(_before(estimator))
    if not all(isinstance(step, FrozenEstimator) for step in before):
        return [], estimator
    return before, final_step(estimator)


def through(steps: list[Any], X: Any) -> Any:
    """Rows as they are after some steps.

    Parameters
    ----------
    steps : list of transformer
        Fitted.
    X : array-like or data frame of shape (n_rows, ...)
        Rows.

    Returns
    -------
    array-like or data frame
        What the last step makes of them.
    """
    for step in steps:
        X = step.transform(X)
    return X


def as_final_sees(estimator: Any, X: Any) -> tuple[Any, Any]:
    """What answers, and rows as it sees them: see `frozen_steps`.

    Parameters
    ----------
    estimator : estimator
        Any.
    X : array-like or data frame of shape (n_rows, ...)
        Rows as the estimator takes them.

    Returns
    -------
    final : estimator
        The last step of a pipeline of frozen steps; else the estimator.
    X : array-like or data frame
        The rows, through the steps before it.
    """
    steps, final = frozen_steps(estimator)
    return final, through(steps, X)


def with_final(estimator: Any, final: Any) -> Any:
    """The same pipeline with another last step; else that step.

    Parameters
    ----------
    estimator : estimator
        Any; it is not changed.
    final : estimator
        What is to answer.

    Returns
    -------
    estimator
        A pipeline of the same steps, not copied, or `final`.
    """
    if not isinstance(estimator, Pipeline):
        return final
    made = copy(estimator)
    name, last = estimator.steps[-1]
    made.steps = [*estimator.steps[:-1], (name, with_final(last, final))]
    return made


def freeze_steps(estimator: Any, X: Any, y: Any) -> tuple[Any, Any]:
    """A pipeline whose steps before the last are fitted to past rows, and frozen.

    Parameters
    ----------
    estimator : estimator
        A pipeline, which is not changed; steps that are frozen already stay so.
    X : array-like or data frame of shape (n_rows, ...)
        Past rows.
    y : array-like of shape (n_rows, ...)
        Their labels or targets, for steps that look at them.

    Returns
    -------
    estimator : estimator
        Another pipeline; of any other estimator, that estimator.
    rows : array-like or data frame
        The rows as the last step is to learn from them: what the steps' `fit_transform` gave, which
        of a step that looks at targets is not what `transform` gives of the same rows.
    """
    if not isinstance(estimator, Pipeline):
        return estimator, X
    made, last = copy(estimator), estimator.steps[-1]
    if before := estimator.steps[:-1]:
        fitted = clone(estimator[:-1])
        X = fitted.fit_transform(X, y)
        before = [(name, _frozen(step)) for name, step in fitted.steps]
    final, X = freeze_steps(last[1], X, y)
    made.steps = [*before, (last[0], final)]
    return made, X


def has_prior(estimator: Any) -> bool:
    """Whether an estimator, or the last of frozen steps, may answer without a labelled row.

    Parameters
    ----------
    estimator : estimator
        Any.

    Returns
    -------
    bool
        Whether there is a `fit_prior` that needs to be told nothing: of classifiers, where
        the classes are known.
    """
    final = frozen_steps(estimator)[1]
    if not hasattr(final, "fit_prior"):
        return False
    return not hasattr(final, "_takes_known_classes") or known_classes(final) is not None


def predicts(estimator: Any, option: str) -> bool:
    """Whether an estimator's `predict`, or that of the last step, has an answer to an option.

    Parameters
    ----------
    estimator : estimator
        Any. One that holds several says so itself, by `_predicts`.
    option : str
        Such as ``"return_std"``.

    Returns
    -------
    bool
        Whether it may be passed.
    """
    final = final_step(estimator)
    if hasattr(final, "_predicts"):
        return bool(final._predicts(option))
    try:
        return option in signature(final.predict).parameters
    except (AttributeError, ValueError):
        return False


def fitted_to_nothing(estimator: Any) -> Any:
    """A clone of an estimator that answers for a task of which no row is known.

    Parameters
    ----------
    estimator : estimator
        One that has `fit_prior`, or a pipeline of frozen steps that ends in one.

    Returns
    -------
    estimator
        The clone, after `fit_prior`.

    Raises
    ------
    ValueError
        When there is no such method, or a step of the pipeline is not frozen.
    """
    made = clone(estimator)
    final = frozen_steps(made)[1]
    if not has_prior(made):
        raise ValueError(f"{type(final).__name__} has no answer without a labelled row.")
    return with_final(made, final.fit_prior())


def adapts_in_batches(estimator: Any) -> bool:
    """Whether many tasks can be adapted to in one call: a meta-trained estimator of ours.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn estimator; a pipeline counts as its last step, if those before are frozen.

    Returns
    -------
    bool
        False too where `fit` adds altered copies of its rows.
    """
    final = frozen_steps(estimator)[1]
    ours = isinstance(final, FewShotEstimator)
    return ours and final.meta_init is not None and not final.n_augment


def _before(estimator: Any) -> Iterator[Any]:
    while isinstance(estimator, Pipeline) and estimator.steps:
        yield from (step for _, step in estimator.steps[:-1] if not _nothing(step))
        estimator = estimator.steps[-1][1]


def _frozen(step: Any) -> Any:
    if _nothing(step) or isinstance(step, FrozenStep):
        return step
    return FrozenStep(step.estimator if isinstance(step, FrozenEstimator) else step)


def _nothing(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")
