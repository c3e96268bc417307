"""From rows to episodes: (X, y, groups), a pool of classes, or a generator of tasks.

Whatever the source, item ``i`` of an `Episodes` data set is one task, drawn
with a random generator seeded by ``(seed, i)``: the same task whoever asks for
it, in whatever order, in whichever worker process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from .tasks import Task

IntOrRange = int | tuple[int, int]


class EpisodeRows(NamedTuple):
    """Row numbers of one episode, and the local codes of its classes (or None)."""

    support: np.ndarray
    query: np.ndarray
    support_codes: np.ndarray | None
    query_codes: np.ndarray | None


def check_int_or_range(value: Any, name: str, low: int) -> tuple[int, int]:
    """Return (low, high) bounds, both included, of an int or a pair of ints."""
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) for v in pair):
        raise ValueError(f"{name} must be an int or a (low, high) pair of ints, got {value!r}.")
    first, last = int(pair[0]), int(pair[1])
    if not low <= first <= last:
        raise ValueError(f"{name} must satisfy {low} <= low <= high, got {value!r}.")
    return first, last


def _draw(bounds: tuple[int, int], rng: np.random.Generator) -> int:
    low, high = bounds
    return low if low == high else int(rng.integers(low, high + 1))


def _divide(n_rows: int, n_shot: int, n_query: int | None) -> tuple[int, int]:
    """Share out the rows at hand: at least one for support and one for query."""
    shot = min(n_shot, n_rows - 1)
    return shot, n_rows - shot if n_query is None else min(n_query, n_rows - shot)


def _rows_by(labels: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each distinct label, in the order of the sorted labels."""
    _, codes = np.unique(labels, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def _warn_short(parts: Sequence[tuple[int, str]]) -> None:
    told = [f"{count} {what}" for count, what in parts if count]
    if told:
        warnings.warn("Some of the data is short: " + "; ".join(told) + ".", stacklevel=4)


class ClassEpisodes:
    """N-way K-shot episodes from a pool of classes, inside one group at a time.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Class labels.
    groups : array-like of shape (n_rows,) or None, default=None
        With groups an episode's classes all come from one group, and equal
        labels in two groups are two classes.
    n_way, n_shot : int or (low, high), default=5, 1
        Classes an episode, support rows a class.
    n_query : int, (low, high) or None, default=15
        Query rows a class; None takes every row the support leaves.

    Warns
    -----
    UserWarning
        One warning counts the classes and groups that are too small for the
        request: used with what they have, or left out (a class of one row, a
        group of one class).

    Raises
    ------
    ValueError
        When no group has two classes of two rows.
    """

    def __init__(
        self,
        y: Any,
        groups: Any = None,
        *,
        n_way: IntOrRange = 5,
        n_shot: IntOrRange = 1,
        n_query: IntOrRange | None = 15,
    ):
        y = np.asarray(y)
        self.n_way = check_int_or_range(n_way, "n_way", 2)
        self.n_shot = check_int_or_range(n_shot, "n_shot", 1)
        self.n_query = None if n_query is None else check_int_or_range(n_query, "n_query", 1)
        by_group = [np.arange(len(y))] if groups is None else _rows_by(np.asarray(groups))
        wanted = self.n_shot[1] + (1 if self.n_query is None else self.n_query[1])
        lone = short = narrow = left_out = 0
        self.pools: list[list[np.ndarray]] = []
        for rows in by_group:
            classes = [rows[c] for c in _rows_by(y[rows])]
            usable = [c for c in classes if len(c) >= 2]
            lone += len(classes) - len(usable)
            if len(usable) < 2:
                left_out += 1
                continue
            short += sum(len(c) < wanted for c in usable)
            narrow += len(usable) < self.n_way[1]
            self.pools.append(usable)
        if not self.pools:
            raise ValueError(
                "No episode can be drawn: no group has two classes with two rows each. "
                "Check that y holds class labels that repeat."
            )
        _warn_short(
            [
                (lone, "class(es) of a single row left out"),
                (short, f"class(es) of fewer than {wanted} rows used with the rows they have"),
                (left_out, "group(s) with fewer than two usable classes left out"),
                (narrow, f"group(s) of fewer than {self.n_way[1]} classes used whole"),
            ]
        )

    def rows(self, rng: np.random.Generator) -> EpisodeRows:
        """Draw the rows of one episode."""
        pool = self.pools[int(rng.integers(len(self.pools)))]
        n_way = min(_draw(self.n_way, rng), len(pool))
        n_shot = _draw(self.n_shot, rng)
        n_query = None if self.n_query is None else _draw(self.n_query, rng)
        support, query = [], []
        for chosen in rng.choice(len(pool), n_way, replace=False):
            rows = pool[chosen]
            shot, ask = _divide(len(rows), n_shot, n_query)
            drawn = rows[rng.choice(len(rows), shot + ask, replace=False)]
            support.append(drawn[:shot])
            query.append(drawn[shot:])
        codes = np.arange(n_way)
        return EpisodeRows(
            np.concatenate(support),
            np.concatenate(query),
            np.repeat(codes, [len(s) for s in support]),
            np.repeat(codes, [len(q) for q in query]),
        )


class GroupEpisodes:
    """Episodes of whole tasks: each group is a task, its rows split afresh each time.

    Parameters
    ----------
    groups : array-like of shape (n_rows,)
        Which task a row belongs to.
    n_shot : int or (low, high), default=5
        Support rows a task.
    n_query : int, (low, high) or None, default=15
        Query rows a task, never one of the support; None takes all that is left.

    Warns
    -----
    UserWarning
        One warning counts the groups that are too small for the request.

    Raises
    ------
    ValueError
        When no group has two rows.
    """

    def __init__(self, groups: Any, *, n_shot: IntOrRange = 5, n_query: IntOrRange | None = 15):
        self.n_shot = check_int_or_range(n_shot, "n_shot", 1)
        self.n_query = None if n_query is None else check_int_or_range(n_query, "n_query", 1)
        wanted = self.n_shot[1] + (1 if self.n_query is None else self.n_query[1])
        everyone = _rows_by(np.asarray(groups))
        self.pools = [rows for rows in everyone if len(rows) >= 2]
        if not self.pools:
            raise ValueError("No episode can be drawn: no group has two rows.")
        short = sum(len(rows) < wanted for rows in self.pools)
        _warn_short(
            [
                (len(everyone) - len(self.pools), "group(s) of a single row left out"),
                (short, f"group(s) of fewer than {wanted} rows used with the rows they have"),
            ]
        )

    def rows(self, rng: np.random.Generator) -> EpisodeRows:
        """Draw the rows of one episode."""
        pool = self.pools[int(rng.integers(len(self.pools)))]
        n_query = None if self.n_query is None else _draw(self.n_query, rng)
        shot, ask = _divide(len(pool), _draw(self.n_shot, rng), n_query)
        drawn = pool[rng.choice(len(pool), shot + ask, replace=False)]
        return EpisodeRows(drawn[:shot], drawn[shot:], None, None)


class ArrayTasks:
    """Callable ``rng -> Task`` over the rows of ordinary arrays.

    Parameters
    ----------
    X : ndarray of shape (n_rows, \\*input_shape)
        Rows.
    y : ndarray of shape (n_rows, n_outputs) or None
        Regression targets; None for classification, where the sampler's codes
        are the labels.
    sampler : ClassEpisodes or GroupEpisodes
        Draws the rows.
    augment : callable or None, default=None
        ``augment(X, rng) -> X`` is applied to the rows of each episode.
    """

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray | None,
        sampler: ClassEpisodes | GroupEpisodes,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ):
        self.X, self.y, self.sampler, self.augment = X, y, sampler, augment

    def __call__(self, rng: np.random.Generator) -> Task:
        rows = self.sampler.rows(rng)
        n = len(rows.support)
        X = self.X[np.concatenate([rows.support, rows.query])]
        if self.augment is not None:
            X = self.augment(X, rng)
        if rows.support_codes is not None and rows.query_codes is not None:
            return Task(X[:n], rows.support_codes, X[n:], rows.query_codes)
        assert self.y is not None
        return Task(X[:n], self.y[rows.support], X[n:], self.y[rows.query])


