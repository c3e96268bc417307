"""An episode is a cross-validation split: splitting, and scoring over many episodes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import check_scoring, r2_score
from sklearn.model_selection import BaseCrossValidator, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length, check_random_state

from ..estimators import ROW_DTYPES, FewShotEstimator, adapts_in_batches, resolve_device
from ..learners import FeatureLearner, Gaussian
from ..tasks import (
    Blocks,
    ClassEpisodes,
    EpisodeRows,
    GroupEpisodes,
    IntOrRange,
    Task,
    TaskBatch,
    pad_tasks,
    tasks_at,
)
from .scores import FewShotScore

#: Share of rows that may equal rows trained on by chance, as numbers of few digits do.
CHANCE = 0.01
#: Episodes scored in one batched call.
EPISODES_PER_BATCH = 100


class EpisodeSplit(BaseCrossValidator):
    """Cross-validation splits that are few-shot episodes: train on the support, test on the query.

    Works wherever scikit-learn takes a ``cv``, with any estimator. Give each
    split a fresh few rows of a few classes, inside one group where groups are
    given; or, with ``n_way=None``, a few rows of one group.

    Parameters
    ----------
    n_way : int, (low, high) or None, default=5
        Classes an episode. None makes each group one task with all its rows,
        as regression needs.
    n_shot : int or (low, high), default=1
        Support rows a class (a task, with ``n_way=None``).
    n_query : int, (low, high) or None, default=15
        Query rows a class (a task); None takes all that the support leaves.
    n_episodes : int, default=600
        Number of splits.
    random_state : int, RandomState instance or None, default=None
        Episode i is drawn from (random_state, i). An int gives the same
        episodes at every call.

    See Also
    --------
    few_shot_score : Mean score over episodes, with its confidence interval.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_validate
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from fewshot_sklearn import EpisodeSplit
    >>> X, y = load_digits(return_X_y=True)
    >>> cv = EpisodeSplit(n_way=5, n_shot=1, n_episodes=100, random_state=0)
    >>> scores = cross_validate(KNeighborsClassifier(1), X, y, cv=cv)["test_score"]
    >>> len(scores), bool(0.6 < scores.mean() < 0.9)
    (100, True)
    """

    __metadata_request__split = {"groups": True}

    def __init__(
        self,
        n_way: IntOrRange | None = 5,
        n_shot: IntOrRange = 1,
        n_query: IntOrRange | None = 15,
        n_episodes: int = 600,
        random_state: Any = None,
    ):
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.n_episodes = n_episodes
        self.random_state = random_state

    def episodes(self, y: Any, groups: Any = None) -> EpisodeRows:
        """Draw the episodes: row numbers and local class codes, with a leading axis of episodes.

        Parameters
        ----------
        y : array-like of shape (n_rows,)
            Class labels or targets.
        groups : array-like of shape (n_rows,) or None, default=None
            Task or group of each row.

        Returns
        -------
        EpisodeRows
            All `n_episodes`; row numbers are padded with -1.
        """
        sampler: ClassEpisodes | GroupEpisodes
        if self.n_way is not None:
            sampler = ClassEpisodes(
                y, groups, n_way=self.n_way, n_shot=self.n_shot, n_query=self.n_query
            )
        elif groups is None:
            raise ValueError(
                "groups is needed with n_way=None: it says which task each row belongs to."
            )
        else:
            sampler = GroupEpisodes(groups, n_shot=self.n_shot, n_query=self.n_query)
        seed = check_random_state(self.random_state).randint(2**31)
        blocks = Blocks(sampler.draw, sampler.block_size)
        return EpisodeRows(*blocks.take(seed, range(self.n_episodes)))  # type: ignore[arg-type]

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the row numbers of each episode.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Not looked at.
        y : array-like of shape (n_rows,)
            Class labels; with ``n_way=None`` not looked at.
        groups : array-like of shape (n_rows,) or None, default=None
            Task or group of each row.

        Yields
        ------
        support : ndarray
            Rows to train on.
        query : ndarray
            Rows to test on, none of them among the support.
        """
        if y is None and self.n_way is not None:
            raise ValueError("y is needed: it holds the class of each row.")
        rows = self.episodes(y, groups)
        for i in range(self.n_episodes):
            one = rows.episode(i)
            yield one.support, one.query

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of episodes.

        Parameters
        ----------
        X, y, groups : object, default=None
            Ignored.

        Returns
        -------
        int
            `n_episodes`.
        """
        return self.n_episodes


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
        Processes for the episode-by-episode loop.

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
    y = np.asarray(y)
    check_consistent_length(X, y, groups)
    if is_regressor(estimator) and n_way is not None:
        raise ValueError(
            "To score a regressor pass n_way=None and groups: each group is then one task."
        )
    if seen := tasks_seen(estimator, y, groups, X):
        warnings.warn(seen, stacklevel=2)
    rows = split.episodes(y, groups)
    scores = scores_of_episodes(estimator, X, y, rows, scoring=scoring, n_jobs=n_jobs)
    return FewShotScore(scores, None if groups is None else np.asarray(groups)[rows.query[:, 0]])


def tasks_seen(estimator: Any, y: Any, groups: Any = None, X: Any = None) -> str:
    """What to warn of where a meta-init has seen some of these tasks or rows; else nothing."""
    final = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(final, FewShotEstimator):
        return ""
    init = final._resolve_meta_init()
    if init is None:
        return ""
    kind, ids = ("classes", y) if groups is None else ("groups", groups)
    named = init.cite_tasks(ids, kind)
    # what a pipeline is given is not what its last step sees
    rows = init.cite_rows(X) if X is not None and final is estimator else 0
    if X is not None and rows > CHANCE * len(X):
        return (
            f"{init!r} was meta-trained on {rows:,} of these {len(X):,} rows, and on {named:,} of "
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
        Processes for the episode-by-episode loop.

    Returns
    -------
    ndarray of shape (n_episodes,)
        Scores.
    """
    y = np.asarray(y)
    if adapts_in_batches(estimator):
        return _batched_scores(estimator, X, y, rows, scoring)
    cv = [(one.support, one.query) for one in map(rows.episode, range(len(rows.support)))]
    return cross_val_score(
        estimator, X, y, cv=cv, scoring=scoring, n_jobs=n_jobs, error_score="raise"
    )


