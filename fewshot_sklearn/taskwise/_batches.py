"""States of many tasks, and what tasks of known states answer, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from ..estimators import ManyTasks, chunks_for, known_classes, shared_out
from ..tasks import UNLABELLED_CODE, RowsByTask, distinct, is_labelled, places
from ._adding import Known
from ._ids import named, union
from ._states import OWN_CLASSES, TaskStates


class GivenRows(NamedTuple):
    """Rows of all tasks.

    Attributes
    ----------
    X : array-like of shape (n_rows, ...)
        Rows.
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Labels or targets.
    w : ndarray of shape (n_rows,) or None
        Weights.
    which : ndarray of shape (n_rows,)
        Number of each row's task.
    by_task : RowsByTask
        Whose rows they are.
    """

    X: Any
    y: np.ndarray
    w: np.ndarray | None
    which: np.ndarray
    by_task: RowsByTask


def some_tasks(by_task: RowsByTask, which: np.ndarray) -> RowsByTask:
    """Whose rows some of the tasks have."""
    tasks, starts, counts = (a[which] for a in (by_task.tasks, by_task.starts, by_task.counts))
    return RowsByTask(tasks, by_task.order, starts, counts)


def adapt_tasks(
    many: ManyTasks,
    by_task: RowsByTask,
    y: np.ndarray,
    w: np.ndarray,
    n_way: np.ndarray | None,
    updatable: bool = False,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Adapt to all tasks.

    Parameters
    ----------
    many : ManyTasks
        The estimator, with the support rows of all tasks.
    by_task : RowsByTask
        Whose rows they are.
    y : ndarray
        Codes 0..n_way-1 of each row's class among those of its task (n_rows,),
        -1 for a row without label; or targets (n_rows, n_outputs).
    w : ndarray of shape (n_rows,)
        Weights.
    n_way : ndarray of shape (n_tasks,) or None
        Number of classes of each task; None for regression.
    updatable : bool, default=False
        Whether the states are to hold what `add_to_tasks` needs.

    Yields
    ------
    which : ndarray of shape (T,)
        Which of ``by_task`` these are.
    state : dict of str to ndarray
        Their states.
    """
    kinds = np.zeros(len(by_task.tasks), int) if n_way is None else n_way
    adapted = many.adapted_to_take_in if updatable else many.adapted
    for which in many.batches(kinds, by_task.counts):
        numbers = by_task.padded(which)
        real = numbers >= 0
        if n_way is None:
            target = many.targets(y[numbers] * real[..., None], None)
        else:
            codes = np.where(real, y[numbers], UNLABELLED_CODE)
            target = many.targets(codes, int(n_way[which[0]]))
        state = adapted(many.rows(numbers), target, many.tensor(w[numbers] * real))
        yield which, {name: t.cpu().numpy().copy() for name, t in state.items()}