class GeneratedTasks:
    """Callable ``rng -> Task`` over a user's generator of tasks.

    Parameters
    ----------
    generator : callable
        ``generator(rng)`` returns ``(X, y, X_query, y_query)``, drawn with the
        ``numpy.random.Generator`` it is handed.
    classification : bool
        Whether y holds class labels (any values) or regression targets.

    Raises
    ------
    ValueError
        When a query label does not occur in the support set.
    """

    def __init__(
        self, generator: Callable[[np.random.Generator], Sequence[Any]], classification: bool
    ):
        self.generator, self.classification = generator, classification

    def __call__(self, rng: np.random.Generator) -> Task:
        X, y, X_query, y_query = (np.asarray(a) for a in self.generator(rng))
        if not self.classification:
            y, y_query = (a.reshape(len(a), -1).astype(np.float64) for a in (y, y_query))
            return Task(X, y, X_query, y_query)
        classes, codes = np.unique(y, return_inverse=True)
        asked = np.searchsorted(classes, y_query).clip(max=len(classes) - 1)
        if not np.array_equal(classes[asked], y_query):
            raise ValueError("The generator returned query labels that its support set lacks.")
        return Task(X, codes, X_query, asked)


class Episodes(Dataset):
    """An endless, indexable stream of tasks.

    Parameters
    ----------
    source : callable
        ``source(rng) -> Task``.
    n_episodes : int
        Length: the number of tasks of one epoch. Any index at least zero can
        be drawn.
    seed : int
        Item ``i`` is drawn with ``numpy.random.default_rng([seed, i])``.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.episodes import ArrayTasks, ClassEpisodes, Episodes
    >>> X, y = np.arange(40.0).reshape(20, 2), np.repeat(list("abcd"), 5)
    >>> sampler = ClassEpisodes(y, n_way=3, n_shot=1, n_query=2)
    >>> episodes = Episodes(ArrayTasks(X, None, sampler), 100, seed=0)
    >>> task = episodes[7]
    >>> task.X.shape, task.y, task.X_query.shape
    ((3, 2), array([0, 1, 2]), (6, 2))
    """

    def __init__(
        self, source: Callable[[np.random.Generator], Task], n_episodes: int, *, seed: int
    ):
        self.source, self.n_episodes, self.seed = source, n_episodes, seed

    def __len__(self) -> int:
        return self.n_episodes

    def __getitem__(self, index: int) -> Task:
        return self.source(np.random.default_rng([self.seed, int(index)]))


