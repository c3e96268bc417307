"""An episode is a cross-validation split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_consistent_length, check_random_state

from ..tasks import (
    Blocks,
    ClassEpisodes,
    EpisodeRows,
    GroupEpisodes,
    IntOrRange,
    Seed,
    Whole,
    WholeOrRange,
    check_parameters,
)


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

    _constraints = {
        "n_way": WholeOrRange(2) | None,
        "n_shot": WholeOrRange(0),
        "n_query": WholeOrRange(1) | None,
        "n_episodes": Whole(1),
        "random_state": Seed(),
    }

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

    def episodes(self, y: Any, groups: Any = None, short: Any = None) -> EpisodeRows:
        """Draw the episodes: row numbers and local class codes, with a leading axis of episodes.

        Parameters
        ----------
        y : array-like of shape (n_rows,)
            Class labels or targets.
        groups : array-like of shape (n_rows,) or None, default=None
            Task or group of each row.
        short : Shortage or None, default=None
            What counts the data that is too small; None warns of it.

        Returns
        -------
        EpisodeRows
            All `n_episodes`; row numbers are padded with -1.
        """
        check_parameters(self)
        check_consistent_length(y, groups)
        sampler: ClassEpisodes | GroupEpisodes
        if self.n_way is not None:
            sampler = ClassEpisodes(
                y, groups, n_way=self.n_way, n_shot=self.n_shot, n_query=self.n_query, short=short
            )
        elif groups is None:
            raise ValueError(
                "groups is needed with n_way=None: it says which task each row belongs to."
            )
        else:
            sampler = GroupEpisodes(groups, n_shot=self.n_shot, n_query=self.n_query, short=short)
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
            Not looked at but for their number.
        y : array-like of shape (n_rows,)
            Class labels; with ``n_way=None`` not looked at but for their number.
        groups : array-like of shape (n_rows,) or None, default=None
            Task or group of each row.

        Yields
        ------
        support : ndarray
            Rows to train on.
        query : ndarray
            Rows to test on, none of them among the support.
        """
        check_parameters(self)
        if y is None and self.n_way is not None:
            raise ValueError("y is needed: it holds the class of each row.")
        check_consistent_length(X, y, groups)
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
        check_parameters(self)
        return self.n_episodes
