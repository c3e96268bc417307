"""The likelihood of a linear mixed model, profiled: a function of the factor C alone.

A task t is y_t = Phi_t b_t + e_t with b_t ~ N(mu, s^2 C C') and e_t ~ N(0, s^2). mu and s^2 have
closed forms given C; what is left is a smooth function of C, whose gradient has a closed form, too.

D. Bates, M. Mächler, B. Bolker and S. Walker. Fitting linear mixed-effects models using lme4.
Journal of Statistical Software 67 (2015): the relative factor C, and the profiled criterion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ._mixed_rows import Batch


def whitened(batch: Batch, C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """V^-1/2 rows, V^-1/2 targets and log|V| of each task, V = I + rows C C' rows'."""
    U = batch.rows @ C
    both = torch.cat([batch.rows, batch.targets], -1)
    m, q = U.shape[-2:]
    if m <= q:
        root = torch.linalg.cholesky(plus_one(U @ U.mT))
        white = torch.linalg.solve_triangular(root, both, upper=False)
    else:
        # with I + U'U = L L', the root W of V^-1 = W W' is I - U L'^-1 (I + L)^-1 U'
        root = torch.linalg.cholesky(plus_one(U.mT @ U))
        inner = torch.linalg.solve_triangular(root, U.mT @ both, upper=False)
        white = both - U @ torch.linalg.solve_triangular(plus_one(root).mT, inner, upper=True)
    p = batch.rows.shape[-1]
    logdet = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return white[..., :p], white[..., p:], logdet


def plus_one(matrices: Tensor) -> Tensor:
    return matrices + torch.eye(matrices.shape[-1], dtype=matrices.dtype)


class Fit(NamedTuple):
    """The likelihood at one C, and what comes with it."""

    #: Minus twice the (restricted) log-likelihood.
    value: float
    #: (p, p): its derivative by the covariance of the weights; that by C is 2 by_covariance C.
    by_covariance: Tensor
    #: (p,): its derivative by the standard deviations of the mean.
    by_spread: Tensor
    mean: Tensor
    #: (p, r): the covariance of the mean, in units of the noise, is mean_root mean_root'.
    mean_root: Tensor
    noise_variance: Tensor


@dataclass(frozen=True)
class Criterion:
    """The profiled likelihood of past tasks.

    Parameters
    ----------
    data : sequence of Batch
        The tasks.
    basis : Tensor of shape (p, r)
        Directions in which rows differ: those that the mean may take.
    floor : Tensor of shape (K,)
        Squared residuals that are rounding.
    restricted : bool
        Whether the likelihood is that of the residuals (REML).
    """

    data: Sequence[Batch]
    basis: Tensor
    floor: Tensor
    restricted: bool

    @property
    def n_rows(self) -> int:
        return sum(int(batch.sizes.sum()) for batch in self.data)

    @property
    def n_weights(self) -> int:
        return self.basis.shape[0]

    @property
    def n_tasks(self) -> int:
        return sum(len(batch.tasks) for batch in self.data)

    @property
    def draws(self) -> float:
        """Draws from the covariance: of each output's weights, one in every task."""
        return self.n_tasks * self.floor.shape[0]

    def __call__(self, C: Tensor, spread: Tensor | None = None) -> Fit:
        """Evaluate at a factor, and at standard deviations of the mean (None: a flat prior)."""
        white = [whitened(batch, C) for batch in self.data]
        p, K = self.basis.shape[0], self.floor.shape[0]
        total = torch.cat([torch.cat([X, z], -1).flatten(0, 1) for X, z, _ in white])
        total = total.T @ total
        S, Sz = total[:p, :p], total[:p, p:]
        if spread is None:
            basis, held = self.basis, S.new_zeros(self.basis.shape[1])
        else:
            basis, held = torch.diag(spread), torch.ones_like(spread)
            basis[-1, -1], held[-1] = 1.0, 0.0
        root = torch.linalg.cholesky(basis.T @ S @ basis + torch.diag(held))
        shift = torch.cholesky_solve(basis.T @ Sz, root)
        mean = basis @ shift
        N = torch.linalg.solve_triangular(root, basis.T, upper=False).T

        dof = self.n_rows - (len(held) - float(held.sum()) if self.restricted else 0)
        errors = [z - X @ mean for X, z, _ in white]
        rss = self.floor + (held[:, None] * shift.square()).sum(0)
        rss = rss + sum(batch.rest.sum(0) for batch in self.data)
        rss = rss + sum(e.square().sum((0, 1)) for e in errors)
        logdets = sum(float(logdet.sum()) for _, _, logdet in white)
        of_mean = 2 * float(root.diagonal().log().sum())
        if not self.restricted and spread is None:
            of_mean = 0.0
        value = K * (logdets + of_mean + dof * (1 + math.log(2 * math.pi / dof)))
        value += dof * float(rss.log().sum())

        by_covariance = K * S
        scaled = (dof / rss).sqrt()
        Xe = S.new_zeros(p, K)
        for (X, _, _), e in zip(white, errors, strict=True):
            g = X.mT @ e
            Xe += g.sum(0)
            pulls = (g * scaled).mT.flatten(0, 1)
            by_covariance = by_covariance - pulls.T @ pulls
            if self.restricted or spread is not None:
                B = X @ N
                doubled = (B @ B.mT @ X).flatten(0, 1)
                by_covariance = by_covariance - K * X.flatten(0, 1).T @ doubled
        by_spread = S.new_zeros(p)
        if spread is not None:
            inverse = torch.cholesky_inverse(root)
            by_spread = 2 * K * ((S @ basis) * inverse.T).sum(1) - 2 * (scaled**2 * Xe * shift).sum(
                1
            )
            by_spread[-1] = 0.0
        return Fit(value, by_covariance, by_spread, mean, N, rss / dof)
