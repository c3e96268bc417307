"""What past tasks looked like: small, by name, and without their rows.

J. Vanschoren. Meta-learning: a survey. arXiv 1810.03548, 2018 (section 2.3 on
warm starts from similar tasks, section 3 on describing tasks).

A. Achille et al. Task2Vec: task embedding for meta-learning. ICCV 2019 (a task as
a point in a space of tasks).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import check_array, check_consistent_length

from ..estimators import (
    FeatureMetric,
    FewShotEstimator,
    as_numbers,
    encoder_features,
    feature_metric,
    final_step,
    solvable,
)
from ..tasks import (
    Flag,
    Whole,
    check_arguments,
    check_parameters,
    check_rows,
    comparable,
    number_targets,
)
from ._adapted_models import about_targets, predicted
from ._final_step import final_and_rows
from ._memory_file import plain_ids, read_memory, write_memory

_ARGUMENTS = {"keep_rows": Flag(), "n_neighbors": Whole(1)}


@dataclass(frozen=True, eq=False, repr=False)
class TaskMemory:
    """What past tasks looked like to a meta-trained estimator, by name.

    For each past class (or group) it holds the mean of its rows' features and
    which row was the most typical one; not the rows themselves, unless asked.
    So it is small, and says for a new row or class which past ones it
    resembles.

    Two tasks of a *regression* mostly have the same inputs and differ in the
    function, which no mean of features shows. For these the memory also keeps
    what the estimator learned of each past task (its adapted state, such as the
    coefficients of a ridge head), and a past task is similar to a new one if
    its adapted model explains the new rows: `nearest_tasks` orders them by that
    error. It is not symmetric, and needs no more than the few labelled rows
    that there are. A state is kept only where its size does not depend on the
    number of rows, as with `RidgeHeadRegressor` and `MAMLRegressor`; methods
    that remember rows (deep kernels, neural processes, in-context learning)
    have none to keep.

    Do not call the constructor: memories come from `from_data` or `load`.

    Parameters
    ----------
    kind : {"classes", "groups"}
        What a past task is here: a class, or a group of rows.
    ids : ndarray of shape (n_tasks,)
        Names of the tasks.
    means : ndarray of shape (n_tasks, n_features_out)
        Mean features of each task's rows; of length one before averaging, for
        a method that compares directions.
    counts : ndarray of shape (n_tasks,)
        Number of rows of each.
    medoids : ndarray of shape (n_tasks,)
        Number, in the X of `from_data`, of the row nearest to the mean: the one
        with the least sum of squared distances to the others.
    metric : FeatureMetric
        How the estimator compares features.
    digest : str
        Digest of the meta-init that the features are of.
    groups : ndarray of shape (n_tasks,) or None, default=None
        Group of each class, where told.
    y_mean, y_scale : ndarray of shape (n_tasks, n_outputs) or None, default=None
        Mean and standard deviation of each task's targets, in units of y;
        regression.
    rows : ndarray of shape (n_tasks, \\*input_shape) or None, default=None
        The most typical rows; only with ``keep_rows=True``.
    states : mapping of str to ndarray of shape (n_tasks, ...)
        What was learned of each task; empty for classification.

    See Also
    --------
    explain : Says which support rows and past tasks a prediction resembles.
    TaskSimilarityDisplay : Draws how alike past tasks are.

    Notes
    -----
    A mean over few rows tells much of each: keep a memory as close as you keep
    the data, where tasks have few rows.

    References
    ----------
    .. [1] J. Vanschoren, "Meta-learning: a survey", arXiv 1810.03548, 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fewshot_sklearn import ProtoNetClassifier, TaskMemory
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = ProtoNetClassifier().fit(X, y)
    >>> memory = TaskMemory.from_data(clf, X, y)
    >>> memory
    TaskMemory(3 classes, 4 features, ...)
    >>> ids, distances = memory.nearest(clf.embed([[5.0, 3.4, 1.5, 0.2]]), n_neighbors=2)
    >>> ids, distances.round(2)
    (array([[0, 1]]), array([[0.07, 3.19]]))
    """

    kind: str
    ids: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    medoids: np.ndarray
    metric: FeatureMetric
    digest: str
    groups: np.ndarray | None = None
    y_mean: np.ndarray | None = None
    y_scale: np.ndarray | None = None
    rows: np.ndarray | None = None
    states: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                object.__setattr__(self, name, _read_only(value))
        states = {name: _read_only(array) for name, array in self.states.items()}
        object.__setattr__(self, "states", MappingProxyType(states))

    # ------------------------------------------------------------------ from data
    @classmethod
    def from_data(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        groups: Any = None,
        *,
        kind: str | None = None,
        keep_rows: bool = False,
    ) -> TaskMemory:
        """Look at past tasks with a meta-trained estimator.

        Parameters
        ----------
        estimator : estimator
            One of this package; with a meta-init, it need not be fitted. Or a pipeline
            of frozen steps that ends in one, as ``MetaTrainer(pipeline)`` leaves it.
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows of past tasks.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Labels or targets.
        groups : array-like of shape (n_rows,) or None, default=None
            Task or group of each row.
        kind : {"classes", "groups"} or None, default=None
            What to remember: each class, or each group. None: classes for a
            classifier, groups for a regressor.
        keep_rows : bool, default=False
            Whether to keep the most typical row of each task, for pictures: as given
            where that is numbers, else as the last step of a pipeline gets it.

        Returns
        -------
        TaskMemory
            The memory.

        Raises
        ------
        ValueError
            When groups are needed and missing, or a class occurs in several
            groups: then it names no single thing.
        """
        check_rows(X)
        given, (estimator, X) = X, final_and_rows(estimator, X)
        if not isinstance(estimator, FewShotEstimator):
            raise ValueError(
                "estimator must be one of this package, or a pipeline that ends in one, got "
                f"{type(estimator).__name__}."
            )
        check_parameters(estimator)
        check_arguments(_ARGUMENTS, keep_rows=keep_rows)
        classification = is_classifier(estimator)
        if kind is None:
            kind = "classes" if classification else "groups"
        allowed = ("classes", "groups") if classification else ("groups",)
        if kind not in allowed:
            raise ValueError(f"kind must be one of {list(allowed)} or None, got {kind!r}.")
        if kind == "groups" and groups is None:
            raise ValueError("groups is needed to remember groups: the task of each row.")
        init, (learner, rows) = estimator._init_in_use(), estimator._learner_and_rows(X)
        check_consistent_length(rows, y, groups)
        labels = comparable(y, "y") if classification else None
        tasks = comparable(groups) if groups is not None else None
        names = plain_ids(labels if kind == "classes" else tasks)
        ids, codes = np.unique(names, return_inverse=True)
        metric = feature_metric(learner)
        Z = metric.prepared(encoder_features(learner, rows).reshape(len(rows), -1))
        counts = np.bincount(codes)
        means = np.zeros((len(ids), Z.shape[1]))
        np.add.at(means, codes, Z)
        means /= counts[:, None]
        far = np.square(Z - means[codes]).sum(1)
        order = np.lexsort((far, codes))
        medoids = order[np.searchsorted(codes[order], np.arange(len(ids)))]
        more: dict[str, Any] = {}
        if kind == "classes" and tasks is not None:
            more["groups"] = _groups_of_classes(ids, codes, plain_ids(tasks))
        if not classification:
            y = number_targets(y).astype(np.float64)
            of_task = [np.flatnonzero(codes == code) for code in range(len(ids))]
            with solvable(init, "TaskMemory.from_data"):
                more |= about_targets(learner, rows, y.reshape(len(y), -1), of_task)
        if keep_rows:
            seen = as_numbers(init.table, X)
            more["rows"] = (seen if given is X else _kept(given, seen))[medoids]
        return cls(
            kind, ids, means.astype(np.float32), counts, medoids, metric, init.digest, **more
        )

    def check_made_with(self, estimator: Any) -> None:
        """Check that features of this estimator can be compared with those remembered.

        Parameters
        ----------
        estimator : estimator
            One of this package, or a pipeline that ends in one.

        Raises
        ------
        ValueError
            When its meta-init is another.
        """
        if final_step(estimator)._init_in_use().digest != self.digest:
            raise ValueError(
                f"{self!r} was made with another meta-init than that of {estimator!r}: their "
                "features cannot be compared. Make the memory anew with TaskMemory.from_data."
            )

    # ------------------------------------------------------------------ what is similar
    def nearest(self, features: Any, n_neighbors: int = 3) -> tuple[np.ndarray, np.ndarray]:
        """Past tasks whose mean features are nearest.

        Parameters
        ----------
        features : array-like of shape (n, n_features_out)
            Features of rows, as ``estimator.embed`` gives them, or means of such.
        n_neighbors : int, default=3
            How many to return; all, where there are fewer.

        Returns
        -------
        ids : ndarray of shape (n, n_neighbors)
            Names of the past tasks, nearest first.
        distances : ndarray of shape (n, n_neighbors)
            Euclidean distances, or one minus the cosines, as the method compares.
        """
        check_arguments(_ARGUMENTS, n_neighbors=n_neighbors)
        Z = check_array(features, dtype=np.float64)
        if Z.shape[1] != self.means.shape[1]:
            raise ValueError(
                f"features must have {self.means.shape[1]} columns, as estimator.embed gives "
                f"them, got {Z.shape[1]}."
            )
        distances = self.metric.distances(self.metric.prepared(Z), self.means)
        order = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
        return self.ids[order], np.take_along_axis(distances, order, 1)

    def predictions(self, estimator: Any, X: Any) -> np.ndarray:
        """What each past task's adapted model predicts for the same rows; regression.

        Parameters
        ----------
        estimator : estimator
            A regressor with the same meta-init, or a pipeline of frozen steps that ends
            in one; it need not be fitted.
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_tasks, n_rows, n_outputs)
            Predictions in units of y.

        Raises
        ------
        ValueError
            When no states are remembered, or the meta-init is another.
        """
        if not self.states:
            raise ValueError(
                f"{self!r} remembers no adapted models: it is of classes, or of a method that "
                "remembers rows in place of a state of fixed size."
            )
        self.check_made_with(estimator)
        final, X = final_and_rows(estimator, X)
        learner, rows = final._learner_and_rows(X)
        return predicted(learner, self.states, rows)

    def nearest_tasks(
        self, estimator: Any, X: Any, y: Any, n_neighbors: int = 3
    ) -> tuple[np.ndarray, np.ndarray]:
        """Past tasks whose adapted models explain the rows of a new task best; regression.

        Parameters
        ----------
        estimator : estimator
            A regressor with the same meta-init, or a pipeline of frozen steps that ends
            in one; it need not be fitted.
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows of the new task.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their targets.
        n_neighbors : int, default=3
            How many to return; all, where there are fewer.

        Returns
        -------
        ids : ndarray of shape (n_neighbors,)
            Names of the past tasks, best first.
        errors : ndarray of shape (n_neighbors,)
            Root mean squared error of their predictions on the rows, in units of
            the standard deviation of all past targets.
        """
        check_arguments(_ARGUMENTS, n_neighbors=n_neighbors)
        predictions = self.predictions(estimator, X)
        targets = number_targets(y).astype(np.float64)
        check_consistent_length(predictions[0], targets)
        targets = targets.reshape(len(targets), -1)
        if targets.shape[1] != predictions.shape[-1]:
            raise ValueError(
                f"y has {targets.shape[1]} output(s), but the past tasks had "
                f"{predictions.shape[-1]}."
            )
        scale = final_step(estimator)._init_in_use().tensors["y_scale"]
        errors = np.sqrt(np.square((predictions - targets) / scale).mean((1, 2)))
        order = np.argsort(errors, kind="stable")[:n_neighbors]
        return self.ids[order], errors[order]

    # ------------------------------------------------------------------ one file
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the memory to one safetensors file, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file. It is replaced if it exists.
        """
        write_memory(path, vars(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TaskMemory:
        """Read a memory that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        TaskMemory
            The memory.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file holds something else.
        """
        return cls(**read_memory(path))

    def __len__(self) -> int:
        return len(self.ids)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = dict(vars(self)) | {"states": dict(self.states)}  # a mapping proxy has no pickle
        return _rebuilt, (fields,)

    def __repr__(self) -> str:
        what = f"{len(self)} {self.kind}, {self.means.shape[1]} features"
        return f"TaskMemory({what}, meta-init {self.digest[:8]})"


def _rebuilt(fields: dict[str, Any]) -> TaskMemory:
    return TaskMemory(**fields)


def _read_only(array: np.ndarray) -> np.ndarray:
    array = np.array(array)
    array.flags.writeable = False
    return array


def _kept(given: Any, seen: np.ndarray) -> np.ndarray:
    """Of a pipeline, rows to keep: those given if they are numbers, else as its last step sees."""
    rows = np.asarray(given)
    return rows if rows.dtype.kind in "biuf" and np.isfinite(rows).all() else seen


def _groups_of_classes(ids: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    names, group_codes = np.unique(groups, return_inverse=True)
    pairs = np.unique(np.stack([codes, group_codes], 1), axis=0)
    if len(pairs) > len(ids):
        twice = pairs[1:][np.diff(pairs[:, 0]) == 0][0, 0]
        where = names[pairs[pairs[:, 0] == twice, 1]].tolist()
        raise ValueError(
            f"Class {ids[twice].item()!r} occurs in the groups {where[:2]}: it may not be the same "
            "in both. Use kind='groups', leave groups out, or give the classes names of their own."
        )
    return names[pairs[:, 1]]
