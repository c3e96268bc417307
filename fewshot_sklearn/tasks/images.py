"""Which rows are images."""

from __future__ import annotations

import math


def image_shape(input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of rows of this shape.

    Parameters
    ----------
    input_shape : tuple of int
        ``(H, W)``, ``(H, W, C)``, or the length of a flattened square image of
        one or three channels.

    Returns
    -------
    tuple of int
        ``(H, W, C)``.

    Raises
    ------
    ValueError
        When the shape cannot be an image.
    """
    if len(input_shape) == 3:
        return input_shape[0], input_shape[1], input_shape[2]
    if len(input_shape) == 2:
        return input_shape[0], input_shape[1], 1
    for channels in (1, 3):
        side = math.isqrt(input_shape[0] // channels)
        if len(input_shape) == 1 and side * side * channels == input_shape[0]:
            return side, side, channels
    raise ValueError(
        f"Rows of shape {input_shape} are not images. Pass X of shape (n, H, W) or "
        "(n, H, W, C), or say encoder__image_shape=(H, W, C) for flattened rows."
    )
