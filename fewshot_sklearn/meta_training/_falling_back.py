"""Falling back: what is learned stands beside plain models, and past tasks say how far to trust it.

Each part of the past tasks is held out once: everything is learned from the others, and tried on
its tasks at several numbers of labels. `StrategyRegressor` and `StrategyClassifier` then weigh the
answers by that (Bates and Granger 1969).

Where time is bounded a quarter of it is for the training itself and a quarter for what stands
beside; parts are then tried while there is time for another, at least one.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GroupKFold

from ..learners import is_over, seconds_left, within
from ..model_selection import past_rivals
from ..strategies import (
    Experience,
    Failures,
    StrategyClassifier,
    StrategyRegressor,
    StrategySelector,
)
from ..tasks import Shortage, comparable, indexable, taken, usable_rows
from ._encoder_choice import NETWORK

#: Numbers of labels (a class) at which everything is tried, of those that the tasks allow.
SHOTS = (0, 1, 2, 5, 10, 20, 50)
#: Tasks, of all parts, that must have more rows than that; for classification all classes must.
FEWEST_TASKS = 3
#: Episodes of each number of labels, over all parts; of regression no more of each task than this.
N_EPISODES, OF_A_TASK = 300, 4
#: Shares of the time that there is: of the training, and of what is left of what stands beside.
FOR_TRAINING, FOR_RIVALS = 0.25, 0.33
#: Rounds that the episodes of a part are tried in, where time is bounded.
ROUNDS = 8
#: Name of what was meta-trained.
OURS = "meta-trained"


def check_fall_back(trainer: Any, X: Any, y: Any, groups: Any) -> None:
    """Refuse what could not be fallen back on, before anything is trained."""
    classify = is_classifier(trainer.estimator)
    if callable(X):
        raise ValueError(
            "fall_back needs past tasks as arrays, which plain models can learn from, not a "
            "generator of tasks."
        )
    if trainer._ranks.world > 1 and trainer.time_budget is not None:
        raise ValueError(
            "fall_back tries plain models for as long as time_budget lets it, which is another "
            "number of them in each process. Leave time_budget out, or say distributed=False."
        )
    named = trainer.fall_back if isinstance(trainer.fall_back, dict) else {}
    if OURS in named:
        raise ValueError(f"fall_back must not name an estimator {OURS!r}: that is the trained one.")
    for name, one in named.items():
        if is_classifier(one) != classify:
            kind = "classifiers" if classify else "regressors"
            raise ValueError(
                f"fall_back must hold {kind}, as estimator is one, got {name!r}: {one!r}."
            )
    if y is None or (groups is None and not classify):
        return  # which training refuses in words of its own
    y, groups = comparable(y, "y") if classify else None, _numbers(groups)
    units = groups if y is None or groups is not None else y
    if len(units) != len(y if y is not None else units):
        return
    n_tasks = len(np.unique(units[usable_rows(y, groups, Shortage())]))
    if n_tasks < FEWEST_TASKS:
        raise ValueError(
            f"fall_back holds past tasks out, which takes {FEWEST_TASKS} or more, got {n_tasks}."
        )
    if groups is None and n_tasks < 4:
        raise ValueError(f"fall_back holds past classes out, which takes 4 or more, got {n_tasks}.")
    if not any(_allow(y, groups, k, FEWEST_TASKS) for k in SHOTS):
        raise ValueError("fall_back needs past tasks of more rows, to try everything on some.")


def _numbers(groups: Any) -> Any:
    return None if groups is None else comparable(groups)


def with_fall_back(trainer: Any, X: Any, y: Any, groups: Any, took: float) -> Any:
    """What was meta-trained, beside plain models, weighed by how they do on past tasks.

    Parameters
    ----------
    trainer : MetaTrainer
        Trained on all of these tasks. Its `fall_back` is what stands beside.
    X, y, groups : see ``MetaTrainer.fit``
        Past tasks.
    took : float
        Seconds that this training took.

    Returns
    -------
    StrategyClassifier or StrategyRegressor
        Its strategies, with what is known of them.

    Warns
    -----
    UserWarning
        One tells of strategies that failed, and why; one of what there was no time for.
    """
    X, y, groups = indexable(X), np.asarray(y), _numbers(groups)
    classify = is_classifier(trainer.estimator)
    left_out: dict[str, str] = {}
    known_y = comparable(y, "y") if classify else None
    shots = [k for k in SHOTS if _allow(known_y, groups, k, FEWEST_TASKS)]
    began = time.monotonic()
    with within(seconds_left() * FOR_RIVALS):
        everything = _candidates(trainer, trainer.estimator_, (X, y, groups), shots, left_out)
    times = (took, time.monotonic() - began)
    parts = _tried_on_past(trainer, X, y, groups, shots, times, everything, left_out)
    names = [name for name in everything if all(name in one.names for one in parts)]
    known = parts[0]._of(names)
    for one in parts[1:]:
        known = known + one._of(names)
    if left_out:
        told = "; ".join(f"{name!r} ({why})" for name, why in left_out.items())
        warnings.warn(f"fall_back goes without {told}.", stacklevel=4)
    make = StrategyClassifier if classify else StrategyRegressor
    return make({n: everything[n] for n in names}, experience=known, combine="stack")


def _candidates(
    trainer: Any, learned: Any, past: Any, shots: list[int], left_out: dict[str, str]
) -> dict[str, Any]:
    n_way = trainer.n_way if is_classifier(trainer.estimator) else None
    most_rows = max(shots) * (1 if n_way is None else int(np.max(n_way)))
    rivals = past_rivals(
        learned, past, trainer.fall_back, n_way, most_rows, trainer.seed_, left_out
    )
    return {OURS: learned} | rivals


def _tried_on_past(
    trainer: Any, X: Any, y: np.ndarray, groups: Any, allowed: list[int],
    times: tuple[float, float], everything: dict[str, Any], left_out: dict[str, str],
) -> list[Experience]:  # fmt: skip
    """How well everything does on tasks that it was not learned from, by part of them."""
    seed, classify = trainer.seed_, is_classifier(trainer.estimator)
    units = comparable(y, "y") if groups is None else groups
    rows = np.flatnonzero(usable_rows(units if groups is None else None, groups, Shortage()))
    if classify and groups is not None:
        rows = np.flatnonzero(usable_rows(comparable(y, "y"), groups, Shortage()))
    n_parts = _n_parts(trainer, units[rows], groups is None)
    found: list[Experience] = []
    failures: list[Failures] = []
    splits = GroupKFold(n_parts, shuffle=True, random_state=seed).split(rows, groups=units[rows])
    longest = 0.0
    for i, (rest, part) in enumerate(splits):
        if found and seconds_left() < longest:
            break
        began = time.monotonic()
        new, past = (
            (taken(X, of), y[of], None if groups is None else groups[of])
            for of in (rows[part], rows[rest])
        )
        shots = [
            k
            for k in allowed
            if _allow(comparable(new[1], "y") if classify else None, new[2], k, 1)
        ]
        if not shots:
            continue
        learner = clone(trainer).set_params(
            fall_back=None, checkpoint=None, random_state=seed, time_budget=None, verbose=0
        )
        learner._tries_networks = trainer._encoder == NETWORK  # as it turned out
        learner._tells = False
        bounded = np.isfinite(seconds_left())
        with within(times[0] if bounded else None):
            learner.fit(past[0], past[1], groups=past[2])
        without: dict[str, str] = {}
        with within(times[1] if bounded else None):
            beside = _candidates(trainer, learner.estimator_, past, shots, without)
        left_out |= {name: why for name, why in without.items() if name in everything}
        beside = {name: one for name, one in beside.items() if name in everything}
        failed = Failures(list(beside))
        with within(seconds_left() / (n_parts - i)):
            n_episodes = -(-N_EPISODES // n_parts)
            found.append(_scores(trainer, beside, shots, new, failed, bounded, n_episodes))
        failures.append(failed)
        longest = max(longest, time.monotonic() - began)
    if not found:
        raise ValueError("fall_back needs past tasks of more rows, to try everything on some.")
    Failures.joined(failures).warn(stacklevel=6)
    if len(found) < n_parts and np.isfinite(seconds_left()):
        warnings.warn(
            f"time_budget let fall_back try {len(found)} of {n_parts} parts of the past tasks, "
            "from which its weights come.",
            stacklevel=5,
        )
    return found


def _n_parts(trainer: Any, units: np.ndarray, of_classes: bool) -> int:
    """Parts that the past tasks allow; of classes each has at least two, to tell apart."""
    n_tasks = len(np.unique(units))
    return min(trainer.fall_back_parts, n_tasks // 2 if of_classes else n_tasks)


def _scores(
    trainer: Any, beside: dict[str, Any], shots: list[int], new: Any, failed: Failures,
    bounded: bool, n: int,
) -> Experience:  # fmt: skip
    """How they do on episodes of tasks held out: on all, or as many as there is time for."""
    classify = is_classifier(trainer.estimator)
    if not classify:
        n = min(n, OF_A_TASK * len(np.unique(np.asarray(new[2]))))
    rounds = ROUNDS if bounded else 1
    selector = StrategySelector(
        beside,
        n_way=trainer.n_way if classify else None,
        n_shots=shots,
        n_query=trainer.n_query if classify else None,
        n_episodes=-(-n // rounds),
        combine="stack",
        scoring=None if classify else "neg_mean_squared_error",
    )
    known: Experience | None = None
    for i in range(rounds):
        if known is not None and is_over():
            break
        selector.set_params(random_state=trainer.seed_ + i)
        known = selector._learn([new], known, failures=failed).experience_
    assert known is not None
    return known


def _allow(y: np.ndarray | None, groups: Any, n_shots: int, least: int) -> bool:
    """Whether tasks, at least so many, have rows enough for so many labels and one to predict.

    Of classification (y are labels) all classes that have two rows must.
    """
    if y is None:
        sizes = np.unique(groups, return_counts=True)[1]
        return bool((sizes > max(n_shots, 1)).sum() >= least)
    usable = usable_rows(y, groups, Shortage())
    codes = np.unique(y[usable], return_inverse=True)[1]
    if groups is not None:
        tasks = np.unique(groups[usable], return_inverse=True)[1]
        codes = tasks * (codes.max() + 1) + codes
    sizes = np.unique(codes, return_counts=True)[1]
    return bool(n_shots > 0 and sizes.min() > n_shots)
