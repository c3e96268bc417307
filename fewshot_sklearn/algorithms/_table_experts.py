"""Classifiers in closed form on similarities between the rows of one small table.

C. E. Rasmussen and C. K. I. Williams. Gaussian processes for machine learning.
MIT Press 2006 (section 2.2; equation 5.12 for leaving one out in closed form).

B. Lakshminarayanan, D. M. Roy and Y. W. Teh. Mondrian forests. NeurIPS 2014; M.
Balog et al. The Mondrian kernel. UAI 2016 (the city-block kernel is what ever
more random trees tend to).

A similarity of two rows is one number however many features they have. All
functions take leading axes of tasks, and a row of weight two is the row twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..learners import present_classes
from ..tasks import shares

Kind = TypeVar("Kind")

#: Standardised values are bent back towards this, so that no outlier rules a distance.
BEND = 4.0


class Similarity(NamedTuple):
    """One kernel: on standardised values or ranks, with features weighed by `relevance ** power`.

    ``"linear"`` is the weighted inner product; ``"gaussian"`` and ``"laplace"``
    are exp(-d / (width * mean d)) of squared Euclidean and of city-block
    distances.
    """

    ranks: bool
    power: int
    form: str
    width: float = 1.0


#: The city-block kernel on ranks is what ever more random trees tend to (Mondrian forests).
SIMILARITIES = (
    Similarity(False, 0, "linear"),
    Similarity(False, 1, "linear"),
    Similarity(True, 1, "linear"),
    Similarity(False, 0, "gaussian", 1.0),
    Similarity(False, 1, "gaussian", 0.3),
    Similarity(True, 0, "laplace", 0.5),
    Similarity(True, 1, "laplace", 1.0),
    Similarity(True, 2, "laplace", 0.5),
)
#: Kernel ridge regression of the memberships: (similarity, penalty in rows).
RIDGES = (
    (0, 0.01), (0, 0.1), (0, 1.0), (1, 0.03), (1, 0.3), (2, 0.1), (3, 0.03), (3, 0.3),
    (4, 0.1), (5, 0.03), (5, 0.3), (6, 0.03), (6, 0.3), (7, 0.1),
)  # fmt: skip
#: Nearest class mean in the space of a similarity.
MEANS = (0, 1, 2, 3, 4, 5, 6, 7)
#: Similarities, all between zero and one, that attention is steered by.
STEERING = (3, 4, 5, 6, 7)
N_EXPERTS = len(RIDGES) + len(MEANS)


class Views(NamedTuple):
    """Rows as similarities compare them: standardised values and ranks, (..., n, n_features)."""

    values: Tensor
    ranks: Tensor


class TableScale:
    """Brings rows to the scale of a weighted support: every feature's values, and its ranks.

    Parameters
    ----------
    Z : Tensor of shape (..., n, n_features)
        Support rows.
    w : Tensor of shape (..., n)
        Their weights.
    """

    def __init__(self, Z: Tensor, w: Tensor):
        share = shares(w)[..., None]
        self.mean = (share * Z).sum(-2, keepdim=True)
        self.scale, varies = _spread(share, Z, self.mean)
        self.varies = varies.to(Z.dtype)
        # rows without weight are sorted to the end, where no interval reaches them
        outside = (w <= 0)[..., None]
        order = Z.masked_fill(outside, torch.inf).mT.contiguous().sort(-1)
        self.sorted = order.values
        held = shares(w)[..., None, :].expand_as(self.sorted).gather(-1, order.indices)
        self.held = F.pad(held.cumsum(-1), (1, 0))
        self.midranks = self._midranks(self.sorted)
        ranks = self._interpolated(Z)
        centre = (share * ranks).sum(-2, keepdim=True)
        self.rank_mean, (self.rank_scale, _) = centre, _spread(share, ranks, centre)

    def _midranks(self, columns: Tensor) -> Tensor:
        """Share of the support below (..., n_features, m) values, and half of what equals them."""
        below = torch.searchsorted(self.sorted, columns)
        upto = torch.searchsorted(self.sorted, columns, right=True)
        return (self.held.gather(-1, below) + self.held.gather(-1, upto)) / 2

    def _interpolated(self, Z: Tensor) -> Tensor:
        columns, last = Z.mT.contiguous(), self.sorted.shape[-1] - 1
        upper = torch.searchsorted(self.sorted, columns)
        lower = (upper - 1).clamp_min(0)
        upper = upper.clamp_max(last)
        low, high = self.sorted.gather(-1, lower), self.sorted.gather(-1, upper)
        at_low, at_high = self.midranks.gather(-1, lower), self.midranks.gather(-1, upper)
        part = ((columns - low) / (high - low)).nan_to_num(0.0, 0.0, 0.0).clamp(0.0, 1.0)
        beyond = high == torch.inf
        between = at_low + torch.where(beyond, 0.0, part * (at_high - at_low))
        return torch.where(columns == high, at_high, between).mT

    def __call__(self, Z: Tensor) -> Views:
        values = (Z - self.mean) / self.scale * self.varies
        ranks = (self._interpolated(Z) - self.rank_mean) / self.rank_scale * self.varies
        return Views(values * (1 + (values / BEND).square()).rsqrt(), ranks)


def _spread(share: Tensor, Z: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations, one where a feature does not vary; and whether it does."""
    scale = (share * (Z - mean).square()).sum(-2, keepdim=True).sqrt()
    varies = scale > 10 * torch.finfo(Z.dtype).eps * mean.abs().clamp_min(1e-30)
    return torch.where(varies, scale, 1.0), varies


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


