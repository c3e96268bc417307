"""From rows to episodes: (X, y, groups), a pool of classes, or a generator of tasks.

Whatever the source, item ``i`` of an `Episodes` data set is one task that
depends on ``(seed, i)`` alone: the same task whoever asks for it, in whatever
order, in whichever worker process. Tasks are drawn many at once, in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .augmentation import Augmentation, Together, highest
from .batch import IGNORED_CODE, Task, TaskBatch, stack_tasks
from .moving import moved
from .sampling import BLOCK, ClassEpisodes, EpisodeRows, GroupEpisodes, PooledRows


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
        X_support, labels[absent] = _cleared(X_support, absent), none
    if unasked is not None:
        asked = asked.copy()
        X_query, asked[unasked] = _cleared(X_query, unasked), unknown
    return TaskBatch(X_support, labels, w, X_query, asked)


def _trimmed(
    rows: np.ndarray, codes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Rows and codes without columns that are all padding, and what is padded, if any is."""
    padded = rows < 0
    if not padded.any():
        return rows, codes, None
    width = max(1, int((~padded).sum(1).max()))
    rows, padded = rows[:, :width], padded[:, :width]
    codes = None if codes is None else codes[:, :width]
    return rows, codes, padded if padded.any() else None


def _taken(X: Any, rows: np.ndarray) -> Any:
    return X[moved(rows, X.device)] if isinstance(X, Tensor) else X[rows]


def _cleared(X: Any, padded: np.ndarray) -> Any:
    """The rows, zero where they are padding."""
    if not isinstance(X, Tensor):
        X[padded] = 0
        return X
    mask = moved(padded, X.device)
    return X.masked_fill_(mask.reshape(mask.shape + (1,) * (X.ndim - 2)), 0)


class ArrayTasks:
    """Tasks made of the rows of ordinary arrays.

    Parameters
    ----------
    X : ndarray of shape (n_rows, \\*input_shape)
        Rows.
    y : ndarray of shape (n_rows, n_outputs) or None
        Regression targets; None for classification, where the sampler's codes
        are the labels.
    sampler : ClassEpisodes, GroupEpisodes or PooledRows
        Draws the rows.
    augment : callable or None, default=None
        ``augment(X, rng) -> X`` is applied to the rows of each episode, with
        ``numpy.random.default_rng([seed, i])`` for episode i.
    """

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray | None,
        sampler: ClassEpisodes | GroupEpisodes | PooledRows,
        augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ):
        self.X: np.ndarray | Tensor = X
        self.y, self.augment = y, augment
        self.blocks = Blocks(sampler.draw, sampler.block_size)

    def move(self, device: torch.device) -> None:
        """Keep the rows on a device, where batches are then put together, and altered.

        Not those that a user's own function alters, which takes arrays.
        """
        if isinstance(self.X, Tensor):
            return
        if self.augment is None or isinstance(self.augment, Augmentation):
            minds = isinstance(self.augment, Augmentation) and self.augment.minds_range
            self._high = highest(self.X) if minds else None
            self.X = moved(_narrow(self.X), device)

    def tasks(self, seed: int, indices: Sequence[int]) -> TaskBatch:
        """The tasks of the given numbers."""
        rows = EpisodeRows(*self.blocks.take(seed, indices))  # type: ignore[arg-type]
        batch = tasks_at(self.X, self.y, rows)
        if self.augment is None:
            return batch
        if isinstance(self.X, Tensor):
            return self._altered_there(batch, [(seed, int(i)) for i in indices])
        changed = []
        for i, index in enumerate(indices):
            task, rng = batch.task(i), np.random.default_rng([seed, int(index)])
            given = np.concatenate([task.X, task.X_query])
            X = _checked(self.augment(given, rng), given.shape, self.augment)
            changed.append(task._replace(X=X[: len(task.X)], X_query=X[len(task.X) :]))
        return stack_tasks(changed)

    def _altered_there(self, batch: TaskBatch, numbers: list[tuple[int, int]]) -> TaskBatch:
        """The rows of all tasks altered at once, on the device, as each task's would be here."""
        both, n = torch.cat([batch.X, batch.X_query], 1), batch.X.shape[1]
        real = np.concatenate([batch.real_support(), batch.real_query()], 1)
        rng = Together([np.random.default_rng(number) for number in numbers], real.sum(1))
        assert isinstance(self.augment, Augmentation)
        rows = both.flatten(0, 1)
        if real.all():
            altered = self.augment.of_rows(rows, rng, self._high)
        else:
            at = moved(np.flatnonzero(real), rows.device)
            some = self.augment.of_rows(rows[at], rng, self._high)
            altered = torch.zeros_like(rows, dtype=some.dtype).index_copy_(0, at, some)
        altered = altered.unflatten(0, both.shape[:2])
        return batch._replace(X=altered[:, :n], X_query=altered[:, n:])


def _checked(altered: Any, shape: tuple[int, ...], augment: Any) -> np.ndarray:
    """What an augmentation gave, if it is rows that can be learned from."""
    found = np.asarray(altered)
    if found.shape != shape:
        raise ValueError(
            f"augment={augment!r} gave {type(altered).__name__} of shape {found.shape} for rows of "
            f"shape {shape}: it must give as many rows, of the same shape."
        )
    if found.dtype.kind == "f" and np.isnan(found).any():
        raise ValueError(f"augment={augment!r} gave NaN for finite rows.")
    return found


#: What a row may change by, in units of its column's spread, when it is kept in float32.
_ROUNDED = 1e-6


def _narrow(X: np.ndarray) -> np.ndarray:
    """Rows in float32 where that changes none of them, or next to nothing."""
    if X.dtype != np.float64:
        return X
    narrow, there = X.astype(np.float32), ~np.isnan(X)  # which may follow the end of a series
    there |= ~there.any(0)
    known = np.nan_to_num(X)
    lost = np.abs(known - np.nan_to_num(narrow)).max(0, initial=0.0)
    return narrow if (lost <= _ROUNDED * known.std(0, where=there)).all() else X


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
    >>> from fewshot_sklearn.tasks import ArrayTasks, Episodes
    >>> from fewshot_sklearn.tasks import ClassEpisodes
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
        # nor pins: what is brought to a GPU goes through pinned memory anyway, see `moved`
        if self.num_workers or not isinstance(self.dataset, Episodes):
            return super().__iter__()
        draw, numbers = self.dataset.__getitems__, self.batch_sampler
        return (self.collate_fn(draw(i)) for i in numbers)  # type: ignore[arg-type, union-attr]
