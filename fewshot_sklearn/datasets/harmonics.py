"""The harmonic tasks of Lacoste et al. (2018): two waves, read in a narrow window."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ._curves import CurveTasks, as_arrays


class HarmonicTasks(CurveTasks):
    """Endless generator of harmonic regression tasks, for ``MetaTrainer.fit``.

    y = a1 sin(w x + b1) + a2 sin(2 w x + b2) + noise, with a1 and a2 standard
    normal, b1 and b2 uniform in [0, 2 pi], w uniform in [5, 7], and x normal of
    variance one around a centre, of each task its own, uniform in [-4, 4]
    (Lacoste et al. 2018).

    Parameters
    ----------
    n_shot : int or (low, high), default=10
        Support rows a task.
    n_query : int, default=10
        Query rows a task.
    noise : float, default=0.1
        Standard deviation of Gaussian noise on y.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.datasets import make_harmonic_tasks
    >>> generator = make_harmonic_tasks(n_shot=5, n_query=3)
    >>> X, y, X_query, y_query = generator(np.random.default_rng(0))
    >>> X.shape, y.shape, X_query.shape
    ((5, 1), (5,), (3, 1))
    """

    def __init__(self, n_shot: int | tuple[int, int] = 10, n_query: int = 10, noise: float = 0.1):
        super().__init__(n_shot, n_query, noise)

    def _drawn(
        self, rng: np.random.Generator, n_tasks: int, n_rows: int
    ) -> tuple[np.ndarray, np.ndarray]:
        low, high = [0.0, 0.0, 5.0, -4.0], [2 * np.pi, 2 * np.pi, 7.0, 4.0]
        b1, b2, frequency, centre = rng.uniform(low, high, (n_tasks, 4)).T[..., None]
        a1, a2 = rng.standard_normal((n_tasks, 2)).T[..., None]
        x = centre + rng.standard_normal((n_tasks, n_rows))
        return x, a1 * np.sin(frequency * x + b1) + a2 * np.sin(2 * frequency * x + b2)


def make_harmonic_tasks(
    n_tasks: int | None = None,
    *,
    n_shot: int | tuple[int, int] = 10,
    n_query: int = 10,
    noise: float = 0.1,
    random_state: Any = None,
) -> HarmonicTasks | Bunch:
    """Make harmonic regression tasks: sums of two waves, of which one sees a window.

    Parameters
    ----------
    n_tasks : int or None, default=None
        Number of tasks to draw as arrays; None returns the endless generator.
    n_shot : int or (low, high), default=10
        Support rows a task.
    n_query : int, default=10
        Query rows a task.
    noise : float, default=0.1
        Standard deviation of Gaussian noise on y, in units of y.
    random_state : int, RandomState instance or None, default=None
        Seeds the tasks drawn as arrays.

    Returns
    -------
    HarmonicTasks or Bunch
        A generator ``rng -> (X, y, X_query, y_query)``; or, with `n_tasks`, a
        Bunch of ``data`` (n_rows, 1), ``target`` (n_rows,) and ``groups``
        (n_rows,), `n_shot` + `n_query` rows a task.

    References
    ----------
    .. [1] A. Lacoste, B. Oreshkin, W. Chung et al., "Uncertainty in multitask transfer
       learning", arXiv 1806.07528, 2018.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import make_harmonic_tasks
    >>> past = make_harmonic_tasks(100, random_state=0)
    >>> past.data.shape, past.groups[-1]
    ((2000, 1), np.int64(99))
    """
    generator = HarmonicTasks(n_shot, n_query, noise)
    return generator if n_tasks is None else as_arrays(generator, n_tasks, random_state)