class _Answers:
    """Stands in for an estimator fitted on one episode, for scikit-learn's scorers."""

    def __init__(self, estimator: Any, predicted: np.ndarray, classes: np.ndarray | None = None):
        self._estimator, self._predicted, self._classes = estimator, predicted, classes
        if classes is not None:
            self.classes_ = classes

    def predict(self, X: Any) -> np.ndarray:
        if self._classes is None:
            return self._predicted
        return self._classes[self._predicted.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        return self._predicted

    def __sklearn_tags__(self) -> Any:
        return self._estimator.__sklearn_tags__()

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any) -> _Answers:  # scorers ask for estimators, which can fit
        return self


def _batched_scores(
    estimator: Any, X: Any, y: np.ndarray, rows: EpisodeRows, scoring: Any
) -> np.ndarray:
    X = check_array(X, dtype=ROW_DTYPES, allow_nd=True)
    init = estimator._resolve_meta_init()
    n_outputs = None if is_classifier(estimator) else y.reshape(len(y), -1).shape[1]
    estimator._check_fits(init, X.shape[1:], n_outputs)
    learner = estimator._rebuild(init)
    dtype, device = estimator._compute_dtype(), resolve_device(estimator.device)
    forward: Callable[..., Any] = learner
    scorer = None if scoring is None else check_scoring(estimator, scoring)
    with torch.no_grad():
        if isinstance(learner, FeatureLearner):
            used = np.unique(np.concatenate([rows.support, rows.query], 1))
            used = used[used >= 0]
            Z = learner.embed(torch.as_tensor(X[used]).to(device, dtype))
            X = Z.new_empty((len(X), *Z.shape[1:]))
            X[torch.as_tensor(used, device=device)] = Z
            forward = learner.forward_features
        scores: list[float] = []
        for start in range(0, len(rows.support), EPISODES_PER_BATCH):
            stop = start + EPISODES_PER_BATCH
            part = EpisodeRows(*(a if a is None else a[start:stop] for a in rows))  # type: ignore[arg-type]
            batch, y_query = pad_tasks(_tasks(X, y, part, n_outputs), dtype)
            arguments = (batch[name].to(device) for name in ("X", "y", "w", "X_query"))
            outputs = forward(*arguments)
            outputs = outputs.mean if isinstance(outputs, Gaussian) else outputs
            outputs = outputs.cpu()
            if scorer is None and part.query_codes is not None:
                right = (outputs.argmax(-1) == y_query).sum(1).numpy()
                scores.extend(right / (y_query >= 0).sum(1).numpy())
                continue
            if n_outputs is None:
                outputs = outputs.softmax(-1)
            for i, out in enumerate(outputs.numpy()):
                one = part.episode(i)
                scores.append(_score_one(estimator, scorer, out[: len(one.query)], y, one))
    return np.array(scores)


def _tasks(
    X: np.ndarray | torch.Tensor, y: np.ndarray, rows: EpisodeRows, n_outputs: int | None
) -> list[Task] | TaskBatch:
    if n_outputs is not None:
        return tasks_at(X, y.reshape(len(y), -1).astype(np.float64), rows)
    if rows.support_codes is not None:
        return tasks_at(X, None, rows)
    tasks = []  # whole groups: their own labels
    for one in (rows.episode(i) for i in range(len(rows.support))):
        classes, codes = np.unique(y[one.support], return_inverse=True)
        asked = np.searchsorted(classes, y[one.query]).clip(max=len(classes) - 1)
        support, query = (np.asarray(torch.as_tensor(X[r]).cpu()) for r in one[:2])
        tasks.append(Task(support, codes, query, asked))
    return tasks


def _score_one(
    estimator: Any, scorer: Any, out: np.ndarray, y: np.ndarray, r: EpisodeRows
) -> float:
    truth = y[r.query]
    if not is_classifier(estimator):
        predicted = out if y.ndim == 2 else out[:, 0]
        if scorer is None:
            return float(r2_score(truth, predicted))
        return float(scorer(_Answers(estimator, predicted), truth, truth))
    support = y[r.support]
    if r.support_codes is None:
        labels = np.unique(support)
    else:
        labels = support[np.unique(r.support_codes, return_index=True)[1]]
    if scorer is None:
        return float((labels[out[:, : len(labels)].argmax(1)] == truth).mean())
    order = np.argsort(labels)
    answers = _Answers(estimator, out[:, order], labels[order])
    return float(scorer(answers, truth, truth))
