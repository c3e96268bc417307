"""Tasks that lie far from past ones: targets brought near and back, columns told or refused.

What was learned of the past says where targets lie and how far they spread. A task in another unit,
or about another level, is no such task: its answers would be drawn to where the past was, however
plainly its labels say otherwise. Its targets count then from their own level, in their own unit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

#: Standard deviations of all past targets that a task's may lie from where they are expected.
FAR_TARGETS = 5.0
#: Rows from which on a task that lies far off may also be of a smaller unit, and the least it can
#: be, as a share of how far off it lies.
ROWS_OF_A_SPREAD, LEAST_SPREAD = 5, 1e-9
#: Standard deviations of a column's past values that a task's may lie from their mean; then it is
#: told, and beyond the second refused.
FAR_COLUMNS, TOO_FAR_COLUMNS = 10.0, 1e3
#: Rows that are looked at to say where a column lies.
ROWS_LOOKED_AT = 1000
#: What is said of a task whose targets are brought near.
TARGETS_TOLD = (
    "The targets of a task lie more than {far:g} standard deviations of past targets from where "
    "past tasks had them. Its answers count from the level of its own labels, in their own spread; "
    "past tasks say little of such a task, and less of how sure to be. If that is a matter of "
    "units, bring y to the unit of the past."
)


class TargetMove(NamedTuple):
    """Where the targets of tasks lie, and in what unit.

    Attributes
    ----------
    level, spread : ndarray of float64 of shape (..., 1, n_outputs)
        What is taken off, and what the rest is then divided by; zeros and ones of tasks
        that are as the past has them.
    """

    level: np.ndarray
    spread: np.ndarray

    def near(self, y: np.ndarray) -> np.ndarray:
        """Targets as past tasks have them."""
        return (y - self.level) / self.spread


def target_move(
    y: np.ndarray,
    w: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    expected: Callable[[], np.ndarray] | None = None,
) -> TargetMove | None:
    """How to bring the targets of tasks near those of past ones.

    Parameters
    ----------
    y : ndarray of shape (..., n_rows, n_outputs)
        Targets.
    w : ndarray of shape (..., n_rows)
        Weights.
    mean, scale : ndarray of shape (n_outputs,)
        Mean and standard deviation of all past targets.
    expected : callable or None, default=None
        Returns what is predicted of these rows without their labels, in the shape of y;
        None expects the mean. It is called only where targets are not near the mean.

    Returns
    -------
    TargetMove or None
        None where all tasks are near, which is the usual case.
    """
    targets = np.asarray(y, dtype=np.float64)
    share = np.asarray(w, dtype=np.float64)[..., None]
    share = share / np.maximum(share.sum(-2, keepdims=True), np.finfo(np.float64).tiny)
    told = np.broadcast_to(np.asarray(mean, dtype=np.float64), targets.shape)
    near = (_size(targets - told, share) <= FAR_TARGETS * scale).all(-1, keepdims=True)
    if near.all():
        return None
    if expected is not None:
        found = np.asarray(expected(), dtype=np.float64)
        told = np.where(np.isfinite(found), found, told)
    # a task that is near stays as it is, whatever others are put beside it
    rest = np.where(near, 0.0, targets - told)
    level = (share * rest).sum(-2, keepdims=True)
    level = np.where(np.abs(level) > FAR_TARGETS * scale, level, 0.0)
    spread = _size(rest - level, share) / scale
    spread = np.where(spread > FAR_TARGETS, spread, 1.0)
    if not level.any() and (spread == 1).all():
        return None
    # what is left of the expected is about the mean; that of a larger unit stays there, too
    level = level + np.where(spread == 1, 0.0, mean * (1 - spread))
    # of a smaller unit it can be told how small by several rows alone
    middle, expected_middle = ((share * a).sum(-2, keepdims=True) for a in (targets, told))
    size = _size(targets - middle, share) / scale
    several = (np.asarray(w) > 0).sum(-1)[..., None, None] >= ROWS_OF_A_SPREAD
    small = several & (level != 0) & (size * FAR_TARGETS < 1)
    size = np.maximum(size, LEAST_SPREAD * np.maximum(np.abs(level) / scale, 1.0))
    spread = np.where(small, size, spread)
    return TargetMove(np.where(small, middle - spread * expected_middle, level), spread)


def _size(rest: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.sqrt((share * rest * rest).sum(-2, keepdims=True))


def tell_far_targets(stacklevel: int = 2) -> None:
    """Warn that the targets of a task were brought near."""
    warnings.warn(TARGETS_TOLD.format(far=FAR_TARGETS), UserWarning, stacklevel=stacklevel)


def check_columns_near(
    X: np.ndarray, mean: np.ndarray, scale: np.ndarray, names: Sequence[Any] | None = None
) -> None:
    """Warn of columns whose values lie far from all past ones; refuse those beyond all reason.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_columns)
        Rows; of very many, some are looked at.
    mean, scale : ndarray of shape (n_columns,)
        Mean and standard deviation of the past values of each.
    names : sequence or None, default=None
        What the columns are called.

    Raises
    ------
    ValueError
        When the middle of a column lies a thousand standard deviations from its past mean.
    """
    rows = X[:: max(1, len(X) // ROWS_LOOKED_AT)]
    size = np.abs(rows - mean).min(0) / scale  # that of all rows: a few may be outliers
    if not (size > FAR_COLUMNS).any():
        return
    middle = np.median(rows, 0)
    far = np.abs(middle - mean) / scale * (size > FAR_COLUMNS)
    worst = int(np.argmax(far))
    column = f"column {worst}" if names is None else f"column {names[worst]!r}"
    told = (
        f"{column.capitalize() if names is None else 'C' + column[1:]} of X lies about "
        f"{middle[worst]:.4g}, {far[worst]:.3g} standard deviations from what past tasks had "
        f"there (mean {mean[worst]:.4g}, standard deviation {scale[worst]:.4g})"
    )
    if far[worst] > TOO_FAR_COLUMNS:
        raise ValueError(
            f"{told}: what was learned from them says nothing of such rows. Bring it to the unit "
            "and the origin of the past, or train without it."
        )
    warnings.warn(
        f"{told}: the past says little of such rows. Compare with a model of this task alone "
        "(compare_few_shot).",
        UserWarning,
        stacklevel=2,
    )
