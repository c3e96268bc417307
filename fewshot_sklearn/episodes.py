"""From rows to episodes: (X, y, groups), a pool of classes, or a generator of tasks.

Whatever the source, item ``i`` of an `Episodes` data set is one task that
depends on ``(seed, i)`` alone: the same task whoever asks for it, in whatever
order, in whichever worker process. Tasks are drawn many at once, in blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .tasks import IGNORED_CODE, Task, TaskBatch, stack_tasks

IntOrRange = int | tuple[int, int]
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


def check_int_or_range(value: Any, name: str, low: int) -> tuple[int, int]:
    """Return (low, high) bounds, both included, of an int or a pair of ints."""
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) for v in pair):
        raise ValueError(f"{name} must be an int or a (low, high) pair of ints, got {value!r}.")
    first, last = int(pair[0]), int(pair[1])
    if not low <= first <= last:
        raise ValueError(f"{name} must satisfy {low} <= low <= high, got {value!r}.")
    return first, last


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
        pools: list[list[np.ndarray]] = []
        for rows in by_group:
            classes = [rows[c] for c in _rows_by(y[rows])]
            usable = [c for c in classes if len(c) >= 2]
            lone += len(classes) - len(usable)
            if len(usable) < 2:
                left_out += 1
                continue
            short += sum(len(c) < wanted for c in usable)
            narrow += len(usable) < self.n_way[1]
            pools.append(usable)
        if not pools:
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
        both = sizes
        if self.n_query is not None:
            both = np.minimum(shot + _numbers(self.n_query, n, rng)[:, None], sizes)
        picked = choose(sizes.ravel(), both.max(), rng).reshape(*sizes.shape, -1)
        rows = self.rows[self.class_starts[classes][..., None] + picked].reshape(n, -1)
        codes = np.broadcast_to(np.arange(sizes.shape[1])[:, None], picked.shape).reshape(n, -1)
        place = np.arange(picked.shape[2])
        support = (place < shot[..., None]).reshape(n, -1)
        query = (place < both[..., None]).reshape(n, -1) & ~support
        return EpisodeRows(
            _packed(rows, support, -1),
            _packed(rows, query, -1),
            _packed(codes, support, IGNORED_CODE),
            _packed(codes, query, IGNORED_CODE),
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
        pools = [rows for rows in everyone if len(rows) >= 2]
        if not pools:
            raise ValueError("No episode can be drawn: no group has two rows.")
        short = sum(len(rows) < wanted for rows in pools)
        _warn_short(
            [
                (len(everyone) - len(pools), "group(s) of a single row left out"),
                (short, f"group(s) of fewer than {wanted} rows used with the rows they have"),
            ]
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
        return EpisodeRows(
            _packed(rows, support, -1), _packed(rows, query & ~support, -1), None, None
        )


class Blocks:
    """Rows of arrays that are drawn a block at a time and depend on their number alone.

    Item i is row ``i % size`` of block ``i // size``, which is drawn with
    ``numpy.random.default_rng([seed, i // size])``.

    Parameters
    ----------
    draw : callable
        ``draw(rng, size)`` returns a tuple of arrays (or None) with `size` rows.
    size : int
        Items of a block.
    """

    def __init__(
        self, draw: Callable[[np.random.Generator, int], Sequence[np.ndarray | None]], size: int
    ):
        self.draw, self.size = draw, size
        self._held: dict[tuple[int, int], Sequence[np.ndarray | None]] = {}

    def _block(self, seed: int, number: int) -> Sequence[np.ndarray | None]:
        key = (seed, number)
        if key not in self._held:
            drawn = self.draw(np.random.default_rng([seed, number]), self.size)
            if len(self._held) > 1:  # a batch may straddle two
                del self._held[next(iter(self._held))]
            self._held[key] = drawn
        return self._held[key]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_held": {}}

    def take(self, seed: int, indices: Sequence[int]) -> list[np.ndarray | None]:
        """The rows of the given numbers; where blocks differ in width, padded with -1."""
        block, place = divmod(int(indices[0]), self.size)
        stop = place + len(indices)
        if stop <= self.size and list(indices) == [*range(indices[0], indices[0] + len(indices))]:
            return [None if a is None else a[place:stop] for a in self._block(seed, block)]
        numbers = np.asarray(indices)
        blocks, places = numbers // self.size, numbers % self.size
        starts = [0, *(np.flatnonzero(np.diff(blocks)) + 1)]
        parts = [
            [None if a is None else a[chosen] for a in self._block(seed, int(blocks[start]))]
            for start, chosen in zip(starts, np.split(places, starts[1:]), strict=True)
        ]
        return parts[0] if len(parts) == 1 else [_concatenated(p) for p in zip(*parts, strict=True)]


def _concatenated(parts: Sequence[Any]) -> np.ndarray | None:
    if parts[0] is None:
        return None
    width = max(part.shape[1] for part in parts)
    if all(part.shape[1] == width for part in parts):
        return np.concatenate(parts)
    gaps = [[(0, 0), (0, width - part.shape[1])] for part in parts]
    return np.concatenate(
        [np.pad(part, gap, constant_values=-1) for part, gap in zip(parts, gaps, strict=True)]
    )


def tasks_at(X: np.ndarray | Tensor, y: np.ndarray | None, rows: EpisodeRows) -> TaskBatch:
    """The tasks that the rows of many episodes make.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n_rows, \\*input_shape)
        Rows; a tensor may lie on a GPU, and what is taken from it stays there.
    y : ndarray of shape (n_rows, n_outputs) or None
        Regression targets; None where the episodes' codes are the labels.
    rows : EpisodeRows
        Many episodes.

    Returns
    -------
    TaskBatch
        Padded rows are zero.
    """
    support, labels, absent = _trimmed(rows.support, rows.support_codes)
    query, asked, unasked = _trimmed(rows.query, rows.query_codes)
    none, unknown = (0.0, np.nan) if labels is None else (IGNORED_CODE, IGNORED_CODE)
    if labels is None or asked is None:
        assert y is not None
        labels, asked = y[support], y[query]
    X_support, X_query, w = _taken(X, support), _taken(X, query), None
    if absent is not None:
        labels, w = labels.copy(), 1.0 - absent
        X_support[absent], labels[absent] = 0, none
    if unasked is not None:
        asked = asked.copy()
        X_query[unasked], asked[unasked] = 0, unknown
    return TaskBatch(X_support, labels, w, X_query, asked)


def _trimmed(
    rows: np.ndarray, codes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Rows and codes without columns that are all padding, and what is padded, if any is."""
    padded = rows < 0
    if not padded.any():
        return rows, codes, None
    width = int((~padded).sum(1).max())
    rows, padded = rows[:, :width], padded[:, :width]
    codes = None if codes is None else codes[:, :width]
    return rows, codes, padded if padded.any() else None


def _taken(X: Any, rows: np.ndarray) -> Any:
    return X[torch.as_tensor(rows).to(X.device)] if isinstance(X, Tensor) else X[rows]


class ArrayTasks:
    """Tasks made of the rows of ordinary arrays.

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
        ``augment(X, rng) -> X`` is applied to the rows of each episode, with
        ``numpy.random.default_rng([seed, i])`` for episode i.
    """

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray | None,
        sampler: ClassEpisodes | GroupEpisodes,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ):
        self.X: np.ndarray | Tensor = X
        self.y, self.augment = y, augment
        self.blocks = Blocks(sampler.draw, sampler.block_size)

    def move(self, device: torch.device) -> None:
        """Keep the rows on a device, where batches are then put together; not if augmented."""
        if self.augment is None:
            self.X = torch.as_tensor(self.X).to(device)

    def tasks(self, seed: int, indices: Sequence[int]) -> TaskBatch:
        """The tasks of the given numbers."""
        rows = EpisodeRows(*self.blocks.take(seed, indices))  # type: ignore[arg-type]
        batch = tasks_at(self.X, self.y, rows)
        if self.augment is None:
            return batch
        changed = []
        for i, index in enumerate(indices):
            task, rng = batch.task(i), np.random.default_rng([seed, int(index)])
            X = self.augment(np.concatenate([task.X, task.X_query]), rng)
            changed.append(task._replace(X=X[: len(task.X)], X_query=X[len(task.X) :]))
        return stack_tasks(changed)


