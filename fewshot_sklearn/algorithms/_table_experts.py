"""Classifiers in closed form on similarities between the rows of one small table.

C. E. Rasmussen and C. K. I. Williams. Gaussian processes for machine learning.
MIT Press 2006 (section 2.2; equation 5.12 for leaving one out in closed form).

All functions take leading axes of tasks, and a row of weight two is the row twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ..learners import inverse, present_classes
from ..tasks import shares
from ._table_similarities import RANKS, VALUES, Similarity

Kind = TypeVar("Kind")

SIMILARITIES = (
    Similarity(VALUES, 0, "linear"),
    Similarity(VALUES, 1, "linear"),
    Similarity(RANKS, 1, "linear"),
    Similarity(VALUES, 0, "gaussian", 1.0),
    Similarity(VALUES, 1, "gaussian", 0.3),
    Similarity(RANKS, 0, "laplace", 0.5),
    Similarity(RANKS, 1, "laplace", 1.0),
    Similarity(RANKS, 2, "laplace", 0.5),
)
#: Similarities, all between zero and one, that attention is steered by.
STEERING = (3, 4, 5, 6, 7)
#: Kernel ridge regression of the memberships: (similarity, penalty in rows).
RIDGES = (
    (0, 0.01), (0, 0.1), (0, 1.0), (1, 0.03), (1, 0.3), (2, 0.1), (3, 0.03), (3, 0.3),
    (4, 0.1), (5, 0.03), (5, 0.3), (6, 0.03), (6, 0.3), (7, 0.1),
)  # fmt: skip
#: Nearest class mean in the space of a similarity.
MEANS = (0, 1, 2, 3, 4, 5, 6, 7)
N_EXPERTS = len(RIDGES) + len(MEANS)


def relevance(view: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """How well each feature alone tells the classes apart (..., n_features).

    The variance between class means over that within, both with the share that
    pure chance gives added, so that few rows lend no feature much weight.
    """
    mass = w[..., None] * y
    total = mass.sum(-2)
    means = (mass.mT @ view) / total.clamp_min(torch.finfo(w.dtype).tiny)[..., None]
    between = (shares(total)[..., None] * means.square()).sum(-2)
    n_classes = (total > 0).sum(-1, keepdim=True).to(w.dtype)
    chance = n_classes / (w.sum(-1, keepdim=True) + n_classes)
    return (between + chance) / ((1 - between).clamp_min(0.0) + chance)


class Experts(NamedTuple):
    """Closed-form classifiers on the similarities, and what each says of rows it was not shown.

    Attributes
    ----------
    coefficients : Tensor of shape (..., n_experts, n, n_way)
        A row's scores are its similarities times these,
    offsets : Tensor of shape (..., n_experts, 1, n_way)
        plus these.
    left_out : Tensor of shape (..., n_experts, n, n_way)
        Scores of the support rows, each without itself; with a weight above
        one, without one row of it.
    """

    coefficients: Tensor
    offsets: Tensor
    left_out: Tensor


#: Which similarity each expert reads.
EXPERTS_READ = (*(similarity for similarity, _ in RIDGES), *MEANS)


def ridges(
    K: Tensor, y: Tensor, w: Tensor, chosen: Sequence[tuple[int, float]] = RIDGES
) -> Experts:
    """Kernel ridge regressions of the memberships (Rasmussen and Williams 2006, section 2.2)."""
    present = present_classes(y, w)[..., None, :].to(y.dtype)
    target = ((y - 1 / present.sum(-1, keepdim=True).clamp_min(1.0)) * present)[..., None, :, :]
    K = K[..., [similarity for similarity, _ in chosen], :, :].to(y.dtype)
    K += 1.0  # a constant, penalised too
    coefficients, left_out, _ = kernel_ridges(K, target, w, [penalty for _, penalty in chosen])
    return Experts(coefficients, coefficients.sum(-2, keepdim=True), left_out)


def kernel_ridges(
    K: Tensor, target: Tensor, w: Tensor, penalties: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel ridge regressions, one a kernel, and what each says of rows it was not shown.

    Parameters
    ----------
    K : Tensor of shape (..., n_kernels, n, n)
        Similarities of the rows.
    target : Tensor of shape (..., 1, n, m)
        Their targets.
    w : Tensor of shape (..., n)
        Their weights.
    penalties : sequence of float
        Penalty of each kernel, in rows.

    Returns
    -------
    coefficients, left_out : Tensor of shape (..., n_kernels, n, m)
        A row's prediction is its similarities times the former; the latter is that of each
        row without itself.
    inverse : Tensor of shape (..., n_kernels, n, n)
        Of the similarities, times the roots of the weights on either side, with the penalty.
    """
    penalty = K.new_tensor(penalties)[:, None]
    root = w.sqrt()[..., None, :]
    inner = root[..., :, None] * K * root[..., None, :]
    inverted = inverse(inner + torch.diag_embed(penalty.expand(inner.shape[:-1])))
    coefficients = root[..., None] * (inverted @ (root[..., None] * target))
    fitted = K @ coefficients
    # one row of weight one: what it changes in its own prediction, in closed form
    own = 1 - penalty * inverted.diagonal(dim1=-2, dim2=-1)
    own = (own / w[..., None, :].clamp_min(1.0))[..., None]
    left_out = (fitted - own * target) / (1 - own).clamp_min(1e-6)
    return coefficients, left_out, inverted


