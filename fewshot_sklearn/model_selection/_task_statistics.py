"""What a row and the few labelled rows of its task say, as a flat row of numbers.

A model of all past tasks that is given these can tell tasks apart without being
fitted again: it has the level, the slopes and the neighbours that the labelled rows show.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._feature_space import FeatureSpace
from ._mixed_model import MixedModel, fit_mixed_model, with_constant

#: Penalties of the ridge regression that all past rows share, tried on tasks left out.
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
N_FOLDS = 5
#: Columns that tasks may have slopes of their own on, in the mixed model of the residuals.
MAX_SLOPES = 24
#: Numbers of slopes that are given as they are; more would drown the rest.
MAX_GIVEN_SLOPES = 64
#: Widths of the kernels, in medians of the distance of two rows of a task; their noise.
WIDTHS, KERNEL_NOISE = (0.3, 1.0), 0.5


class Labelled(NamedTuple):
    """Labelled rows of a batch of tasks, padded with rows of weight zero.

    Parameters
    ----------
    Z : ndarray of shape (n_tasks, n_shot, n_columns)
        Rows, in the space of the statistics.
    Y : ndarray of shape (n_tasks, n_shot, m)
        Targets, standardised, or memberships in classes.
    R : ndarray of shape (n_tasks, n_shot, m)
        What the regression of all past rows leaves of them.
    w : ndarray of shape (n_tasks, n_shot)
        1 for a row, 0 for padding.
    """

    Z: np.ndarray
    Y: np.ndarray
    R: np.ndarray
    w: np.ndarray


class TaskStatistics:
    """Statistics of labelled rows, on scales learned from past tasks.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        Past rows.
    Y : ndarray of shape (n_rows, m)
        Targets, or memberships in classes.
    task : ndarray of shape (n_rows,)
        Numbers of the tasks.
    rng : Generator
        Draws folds, and rows where there are very many.
    classes : bool, default=False
        Whether Y are memberships in classes.
    """

    def __init__(
        self,
        X: np.ndarray,
        Y: np.ndarray,
        task: np.ndarray,
        rng: np.random.Generator,
        classes: bool = False,
    ):
        self.classes = classes
        self.space = FeatureSpace(X, rng)
        self.center = np.zeros(Y.shape[1]) if classes else Y.mean(0)
        spread = np.ones(Y.shape[1]) if classes else Y.std(0)
        self.unit = np.where(spread > 0, spread, 1.0)
        #: Of the past rows: rows and targets in the units here, and what a regression of the
        #: other tasks leaves of the targets.
        self.Z, self.Y = self.space(X), self.targets(Y)
        self.coef, self.R = _left_out(self.Z, self.Y, task, rng)
        self.n_slopes = min(MAX_SLOPES, self.Z.shape[1])
        self.mixed: MixedModel = fit_mixed_model(self._slopes_on(self.Z), self.R, task, rng)
        self.length = _typical_distance(self.Z, task, rng)

    def targets(self, Y: np.ndarray) -> np.ndarray:
        """Targets in the units of the statistics."""
        return (Y - self.center) / self.unit

    def base(self, Z: np.ndarray) -> np.ndarray:
        """What the regression of all past rows predicts."""
        return self.coef[0] + Z @ self.coef[1:]

    def labelled(self, X: np.ndarray, Y: np.ndarray) -> Labelled:
        """The labelled rows of one new task."""
        Z, Y = self.space(X), self.targets(Y)
        return Labelled(Z[None], Y[None], (Y - self.base(Z))[None], np.ones((1, len(Z))))

    def without_past_rows(self) -> TaskStatistics:
        """The same without the past rows, which only making examples needs."""
        self.Z = self.Y = self.R = np.empty(0)
        return self

    def _slopes_on(self, Z: np.ndarray) -> np.ndarray:
        return with_constant(Z[..., : self.n_slopes])

    def effect(self, known: Labelled, Z: np.ndarray) -> np.ndarray:
        """The mixed model's task effects (n_tasks, n_query, m) at rows of the task."""
        w = known.w[..., None]
        mean = self.mixed.mean
        seen = self._slopes_on(known.Z) * w
        b = self.mixed.effects(seen, (known.R - self._slopes_on(known.Z) @ mean) * w)
        return self._slopes_on(Z) @ (mean + b)

    def columns(
        self, known: Labelled, Z: np.ndarray, base: np.ndarray, n_shot: int
    ) -> dict[str, np.ndarray]:
        """Statistics by name, each (n_tasks, n_query, any number).

        Parameters
        ----------
        known : Labelled
            Labelled rows of each task.
        Z : ndarray of shape (n_tasks, n_query, n_columns)
            Rows to predict, in this space.
        base : ndarray of shape (n_tasks, n_query, m)
            What the regression of all past rows predicts for them.
        n_shot : int
            From how many labelled rows on their number makes no difference any more.

        Returns
        -------
        dict of str to ndarray
            All finite; of no labelled rows, what past tasks have on average.
        """
        w, n = known.w[..., None], known.w.sum(1)[:, None, None]
        told = {"count": np.log1p(np.minimum(n, n_shot))}
        for name, values in (("target", known.Y), ("residual", known.R)):
            mean = (values * w).sum(1, keepdims=True) / np.maximum(n, 1)
            told[f"mean {name}"] = mean
            square = (np.square(values - mean) * w).sum(1, keepdims=True)
            told[f"deviation of {name}"] = np.sqrt(square / np.maximum(n, 1))
        slopes = self._slopes(known, told["mean residual"])
        if slopes.shape[-1] <= MAX_GIVEN_SLOPES:
            told["slope"] = slopes
        told = {k: np.broadcast_to(v, (*Z.shape[:2], v.shape[-1])) for k, v in told.items()}
        told |= {"row": Z, "base": base, "effect": self.effect(known, Z)}
        return told | self._by_distance(known, Z)

    @staticmethod
    def _slopes(known: Labelled, mean: np.ndarray) -> np.ndarray:
        """Slope of the residual on each column alone (n_tasks, 1, n_columns * m), ridge of 1."""
        w = known.w[..., None]
        n = np.maximum(w.sum(1, keepdims=True), 1)
        Z = (known.Z - (known.Z * w).sum(1, keepdims=True) / n) * w
        covariance = Z.mT @ ((known.R - mean) * w)
        slopes = covariance / (np.square(Z).sum(1)[..., None] + 1)
        return slopes.reshape(len(Z), 1, -1)

    def _by_distance(self, known: Labelled, Z: np.ndarray) -> dict[str, np.ndarray]:
        there = known.w[:, None, :] > 0
        d = _distances(Z, known.Z) / self.length
        told = {}
        if known.Z.shape[1]:
            d_known = np.where(there, d, np.inf)
            first = d_known.argmin(-1)
            none = ~there.any(-1, keepdims=True)
            for name, values in (("target", known.Y), ("residual", known.R)):
                nearest = np.take_along_axis(values, first[..., None], 1)
                told[f"nearest {name}"] = np.where(none, 0.0, nearest)
            told["nearness"] = 1 / (1 + d_known.min(-1))[..., None]
        else:
            zeros = np.zeros((*Z.shape[:2], known.Y.shape[-1]))
            told = {"nearest target": zeros, "nearest residual": zeros, "nearness": zeros[..., :1]}
        among = _distances(known.Z, known.Z) / self.length
        both, R = there & there.mT, known.R * known.w[..., None]
        for width in WIDTHS:
            K = np.where(both, 1 + np.exp(-np.square(among / width) / 2), 0.0)
            across = np.where(there, 1 + np.exp(-np.square(d / width) / 2), 0.0)
            alpha = np.linalg.solve(K + KERNEL_NOISE * np.eye(K.shape[-1]), R)
            told[f"kernel {width:g}"] = across @ alpha
            told[f"neighbours {width:g}"] = (across - there).sum(-1, keepdims=True)
        if self.classes:
            n = known.Y.mT @ known.w[..., None]
            means = (known.Y * known.w[..., None]).mT @ known.Z / np.maximum(n, 1)
            to_means = _distances(Z, means) / self.length
            told["class nearness"] = np.where(n.mT > 0, 1 / (1 + to_means), 0.0)
        return told


