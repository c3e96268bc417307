"""Rows of arrays, lists, sparse matrices and data frames."""

from __future__ import annotations

from typing import Any

import numpy as np


def n_rows(X: Any) -> int:
    """Number of rows, whatever holds them."""
    return int(X.shape[0]) if getattr(X, "shape", None) else len(np.asarray(X))


def indexable(X: Any) -> Any:
    """Rows of any kind, such that `taken` can pick some."""
    if hasattr(X, "tocsr"):
        return X.tocsr()
    return X if hasattr(X, "iloc") else np.asarray(X)


def taken(X: Any, numbers: np.ndarray) -> Any:
    """Some rows of what `indexable` returned, by number."""
    return X.iloc[numbers] if hasattr(X, "iloc") else X[numbers]