class TaskStream(Sampler):
    """Walks on through the stream: a new block of task numbers every epoch.

    Parameters
    ----------
    episodes : Episodes
        The stream.
    epoch : int, default=0
        Epochs already walked through, so that a resumed run goes on where the
        interrupted one stood.
    """

    def __init__(self, episodes: Episodes, epoch: int = 0):
        self.episodes, self.epoch = episodes, epoch

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * len(self.episodes)
        self.epoch += 1
        return iter(range(start, start + len(self.episodes)))


def split_tasks(
    y: np.ndarray, groups: np.ndarray | None, fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Row numbers for training and validation, with whole groups or classes apart.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Class labels; only looked at when there are no groups.
    groups : ndarray of shape (n_rows,) or None
        Task of each row.
    fraction : float
        Share of the groups (or of the classes, without groups) held out.
    rng : numpy.random.Generator
        Chooses them.

    Returns
    -------
    train, valid : ndarray, ndarray or None
        None when there are too few groups or classes to hold any out.
    """
    units = y if groups is None else groups
    names, codes = np.unique(units, return_inverse=True)
    least = 2 if groups is None else 1
    n_valid = max(least, round(fraction * len(names)))
    if fraction <= 0 or len(names) - n_valid < least:
        return np.arange(len(units)), None
    held_out = np.isin(codes, rng.permutation(len(names))[:n_valid])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
