"""Regressions in closed form on similarities between the rows of one small table.

C. E. Rasmussen and C. K. I. Williams. Gaussian processes for machine learning.
MIT Press 2006 (section 2.2; equation 5.12 for leaving one out in closed form).

E. A. Nadaraya. On estimating regression. Theory of Probability and Its Applications 9, 1964.

All functions take leading axes of tasks, and a row of weight two is the row twice.
Targets have mean zero and deviation one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..tasks import shares
from ._table_experts import kernel_ridges
from ._table_similarities import PLAIN, RANKS, VALUES, Similarity

SIMILARITIES = (
    Similarity(PLAIN, 0, "linear"),
    Similarity(PLAIN, 2, "linear"),
    Similarity(VALUES, 0, "linear"),
    Similarity(RANKS, 1, "linear"),
    Similarity(VALUES, 0, "gaussian", 1.0),
    Similarity(VALUES, 1, "gaussian", 1.0),
    Similarity(VALUES, 1, "laplace", 1.0),
    Similarity(RANKS, 0, "laplace", 1.0),
    Similarity(RANKS, 1, "laplace", 0.5),
    Similarity(RANKS, 2, "laplace", 1.0),
    Similarity(RANKS, 1, "laplace", 3.0),
)
#: Similarities, all between zero and one, that attention is steered by.
STEERING = (5, 6, 7, 8, 9)
#: Kernel ridge regressions: (similarities, whose sum is read; penalty in rows).
RIDGES = (
    ((0,), 0.003), ((0,), 0.03), ((0,), 0.3), ((0,), 1.0), ((0,), 4.0),
    ((1,), 0.03), ((1,), 0.3), ((1,), 2.0), ((2,), 0.1), ((2,), 1.0), ((3,), 0.3), ((3,), 2.0),
    ((4,), 0.01), ((4,), 0.3), ((5,), 0.03), ((5,), 0.3), ((6,), 0.01), ((6,), 0.2), ((6,), 1.0),
    ((7,), 0.03), ((7,), 0.3), ((8,), 0.03), ((8,), 0.3), ((9,), 0.03), ((9,), 0.4),
    ((10,), 0.03), ((10,), 0.2), ((0, 6), 0.03), ((0, 6), 0.3), ((1, 9), 0.2),
)  # fmt: skip
#: Weighted means of the targets: (similarity, its power).
SMOOTHERS = ((6, 4.0), (8, 2.0), (9, 6.0))
N_EXPERTS = len(RIDGES) + len(SMOOTHERS)
#: Ridges whose predictive variance is told, beside what all predict.
UNSURE = (2, 14, 22)
#: Added to all similarities: a constant, as good as not penalised, for rows left out change it.
CONSTANT = 10.0
#: Weight of the mean of all targets in a weighted mean.
LEAST = 1e-6


def relevance(view: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """How well each feature alone tells the targets (..., n_features).

    The variance that a line through them explains over what it does not, both
    with the share that pure chance gives added, so that few rows lend no feature
    much weight.
    """
    share = shares(w)[..., None]
    sizes = (share * view.square()).sum(-2) * (share * y.square()).sum(-2)
    explained = (share * view * y).sum(-2).square() / sizes.clamp_min(1e-12)
    chance = 2 / (w.sum(-1, keepdim=True) + 2)
    return (explained + chance) / ((1 - explained).clamp_min(0.0) + chance)


class Regressions(NamedTuple):
    """Regressions on the similarities, and what each says of rows it was not shown.

    Attributes
    ----------
    coefficients : Tensor of shape (..., len(RIDGES), n, 1)
        A row's prediction is its similarities, and `CONSTANT`, times these.
    inverse : Tensor of shape (..., len(UNSURE), n, n)
        Of the similarities with the penalty, for variances.
    left_out : Tensor of shape (..., n_experts, n)
        Predictions of the support rows, each without itself; with a weight above
        one, without one row of it.
    unsure : Tensor of shape (..., len(UNSURE), n)
        Variances of these, over that of the noise.
    """

    coefficients: Tensor
    inverse: Tensor
    left_out: Tensor
    unsure: Tensor


def all_regressions(K: Tensor, y: Tensor, w: Tensor, at_once: int = len(RIDGES)) -> Regressions:
    """The experts on similarities (..., len(SIMILARITIES), n, n) of the support rows.

    Parameters
    ----------
    K, y, w : Tensor of shape (..., n_similarities, n, n), (..., n, 1), (..., n)
        Similarities, targets and weights.
    at_once : int, default=len(RIDGES)
        Experts that are made at once, which bounds the memory.
    """
    coefficients, left_out, inverse, unsure = [], [], [], []
    for first in range(0, len(RIDGES), at_once):
        some = RIDGES[first : first + at_once]
        of_some = torch.stack([_summed(K, read) for read, _ in some], -3) + CONSTANT
        penalties = [penalty for _, penalty in some]
        own, told, inverted = kernel_ridges(of_some, y[..., None, :, :], w, penalties)
        coefficients.append(own)
        left_out.append(told[..., 0])
        for i in UNSURE:
            if first <= i < first + len(some):
                kept = inverted[..., i - first, :, :]
                inverse.append(kept)
                share = 1 - RIDGES[i][1] * kept.diagonal(dim1=-2, dim2=-1)
                unsure.append(1 / (1 - share / w.clamp_min(1.0)).clamp_min(1e-6))
    mass = w.clamp_max(1.0)
    for similarity, power in SMOOTHERS:
        alike = K[..., similarity, :, :] ** power
        total, sums = _masses(alike, y, w)
        itself = alike.diagonal(dim1=-2, dim2=-1) * mass
        left_out.append(
            ((sums - itself * y[..., 0]) / (total - itself).clamp_min(LEAST))[..., None, :]
        )
    return Regressions(
        torch.cat(coefficients, -3),
        torch.stack(inverse, -3),
        torch.cat(left_out, -2),
        torch.stack(unsure, -2),
    )


def _summed(K: Tensor, read: tuple[int, ...]) -> Tensor:
    return K[..., list(read), :, :].sum(-3)


def _masses(alike: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    weights = alike * w[..., None, :]
    return weights.sum(-1) + LEAST, (weights @ y)[..., 0]


def told(K: Tensor, itself: Tensor, of: Regressions, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Predictions (..., n_experts, m) for rows, and variances (..., len(UNSURE), m) over the noise.

    Parameters
    ----------
    K : Tensor of shape (..., n_similarities, m, n)
        Similarities to the support rows.
    itself : Tensor of shape (..., n_similarities, m)
        Similarities of the rows to themselves.
    of : Regressions
        What `all_regressions` returned.
    y, w : Tensor of shape (..., n, 1), (..., n)
        Targets and weights of the support rows.
    """
    predicted = list(_by_ridges(K, of.coefficients))
    for similarity, power in SMOOTHERS:
        total, sums = _masses(K[..., similarity, :, :] ** power, y, w)
        predicted.append(sums / total)
    unsure, root = [], w.sqrt()[..., None, :]
    for place, i in enumerate(UNSURE):
        read, penalty = RIDGES[i]
        k = root * (_summed(K, read) + CONSTANT)
        known = ((k @ of.inverse[..., place, :, :]) * k).sum(-1)
        left = itself[..., list(read), :].sum(-2) + CONSTANT - known
        unsure.append(1 + left.clamp_min(0.0) / penalty)
    return torch.stack(predicted, -2), torch.stack(unsure, -2)


def _by_ridges(K: Tensor, coefficients: Tensor) -> Iterator[Tensor]:
    for i, (read, _) in enumerate(RIDGES):
        own = coefficients[..., i, :, :]
        at_zero = CONSTANT * own.sum((-1, -2))[..., None]
        yield (_summed(K, read) @ own)[..., 0] + at_zero
