"""How much memory is taken at once beside the data, for `fit` and `predict` alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sklearn import get_config

#: Bytes of a number in double precision.
BYTES = 8
#: Copies of the labels that adapting may hold: as given, weighted, and one more of each.
OF_LABELS = 4
#: Whether this thread draws a graph, which is to hold for any number of rows.
_UNDIVIDED = ContextVar("undivided", default=False)


def numbers_at_once() -> int:
    """Numbers that may be held at once: what scikit-learn's ``working_memory`` has room for.

    Returns
    -------
    int
        2**27, 1 GiB, unless ``sklearn.set_config`` or ``sklearn.config_context`` say otherwise.
    """
    return int(get_config()["working_memory"] * 2**20 / BYTES)


def rows_for(numbers_a_row: int) -> int:
    """How many rows to take at once, at least one, where each needs so many numbers."""
    return max(1, numbers_at_once() // max(1, numbers_a_row))


@contextmanager
def undivided() -> Iterator[None]:
    """Take all rows at once, whatever memory that takes, in this thread.

    A graph of what is computed has no loops: whether there are few enough rows must not be asked
    while it is drawn, or it would hold for so many alone.
    """
    before = _UNDIVIDED.set(True)
    try:
        yield
    finally:
        _UNDIVIDED.reset(before)


def is_undivided() -> bool:
    """Whether `undivided` is on."""
    return _UNDIVIDED.get()


def at_once(n_rows: int, most: int) -> bool:
    """Whether so many rows are taken at once, where memory has room for `most` of them."""
    return _UNDIVIDED.get() or n_rows <= most
