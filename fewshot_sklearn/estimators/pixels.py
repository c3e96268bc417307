"""Pixels of another range than those of meta-training are refused: a network would not see them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..encoders import Series, is_of_images, takes_padding
from ..learners import Learner
from ..meta_init import MetaInit

#: By how many times the largest pixel may be larger than it was, and still be of the same range.
SPARE = 2.0
#: What standardised pixels, which are not whole, do not exceed.
STANDARDISED = 5.0


def range_of_pixels(learner: Learner, X: np.ndarray) -> dict[str, Any]:
    """What a meta-init is to say of the pixels of past images.

    Parameters
    ----------
    learner : Learner
        What is trained.
    X : ndarray of shape (n_rows, \\*input_shape)
        Past rows.

    Returns
    -------
    dict
        ``low``, ``high`` and ``steps``, whether all are whole; empty where rows are no images.
    """
    encoder = learner.encoder
    series = isinstance(encoder, Series) or takes_padding(encoder)
    images = is_of_images(encoder) or (X.ndim > 2 and not series)
    if not images or learner.integers or not X.size:
        return {}
    whole = X.dtype.kind in "iub" or bool((np.rint(X) == X).all())
    return {"low": float(X.min()), "high": float(X.max()), "steps": whole}


def check_pixels(init: MetaInit, X: np.ndarray, together: bool = False) -> None:
    """Refuse images whose pixels are certainly of another range than those of meta-training.

    Parameters
    ----------
    init : MetaInit
        Says what pixels were.
    X : ndarray of shape (n_rows, \\*input_shape)
        Rows. Each is judged by itself, so that it is answered alike whatever comes with it.
    together : bool, default=False
        Whether rows are all there is of a task: then a range that all have together tells, too.

    Raises
    ------
    ValueError
        When a row, or all together, are of another range.

    Warns
    -----
    UserWarning
        When they are likely to be.
    """
    seen = init.pixels
    if seen is None or not (kind := seen.kind) or not X.size or X.dtype.kind not in "fiub":
        return
    rows = X.reshape(len(X), -1)
    low, high = rows.min(1), rows.max(1)
    if kind == "0 to 255":
        wrong = np.zeros(len(rows), dtype=bool)
        faint = (high > 0) & ((high <= 1) | ((low < 0) & (high <= STANDARDISED)))
        if seen.steps and faint.any() and X.dtype.kind == "f":
            wrong[faint] = (rows[faint] != np.rint(rows[faint])).any(1)
        if together and 0 < high.max() <= 1:
            wrong[:] = True
        likely = bool(0 < high.max() <= 1)
    else:
        least = -1.0 if kind == "0 to 1" else -SPARE
        wrong = (high > SPARE) | (low < least)
        likely = kind == "-1 to 1" and together and bool(low.min() >= 0 and high.max() > 0.5)
    if not wrong.any() and not likely:
        return
    found = wrong if wrong.any() else slice(None)
    told = (
        f"X holds pixels from {low[found].min():.3g} to {high[found].max():.3g}, but {init.told} "
        f"was meta-trained on pixels from {kind}"
    )
    if wrong.any():
        raise ValueError(f"{told}: bring X to that range.")
    warnings.warn(f"{told}. If these are of another range, bring X to that one.", stacklevel=4)


def told_of_channels(shape: tuple[int, ...], trained: tuple[int, ...]) -> str:
    """What to say where images have the shape that they were trained on, but other axes first."""
    if len(shape) != 3 or len(trained) != 3 or shape == trained:
        return ""
    if shape == (trained[2], trained[0], trained[1]):
        return " Channels come first here, and came last there: pass X.transpose(0, 2, 3, 1)."
    if shape == (trained[1], trained[2], trained[0]):
        return " Channels come last here, and came first there: pass X.transpose(0, 3, 1, 2)."
    return ""
