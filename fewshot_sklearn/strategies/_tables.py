"""Several past tables in one call: what they may be, and which of them is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.utils.multiclass import type_of_target

from ..tasks import comparable, n_rows, number_targets

Table = tuple[Any, Any, Any]


def named_tables(tables: Any) -> list[Table]:
    """(X, y, groups) of each table; groups are None where it has none."""
    wanted = "tables must be a list of (X, y) or (X, y, groups), at least one"
    if not isinstance(tables, list | tuple):
        raise ValueError(f"{wanted}, got {type(tables).__name__}.")
    if not tables:
        raise ValueError(f"{wanted}, got an empty {type(tables).__name__}.")
    found = []
    for i, table in enumerate(tables):
        if not isinstance(table, tuple) or len(table) not in (2, 3):
            size = f" of {len(table)}" if isinstance(table, tuple) else ""
            raise ValueError(f"{wanted}, but tables[{i}] is a {type(table).__name__}{size}.")
        found.append((*table, None) if len(table) == 2 else table)
    return found


@contextmanager
def of_table(number: int) -> Iterator[None]:
    """Say of which table an error tells."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"tables[{number}]: {error}") from error


def labels_of_table(X: Any, y: Any, groups: Any, kind: str) -> tuple[np.ndarray, Any]:
    """Labels or targets of one table, and its groups: of a regression one, where there are none."""
    if kind == "regressor":
        try:
            y = number_targets(y)
        except ValueError as error:
            raise ValueError(f"the strategies are regressors, and {error}") from error
        return y, np.zeros(n_rows(X), dtype=int) if groups is None else groups
    y = comparable(y, "y")
    if y.dtype.kind == "f" and type_of_target(y).startswith("continuous"):
        raise ValueError(
            "the strategies are classifiers, but y holds numbers that are no whole ones, as of a "
            "regression: learn from tables of both kinds by two selectors."
        )
    return y, groups
