"""A registry of tasks in a file: more of them than memory holds, renewed while others read.

D. R. Hipp and others. SQLite. https://www.sqlite.org
"""

from __future__ import annotations

import os
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if

from ..meta_init import checksum_of
from ..tasks import FilePath, Flag, comparable, distinct
from ._base import Taskwise
from ._database import Database
from ._ids import named
from ._keys import keys_of
from ._states import OWN_CLASSES
from ._stored import (
    all_ids,
    check_kind_of,
    find,
    first_id,
    labels_of,
    put,
    take_out,
    there,
    told,
    told_alike,
)
from ._task_column import check_asked

#: What `merge` may do with tasks that are there.
DUPLICATES = ("error", "replace")


def _classifies(self: TaskStore) -> bool:
    return self.taskwise._kind == "classifier"


class TaskStore:
    """What was learned of many tasks, in one file on disk, of which only those asked for are read.

    `TaskwiseClassifier` and `TaskwiseRegressor` hold the states of all tasks in memory. A store
    holds those of any number in a file: ten million, and more. It is filled from files that many
    workers wrote (`fit_partition`), answers rows of some thousand tasks at a time, and tasks are
    renewed, added and deleted while others read: a reader sees all of an update or nothing of it.

    The file is an SQLite database. Many processes and threads of one machine may use it at once;
    one of them writes at a time, and the others wait for it. On a network's disk, where SQLite's
    log of writes cannot be shared, let nobody write while others read, or give each machine a copy.

    Parameters
    ----------
    path : path-like
        The file, customarily ``*.tasks``. It is made if there is none. One in a folder that may not
        be written to is read as what nobody changes.
    taskwise : TaskwiseClassifier or TaskwiseRegressor
        Around a meta-trained estimator of this package. What it was fitted to does not matter, and
        is not stored: see `merge`. What the store holds must be of the same meta-init,
        hyperparameters and precision, or the first use of it is an error.
    create : bool, default=True
        Whether a file is made if there is none. False is for whoever only reads, whom a slip in
        the path would give an empty store.

    Attributes
    ----------
    path : Path
        The file.
    taskwise : TaskwiseClassifier or TaskwiseRegressor
        Not fitted.

    See Also
    --------
    fit_partition : Fits the tasks of a part of all rows, and writes them to a file.
    TaskwiseRegressor : Holds all tasks in memory.

    Notes
    -----
    While a store is open there are files beside it, ``-wal`` and ``-shm``. Copy it when nobody has
    it open, or by SQLite's own backup (``sqlite3 all.tasks ".backup copy.tasks"``), and let no
    process that uses it open the file otherwise: closing that lets go of SQLite's locks on it.
    Each state has a checksum, which is looked at whenever it is read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from fewshot_sklearn import (
    ...     MetaTrainer, RidgeHeadRegressor, TaskStore, TaskwiseRegressor, fit_partition)
    >>> from fewshot_sklearn.datasets import make_sinusoid_tasks
    >>> past = make_sinusoid_tasks(20, n_shot=10, n_query=0, random_state=0)
    >>> trainer = MetaTrainer(
    ...     RidgeHeadRegressor(), n_shot=5, n_query=5, max_epochs=1, random_state=0, verbose=0)
    >>> reg = TaskwiseRegressor(trainer.fit(past.data, past.target, past.groups).estimator_)
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> files = [
    ...     fit_partition(reg, past.data[some], past.target[some], past.groups[some], folder=folder)
    ...     for some in (past.groups < 12, past.groups >= 12)]
    >>> store = TaskStore(folder / "all.tasks", reg).merge(files)
    >>> len(store)
    20
    >>> store.predict([[0.5], [0.5]], groups=[3, 17]).shape
    (2,)
    """

    def __init__(self, path: str | os.PathLike[str], taskwise: Any, create: bool = True):
        FilePath().check("path", path)
        if not isinstance(taskwise, Taskwise):
            raise ValueError(
                "taskwise must be a TaskwiseClassifier or a TaskwiseRegressor, got "
                f"{type(taskwise).__name__}."
            )
        Flag().check("create", create)
        taskwise._refuse_what_cannot_be_saved()
        if not create and not Path(path).exists():
            raise FileNotFoundError(f"There is no store {path}, and create=False.")
        self.path, self.taskwise = Path(path), clone(taskwise)
        self._database = Database(path)
        self._format: Any = None
        with self._database.reading() as connection:
            if told(connection, "meta") is not None:
                self._empty(connection)

    def __repr__(self) -> str:
        return f"TaskStore({str(self.path)!r}, {self.taskwise!r})"

    # ------------------------------------------------------------------ what is there
    def __len__(self) -> int:
        with self._database.reading() as connection:
            return connection.execute("SELECT count(*) FROM tasks").fetchone()[0]

    def __contains__(self, task: Any) -> bool:
        try:
            keys = keys_of(comparable(np.asarray(task).reshape(1)))
        except ValueError:  # no store has an id of that kind
            return False
        with self._database.reading() as connection:
            return bool(there(connection, keys)[0])

    def tasks(self) -> np.ndarray:
        """Ids of all tasks.

        Returns
        -------
        ndarray of shape (n_tasks,)
            The ids, sorted. All are read, into memory.
        """
        with self._database.reading() as connection:
            return all_ids(connection)

    # ------------------------------------------------------------------ put in, take out
    def merge(self, sources: Any, duplicates: str = "error") -> TaskStore:
        """Put in all tasks of files, or of a fitted estimator.

        Parameters
        ----------
        sources : path-like, estimator, or iterable of them
            What `fit_partition` or `save_tasks` wrote, or a fitted `TaskwiseClassifier` or
            `TaskwiseRegressor`. None in a list stands for no tasks.
        duplicates : {"error", "replace"}, default="error"
            What to do about a task that is in the store already. ``"error"`` refuses the
            source that holds it; a file that was merged before, just as it is, is passed over,
            so that what was interrupted may be begun again. ``"replace"``: the later wins.

        Returns
        -------
        self : object
            The store. Each source is put in whole or not at all; with an error in one of them
            those before it are in.

        Raises
        ------
        ValueError
            When a source holds tasks of another estimator, of other columns, or, with
            ``duplicates="error"``, one that is there.
        """
        if duplicates not in DUPLICATES:
            raise ValueError(f"duplicates must be one of {DUPLICATES}, got {duplicates!r}.")
        alone = isinstance(sources, str | os.PathLike | Taskwise)
        for source in [sources] if alone else sources:
            if source is not None:
                self._merge_one(source, duplicates == "replace")
        return self

    def _merge_one(self, source: Any, replace: bool) -> None:
        if isinstance(source, Taskwise):
            fitted, what, seal = source, f"This {type(source).__name__}", None
            clone(self.taskwise)._know_as(fitted._told(), what)
        else:
            seal = checksum_of(source)
            with self._database.reading() as connection:
                if not replace and _merged(connection, seal):
                    return
            fitted, what = clone(self.taskwise).load_tasks(source), str(source)
        if type(fitted) is not type(self.taskwise):
            raise ValueError(f"{what} is of another kind than {type(self.taskwise).__name__}.")
        meta = fitted._told()
        if meta["one_task"]:
            raise ValueError(f"{what} was fitted to all rows as one task: a store needs ids.")
        with self._database.writing() as connection:
            told_alike(connection, meta, what)
            if len(fitted.tasks_):
                check_kind_of(connection, "groups", fitted.tasks_, what)
            put(connection, fitted.tasks_, fitted._states, _classes(fitted), replace)
            if seal is not None:
                connection.execute("INSERT OR IGNORE INTO files VALUES (?)", (seal,))

    def partial_fit(
        self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None, mode: str = "replace"
    ) -> TaskStore:
        """Adapt to new tasks, and to further rows of known ones; all others stay as they are.

        Nobody else writes meanwhile; others read what was there before.

        Parameters
        ----------
        X, y, groups, sample_weight : see TaskwiseRegressor.fit
            Rows of the tasks to begin, to refit, or to add rows to.
        mode : {"replace", "add"}, default="replace"
            As in ``TaskwiseRegressor.partial_fit``.

        Returns
        -------
        self : object
            The store.

        Raises
        ------
        ValueError
            As ``TaskwiseRegressor.partial_fit`` does. The store is then as it was.
        """
        with self._database.writing() as connection:
            if self._format is None and told(connection, "meta") is None:
                if groups is None and self.taskwise.task is None:
                    raise ValueError("groups is needed: it says the task of each row.")
                fitted = clone(self.taskwise).fit(X, y, groups, sample_weight)
                told_alike(connection, fitted._told(), "What was fitted")
            else:
                ids = self._ids(connection, X, groups)
                # what is replaced need not be known, nor be whole
                fitted = self._holding(connection, ids if mode == "add" else ids[:0])
                fitted.partial_fit(X, y, groups, sample_weight, mode=mode)
            put(connection, fitted.tasks_, fitted._states, _classes(fitted), True)
        return self

    def forget(self, tasks: Any) -> TaskStore:
        """Delete tasks, and all that was learned from their rows, from the disk too.

        Parameters
        ----------
        tasks : object, or array-like of shape (n,)
            Ids of the tasks; rows of theirs are then rows of unseen tasks.

        Returns
        -------
        self : object
            The store. Its file is as large as before: the room is used again, or see `compact`.

        Raises
        ------
        ValueError
            When there is no such task; none is then deleted.
        """
        with self._database.writing() as connection:
            self._empty(connection)
            ids = self._known_ids(connection, tasks)
            take_out(connection, ids, _classifies(self))
        # what the log still holds of them, unless somebody reads it
        self._database.outside("PRAGMA wal_checkpoint(TRUNCATE)")
        return self

    def compact(self) -> TaskStore:
        """Write the file anew without the room that deleted tasks left.

        It takes as much room again meanwhile, and some time: 3 GB a minute or so.

        Returns
        -------
        self : object
            The store.
        """
        self._database.outside("VACUUM")
        self._database.outside("PRAGMA wal_checkpoint(TRUNCATE)")
        return self

    # ------------------------------------------------------------------ some tasks
    def load(self, tasks: Any) -> Any:
        """Hold some tasks in memory.

        Parameters
        ----------
        tasks : object, or array-like of shape (n,)
            Their ids.

        Returns
        -------
        TaskwiseClassifier or TaskwiseRegressor
            Fitted, of these tasks alone; what is done with it changes nothing in the store.

        Raises
        ------
        ValueError
            When there is no such task.
        """
        with self._database.reading() as connection:
            self._empty(connection)
            return self._holding(connection, self._known_ids(connection, tasks))

    def task_estimator(self, task: Any) -> Any:
        """The estimator of one task, fitted, on its own.

        Parameters
        ----------
        task : object
            The task's id.

        Returns
        -------
        estimator
            As ``TaskwiseRegressor.task_estimator`` returns.

        Raises
        ------
        ValueError
            When there is no such task.
        """
        return self.load(task).task_estimator(task)

    def predict(self, X: Any, groups: Any = None, return_std: bool = False) -> Any:
        """Predict targets or labels, each row's by the model of its task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows, of any tasks in any order; the states of these tasks are read.
        groups : array-like of shape (n_rows,) or None, default=None
            Task of each row, where X has no column of that.
        return_std : bool, default=False
            Whether to return the predictive standard deviation too, of regressors that have it.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictions; labels of a `TaskwiseClassifier`.
        std : ndarray of the same shape
            Predictive standard deviation; only with ``return_std=True``.
        """
        options: dict[str, Any] = {}
        if not _classifies(self):
            options["return_std"] = return_std
        elif return_std:
            raise ValueError("return_std=True, but a classifier predicts no standard deviation.")
        return self._of_rows(X, groups).predict(X, groups, **options)

    @available_if(_classifies)
    def predict_proba(self, X: Any, groups: Any = None) -> np.ndarray:
        """Predict class probabilities, each row's by the model of its task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows, of any tasks in any order.
        groups : array-like of shape (n_rows,) or None, default=None
            Task of each row, where X has no column of that.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Probabilities, columns in the order of `classes_`.
        """
        return self._of_rows(X, groups, all_classes=True).predict_proba(X, groups)

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the classes that some task has, sorted; of a `TaskwiseClassifier`."""
        if not _classifies(self):
            raise AttributeError("A store of regressors has no classes_.")
        with self._database.reading() as connection:
            return labels_of(connection, None)[0]

    # ------------------------------------------------------------------ how
    def _empty(self, connection: Any) -> Any:
        """The estimator, knowing of rows what all tasks have in common, and no task."""
        if self._format is None:
            if (meta := told(connection, "meta")) is None:
                raise ValueError(
                    f"{self.path} holds no tasks yet: merge some, or call partial_fit."
                )
            made = clone(self.taskwise)
            made._know_as(meta, str(self.path))
            self._format = made
        return self._format

    def _known_ids(self, connection: Any, tasks: Any) -> np.ndarray:
        ids = np.asarray(tasks)
        ids = distinct(comparable(ids if ids.ndim else ids.reshape(1), "tasks"), "tasks")[0]
        known = there(connection, keys_of(ids))
        if not known.all():
            raise ValueError(f"There are no tasks {named(ids[~known])} in {self.path}.")
        return ids

    def _ids(self, connection: Any, X: Any, groups: Any) -> np.ndarray:
        """Ids, sorted, of the tasks that rows are of."""
        place, ids = self._empty(connection)._place_and_ids(X, groups)
        if ids is None:
            raise ValueError("groups is needed: it says the task of each row.")
        ids = distinct(ids)[0]
        check_asked(first_id(connection), ids, self.taskwise.task, X, place)
        return ids

    def _of_rows(self, X: Any, groups: Any, all_classes: bool = False) -> Any:
        """The estimator, knowing the tasks that rows are of."""
        with self._database.reading() as connection:
            ids = self._ids(connection, X, groups)
            # what answers for an unseen task knows all classes
            every = _classifies(self) and (all_classes or not there(connection, keys_of(ids)).all())
            return self._holding(connection, ids, every)

    def _holding(self, connection: Any, ids: np.ndarray, all_classes: bool = False) -> Any:
        """The estimator, knowing those of the tasks that are there."""
        made = copy(self._empty(connection))
        which, states = find(connection, ids)
        made.tasks_, made._states = ids[which], states
        if _classifies(self):
            some = None
            if not all_classes:
                own = [block[OWN_CLASSES].ravel() for block in states.blocks]
                some = np.unique(np.concatenate(own)) if own else np.zeros(0, int)
            made.classes_, codes = labels_of(connection, some)
            renumbered = np.full(codes.max(initial=-1) + 1, -1)
            renumbered[codes] = np.arange(len(codes))
            states.relabel(renumbered)
        return made


def _merged(connection: Any, seal: str) -> bool:
    query = "SELECT 1 FROM files WHERE checksum = ?"
    return connection.execute(query, (seal,)).fetchone() is not None


def _classes(fitted: Any) -> np.ndarray | None:
    return fitted.classes_ if fitted._kind == "classifier" else None
