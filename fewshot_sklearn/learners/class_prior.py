"""The prior of the weights of classes, learned from past episodes by maximum likelihood.

The variances of the weights are those of `_class_likelihood`; `_mixed_search` finds them and
`_mixed_choice` says whether each feature has its own.

N. M. Laird and J. H. Ware. Random-effects models for longitudinal data. Biometrics 38 (1982).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._class_likelihood import ClassCriterion
from ._mixed_choice import chosen
from ._mixed_rows import batches
from .known_classes import contrasts
from .task_prior import ROUNDING

#: What may vary, the simplest first. Directions besides, or any covariance, did not do better.
VARIANCES = ("isotropic", "diagonal")


class ClassPrior(NamedTuple):
    """What past classes say of a new one: its weights are N(0, noise_variance diag(variances))."""

    #: (p,), in units of the noise: one over the penalties of a ridge regression of indicators.
    variances: Tensor
    #: That of an indicator's contrasts.
    noise_variance: float
    structure: str
    #: The log-likelihood, of each class once.
    loglik: float
    #: By structure, the corrected information criterion: the lower, the better.
    choice: dict[str, float]


def class_prior(
    Phi: Tensor, codes: Tensor, episodes: Tensor, *, n_classes: int, structure: str = "auto"
) -> ClassPrior:
    """Estimate how much the weights of classes vary, feature by feature.

    Parameters
    ----------
    Phi : Tensor of shape (N, p)
        Features; the last column is the intercept.
    codes : Tensor of int of shape (N,)
        The class of each row, from 0 in every episode.
    episodes : Tensor of int of shape (N,)
        Which episode each row is of.
    n_classes : int
        Past classes that the episodes were drawn from, so that no class counts twice.
    structure : {"auto", "isotropic", "diagonal"}, default="auto"
        Whether the weights of all features vary as much, or each by its own amount. "auto"
        takes that of the lowest corrected information criterion, and shrinks the amounts to
        the common one.

    Returns
    -------
    ClassPrior
        The prior of a new class.

    Raises
    ------
    ValueError
        If the structure is unknown, or no episode has two classes.
    """
    if structure not in ("auto", *VARIANCES):
        raise ValueError(f"structure must be auto or one of {VARIANCES}; got {structure!r}.")
    Phi, episodes = Phi.double(), torch.unique(episodes, return_inverse=True)[1]
    n_way = torch.zeros(int(episodes.max()) + 1, dtype=torch.long)
    n_way = n_way.scatter_reduce(0, episodes, codes + 1, "amax")
    if int(n_way.max()) < 2:
        raise ValueError("No episode has two classes, so nothing tells how classes differ.")
    scale = Phi.square().mean(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    Y = _contrasts(codes, n_way[episodes])
    floor = ROUNDING * float(Y.square().sum())
    criterion = ClassCriterion(batches(Phi / scale, Y, episodes), n_way - 1, floor, n_classes)
    found, choice = chosen(criterion, structure, "flat", VARIANCES)
    deviations = found.layout.factor(found.theta).diagonal() / scale
    return ClassPrior(
        deviations.square(),
        float(found.fit.noise_variance),
        found.layout.structure,
        -found.fit.value / 2,
        choice,
    )


def _contrasts(codes: Tensor, n_way: Tensor) -> Tensor:
    """Of each row's indicators (N,), among `n_way` (N,) classes: orthonormal, the others zero."""
    out = torch.zeros(len(codes), int(n_way.max()) - 1, dtype=torch.float64)
    for k in n_way.unique().tolist():
        of_k = n_way == k
        out[of_k, : k - 1] = contrasts(k)[codes[of_k]]
    return out
