"""Which encoder is meta-trained where none is asked for: by the shape of a row, and the past.

H. Akaike. A new look at the statistical model identification. IEEE Transactions on Automatic
Control 19, 1974.

K. P. Burnham and D. R. Anderson. Model Selection and Multimodel Inference, second edition,
2002 (what differences of the criterion are worth).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import clone

from ..encoders import possible_layouts
from ..learners import is_over

if TYPE_CHECKING:
    from ._past_tasks import PastTasks

#: Past tasks, or classes, from which on a network is tried on rows of numbers.
ENOUGH_TASKS = 50
#: Smaller sides of images than this are not convolved.
SMALLEST_IMAGE = 8
#: Sides of a grey image differ by no more than this factor; others are series (n_times,
#: n_channels), of some times.
SQUARE, LEAST_TIMES = 2, 4
#: Knots of curves that are tried, and values that a number takes where it may bend.
KNOTS, FEWEST_VALUES = (3, 5), 6
#: By how much Akaike's criterion must be lower for curves in place of lines.
MARGIN = 10.0
#: Numbers in the features of as many tasks as curves are judged by.
JUDGED_BY = 2**18
#: The rows themselves.
PLAIN: dict[str, Any] = {"encoder": None}
#: A network of fully connected layers.
NETWORK: dict[str, Any] = {"encoder": "mlp"}


def encoders_to_try(plan: PastTasks, judged: bool, networks: bool) -> list[dict[str, Any]]:
    """Parameters of the estimator that say which encoders are worth a try, the simplest first.

    Parameters
    ----------
    plan : PastTasks
        What is trained on.
    judged : bool
        Whether validation can say which is best.
    networks : bool
        Whether a network may be tried beside what is simpler.

    Returns
    -------
    list of dict
        One, unless validation is to choose.
    """
    learner_class = plan.estimator._learner_class
    if not plan.chooses_encoder:
        return [PLAIN]
    if len(plan.input_shape) > 1:
        return [_of_shape(plan.input_shape)]
    if not learner_class.wants_encoder:
        return [PLAIN]
    enough = plan.tasks is None or plan.tasks["count"] >= ENOUGH_TASKS
    if learner_class.adapts_encoder or learner_class.pretrains:
        return [NETWORK] if enough or _learns_nothing(plan) else [PLAIN]
    closed = plan.learns_at_once() and not (plan.classification or learner_class.learns_last)
    simple = _curves(plan) if closed else None
    if not enough or not networks or (not judged and simple is not None):
        return [simple or PLAIN]
    return [simple or PLAIN, NETWORK] if judged else [NETWORK]


def _learns_nothing(plan: PastTasks) -> bool:
    """Whether without a network there are no weights to train."""
    shape, seed = plan.input_shape, plan.trainer.seed_
    learner = plan.estimator._new_learner(shape, plan.n_outputs, seed, table=plan.table)
    return not any(p.requires_grad for p in learner.parameters())


def surely_lower(losses: np.ndarray, others: np.ndarray) -> bool:
    """Whether validation losses are lower than others by more than a standard error.

    Parameters
    ----------
    losses, others : ndarray of shape (n_batches,)
        Of the same episodes.

    Returns
    -------
    bool
        Whether the later try is worth its weights.
    """
    difference = losses - others
    error = difference.std() / max(1, len(difference) - 1) ** 0.5
    return bool(difference.mean() < -error)


def _of_shape(shape: tuple[int, ...]) -> dict[str, Any]:
    """Images and series are convolved; what is too small for that stays as it is."""
    if len(shape) == 3:
        sides = shape[1:] if possible_layouts(shape) == ["NCHW"] else shape[:2]
        return {"encoder": "conv4"} if min(sides) >= SMALLEST_IMAGE else PLAIN
    if len(shape) > 3:
        return PLAIN
    if min(shape) >= SMALLEST_IMAGE and max(shape) <= SQUARE * min(shape):
        return {"encoder": "conv4"}
    return {"encoder": "series"} if shape[0] >= LEAST_TIMES else PLAIN


def _curves(plan: PastTasks) -> dict[str, Any] | None:
    """Lines, or curves of so many knots, as Akaike's criterion says of all past tasks at once.

    None where the method has no closed form to say it by.
    """
    X, y, tasks = plan.rows_of_tasks()
    if plan.table is not None:
        X = X[:, : plan.table.n_numbers]
    bends = [i for i, column in enumerate(X.T) if len(np.unique(column)) >= FEWEST_VALUES]
    widest = X.shape[1] + 1 + (max(KNOTS) - 2) * len(bends)
    # as many tasks as their rows allow, the same ones for all
    order = np.random.default_rng(0).permutation(tasks.max() + 1)
    sizes = np.cumsum(np.bincount(tasks)[order]) * widest
    some = np.isin(tasks, order[: max(2, int(np.searchsorted(sizes, JUDGED_BY)))])
    part = torch.from_numpy(X[some]), torch.from_numpy(y[some]), tasks[some]
    curves = [
        {"encoder": "spline", "encoder__n_knots": k, "encoder__columns": bends} for k in KNOTS
    ]
    best: dict[str, Any] | None = None
    least = np.inf
    for settings in [PLAIN, *(curves if bends else [])]:
        if best is not None and is_over():
            break
        estimator = clone(plan.estimator).set_params(**settings)
        learner = estimator._new_learner(X.shape[1:], plan.n_outputs, plan.trainer.seed_)
        learner.fit_scale(*part[:2])
        told = learner.evidence(*part)
        if told is None:  # of so many features it says nothing
            break
        if told < least - (MARGIN if best is PLAIN else 0.0):
            best, least = settings, told
    return best
