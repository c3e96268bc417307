"""How often strategies failed on episodes, and why; told once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np

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
            for i in np.flatnonzero(row).tolist():
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
