"""Bayesian logistic regression whose prior is learned from past tasks of the same classes.

Row x of features phi has class probabilities softmax(H W'phi): the columns of H are orthonormal
contrasts of the classes, those of W their weights, which are normal over tasks with one
covariance. The most probable weights are those of ridge regressions of working responses, one
after the other, which never go down (Boehning 1992). The prior is a linear mixed model of such
responses (Breslow and Clayton 1993).

D. Boehning. Multinomial logistic regression algorithm. Annals of the Institute of Statistical
Mathematics 44 (1992).

N. E. Breslow and D. G. Clayton. Approximate inference in generalized linear mixed models. JASA 88
(1993).

D. J. C. MacKay. The evidence framework applied to classification networks. Neural Computation 4
(1992): probabilities of uncertain logits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..tasks import RowsByTask
from .linalg import cholesky
from .outputs import State
from .task_prior import task_prior

#: Ridge regressions, one after the other, of one `adapt`; fewer while an encoder is trained.
STEPS, STEPS_IN_TRAINING = 60, 15
#: Working responses that the prior is learned from, one after the other, and the change of a
#: logit that ends it.
ROUNDS, SETTLED = 8, 0.05
#: Rounds, from 0, after which how tasks vary is not chosen anew.
CHOSEN_AFTER = 2
#: Least weight of a row, of a class that is all but certain.
LEAST_WEIGHT = 1e-3
#: Largest logit of a past row.
LARGEST = 15.0
#: Tasks taken at once.
AT_ONCE = 25


def contrasts(n_classes: int) -> Tensor:
    """Orthonormal contrasts (n_classes, n_classes - 1) of classes, in float64.

    Householder's reflection that takes (1, ..., 1) to the last axis; the other axes are left.
    """
    v = np.full(n_classes, n_classes**-0.5)
    v[-1] += 1.0
    reflection = np.eye(n_classes) - 2 * np.outer(v, v) / (v @ v)
    return torch.from_numpy(reflection[:, :-1].copy())


class Posterior(NamedTuple):
    """Weights of one task, or of many with leading axes."""

    #: (..., p, m), of each contrast.
    weights: Tensor
    #: (..., p, p): their covariance is spread' spread, the same for all contrasts.
    spread: Tensor


def most_probable(
    phi: Tensor,
    y: Tensor,
    w: Tensor,
    mean: Tensor,
    factor: Tensor,
    H: Tensor,
    n_steps: int = STEPS,
) -> Posterior:
    """The most probable weights of a task, and Laplace's covariance about them.

    Parameters
    ----------
    phi : Tensor of shape (..., n, p)
        Features, float64.
    y : Tensor of shape (..., n, K)
        Memberships.
    w : Tensor of shape (..., n)
        Weights.
    mean : Tensor of shape (p, K - 1)
        Prior mean of the weights.
    factor : Tensor of shape (p, p)
        Their prior covariance is factor factor'.
    H : Tensor of shape (K, K - 1)
        Contrasts.
    n_steps : int, default=60
        Ridge regressions.

    Returns
    -------
    Posterior
        What the rows say of the task.
    """
    psi, offset = phi @ factor, phi @ mean
    w = w * y.sum(-1)  # rows without a label say nothing
    one = torch.eye(psi.shape[-1], dtype=psi.dtype, device=psi.device)
    # the covariance of an indicator's contrasts is a half of the unit matrix at most
    bound = cholesky(one + 0.5 * (psi.mT * w[..., None, :]) @ psi)
    u = psi.new_zeros(*psi.shape[:-2], psi.shape[-1], H.shape[-1])
    for _ in range(n_steps):
        off = (y - ((offset + psi @ u) @ H.T).softmax(-1)) @ H
        u = u + torch.cholesky_solve(psi.mT @ (w[..., None] * off) - u, bound)
    curvature = w * _weights(((offset + psi @ u) @ H.T).softmax(-1))
    root = cholesky(one + (psi.mT * curvature[..., None, :]) @ psi)
    wide = factor.mT.expand(*psi.shape[:-2], *factor.mT.shape)
    spread = torch.linalg.solve_triangular(root, wide, upper=False)
    return Posterior(mean + factor @ u, spread)


def _weights(p: Tensor) -> Tensor:
    """Mean variance (..., n) of the contrasts of an indicator of probabilities (..., n, K)."""
    return (1 - p.square().sum(-1)) / (p.shape[-1] - 1)


class KnownClasses(nn.Module):
    """The learned prior of classes that recur: `adapt` and logits of a linear classifier.

    Parameters
    ----------
    n_features : int
        Features, the intercept among them.
    n_classes : int
        Classes.
    """

    contrasts: Tensor

    def __init__(self, n_features: int, n_classes: int):
        super().__init__()
        self.n_classes = n_classes
        self.mean = nn.Parameter(torch.zeros(n_features, n_classes - 1))
        self.factor = nn.Parameter(torch.eye(n_features))
        self.register_buffer("contrasts", contrasts(n_classes), persistent=False)

    def adapt(self, phi: Tensor, y: Tensor, w: Tensor) -> State:
        """State of a task: rows (..., n, p) in float64, memberships of known classes, weights."""
        y = of_known(y, self.n_classes).double()
        mean, factor, H = self.mean.double(), self.factor.double(), self.contrasts.double()
        steps = STEPS_IN_TRAINING if self.training else STEPS
        found = most_probable(phi, y, w.double(), mean, factor, H, steps)
        coef = found.weights @ H.T
        present = torch.ones(coef.shape[:-2] + coef.shape[-1:], dtype=torch.bool)
        return {"coef": coef, "spread": found.spread, "present": present.to(coef.device)}

    def logits(self, state: State, phi: Tensor) -> Tensor:
        """Logits (..., n, K), nearer to each other the less is known of a row."""
        variance = (phi @ state["spread"].mT).square().sum(-1, keepdim=True)
        # of a difference of two classes the variance is twice that of a contrast
        return phi @ state["coef"] / (1 + math.pi / 8 * 2 * variance).sqrt()

    @torch.no_grad()
    def begin(self, codes: Tensor) -> None:
        """Know how often each class occurs, and nothing else."""
        seen = torch.bincount(codes.cpu(), minlength=self.n_classes).double() + 1
        self.mean.zero_()
        self.mean[-1] = ((seen / seen.sum()).log() @ self.contrasts.cpu().double()).to(self.mean)

    @torch.no_grad()
    def learn(self, phi: Tensor, codes: Tensor, tasks: np.ndarray) -> bool:
        """Learn the prior from all past tasks at once; whether that could be done."""
        try:
            mean, factor = known_classes_prior(phi, codes, tasks, self.contrasts.cpu().double())
        except (torch.linalg.LinAlgError, ValueError):
            return False
        if not (torch.isfinite(mean).all() and torch.isfinite(factor).all()):
            return False
        self.mean.copy_(mean)
        self.factor.copy_(factor)
        return True


def of_known(y: Tensor, n_classes: int) -> Tensor:
    """Memberships (..., n, n_classes) of all known classes, of which a batch may lack the last."""
    return nn.functional.pad(y, (0, n_classes - y.shape[-1]))


def known_classes_prior(
    phi: Tensor, codes: Tensor, tasks: np.ndarray, H: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the weights of past tasks that have the same classes.

    By penalised quasi-likelihood: a linear mixed model of working responses, weighted by how
    much they tell, made anew from the most probable weights of each task.

    Parameters
    ----------
    phi : Tensor of shape (N, p)
        Features in float64; the last column is the intercept.
    codes : Tensor of int of shape (N,)
        Class of each row.
    tasks : ndarray of shape (N,)
        Which task each row is of.
    H : Tensor of shape (K, K - 1)
        Contrasts of the classes.

    Returns
    -------
    mean : Tensor of shape (p, K - 1)
        Mean of the weights.
    factor : Tensor of shape (p, p)
        The covariance of each contrast's weights is factor factor'.
    """
    by_task = RowsByTask.of(np.asarray(tasks))
    y = torch.eye(len(H), dtype=torch.float64)[codes]
    shares = (y.sum(0) + 1) / (len(y) + len(H))
    eta = (shares.log() @ H).expand(len(y), -1)
    structure = "auto"
    for number in range(ROUNDS):
        p = (eta @ H.T).softmax(-1)
        weight = _weights(p).clamp_min(LEAST_WEIGHT)[:, None]
        response = eta + (y - p) @ H / weight
        root = weight.sqrt()
        told_by = (phi * root).numpy(), (response * root).numpy()
        prior = task_prior(*told_by, tasks, structure=structure)
        if number >= CHOSEN_AFTER and prior.structure != "low_rank":  # of any number of directions
            structure = prior.structure
        factor = prior.factor * prior.noise_variance.mean().sqrt()
        told = torch.zeros_like(eta)
        order = np.argsort(by_task.counts, kind="stable")
        for start in range(0, len(order), AT_ONCE):
            rows = torch.from_numpy(by_task.padded(order[start : start + AT_ONCE]))
            real = rows >= 0
            at = rows.clamp_min(0)
            found = most_probable(phi[at], y[at], real.double(), prior.mean, factor, H)
            told[rows[real]] = (phi[at] @ found.weights)[real]
        told = told.clamp(-LARGEST, LARGEST)
        change = float((told - eta).abs().amax())
        eta = told
        if change < SETTLED:
            break
    return prior.mean, factor
