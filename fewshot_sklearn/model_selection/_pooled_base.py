"""What estimators share that pool the rows of a new task with those of past ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..estimators import check_range
from ..tasks import (
    Anything,
    Flag,
    Seed,
    TargetMove,
    Whole,
    as_they_are,
    check_columns_near,
    check_parameters,
    column_names,
    columns_named,
    comparable,
    distinct,
    number_targets,
    refuse_no_numbers,
    refuse_sparse,
    target_move,
    tell_far_targets,
    warn_of_words,
)
from .past_rows import PastRows


def in_columns(y: np.ndarray) -> np.ndarray:
    """Targets (n_rows, n_outputs) of however many rows."""
    return y[:, None] if y.ndim == 1 else y


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column; one, where it is constant."""
    values = values.astype(np.float64, copy=False)
    mean, scale = values.mean(0), values.std(0)
    return mean, np.where(scale <= 10 * np.finfo(np.float64).eps * np.abs(mean), 1.0, scale)


class Pooled(BaseEstimator):
    """The rows that a new task's are pooled with."""

    _constraints = {
        "past": Anything(),
        "with_task": Flag(),
        "max_rows": Whole(1) | None,
        "random_state": Seed(),
    }

    estimator: Any
    past: Any
    with_task: bool
    max_rows: int | None
    random_state: Any
    #: How the targets of the task were brought near those of past ones.
    _move: TargetMove | None = None

    def fit_prior(self) -> Any:
        """Predict a task of which no row is known: as the past rows alone say.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When there is no past.
        """
        check_parameters(self)
        past = self._past_rows()
        if past is None:
            raise ValueError(
                f"{type(self).__name__} knows nothing of a task without rows: it has no past. Pass "
                "past=(X, y, groups)."
            )
        self.n_features_in_ = past.X.shape[1]
        self.__dict__.pop("feature_names_in_", None)
        if past.names is not None:
            self.feature_names_in_ = np.array(past.names, dtype=object)
        return self._learn(past.X[:0], past.y[:0])

    def _learn(self, X: np.ndarray, y: np.ndarray) -> Any:
        """Learn from rows of a new task, which may be none, and the past."""
        raise NotImplementedError

    def _past_rows(self, n_features: int | None = None) -> PastRows | None:
        past = self.past
        if past is None:
            return None
        if not isinstance(past, PastRows):
            if not isinstance(past, tuple | list) or len(past) not in (2, 3):
                raise ValueError(
                    f"past must be (X, y), (X, y, groups) or PastRows, got {type(past).__name__}."
                )
            past = PastRows(*past)
        if n_features is not None and past.X.shape[1] != n_features:
            raise ValueError(
                f"X has {n_features} features, but the rows of past have {past.X.shape[1]}."
            )
        return past

    def _check_columns(self, past: PastRows | None, X: np.ndarray) -> None:
        """Warn of columns that lie far from past ones; refuse those that do by far."""
        if past is not None and len(X):
            mean, scale = past._once("where X lies", lambda: _moments(past.X))
            check_columns_near(X, mean, scale, getattr(self, "feature_names_in_", None))

    def _near(self, past: PastRows | None, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Targets of a task, brought near those of past ones where they lie far from them.

        Raises
        ------
        ValueError
            When a column of X lies where no past one was, by far.
        """
        self._move = None
        self._check_columns(past, X)
        if past is None or not len(X):
            return y
        known = past._once("where y lies", lambda: _moments(in_columns(past.y)))
        if known[0].shape != in_columns(y).shape[1:]:
            return y  # which is refused where it is used
        self._move = target_move(in_columns(y), np.ones(len(y)), *known)
        if self._move is None:
            return y
        tell_far_targets(4)
        return self._move.near(in_columns(y)).reshape(y.shape)

    def _put_back(self, told: np.ndarray) -> np.ndarray:
        """Predictions (n_rows,) or (n_rows, n_outputs) as the targets of the task are."""
        if self._move is None:
            return told
        return (in_columns(told) * self._move.spread + self._move.level).reshape(told.shape)

    @staticmethod
    def _targets_of(past: PastRows, targets: np.ndarray) -> np.ndarray:
        """Targets (n_rows, n_outputs) of the past rows, as many outputs as new ones have."""
        known = in_columns(number_targets(past.y, "y of past")).astype(np.float64)
        if known.shape[1] != targets.shape[1]:
            raise ValueError(
                f"y has {targets.shape[1]} output(s), but that of past has {known.shape[1]}."
            )
        return known

    @staticmethod
    def _check_kind(past: PastRows | None, y: np.ndarray) -> None:
        if past is not None and (past.y.dtype.kind in "OUS") != (y.dtype.kind in "OUS"):
            raise ValueError(
                f"The labels of past are {past.y.dtype}, but those of y are {y.dtype}: they must "
                "be of one kind."
            )

    def _sampled(self, past: PastRows) -> np.ndarray:
        """Numbers of at most `max_rows` past rows, the same at every fit."""
        if self.max_rows is None or len(past.X) <= self.max_rows:
            return np.arange(len(past.X))
        seed = check_random_state(self.random_state).randint(2**31)
        chosen = np.random.default_rng(seed).choice(len(past.X), self.max_rows, replace=False)
        return np.sort(chosen)

    def _columns(self, past: PastRows | None, X: np.ndarray, task: Any = None) -> np.ndarray:
        """Features and, if asked for, one column a task; the last is the new task's."""
        if past is None or not self.with_task:
            return X
        one_hot = np.zeros((len(X), past.n_tasks + 1))
        one_hot[np.arange(len(X)), past.n_tasks if task is None else task] = 1
        return np.hstack([X, one_hot])

    def _pooled(self, past: PastRows | None, X: np.ndarray, y: np.ndarray) -> Any:
        """Columns and targets of the past rows and the new ones."""
        if past is None:
            return X, y
        chosen = self._sampled(past)
        columns = self._columns(past, past.X[chosen], past.task[chosen])
        return np.vstack([columns, self._columns(past, X)]), np.concatenate([past.y[chosen], y])

    def _given(self, X: Any, y: Any, classify: bool) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a new task that can be computed with, and their labels or finite targets."""
        check_parameters(self)
        of_y = {} if classify else {"multi_output": True, "y_numeric": True}
        labels = self._checked_columns(X)
        if y is not None:
            y = as_they_are(y)
            if not classify and y.ndim:
                refuse_no_numbers(y)
            if classify and y.ndim == 1 and y.dtype.kind == "O":
                distinct(comparable(y, "y"), "y")  # which says that they must be of one kind
        with columns_named(X):
            checked, y = validate_data(self, X, y, dtype=np.float64, **of_y)
        warn_of_words(X)
        X = checked
        check_range(X, torch.float64, "X", labels)
        if classify:
            check_classification_targets(y)
        return X, y if classify else number_targets(y)

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        labels = self._checked_columns(X)
        with columns_named(X):
            checked = validate_data(self, X, dtype=np.float64, reset=False)
        warn_of_words(X)
        check_range(checked, torch.float64, "X", labels)
        return checked

    def _checked_columns(self, X: Any) -> list[str] | None:
        """Names of the columns, which are one each and not sparse."""
        refuse_sparse(X, self)
        return column_names(X)
