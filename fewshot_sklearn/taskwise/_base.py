"""What `TaskwiseClassifier` and `TaskwiseRegressor` share: whose rows are whose, fit, look up.

Estimators of this package that were meta-trained adapt to all tasks in batched
calls (`batches`) and leave states; any other estimator is cloned and fitted task
by task (`alone`).
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_consistent_length, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ..estimators import (
    FewShotEstimator,
    ManyTasks,
    adapts_in_batches,
    check_weights,
    frozen_steps,
    through,
    validated,
    with_final,
)
from ..tasks import (
    N_JOBS,
    Anything,
    OneOf,
    RowsByTask,
    check_parameters,
    check_rows,
    comparable,
    distinct,
    indexable,
    n_rows,
    taken,
)
from ._alone import fit_each, fit_one
from ._batches import adapt_tasks, answer_tasks, local_classes
from ._files import SavesTasks
from ._ids import named, places, refuse_weightless, union, union_of
from ._states import OWN_CLASSES, Pieces, TaskStates
from ._task_column import check_asked, features_and_ids, task_column

#: What `fit` warns of without tasks: tools that take groups for themselves do not hand them on.
NO_TASKS = (
    "Neither task nor groups say the task of each row, so all rows count as one task. If groups "
    "were given to a search or a cross-validation, they reach fit with metadata routing alone: "
    "sklearn.set_config(enable_metadata_routing=True). A column of X does without: see task."
)


class Taskwise(SavesTasks, BaseEstimator):
    """What `TaskwiseClassifier` and `TaskwiseRegressor` share.

    `_template` is the estimator, not fitted, that knows the format of rows and
    targets; the states of the tasks are in `_states` where it is meta-trained,
    and fitted clones of it in `_fitted` (with `_pooled`, of all rows) where not.
    """

    _constraints = {"task": Anything(), "unseen": OneOf("prior", "error"), "n_jobs": N_JOBS}

    __metadata_request__fit = {"groups": True}
    __metadata_request__partial_fit = {"groups": True}
    __metadata_request__predict = {"groups": True}
    __metadata_request__predict_proba = {"groups": True}
    __metadata_request__score = {"groups": True}

    _kind: str
    _before: list[Any] = []  # of a pipeline: the frozen steps that rows go through to the template
    _default: type[FewShotEstimator]

    def __init__(
        self,
        estimator: Any = None,
        *,
        task: Any = None,
        unseen: str = "prior",
        n_jobs: int | None = None,
    ):
        self.estimator = estimator
        self.task = task
        self.unseen = unseen
        self.n_jobs = n_jobs

    def _inner(self) -> Any:
        return self._default() if self.estimator is None else self.estimator

    def _checked_y(self, y: Any, inner: Any) -> np.ndarray:
        raise NotImplementedError

    def _checked_inner(self) -> tuple[list[Any], Any]:
        """Frozen steps that rows go through, and a clone of what adapts to tasks."""
        check_parameters(self)
        inner = self._inner()
        if not adapts_in_batches(inner):
            return [], clone(inner)
        before, final = frozen_steps(inner)
        inner = clone(final)
        inner.meta_init = inner.meta_init_ = inner._resolve_meta_init()  # a file is read once
        return before, inner

    # ------------------------------------------------------------------ whose rows
    def _check_as_in_fit(self, ids: np.ndarray | None) -> None:
        if ids is None and not self._one_task:
            raise ValueError("groups is needed: it says the task of each row, as it did in fit.")
        if ids is not None and self._one_task:
            raise ValueError("groups was given, but fit had none: it saw all rows as one task.")

    def _routed(self, X: Any, groups: Any) -> tuple[Any, np.ndarray]:
        """Rows without the column of tasks, and the number of each one's task, -1 if unknown."""
        check_is_fitted(self)
        check_rows(X, self)
        if getattr(X, "ndim", 2) > 1:  # the estimator says best what is wrong with a single axis
            validate_data(self, X, reset=False, skip_check_array=True)
        place = task_column(self.task, X, groups, self._task_place)
        features, ids = features_and_ids(X, groups, place)
        self._check_as_in_fit(ids)
        if ids is None:
            features = through(self._before, features)
            return features, np.full(n_rows(X), 0 if len(self.tasks_) else -1)
        asked, which = distinct(ids)
        check_asked(self.tasks_, asked, self.task, X, place)
        at = places(self.tasks_, asked)
        if (unknown := asked[at < 0]).size and self.unseen == "error":
            raise ValueError(
                f"X has rows of {len(unknown)} task(s) that fit did not see: {named(unknown)}. "
                "With unseen='prior' they are predicted as tasks without labels."
            )
        return through(self._before, features), at[which]

    def _numbers(self, tasks: Any) -> np.ndarray:
        """Numbers of known tasks."""
        check_is_fitted(self)
        ids = np.asarray(tasks)
        asked = distinct(comparable(ids if ids.ndim else ids.reshape(1)))[0]
        at = places(self.tasks_, asked)
        if (at < 0).any():
            raise ValueError(f"There are no tasks {named(asked[at < 0])}; see tasks_.")
        return at

    # ------------------------------------------------------------------ fit
    def _learn(self, X: Any, y: Any, groups: Any, sample_weight: Any, afresh: bool) -> None:
        afresh = afresh or not self.__sklearn_is_fitted__()
        before, inner = self._checked_inner() if afresh else (self._before, self._template)
        check_rows(X, self)
        validate_data(self, X, y, reset=afresh, skip_check_array=True)
        place = task_column(self.task, X, groups, None if afresh else self._task_place)
        X, ids = features_and_ids(X, groups, place)
        y = self._checked_y(y, inner)
        check_consistent_length(X, y)
        if not afresh:
            self._check_as_in_fit(ids)
        w = None if sample_weight is None else check_weights(sample_weight, len(y))
        one_task = ids is None
        if one_task and afresh:
            warnings.warn(NO_TASKS, stacklevel=3)
        if ids is None:
            tasks, which = np.zeros(1, int), np.zeros(len(y), int)
        else:
            tasks, which = distinct(ids)
        refuse_weightless(w, which, tasks)
        by_task = RowsByTask.of(which)
        if adapts_in_batches(inner):
            X = through(before, X)
            classes, pieces = self._adapted(inner, X, y, w, tasks, which, by_task, afresh)
            self._take_up(inner, tasks, classes, afresh, one_task, place)
            self._before = before
            self._put(tasks, classes, pieces)
            self._keep_classes_in_use()
            return
        fitted, pooled = fit_each(inner, X, y, w, by_task, self.n_jobs), None
        if afresh and not one_task and self.unseen == "prior":
            pooled = fitted[0] if len(tasks) == 1 else fit_one(inner, X, y, w)
        classes = _classes_of(fitted) if self._kind == "classifier" else None
        self._take_up(inner, tasks, classes, afresh, one_task, place)
        self._fitted[places(self.tasks_, tasks)] = fitted
        self._keep_classes_in_use()
        if afresh:
            self._pooled = pooled

    def _begin(self, inner: Any, one_task: bool, place: int | None) -> None:
        """Know no task."""
        self._template, self._one_task, self._task_place = inner, one_task, place
        self._before = []
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
            self._begin(inner, one_task, place)
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
        X: Any,
        y: np.ndarray,
        weights: np.ndarray | None,
        tasks: np.ndarray,
        which: np.ndarray,
        by_task: RowsByTask,
        afresh: bool,
    ) -> tuple[np.ndarray | None, Pieces]:
        """Classes, and the states of all tasks, in batches."""
        X = validated(inner, inner.meta_init.table, X, reset=afresh)
        init = inner.meta_init
        w = np.ones(len(X)) if weights is None else weights
        classes = n_way = own = None
        if self._kind == "classifier":
            inner._check_fits(init, X.shape[1:], None, inner._columns())
            classes, y, n_way, own = local_classes(y, which, tasks, inner)
        else:
            if not afresh and y.ndim != inner._y_ndim:
                raise ValueError(f"y must have {inner._y_ndim} axes as in fit, got {y.ndim}.")
            inner._y_ndim = y.ndim
            y = y.reshape(len(y), -1)
            inner._check_fits(init, X.shape[1:], y.shape[1], inner._columns())
        pieces = []
        for some, state in adapt_tasks(ManyTasks(inner, X, validated=True), by_task, y, w, n_way):
            if own is not None:
                state[OWN_CLASSES] = own(some)
            pieces.append((some, state))
        return classes, pieces

    # ------------------------------------------------------------------ predict
    def _answered(self, X: Any, numbers: np.ndarray) -> tuple[np.ndarray, Iterator[Any]]:
        """Rows as an array, and what `answer_tasks` says of those of known tasks."""
        inner = self._template
        X = validated(inner, inner.meta_init.table, X, reset=False)
        known = np.flatnonzero(numbers >= 0)
        by_task = RowsByTask.of(numbers[known])
        by_task = by_task._replace(order=known[by_task.order])
        return X, answer_tasks(ManyTasks(inner, X, validated=True), by_task, self._states)

    def _prior(self) -> Any:
        """What answers for tasks that `fit` did not see."""
        if not self._stacked:
            if self._pooled is None:
                raise ValueError(
                    "There is no model of all rows to predict unseen tasks with: call fit with "
                    "groups and unseen='prior'."
                )
            return self._pooled
        prior = clone(self._template)
        if self._kind == "classifier":
            if not len(self.classes_):
                raise ValueError("No task is left, so no class is known: call fit or partial_fit.")
            prior.fit_prior(self.classes_)
        else:
            prior.fit_prior()
            prior._y_ndim = self._template._y_ndim
        # columns were compared already, and made numbers of
        prior.__dict__.pop("feature_names_in_", None)
        prior._reads_numbers = True
        if prior.meta_init.table is not None:
            prior.n_features_in_ = prior.meta_init.table.width
        return prior

    def _each(self, X: Any, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, Any, Any]]:
        """Row numbers, those rows, and the estimator that answers for them."""
        if self._one_task:
            yield (
                np.arange(len(numbers)),
                X,
                self._fitted[0] if len(self._fitted) else self._prior(),
            )
            return
        by_task, X = RowsByTask.of(numbers), indexable(X)
        for i, number in enumerate(by_task.tasks):
            rows = by_task.of_task(i)
            inner = self._prior() if number < 0 else self._fitted[number]
            yield rows, taken(X, rows), inner

    # ------------------------------------------------------------------ single tasks
    def task_estimator(self, task: Any) -> Any:
        """The estimator of one task, fitted, on its own.

        Parameters
        ----------
        task : object
            The task's id; 0 where all rows were one task.

        Returns
        -------
        estimator
            A fitted estimator that knows nothing of the other tasks. It takes
            rows without the column of tasks.

        Raises
        ------
        ValueError
            When there is no such task.
        """
        number = int(self._numbers(task)[0])
        if not self._stacked:
            return self._fitted[number]
        inner = clone(self._template)
        format_ = ("n_features_in_", "feature_names_in_", "meta_init_", "_y_ndim")
        known = vars(self._template)
        vars(inner).update({name: known[name] for name in format_ if name in known})
        inner.state_, own = self._states.take(number)
        if own is not None:
            inner.classes_ = self.classes_[own]
        return with_final(self._inner(), inner)

    def forget(self, tasks: Any) -> Any:
        """Remove tasks, and all that was learned from their rows alone.

        The model of all rows together, which answers for unseen tasks where the
        estimator is not meta-trained, stays: only a new `fit` makes it forget.

        Parameters
        ----------
        tasks : object, or array-like of shape (n,)
            Ids of the tasks; rows of theirs are then rows of unseen tasks.
            Classes that no other task has are no longer in `classes_`.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            When there is no such task; none is then removed.
        """
        gone = self._numbers(tasks)
        self.tasks_ = np.delete(self.tasks_, gone)
        if self._stacked:
            self._states.drop(gone)
        else:
            self._fitted = np.delete(self._fitted, gone)
        self._keep_classes_in_use()
        return self

    def _keep_classes_in_use(self) -> None:
        """Have in `classes_` those that some task has."""
        if self._kind != "classifier":
            return
        if not self._stacked:
            left = len(self._fitted)
            self.classes_ = _classes_of(self._fitted) if left else self.classes_[:0]
            return
        used = self._states.classes_in_use()
        renumbered = np.zeros(len(self.classes_), int)
        renumbered[used] = np.arange(len(used))
        self._states.relabel(renumbered)
        self.classes_ = self.classes_[used]

    @property
    def n_tasks_(self) -> int:
        """Number of tasks."""
        check_is_fitted(self)
        return len(self.tasks_)

    @property
    def nbytes_(self) -> int:
        """Bytes of the states of all tasks; of the pickled estimators where these have none."""
        check_is_fitted(self)
        return self._states.nbytes if self._stacked else len(pickle.dumps(self._fitted))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "tasks_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = self._inner()
        if hasattr(inner, "__sklearn_tags__"):
            own = get_tags(inner)
            tags.input_tags, tags.target_tags = own.input_tags, own.target_tags
            if own.classifier_tags is not None and tags.classifier_tags is not None:
                tags.classifier_tags = own.classifier_tags
        return tags


def _classes_of(fitted: np.ndarray) -> np.ndarray:
    return union_of([one.classes_ for one in fitted], "y")
