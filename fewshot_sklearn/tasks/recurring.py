"""Whether the class labels of past tasks recur: the same ones, with the same meaning, in each."""

from __future__ import annotations

from typing import Any

import numpy as np

from .ids import comparable, distinct

#: Classes, at most, that are taken to recur without being told so.
MOST_CLASSES = 20
#: And that may be said to.
MOST_KNOWN = 1000
#: How often, at least, a class of one task must be one of another task, too.
OFTEN = 0.5
#: Tasks, at least, that must have a class in common.
FEWEST_TASKS = 2
#: Times that labels change places within tasks, to see what they agree in by chance.
SHUFFLES = 39
#: Features, and rows, at most, that are looked at for that.
MOST_FEATURES, MOST_ROWS = 256, 50_000


def labels_recur(y: Any, groups: Any, X: np.ndarray | None = None) -> bool:
    """Whether the classes of all tasks are the same ones, by a rule.

    They are if there are 2 to 20 of them, and a class that one task has is one of another task
    with a probability of a half or more: rare classes need not occur in every task. Two
    classes are then the same for all. Of more, which may be numbers of other things in every
    task, how often they occur and the means of their features must agree between tasks better
    than in all of 39 random exchanges of the labels within tasks.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        Class labels.
    groups : array-like of shape (n_rows,) or None
        Task of each row; None is a pool of classes, which never recur.
    X : ndarray of shape (n_rows, ...) or None, default=None
        Rows as numbers. None goes by the labels alone.

    Returns
    -------
    bool
        Whether they recur.

    Examples
    --------
    >>> from fewshot_sklearn.tasks import labels_recur
    >>> labels_recur(["stayed", "churned", "stayed", "churned"], [1, 1, 2, 2])
    True
    >>> labels_recur(["alpha", "beta", "aleph", "beth"], [1, 1, 2, 2])
    False
    """
    if groups is None:
        return False
    classes, codes = distinct(comparable(y, "y"), "y")
    tasks, which = distinct(comparable(groups))
    n_classes, n_tasks = len(classes), len(tasks)
    if not 2 <= n_classes <= MOST_CLASSES or n_tasks < FEWEST_TASKS:
        return False
    has = np.zeros((n_tasks, n_classes), bool)
    has[which, codes] = True
    n_with = has.sum(0)
    again = (n_with - 1) / (n_tasks - 1)
    if (n_with * again).sum() / n_with.sum() < OFTEN:
        return False
    return n_classes == 2 or X is None or _agree(X, codes, which, has)


def _agree(X: np.ndarray, codes: np.ndarray, which: np.ndarray, has: np.ndarray) -> bool:
    """Whether classes are more alike over tasks than if each task had named them at random."""
    rng = np.random.default_rng(0)
    if len(codes) > MOST_ROWS:
        some = np.sort(rng.permutation(len(codes))[:MOST_ROWS])
        X, codes, which = X[some], codes[some], which[some]
    Z = X.reshape(len(X), -1)
    if Z.shape[1] > MOST_FEATURES:
        Z = Z[:, np.sort(rng.permutation(Z.shape[1])[:MOST_FEATURES])]
    Z = Z.astype(np.float64)
    Z = (Z - Z.mean(0)) / np.where((spread := Z.std(0)) > 0, spread, 1.0)
    n_tasks, n_classes = has.shape
    sizes = np.bincount(which, minlength=n_tasks).clip(min=1)
    # how often each class occurs is one feature more
    sums = np.zeros((n_tasks, n_classes, Z.shape[1] + 1))
    np.add.at(sums, (which, codes), np.c_[Z, np.ones(len(Z))])
    means = sums[..., :-1].sum(1) / sizes[:, None]
    off = sums[..., :-1] - sums[..., -1:] * means[:, None]
    off = np.concatenate([off, sums[..., -1:] - sizes[:, None, None] / n_classes], -1)
    off /= np.sqrt(sizes)[:, None, None]

    def agreement(off: np.ndarray) -> float:
        return float(np.square(off.sum(0)).sum())

    own = agreement(off)
    order = np.arange(n_classes)
    for _ in range(SHUFFLES):
        places = rng.permuted(np.broadcast_to(order, (n_tasks, n_classes)), axis=1)
        if agreement(np.take_along_axis(off, places[..., None], 1)) >= own:
            return False
    return True
