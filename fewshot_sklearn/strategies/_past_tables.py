"""Past tables, each with what its tasks looked like and how the strategies did on it.

P. B. Brazdil, C. Soares and J. P. da Costa. Ranking learning algorithms: using IBL
and meta-learning on accuracy and time results. Machine Learning 50, 2003.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ._task_features import FEATURES, LANDMARKS, SIZES

#: Episodes of each number of shots whose features are kept.
KEPT = 16
#: Which features tables may be compared by; of equally good ones the first.
VIEWS = (FEATURES, SIZES, LANDMARKS)
#: What is added to a mean squared difference, in standard deviations, before its inverse is a
#: weight: tables nearer than that are alike.
ALIKE = 0.1
#: Weight of the mean over all tables beside those: that of a table at a mean squared difference of
#: 0.9. A task that is like no past table is left with it.
PRIOR = 1.0
#: A standard deviation of a feature that does not differ.
ALMOST_0 = 1e-9
#: Tables that it takes to tell whether features help: one is left out, and two can differ.
FEWEST = 3


@dataclass(frozen=True)
class PastTable:
    """One past table, by number of shots.

    Parameters
    ----------
    n_shots : tuple of int
        Numbers of shots, ascending.
    n_episodes : tuple of int
        Episodes of each.
    successes, totals : tuple of tuple
        As those of ``Experience``, of this table alone.
    features : tuple of tuple of tuple of float
        By number of shots and episode (at most `KEPT`), the `FEATURES`.
    """

    n_shots: tuple[int, ...]
    n_episodes: tuple[int, ...]
    successes: tuple[tuple[int, ...], ...]
    totals: tuple[tuple[float, ...], ...]
    features: tuple[tuple[tuple[float, ...], ...], ...]

    def means(self, row: int, worst: float) -> np.ndarray:
        """Mean scores at one number of shots; a failure scores `worst`."""
        n, fine = self.n_episodes[row], np.array(self.successes[row])
        return (np.array(self.totals[row]) + (n - fine) * worst) / n

    def is_sound(self, n_names: int) -> bool:
        """Whether all has the shape that it should have, and is finite."""
        n = len(self.n_shots)
        return (
            np.shape(self.successes) == np.shape(self.totals) == (n, n_names)
            and len(self.n_episodes) == len(self.features) == n > 0
            and all(np.ndim(f) == 2 and np.shape(f)[1] == len(FEATURES) for f in self.features)
            and all(np.isfinite(np.array(f, dtype=float)).all() for f in self.features)
            and bool(np.isfinite(np.array(self.totals, dtype=float)).all())
        )


class Row(NamedTuple):
    """What the tables say of one number of shots, and by which features."""

    centres: np.ndarray
    scales: np.ndarray
    scores: np.ndarray
    view: tuple[str, ...] | None

    def scores_of(self, features: np.ndarray, n_neighbors: int) -> np.ndarray:
        """Weighted means of scores, for each row of features."""
        columns = [FEATURES.index(name) for name in self.view or ()]
        return _weighted(features, self.centres, self.scales, self.scores, columns, n_neighbors)


def as_vector(features: Mapping[str, float]) -> np.ndarray:
    """Features of a task in order."""
    if set(features) != set(FEATURES):
        raise ValueError(f"features must be those of a task, {list(FEATURES)}, got {features!r}.")
    return np.array([features[name] for name in FEATURES], dtype=np.float64)


def _scales(features: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean features of each table, and standard deviations of a single episode's.

    What differs more between the episodes of a table than between tables tells tables apart badly,
    and counts for less.
    """
    centres = np.array([f.mean(0) for f in features])
    return centres, np.sqrt(centres.var(0) + np.mean([f.var(0) for f in features], axis=0))


def _weighted(
    asked: np.ndarray, centres: np.ndarray, scales: np.ndarray, scores: np.ndarray,
    columns: list[int], n_neighbors: int,
) -> np.ndarray:  # fmt: skip
    """Mean scores of the nearest tables, weighted by 1 / (ALIKE + mean squared difference), and of
    all, weighted by PRIOR."""
    columns = [c for c in columns if scales[c] > ALMOST_0]
    if not columns:
        return np.repeat(scores.mean(0)[None], len(asked), axis=0)
    centres = centres[:, columns]
    asked = asked[:, columns]
    if columns[0] == FEATURES.index("n_rows"):  # of more shots than ever, the most are asked
        asked[:, 0] = np.clip(asked[:, 0], centres[:, 0].min(), centres[:, 0].max())
    differences = (asked[:, None] - centres) / scales[columns]
    distances = (differences**2).mean(-1)
    k = min(n_neighbors, len(centres))
    furthest = np.sort(distances, axis=1)[:, k - 1, None]  # those equally near all count
    weights = (distances <= furthest) / (ALIKE + distances)
    return (weights @ scores + PRIOR * scores.mean(0)) / (weights.sum(1, keepdims=True) + PRIOR)


@lru_cache(maxsize=32)
def rows_of(experience: Any, n_neighbors: int) -> tuple[Row | None, ...]:
    """For each number of shots what tables say, or None where the plain mean is as good.

    Each table is left out in turn, and a strategy is chosen for each of its episodes by the others:
    by their plain mean, and by features. Features are used if the strategies so chosen have on
    average scores that are not lower.
    """
    return tuple(_row(experience, i, n_neighbors) for i in range(len(experience.n_shots)))


def _row(experience: Any, i: int, n_neighbors: int) -> Row | None:
    shots, worst = experience.n_shots[i], experience.worst[i]
    here = [(t, t.n_shots.index(shots)) for t in experience.tables if shots in t.n_shots]
    if len(here) < FEWEST:
        return None
    works = np.isfinite(experience.mean_scores[i])
    scores = np.array([np.where(works, t.means(row, worst), -np.inf) for t, row in here])
    finite = np.where(works, scores, min(worst, 0.0))  # -inf times a weight of 0 is no number
    features = [np.array(t.features[row], dtype=np.float64) for t, row in here]
    n = np.array([t.n_episodes[row] for t, row in here])
    all_means = np.where(works, experience.mean_scores[i], 0.0)
    total, count = all_means * experience.n_episodes[i], experience.n_episodes[i]
    plain, by_view = 0.0, np.zeros(len(VIEWS))
    for out in range(len(here)):
        rest = np.arange(len(here)) != out
        means = (total - n[out] * finite[out]) / (count - n[out])
        plain += finite[out, np.where(works, means, -np.inf).argmax()]
        centres, scales = _scales([f for f, kept in zip(features, rest, strict=True) if kept])
        for v, view in enumerate(VIEWS):
            columns = [FEATURES.index(name) for name in view]
            told = _weighted(features[out], centres, scales, finite[rest], columns, n_neighbors)
            chosen = np.where(works, told, -np.inf).argmax(1)
            by_view[v] += finite[out, chosen].mean()
    differing = _scales(features)[1] > ALMOST_0
    told_by = [any(differing[FEATURES.index(name)] for name in view) for view in VIEWS]
    by_view[~np.array(told_by)] = -np.inf  # all alike by those: they tell nothing
    best = int(by_view.argmax())
    if by_view[best] < plain - 1e-12 * max(1.0, abs(plain)):
        return None
    return Row(*_scales(features), np.where(works, finite, 0.0), VIEWS[best])
