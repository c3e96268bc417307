"""Similarities between the rows of one small table, of any width, brought to scale by itself.

B. Lakshminarayanan, D. M. Roy and Y. W. Teh. Mondrian forests. NeurIPS 2014; M.
Balog et al. The Mondrian kernel. UAI 2016 (the city-block kernel is what ever
more random trees tend to).

A similarity of two rows is one number however many features they have. All
functions take leading axes of tasks, and a row of weight two is the row twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..tasks import shares

#: Standardised values are bent back towards this, so that no outlier rules a distance.
BEND = 4.0
#: Plain values end here.
FARTHEST = 10.0


#: What rows are compared by: standardised values that are bent, ranks, or the plain values.
VALUES, RANKS, PLAIN = 0, 1, 2


class Similarity(NamedTuple):
    """One kernel: on one view of the rows, with features weighed by `relevance ** power`.

    ``"linear"`` is the weighted inner product; ``"gaussian"`` and ``"laplace"``
    are exp(-d / (width * mean d)) of squared Euclidean and of city-block
    distances. The city-block kernel on ranks is what ever more random trees tend
    to (Mondrian forests).
    """

    view: int
    power: int
    form: str
    width: float = 1.0


class Views(NamedTuple):
    """Rows as similarities compare them: each (..., n, n_features)."""

    values: Tensor
    ranks: Tensor
    plain: Tensor


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
        bent = values * (1 + (values / BEND).square()).rsqrt()
        ranks = (self._interpolated(Z) - self.rank_mean) / self.rank_scale * self.varies
        return Views(bent, ranks, values.clamp(-FARTHEST, FARTHEST))


def _spread(share: Tensor, Z: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations, one where a feature does not vary; and whether it does."""
    scale = (share * (Z - mean).square()).sum(-2, keepdim=True).sqrt()
    varies = scale > 10 * torch.finfo(Z.dtype).eps * mean.abs().clamp_min(1e-30)
    return torch.where(varies, scale, 1.0), varies


class Kernels:
    """The similarities between rows of a task; their widths are those of its support.

    Parameters
    ----------
    scale : TableScale
        Scale of the support.
    support : Views
        The support rows.
    w : Tensor of shape (..., n)
        Their weights.
    relevances : sequence of Tensor of shape (..., n_features)
        How well each feature tells the labels, in each view.
    similarities : sequence of Similarity
        Which.
    """

    def __init__(
        self,
        scale: TableScale,
        support: Views,
        w: Tensor,
        relevances: Sequence[Tensor],
        similarities: Sequence[Similarity],
    ):
        self.support, self.w, self.similarities = support, w, similarities
        self.weights = [
            [shares(scale.varies[..., 0, :].to(own.dtype) * own**p) for p in range(3)]
            for own in relevances
        ]
        self.mean_distances: dict[tuple[int, int, str], Tensor] = {}
        self.among = self(support)

    def __call__(self, rows: Views) -> Tensor:
        """Similarities (..., n_similarities, n_rows, n) of rows and support rows."""
        A, B = rows.values, self.support.values
        out = A.new_empty((*A.shape[:-2], len(self.similarities), A.shape[-2], B.shape[-2]))
        for i, similarity in enumerate(self.similarities):
            out[..., i, :, :] = self._compared(rows, similarity)
        return out

    def itself(self, rows: Views) -> Tensor:
        """Similarities (..., n_similarities, n_rows) of rows to themselves."""
        ones = rows.values.new_ones(rows.values.shape[:-1])
        parts = [
            (self.weights[s.view][s.power][..., None, :] * rows[s.view].square()).sum(-1)
            if s.form == "linear"
            else ones
            for s in self.similarities
        ]
        return torch.stack(parts, -2)

    def _compared(self, rows: Views, s: Similarity) -> Tensor:
        weights = self.weights[s.view][s.power][..., None, :]
        d = _compared(rows[s.view], self.support[s.view], weights, s.form)
        if s.form == "linear":
            return d
        kind = s.view, s.power, s.form
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
