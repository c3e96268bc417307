"""Adapting to many tasks and answering for them, in padded batches of tasks of about one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from ..estimators import resolve_device
from ..learners import TASKS_PER_CHUNK, FeatureLearner, Learner, State, joined
from ..tasks import UNLABELLED_CODE, Support, memberships
from ._ids import named, sorted_distinct
from ._states import OWN_CLASSES, TaskStates

#: Numbers a padded batch of rows, or of pairs of rows, may hold: 64 MiB of float32.
NUMBERS_AT_ONCE = 2**24


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

    def padded(self, which: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers (T, size) of some tasks, and which of them are not padding."""
        within = np.arange(size)
        real = within < self.counts[which, None]
        return self.order[np.where(real, self.starts[which, None] + within, 0)], real

    def batches(
        self, kinds: np.ndarray, width: int, on_cpu: bool
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Batches of tasks of one kind and padded size that are small enough, with the size."""
        sizes = padded_size(self.counts)
        order = np.lexsort((sizes, kinds))
        changes = (np.diff(kinds[order]) != 0) | (np.diff(sizes[order]) != 0)
        for alike in np.split(order, np.flatnonzero(changes) + 1):
            if not len(alike):
                continue
            size = int(sizes[alike[0]])
            at_once = max(1, NUMBERS_AT_ONCE // (size * max(size, width)))
            at_once = min(at_once, TASKS_PER_CHUNK) if on_cpu else at_once
            for start in range(0, len(alike), at_once):
                yield alike[start : start + at_once], size


class Rows(NamedTuple):
    """Rows of many tasks, and how to bring them to where they are computed with."""

    X: np.ndarray
    by_task: RowsByTask
    learner: Learner
    dtype: torch.dtype
    device: torch.device

    def batches(self, kinds: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Batches of tasks, as `RowsByTask.batches` makes them."""
        width = max(int(np.prod(self.X.shape[1:])), self.learner.n_features)
        return self.by_task.batches(kinds, width, self.device.type == "cpu")

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array)).to(self.device, self.dtype)

    def embedded(self, rows: np.ndarray, real: np.ndarray) -> Tensor:
        """Features (T, size, ...) of the rows, or the rows themselves; zero where padded."""
        Z = self.tensor(self.X[rows[real]])
        if isinstance(self.learner, FeatureLearner):
            Z = self.learner.embed(Z)
        if real.all():
            return Z.unflatten(0, real.shape)
        out = Z.new_zeros((*real.shape, *Z.shape[1:]))
        out[torch.as_tensor(real, device=Z.device)] = Z
        return out


def rows_for(estimator: Any, X: np.ndarray, by_task: RowsByTask) -> Rows:
    """Rows for the learner of a meta-trained estimator."""
    learner, device = estimator._rebuild(estimator.meta_init_), resolve_device(estimator.device)
    return Rows(X, by_task, learner, estimator._compute_dtype(), device)


@torch.no_grad()
def adapt_tasks(
    rows: Rows, y: np.ndarray, w: np.ndarray, n_way: np.ndarray | None
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Adapt to all tasks, a batch at a time.

    Parameters
    ----------
    rows : Rows
        Support rows.
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
        Which of ``rows.by_task`` these are.
    state : dict of str to ndarray
        Their states.
    """
    kinds = np.zeros(len(rows.by_task.tasks), int) if n_way is None else n_way
    shapes: dict[tuple[int, int], dict[str, torch.Size]] = {}
    for which, size in rows.batches(kinds):
        numbers, real = rows.by_task.padded(which, size)
        Z, weights = rows.embedded(numbers, real), rows.tensor(w[numbers] * real)
        if n_way is None:
            target = rows.tensor(y[numbers] * real[..., None])
        else:
            codes = np.where(real, y[numbers], UNLABELLED_CODE)
            target = memberships(
                torch.as_tensor(codes, device=rows.device), int(n_way[which[0]]), rows.dtype
            )
        key, first = (int(kinds[which[0]]), size), None
        if key not in shapes:
            first = _adapted(rows.learner, Z[0], target[0], weights[0])
            shapes[key] = {name: t.shape for name, t in first.items()}
        if first is not None and len(which) == 1:
            state = {name: t[None] for name, t in first.items()}
        elif isinstance(rows.learner, FeatureLearner):
            state = rows.learner.over_tasks("adapt_features", Z, target, weights)
        else:
            batch = zip(Z, target, weights, strict=True)
            state = joined([_adapted(rows.learner, *task) for task in batch], torch.stack)
        # what all tasks of a batch share may come without an axis of tasks, or be the learner's own
        full = {name: t.expand(len(which), *shapes[key][name]) for name, t in state.items()}
        yield which, {name: t.cpu().numpy().copy() for name, t in full.items()}


def _adapted(learner: Learner, Z: Tensor, y: Tensor, w: Tensor) -> State:
    if isinstance(learner, FeatureLearner):
        return learner.adapt_features(Z, y, w)
    return learner.adapt(Support(Z, y, w))


@torch.no_grad()
def answer_tasks(
    rows: Rows, states: TaskStates
) -> Iterator[tuple[np.ndarray, np.ndarray, Any, Any]]:
    """Predict rows of many tasks, a batch at a time.

    Parameters
    ----------
    rows : Rows
        Rows, whose tasks are numbered as `states` numbers them.
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
    tasks = rows.by_task.tasks
    for which, size in rows.batches(states.block_of[tasks]):
        numbers, real = rows.by_task.padded(which, size)
        block = states.blocks[states.block_of[tasks[which[0]]]]
        slots = states.slot_of[tasks[which]]
        arrays = {name: a[slots] for name, a in block.items()}
        own = arrays.pop(OWN_CLASSES, None)
        state = {name: torch.as_tensor(a, device=rows.device) for name, a in arrays.items()}
        yield numbers, real, _answers(rows.learner, state, rows.embedded(numbers, real)), own


def _answers(learner: Learner, state: State, Z: Tensor) -> Any:
    one_task: Callable[..., Any] = learner.predict
    if isinstance(learner, FeatureLearner):
        one_task = learner.predict_features
        if learner.takes_batches:
            return one_task(state, Z)
        if learner.vmaps and not (learner.convolves and Z.device.type == "cpu"):
            return vmap(one_task)(state, Z)
    each = ({name: t[i] for name, t in state.items()} for i in range(len(Z)))
    return joined([one_task(s, z) for s, z in zip(each, Z, strict=True)], torch.stack)


def local_classes(
    y: np.ndarray, which: np.ndarray, tasks: np.ndarray, inner: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Classes, codes of the rows' among their task's own, how many those are, and which.

    The last is a function of the numbers of tasks that have as many.
    """
    mark = getattr(inner, "unlabelled", None)
    known = np.ones(len(y), bool) if mark is None else y != mark
    classes, codes = sorted_distinct(y[known])
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
