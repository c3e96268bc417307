"""Which rows make an episode: classes of a pool, or whole groups; many episodes at once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_consistent_length

from .batch import IGNORED_CODE, UNLABELLED_CODE
from .ids import comparable, distinct, numbered
from .shots import IntOrRange, check_int_or_range

#: Episodes drawn at once.
BLOCK = 256
#: Random keys drawn at once, at most.
KEYS = 4_000_000


class EpisodeRows(NamedTuple):
    """Row numbers of one episode, and the local codes of its classes (or None).

    Or of many episodes, with a leading axis; rows short of the longest are then
    numbered -1 and their codes -100.
    """

    support: np.ndarray
    query: np.ndarray
    support_codes: np.ndarray | None
    query_codes: np.ndarray | None

    def episode(self, i: int) -> EpisodeRows:
        """One of many, without padding."""
        support, query = self.support[i] >= 0, self.query[i] >= 0
        if self.support_codes is None or self.query_codes is None:
            return EpisodeRows(self.support[i][support], self.query[i][query], None, None)
        return EpisodeRows(
            self.support[i][support],
            self.query[i][query],
            self.support_codes[i][support],
            self.query_codes[i][query],
        )


def _numbers(bounds: tuple[int, int], n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(bounds[0], bounds[1] + 1, n)


def choose(sizes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draw without replacement, many times at once.

    Parameters
    ----------
    sizes : ndarray of shape (n,)
        How many there are to choose from, each time.
    k : int
        How many to choose.
    rng : numpy.random.Generator
        Chooses.

    Returns
    -------
    ndarray of shape (n, k)
        Distinct numbers from 0 to size - 1 in random order; -1 where there are
        no more.
    """
    chosen = np.full((len(sizes), k), -1)
    wide = sizes > 2 * k * k
    again = np.flatnonzero(wide)  # few of many: draw with replacement until all differ
    while len(again):
        chosen[again] = rng.random((len(again), k)) * sizes[again, None]
        ordered = np.sort(chosen[again], 1)
        again = again[(ordered[:, 1:] == ordered[:, :-1]).any(1)]
    narrow = np.flatnonzero(~wide)
    if len(narrow) and k:
        few = sizes[narrow, None]
        keys = rng.random((len(narrow), max(few.max(), k)))
        np.putmask(keys, np.arange(keys.shape[1]) >= few, 2.0)
        order = np.argsort(keys, 1)[:, :k]
        chosen[narrow] = np.where(np.arange(k) < few, order, -1)
    return chosen


def _packed(values: np.ndarray, keep: np.ndarray, fill: int) -> np.ndarray:
    """The kept values of each row, moved to its start and padded to the longest."""
    counts = keep.sum(1)
    out = np.full((len(values), counts.max(initial=0)), fill)
    out[np.arange(out.shape[1]) < counts[:, None]] = values[keep]
    return out


