"""Training examples from past tasks: a row, and statistics of other rows of its task as labelled.

Each draw makes some rows of a past task the labelled ones, as a new task's would be, and others
the rows to predict: never one row both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ._task_statistics import Labelled, TaskStatistics

#: Rows to predict of each draw.
N_QUERY = 10
#: Numbers in the largest table that is made at once, which bounds the memory.
AT_ONCE = 4_000_000


class Draws(NamedTuple):
    """Row numbers of draws from past tasks, padded with -1.

    Parameters
    ----------
    support : ndarray of shape (n_draws, n_shot)
        Those labelled.
    query : ndarray of shape (n_draws, N_QUERY)
        Those to predict.
    """

    support: np.ndarray
    query: np.ndarray


def draw(
    task: np.ndarray,
    n_shot: int,
    max_rows: int,
    rng: np.random.Generator,
    codes: np.ndarray | None = None,
) -> Draws:
    """Support sets of 0 to `n_shot` rows from each past task, and rows to predict.

    Parameters
    ----------
    task : ndarray of shape (n_rows,)
        Numbers of the tasks.
    n_shot : int
        Most labelled rows; small numbers are drawn more often, evenly on a logarithmic scale.
    max_rows : int
        Most rows to predict, in all; tasks take turns.
    rng : Generator
        Draws.
    codes : ndarray of shape (n_rows,) or None, default=None
        Classes, which each draw then has in turn: so are episodes of classes.

    Returns
    -------
    Draws
        Row numbers.
    """
    order = np.argsort(task, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(task[order])) + 1)
    supports: list[np.ndarray] = []
    queries: list[np.ndarray] = []
    left = max_rows
    while left > 0:
        for i in rng.permutation(len(parts)):
            if left <= 0:
                break
            rows = rng.permutation(parts[i])
            if codes is not None:
                rows = rows[_in_turn(codes[rows])]
            most = min(n_shot, len(rows) - 1)
            k = int(np.exp(rng.random() * np.log(most + 2))) - 1
            supports.append(rows[:k])
            queries.append(rows[k : k + min(N_QUERY, left)])
            left -= len(queries[-1])
    return Draws(_padded(supports, n_shot), _padded(queries, N_QUERY))


def _in_turn(codes: np.ndarray) -> np.ndarray:
    """An order in which the first row of each class comes before the second of any."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(codes)))
    rank = np.empty(len(codes), int)
    rank[order] = np.arange(len(codes)) - np.repeat(starts, sizes)
    return np.argsort(rank, kind="stable")


def _padded(rows: list[np.ndarray], width: int) -> np.ndarray:
    out = np.full((len(rows), width), -1)
    for line, part in zip(out, rows, strict=True):
        line[: len(part)] = part
    return out


def examples(
    statistics: TaskStatistics, draws: Draws, n_shot: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training examples of the draws.

    Parameters
    ----------
    statistics : TaskStatistics
        Of the past rows, which it still has.
    draws : Draws
        From the same rows.
    n_shot : int
        As `TaskStatistics.columns` takes it.

    Returns
    -------
    columns : ndarray of shape (n_examples, n_columns)
        Statistics.
    offset : ndarray of shape (n_examples, m)
        What mixed model and ridge regression make of them.
    row : ndarray of shape (n_examples,)
        The past row that is predicted.
    """
    found = []
    for support, query in _chunks(draws, statistics.Z.shape[1]):
        # rows of padding are those of row -1, with weight zero
        known = Labelled(
            statistics.Z[support],
            statistics.Y[support],
            statistics.R[support],
            (support >= 0).astype(float),
        )
        Z, base = statistics.Z[query], statistics.Y[query] - statistics.R[query]
        columns, offset = as_columns(statistics, known, Z, base, n_shot)
        real = query >= 0
        found.append((columns[real], offset[real], query[real]))
    columns, offset, row = zip(*found, strict=True)
    return np.concatenate(columns), np.concatenate(offset), np.concatenate(row)


def _chunks(draws: Draws, n_columns: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    n_shot = draws.support.shape[1]
    each = (n_shot + N_QUERY) * max(n_shot, n_columns, 1)
    size = max(1, AT_ONCE // each)
    for start in range(0, len(draws.support), size):
        support = draws.support[start : start + size]
        width = max(1, int((support >= 0).sum(1).max()))
        yield support[:, :width], draws.query[start : start + size]


def as_columns(
    statistics: TaskStatistics, known: Labelled, Z: np.ndarray, base: np.ndarray, n_shot: int
) -> tuple[np.ndarray, np.ndarray]:
    """The statistics side by side, and the prediction that they correct."""
    told = statistics.columns(known, Z, base, n_shot)
    return np.concatenate(list(told.values()), -1), base + told["effect"]
