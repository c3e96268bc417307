"""What is known of learning strategies: mean scores on past tasks, by number of shots and table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import numpy as np

from ..meta_init import read_sealed, write_sealed
from ._past_tables import KEPT, PastTable, as_vector, rows_of
from ._stacking import stacking_rows
from ._task_features import FEATURES

#: Of files without tables, which are as they were before there were any, of those with some, and of
#: those with products of errors.
FORMAT, FORMAT_OF_TABLES, FORMAT_OF_PRODUCTS = 1, 2, 3
#: What no label at all counts as, on the scale of logarithms that numbers of shots are on.
NO_LABEL = 0.5


@dataclass(frozen=True)
class Experience:
    """How well strategies did on past tasks, by number of shots: a small immutable table.

    It holds sums, so tables of different tasks add up (``one + other``), in any
    order. A failure (an error at fit or predict, or no finite score) counts as
    the worst score that any strategy had with that number of shots; a strategy
    that has only failed scores minus infinity, and is never chosen.

    What ``StrategySelector.fit_many`` learned also tells the tables apart: with
    the features of a new task, scores are those of the nearest tables [1]_,
    where leaving out each table in turn shows that this is no worse.

    Do not call the constructor: tables come from ``StrategySelector.experience_``
    or `load`.

    Parameters
    ----------
    names : tuple of str
        The strategies: columns of the table.
    n_shots : tuple of int
        Numbers of shots, ascending: rows of the table.
    n_episodes : tuple of int
        Episodes of each number of shots, the same ones for all strategies.
    successes : tuple of tuple of int
        By number of shots and strategy, the episodes that it did not fail on.
    totals : tuple of tuple of float
        Sum of the scores of those.
    worst : tuple of float
        By number of shots, the worst score that any strategy had.
    tables : tuple of PastTable, default=()
        What is known of single tables, in an order of their own.
    products : tuple of tuple of tuple of float, default=()
        By number of shots, sums over the episodes of the mean products of the
        errors of each two strategies, by which answers are stacked [2]_; empty
        where they were not learned.

    Attributes
    ----------
    mean_scores : ndarray of shape (n_shots, n_strategies)
        Mean score over all episodes.
    counts : ndarray of shape (n_shots, n_strategies)
        Episodes behind each mean, failures included.

    See Also
    --------
    StrategySelector : Fills the table from past tasks.

    References
    ----------
    .. [1] P. B. Brazdil, C. Soares and J. P. da Costa, "Ranking learning algorithms:
       using IBL and meta-learning on accuracy and time results", Machine Learning 50,
       2003.
    .. [2] J. M. Bates and C. W. J. Granger, "The combination of forecasts", Operational
       Research Quarterly 20, 1969.

    Examples
    --------
    >>> from fewshot_sklearn import Experience
    >>> known = Experience(
    ...     ("flat", "linear"), (1, 10), (2, 2), ((2, 2), (2, 2)), ((1.0, 0.5), (1.0, 1.5)),
    ...     (0.1, 0.2),
    ... )
    >>> known.mean_scores
    array([[0.5 , 0.25],
           [0.5 , 0.75]])
    >>> known.scores_at(10**0.5)  # half way, as ratios go
    array([0.5, 0.5])
    """

    names: tuple[str, ...]
    n_shots: tuple[int, ...]
    n_episodes: tuple[int, ...]
    successes: tuple[tuple[int, ...], ...]
    totals: tuple[tuple[float, ...], ...]
    worst: tuple[float, ...]
    tables: tuple[PastTable, ...] = ()
    products: tuple[tuple[tuple[float, ...], ...], ...] = ()

    @classmethod
    def from_scores(
        cls,
        names: Sequence[str],
        scores: dict[int, np.ndarray],
        features: dict[int, np.ndarray] | None = None,
        products: dict[int, np.ndarray] | None = None,
    ) -> Experience:
        """Sum up the scores of single episodes.

        Parameters
        ----------
        names : sequence of str
            The strategies.
        scores : dict of int to ndarray of shape (n_episodes, n_strategies)
            By number of shots, the scores; not finite where a strategy failed.
        features : dict of int to ndarray of shape (n_episodes, n_features), default=None
            Features of some of the episodes, which are then of one table; None
            where tables are not told apart.
        products : dict of int to ndarray of shape (n_strategies, n_strategies), default=None
            By number of shots, sums of mean products of errors.

        Returns
        -------
        Experience
            The table.
        """
        shots = sorted(scores)
        rows = [np.asarray(scores[k], dtype=float) for k in shots]
        fine = [np.isfinite(row) for row in rows]
        sums = (
            tuple(int(k) for k in shots),
            tuple(len(row) for row in rows),
            tuple(tuple(ok.sum(0).tolist()) for ok in fine),
            tuple(
                tuple(np.where(ok, r, 0.0).sum(0).tolist())
                for r, ok in zip(rows, fine, strict=True)
            ),
        )
        worst = tuple(float(r[ok].min()) for r, ok in zip(rows, fine, strict=True))
        of_errors = () if products is None else _tuples([products[k].tolist() for k in shots])
        if features is None:
            return cls(tuple(names), *sums, worst, (), of_errors)
        # six digits are more than a few rows tell
        kept = [[[float(f"{v:.6g}") for v in one] for one in features[k][:KEPT]] for k in shots]
        return cls(tuple(names), *sums, worst, (PastTable(*sums, _tuples(kept)),), of_errors)

    @property
    def counts(self) -> np.ndarray:
        return np.repeat(np.array(self.n_episodes)[:, None], len(self.names), axis=1)

    @property
    def mean_scores(self) -> np.ndarray:
        successes, n = np.array(self.successes), self.counts
        sums = np.array(self.totals) + (n - successes) * np.array(self.worst)[:, None]
        return np.where(successes > 0, sums / n, -np.inf)

    def scores_at(
        self, n_shots: float, features: Mapping[str, float] | None = None, n_neighbors: int = 5
    ) -> np.ndarray:
        """Mean scores at any number of shots.

        Parameters
        ----------
        n_shots : float
            Between two known numbers the scores are interpolated in log n_shots;
            outside them they are those of the nearest.
        features : dict of str to float or None, default=None
            Features of the task, as in ``task_features_`` of an estimator, to
            ask the tables nearest to it; None, or where features are of no help
            (see `features_help`), gives the means over all.
        n_neighbors : int, default=5
            How many tables.

        Returns
        -------
        ndarray of shape (n_strategies,)
            Mean scores.
        """
        scores = self.mean_scores
        if features is not None and self.tables:
            asked = as_vector(features)[None]
            for i, row in enumerate(rows_of(self, n_neighbors)):
                if row is not None:
                    told = row.scores_of(asked, n_neighbors)[0]
                    scores[i] = np.where(np.isfinite(scores[i]), told, -np.inf)
        return self._between(scores, n_shots)

    def _place(self, n_shots: float) -> float:
        """Where a number of shots is among those known, as ratios go."""
        known, asked = (np.log(np.maximum(n, NO_LABEL)) for n in (self.n_shots, n_shots))
        return float(np.interp(asked, known, np.arange(len(known))))

    def _between(self, rows: np.ndarray, n_shots: float) -> np.ndarray:
        """A row for each known number of shots, at any other."""
        place = self._place(n_shots)
        low, share = int(place), place - int(place)
        if share == 0:  # nothing of the next row, which may not exist or be infinite
            return rows[low]
        return (1 - share) * rows[low] + share * rows[low + 1]

    def stacking_weights_at(self, n_shots: float) -> np.ndarray:
        """Weights of a mean of the strategies' answers, of least squared error on past tasks.

        Of targets, or of the probabilities of classes (their Brier score). They
        are not negative; a strategy that failed on an episode has none.

        Parameters
        ----------
        n_shots : float
            Number of shots; between two known ones weights are interpolated.

        Returns
        -------
        ndarray of shape (n_strategies,)
            They sum to one; zeros where no strategy ever worked.

        Raises
        ------
        ValueError
            When products of errors were not learned.
        """
        if not self.products:
            raise ValueError(
                "This experience does not hold what stacking goes by: learn it with "
                "StrategySelector(combine='stack')."
            )
        return self._between(stacking_rows(self), n_shots)

    def features_help(self, n_shots: float, n_neighbors: int = 5) -> bool:
        """Whether the features of a task say more than its number of shots.

        They do where strategies that are chosen by them, for each table by all
        others, have scores at least as good as those chosen by the means of all
        others. It takes three tables.

        Parameters
        ----------
        n_shots : float
            Number of shots; between two known ones, either counts.
        n_neighbors : int, default=5
            How many tables are asked.

        Returns
        -------
        bool
            Whether `scores_at` looks at features.
        """
        if not self.tables:
            return False
        place = self._place(n_shots)
        rows = rows_of(self, n_neighbors)
        return any(rows[int(i)] is not None for i in (np.floor(place), np.ceil(place)))

    def probabilities_at(
        self,
        n_shots: float,
        temperature: float,
        features: Mapping[str, float] | None = None,
        n_neighbors: int = 5,
    ) -> np.ndarray:
        """Probability of each strategy, softmax(score / temperature).

        Parameters
        ----------
        n_shots : float
            Number of shots.
        temperature : float
            In units of the score.
        features, n_neighbors : see `scores_at`
            Features of the task, and how many tables to ask.

        Returns
        -------
        ndarray of shape (n_strategies,)
            They sum to one.
        """
        scores = self.scores_at(n_shots, features, n_neighbors)
        if not np.isfinite(scores).any():  # nothing works at both ends: nothing to tell them by
            return np.full(len(scores), 1 / len(scores))
        odds = np.exp((scores - scores.max()) / temperature)
        return odds / odds.sum()

    def _of(self, names: Sequence[str]) -> Experience:
        """The same of some of the strategies alone."""
        at = [self.names.index(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            successes=tuple(tuple(row[i] for i in at) for row in self.successes),
            totals=tuple(tuple(row[i] for i in at) for row in self.totals),
            products=tuple(tuple(tuple(row[j] for j in at) for row in (E[i] for i in at))
                           for E in self.products),
            tables=(),
        )  # fmt: skip

    def __add__(self, other: Experience) -> Experience:
        if not isinstance(other, Experience):
            return NotImplemented
        if other.names != self.names:
            raise ValueError(
                f"Experience of other strategies cannot be added: {list(self.names)} and "
                f"{list(other.names)}."
            )
        rows: dict[int, Any] = {}
        for table in (self, other):
            parts = zip(table.n_episodes, table.successes, table.totals, table.worst, strict=True)
            for shots, (n, fine, total, worst) in zip(table.n_shots, parts, strict=True):
                if shots in rows:
                    n0, fine0, total0, worst0 = rows[shots]
                    fine = tuple(a + b for a, b in zip(fine0, fine, strict=True))
                    total = tuple(a + b for a, b in zip(total0, total, strict=True))
                    n, worst = n0 + n, min(worst0, worst)
                rows[shots] = n, fine, total, worst
        ordered = sorted(rows)
        products: dict[int, np.ndarray] = {}
        for table in (self, other):
            for shots, one in zip(table.n_shots, table.products, strict=False):
                products[shots] = products.get(shots, 0.0) + np.array(one)
        stacked = bool(self.products and other.products)
        n_episodes, successes, totals, worsts = zip(*(rows[k] for k in ordered), strict=True)
        tables = sorted(self.tables + other.tables, key=astuple)  # whichever came first
        return Experience(
            self.names, tuple(ordered), n_episodes, successes, totals, worsts, tuple(tables),
            _tuples([products[k].tolist() for k in ordered]) if stacked else (),
        )  # fmt: skip

    def to_frame(self) -> Any:
        """The table as a DataFrame.

        Returns
        -------
        pandas.DataFrame
            One row for each strategy and number of shots, with ``mean_score``,
            ``n_episodes`` and ``n_failures``.
        """
        import pandas as pd  # type: ignore[import-untyped]

        n_shots, n_names = len(self.n_shots), len(self.names)
        return pd.DataFrame(
            {
                "strategy": self.names * n_shots,
                "n_shots": np.repeat(self.n_shots, n_names),
                "mean_score": self.mean_scores.ravel(),
                "n_episodes": self.counts.ravel(),
                "n_failures": (self.counts - np.array(self.successes)).ravel(),
            }
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a file of JSON and a checksum, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file.
        """
        told = asdict(self)
        for name in ("tables", "products"):
            if not told[name]:
                del told[name]
        kind = FORMAT_OF_TABLES if self.tables else FORMAT
        features = {"features": FEATURES} if self.tables else {}
        told = {"format": FORMAT_OF_PRODUCTS if self.products else kind} | features | told
        text = json.dumps(told, allow_nan=False)
        write_sealed(path, text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Experience:
        """Read a table that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        Experience
            The table, equal to the one saved.

        Raises
        ------
        ValueError
            When the file is damaged or holds something else.
        """
        try:
            told = json.loads(read_sealed(path))
            written = told.pop("format")
            if written not in (FORMAT, FORMAT_OF_TABLES, FORMAT_OF_PRODUCTS):
                raise ValueError("of another format")
            if "tables" in told and told.pop("features") != list(FEATURES):
                raise ValueError("of other features")
            parts = [
                PastTable(**{k: _tuples(v) for k, v in one.items()})
                for one in told.pop("tables", ())
            ]
            table = cls(**{k: _tuples(v) for k, v in told.items()}, tables=tuple(parts))
            size = (len(table.n_shots), len(table.names))
            if {np.shape(table.totals), np.shape(table.successes)} != {size}:
                raise ValueError("of another shape")
            if not all(t.is_sound(len(table.names)) for t in parts):
                raise ValueError("tables of another shape")
            if table.products:
                found = np.array(table.products, dtype=float)
                if found.shape != (*size, size[1]) or not np.isfinite(found).all():
                    raise ValueError("products of another shape")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} does not hold the experience of strategies.") from error
        return table


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