class Kernels:
    """The similarities between rows of a task; their widths are those of its support.

    Parameters
    ----------
    scale : TableScale
        Scale of the support.
    support : Views
        The support rows.
    y, w : Tensor
        Their memberships and weights.
    """

    def __init__(self, scale: TableScale, support: Views, y: Tensor, w: Tensor):
        self.support, self.w = support, w
        self.weights = []
        for view in support:
            own = relevance(view, y, w)
            self.weights.append([shares(scale.varies[..., 0, :] * own**p) for p in range(3)])
        self.mean_distances: dict[tuple[bool, int, str], Tensor] = {}
        self.among = self(support)

    def __call__(self, rows: Views) -> Tensor:
        """Similarities (..., len(SIMILARITIES), n_rows, n) of rows and support rows."""
        A, B = rows.values, self.support.values
        out = A.new_empty((*A.shape[:-2], len(SIMILARITIES), A.shape[-2], B.shape[-2]))
        for i, similarity in enumerate(SIMILARITIES):
            out[..., i, :, :] = self._compared(rows, similarity)
        return out

    def _compared(self, rows: Views, s: Similarity) -> Tensor:
        weights = self.weights[s.ranks][s.power][..., None, :]
        d = _compared(rows[s.ranks], self.support[s.ranks], weights, s.form)
        if s.form == "linear":
            return d
        kind = s.ranks, s.power, s.form
        if kind not in self.mean_distances:  # the support with itself comes first
            p = shares(self.w)
            mean = ((p[..., None, :] @ d)[..., 0, :] * p).sum(-1)[..., None, None]
            self.mean_distances[kind] = torch.where(mean > 1e-9, mean, 1.0)
        return (-d / (s.width * self.mean_distances[kind])).exp()


def _compared(A: Tensor, B: Tensor, weights: Tensor, form: str) -> Tensor:
    if form == "laplace":
        return torch.cdist(A * weights, B * weights, p=1.0)
    A, B = A * weights.sqrt(), B * weights.sqrt()
    inner = A @ B.mT
    if form == "linear":
        return inner
    sizes = A.square().sum(-1)[..., :, None] + B.square().sum(-1)[..., None, :]
    return (sizes - 2 * inner).clamp_min(0.0)


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
    penalty = K.new_tensor([penalty for _, penalty in chosen])[:, None]
    root = w.sqrt()[..., None, :]
    inner = root[..., :, None] * K * root[..., None, :]
    inverse = torch.linalg.inv(inner + torch.diag_embed(penalty.expand(inner.shape[:-1])))
    coefficients = root[..., None] * (inverse @ (root[..., None] * target))
    fitted = K @ coefficients
    # one row of weight one: what it changes in its own prediction, in closed form
    own = 1 - penalty * inverse.diagonal(dim1=-2, dim2=-1)
    own = (own / w[..., None, :].clamp_min(1.0))[..., None]
    left_out = (fitted - own * target) / (1 - own).clamp_min(1e-6)
    return Experts(coefficients, coefficients.sum(-2, keepdim=True), left_out)


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
