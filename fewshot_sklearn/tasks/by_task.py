"""Which rows each task has, and how many rows to pad them to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def padded_size(counts: np.ndarray) -> np.ndarray:
    """Number of rows to pad to: rounded up to three binary digits, so at most a quarter more.

    Depends on nothing but the count: a task refitted with as many rows keeps
    the shapes of its state.
    """
    step = 2 ** np.maximum(np.frexp(counts)[1] - 3, 0)
    return -(-counts // step) * step


class RowsByTask(NamedTuple):
    """Which rows each task has.

    Attributes
    ----------
    tasks : ndarray of shape (n_tasks,)
        The tasks that have rows, as numbered by whoever asked.
    order : ndarray of shape (n_rows,)
        Row numbers, task by task.
    starts, counts : ndarray of shape (n_tasks,)
        Where in `order` a task begins, and how many rows it has.
    """

    tasks: np.ndarray
    order: np.ndarray
    starts: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, task_of_row: np.ndarray) -> RowsByTask:
        """Sort rows by their task's number, those of a task in the order given."""
        order = np.argsort(task_of_row, kind="stable")
        tasks, starts, counts = np.unique(task_of_row[order], return_index=True, return_counts=True)
        return cls(tasks, order, starts, counts)

    def of_task(self, i: int) -> np.ndarray:
        """Row numbers of one task."""
        return self.order[self.starts[i] : self.starts[i] + self.counts[i]]

    def padded(self, which: np.ndarray) -> np.ndarray:
        """Row numbers (T, size) of tasks of about one size, padded with -1."""
        within = np.arange(int(padded_size(self.counts[which].max())))
        real = within < self.counts[which, None]
        return np.where(real, self.order[np.where(real, self.starts[which, None] + within, 0)], -1)
