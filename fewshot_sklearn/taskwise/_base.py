"""What `TaskwiseClassifier` and `TaskwiseRegressor` share: whose rows are whose, fit, look up.

Estimators of this package that were meta-trained adapt to all tasks in batched
calls (`batches`) and leave states; any other estimator is cloned and fitted task
by task (`alone`).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ..estimators import (
    FewShotEstimator,
    ManyTasks,
    adapts_in_batches,
    frozen_steps,
    through,
    validated,
    with_final,
)
from ..tasks import (
    N_JOBS,
    Anything,
    Flag,
    OneOf,
    RowsByTask,
    check_parameters,
    check_rows,
    comparable,
    distinct,
    indexable,
    n_rows,
    places,
    taken,
)
from ._batches import answer_tasks
from ._files import SavesTasks
from ._ids import named
from ._learning import LearnsTasks, classes_of
from ._task_column import check_asked, features_and_ids, task_column


class Taskwise(LearnsTasks, SavesTasks, BaseEstimator):
    """What `TaskwiseClassifier` and `TaskwiseRegressor` share.

    `_template` is the estimator, not fitted, that knows the format of rows and
    targets; the states of the tasks are in `_states` where it is meta-trained,
    and fitted clones of it in `_fitted` (with `_pooled`, of all rows) where not.
    """

    _constraints = {
        "task": Anything(),
        "unseen": OneOf("prior", "error"),
        "updatable": Flag(),
        "n_jobs": N_JOBS,
    }

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
        updatable: bool = False,
        n_jobs: int | None = None,
    ):
        self.estimator = estimator
        self.task = task
        self.unseen = unseen
        self.updatable = updatable
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
        features, ids = features_and_ids(X, groups, place, self.task)
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

    def _place_and_ids(self, X: Any, groups: Any) -> tuple[int | None, np.ndarray | None]:
        """The column that holds the tasks, if one does, and the task of each row, if it is told."""
        check_rows(X, self)
        place = task_column(self.task, X, groups, self._task_place)
        return place, features_and_ids(X, groups, place, self.task)[1]

    def _numbers(self, tasks: Any) -> np.ndarray:
        """Numbers of known tasks."""
        check_is_fitted(self)
        ids = np.asarray(tasks)
        asked = distinct(comparable(ids if ids.ndim else ids.reshape(1)))[0]
        at = places(self.tasks_, asked)
        if (at < 0).any():
            raise ValueError(f"There are no tasks {named(asked[at < 0])}; see tasks_.")
        return at

    # ------------------------------------------------------------------ predict
    def _answered(self, X: Any, numbers: np.ndarray) -> tuple[np.ndarray, Iterator[Any]]:
        """Rows as an array, and what `answer_tasks` says of those of known tasks."""
        inner = self._template
        X = validated(inner, inner._known_format(), X, reset=False)
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
        if (table := self._template._known_format()) is not None:
            prior.n_features_in_ = table.width
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
        format_ = ("n_features_in_", "feature_names_in_", "table_format_", "meta_init_", "_y_ndim")
        known = vars(self._template)
        vars(inner).update({name: known[name] for name in format_ if name in known})
        inner.state_, own = self._states.take(number)
        if own is not None:
            inner.classes_ = self.classes_[own]
        if self._updatable:  # its own `partial_fit` goes on from the state
            inner._adapted_with = inner._described(inner.meta_init_)
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
            self.classes_ = classes_of(self._fitted) if left else self.classes_[:0]
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
