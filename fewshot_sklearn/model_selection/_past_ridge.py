"""Ridge regression of many past rows, with task effects, to which the rows of a new task are added.

C. R. Henderson. Best linear unbiased estimation and prediction under a selection
model. Biometrics 31, 1975.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve

#: Penalties of the weights, and of the task effects, that are tried on the past.
ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
TASK_ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class PastRidge:
    """Ridge regression of the past rows, ready for more to be added.

    Columns of Z are the features, less their mean and in units of their spread for the sake of
    precision, and a constant. Task effects are eliminated: with s_t the sum of a task's rows and
    n_t their number, they take s_t s_t' / (n_t + task_alpha) from Z'Z.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray, task: np.ndarray | None = None):
        self.origin, spread = X.mean(0), X.std(0)
        # as StandardScaler has it: what is constant but for rounding is left as it is
        rounding = 10 * np.finfo(float).eps * np.abs(self.origin)
        self.unit = np.where(spread <= rounding, 1.0, spread)
        Z = self._columns(X)
        self.ZZ, self.Zy = Z.T @ Z, Z.T @ y
        if task is None:
            return
        self.counts = np.bincount(task).astype(float)
        order = np.argsort(task, kind="stable")
        starts = np.flatnonzero(np.diff(task[order], prepend=-1))
        self.task_Z = np.add.reduceat(Z[order], starts)
        self.task_y = np.add.reduceat(y[order], starts)

    def _columns(self, X: np.ndarray) -> np.ndarray:
        return np.column_stack([(X - self.origin) / self.unit, np.ones(len(X))])

    def penalties(
        self,
        with_task: bool,
        alpha: float | None,
        task_alpha: float | None,
        X: np.ndarray,
        y: np.ndarray,
        task: np.ndarray,
    ) -> tuple[float, float | None]:
        """The given penalties, or those of the least leave-one-out error."""
        task_alphas: tuple[Any, ...] = (None,)
        if with_task:
            task_alphas = TASK_ALPHAS if task_alpha is None else (task_alpha,)
        alphas = ALPHAS if alpha is None else (alpha,)
        grid = [(a, t) for a in alphas for t in task_alphas]
        if len(grid) == 1:
            return grid[0]
        return min(grid, key=lambda p: self.leave_one_out(p[0], p[1], X, y, task))

    def leave_one_out(
        self,
        alpha: float,
        task_alpha: float | None,
        X: np.ndarray,
        y: np.ndarray,
        task: np.ndarray,
    ) -> float:
        """Mean squared error of the past rows, each predicted from all the others."""
        ZZ, Zy = self.ZZ + _penalty(self.ZZ, alpha), self.Zy
        Z, leverage = self._columns(X), np.zeros(len(X))
        if task_alpha is not None:
            weight = 1 / (self.counts + task_alpha)
            ZZ, Zy = self._less_tasks(ZZ, Zy, task_alpha)
            Z = Z - (self.task_Z * weight[:, None])[task]
            y = y - (self.task_y * weight[:, None])[task]
            leverage = weight[task]
        leverage = leverage + (Z * solve(ZZ, Z.T, assume_a="pos").T).sum(1)
        residuals = y - Z @ solve(ZZ, Zy, assume_a="pos")
        return float(np.square(residuals / (1 - leverage)[:, None]).mean())

    def _less_tasks(
        self, ZZ: np.ndarray, Zy: np.ndarray, task_alpha: float
    ) -> tuple[np.ndarray, np.ndarray]:
        shrunk = self.task_Z / (self.counts + task_alpha)[:, None]
        return ZZ - shrunk.T @ self.task_Z, Zy - shrunk.T @ self.task_y

    def solution(
        self,
        alpha: float,
        task_alpha: float | None = None,
        new: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights (n_features, n_outputs) and intercepts (n_outputs,) of the new task."""
        ZZ, Zy = self.ZZ, self.Zy
        weight, s, s_y = 0.0, np.zeros(len(ZZ)), np.zeros(Zy.shape[1])
        if new is not None:
            Z, y = self._columns(new[0]), new[1]
            ZZ, Zy = ZZ + Z.T @ Z, Zy + Z.T @ y
        penalty = _penalty(ZZ, alpha)
        if task_alpha is not None and new is not None:
            ZZ, Zy = self._less_tasks(ZZ, Zy, task_alpha)
            weight, s, s_y = 1 / (len(Z) + task_alpha), Z.sum(0), y.sum(0)
            ZZ, Zy = ZZ - weight * np.outer(s, s), Zy - weight * np.outer(s, s_y)
        coef = solve(ZZ + penalty, Zy, assume_a="pos")
        effect = weight * (s_y - s @ coef)
        weights = coef[:-1] / self.unit[:, None]
        return weights, coef[-1] - self.origin @ weights + effect


def _penalty(ZZ: np.ndarray, alpha: float) -> np.ndarray:
    """Of standardised features, the intercept left free: what ridge regression adds to Z'Z."""
    n, sums, squares = ZZ[-1, -1], ZZ[-1, :-1], np.diag(ZZ)[:-1]
    variance = squares / n - (sums / n) ** 2
    # as StandardScaler has it: what is constant but for rounding is left as it is
    variance = np.where(variance <= 1e-12 * squares / n, 1.0, variance)
    return np.diag(np.append(alpha * variance, 0.0))
