"""Cross-validation over tasks: splitters that keep whole classes or whole groups apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit
from sklearn.utils import check_consistent_length

from .constraints import (
    Flag,
    Number,
    OneOf,
    Seed,
    Whole,
    check_arguments,
    check_parameters,
    constraints_of,
)
from .ids import numbered

_BY = OneOf("classes", "groups") | None
#: Of a share of the tasks, or of a number of them.
_SIZE = Number(above=0, below=1) | Whole(1) | None


def _tasks_of_rows(by: str | None, X: Any, y: Any, groups: Any) -> np.ndarray:
    """The number of the task that each row belongs to."""
    check_consistent_length(X, y, groups)
    if by == "groups" and groups is None:
        raise ValueError("groups is needed with by='groups': it says which task each row is of.")
    if by == "classes" or groups is None:
        if y is None:
            raise ValueError("y is needed: it holds the class of each row. Or pass groups.")
        return numbered(y, "y")[1]
    return numbered(groups)[1]


class TaskKFold(GroupKFold):
    """K folds of whole tasks: no class, or no group, is both trained and tested on.

    With it, ``cross_validate`` of a `MetaTrainer` is meta-cross-validation: each
    fold meta-trains on some tasks and scores on episodes of the others.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    by : {"classes", "groups"} or None, default=None
        What a task is: a class of y, or a group. None: a group where groups are
        passed, else a class.
    shuffle : bool, default=False
        Whether to deal the tasks out at random, in equal numbers. Otherwise they
        are dealt out so that folds have about equally many rows.
    random_state : int, RandomState instance or None, default=None
        Seeds the shuffle.

    See Also
    --------
    TaskShuffleSplit : Random tasks for testing, as often as wanted.
    EpisodeSplit : Splits that are episodes, of a few rows each.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn import TaskKFold
    >>> y = np.repeat(list("abcdef"), 3)
    >>> for past, new in TaskKFold(3).split(y, y):
    ...     print(np.unique(y[new]))
    ['c' 'f']
    ['b' 'e']
    ['a' 'd']
    """

    __metadata_request__split = {"groups": True}

    _constraints = {
        "n_splits": Whole(2),
        "by": _BY,
        "shuffle": Flag(),
        "random_state": Seed(),
    }

    def __init__(
        self,
        n_splits: int = 5,
        *,
        by: str | None = None,
        shuffle: bool = False,
        random_state: Any = None,
    ):
        # as all of scikit-learn's splitters, which check in the constructor
        check_arguments(
            constraints_of(type(self)),
            n_splits=n_splits,
            shuffle=shuffle,
            random_state=random_state,
            by=by,
        )
        super().__init__(n_splits, shuffle=shuffle, random_state=random_state)
        self.by = by

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the row numbers of each fold.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.
        y : array-like of shape (n_rows,) or None, default=None
            Class labels; not looked at where tasks are groups.
        groups : array-like of shape (n_rows,) or None, default=None
            Group of each row.

        Yields
        ------
        past : ndarray
            Rows to train on.
        new : ndarray
            Rows to test on, of other tasks.

        Raises
        ------
        ValueError
            When there are fewer tasks than folds, or what says the tasks is missing.
        """
        check_parameters(self)
        yield from super().split(X, y, _tasks_of_rows(self.by, X, y, groups))


class TaskShuffleSplit(GroupShuffleSplit):
    """Random splits of whole tasks: no class, or no group, is both trained and tested on.

    Parameters
    ----------
    n_splits : int, default=5
        Number of splits.
    test_size : float, int or None, default=None
        Share or number of tasks to test on; None is a fifth.
    train_size : float, int or None, default=None
        Share or number of tasks to train on; None takes all others.
    by : {"classes", "groups"} or None, default=None
        What a task is: a class of y, or a group. None: a group where groups are
        passed, else a class.
    random_state : int, RandomState instance or None, default=None
        Seeds the splits.

    See Also
    --------
    TaskKFold : Every task is tested on once.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn import TaskShuffleSplit
    >>> y, customers = np.zeros(12), np.repeat([1, 2, 3, 4], 3)
    >>> past, new = next(TaskShuffleSplit(1, test_size=1, random_state=0).split(y, y, customers))
    >>> len(past), np.unique(customers[new])
    (9, array([3]))
    """

    __metadata_request__split = {"groups": True}

    _constraints = {
        "n_splits": Whole(1),
        "test_size": _SIZE,
        "train_size": _SIZE,
        "by": _BY,
        "random_state": Seed(),
    }

    def __init__(
        self,
        n_splits: int = 5,
        *,
        test_size: Any = None,
        train_size: Any = None,
        by: str | None = None,
        random_state: Any = None,
    ):
        check_arguments(
            constraints_of(type(self)),
            n_splits=n_splits,
            test_size=test_size,
            train_size=train_size,
            by=by,
            random_state=random_state,
        )
        super().__init__(
            n_splits, test_size=test_size, train_size=train_size, random_state=random_state
        )
        self.by = by

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate the row numbers of each split.

        Parameters
        ----------
        X, y, groups : see `TaskKFold.split`
            Rows, their classes and groups.

        Yields
        ------
        past, new : ndarray
            Rows to train on, and rows of other tasks to test on.
        """
        check_parameters(self)
        yield from super().split(X, y, _tasks_of_rows(self.by, X, y, groups))
