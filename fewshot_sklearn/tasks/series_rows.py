"""Series of different lengths as rows of one array: NaN at the end says that no more times come."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_scalar

#: Times that a series must have.
LEAST_TIMES = 4


def pad_series(series: Sequence[Any], n_times: int | None = None) -> np.ndarray:
    """Make one array of series of different lengths, for ``encoder="conv1d"``.

    Shorter ones are followed by NaN, which means that no more times come. Several data sets
    whose series have different lengths and channels become one past in this way.

    Parameters
    ----------
    series : sequence of array-like of shape (n_times,) or (n_times, n_channels)
        The series. Where some have fewer channels than others, those that they lack are NaN
        throughout.
    n_times : int or None, default=None
        Times of a row; None takes those of the longest.

    Returns
    -------
    ndarray of shape (n_series, n_times) or (n_series, n_times, n_channels)
        Rows, in float64. Without the axis of channels where no series has it.

    Raises
    ------
    ValueError
        When a series is longer than `n_times`, empty, or no series, or when data frames have
        different columns.

    Examples
    --------
    >>> from fewshot_sklearn.tasks import pad_series
    >>> pad_series([[1, 2, 3, 4], [5, 6, 7, 8, 9]])
    array([[ 1.,  2.,  3.,  4., nan],
           [ 5.,  6.,  7.,  8.,  9.]])
    """
    if n_times is not None:
        check_scalar(n_times, "n_times", Integral, min_val=1)
    names = [list(one.columns) for one in series if hasattr(one, "columns")]
    if any(found != names[0] for found in names):
        raise ValueError(
            "The series are data frames whose columns differ. Choose the same columns of all, in "
            "one order: one[names]."
        )
    given = [np.asarray(one, dtype=np.float64) for one in series]
    if not given:
        raise ValueError("series is empty: there must be one or more.")
    for i, one in enumerate(given):
        if one.ndim not in (1, 2) or not one.size:
            raise ValueError(
                f"series[{i}] has shape {one.shape}, but a series has shape (n_times,) or "
                "(n_times, n_channels), and one time or more."
            )
    longest = max(len(one) for one in given)
    if n_times is not None and longest > n_times:
        i = int(np.argmax([len(one) for one in given]))
        raise ValueError(
            f"series[{i}] has {longest} times, more than n_times={n_times}. Leave n_times out, or "
            "give fewer times of it, such as every second or the last ones."
        )
    n_channels = max(one.shape[1] if one.ndim == 2 else 1 for one in given)
    out = np.full((len(given), n_times or longest, n_channels), np.nan)
    for row, one in zip(out, given, strict=True):
        one = one.reshape(len(one), -1)
        row[: one.shape[0], : one.shape[1]] = one
    return out if any(one.ndim == 2 for one in given) else out[..., 0]


def refuse_rounded_away(X: np.ndarray, dtype: Any) -> None:
    """Refuse series so far from zero that nothing of their course is left after rounding.

    Parameters
    ----------
    X : ndarray of shape (n, n_times) or (n, n_times, n_channels)
        Rows as they were given.
    dtype : torch.dtype
        What is computed in.

    Raises
    ------
    ValueError
        When the span of a channel, in float64, is less than four steps of float32.
    """
    if X.dtype != np.float64 or str(dtype) == "torch.float64" or X.ndim not in (2, 3):
        return
    X = X.reshape(*X.shape[:2], -1)
    most, least = np.fmax.reduce(X, 1), np.fmin.reduce(X, 1)
    step = np.maximum(np.abs(most), np.abs(least)) * np.finfo(np.float32).eps
    lost = (most > least) & (most - least < 4 * step)
    if lost.any():
        i, j = np.argwhere(lost)[0]
        raise ValueError(
            f"Row {i} of X runs from {least[i, j]:g} to {most[i, j]:g}, of which float32 leaves "
            'next to nothing. Subtract a level, such as X.min(), or set dtype="float64".'
        )


def check_padded(X: np.ndarray) -> None:
    """Refuse rows whose NaN do not say that no more times come, or that a channel is not there.

    Parameters
    ----------
    X : ndarray of shape (n, n_times) or (n, n_times, n_channels)
        Rows; those of other shapes are for the encoder to refuse.

    Raises
    ------
    ValueError
        When a row has a time that is missing between others, channels that end at different
        times, or fewer than four times.
    """
    if X.ndim not in (2, 3) or X.dtype.kind != "f" or not (gone := np.isnan(X)).any():
        return
    gone = gone.reshape(*X.shape[:2], -1)
    channels = ~gone.all(1)
    n_times = (~gone.all(2)).sum(1)
    few = n_times < LEAST_TIMES
    if few.any():
        i = int(few.argmax())
        what = "nothing but NaN" if not n_times[i] else f"{n_times[i]} times"
        raise ValueError(
            f"Row {i} of X holds {what}, but a series must have {LEAST_TIMES} times or more."
        )
    expected = (np.arange(X.shape[1]) < n_times[:, None])[..., None] & channels[:, None]
    wrong = (expected == gone).any((1, 2))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"Row {i} of X has NaN between other values, or channels that end at different times. "
            "NaN at the end says that no more times come, and a channel of NaN alone that it is "
            "not there. Fill other gaps first, such as by numpy.interp along time."
        )
