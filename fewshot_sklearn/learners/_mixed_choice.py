"""How tasks vary, chosen from what there is to choose: by Akaike's information criterion.

C. M. Hurvich and C.-L. Tsai. Regression and time series model selection in small samples.
Biometrika 76 (1989): the criterion, corrected for few draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._mixed_rows import some_tasks
from ._mixed_search import STRUCTURES, ZERO, Found, Layout, Likelihood, search
from .deadline import is_over, seconds_left, within

#: Numbers in the rows of as many tasks as are searched, and chosen by, before all tasks are.
FIRST = 2**18
#: Draws that the variance which all weights have in common counts for, in that of each.
PRIOR_DRAWS = 4


def first_tasks(criterion: Likelihood) -> Likelihood:
    """The same of only some of the tasks, drawn evenly, if there are many."""
    total = sum(batch.rows.numel() for batch in criterion.data)
    if total <= 2 * FIRST:
        return criterion
    n = criterion.n_tasks
    some = torch.zeros(n, dtype=torch.bool)
    some[np.random.default_rng(0).permutation(n)[: max(1, n * FIRST // total)]] = True
    return replace(criterion, data=some_tasks(criterion.data, some))


def fitted(
    criterion: Likelihood, structure: str, mean: str, rank: int = 1, simpler: Found | None = None
) -> Found:
    """The most likely prior of a structure; of "low_rank", from one with fewer directions on."""
    p = criterion.n_weights
    layout = Layout.of(structure, mean, p, rank)
    if structure != "low_rank":
        theta = torch.ones(layout.n_parameters, dtype=torch.float64)
        if structure == "full":
            theta[: layout.n_factor] = (layout.rows == layout.columns).double()
        return search(criterion, layout, theta)
    before = simpler or fitted(criterion, "diagonal", mean)
    C = before.layout.factor(before.theta)
    more = rank - (C.shape[1] - p)
    # combinations of how tasks vary so far in which the likelihood says that they vary more
    uphill = torch.linalg.eigh(-C.T @ before.fit.by_covariance @ C)[1][:, -more:]
    wide = torch.cat([C[:, p:], C @ uphill], 1).flatten()
    theta = torch.cat([before.theta[:p], wide, before.theta[before.layout.n_factor :]])
    return search(criterion, layout, theta)


def chosen(
    criterion: Likelihood, structure: str, mean: str, structures: Sequence[str] = STRUCTURES
) -> tuple[Found, dict[str, float]]:
    """The most likely prior of what is asked for, "auto" by Akaike's corrected criterion.

    Variances of single weights, if they are chosen, are shrunk to their common one. Where time is
    bounded, it is chosen from what was tried in half of it, if all tasks are then searched.
    """
    first = first_tasks(criterion)
    with within(seconds_left() * (1.0 if first is criterion else 0.5)):
        tried, values, told = _candidates(first, structure, mean, structures)
    best = tried[min(values, key=lambda name: values[name])]
    found = _of_all(criterion, first, best)
    if structure == "auto" and best.layout.structure == "diagonal":
        found = _shrunk(criterion, found, _of_all(criterion, first, tried["isotropic"]))
    return found, told | (values if structure == "auto" else {})


def _candidates(
    first: Likelihood, structure: str, mean: str, structures: Sequence[str]
) -> tuple[dict[str, Found], dict[str, float], dict[str, float]]:
    """What may be the most likely prior, its criterion, and that of the kinds of mean."""
    told: dict[str, float] = {}
    if mean == "auto":
        kinds: dict[str, Found] = {}
        with within(seconds_left() * 0.5):
            for kind in ("ridge", "ard"):
                if not kinds or not is_over():
                    kinds[kind] = fitted(first, "isotropic", kind)
        # spreads are as many as weights, not as tasks: the plain criterion
        told = {
            f"mean {kind}": found.fit.value + 2 * int((_spreads(found) > ZERO).sum())
            for kind, found in kinds.items()
        }
        mean = min(kinds, key=lambda kind: told[f"mean {kind}"])
    if structure != "auto":
        return {structure: fitted(first, structure, mean)}, {structure: 0.0}, told
    return *_tried(first, mean, structures), told


def _tried(
    criterion: Likelihood, mean: str, structures: Sequence[str]
) -> tuple[dict[str, Found], dict[str, float]]:
    """The most likely prior of every structure that may be best, and its criterion, by name."""
    p, draws = criterion.n_weights, criterion.draws
    tried: dict[str, Found] = {}
    told: dict[str, float] = {}

    def attempt(name: str, n_parameters: int, *args: Any) -> bool:
        """Whether it is better than all before; not tried with too few tasks to be, or too late."""
        structure = name.split()[0]
        if tried and is_over():
            return False
        if structure not in structures or (tried and n_parameters >= draws - 1):
            return False
        found = fitted(criterion, structure, mean, *args)
        best = min(told.values(), default=math.inf)
        tried[name], told[name] = found, _corrected(found, draws)
        return told[name] < best

    attempt("intercept", 1)
    if p > 1:
        attempt("isotropic", 1)
    if p > 2:
        attempt("diagonal", 1)
        rank, before = 1, tried.get("diagonal")
        while rank <= p // 2 and attempt(f"low_rank {rank}", 1 + p * rank, rank, before):
            before, rank = tried[f"low_rank {rank}"], 2 * rank
    if p > 1:
        attempt("full", p * (p + 1) // 2)
    return tried, told


def _of_all(criterion: Likelihood, first: Likelihood, found: Found) -> Found:
    """What was found of the first tasks, searched on with all."""
    if first is criterion:
        return found
    again = search(criterion, found.layout, found.theta, em_steps=1)
    return again._replace(n_evaluations=again.n_evaluations + found.n_evaluations)


def _shrunk(criterion: Likelihood, found: Found, common: Found) -> Found:
    """Each variance averaged with the one that all have in common, as if that were some draws.

    Of q variances they are fewer by the factor (q - 2) / q: up to two stay as they are (C. Stein).
    """
    layout, n, draws = found.layout, found.layout.n_factor, criterion.draws
    q = n - 1  # but for the intercept's, which is nobody else's
    prior = PRIOR_DRAWS * (1 - 2 / q)
    variances = common.theta[common.layout.entries].square()
    variances = (draws * found.theta[:n].square() + prior * variances) / (draws + prior)
    theta = torch.cat([variances.sqrt(), found.theta[n:]])
    fit = criterion(layout.factor(theta), layout.spread(theta))
    return Found(layout, theta, fit, found.n_evaluations + common.n_evaluations + 1)


def _spreads(found: Found) -> Tensor:
    return found.theta[found.layout.n_factor :].abs()


def _corrected(found: Found, draws: float) -> float:
    """Akaike's corrected criterion; variances that are zero are no parameters."""
    layout, theta = found.layout, found.theta
    n = layout.n_factor
    if layout.structure in ("diagonal", "low_rank"):
        on_diagonal = layout.rows == layout.columns
        rank = layout.shape[1] - layout.shape[0]
        n = int((~on_diagonal | (theta[:n].abs() > ZERO)).sum()) - rank * (rank - 1) // 2
    if layout.structure in ("intercept", "isotropic", "diagonal"):
        # weights that are independent are a draw each, not all of a task one together
        draws *= layout.shape[0]
    # with two tasks or fewer, or too many parameters, there is nothing to tell by
    return found.fit.value + (2 * n * draws / (draws - n - 1) if n < draws - 1 else math.inf)