class GeneratedTasks:
    """Tasks of a user's generator.

    Parameters
    ----------
    generator : callable
        ``generator(rng)`` returns ``(X, y, X_query, y_query)``, drawn with the
        ``numpy.random.Generator`` it is handed. For regression it may have a
        method ``batch(rng, n_tasks)`` as well, which returns the same arrays for
        many tasks, with a leading axis of tasks, and as a fifth array the
        weights of the support rows (zero where a task has fewer), or None. It
        is then called once for many tasks.
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
        self.blocks = None
        if hasattr(generator, "batch") and not classification:
            self.blocks = Blocks(generator.batch, BLOCK)

    def tasks(self, seed: int, indices: Sequence[int]) -> TaskBatch:
        """The tasks of the given numbers."""
        if self.blocks is None:
            rngs = (np.random.default_rng([seed, int(i)]) for i in indices)
            return stack_tasks([self._task(*self.generator(rng)) for rng in rngs])
        X, y, X_query, y_query, w = self.blocks.take(seed, indices)
        assert X is not None and y is not None and X_query is not None and y_query is not None
        y, y_query = (a.reshape(*a.shape[:2], -1).astype(np.float64) for a in (y, y_query))
        return TaskBatch(X, y, w, X_query, y_query)

    def _task(self, *arrays: Any) -> Task:
        X, y, X_query, y_query = (np.asarray(a) for a in arrays)
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
    source : ArrayTasks or GeneratedTasks
        ``source.tasks(seed, indices)`` makes the tasks of the given numbers.
    n_episodes : int
        Length: the number of tasks of one epoch. Any index at least zero can
        be drawn.
    seed : int
        With the index, all that an item depends on.

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

    def __init__(self, source: ArrayTasks | GeneratedTasks, n_episodes: int, *, seed: int):
        self.source, self.n_episodes, self.seed = source, n_episodes, seed

    def __len__(self) -> int:
        return self.n_episodes

    def __getitem__(self, index: int) -> Task:
        return self.source.tasks(self.seed, [int(index)]).task(0)

    def __getitems__(self, indices: Sequence[int]) -> TaskBatch:
        """A batch of tasks, as torch's loaders ask for it."""
        return self.source.tasks(self.seed, indices)


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


class TaskLoader(DataLoader):
    """A DataLoader that, without worker processes, does no more than load."""

    def __iter__(self) -> Any:
        if self.num_workers or self.pin_memory or not isinstance(self.dataset, Episodes):
            return super().__iter__()
        draw, numbers = self.dataset.__getitems__, self.batch_sampler
        return (self.collate_fn(draw(i)) for i in numbers)  # type: ignore[arg-type, union-attr]


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
