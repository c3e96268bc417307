"""What an estimator answers on many episodes: logits, or means and standard deviations.

Meta-trained estimators of this package answer many episodes in one call; any other
scikit-learn estimator is cloned and fitted episode by episode.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy.special import log_softmax
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

from ..estimators import ROW_DTYPES, FewShotClassifier, adapts_in_batches, resolve_device
from ..learners import FeatureLearner, Gaussian
from ..tasks import (
    IGNORED_CODE,
    UNLABELLED_CODE,
    EpisodeRows,
    TaskBatch,
    indexable,
    pad_tasks,
    taken,
    tasks_at,
)
from .scoring import EPISODES_PER_BATCH

#: Parts that a support set is divided into to hold each out once: all rows, up to so many a class.
FOLDS = 5
#: What counts as the probability of a class that an estimator rules out.
RULED_OUT = 1e-12


class Answers(NamedTuple):
    """Outputs for rows of episodes, and the truth.

    Parameters
    ----------
    outputs : ndarray of shape (n_rows, n_way or n_outputs)
        Logits, minus infinity for classes that an episode lacks; or means.
    std : ndarray of shape (n_rows, n_outputs) or None
        Predictive standard deviations, where the estimator has them.
    truth : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Codes, -1 for a class without support; or targets.
    episode : ndarray of shape (n_rows,)
        Which episode each row is of.
    row : ndarray of shape (n_rows,)
        Row numbers.
    """

    outputs: np.ndarray
    std: np.ndarray | None
    truth: np.ndarray
    episode: np.ndarray
    row: np.ndarray


class EpisodeAnswers:
    """Puts episodes made of given rows to an estimator.

    Parameters
    ----------
    estimator : estimator
        Any scikit-learn classifier or regressor; it is never fitted itself.
    X : array-like or DataFrame of shape (n_rows, ...)
        Rows.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Labels or targets.
    n_jobs : int or None, default=None
        Processes for the episode-by-episode loop.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, n_jobs: int | None = None):
        self.estimator, self.n_jobs = estimator, n_jobs
        self.y = np.asarray(y)
        self.classifies = is_classifier(estimator)
        self.batched = adapts_in_batches(estimator)
        self.X = indexable(X)
        if self.batched:
            self.X = check_array(X, dtype=ROW_DTYPES, allow_nd=True)
            init = estimator._resolve_meta_init()
            n_outputs = None if self.classifies else self.y.reshape(len(self.y), -1).shape[1]
            estimator._check_fits(init, self.X.shape[1:], n_outputs)
            self.learner = estimator._rebuild(init)
            self.dtype = estimator._compute_dtype()
            self.device = resolve_device(estimator.device)
            self._embedded = np.zeros(len(self.X), dtype=bool)
            self._Z: torch.Tensor | None = None

    # ------------------------------------------------------------------ the two questions
    def about_queries(self, rows: EpisodeRows) -> Answers:
        """Outputs for the queries of each episode, fitted on its support.

        Parameters
        ----------
        rows : EpisodeRows
            Many episodes.

        Returns
        -------
        Answers
            Their queries, one episode after the other.
        """
        rows = self.coded(rows)
        if self.batched:
            outputs, std = self._in_batches(rows, None)
            return _flat(outputs, std, self._truth(rows), rows.query, rows.query >= 0)
        jobs = ((self._support(rows, i), *_queries(rows, i)) for i in range(len(rows.support)))
        return self._one_by_one(jobs)

    def about_held_out_support(self, rows: EpisodeRows) -> Answers:
        """Outputs for support rows, each fitted on the support without it and a few others.

        Cross-validation of five folds by place within the class (the task, for
        regression), which is leave-one-out up to five rows. A class of a single row
        is never held out.

        Parameters
        ----------
        rows : EpisodeRows
            Many episodes.

        Returns
        -------
        Answers
            The rows that were held out.
        """
        rows = self.coded(rows)
        folds = support_folds(rows)
        parts: list[Answers] = []
        about_itself = rows._replace(query=rows.support, query_codes=rows.support_codes)
        for fold in range(folds.max(initial=-1) + 1):
            held_out = folds == fold
            if self.batched:
                outputs, std = self._in_batches(about_itself, ~held_out)
                truth = self._truth(about_itself)
                parts.append(_flat(outputs, std, truth, rows.support, held_out))
                continue
            chosen = np.flatnonzero(held_out.any(1))
            part = self._one_by_one(
                (
                    self._support(rows, i, ~held_out[i]),
                    rows.support[i][held_out[i]],
                    None if rows.support_codes is None else rows.support_codes[i][held_out[i]],
                )
                for i in chosen.tolist()
            )
            parts.append(part._replace(episode=chosen[part.episode]))
        return joined_answers(parts)

    def features(self, used: np.ndarray | None = None) -> np.ndarray | None:
        """Features (n_rows, n_features) of rows: embeddings, or plain numbers as they are.

        Parameters
        ----------
        used : ndarray of int or None, default=None
            Row numbers; None takes all.

        Returns
        -------
        ndarray or None
            None where rows are not numbers.
        """
        used = np.arange(len(self.y)) if used is None else used
        if self.batched:
            embedded = self._features_of(used)
            return embedded[torch.as_tensor(used, device=self.device)].cpu().double().numpy()
        return plain_features(taken(self.X, used))

    # ------------------------------------------------------------------ many at once
    def coded(self, rows: EpisodeRows) -> EpisodeRows:
        """Give whole groups class codes: those of their support's labels.

        Parameters
        ----------
        rows : EpisodeRows
            Many episodes.

        Returns
        -------
        EpisodeRows
            The same with codes, where they are of classification and had none.
        """
        if not self.classifies or rows.support_codes is not None:
            return rows
        support = np.full(rows.support.shape, IGNORED_CODE)
        query = np.full(rows.query.shape, IGNORED_CODE)
        for i in range(len(support)):
            known, asked = rows.support[i] >= 0, rows.query[i] >= 0
            classes, codes = np.unique(self.y[rows.support[i][known]], return_inverse=True)
            labels = self.y[rows.query[i][asked]]
            place = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
            support[i, known] = codes
            query[i, asked] = np.where(classes[place] == labels, place, UNLABELLED_CODE)
        return rows._replace(support_codes=support, query_codes=query)

    def _truth(self, rows: EpisodeRows) -> np.ndarray:
        if rows.query_codes is not None:
            return rows.query_codes
        return self.y.reshape(len(self.y), -1)[rows.query].astype(np.float64)

    def _features_of(self, used: np.ndarray) -> torch.Tensor:
        """Embeddings of all rows, of which at least these are filled in."""
        new = np.unique(used[~self._embedded[used]])
        if len(new) or self._Z is None:
            with torch.no_grad():
                Z = self.learner.embed(torch.as_tensor(self.X[new]).to(self.device, self.dtype))
            if self._Z is None:
                self._Z = Z.new_zeros((len(self.X), *Z.shape[1:]))
            self._Z[torch.as_tensor(new, device=self.device)] = Z
            self._embedded[new] = True
        return self._Z

    def _in_batches(
        self, rows: EpisodeRows, kept: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Outputs (T, n_query, ...) of episodes whose support weighs nothing where not `kept`."""
        X: Any = self.X
        forward: Callable[..., Any] = self.learner
        if isinstance(self.learner, FeatureLearner):
            used = np.unique(np.concatenate([rows.support, rows.query], 1))
            X, forward = self._features_of(used[used >= 0]), self.learner.forward_features
        targets = None if self.classifies else self.y.reshape(len(self.y), -1).astype(np.float64)
        outputs, stds = [], []
        for start in range(0, len(rows.support), EPISODES_PER_BATCH):
            part = slice(start, start + EPISODES_PER_BATCH)
            some = EpisodeRows(*(a if a is None else a[part] for a in rows))  # type: ignore[arg-type]
            weights = some.support >= 0
            if kept is not None:
                weights &= kept[part]
            batch, _ = pad_tasks(self._tasks(X, targets, some, weights), self.dtype)
            with torch.no_grad():
                out = forward(*(batch[k].to(self.device) for k in ("X", "y", "w", "X_query")))
            if isinstance(out, Gaussian):
                stds.append(out.variance.sqrt().cpu().double().numpy())
                out = out.mean
            outputs.append(out.cpu().double().numpy())
        return _stacked(outputs), (_stacked(stds) if stds else None)

    def _tasks(
        self, X: Any, targets: np.ndarray | None, rows: EpisodeRows, weights: np.ndarray
    ) -> TaskBatch:
        if rows.query_codes is not None and (rows.query_codes == UNLABELLED_CODE).any():
            known = np.where(rows.query_codes == UNLABELLED_CODE, 0, rows.query_codes)
            rows = rows._replace(query_codes=known)  # only support codes say what the classes are
        batch = tasks_at(X, targets, rows)
        weights = weights[:, : batch.X.shape[1]]
        return batch._replace(w=None if weights.all() else weights.astype(np.float64))

    # ------------------------------------------------------------------ one by one
    def _support(
        self, rows: EpisodeRows, i: int, kept: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        real = rows.support[i] >= 0
        real = real if kept is None else real & kept
        codes = rows.support_codes
        return rows.support[i][real], None if codes is None else codes[i][real]

    def _one_by_one(self, jobs: Any) -> Answers:
        done = Parallel(n_jobs=self.n_jobs)(
            delayed(_fitted_answers)(self.estimator, self.X, self.y, *job) for job in jobs
        )
        return joined_answers([a._replace(episode=a.episode + i) for i, a in enumerate(done)])


def _queries(rows: EpisodeRows, i: int) -> tuple[np.ndarray, np.ndarray | None]:
    real = rows.query[i] >= 0
    return rows.query[i][real], None if rows.query_codes is None else rows.query_codes[i][real]


def _fitted_answers(
    estimator: Any,
    X: Any,
    y: np.ndarray,
    support: tuple[np.ndarray, np.ndarray | None],
    asked: np.ndarray,
    asked_codes: np.ndarray | None,
) -> Answers:
    known, codes = support
    with warnings.catch_warnings():  # of a few rows much does not converge
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = clone(estimator).fit(taken(X, known), y[known])
    episode = np.zeros(len(asked), dtype=int)
    if codes is None or asked_codes is None:
        mean, std = means_of(fitted, taken(X, asked))
        return Answers(mean, std, y.reshape(len(y), -1)[asked].astype(np.float64), episode, asked)
    # columns in the order of the episode's codes, which is not that of the sorted labels
    numbers, first = np.unique(codes, return_index=True)
    logits = logits_of(fitted, taken(X, asked))
    out = np.full((len(asked), numbers[-1] + 1), -np.inf)
    out[:, numbers] = logits[:, np.searchsorted(fitted.classes_, y[known[first]])]
    return Answers(out, None, asked_codes, episode, asked)


def logits_of(fitted: Any, X: Any) -> np.ndarray:
    """Logits (n_rows, n_classes) of a fitted classifier, up to a number for each row.

    Parameters
    ----------
    fitted : estimator
        A fitted classifier.
    X : array-like of shape (n_rows, ...)
        Rows.

    Returns
    -------
    ndarray of shape (n_rows, n_classes)
        A learner's own logits; else logarithms of probabilities, none below
        log 1e-12; else the decision function; else what the prediction alone says.
    """
    if isinstance(fitted, FewShotClassifier):
        return fitted._outputs(X).cpu().double().numpy()
    n_classes = len(fitted.classes_)
    if hasattr(fitted, "predict_proba"):
        try:
            return np.log(np.maximum(fitted.predict_proba(X), RULED_OUT))
        except ValueError:  # NearestCentroid has them, but not of one row a class
            pass
    elif hasattr(fitted, "decision_function"):
        scores = np.asarray(fitted.decision_function(X), dtype=np.float64)
        if scores.ndim == 1 and n_classes == 2:
            scores = np.stack([np.zeros_like(scores), scores], 1)
        if scores.shape[1:] == (n_classes,):  # not one for each pair of classes
            return scores
    sure = np.asarray(fitted.predict(X))[:, None] == fitted.classes_
    return np.log(np.where(sure, 1.0, RULED_OUT))


def means_of(fitted: Any, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Predictions (n_rows, n_outputs) of a fitted regressor, and their deviations where it has any.

    Parameters
    ----------
    fitted : estimator
        A fitted regressor.
    X : array-like of shape (n_rows, ...)
        Rows.

    Returns
    -------
    mean, std : ndarray of shape (n_rows, n_outputs), ndarray of that shape or None
        The predictions.
    """
    if not returns_std(fitted):
        mean = np.asarray(fitted.predict(X), dtype=np.float64)
        return mean.reshape(len(mean), -1), None
    mean, std = (np.asarray(a, dtype=np.float64) for a in fitted.predict(X, return_std=True))
    mean, std = mean.reshape(len(mean), -1), std.reshape(len(std), -1)
    # where all deviations of one output underflow, there still is something to divide by
    return mean, np.broadcast_to(np.maximum(std, np.finfo(np.float64).tiny), mean.shape)


def returns_std(estimator: Any) -> bool:
    """Whether a regressor's `predict` takes ``return_std``."""
    final = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    try:
        return "return_std" in inspect.signature(final.predict).parameters
    except (AttributeError, ValueError):
        return False


def features_of(estimator: Any, X: Any) -> np.ndarray | None:
    """Features of any rows, as `EpisodeAnswers.features` has them."""
    if adapts_in_batches(estimator):
        return estimator.embed(X).astype(np.float64)
    return plain_features(X)


def plain_features(X: Any) -> np.ndarray | None:
    """Rows as numbers (n_rows, n_features); None where they are not numbers."""
    try:
        Z = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return Z.reshape(len(Z), -1) if Z.ndim > 1 and np.isfinite(Z).all() else None


def support_folds(rows: EpisodeRows) -> np.ndarray:
    """Which fold holds each support row out (n_episodes, n_support); -1 where none does."""
    real = rows.support >= 0
    codes = np.where(real, 0, IGNORED_CODE) if rows.support_codes is None else rows.support_codes
    folds = np.full(rows.support.shape, -1)
    for code in range(codes.max(initial=-1) + 1):
        own = real & (codes == code)
        several = own & (own.sum(1, keepdims=True) > 1)
        folds = np.where(several, (own.cumsum(1) - 1) % FOLDS, folds)
    return folds


def joined_answers(parts: list[Answers]) -> Answers:
    """Answers one after the other; of classification, with as many columns as the widest."""
    if not parts:
        none = np.empty(0, dtype=int)
        return Answers(np.empty((0, 1)), None, none, none, none)
    outputs, stds, truths, episodes, rows = zip(*parts, strict=True)
    return Answers(
        _stacked(list(outputs)),
        None if stds[0] is None else np.concatenate(stds),
        np.concatenate(truths),
        np.concatenate(episodes),
        np.concatenate(rows),
    )


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    """Concatenate; what is short of the widest in columns or in padded rows gets minus infinity."""
    widest = np.max([part.shape for part in parts], axis=0)
    widened = []
    for part in parts:
        gaps = [(0, 0), *((0, gap) for gap in (widest - part.shape)[1:])]
        widened.append(np.pad(part, gaps, constant_values=-np.inf) if np.any(gaps) else part)
    return np.concatenate(widened)


def _flat(
    outputs: np.ndarray,
    std: np.ndarray | None,
    truth: np.ndarray,
    rows: np.ndarray,
    real: np.ndarray,
) -> Answers:
    """The real rows of padded answers, one episode after the other."""
    # padding that no episode of the batch needs was trimmed from the outputs
    width = outputs.shape[1]
    real, truth, rows = real[:, :width], truth[:, :width], rows[:, :width]
    own = None if std is None else std[real]
    return Answers(outputs[real], own, truth[real], np.nonzero(real)[0], rows[real])


def cross_entropies(logits: np.ndarray, truth: np.ndarray, temperature: float) -> np.ndarray:
    """Negative log probabilities (n_rows,) of the true classes, in nats."""
    told = log_softmax(logits / temperature, axis=1)
    return -np.take_along_axis(told, truth[:, None], 1)[:, 0]


def gaussian_losses(residuals: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Negative log likelihoods (n_rows,) of residuals (n_rows, n_outputs), without constants."""
    return (0.5 * np.square(residuals / std) + np.log(std)).mean(1)


def held_out_losses(held_out: Answers, scale: np.ndarray) -> np.ndarray:
    """Losses (n_rows,) of held-out rows: cross-entropies, or Gaussian, calibrated by `scale`."""
    if held_out.truth.ndim == 1:
        return cross_entropies(held_out.outputs, held_out.truth, float(scale[0]))
    std = np.ones_like(held_out.outputs) if held_out.std is None else held_out.std
    return gaussian_losses(held_out.truth - held_out.outputs, scale * std)