def _block_size(keys: int) -> int:
    return int(np.clip(KEYS // max(keys, 1), 1, BLOCK))


def _rows_by(labels: np.ndarray, name: str) -> list[np.ndarray]:
    """Row numbers of each distinct label, in the order of the sorted labels."""
    codes = distinct(labels, name)[1]
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


class Shortage:
    """What of the data is too small for what was asked, counted; to be told in one warning.

    Parameters
    ----------
    told : dict of str to int, default=None
        Counts so far, by what is short.
    """

    def __init__(self, told: dict[str, int] | None = None):
        self.told = {} if told is None else dict(told)

    def add(self, parts: Sequence[tuple[int, str]]) -> None:
        """Count more.

        Parameters
        ----------
        parts : sequence of (int, str)
            How many, and of what.
        """
        for count, what in parts:
            if count:
                self.told[what] = self.told.get(what, 0) + count

    def warn(self, stacklevel: int = 2) -> None:
        """Tell of it, if there is any.

        Parameters
        ----------
        stacklevel : int, default=2
            Of the warning, as seen from the caller.
        """
        if self.told:
            told = "; ".join(f"{count} {what}" for what, count in self.told.items())
            warnings.warn(f"Some of the data is short: {told}.", stacklevel=stacklevel + 1)


def _tell(short: Shortage | None, parts: Sequence[tuple[int, str]]) -> None:
    """Add to what is told later by others, or else warn now."""
    mine = Shortage() if short is None else short
    mine.add(parts)
    if short is None:
        mine.warn(stacklevel=4)


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
    n_unlabelled : int, default=0
        Support rows a class that come without their label, coded -1.
    short : Shortage or None, default=None
        What counts the data that is too small, for others to tell; None warns.

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
        n_unlabelled: int = 0,
        short: Shortage | None = None,
    ):
        y = comparable(y, "y")
        groups = None if groups is None else comparable(groups)
        check_consistent_length(y, groups)
        self.n_unlabelled = check_int_or_range(n_unlabelled, "n_unlabelled", 0)[1]
        self.n_way = check_int_or_range(n_way, "n_way", 2)
        self.n_shot = check_int_or_range(n_shot, "n_shot", 1)
        self.n_query = None if n_query is None else check_int_or_range(n_query, "n_query", 1)
        by_group = [np.arange(len(y))] if groups is None else _rows_by(groups, "groups")
        wanted = (
            self.n_shot[1] + self.n_unlabelled + (1 if self.n_query is None else self.n_query[1])
        )
        lone = small = narrow = left_out = 0
        pools: list[list[np.ndarray]] = []
        for rows in by_group:
            classes = [rows[c] for c in _rows_by(y[rows], "y")]
            usable = [c for c in classes if len(c) >= 2]
            lone += len(classes) - len(usable)
            if len(usable) < 2:
                left_out += 1
                continue
            small += sum(len(c) < wanted for c in usable)
            narrow += len(usable) < self.n_way[1]
            pools.append(usable)
        if not pools:
            raise ValueError(
                "No episode can be drawn: no group has two classes with two rows each. "
                "Check that y holds class labels that repeat."
            )
        _tell(
            short,
            [
                (lone, "class(es) of a single row left out"),
                (small, f"class(es) of fewer than {wanted} rows used with the rows they have"),
                (left_out, "group(s) with fewer than two usable classes left out"),
                (narrow, f"group(s) of fewer than {self.n_way[1]} classes used whole"),
            ],
        )
        self.group_sizes = np.array([len(pool) for pool in pools])
        self.group_starts = np.cumsum(self.group_sizes) - self.group_sizes
        everyone = [rows for pool in pools for rows in pool]
        self.class_sizes = np.array([len(rows) for rows in everyone])
        self.class_starts = np.cumsum(self.class_sizes) - self.class_sizes
        self.rows = np.concatenate(everyone)
        widest = min(self.n_way[1], self.group_sizes.max()) * self.class_sizes.max()
        self.block_size = _block_size(max(widest, self.group_sizes.max()))

    def draw(self, rng: np.random.Generator, n: int) -> EpisodeRows:
        """Draw the rows of n episodes."""
        group = rng.integers(len(self.group_sizes), size=n)
        n_way = np.minimum(_numbers(self.n_way, n, rng), self.group_sizes[group])
        n_shot = _numbers(self.n_shot, n, rng)
        chosen = choose(self.group_sizes[group], n_way.max(), rng)
        present = np.arange(chosen.shape[1]) < n_way[:, None]
        classes = np.where(present, self.group_starts[group, None] + chosen, 0)
        sizes = np.where(present, self.class_sizes[classes], 0)
        # at least one row of a class for support and one for query
        shot = np.where(present, np.minimum(n_shot[:, None], sizes - 1), 0)
        told = shot  # rows of the support that keep their label
        shot = np.where(present, np.minimum(shot + self.n_unlabelled, sizes - 1), 0)
        both = sizes
        if self.n_query is not None:
            both = np.minimum(shot + _numbers(self.n_query, n, rng)[:, None], sizes)
        picked = choose(sizes.ravel(), both.max(), rng).reshape(*sizes.shape, -1)
        rows = self.rows[self.class_starts[classes][..., None] + picked].reshape(n, -1)
        codes = np.broadcast_to(np.arange(sizes.shape[1])[:, None], picked.shape).reshape(n, -1)
        place = np.arange(picked.shape[2])
        if self.n_unlabelled:
            secret = (place >= told[..., None]) & (place < shot[..., None])
            codes = np.where(secret.reshape(n, -1), UNLABELLED_CODE, codes)
        support = (place < shot[..., None]).reshape(n, -1)
        query = (place < both[..., None]).reshape(n, -1) & ~support
        return EpisodeRows(
            _packed(rows, support, -1),
            _packed(rows, query, -1),
            _packed(codes, support, IGNORED_CODE),
            _packed(codes, query, IGNORED_CODE),
        )


class PooledRows:
    """Batches of rows of all classes: episodes without support, whose classes are the whole pool.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Class labels.
    groups : array-like of shape (n_rows,) or None, default=None
        With groups, equal labels in two groups are two classes.
    n_way : int
        A batch has as many rows as the largest episode of so many classes.
    n_shot : int or (low, high)
        Support rows a class.
    n_query : int, (low, high) or None
        Query rows a class; None takes a whole class for both.

    Attributes
    ----------
    n_classes : int
        Number of classes; codes follow their sorted order, group by group.
    n_rows : int
        Rows of a batch; drawn with replacement.

    Raises
    ------
    ValueError
        When all rows are of one class.
    """

    def __init__(
        self,
        y: Any,
        groups: Any = None,
        *,
        n_way: IntOrRange,
        n_shot: IntOrRange,
        n_query: IntOrRange | None,
    ):
        codes = numbered(y, "y")[1]
        check_consistent_length(codes, groups)
        if groups is not None:
            group = numbered(groups)[1]
            codes = group * (codes.max() + 1) + codes
        _, self.codes, sizes = np.unique(codes, return_inverse=True, return_counts=True)
        self.n_classes = len(sizes)
        if self.n_classes < 2:
            raise ValueError("No batch can be drawn: all rows are of one class.")
        ways = check_int_or_range(n_way, "n_way", 2)[1]
        per_class = check_int_or_range(n_shot, "n_shot", 1)[1]
        if n_query is None:
            per_class = int(sizes.max())
        else:
            per_class += check_int_or_range(n_query, "n_query", 1)[1]
        self.n_rows = ways * per_class
        self.block_size = _block_size(self.n_rows)

    def draw(self, rng: np.random.Generator, n: int) -> EpisodeRows:
        """Draw the rows of n batches."""
        rows = rng.integers(0, len(self.codes), (n, self.n_rows))
        none = np.empty((n, 0), np.int64)
        return EpisodeRows(none, rows, none, self.codes[rows])


class GroupEpisodes:
    """Episodes of whole tasks: each group is a task, its rows split afresh each time.

    Parameters
    ----------
    groups : array-like of shape (n_rows,)
        Which task a row belongs to.
    n_shot : int or (low, high), default=5
        Support rows a task; 0 asks for predictions before any label.
    n_query : int, (low, high) or None, default=15
        Query rows a task, never one of the support; None takes all that is left.
    short : Shortage or None, default=None
        What counts the data that is too small, for others to tell; None warns.

    Warns
    -----
    UserWarning
        One warning counts the groups that are too small for the request.

    Raises
    ------
    ValueError
        When no group has two rows.
    """

    def __init__(
        self,
        groups: Any,
        *,
        n_shot: IntOrRange = 5,
        n_query: IntOrRange | None = 15,
        short: Shortage | None = None,
    ):
        self.n_shot = check_int_or_range(n_shot, "n_shot", 0)
        self.n_query = None if n_query is None else check_int_or_range(n_query, "n_query", 1)
        wanted = self.n_shot[1] + (1 if self.n_query is None else self.n_query[1])
        everyone = _rows_by(comparable(groups), "groups")
        pools = [rows for rows in everyone if len(rows) >= 2]
        if not pools:
            raise ValueError("No episode can be drawn: no group has two rows.")
        small = sum(len(rows) < wanted for rows in pools)
        _tell(
            short,
            [
                (len(everyone) - len(pools), "group(s) of a single row left out"),
                (small, f"group(s) of fewer than {wanted} rows used with the rows they have"),
            ],
        )
        self.sizes = np.array([len(rows) for rows in pools])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.rows = np.concatenate(pools)
        self.block_size = _block_size(self.sizes.max())

    def draw(self, rng: np.random.Generator, n: int) -> EpisodeRows:
        """Draw the rows of n episodes."""
        group = rng.integers(len(self.sizes), size=n)
        sizes = self.sizes[group]
        shot = np.minimum(_numbers(self.n_shot, n, rng), sizes - 1)
        both = sizes
        if self.n_query is not None:
            both = np.minimum(shot + _numbers(self.n_query, n, rng), sizes)
        picked = choose(sizes, both.max(), rng)
        rows = self.rows[self.starts[group, None] + picked]
        place = np.arange(picked.shape[1])
        support, query = place < shot[:, None], place < both[:, None]
        known = _packed(rows, support, -1)
        if not known.shape[1]:  # a task without support still is one, of padding
            known = np.full((n, 1), -1)
        return EpisodeRows(known, _packed(rows, query & ~support, -1), None, None)


class TaskEpisodes(GroupEpisodes):
    """Episodes of whole tasks whose classes are the same ones: labelled rows as they come.

    Each episode has a number of support rows of its own, from none on: what was
    learned of the classes is to do with however few labels there are.

    Parameters
    ----------
    codes : ndarray of int of shape (n_rows,)
        Class of each row, among those of all tasks.
    groups : array-like of shape (n_rows,)
        Which task a row belongs to.
    n_shot : int or (low, high), default=5
        Support rows a task are from 0 to the larger one times the number of classes.
    n_query : int, (low, high) or None, default=15
        Query rows a task, times the number of classes; None takes all that is left.
    """

    def __init__(
        self,
        codes: np.ndarray,
        groups: Any,
        *,
        n_shot: IntOrRange = 5,
        n_query: IntOrRange | None = 15,
    ):
        n = int(codes.max(initial=0)) + 1
        most = n * check_int_or_range(n_shot, "n_shot", 0)[1]
        asked = None
        if n_query is not None:
            low, high = check_int_or_range(n_query, "n_query", 1)
            asked = (n * low, n * high)
        # tasks of fewer rows are no exception here
        super().__init__(groups, n_shot=(0, most), n_query=asked, short=Shortage())
        self.codes = codes

    def draw(self, rng: np.random.Generator, n: int) -> EpisodeRows:
        """Draw the rows of n episodes."""
        drawn = super().draw(rng, n)

        def coded(rows: np.ndarray) -> np.ndarray:
            return np.where(rows >= 0, self.codes[rows], IGNORED_CODE)

        support, query = drawn.support, drawn.query
        return EpisodeRows(support, query, coded(support), coded(query))


def usable_rows(
    y: np.ndarray | None, groups: np.ndarray | None, short: Shortage | None = None
) -> np.ndarray:
    """Which rows an episode can be drawn from: not those of a class or a task of a single row.

    Parameters
    ----------
    y : ndarray of shape (n_rows,) or None
        Class labels; None where whole groups are the tasks.
    groups : ndarray of shape (n_rows,) or None
        Task or group of each row.
    short : Shortage or None, default=None
        What counts the data that is too small, for others to tell; None warns.

    Returns
    -------
    ndarray of shape (n_rows,), bool
        False for the rows of a class of one row, of a group with fewer than two usable classes,
        and, without y, of a group of one row. All True where no row would be usable: what draws
        episodes says so.

    Warns
    -----
    UserWarning
        One warning counts the classes and groups that are left out.
    """
    n = len(groups if y is None else y)  # type: ignore[arg-type]
    group = np.zeros(n, np.int64) if groups is None else distinct(groups, "groups")[1]
    if y is None:
        sizes = np.bincount(group)
        usable, lone, narrow = sizes[group] >= 2, 0, int((sizes < 2).sum())
    else:
        code = distinct(y, "y")[1]
        _, first, classes, sizes = np.unique(
            group * (code.max(initial=0) + 1) + code,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        of_group = np.bincount(group[first], sizes >= 2)
        few = of_group < 2
        usable, lone = (sizes[classes] >= 2) & ~few[group], int((sizes < 2).sum())
        narrow = int(few.sum())
    if not usable.any():
        return np.ones(n, dtype=bool)
    kind = "of a single row" if y is None else "with fewer than two usable classes"
    _tell(
        short,
        [
            (lone, "class(es) of a single row left out"),
            (narrow, f"group(s) {kind} left out"),
        ],
    )
    return usable


def split_tasks(
    y: np.ndarray,
    groups: np.ndarray | None,
    fraction: float,
    rng: np.random.Generator,
    usable: np.ndarray | None = None,
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
    usable : ndarray of shape (n_rows,), bool, or None, default=None
        Rows that take part; whole groups or classes are left out. None is all.

    Returns
    -------
    train, valid : ndarray, ndarray or None
        None when there are too few groups or classes to hold any out.
    """
    units = y if groups is None else groups
    rows = np.arange(len(units)) if usable is None else np.flatnonzero(usable)
    names, codes = np.unique(units[rows], return_inverse=True)
    least = 2 if groups is None else 1
    n_valid = max(least, round(fraction * len(names)))
    if fraction <= 0 or len(names) - n_valid < least:
        return rows, None
    held_out = np.isin(codes, rng.permutation(len(names))[:n_valid])
    return rows[~held_out], rows[held_out]
