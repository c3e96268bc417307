"""Class means refined with rows whose class is not known.

M. Ren, E. Triantafillou, S. Ravi, J. Snell, K. Swersky, J. Tenenbaum, H.
Larochelle and R. Zemel. Meta-learning for semi-supervised few-shot
classification. ICLR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .memory import rows_for

KINDS = ("soft", "distractors", "masked")
#: Hidden units of the network that sets the masks, as in the paper.
MASK_UNITS = 20
#: Numbers held at once for each difference of a row from a centre in a feature.
OF_DIFFERENCES = 8


class Refinement(nn.Module):
    """Soft k-means steps from the labelled rows' means (section 3.1).

    Parameters
    ----------
    kind : {"soft", "distractors", "masked"}
        ``"soft"``: every unlabelled row counts for each class by its
        probability (eq. 3). ``"distractors"``: beside the classes a cluster at
        the mean of all rows, of learned width, takes up rows of no class (eq.
        4-5; the paper puts it at the origin). ``"masked"``: rows far from a
        class are faded out, at a distance and with a softness that a small
        network reads off the distances (eq. 6-8).
    n_steps : int
        Number of steps.
    """

    def __init__(self, kind: str, n_steps: int):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"refinement must be one of {list(KINDS)}, got {kind!r}.")
        if n_steps < 1:
            raise ValueError(f"n_refinements must be at least 1, got {n_steps!r}.")
        self.kind, self.n_steps = kind, n_steps
        if kind == "distractors":
            self.log_width = nn.Parameter(torch.zeros(()))
        if kind == "masked":
            last = nn.Linear(MASK_UNITS, 2)
            nn.init.zeros_(last.weight)
            with torch.no_grad():  # at first a row fades at twice the mean distance
                last.bias.copy_(torch.tensor([1.0, 2.0]))
            self.mask = nn.Sequential(nn.Linear(5, MASK_UNITS), nn.Tanh(), last)

    def forward(
        self,
        prototypes: Tensor,
        Z: Tensor,
        y: Tensor,
        w: Tensor,
        logits: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Refine class means.

        Parameters
        ----------
        prototypes : Tensor of shape (..., n_way, n_features)
            Weighted means of the labelled rows.
        Z : Tensor of shape (..., n, n_features)
            All rows.
        y : Tensor of shape (..., n, n_way)
            Memberships; all zero for a row whose class is not known.
        w : Tensor of shape (..., n)
            Weights.
        logits : callable
            ``logits(prototypes, Z)`` of shape (..., n, n_way): minus the scaled
            distances, up to a constant for each row.

        Returns
        -------
        Tensor of shape (..., n_way, n_features)
            Refined means.
        """
        unknown = w * (y.sum(-1) == 0)
        mass = w[..., None] * y
        for _ in range(self.n_steps):
            scores = logits(prototypes, Z)
            shares = scores.softmax(-1)
            if self.kind == "distractors":
                shares = self._beside_distractors(scores, prototypes, Z, w)
            elif self.kind == "masked":
                shares = shares * self._masks(prototypes, Z, unknown)
            counted = mass + unknown[..., None] * shares
            total = counted.sum(-2).clamp_min(torch.finfo(Z.dtype).tiny)
            prototypes = (counted.mT @ Z) / total[..., None]
        return prototypes

    def _beside_distractors(
        self, scores: Tensor, prototypes: Tensor, Z: Tensor, w: Tensor
    ) -> Tensor:
        """Shares of the classes, of width one, where the distractors' cluster has its own."""
        centre = ((w[..., None] * Z).sum(-2) / w.sum(-1, keepdim=True))[..., None, :]
        # what the rows' logits leave out, so that they compare with the new cluster's distance
        nearest = _distances(prototypes, Z).min(-1, keepdim=True).values
        offset = scores.amax(-1, keepdim=True) + nearest
        away = -_distances(centre, Z) * torch.exp(-2 * self.log_width) - self.log_width
        return torch.cat([scores - offset, away], -1).softmax(-1)[..., :-1]

    def _masks(self, prototypes: Tensor, Z: Tensor, unknown: Tensor) -> Tensor:
        """How much of each row counts (eq. 8), from distances over their mean (eq. 6)."""
        d = _distances(prototypes, Z)
        eps = torch.finfo(Z.dtype).eps
        share = (unknown / unknown.sum(-1, keepdim=True).clamp_min(eps))[..., None]
        scale = (share * d).sum(-2, keepdim=True)
        d = d / torch.where(scale > 0, scale.clamp_min(eps), 1.0)  # without such rows none counts
        there = share > 0
        least = d.masked_fill(~there, math.inf).amin(-2)
        least = torch.where(least.isinf(), 0.0, least)
        most = d.masked_fill(~there, 0.0).amax(-2)
        mean = (share * d).sum(-2, keepdim=True)
        variance = (share * (d - mean).square()).sum(-2)
        spread = (variance + 1e-6).sqrt()[..., None, :]
        away = ((d - mean) / spread).masked_fill(~there, 0.0)  # of other rows it may be enormous
        skew, kurtosis = ((share * away**k).sum(-2) for k in (3, 4))
        facts = torch.stack([least, most, variance, skew, kurtosis], -1)
        slope, threshold = self.mask(facts).unbind(-1)
        return torch.sigmoid(-slope[..., None, :] * (d - threshold[..., None, :]))


def _distances(centres: Tensor, Z: Tensor) -> Tensor:
    """Squared Euclidean distances of rows to centres."""
    step = rows_for(OF_DIFFERENCES * centres.numel())
    if torch.is_grad_enabled() or Z.shape[-2] <= step:
        return (Z[..., :, None, :] - centres[..., None, :, :]).square().sum(-1)
    return torch.cat([_distances(centres, part) for part in Z.split(step, -2)], -2)