def class_means(K: Tensor, y: Tensor, w: Tensor, chosen: Sequence[int] = MEANS) -> Experts:
    """Minus the squared distance to each class mean, in the space of each similarity."""
    K = K[..., list(chosen), :, :].to(y.dtype)
    mass = (w[..., None] * y)[..., None, :, :]
    total = mass.sum(-2, keepdim=True)
    share = mass / total.clamp_min(torch.finfo(w.dtype).tiny)
    to_class = K @ share
    within = (share * to_class).sum(-2, keepdim=True)
    self_similar = K.diagonal(dim1=-2, dim2=-1)[..., None]
    removed = (w.clamp_max(1.0)[..., None] * y)[..., None, :, :]
    left = total - removed
    emptied = left <= 1e-6 * total
    left = torch.where(emptied, 1.0, left)
    without = (total * to_class - removed * self_similar) / left
    inside = total**2 * within - 2 * removed * total * to_class + removed**2 * self_similar
    everyone = shares(w)[..., None, :, None]
    to_all = K @ everyone
    among_all = (everyone * to_all).sum(-2, keepdim=True)
    # a class that loses its only row is as near as the mean of all rows
    left_out = torch.where(emptied, 2 * to_all - among_all, 2 * without - inside / left**2)
    return Experts(2 * share.expand_as(to_class), -within, left_out)


def all_experts(K: Tensor, y: Tensor, w: Tensor, at_once: int = N_EXPERTS) -> Experts:
    """The experts on similarities (..., len(SIMILARITIES), n, n) of the support rows.

    Parameters
    ----------
    K, y, w : Tensor
        Similarities, memberships and weights; all is computed in the precision of the latter two.
    at_once : int, default=N_EXPERTS
        Experts that are made at once, which bounds the memory.
    """
    parts = [ridges(K, y, w, some) for some in _divided(RIDGES, at_once)]
    parts += [class_means(K, y, w, some) for some in _divided(MEANS, at_once)]
    return Experts(*(torch.cat(some, -3) for some in zip(*parts, strict=True)))


def _divided(kinds: Sequence[Kind], size: int) -> Iterator[Sequence[Kind]]:
    return (kinds[first : first + size] for first in range(0, len(kinds), size))


def centred(scores: Tensor, present: Tensor) -> Tensor:
    """Scores (..., n, n_way) less their mean over the classes that have support; zero elsewhere."""
    present = present.to(scores.dtype)
    mean = (scores * present).sum(-1, keepdim=True) / present.sum(-1, keepdim=True).clamp_min(1.0)
    return (scores - mean) * present
