"""The sinusoid tasks of MAML (Finn et al. 2017, section 5.1)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from ._curves import CurveTasks, as_arrays


class SinusoidTasks(CurveTasks):
    """Endless generator of sinusoid regression tasks, for ``MetaTrainer.fit``.

    y = amplitude * sin(x + phase) + noise, with amplitude uniform in [0.1, 5],
    phase in [0, pi] and x in [-5, 5] (Finn et al. 2017, whose code has sin(x - phase)).

    Parameters
    ----------
    n_shot : int or (low, high), default=10
        Support rows a task.
    n_query : int, default=10
        Query rows a task.
    noise : float, default=0.0
        Standard deviation of Gaussian noise on y.
    phase : (low, high), default=(0, pi)
        Range of the phase, in radians. (-pi, pi) covers sin(x - phase) as well.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.datasets import make_sinusoid_tasks
    >>> generator = make_sinusoid_tasks(n_shot=5, n_query=3)
    >>> X, y, X_query, y_query = generator(np.random.default_rng(0))
    >>> X.shape, y.shape, X_query.shape
    ((5, 1), (5,), (3, 1))
    """

    def __init__(
        self,
        n_shot: int | tuple[int, int] = 10,
        n_query: int = 10,
        noise: float = 0.0,
        phase: tuple[float, float] = (0.0, np.pi),
    ):
        super().__init__(n_shot, n_query, noise)
        ends = phase if isinstance(phase, tuple | list | np.ndarray) else ()
        if len(ends) != 2 or not all(_finite(end) for end in ends) or ends[0] > ends[1]:
            raise ValueError(
                "phase must be a (low, high) pair of finite numbers, low at most high, got "
                f"{phase!r}."
            )
        self.phase: tuple[float, float] = (float(ends[0]), float(ends[1]))

    def __call__(
        self, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draw one task: X (n, 1), y (n,), X_query (n_query, 1), y_query (n_query,)."""
        n = self.n_shot
        n = int(n) if isinstance(n, Integral) else int(rng.integers(n[0], n[1] + 1))
        amplitude, phase = rng.uniform(0.1, 5.0), rng.uniform(*self.phase)
        x = rng.uniform(-5.0, 5.0, (n + self.n_query, 1))
        y = amplitude * np.sin(x[:, 0] + phase)
        if self.noise:
            y = y + self.noise * rng.standard_normal(len(y))
        return x[:n], y[:n], x[n:], y[n:]

    def _drawn(
        self, rng: np.random.Generator, n_tasks: int, n_rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.phase
        amplitude, phase = rng.uniform([0.1, low], [5.0, high], (n_tasks, 2)).T[..., None]
        x = rng.uniform(-5.0, 5.0, (n_tasks, n_rows))
        return x, amplitude * np.sin(x + phase)


def _finite(value: Any) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))


def make_sinusoid_tasks(
    n_tasks: int | None = None,
    *,
    n_shot: int | tuple[int, int] = 10,
    n_query: int = 10,
    noise: float = 0.0,
    phase: tuple[float, float] = (0.0, np.pi),
    random_state: Any = None,
) -> Any:
    """Make the sinusoid regression tasks of MAML.

    Parameters
    ----------
    n_tasks : int or None, default=None
        Number of tasks to draw as arrays; None returns the endless generator.
    n_shot : int or (low, high), default=10
        Support rows a task.
    n_query : int, default=10
        Query rows a task.
    noise : float, default=0.0
        Standard deviation of Gaussian noise on y, in units of y.
    phase : (low, high), default=(0, pi)
        Range that the phase of sin(x + phase) is drawn from, in radians, low at most high.
        The paper's own code has sin(x - phase): (-pi, 0); (-pi, pi) covers both.
    random_state : int, RandomState instance or None, default=None
        Seeds the tasks drawn as arrays.

    Returns
    -------
    SinusoidTasks or Bunch
        A generator ``rng -> (X, y, X_query, y_query)``; or, with `n_tasks`, a
        Bunch of ``data`` (n_rows, 1), ``target`` (n_rows,) and ``groups``
        (n_rows,), `n_shot` + `n_query` rows a task.

    References
    ----------
    .. [1] C. Finn, P. Abbeel and S. Levine, "Model-agnostic meta-learning for fast
       adaptation of deep networks", ICML 2017, section 5.1.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import make_sinusoid_tasks
    >>> past = make_sinusoid_tasks(100, random_state=0)
    >>> past.data.shape, past.groups[-1]
    ((2000, 1), np.int64(99))
    """
    generator = SinusoidTasks(n_shot, n_query, noise, phase)
    return generator if n_tasks is None else as_arrays(generator, n_tasks, random_state)
