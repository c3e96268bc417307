"""One episode: how each strategy does on it, what it looks like; and failures, told once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..estimators import fitted_to_labels
from ._task_features import task_features


class Failures:
    """How often each strategy failed, and what it said first.

    Parameters
    ----------
    names : sequence of str
        The strategies.
    """

    def __init__(self, names: Sequence[str]):
        self.names = names
        self.n_episodes = 0
        self.counts = np.zeros(len(names), dtype=int)
        self.firsts = [""] * len(names)

    def add(self, lost: np.ndarray, errors: Sequence[Sequence[str]]) -> None:
        """Count those of more episodes."""
        self.n_episodes += len(lost)
        self.counts += lost.sum(0)
        for i, first in enumerate(self.firsts):
            self.firsts[i] = first or next((error[i] for error in errors if error[i]), "")

    def warn(self) -> None:
        """Tell of them, if there are any."""
        told = [
            f"{name!r} on {count} of {self.n_episodes} ({first})"
            for name, count, first in zip(self.names, self.counts, self.firsts, strict=True)
            if count
        ]
        if told:
            warnings.warn(
                "Strategies failed on episodes, which count as the worst score there is for that "
                "number of shots: " + "; ".join(told),
                stacklevel=4,
            )


def episode_scores(
    scored: list[tuple[Any, Any]], X: Any, y: Any, X_query: Any, y_query: Any,
    described: str | None = None,
) -> tuple[list[float], list[str], dict[str, float] | None]:  # fmt: skip
    """Each strategy's score on one episode, NaN where it failed, and what it said; features."""
    scores, errors = [], []
    with warnings.catch_warnings():
        # of a few rows much is undefined; a strategy that suffers from it scores low
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for strategy, scorer in scored:
            score, error = np.nan, ""
            try:
                score = float(scorer(fitted_to_labels(strategy, X, y), X_query, y_query))
            except Exception as raised:  # whatever it is, that strategy is no good here
                error = f"{type(raised).__name__}: {str(raised).strip().partition(chr(10))[0]}"
            scores.append(score)
            errors.append(error or ("" if np.isfinite(score) else f"a score of {score}"))
    return scores, errors, None if described is None else task_features(X, y, described)
