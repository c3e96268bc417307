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
    X = X if table is None else table.cells(given)
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
    _, y, _, classes = kept
    if classes is None:
        return support_rows(estimator, kept), y
    import pandas as pd  # type: ignore[import-untyped]

    return support_rows(estimator, kept), pd.DataFrame(y, columns=classes)


def support_rows(estimator: Any, kept: KeptSupport) -> Any:
    """Kept rows, named as they were."""
    X, _, names, _ = kept
    columns = getattr(estimator, "feature_names_in_", None)
    if names is None and columns is None:
        return X
    import pandas as pd

    return pd.DataFrame(X, names, columns)


def some_support(kept: KeptSupport, stay: np.ndarray) -> KeptSupport:
    """What is kept of some of the rows, a boolean (n_rows,) says which."""
    X, y, names, classes = kept
    names = np.arange(len(X)) if names is None else names
    return X[stay], y[stay], _unless_plain(names[stay], X), classes


def joined_support(
    first: KeptSupport, second: KeptSupport, y: np.ndarray, classes: np.ndarray | None = None
) -> KeptSupport:
    """What is kept of two sets of rows; those that have no names go on being numbered.

    Parameters
    ----------
    first, second : tuple
        What is kept of either.
    y : ndarray of shape (n_rows, ...)
        Labels or targets of all.
    classes : ndarray or None, default=None
        Classes that the probabilities are of.

    Returns
    -------
    tuple
        What is kept of all.
    """
    (X, _, names, _), (X_more, _, more, _) = first, second
    n, m = len(X), len(X_more)
    if names is not None or more is not None:
        names = np.arange(n) if names is None else names
        names = np.concatenate([named(names), named(np.arange(n, n + m) if more is None else more)])
        names = _unless_plain(names, X)
    return np.concatenate([X, X_more]), y, names, classes


def named(names: np.ndarray) -> np.ndarray:
    """Names that numpy does not write out as strings beside others."""
    return names if names.dtype.kind in "iu" else names.astype(object)


def joined_labels(first: np.ndarray, second: np.ndarray, what: str) -> np.ndarray:
    """Labels one after the other, as an array of both would hold them.

    Raises
    ------
    ValueError
        When they are of different kinds, which numpy would write out as strings.
    """
    kinds = {_KINDS.get(labels.dtype.kind, labels.dtype.kind) for labels in (first, second)}
    if "object" in kinds:
        return np.concatenate([first.astype(object), second.astype(object)])
    if len(kinds) > 1:
        raise ValueError(
            f"{what} must be of one kind, but there were {first.dtype} before and now are "
            f"{second.dtype}."
        )
    return np.concatenate([first, second])


#: Kinds of labels that go together.
_KINDS = {**dict.fromkeys("iuf", "number"), **dict.fromkeys("US", "string"), "O": "object"}


def _unless_plain(names: np.ndarray, X: np.ndarray) -> np.ndarray | None:
    plain = X.ndim != 2 or np.array_equal(names, np.arange(len(names)))
    return None if plain else names
