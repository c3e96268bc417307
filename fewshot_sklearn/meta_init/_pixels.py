"""Which numbers the pixels of images went from and to that a meta-init was trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

#: Networks that are for images alone.
OF_IMAGES = ("conv4", "resnet8", "resnet12")
#: From where on the largest pixel is of 255 levels, though it is dark.
DARKEST = 20.0


class Pixels(NamedTuple):
    """What the pixels of past images were.

    Attributes
    ----------
    low, high : float
        The least and the largest.
    steps : bool
        Whether all were whole numbers.
    """

    low: float
    high: float
    steps: bool

    @property
    def kind(self) -> str:
        """``"0 to 255"``, ``"0 to 1"``, ``"-1 to 1"``; empty where they were of no usual range."""
        if self.low >= 0:
            if DARKEST < self.high <= 255:
                return "0 to 255"
            return "0 to 1" if 0.5 < self.high <= 1 else ""
        return "-1 to 1" if self.low >= -1 and 0.5 < self.high <= 1 else ""


def of_images(spec: Mapping[str, Any]) -> bool:
    """Whether a meta-init that says nothing of pixels is of a network for images, and of a past."""
    return spec.get("past", True) and (spec.get("encoder") or {}).get("name") in OF_IMAGES


def pixels_seen(told: Mapping[str, Any], state: Mapping[str, Tensor]) -> Pixels | None:
    """What a meta-init says of the pixels of past images.

    Parameters
    ----------
    told : mapping
        What it says of rows. Where it says nothing of pixels, and it is `of_images`, the range
        follows from the scale: of pixels from zero on, of mean m and standard deviation s, the
        largest is at least (m^2 + s^2) / m.
    state : mapping of str to Tensor
        Its tensors.

    Returns
    -------
    Pixels or None
        None where nothing is known.
    """
    if "low" in told and "high" in told:
        return Pixels(float(told["low"]), float(told["high"]), bool(told.get("steps", False)))
    mean, scale = state.get("x_mean"), state.get("x_scale")
    if mean is None or scale is None or mean.numel() != 1:
        return None
    m, s = float(mean), float(scale)
    if m <= 0 or not math.isfinite(most := (m * m + s * s) / m) or not DARKEST < most <= 255:
        return None
    return Pixels(0.0, 255.0, True)
