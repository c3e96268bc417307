"""How near rows are to class means: squared distances that keep their digits far from zero."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..encoders import gives_unit_length

#: Features of the field's usual network, Conv4 at 28 x 28, whose distances are taken as they are.
USUAL_WIDTH = 64
#: Of cosines, which differ by too little for a softmax (Gidaris and Komodakis 2018).
SHARPENING = 10.0


def first_log_scale(encoder: nn.Module, n_features: int) -> float:
    """Of squared distances: many features add up to more than a softmax can learn from.

    Those of rows of length one are cosines, and too small.
    """
    if gives_unit_length(encoder):
        return math.log(SHARPENING)
    return math.log(min(1.0, USUAL_WIDTH / n_features))


def closeness(means: Tensor, Z: Tensor) -> Tensor:
    """-|z - m|^2 (..., n, n_way) without |z|^2, which no softmax over classes sees."""
    centre = means.mean(-2, keepdim=True)  # so that large offsets do not cancel
    Z, means = Z - centre, means - centre
    return 2 * Z @ means.mT - means.square().sum(-1)[..., None, :]
