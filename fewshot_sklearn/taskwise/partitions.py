"""Tasks fitted a part at a time, by as many workers as there are."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from sklearn.base import clone

from ..tasks import labels_to_json, n_rows
from ._base import Taskwise


def fit_partition(
    taskwise: Any,
    X: Any,
    y: Any,
    groups: Any = None,
    *,
    folder: str | os.PathLike[str],
    sample_weight: Any = None,
) -> str | None:
    """Fit the tasks of a part of all rows, and write them to a file.

    This is what a worker of Dask, Spark or joblib does with its part of a table: all rows of some
    tasks, which `TaskStore.merge` then puts into a store. A task must not be in two parts.

    Parameters
    ----------
    taskwise : TaskwiseClassifier or TaskwiseRegressor
        Around a meta-trained estimator of this package; it is cloned.
    X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
        Rows. Of a part without rows nothing is written.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Targets or class labels.
    groups : array-like of shape (n_rows,) or None, default=None
        Task of each row, where X has no column of that.
    folder : path-like
        Where to write, on a disk that whoever merges sees too. It is made if there is none.
    sample_weight : array-like of shape (n_rows,) or None, default=None
        Weights.

    Returns
    -------
    str or None
        The file. Its name follows from the ids of the tasks: a worker that does a part a second
        time, as those of Dask and Spark may, puts its file in the place of the first. None of
        no rows.

    Raises
    ------
    ValueError
        When the estimator is not a meta-trained one of this package, `folder` is a file, or
        ``fit`` raises one.

    See Also
    --------
    TaskStore : Holds the tasks of many files.

    Examples
    --------
    >>> import tempfile
    >>> from fewshot_sklearn import (
    ...     MetaTrainer, RidgeHeadRegressor, TaskwiseRegressor, fit_partition)
    >>> from fewshot_sklearn.datasets import make_sinusoid_tasks
    >>> past = make_sinusoid_tasks(10, n_shot=10, n_query=0, random_state=0)
    >>> trainer = MetaTrainer(
    ...     RidgeHeadRegressor(), n_shot=5, n_query=5, max_epochs=1, random_state=0, verbose=0)
    >>> reg = TaskwiseRegressor(trainer.fit(past.data, past.target, past.groups).estimator_)
    >>> file = fit_partition(
    ...     reg, past.data, past.target, past.groups, folder=tempfile.mkdtemp())
    >>> reg.load_tasks(file).n_tasks_
    10
    """
    if not isinstance(taskwise, Taskwise):
        raise ValueError(
            "taskwise must be a TaskwiseClassifier or a TaskwiseRegressor, got "
            f"{type(taskwise).__name__}."
        )
    if Path(folder).is_file():
        raise ValueError(f"folder must be a folder, and {folder} is a file.")
    if not n_rows(X):
        return None
    fitted = clone(taskwise)
    fitted._refuse_what_cannot_be_saved()
    fitted.fit(X, y, groups, sample_weight)
    told = json.dumps(labels_to_json(fitted.tasks_), sort_keys=True)
    name = hashlib.sha256(told.encode()).hexdigest()[:24]
    os.makedirs(folder, exist_ok=True)
    path = Path(folder) / f"{name}.safetensors"
    fitted.save_tasks(path)
    return str(path)
