"""One episode: how each strategy does on it, what it looks like; and failures, told once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..estimators import fitted_to_labels, fitted_to_nothing
from ._answers import errors
from ._task_features import task_features

#: Reasons of one strategy's failures that are told.
MOST_REASONS = 5


class Failures:
    """How often each strategy failed, and what it said, each reason once.

    Parameters
    ----------
    names : sequence of str
        The strategies.
    """

    def __init__(self, names: Sequence[str]):
        self.names = names
        self.n_episodes = np.zeros(len(names), dtype=int)
        self.counts = np.zeros(len(names), dtype=int)
        #: By strategy what it said first, by that without its numbers.
        self.reasons: list[dict[str, str]] = [{} for _ in names]

    def add(self, lost: np.ndarray, errors: Sequence[Sequence[str]], asked: np.ndarray) -> None:
        """Count those of more episodes.

        Parameters
        ----------
        lost : ndarray of shape (n_episodes, n_strategies), bool
            Which failed.
        errors : sequence of sequence of str
            What each said, empty where it answered.
        asked : ndarray of shape (n_episodes, n_strategies), bool
            Which were asked: without labels not those that have no prior.
        """
        lost = lost & asked
        self.n_episodes += asked.sum(0)
        self.counts += lost.sum(0)
        for row, told in zip(lost, errors, strict=True):
            for i in np.flatnonzero(row):
                self.reasons[i].setdefault(re.sub(r"[\d.]+", "#", told[i]), told[i])

    @classmethod
    def joined(cls, several: Sequence[Failures]) -> Failures:
        """The same of several, whose strategies may be others.

        Parameters
        ----------
        several : sequence of Failures
            One or more.

        Returns
        -------
        Failures
            Of all strategies.
        """
        made = cls(list(dict.fromkeys(name for one in several for name in one.names)))
        for one in several:
            for i, name in enumerate(one.names):
                at = made.names.index(name)
                made.n_episodes[at] += one.n_episodes[i]
                made.counts[at] += one.counts[i]
                made.reasons[at] = one.reasons[i] | made.reasons[at]
        return made

    def warn(self, stacklevel: int = 4) -> None:
        """Tell of them in one warning, if there are any; first of those that never answered.

        Parameters
        ----------
        stacklevel : int, default=4
            As `warnings.warn` has it.
        """
        never, some = [], []
        for i, name in enumerate(self.names):
            if not self.counts[i]:
                continue
            reasons = list(self.reasons[i].values())
            more = len(reasons) - MOST_REASONS
            why = "; ".join(reasons[:MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")
            if self.counts[i] == self.n_episodes[i]:
                never.append(f"{name!r} never answered, on {self.counts[i]} episodes ({why})")
            else:
                some.append(f"{name!r} on {self.counts[i]} of {self.n_episodes[i]} ({why})")
        told = []
        if never:
            told.append("Strategies that are of no use here: " + "; ".join(never) + ".")
        if some:
            told.append(
                "Strategies failed on episodes, which count as the worst score there is for that "
                "number of shots: " + "; ".join(some) + "."
            )
        if told:
            warnings.warn(" ".join(told), stacklevel=stacklevel)


class Episode(NamedTuple):
    """How each strategy did on one episode.

    Parameters
    ----------
    scores : list of float
        NaN where it failed.
    told : list of str
        What it said then.
    products : ndarray of shape (n_strategies, n_strategies) or None
        Mean products of their errors, zero where one failed; None where they were not asked for.
    features : dict of str to float or None
        Of the task.
    """

    scores: list[float]
    told: list[str]
    products: np.ndarray | None
    features: dict[str, float] | None


def tried(
    scored: list[tuple[Any, Any]], X: Any, y: Any, X_query: Any, y_query: Any, kind: str,
    described: bool, stacked: bool,
) -> Episode:  # fmt: skip
    """Try each strategy on one episode.

    Parameters
    ----------
    scored : list of (estimator, scorer)
        The strategies.
    X, y, X_query, y_query : array-like
        The episode. Of no support rows strategies answer with their `fit_prior`.
    kind : {"classifier", "regressor"}
        What they are.
    described, stacked : bool
        Whether to look at features of the task, and at products of errors.

    Returns
    -------
    Episode
        How each did.
    """
    scores, told, off = [], [], []
    classes = np.unique(y) if kind == "classifier" else None
    with warnings.catch_warnings():
        # of a few rows much is undefined; a strategy that suffers from it scores low
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for strategy, scorer in scored:
            score, error, answers = np.nan, "", None
            try:
                known = len(y) > 0
                fitted = fitted_to_labels(strategy, X, y) if known else fitted_to_nothing(strategy)
                score = float(scorer(fitted, X_query, y_query))
                if stacked:
                    answers = errors(fitted, X_query, y_query, classes)
            except Exception as raised:  # whatever it is, that strategy is no good here
                score, answers = np.nan, None
                error = f"{type(raised).__name__}: {str(raised).strip().partition(chr(10))[0]}"
            scores.append(score)
            told.append(error or ("" if np.isfinite(score) else f"a score of {score}"))
            off.append(answers)
    features = task_features(X, y, kind) if described else None
    return Episode(scores, told, _products(off) if stacked else None, features)


def _products(off: list[np.ndarray | None]) -> np.ndarray:
    """Mean products, over the queries, of the errors of each two strategies."""
    shape = next((one.shape for one in off if one is not None), (1, 1))
    fine = [one if one is not None and np.isfinite(one).all() else np.zeros(shape) for one in off]
    flat = np.stack([one.ravel() for one in fine])
    return flat @ flat.T / shape[0]
