"""How tasks are begun, refitted and added to: all states in batches, or one fit after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import validate_data

from ..estimators import (
    ManyTasks,
    adapts_in_batches,
    check_weights,
    for_new_classes,
    known_classes,
    tell_new_classes,
    through,
    validated,
)
from ..tasks import RowsByTask, check_rows, distinct, places
from ._adding import Known, add_to_tasks, check_can_add, check_mode
from ._alone import fit_each, fit_further, fit_one
from ._batches import GivenRows, LocalClasses, adapt_in_chunks, some_tasks
from ._ids import named, refuse_weightless, union, union_of
from ._states import OWN_CLASSES, Pieces, TaskStates
from ._task_column import features_and_ids, task_column

#: What `fit` warns of without tasks: tools that take groups for themselves do not hand them on.
NO_TASKS = (
    "Neither task nor groups say the task of each row, so all rows count as one task. If groups "
    "were given to a search or a cross-validation, they reach fit with metadata routing alone: "
    "sklearn.set_config(enable_metadata_routing=True). A column of X does without: see task."
)


class LearnsTasks:
    """`fit` and `partial_fit`, for `Taskwise`."""

    task: Any
    unseen: str
    updatable: bool
    n_jobs: int | None

    #: Whether states hold what further rows need; False of objects of older versions.
    _updatable = False
    _kind: str
    _before: list[Any]
    _checked_inner: Callable[[], tuple[list[Any], Any]]
    _checked_y: Callable[[Any, Any], np.ndarray]
    _check_as_in_fit: Callable[[np.ndarray | None], None]
    _keep_classes_in_use: Callable[[], None]
    __sklearn_is_fitted__: Callable[[], bool]

    def _learn(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, afresh: bool, mode: str = "replace"
    ) -> None:
        adding = check_mode(mode)
        afresh = afresh or not self.__sklearn_is_fitted__()
        before, inner = self._checked_inner() if afresh else (self._before, self._template)
        updatable = bool(self.updatable) if afresh else self._updatable
        if adding or (afresh and updatable):
            check_can_add(inner, updatable, self._kind)
        check_rows(X, self)
        validate_data(self, X, y, reset=afresh, skip_check_array=True)
        place = task_column(self.task, X, groups, None if afresh else self._task_place)
        X, ids = features_and_ids(X, groups, place, self.task)
        y = self._checked_y(y, inner)
        check_consistent_length(X, y)
        inner = self._for_labels(inner, y, afresh)
        if not afresh:
            self._check_as_in_fit(ids)
        w = sample_weight
        if w is not None:  # further rows may weigh nothing
            w = check_weights(w, len(y), some=not adding)
        one_task = ids is None
        if one_task and afresh:
            warnings.warn(NO_TASKS, stacklevel=3)
        if ids is None:
            tasks, which = np.zeros(1, int), np.zeros(len(y), int)
        else:
            tasks, which = distinct(ids)
        # where rows are added to those of a task: its number, else -1
        adding = adding and not afresh
        numbers = places(self.tasks_, tasks) if adding else np.full(len(tasks), -1)
        refuse_weightless(w, which, tasks, numbers < 0)
        by_task = RowsByTask.of(which)
        if adapts_in_batches(inner):
            rows = GivenRows(through(before, X), y, w, which, by_task)
            classes, pieces = self._adapted(inner, rows, tasks, numbers, afresh, updatable)
            self._take_up(inner, tasks, classes, afresh, one_task, place)
            self._before = before
            self._put(tasks, classes, pieces)
            self._keep_classes_in_use()
            return
        pooled = None
        if (numbers >= 0).any():
            old = [None if i < 0 else self._fitted[i] for i in numbers]
            fitted = fit_further(inner, X, y, w, by_task, self.n_jobs, old, tasks)
        else:
            fitted = fit_each(inner, X, y, w, by_task, self.n_jobs)
        if afresh and not one_task and self.unseen == "prior":
            pooled = fitted[0] if len(tasks) == 1 else fit_one(inner, X, y, w)
        classes = classes_of(fitted) if self._kind == "classifier" else None
        self._take_up(inner, tasks, classes, afresh, one_task, place)
        self._fitted[places(self.tasks_, tasks)] = fitted
        self._keep_classes_in_use()
        if afresh:
            self._pooled = pooled

    def _for_labels(self, inner: Any, y: np.ndarray, afresh: bool) -> Any:
        """The estimator, without what it knows of classes if some label is not among these."""
        known = known_classes(inner) if self._kind == "classifier" else None
        if known is None or not adapts_in_batches(inner):
            return inner
        if (places(known, y) >= 0).all():
            return inner
        if afresh:
            tell_new_classes(np.unique(y), known, 5)
            return for_new_classes(inner)
        new = np.unique(y[places(known, y) < 0])
        raise ValueError(
            f"y has classes {named(new)}, which are not among those that the meta-init knows and "
            f"all tasks have: {named(known)}. Fit again, on the rows of all tasks."
        )

    def _begin(self, inner: Any, one_task: bool, place: int | None, updatable: bool) -> None:
        """Know no task."""
        self._template, self._one_task, self._task_place = inner, one_task, place
        self._updatable, self._before = updatable, []
        self._stacked, self._states = adapts_in_batches(inner), TaskStates()
        self._fitted, self._pooled = np.empty(0, object), None
        self.tasks_: np.ndarray = np.zeros(0, int)
        if self._kind == "classifier":
            self.classes_: np.ndarray = np.zeros(0, int)

    def _take_up(
        self,
        inner: Any,
        tasks: np.ndarray,
        classes: np.ndarray | None,
        afresh: bool,
        one_task: bool,
        place: int | None,
    ) -> None:
        """Make room for tasks, and columns for classes; change nothing if they do not fit."""
        if not afresh:
            tasks = union(self.tasks_, tasks, "groups")
            classes = None if classes is None else union(self.classes_, classes, "y")
        else:
            self._begin(inner, one_task, place, bool(self.updatable))
        kept = places(tasks, self.tasks_)
        self.tasks_ = tasks
        if self._stacked:
            self._states.renumber(kept, len(tasks))
            if classes is not None:
                self._states.relabel(places(classes, self.classes_))
        else:
            known, self._fitted = self._fitted, np.empty(len(tasks), object)
            self._fitted[kept] = known
        if classes is not None:
            self.classes_ = classes

    def _put(self, tasks: np.ndarray, classes: np.ndarray | None, pieces: Pieces) -> None:
        numbers = places(self.tasks_, tasks)
        if classes is not None:
            columns = places(self.classes_, classes).astype(np.int32)
            for _, arrays in pieces:
                arrays[OWN_CLASSES] = columns[arrays[OWN_CLASSES]]
        self._states.put((numbers[some], arrays) for some, arrays in pieces)

    def _adapted(
        self,
        inner: Any,
        rows: GivenRows,
        tasks: np.ndarray,
        numbers: np.ndarray,
        afresh: bool,
        updatable: bool,
    ) -> tuple[np.ndarray | None, Pieces]:
        """Classes, and the states of all tasks, in batches."""
        X, y, w, which, by_task = rows
        table = inner._format_of(X, w) if afresh else inner._known_format()
        X = validated(inner, table, X, reset=afresh)
        init = inner.meta_init
        w = np.ones(len(X)) if w is None else w
        local = None
        if self._kind == "classifier":
            inner._check_fits(init, X.shape[1:], None, inner._columns())
            known = self._known_classes(numbers)
            local = LocalClasses(y, which, tasks, inner, known)
            y = local.codes
        else:
            if not afresh and y.ndim != inner._y_ndim:
                raise ValueError(f"y must have {inner._y_ndim} axes as in fit, got {y.ndim}.")
            inner._y_ndim = y.ndim
            y = y.reshape(len(y), -1)
            inner._check_fits(init, X.shape[1:], y.shape[1], inner._columns())
        many, pieces = ManyTasks(inner, X, validated=True), []
        new, old = np.flatnonzero(numbers < 0), np.flatnonzero(numbers >= 0)
        n_way = None if local is None else local.n_way[new]
        fresh = some_tasks(by_task, new)
        for some, state in adapt_in_chunks(many, fresh, y, w, n_way, updatable, self.n_jobs):
            pieces.append((new[some], state))
        if len(old):
            had = None if local is None else [local.before(i) for i in old]
            known_rows, at = some_tasks(by_task, old), numbers[old]
            for some, state in add_to_tasks(many, known_rows, y, w, self._states, at, had):
                pieces.append((old[some], state))
        if local is None:
            return None, pieces
        for some, state in pieces:
            state[OWN_CLASSES] = local.own(some)
        return local.classes, pieces

    def _known_classes(self, numbers: np.ndarray) -> Known | None:
        """Classes of the tasks to which rows are added."""
        old = np.flatnonzero(numbers >= 0)
        if not len(old):
            return None
        own = self._states.own_classes(numbers[old])
        pairs = np.repeat(old, [len(codes) for codes in own])
        return Known(self.classes_, pairs, np.concatenate(own))


def classes_of(fitted: np.ndarray) -> np.ndarray:
    """Classes of fitted classifiers, sorted."""
    return union_of([one.classes_ for one in fitted], "y")
