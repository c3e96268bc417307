"""Further rows of tasks that are known: taken into their states, or handed to `partial_fit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import algorithms
from ..estimators import ManyTasks, adapts_in_batches
from ..learners import TakesIn
from ..tasks import UNLABELLED_CODE, RowsByTask
from ._ids import named
from ._states import OWN_CLASSES, TaskStates

#: What `partial_fit` may do with rows of tasks that are known.
MODES = ("replace", "add")


class Known(NamedTuple):
    """Classes that tasks had before further rows came.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Labels of the classes of all tasks.
    tasks, codes : ndarray of shape (n_pairs,)
        Numbers of tasks among those of the further rows, and of a class in `classes` that each has.
    """

    classes: np.ndarray
    tasks: np.ndarray
    codes: np.ndarray


def check_mode(mode: Any) -> bool:
    """Whether rows are added to those of known tasks."""
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"mode must be 'replace' or 'add', got {mode!r}.")
    return mode == "add"


def check_can_add(inner: Any, updatable: bool, kind: str) -> None:
    """Refuse estimators of which a fitted one takes no further rows in, and tell of those that do.

    Parameters
    ----------
    inner : estimator
        What is adapted to each task.
    updatable : bool
        Whether states hold what further rows need.
    kind : {"classifier", "regressor"}
        What tells of those that can.
    """
    name = type(inner).__name__
    instead = 'or pass all rows of a task again, with mode="replace"'
    if not adapts_in_batches(inner):
        if hasattr(inner, "partial_fit"):
            return
        raise ValueError(
            f"{name} has no partial_fit, so no rows can be added to those that it was fitted on. "
            f"Take an estimator that has one, {instead} and updatable=False."
        )
    learner = inner._rebuild(inner._resolve_meta_init())
    if not (learner.takes_in and isinstance(learner, TakesIn)):
        raise ValueError(
            f"{name}, with these parameters and this meta-init, adapts to all rows of a task at "
            "once, so none can be added to those that it was fitted on. Meta-trained ones to which "
            f"they can be: {', '.join(_that_can(kind))}. Take one of these, {instead} and "
            "updatable=False."
        )
    if not updatable:
        raise ValueError(
            "Rows can be added only to tasks that were fitted with updatable=True, which keeps "
            f"beside the states what that needs. Fit again with it, {instead}."
        )


def _that_can(kind: str) -> Iterator[str]:
    """Names of the estimators, of one kind, some or all of whose parameters let rows be added."""
    for name in sorted(algorithms.__all__):
        learner = getattr(getattr(algorithms, name), "_learner_class", None)
        if (
            name.lower().endswith(kind)
            and isinstance(learner, type)
            and issubclass(learner, TakesIn)
        ):
            yield name


def add_to_tasks(
    many: ManyTasks,
    by_task: RowsByTask,
    y: np.ndarray,
    w: np.ndarray,
    states: TaskStates,
    numbers: np.ndarray,
    before: list[np.ndarray] | None,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Take rows into the states of tasks that are known.

    Parameters
    ----------
    many : ManyTasks
        The estimator, with the further rows of all tasks.
    by_task : RowsByTask
        Whose rows they are.
    y : ndarray
        Codes of each row's class among those that its task has then (n_rows,), or targets
        (n_rows, n_outputs).
    w : ndarray of shape (n_rows,)
        Weights.
    states : TaskStates
        The tasks' states; they are left as they are.
    numbers : ndarray of shape (n_tasks,)
        How `states` numbers the tasks of `by_task`.
    before : list of ndarray of bool of shape (n_way,), one a task, or None
        Which of its classes each task had before; None for regression.

    Yields
    ------
    which : ndarray of shape (T,)
        Which of ``by_task`` these are.
    state : dict of str to ndarray
        Their states.
    """
    block_of = states.block_of[numbers]
    kept = np.array([_rows_kept(many, block) for block in states.blocks], int)[block_of]
    keys = [
        (b, b"" if before is None else before[i].tobytes()) for i, b in enumerate(block_of.tolist())
    ]
    kind_of = {key: kind for kind, key in enumerate(dict.fromkeys(keys))}
    kinds = np.array([kind_of[key] for key in keys])
    for which in many.batches(kinds, kept, by_task.counts):
        rows = by_task.padded(which)
        real = rows >= 0
        index = None
        if before is None:
            target = many.targets(y[rows] * real[..., None], None)
        else:
            had = before[which[0]]
            target = many.targets(np.where(real, y[rows], UNLABELLED_CODE), len(had))
            if not had.all():
                places = np.where(had, np.cumsum(had) - 1, -1)
                index = torch.as_tensor(places, device=many.device)
        block, slots = states.blocks[block_of[which[0]]], states.slot_of[numbers[which]]
        state = {
            name: torch.as_tensor(a[slots], device=many.device)
            for name, a in block.items()
            if name != OWN_CLASSES
        }
        weights = many.tensor(w[rows] * real)
        state = many.taken_in(state, many.rows(rows), target, weights, index)
        yield which, {name: t.cpu().numpy().copy() for name, t in state.items()}


def _rows_kept(many: ManyTasks, block: dict[str, np.ndarray]) -> int:
    return many.learner.rows_kept(
        {name: torch.from_numpy(a[:0].copy()) for name, a in block.items()}
    )


def refuse_new_labels(inner: Any, fitted: Any, y: np.ndarray, task: Any) -> None:
    """Refuse classes that a fitted classifier, not of this package, does not know."""
    new = np.unique(y[~np.isin(y, fitted.classes_)])
    if len(new):
        raise ValueError(
            f"y has classes {named(new)}, which task {named([task])[1:-1]} did not have before, "
            f"but the partial_fit of {type(inner).__name__} takes no new ones. Pass all rows of "
            'the task, with mode="replace".'
        )
