"""Codes of classes that are equally distant, and which class has which."""

from __future__ import annotations

import torch
from torch import Tensor

from ..learners import OwnRandomNumbers, present_classes, reading_order


def simplex(place: Tensor, n_codes: int, dtype: torch.dtype) -> Tensor:
    """Vectors of length one at equal angles, as wide as there can be.

    Parameters
    ----------
    place : Tensor of int of shape (..., n_way)
        Which vector is wanted; beyond `n_codes` they begin anew.
    n_codes : int
        How many there are.
    dtype : torch.dtype
        Of the vectors.

    Returns
    -------
    Tensor of shape (..., n_way, n_codes)
        Corners of a regular simplex.
    """
    unit = torch.eye(n_codes, dtype=dtype, device=place.device)
    return (unit - 1 / n_codes)[place % n_codes] * (n_codes / (n_codes - 1)) ** 0.5


def places_of_classes(Z: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Which place each class has, which its mean says: not what it is called."""
    mass, present = (w[..., None] * y).mT, present_classes(y, w)
    total = mass.sum(-1, keepdim=True).clamp_min(torch.finfo(Z.dtype).tiny)
    order = reading_order((mass @ Z) / total).masked_fill(~present, torch.inf)
    return order.argsort(dim=-1, stable=True).argsort(dim=-1)


def drawn_places(numbers: OwnRandomNumbers | None, n_codes: int, y: Tensor) -> Tensor:
    """Places (T, n_way) that are drawn for training, so that all codes are learned."""
    if numbers is None:
        chance = torch.rand((len(y), n_codes), device=y.device)
    else:
        chance = numbers.of_each(len(y), (n_codes,), y.device)
    return chance.argsort(-1)[..., torch.arange(y.shape[-1], device=y.device) % n_codes]
