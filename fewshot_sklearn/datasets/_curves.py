"""What generators of one-dimensional curves share: rows, queries and noise."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state


class CurveTasks:
    """Endless generator of tasks of one-dimensional curves.

    Parameters
    ----------
    n_shot : int or (low, high)
        Support rows a task.
    n_query : int
        Query rows a task.
    noise : float
        Standard deviation of Gaussian noise on y.
    """

    def __init__(self, n_shot: int | tuple[int, int], n_query: int, noise: float):
        bounds = n_shot if isinstance(n_shot, tuple | list) else (n_shot, n_shot)
        if len(bounds) != 2 or not all(_whole(k, 0) for k in bounds) or bounds[0] > bounds[1]:
            raise ValueError(
                f"n_shot must be an int, at least 0, or a (low, high) pair of ints, got {n_shot!r}."
            )
        if not _whole(n_query, 0):
            raise ValueError(f"n_query must be an int, at least 0, got {n_query!r}.")
        if not (isinstance(noise, Real) and 0 <= noise < np.inf) or isinstance(noise, bool):
            raise ValueError(f"noise must be a finite number, at least 0, got {noise!r}.")
        self.n_shot: Any = n_shot
        self.n_query: int = n_query
        self.noise: float = noise

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return f"{type(self).__name__}({given})"

    def __call__(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draw one task: X (n, 1), y (n,), X_query (n_query, 1), y_query (n_query,)."""
        X, y, X_query, y_query, w = (part[0] for part in self.batch(rng, 1))
        real = w > 0
        return X[real], y[real], X_query, y_query

    def batch(self, rng: np.random.Generator, n_tasks: int) -> tuple[np.ndarray, ...]:
        """Draw many tasks: the same arrays with a leading axis, and the weights of the support.

        Where `n_shot` is a range, all tasks have room for the most, and the
        rows that a task lacks weigh nothing.
        """
        shot = self.n_shot
        low, high = (int(shot),) * 2 if isinstance(shot, Integral) else map(int, shot)
        shots = rng.integers(low, high + 1, (n_tasks, 1))
        x, y = self._drawn(rng, n_tasks, high + self.n_query)
        if self.noise:
            y = y + self.noise * rng.standard_normal(y.shape)
        w = (np.arange(high) < shots).astype(float)
        X = x[..., None]
        return X[:, :high], y[:, :high], X[:, high:], y[:, high:], w

    def _drawn(
        self, rng: np.random.Generator, n_tasks: int, n_rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places and values without noise, each (n_tasks, n_rows)."""
        raise NotImplementedError


def _whole(value: Any, low: int) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and int(value) >= low


def as_arrays(generator: Any, n_tasks: int, random_state: Any) -> Bunch:
    """Tasks of a generator as columns: ``data``, ``target`` and ``groups``."""
    if not _whole(n_tasks, 1):
        raise ValueError(f"n_tasks must be an int, at least 1, or None, got {n_tasks!r}.")
    try:
        seed = check_random_state(random_state).randint(2**31)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state must be an int, a numpy.random.RandomState or None, got "
            f"{random_state!r}."
        ) from error
    drawn = [generator(np.random.default_rng([seed, i])) for i in range(n_tasks)]
    sizes = [len(X) + len(X_query) for X, _, X_query, _ in drawn]
    return Bunch(
        data=np.concatenate([part for X, _, X_query, _ in drawn for part in (X, X_query)]),
        target=np.concatenate([part for _, y, _, y_query in drawn for part in (y, y_query)]),
        groups=np.repeat(np.arange(n_tasks), sizes),
    )
