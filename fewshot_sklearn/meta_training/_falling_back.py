"""Falling back: what is learned stands beside plain models, and past tasks say how far to trust it.

Each part of the past tasks is held out once: everything is learned from the others, and tried on
its tasks at several numbers of labels. `StrategyRegressor` and `StrategyClassifier` then weigh the
answers by that (Bates and Granger 1969).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GroupKFold

from ..model_selection import past_rivals
from ..strategies import Experience, StrategyClassifier, StrategyRegressor, StrategySelector
from ..tasks import comparable, indexable, taken
from ._encoder_choice import NETWORK

#: Numbers of labels (a class) at which everything is tried, of those that the tasks allow.
SHOTS = (0, 1, 2, 5, 10, 20, 50)
#: Tasks, of all parts, that must have more rows than that; for classification all classes must.
FEWEST_TASKS = 3
#: Episodes of each number of labels, over all parts; of regression no more of each task than this.
N_EPISODES, OF_A_TASK = 300, 4
#: Name of what was meta-trained.
OURS = "meta-trained"


def check_fall_back(trainer: Any, X: Any, y: Any, groups: Any) -> None:
    """Refuse what could not be fallen back on, before anything is trained."""
    if callable(X):
        raise ValueError(
            "fall_back needs past tasks as arrays, which plain models can learn from, not a "
            "generator of tasks."
        )
    if isinstance(trainer.fall_back, dict) and OURS in trainer.fall_back:
        raise ValueError(f"fall_back must not name an estimator {OURS!r}: that is the trained one.")
    for name, one in trainer.fall_back.items() if isinstance(trainer.fall_back, dict) else ():
        if is_classifier(one) != is_classifier(trainer.estimator):
            kind = "classifiers" if is_classifier(trainer.estimator) else "regressors"
            raise ValueError(
                f"fall_back must hold {kind}, as estimator is one, got {name!r}: {one!r}."
            )
    units = y if groups is None else groups
    n_tasks = 0 if units is None else len(np.unique(comparable(units, "groups")))
    if units is not None and n_tasks < FEWEST_TASKS:
        raise ValueError(
            f"fall_back holds past tasks out, which takes {FEWEST_TASKS} or more, got {n_tasks}."
        )


def with_fall_back(trainer: Any, X: Any, y: Any, groups: Any) -> Any:
    """What was meta-trained, beside plain models, weighed by how they do on past tasks.

    Parameters
    ----------
    trainer : MetaTrainer
        Trained on all of these tasks. Its `fall_back` is what stands beside.
    X, y, groups : see ``MetaTrainer.fit``
        Past tasks.

    Returns
    -------
    StrategyClassifier or StrategyRegressor
        Its strategies, with what is known of them.
    """
    X, y = indexable(X), np.asarray(y)
    groups = None if groups is None else comparable(groups)
    known = _tried_on_past(trainer, X, y, groups)
    make = StrategyClassifier if is_classifier(trainer.estimator) else StrategyRegressor
    everything = _candidates(trainer, trainer.estimator_, (X, y, groups), max(known.n_shots))
    return make(everything, experience=known, combine="stack")


def _candidates(trainer: Any, learned: Any, past: Any, most: int) -> dict[str, Any]:
    n_way = trainer.n_way if is_classifier(trainer.estimator) else None
    most_rows = most * (1 if n_way is None else int(np.max(n_way)))
    rivals = past_rivals(learned, past, trainer.fall_back, n_way, most_rows, trainer.seed_)
    return {OURS: learned} | rivals


def _tried_on_past(trainer: Any, X: Any, y: np.ndarray, groups: Any) -> Experience:
    """How well everything does on tasks that it was not learned from."""
    seed, classify = trainer.seed_, is_classifier(trainer.estimator)
    units = comparable(y, "y") if groups is None else groups
    n_parts = min(trainer.fall_back_parts, len(np.unique(units)))
    allowed = [k for k in SHOTS if _allow(y, groups, classify, k, FEWEST_TASKS)]
    found: Experience | None = None
    for rest, part in GroupKFold(n_parts, shuffle=True, random_state=seed).split(y, groups=units):
        new, past = (
            (taken(X, rows), y[rows], None if groups is None else groups[rows])
            for rows in (part, rest)
        )
        shots = [k for k in allowed if _allow(new[1], new[2], classify, k, 1)]
        if not shots:
            continue
        learner = clone(trainer).set_params(fall_back=None, checkpoint=None, random_state=seed)
        learner._tries_networks = trainer._encoder == NETWORK  # as it turned out
        learner.set_params(verbose=0).fit(past[0], past[1], groups=past[2])
        most = N_EPISODES if classify else OF_A_TASK * len(np.unique(np.asarray(new[2])))
        selector = StrategySelector(
            _candidates(trainer, learner.estimator_, past, max(shots)),
            n_way=trainer.n_way if classify else None,
            n_shots=shots,
            n_query=trainer.n_query if classify else None,
            n_episodes=min(-(-N_EPISODES // n_parts), most),
            combine="stack",
            scoring=None if classify else "neg_mean_squared_error",
            random_state=seed,
        )
        known = selector.fit(*new).experience_
        assert known is not None
        found = known if found is None else found + known
    if found is None:
        raise ValueError("fall_back needs past tasks of more rows, to try everything on some.")
    return found


def _allow(y: np.ndarray, groups: Any, classify: bool, n_shots: int, least: int) -> bool:
    """Whether tasks, at least so many, have rows enough for so many labels and one to predict."""
    if classify:
        sizes = np.unique(comparable(y, "y"), return_counts=True)[1]
        return bool(n_shots > 0 and sizes.min() > n_shots)
    sizes = np.unique(groups, return_counts=True)[1]
    return bool((sizes > n_shots).sum() >= least)
