"""The prior of a linear model's weights, learned from past tasks by maximum likelihood.

A task t is y_t = Phi_t b_t + e_t with b_t ~ N(mu, s^2 C C') and e_t ~ N(0, s^2): a linear mixed
model. `_mixed_likelihood` is its likelihood, `_mixed_search` finds the most likely C of one
structure, `_mixed_choice` chooses the structure.

N. M. Laird and J. H. Ware. Random-effects models for longitudinal data. Biometrics 38 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._mixed_choice import chosen
from ._mixed_likelihood import Criterion
from ._mixed_rows import batches
from ._mixed_search import MEANS, STRUCTURES, Found

#: Squared residuals that are rounding, as a share of those of one regression for all tasks.
ROUNDING = 1e-12


@dataclass(frozen=True)
class TaskPrior:
    """What past tasks say of a new one: b ~ N(mean_k, noise_variance_k factor factor')."""

    #: (p, K), the mean of the weights of each output.
    mean: Tensor
    #: (p, p), lower triangular, in units of the noise: counts how uncertain the mean is.
    factor: Tensor
    #: (K,).
    noise_variance: Tensor
    #: The restricted, or the usual, log-likelihood at its maximum.
    loglik: float
    structure: str
    #: (p, q), in units of the noise: how tasks vary around their mean.
    between: Tensor
    #: (p, p), in units of the noise: how uncertain the mean is.
    mean_covariance: Tensor
    #: (p,), in units of the noise: the standard deviations that the means' weights were given.
    mean_spread: Tensor
    #: Evaluations of the likelihood.
    n_evaluations: int
    #: By what there was to choose from, the corrected information criterion: the lower, the better.
    choice: dict[str, float] = field(default_factory=dict)


def task_prior(
    Phi: Any,
    Y: Any,
    tasks: Any,
    *,
    structure: str = "auto",
    mean: str = "auto",
    restricted: bool = True,
) -> TaskPrior:
    """Estimate the prior of a linear model's weights from past tasks.

    Parameters
    ----------
    Phi : array-like of shape (N, p)
        Features; the last column is the intercept.
    Y : array-like of shape (N,) or (N, K)
        Targets. Outputs share the covariance of their weights, in units of their noise.
    tasks : array-like of shape (N,)
        Which task each row is of.
    structure : {"auto", "intercept", "isotropic", "diagonal", "low_rank", "full"}, default="auto"
        What varies between tasks: the intercept alone; the weights, too, all as much; each by
        its own amount; and one direction besides; anything. "auto" takes that of the lowest
        corrected information criterion, and may take more directions; amounts of single
        weights are then shrunk to the common one.
    mean : {"auto", "ridge", "ard", "flat"}, default="auto"
        The prior of the mean of the weights but the intercept's: normal, of one variance or of
        one for each feature, which are learned ("auto" chooses between these); or none.
    restricted : bool, default=True
        Restricted maximum likelihood; False: maximum likelihood, of a flat mean.

    Returns
    -------
    TaskPrior
        The prior of a new task.

    Raises
    ------
    ValueError
        If there are no more rows than free weights of the mean, or an option is unknown.
    """
    if structure not in ("auto", *STRUCTURES) or mean not in ("auto", *MEANS):
        raise ValueError(
            f"structure must be auto or one of {STRUCTURES}, mean auto or one of {MEANS}; got "
            f"{structure!r} and {mean!r}."
        )
    if not restricted and mean != "flat":
        raise ValueError(f"restricted=False wants mean='flat', got {mean!r}.")
    criterion, scale = _criterion_of(Phi, Y, tasks, restricted)
    free = criterion.basis.shape[1] if mean == "flat" else 1
    if free >= criterion.n_rows:
        raise ValueError(
            f"{criterion.n_rows} rows do not determine {free} weights of the mean and the noise; "
            "pass more past rows" + (", or mean='ridge'." if mean == "flat" else ".")
        )
    if len(scale) == 1 and mean == "auto":
        mean = "flat"
    found, choice = chosen(criterion, structure, mean)
    return _in_units(found, criterion, scale, choice)


def evidence(Phi: Any, Y: Any, tasks: Any) -> float:
    """How well features suit past tasks, whose weights all vary as much: to choose features by.

    Parameters
    ----------
    Phi, Y, tasks : see `task_prior`
        The same rows and tasks for all that are compared.

    Returns
    -------
    float
        Akaike's information criterion, the lower the better.
    """
    criterion, _ = _criterion_of(Phi, Y, tasks, True)
    told = chosen(criterion, "isotropic", "auto")[1]
    return min(told.values())


def _criterion_of(Phi: Any, Y: Any, tasks: Any, restricted: bool) -> tuple[Criterion, Tensor]:
    """The likelihood of past tasks, and what features are divided by for it."""
    Phi, Y = (torch.from_numpy(np.array(A, dtype=np.float64)) for A in (Phi, Y))
    Y = Y[:, None] if Y.ndim == 1 else Y
    codes = torch.from_numpy(np.unique(np.asarray(tasks), return_inverse=True)[1].ravel())
    scale = Phi.square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    return _criterion(Phi / scale, Y, codes, restricted), scale


def _criterion(Phi: Tensor, Y: Tensor, tasks: Tensor, restricted: bool) -> Criterion:
    values, vectors = torch.linalg.eigh(Phi.T @ Phi)
    basis = vectors[:, values > 1e-10 * values[-1]]
    X = Phi @ basis
    pooled = Y - X @ torch.linalg.solve(X.T @ X, X.T @ Y)
    # targets that are all zero have no scale of their own
    floor = ROUNDING * pooled.square().sum(0) + 1e-30 * Y.square().sum(0) + 1e-200
    return Criterion(batches(Phi, Y, tasks), basis, floor, restricted)


def _in_units(
    found: Found, criterion: Criterion, scale: Tensor, choice: dict[str, float]
) -> TaskPrior:
    """The prior of weights of features that are not divided by `scale`."""
    layout, fit = found.layout, found.fit
    between = layout.factor(found.theta) / scale[:, None]
    root = fit.mean_root / scale[:, None]
    spread = layout.spread(found.theta)
    spread = torch.full_like(scale, torch.inf) if spread is None else spread.abs() / scale
    spread[-1] = torch.inf
    value = fit.value
    if criterion.restricted and layout.spreads is None:
        value += 2 * len(fit.noise_variance) * float(scale.log().sum())
    return TaskPrior(
        mean=fit.mean / scale[:, None],
        factor=_triangular(torch.cat([between, root], 1)),
        noise_variance=fit.noise_variance,
        loglik=-value / 2,
        structure=layout.structure,
        between=between,
        mean_covariance=root @ root.T,
        mean_spread=spread,
        n_evaluations=found.n_evaluations,
        choice=choice,
    )


def _triangular(wide: Tensor) -> Tensor:
    """A square lower triangular L, its diagonal not negative, with L L' = wide wide'."""
    R = torch.linalg.qr(wide.T, mode="r").R
    p = len(wide)
    L = wide.new_zeros(p, p)
    L[:, : len(R)] = R.T
    sign = torch.where(L.diagonal() < 0, -1.0, 1.0)
    return L * sign
