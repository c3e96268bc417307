"""Scores over many few-shot episodes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier, is_regressor
from sklearn.metrics import check_scoring
from sklearn.model_selection import cross_val_score
from sklearn.utils import check_consistent_length

from ..estimators import (
    CodedLabels,
    FewShotEstimator,
    adapts_in_batches,
    as_final_sees,
    as_numbers,
    chunks_for,
    final_step,
    shared_out,
)
from ..tasks import (
    N_JOBS,
    SCORING,
    EpisodeRows,
    IntOrRange,
    as_they_are,
    check_arguments,
    check_parameters,
    check_rows,
    comparable,
    n_rows,
    number_targets,
    warn_of_order,
)
from ._stand_in import stand_ins
from .episode_answers import EpisodeAnswers
from .episode_split import EpisodeSplit
from .scores import FewShotScore

#: Share of rows that may equal rows trained on by chance, as numbers of few digits do.
CHANCE = 0.01
#: Beside what `EpisodeSplit` declares.
_ARGUMENTS = {"scoring": SCORING, "n_jobs": N_JOBS}


def few_shot_score(
    estimator: Any,
    X: Any,
    y: Any,
    groups: Any = None,
    *,
    n_way: IntOrRange | None = 5,
    n_shot: IntOrRange = 1,
    n_query: IntOrRange | None = 15,
    n_episodes: int = 600,
    scoring: Any = None,
    random_state: Any = 0,
    n_jobs: int | None = None,
) -> FewShotScore:
    """Score an estimator over few-shot episodes.

    Meta-trained estimators of this package adapt to many episodes in one
    batched call (those that work on features encode each row once); any other
    estimator is cloned, fitted and scored episode by episode. Both see the
    same episodes, those of ``EpisodeSplit`` with the same `random_state`.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn classifier or regressor.
    X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
        Rows of tasks or classes kept out of meta-training.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Labels or targets.
    groups : array-like of shape (n_rows,) or None, default=None
        Task or group of each row.
    n_way, n_shot, n_query, n_episodes : see EpisodeSplit
        What an episode is. Regression needs ``n_way=None`` and `groups`.
    scoring : str, callable or None, default=None
        A scikit-learn scorer. None is the estimator's own score: accuracy or
        R^2.
    random_state : int, RandomState instance or None, default=0
        Seeds the episodes.
    n_jobs : int or None, default=None
        Processes. Those of a meta-trained estimator of this package take a chunk of
        the episodes each, to the same scores up to rounding; without, all are one call.

    Returns
    -------
    FewShotScore
        Scores, their mean and its 95% confidence interval; with `groups`, one
        that is robust to what episodes of one group have in common.

    Warns
    -----
    UserWarning
        When the meta-init was trained on some of these rows, or on tasks that
        are named like some of these.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fewshot_sklearn import ProtoNetClassifier, few_shot_score
    >>> X, y = load_digits(return_X_y=True)
    >>> score = few_shot_score(ProtoNetClassifier(), X, y, n_shot=5, n_episodes=50)
    >>> bool(0.85 < score.mean < 0.95)
    True
    """
    split = EpisodeSplit(n_way, n_shot, n_query, n_episodes, random_state)
    check_parameters(split)
    check_arguments(_ARGUMENTS, scoring=scoring, n_jobs=n_jobs)
    if isinstance(final := final_step(estimator), FewShotEstimator):  # whose `fit` may not be asked
        check_parameters(final)
    check_rows(X)
    warn_of_order(X, y=y, groups=groups)
    y, groups = _checked_y(estimator, y), None if groups is None else comparable(groups)
    check_consistent_length(X, y, groups)
    if is_regressor(estimator) and n_way is not None:
        raise ValueError(
            "To score a regressor pass n_way=None and groups: each group is then one task."
        )
    if seen := tasks_seen(estimator, y, groups, X):
        warnings.warn(seen, stacklevel=2)
    rows = split.episodes(y, groups)
    scores = scores_of_episodes(estimator, X, y, rows, scoring=scoring, n_jobs=n_jobs)
    return FewShotScore(scores, None if groups is None else groups[rows.query[:, 0]])


def _checked_y(estimator: Any, y: Any) -> np.ndarray:
    """Labels as they are, of classifiers; targets as finite numbers, of regressors."""
    if is_classifier(estimator):
        return comparable(y, "y")
    return number_targets(y) if is_regressor(estimator) else as_they_are(y)


def tasks_seen(estimator: Any, y: Any, groups: Any = None, X: Any = None) -> str:
    """What to warn of where a meta-init has seen some of these tasks or rows; else nothing."""
    final = final_step(estimator)
    if not isinstance(final, FewShotEstimator):
        return ""
    init = final._resolve_meta_init()
    if init is None:
        return ""
    kind, ids = ("classes", y) if groups is None else ("groups", groups)
    named = init.cite_tasks(ids, kind)
    seen_by, seen = (None, None) if X is None else as_final_sees(estimator, X)
    # what a pipeline is given is not what its last step sees
    try:
        rows = init.cite_rows(seen) if seen_by is final else 0
    except (TypeError, ValueError):
        as_numbers(init.table, seen)  # which says best what is wrong with them
        raise
    if X is not None and rows > CHANCE * (given := n_rows(X)):
        return (
            f"{init!r} was meta-trained on {rows:,} of these {given:,} rows, and on {named:,} of "
            "these tasks by name: the score is optimistic."
        )
    if named:
        return (
            f"{named:,} of these tasks have ids that {init!r} was meta-trained on: the score is "
            "optimistic unless they only share the names."
        )
    return ""


def scores_of_episodes(
    estimator: Any,
    X: Any,
    y: Any,
    rows: EpisodeRows,
    *,
    scoring: Any = None,
    n_jobs: int | None = None,
) -> np.ndarray:
    """Score an estimator on given episodes.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn classifier or regressor; meta-trained ones of this
        package adapt to many episodes at once.
    X : array-like of shape (n_rows, ...)
        Rows.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Labels or targets.
    rows : EpisodeRows
        Row numbers of the episodes, with a leading axis of episodes.
    scoring : str, callable or None, default=None
        A scikit-learn scorer. None is the estimator's own score.
    n_jobs : int or None, default=None
        Processes. Those of a meta-trained estimator of this package take a chunk of
        the episodes each, to the same scores up to rounding; without, all are one call.

    Returns
    -------
    ndarray of shape (n_episodes,)
        Scores.
    """
    y = _checked_y(estimator, y)
    if adapts_in_batches(estimator):
        chunks = chunks_for((rows.support >= 0).sum(1) + (rows.query >= 0).sum(1), n_jobs)
        if len(chunks) == 1:
            return _batched_scores(estimator, X, y, rows, scoring)
        calls = ((estimator, X, y, _some(rows, part), scoring) for part in chunks)
        return np.concatenate(shared_out(_batched_scores, calls, n_jobs))
    cv = [(one.support, one.query) for one in map(rows.episode, range(len(rows.support)))]
    options: dict[str, Any] = {"cv": cv, "scoring": scoring, "n_jobs": n_jobs}
    try:
        return cross_val_score(estimator, X, y, **options, error_score="raise")
    except Exception:
        if not is_classifier(estimator) or isinstance(final_step(estimator), FewShotEstimator):
            raise
        try:  # it may take no labels but 0, 1, ...
            return cross_val_score(CodedLabels(estimator), X, y, **options, error_score="raise")
        except Exception:
            pass
        raise


def _some(rows: EpisodeRows, which: np.ndarray) -> EpisodeRows:
    return EpisodeRows._make(None if part is None else part[which] for part in rows)


def _batched_scores(
    estimator: Any, X: Any, y: np.ndarray, rows: EpisodeRows, scoring: Any
) -> np.ndarray:
    answers = EpisodeAnswers(estimator, X, y)
    estimator = answers.estimator  # the last step of a pipeline, which is scored
    accuracy = getattr(type(estimator), "score", None) is ClassifierMixin.score
    if scoring == "accuracy" or (scoring is None and accuracy):  # counted for all at once
        told = answers.about_queries(rows)
        right = told.outputs.argmax(1) == told.truth
        return np.bincount(told.episode, right) / np.bincount(told.episode)
    scorer = check_scoring(estimator, scoring)
    scores = np.empty(len(rows.support))
    for i, one, fitted, asked in stand_ins(answers, rows):
        scores[i] = scorer(fitted, asked, y[one.query])
    return scores
