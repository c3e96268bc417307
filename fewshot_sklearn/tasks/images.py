"""Which rows are images, and how torch wants them."""

from __future__ import annotations

import math

import numpy as np
import torch

#: Channels that pictures have: grey, colours, colours and how opaque they are.
CHANNELS = (1, 3, 4)


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


def as_images(X: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Bring rows to the layout of torch's functions for images.

    Parameters
    ----------
    X : ndarray or Tensor of shape (n, H, W), (n, H, W, C) or (n, H * W * C)
        Images of any type, on any device.

    Returns
    -------
    Tensor of shape (n, C, H, W), float32
        The same; it may share their memory.

    Raises
    ------
    ValueError
        When their shape cannot be that of images, or has the channels first.
    """
    if X.ndim == 4 and X.shape[1] in CHANNELS and X.shape[3] > max(CHANNELS):
        raise ValueError(
            f"X of shape {tuple(X.shape)} has the channels first, and they have to be the last "
            "axis to be altered: pass X.transpose(0, 2, 3, 1)."
        )
    rows = X if isinstance(X, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(X))
    images = rows.to(torch.float32).reshape(len(X), *image_shape(tuple(X.shape[1:])))
    return images.permute(0, 3, 1, 2)
