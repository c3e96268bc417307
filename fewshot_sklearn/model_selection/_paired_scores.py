"""Scores of many estimators on the same episodes, one support set nested in the next."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ..estimators import adapts_in_batches, fitted_to_labels
from ..tasks import EpisodeRows, taken
from .scoring import scores_of_episodes

#: Episodes a process takes at once.
EPISODES_PER_JOB = 20
#: Episodes on which the fit of an estimator that is scored in batches is timed.
TIMED_EPISODES = 10


def first_shots(rows: EpisodeRows, k: int) -> EpisodeRows:
    """The same episodes with the first k support rows of each class (of each task)."""
    support, codes = rows.support, rows.support_codes
    if codes is None:
        return rows._replace(support=support[:, :k])
    # rows of a class stand together, in random order: count from where its run begins
    place = np.arange(codes.shape[1])
    begins = np.diff(codes, axis=1, prepend=codes[:, :1] - 1) != 0
    rank = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    keep = (rank < k) & (support >= 0)
    order = np.argsort(~keep, axis=1, kind="stable")[:, : keep.sum(1).max()]
    kept = np.take_along_axis(keep, order, 1)
    return rows._replace(
        support=np.where(kept, np.take_along_axis(support, order, 1), -1),
        support_codes=np.where(kept, np.take_along_axis(codes, order, 1), -100),
    )


def _stacked(parts: list[EpisodeRows]) -> EpisodeRows:
    """Episodes of all numbers of shots as one batch, so that rows are encoded once."""
    width = max(part.support.shape[1] for part in parts)

    def wide(values: list[Any], fill: int) -> Any:
        if values[0] is None:
            return None
        gaps = [((0, 0), (0, width - value.shape[1])) for value in values]
        return np.concatenate(
            [np.pad(v, gap, constant_values=fill) for v, gap in zip(values, gaps, strict=True)]
        )

    first, n = parts[0], len(parts)
    return EpisodeRows(
        wide([part.support for part in parts], -1),
        np.tile(first.query, (n, 1)),
        wide([part.support_codes for part in parts], -100),
        None if first.query_codes is None else np.tile(first.query_codes, (n, 1)),
    )


class Scores:
    """Scores (n_shots, n_episodes) of one estimator, seconds of its fits, and its failures."""

    def __init__(self, n_shots: int, n_episodes: int):
        self.scores = np.full((n_shots, n_episodes), np.nan)
        self.seconds = np.full((n_shots, n_episodes), np.nan)
        self.failed = np.zeros((n_shots, n_episodes), bool)
        self.error = ""


def score_everyone(
    everyone: dict[str, Any],
    X: Any,
    y: np.ndarray,
    nested: list[EpisodeRows],
    scoring: Any,
    classify: bool,
    n_jobs: int | None,
) -> dict[str, Scores]:
    n_shots, n_episodes = len(nested), len(nested[0].support)
    results = {name: Scores(n_shots, n_episodes) for name in everyone}
    prior: Any = DummyClassifier(strategy="prior") if classify else DummyRegressor()
    scorers = {name: check_scoring(one, scoring) for name, one in everyone.items()}
    fallback = (prior, check_scoring(prior, scoring))
    looped = {n: (e, scorers[n]) for n, e in everyone.items() if not adapts_in_batches(e)}
    for name, estimator in everyone.items():
        if name in looped:
            continue
        plain = scoring if scoring != "accuracy" else None  # counted for all episodes at once
        found = scores_of_episodes(estimator, X, y, _stacked(nested), scoring=plain)
        results[name].scores = found.reshape(n_shots, n_episodes)
        clone(estimator).fit(*_support(X, y, nested[0].episode(0)))  # builds it, once a process
        for s, rows in enumerate(nested):
            for i in range(min(TIMED_EPISODES, n_episodes)):
                start = time.perf_counter()
                clone(estimator).fit(*_support(X, y, rows.episode(i)))
                results[name].seconds[s, i] = time.perf_counter() - start

    jobs = [
        (s, np.arange(n_episodes)[start : start + EPISODES_PER_JOB])
        for s in range(n_shots if looped else 0)
        for start in range(0, n_episodes, EPISODES_PER_JOB)
    ]
    done = Parallel(n_jobs=n_jobs)(
        delayed(_one_by_one)(looped, fallback, X, y, [nested[s].episode(i) for i in numbers])
        for s, numbers in jobs
    )
    for (s, numbers), (found, seconds, errors) in zip(jobs, done, strict=True):
        for j, name in enumerate(looped):
            result = results[name]
            result.scores[s, numbers], result.seconds[s, numbers] = found[:, j], seconds[:, j]
            result.failed[s, numbers] = [bool(told[j]) for told in errors]
            result.error = result.error or next((told[j] for told in errors if told[j]), "")
    for result in results.values():  # of a batched call that gave no number
        for s, i in zip(*np.nonzero(~np.isfinite(result.scores)), strict=True):
            result.failed[s, i], result.error = True, "its score is not finite"
            result.scores[s, i] = _fallback(fallback, X, y, nested[s].episode(i))
    return results


def _support(X: Any, y: np.ndarray, rows: EpisodeRows) -> tuple[Any, np.ndarray]:
    return taken(X, rows.support), y[rows.support]


def _one_by_one(
    candidates: dict[str, tuple[Any, Any]],
    fallback: tuple[Any, Any],
    X: Any,
    y: np.ndarray,
    episodes: list[EpisodeRows],
) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
    """Score and seconds of each candidate on each episode, and what went wrong."""
    shape = (len(episodes), len(candidates))
    scores, seconds, errors = np.empty(shape), np.empty(shape), []
    with warnings.catch_warnings(), threadpool_limits(1):  # threads only cost time with few rows
        # of a few rows much is undefined; an estimator that suffers from it scores low
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for i, rows in enumerate(episodes):
            told = []
            data, X_query, y_query = _support(X, y, rows), taken(X, rows.query), y[rows.query]
            for j, (estimator, scorer) in enumerate(candidates.values()):
                start, error, score = time.perf_counter(), "", np.nan
                try:
                    fitted = fitted_to_labels(estimator, *data)
                    seconds[i, j] = time.perf_counter() - start
                    score = float(scorer(fitted, X_query, y_query))
                except Exception as raised:  # whatever it is, it is counted and told
                    seconds[i, j] = time.perf_counter() - start
                    error = f"{type(raised).__name__}: {str(raised).strip().partition(chr(10))[0]}"
                if not np.isfinite(score):
                    error = error or f"a score of {score}"
                    score = _fallback(fallback, X, y, rows)
                scores[i, j] = score
                told.append(error)
            errors.append(told)
    return scores, seconds, errors


def _fallback(fallback: tuple[Any, Any], X: Any, y: np.ndarray, rows: EpisodeRows) -> float:
    """The score of the prior, or of the mean, on one episode."""
    prior, scorer = fallback
    score, reason = np.nan, ""
    try:
        fitted = clone(prior).fit(*_support(X, y, rows))
        score = float(scorer(fitted, taken(X, rows.query), y[rows.query]))
    except ValueError as error:
        reason = f" ({error})"
    if not np.isfinite(score):
        raise ValueError(
            f"scoring gives no finite number on an episode of {len(rows.support)} support and "
            f"{len(rows.query)} query rows, even for {type(prior).__name__}{reason}. Choose "
            "another scoring, or more query rows."
        )
    return score


def warn_failures(results: dict[str, Scores], n: int) -> None:
    told = [
        f"{name!r} on {result.failed.sum()} of {n} ({result.error})"
        for name, result in results.items()
        if result.failed.any()
    ]
    if told:
        warnings.warn(
            "Estimators failed on episodes, which count with the score of the prior or the mean: "
            + "; ".join(told),
            stacklevel=3,
        )
