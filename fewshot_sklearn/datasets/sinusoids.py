"""The sinusoid tasks of MAML (Finn et al. 2017, section 5.1)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state


class SinusoidTasks:
    """Endless generator of sinusoid regression tasks, for ``MetaTrainer.fit``.

    y = amplitude * sin(x + phase) + noise, with amplitude uniform in [0.1, 5],
    phase in [0, pi] and x in [-5, 5] (Finn et al. 2017).

    Parameters
    ----------
    n_shot : int or (low, high), default=10
        Support rows a task.
    n_query : int, default=10
        Query rows a task.
    noise : float, default=0.0
        Standard deviation of Gaussian noise on y.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.datasets import make_sinusoid_tasks
    >>> generator = make_sinusoid_tasks(n_shot=5, n_query=3)
    >>> X, y, X_query, y_query = generator(np.random.default_rng(0))
    >>> X.shape, y.shape, X_query.shape
    ((5, 1), (5,), (3, 1))
    """

    def __init__(self, n_shot: int | tuple[int, int] = 10, n_query: int = 10, noise: float = 0.0):
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
        n = self.n_shot
        n = int(n) if isinstance(n, Integral) else int(rng.integers(n[0], n[1] + 1))
        amplitude, phase = rng.uniform(0.1, 5.0), rng.uniform(0.0, np.pi)
        x = rng.uniform(-5.0, 5.0, (n + self.n_query, 1))
        y = amplitude * np.sin(x[:, 0] + phase)
        if self.noise:
            y = y + self.noise * rng.standard_normal(len(y))
        return x[:n], y[:n], x[n:], y[n:]

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
        amplitude, phase = rng.uniform([0.1, 0.0], [5.0, np.pi], (n_tasks, 2)).T[..., None]
        x = rng.uniform(-5.0, 5.0, (n_tasks, n_rows))
        return x, amplitude * np.sin(x + phase)


def _whole(value: Any, low: int) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and int(value) >= low


def as_arrays(generator: SinusoidTasks, n_tasks: int, random_state: Any) -> Bunch:
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


def make_sinusoid_tasks(
    n_tasks: int | None = None,
    *,
    n_shot: int | tuple[int, int] = 10,
    n_query: int = 10,
    noise: float = 0.0,
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
    generator = SinusoidTasks(n_shot, n_query, noise)
    return generator if n_tasks is None else as_arrays(generator, n_tasks, random_state)
