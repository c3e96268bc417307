"""States of many tasks, and what tasks of known states answer, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ..estimators import ManyTasks
from ..tasks import UNLABELLED_CODE, RowsByTask, distinct, is_labelled
from ._ids import named
from ._states import OWN_CLASSES, TaskStates


def adapt_tasks(
    many: ManyTasks,
    by_task: RowsByTask,
    y: np.ndarray,
    w: np.ndarray,
    n_way: np.ndarray | None,
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

    Yields
    ------
    which : ndarray of shape (T,)
        Which of ``by_task`` these are.
    state : dict of str to ndarray
        Their states.
    """
    kinds = np.zeros(len(by_task.tasks), int) if n_way is None else n_way
    for which in many.batches(kinds, by_task.counts):
        numbers = by_task.padded(which)
        real = numbers >= 0
        if n_way is None:
            target = many.targets(y[numbers] * real[..., None], None)
        else:
            codes = np.where(real, y[numbers], UNLABELLED_CODE)
            target = many.targets(codes, int(n_way[which[0]]))
        state = many.adapted(many.rows(numbers), target, many.tensor(w[numbers] * real))
        yield which, {name: t.cpu().numpy().copy() for name, t in state.items()}


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
        yield numbers, numbers >= 0, many.answers(state, many.rows(numbers)), own


def local_classes(
    y: np.ndarray, which: np.ndarray, tasks: np.ndarray, inner: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Classes, codes of the rows' among their task's own, how many those are, and which.

    The last is a function of the numbers of tasks that have as many.
    """
    known = is_labelled(y, getattr(inner, "unlabelled", None))
    classes, codes = distinct(y[known], "y")
    pairs, local = np.unique(which[known] * len(classes) + codes, return_inverse=True)
    n_way = np.bincount(pairs // max(1, len(classes)), minlength=len(tasks))
    if not n_way.all():
        raise ValueError(f"All rows are unlabelled of {named(tasks[n_way == 0])}.")
    first = np.cumsum(n_way) - n_way
    out = np.full(len(y), -1)
    out[known] = local - first[which[known]]

    def own(some: np.ndarray) -> np.ndarray:
        return pairs[first[some, None] + np.arange(n_way[some[0]])] % len(classes)

    return classes, out, n_way, own