def adapt_in_chunks(
    many: ManyTasks,
    by_task: RowsByTask,
    y: np.ndarray,
    w: np.ndarray,
    n_way: np.ndarray | None,
    updatable: bool,
    n_jobs: int | None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """`adapt_tasks`, with a chunk of the tasks in each of `n_jobs` processes."""
    chunks = chunks_for(by_task.counts, n_jobs)
    if len(chunks) == 1:
        yield from adapt_tasks(many, by_task, y, w, n_way, updatable)
        return
    calls = []
    for part in chunks:
        rows = np.concatenate([by_task.of_task(i) for i in part])
        counts = by_task.counts[part]
        own = RowsByTask(
            np.arange(len(part)), np.arange(len(rows)), counts.cumsum() - counts, counts
        )
        ways = None if n_way is None else n_way[part]
        calls.append((many.estimator, many.X[rows], own, y[rows], w[rows], ways, updatable))
    for part, pieces in zip(chunks, shared_out(_adapted_chunk, calls, n_jobs), strict=True):
        for which, state in pieces:
            yield part[which], state


def _adapted_chunk(estimator: Any, X: np.ndarray, *rest: Any) -> list[Any]:
    return list(adapt_tasks(ManyTasks(estimator, X, validated=True), *rest))


def answer_tasks(
    many: ManyTasks, by_task: RowsByTask, states: TaskStates
) -> Iterator[tuple[np.ndarray, np.ndarray, Any, Any]]:
    """Predict rows of many tasks.

    Parameters
    ----------
    many : ManyTasks
        The estimator, with the rows.
    by_task : RowsByTask
        Whose rows they are; tasks are numbered as `states` numbers them.
    states : TaskStates
        The tasks' states.

    Yields
    ------
    numbers, real : ndarray of shape (T, size)
        Row numbers, and which of them are not padding.
    outputs : Tensor or Gaussian
        The learner's outputs (T, size, ...).
    own_classes : ndarray of shape (T, n_way) or None
        Which of all classes the columns of the outputs are.
    """
    tasks = by_task.tasks
    for which in many.batches(states.block_of[tasks], by_task.counts):
        numbers = by_task.padded(which)
        block = states.blocks[states.block_of[tasks[which[0]]]]
        slots = states.slot_of[tasks[which]]
        arrays = {name: a[slots] for name, a in block.items()}
        own = arrays.pop(OWN_CLASSES, None)
        state = {name: torch.as_tensor(a, device=many.device) for name, a in arrays.items()}
        real = numbers >= 0
        yield numbers, real, many.answers(state, many.rows(numbers), real), own


class LocalClasses:
    """Which classes each task has, those that it had before included.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Labels.
    which : ndarray of shape (n_rows,)
        Number of each row's task.
    tasks : ndarray of shape (n_tasks,)
        Ids, for errors.
    inner : FewShotEstimator
        What is adapted.
    known : Known or None, default=None
        Classes that tasks have beside those of their rows.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Labels, sorted.
    codes : ndarray of shape (n_rows,)
        Of each row's class among those of its task, -1 without label.
    n_way : ndarray of shape (n_tasks,)
        How many classes each task has.
    """

    def __init__(
        self,
        y: np.ndarray,
        which: np.ndarray,
        tasks: np.ndarray,
        inner: Any,
        known: Known | None = None,
    ):
        if (everywhere := known_classes(inner, y)) is not None:  # the same in every task
            n, n_tasks = len(everywhere), len(tasks)
            self.classes, self.codes = everywhere, places(everywhere, y)
            self.n_way = np.full(n_tasks, n)
            self._pairs = np.arange(n_tasks * n)
            self._first = np.arange(n_tasks) * n
            self._before = np.ones(n_tasks * n, bool)
            return
        labelled = is_labelled(y, getattr(inner, "unlabelled", None))
        found, codes = distinct(y[labelled], "y")
        self.classes = found if known is None else union(known.classes, found, "y")
        n = max(1, len(self.classes))
        pairs = which[labelled] * n + places(self.classes, found)[codes]
        before = np.zeros(0, int)
        if known is not None:
            before = known.tasks * n + places(self.classes, known.classes)[known.codes]
        self._pairs, local = np.unique(np.concatenate([pairs, before]), return_inverse=True)
        self.n_way = np.bincount(self._pairs // n, minlength=len(tasks))
        if not self.n_way.all():
            raise ValueError(f"All rows are unlabelled of {named(tasks[self.n_way == 0])}.")
        self._first = np.cumsum(self.n_way) - self.n_way
        self._before = np.isin(self._pairs, before)
        self.codes = np.full(len(y), -1)
        self.codes[labelled] = local[: len(pairs)] - self._first[which[labelled]]

    def own(self, some: np.ndarray) -> np.ndarray:
        """Numbers (T, n_way) in `classes` of those of tasks that have as many."""
        at = self._first[some, None] + np.arange(self.n_way[some[0]])
        return self._pairs[at] % len(self.classes)

    def before(self, task: Any) -> np.ndarray:
        """Which of its classes a task had before (n_way,)."""
        start = self._first[task]
        return self._before[start : start + self.n_way[task]]
