"""What an estimator keeps of the rows of its `fit`, to explain its predictions by: arrays alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tasks import TableFormat

#: The rows of a `fit`, their labels or targets, and the names of the rows and of the classes.
KeptSupport = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]


def row_labels(X: Any) -> np.ndarray:
    """What rows are called: the index of a DataFrame, else their numbers."""
    index = _index(X)
    return np.arange(len(X)) if index is None else index


def _index(X: Any) -> np.ndarray | None:
    index = getattr(X, "index", None)  # a method, of a list
    return None if index is None or callable(index) else np.asarray(index)


def kept_support(
    given: Any,
    X: np.ndarray,
    y: np.ndarray,
    classes: Any = None,
    table: TableFormat | None = None,
) -> KeptSupport:
    """What to keep of the rows of a `fit` for `explain`: arrays, whatever they came in.

    Parameters
    ----------
    given : array-like or DataFrame
        The rows as they came, whose names are kept if they are no mere numbers.
    X : ndarray of shape (n_rows, ...)
        The same rows as an array.
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Labels, class probabilities or targets.
    classes : array-like or None, default=None
        Classes that the probabilities are of.
    table : TableFormat or None, default=None
        What made numbers of the rows, which are then kept as they were.

    Returns
    -------
    tuple
        Rows, their y, their names or None, and the classes or None.
    """
    names = _index(given)
    X = X if table is None else np.asarray(given, dtype=object)
    named = names is not None and X.ndim == 2 and not np.array_equal(names, np.arange(len(X)))
    return X, y, names if named else None, None if classes is None else np.asarray(classes)


def given_support(estimator: Any) -> tuple[Any, Any]:
    """The rows and targets of an estimator's `fit`, named as they were; None where there are none.

    Parameters
    ----------
    estimator : fitted estimator
        One of this package.

    Returns
    -------
    X, y : ndarray or DataFrame, or None
        What `explain` takes.
    """
    kept: KeptSupport | None = getattr(estimator, "_support", None)
    if kept is None:
        return None, None
    import pandas as pd  # type: ignore[import-untyped]

    X, y, names, classes = kept
    columns = getattr(estimator, "feature_names_in_", None)
    rows = X if names is None and columns is None else pd.DataFrame(X, names, columns)
    return rows, y if classes is None else pd.DataFrame(y, columns=classes)
