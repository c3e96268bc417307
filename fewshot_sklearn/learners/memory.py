"""How much memory is taken at once beside the data, for `fit` and `predict` alike."""

from __future__ import annotations

from sklearn import get_config

#: Bytes of a number in double precision.
BYTES = 8
#: Copies of the labels that adapting may hold: as given, weighted, and one more of each.
OF_LABELS = 4


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
