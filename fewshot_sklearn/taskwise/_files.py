"""What was learned of all tasks, as one safetensors file with ids and labels in its header."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..estimators import adapts_in_batches
from ..tasks import TableFormat, identity_of, labels_from_json, labels_to_json
from ._states import TaskStates


class SavesTasks:
    """Saving and loading, for `Taskwise`."""

    _kind: str
    _stacked: bool
    _template: Any
    _one_task: bool
    n_features_in_: int
    _checked_inner: Callable[[], Any]
    _task_place: int | None
    _updatable: bool
    _begin: Callable[[Any, bool, int | None, bool], None]

    def save_tasks(self, path: str | os.PathLike[str]) -> None:
        """Write what was learned of all tasks to one safetensors file, whole or not at all.

        The meta-init is not in it: save that once, with ``MetaInit.save``.

        Parameters
        ----------
        path : path-like
            The file, customarily ``*.safetensors``. It is replaced if it exists.

        Raises
        ------
        ValueError
            When the estimator is not a meta-trained one of this package, or
            ids or labels are neither numbers, strings nor numpy times.
        """
        meta = self._told() | {"tasks": labels_to_json(self.tasks_)}
        if self._kind == "classifier":
            meta["classes"] = labels_to_json(self.classes_)
        self._states.save(path, meta)

    def _refuse_what_cannot_be_saved(self) -> None:
        """Refuse, before it is fitted, an estimator whose tasks have no states."""
        if not adapts_in_batches(inner := self._checked_inner()[1]):
            raise _cannot_be_saved(inner)

    def _told(self) -> dict[str, Any]:
        """All that a file says of the tasks but their ids, labels and states."""
        check_is_fitted(self)
        if not self._stacked:
            raise _cannot_be_saved(self._template)
        meta = _identity(self, self._template) | {
            "one_task": self._one_task,
            "task_place": self._task_place,
            "updatable": self._updatable,
            "n_features_in": getattr(self, "n_features_in_", None),  # sentences have no columns
            "feature_names_in": _names(self),
            "inner_n_features_in": self._template.n_features_in_,
            "inner_feature_names_in": _names(self._template),
        }
        if (table := getattr(self._template, "table_format_", None)) is not None:
            meta["table"] = table.to_json()
        if self._kind == "regressor":
            meta["y_ndim"] = self._template._y_ndim
        return meta

    def load_tasks(self, path: str | os.PathLike[str]) -> Any:
        """Read what `save_tasks` wrote, in place of `fit`.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is damaged or of another kind, or what it holds was
            adapted by another estimator, or from another meta-init.
        """
        states, meta = TaskStates.load(path)
        self._know_as(meta, str(path))
        self._states, self.tasks_ = states, labels_from_json(meta["tasks"])
        if self._kind == "classifier":
            self.classes_ = labels_from_json(meta["classes"])
        return self

    def _know_as(self, meta: Mapping[str, Any], told: str) -> None:
        """Be as an estimator that `_told` this of its tasks, and know none of them."""
        before, inner = self._checked_inner()
        if not adapts_in_batches(inner):
            raise _cannot_be_saved(inner)
        for name, own in _identity(self, inner).items():
            if meta[name] != own:
                raise ValueError(
                    f"{told} holds tasks of {name}={meta[name]!r}, but this estimator has "
                    f"{own!r}. Load them into an estimator like the one that saved them."
                )
        if self._kind == "regressor":
            inner._y_ndim = meta["y_ndim"]
        if "table" in meta:
            inner.table_format_ = TableFormat.from_json(meta["table"])
        # files of versions that could not add rows do not say
        self._begin(inner, meta["one_task"], meta["task_place"], meta.get("updatable", False))
        self._before = before
        owners: list[tuple[Any, str]] = [(self, ""), (inner, "inner_")]
        for owner, prefix in owners:
            if (n_columns := meta[f"{prefix}n_features_in"]) is not None:
                owner.n_features_in_ = n_columns
            elif hasattr(owner, "n_features_in_"):
                del owner.n_features_in_
            if (names := meta[f"{prefix}feature_names_in"]) is not None:
                owner.feature_names_in_ = np.array(names, dtype=object)
            elif hasattr(owner, "feature_names_in_"):
                del owner.feature_names_in_


def _identity(taskwise: Any, inner: Any) -> dict[str, Any]:
    """What the states of a file and the estimator that loads them must agree on."""
    known = identity_of(inner)
    return {
        "estimator": type(inner).__name__,
        "meta_init": known["meta_init"],
        "hyperparameters": known["hyperparameters"],
        "dtype": str(inner._compute_dtype()),
        "task": taskwise.task,
    }


def _names(estimator: Any) -> list[str] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else list(names)


def _cannot_be_saved(inner: Any) -> ValueError:
    return ValueError(
        "Only what meta-trained estimators of this package learned can be saved so, not that of "
        f"{inner!r}. Save the whole object with skops or joblib."
    )
