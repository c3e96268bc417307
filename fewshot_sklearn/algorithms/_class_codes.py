"""Vectors that stand for the classes of a task: any number of them, whatever they are called."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..learners import reading_order


def label_codes(n: int, size: int, like: Tensor) -> Tensor:
    """Fixed vectors of length one that stand for the first n classes.

    The first `size` are the rows of the discrete cosine transform, which are
    orthogonal; each further `size` are the same with the signs of some columns
    turned, which are nearly orthogonal to all others. A formula, not a table
    or a random draw: any number of classes has codes, the same everywhere.

    Parameters
    ----------
    n, size : int
        Number of codes and their length.
    like : Tensor
        Whose type and device they get.

    Returns
    -------
    Tensor of shape (n, size)
        Codes.
    """
    index = torch.arange(n, dtype=torch.float64, device=like.device)[:, None]
    column = torch.arange(size, dtype=torch.float64, device=like.device)
    block, row = torch.div(index, size, rounding_mode="floor"), index % size
    waves = torch.cos(math.pi * row * (column + 0.5) / size)
    signs = torch.cos(block * (column + 1).square()).sign()
    return F.normalize(waves * signs, dim=-1).to(like.dtype)


def class_codes(Z: Tensor, y: Tensor, w: Tensor, size: int, first: int = 0) -> Tensor:
    """Codes of the classes of a task, which their rows decide, not their names.

    The classes get codes in the order of their mean rows; what a class is
    called, and so its column, plays no part.

    Parameters
    ----------
    Z : Tensor of shape (..., n, n_features)
        Rows, by whose means the classes are told apart.
    y : Tensor of shape (..., n, n_way)
        Memberships.
    w : Tensor of shape (..., n)
        Weights.
    size : int
        Length of the codes.
    first : int, default=0
        The first code that is given away.

    Returns
    -------
    Tensor of shape (..., n_way, size)
        Codes.
    """
    mass = w[..., None] * y
    total = mass.sum(-2)
    means = (mass.mT @ Z) / total.clamp_min(torch.finfo(Z.dtype).tiny)[..., None]
    place = torch.where(total > 0, reading_order(means), torch.inf)
    rank = torch.sort(torch.sort(place, stable=True)[1])[1]
    return label_codes(first + y.shape[-1], size, Z)[first + rank]
