"""Squared distances of rows, and which rows are the nearest, whatever their order."""

from __future__ import annotations

import torch
from torch import Tensor

#: Rounding errors of a distance that are no difference.
SLACK = 64


def squared_distances(A: Tensor, B: Tensor) -> Tensor:
    """Squared Euclidean distances (..., n, m); centred, so that large offsets do not cancel."""
    centre = B.mean(-2, keepdim=True)
    A, B = A - centre, B - centre
    squares = A.square().sum(-1)[..., :, None] + B.square().sum(-1)[..., None, :]
    return (squares - 2 * A @ B.mT).clamp_min(0.0)


@torch.no_grad()
def nearest(distances: Tensor, mass: Tensor, k: int) -> Tensor:
    """Which rows (..., n, m) are the nearest: so many that together they weigh k, or all.

    Those as far as the last of them count, too. So the order of rows decides nothing, and a
    row of weight two is the same as two rows.

    Parameters
    ----------
    distances : Tensor of shape (..., n, m)
        Distances.
    mass : Tensor of shape (..., n, m)
        How much each of them weighs; zero for those that are no neighbours.
    k : int
        How many rows to find.
    """
    there = mass > 0
    far, order = distances.masked_fill(~there, torch.inf).sort(-1)
    enough = mass.gather(-1, order).cumsum(-1) >= k * (1 - SLACK * torch.finfo(mass.dtype).eps)
    last = far.masked_fill(~enough, torch.inf).amin(-1, keepdim=True)
    error = SLACK * torch.finfo(distances.dtype).eps
    widest = distances.masked_fill(~there, 0.0).amax(-1, keepdim=True)
    return there & (distances <= last * (1 + error) + error * widest)
