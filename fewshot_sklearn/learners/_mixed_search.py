"""The most likely parameters of one structure of a linear mixed model.

N. Laird, N. Lange and D. Stram. Maximum likelihood computations with repeated measures:
application of the EM algorithm. JASA 82 (1987).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ._class_likelihood import ClassCriterion
from ._mixed_likelihood import Criterion, Fit, plus_one
from .deadline import is_over

#: Of regressions, or of classes.
Likelihood = Criterion | ClassCriterion

#: Kinds of covariance between tasks, the simplest first.
STRUCTURES = ("intercept", "isotropic", "diagonal", "low_rank", "full")
#: How the mean of the weights is estimated.
MEANS = ("flat", "ridge", "ard")
#: Steps of expectation maximisation before the quasi-Newton ones.
EM_STEPS = 8
#: What is below it counts as zero, in units of the noise.
ZERO = 1e-3


@dataclass(frozen=True)
class Layout:
    """Where the parameters of a structure stand in its factor C, and in the mean's spread."""

    structure: str
    shape: tuple[int, int]
    rows: Tensor
    columns: Tensor
    #: Which parameter each of these entries is.
    entries: Tensor
    #: Which parameter each weight's spread is, of all but the last; None: the mean is free.
    spreads: Tensor | None
    n_factor: int

    @classmethod
    def of(cls, structure: str, mean: str, p: int, rank: int) -> Layout:
        number = torch.arange(p)
        rows, columns, entries = number, number, number
        shape = (p, p)
        if structure == "intercept":
            rows, columns, entries = number[-1:], number[:1], number[:1]
            shape = (p, 1)
        elif structure == "isotropic":
            entries = (number == p - 1).long()
        elif structure == "low_rank":
            wide = torch.cartesian_prod(number, torch.arange(rank))
            rows, columns = torch.cat([rows, wide[:, 0]]), torch.cat([columns, p + wide[:, 1]])
            entries = torch.arange(len(rows))
            shape = (p, p + rank)
        elif structure == "full":
            rows, columns = torch.tril_indices(p, p)
            entries = torch.arange(len(rows))
        n_factor = int(entries.max()) + 1
        spreads = {"flat": None, "ridge": torch.zeros(p - 1).long(), "ard": number[:-1]}[mean]
        return cls(structure, shape, rows, columns, entries, spreads, n_factor)

    @property
    def n_parameters(self) -> int:
        extra = 0 if self.spreads is None or not len(self.spreads) else int(self.spreads.max()) + 1
        return self.n_factor + extra

    def factor(self, theta: Tensor) -> Tensor:
        C = theta.new_zeros(self.shape)
        C[self.rows, self.columns] = theta[self.entries]
        return C

    def spread(self, theta: Tensor) -> Tensor | None:
        if self.spreads is None:
            return None
        return torch.cat([theta[self.n_factor + self.spreads], theta.new_ones(1)])

    def tied(self, of_entries: Tensor, of_spreads: Tensor, mean: bool = False) -> Tensor:
        """Sums, or means, over the entries and the spreads that are the same parameter."""
        index = self.entries
        if self.spreads is not None:
            index = torch.cat([index, self.n_factor + self.spreads])
            of_entries = torch.cat([of_entries, of_spreads[:-1]])
        sums = of_entries.new_zeros(self.n_parameters).index_add(0, index, of_entries)
        return sums / torch.bincount(index, minlength=len(sums)) if mean else sums

    def gradient(self, theta: Tensor, fit: Fit) -> Tensor:
        by_factor = 2 * fit.by_covariance @ self.factor(theta)
        return self.tied(by_factor[self.rows, self.columns], fit.by_spread)


def em_step(criterion: Likelihood, layout: Layout, theta: Tensor) -> tuple[Tensor, Fit]:
    """One step of expectation maximisation, and what it started from.

    The covariance Sigma of the weights becomes Sigma - Sigma G Sigma / T with G the derivative by
    Sigma: all that the step needs is known with the gradient.
    """
    C, spread = layout.factor(theta), layout.spread(theta)
    fit = criterion(C, spread)
    inner = C.T @ fit.by_covariance @ C / criterion.draws
    new_spread = theta.new_zeros(len(C))
    if spread is not None:
        u2 = (fit.mean.square() / fit.noise_variance).mean(1)
        new_spread = u2 + fit.mean_root.square().sum(1)
    if layout.structure == "full":
        # not all of the step, where rounding would make it indefinite
        new = C @ torch.linalg.cholesky(plus_one(-(1 - 1e-9) * inner))
        out = layout.tied(new[layout.rows, layout.columns], new_spread, mean=True)
        out[layout.n_factor :] = out[layout.n_factor :].sqrt()
        return out, fit
    shrunk = (1 - inner.diagonal()).clamp(min=0)
    variances = C[layout.rows, layout.columns].square() * shrunk
    return layout.tied(variances, new_spread, mean=True).sqrt(), fit


class Found(NamedTuple):
    """Parameters of a layout at which the criterion is smallest."""

    layout: Layout
    theta: Tensor
    fit: Fit
    n_evaluations: int


def search(criterion: Likelihood, layout: Layout, theta: Tensor, em_steps: int = EM_STEPS) -> Found:
    """The smallest value of the criterion from `theta` on, or what was found when time is over."""
    count = 0
    if layout.structure != "low_rank":
        for _ in range(em_steps):
            if is_over():
                break
            theta, _ = em_step(criterion, layout, theta)
            count += 1

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count
        count += 1
        here = torch.from_numpy(np.array(flat))
        fit = criterion(layout.factor(here), layout.spread(here))
        return fit.value, layout.gradient(here, fit).numpy()

    def while_there_is_time(_: np.ndarray) -> None:
        if is_over():
            raise StopIteration

    for _ in range(3):
        found = minimize(
            value,
            theta.numpy(),
            jac=True,
            method="L-BFGS-B",
            callback=while_there_is_time,
            options={"maxiter": 1000, "maxfun": 2000, "ftol": 1e-13, "gtol": 1e-4, "maxcor": 20},
        )
        theta = torch.from_numpy(found.x)
        fit = criterion(layout.factor(theta), layout.spread(theta))
        away = _off_the_boundary(criterion, layout, theta, fit)
        if away is None or is_over():
            break
        theta = away
    return Found(layout, theta, fit, count)


def _off_the_boundary(
    criterion: Likelihood, layout: Layout, theta: Tensor, fit: Fit
) -> Tensor | None:
    """Parameters that are zero, where the gradient is, though the likelihood rises from there."""
    if layout.structure in ("low_rank", "full"):
        return None
    by_variance = fit.by_covariance.diagonal()
    slopes = layout.tied(by_variance[layout.rows], torch.zeros_like(by_variance))
    small = theta[: layout.n_factor].abs() < ZERO
    stuck = small & (slopes[: layout.n_factor] < -ZERO * criterion.draws)
    if not stuck.any():
        return None
    moved = theta.clone()
    moved[: layout.n_factor][stuck] = 0.1
    return moved
