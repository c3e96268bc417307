"""What alters rows that are ids of tokens or categories."""

from __future__ import annotations

from typing import Any

import numpy as np


class OfWholeNumbers:
    """What alters rows of whole numbers, such as ids of tokens: it must give such.

    Parameters
    ----------
    augment : callable or None
        ``augment(X, rng) -> X``.

    Raises
    ------
    ValueError
        When there is none, or what it gives are no integers.
    """

    def __init__(self, augment: Any):
        if augment is None:
            raise ValueError(
                "augment must be a function augment(X, rng) -> X where X holds ids of tokens or "
                "categories: pictures can be altered slightly, ids cannot."
            )
        self.augment = augment

    def __call__(self, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        altered = np.asarray(self.augment(X, rng))
        if altered.dtype.kind not in "iu":
            raise ValueError(
                f"augment={self.augment!r} gave {altered.dtype} for rows of whole numbers, such as "
                "ids of tokens. Alter ids so that they stay integers, or leave augment out."
            )
        return altered