def _distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    squares = np.square(A).sum(-1)[..., :, None] + np.square(B).sum(-1)[..., None, :]
    return np.sqrt(np.maximum(squares - 2 * A @ B.mT, 0))


def _left_out(
    Z: np.ndarray, Y: np.ndarray, task: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge weights of all rows, and residuals of each from those of the tasks of other folds."""
    unit = task if task.max() > 0 else np.arange(len(task))
    fold = (rng.permutation(unit.max() + 1) % N_FOLDS)[unit]
    Z = with_constant(Z)
    parts = [fold == f for f in range(N_FOLDS)]
    ZZ, ZY = (np.stack([Z[part].T @ T[part] for part in parts]) for T in (Z, Y))

    def solved(ZZ: np.ndarray, ZY: np.ndarray, alpha: float) -> np.ndarray:
        penalty = np.full(len(ZZ), alpha)
        penalty[0] = 1e-9 * max(ZZ[0, 0], 1.0)
        return np.linalg.solve(ZZ + np.diag(penalty), ZY)

    def residuals(alpha: float) -> np.ndarray:
        left = Y.copy()
        for f, part in enumerate(parts):
            left[part] -= Z[part] @ solved(ZZ.sum(0) - ZZ[f], ZY.sum(0) - ZY[f], alpha)
        return left

    alpha = min(ALPHAS, key=lambda a: float(np.square(residuals(a)).mean()))
    return solved(ZZ.sum(0), ZY.sum(0), alpha), residuals(alpha)


def _typical_distance(Z: np.ndarray, task: np.ndarray, rng: np.random.Generator) -> float:
    """Median distance of two rows of one task, or of any where no task has two."""
    order = np.lexsort((rng.random(len(task)), task))
    a, b = order[:-1], order[1:]
    pairs = np.linalg.norm(Z[a] - Z[b], axis=1)
    same = task[a] == task[b]
    pairs = pairs[same] if same.any() else pairs
    return float(np.median(pairs)) if len(pairs) and np.median(pairs) > 0 else 1.0
