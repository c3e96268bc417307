"""What past tasks say about how sure an estimator is: one immutable artefact, one file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax

from ..meta_init import read_arrays, write_arrays
from ..tasks import difference_of, identity_of
from ._conformal import TaskQuantiles, check_coverage, class_sets, intervals
from .calibration import at_shots

FORMAT = 1


@dataclass(frozen=True, eq=False)
class TaskCalibration:
    """What past tasks say about how sure an estimator is, by number of shots.

    Do not call the constructor: calibrations come from ``TrustLearner.calibration_``
    or `load`. Copies and clones are the object itself.

    Parameters
    ----------
    kind : {"classifier", "regressor"}
        What it is about.
    n_shots : tuple of int
        Numbers of shots, ascending: support rows a class, or a task for regression.
    scales : ndarray of shape (n_shots, 1) or (n_shots, n_outputs)
        Temperatures; or factors on the standard deviations (for an estimator that
        has none, the standard deviations themselves).
    scores : tuple of tuple of TaskQuantiles
        By number of shots and output, the conformal scores of past queries.
    known_rows : tuple of TaskQuantiles
        By number of shots, minus the scores of queries that are of a task's classes;
        empty for regression.
    distances, losses : tuple of (TaskQuantiles or None)
        By number of shots, how far support sets of past tasks lay from rows of other
        tasks, and the loss of support rows that were held out of `fit`; None where
        past tasks cannot tell.
    past_rows : ndarray of shape (n_past, n_features)
        Features over `spread` of some rows of past tasks; may be empty.
    spread : ndarray of shape (n_features,)
        Standard deviation of features within classes (for regression, of all rows).
    settings : dict
        How it was learned, with which ``estimator``, and ``reliability``; JSON types only.

    See Also
    --------
    TrustLearner : Learns it.
    TrustedClassifier : Uses it.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from fewshot_sklearn import TrustedClassifier, TrustLearner
    >>> X, y = make_blobs(900, centers=30, n_features=3, random_state=0)
    >>> learner = TrustLearner(GaussianNB(), n_shots=(2, 5), n_episodes=40, random_state=0)
    >>> known = learner.fit(X, y).calibration_
    >>> known.n_shots, known.scales.shape
    ((2, 5), (2, 1))
    >>> TrustedClassifier(GaussianNB(), known).fit(X[:50], y[:50] % 3).predict_set(X[:2]).shape
    (2, 3)
    """

    kind: str
    n_shots: tuple[int, ...]
    scales: np.ndarray
    scores: tuple[tuple[TaskQuantiles, ...], ...]
    known_rows: tuple[TaskQuantiles, ...]
    distances: tuple[TaskQuantiles | None, ...]
    losses: tuple[TaskQuantiles | None, ...]
    past_rows: np.ndarray
    spread: np.ndarray
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        for array in self._arrays().values():
            array.flags.writeable = False

    def check_made_with(self, estimator: Any) -> None:
        """Check that it is about this estimator.

        Parameters
        ----------
        estimator : estimator
            Any, fitted or not.

        Raises
        ------
        ValueError
            When it was learned with an estimator of another class, of other parameters that
            change its answers, or that starts from another meta-init.

        Warns
        -----
        UserWarning
            When it does not say what it was learned with: earlier versions did not save that.
        """
        known = self.settings.get("estimator")
        if known is None:
            warnings.warn(
                "The calibration does not say which estimator it was learned with; it is taken to "
                f"be about {type(estimator).__name__}. Learn it anew with TrustLearner to be sure.",
                stacklevel=4,
            )
        elif other := difference_of(known, identity_of(estimator)):
            raise ValueError(
                f"calibration was learned with {other}: it can promise nothing here. Learn one "
                "with TrustLearner(estimator).fit(X, y, groups)."
            )

    # ------------------------------------------------------------------ by number of shots
    def scale_at(self, n_shots: float) -> np.ndarray:
        """Temperature or factors on deviations, interpolated in the logarithm of the shots.

        Parameters
        ----------
        n_shots : float
            Support rows a class (a task); constant beyond the numbers known.

        Returns
        -------
        ndarray of shape (1,) or (n_outputs,)
            The scale.
        """
        return at_shots(n_shots, self.n_shots, self.scales)

    def level_below(self, n_shots: float) -> int | None:
        """Index of the largest known number of shots that is not above this one.

        Parameters
        ----------
        n_shots : float
            Support rows a class (a task).

        Returns
        -------
        int or None
            None where all known numbers are larger: nothing can be promised then.
        """
        below = int(np.searchsorted(self.n_shots, n_shots + 1e-9)) - 1
        return None if below < 0 else below

    def class_sets(
        self, logits: np.ndarray, n_shots: float, coverage: float, allow_empty: bool = False
    ) -> np.ndarray:
        """Sets of classes that hold the true one in a share `coverage` of rows of new tasks.

        Parameters
        ----------
        logits : ndarray of shape (n_rows, n_classes)
            Logits as the estimator gives them.
        n_shots : float
            Support rows a class; the nearest known number below counts.
        coverage : float
            Share of rows.
        allow_empty : bool, default=False
            Whether sets may be empty, which says that no class is likely.

        Returns
        -------
        ndarray of bool of shape (n_rows, n_classes)
            All classes where the past tasks are too few for the coverage.
        """
        level = self.level_below(n_shots)
        coverage = check_coverage(coverage)
        if level is None:
            return np.ones(logits.shape, dtype=bool)
        log_proba = log_softmax(logits / self.scales[level], axis=1)
        return class_sets(log_proba, self.scores[level][0].quantile(coverage), allow_empty)

    def intervals(
        self, mean: np.ndarray, std: np.ndarray | None, n_shots: float, coverage: float
    ) -> np.ndarray:
        """Intervals that hold the target in a share `coverage` of rows of new tasks.

        Parameters
        ----------
        mean, std : ndarray of shape (n_rows, n_outputs)
            Predictions as the estimator gives them; no `std` where it has none.
        n_shots : float
            Support rows; the nearest known number below counts.
        coverage : float
            Share of rows, for each output.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs, 2)
            Lower and upper ends; infinite where the past tasks are too few.
        """
        level = self.level_below(n_shots)
        coverage = check_coverage(coverage)
        if level is None:
            return intervals(mean, np.ones_like(mean), np.array(np.inf))
        std = np.ones_like(mean) if std is None else std
        quantiles = np.array([q.quantile(coverage) for q in self.scores[level]])
        return intervals(mean, self.scales[level] * std, quantiles)

    def row_threshold(self, n_shots: float, level: float) -> float:
        """Score below which at most a share `level` of rows of a task's classes fall.

        Parameters
        ----------
        n_shots : float
            Support rows a class; the nearest known number below counts.
        level : float
            Share of rows.

        Returns
        -------
        float
            Minus infinity where the past tasks are too few for the level.
        """
        below = self.level_below(n_shots)
        if below is None:
            return float("-inf")
        return -self.known_rows[below].quantile(1 - check_coverage(level, "level"))

    def task_p_values(self, distance: float, loss: float, n_shots: float) -> dict[str, float]:
        """Whether a support set looks like one of a past task.

        Parameters
        ----------
        distance, loss : float
            Distance to past rows and held-out loss of the support; NaN if unknown.
        n_shots : float
            Support rows a class (a task); the nearest known number below counts.

        Returns
        -------
        dict of str to float
            Conformal p-values of those that are known, ``"distance"`` and
            ``"loss"``.
        """
        below = self.level_below(n_shots)
        if below is None:
            return {}
        pairs = {"distance": (distance, self.distances), "loss": (loss, self.losses)}
        return {
            name: known[below].p_value(value)  # type: ignore[union-attr]
            for name, (value, known) in pairs.items()
            if known[below] is not None and not np.isnan(value)
        }

    # ------------------------------------------------------------------ one file
    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {"scales": self.scales, "past_rows": self.past_rows, "spread": self.spread}
        for name, quantiles in self._quantiles().items():
            arrays[f"{name}/values"] = quantiles.values
            arrays[f"{name}/mass"] = quantiles.mass
        return arrays

    def _quantiles(self) -> dict[str, TaskQuantiles]:
        found = {
            f"scores/{i}/{output}": quantiles
            for i, outputs in enumerate(self.scores)
            for output, quantiles in enumerate(outputs)
        }
        for name in ("known_rows", "distances", "losses"):
            every = enumerate(getattr(self, name))
            found |= {f"{name}/{i}": q for i, q in every if q is not None}
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the calibration to a safetensors file, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file, customarily ``*.safetensors``. It is replaced if it exists.
        """
        told = {
            "kind": self.kind,
            "n_shots": self.n_shots,
            "n_tasks": {name: q.n_tasks for name, q in self._quantiles().items()},
            "settings": dict(self.settings),
        }
        write_arrays(path, "task_calibration", FORMAT, self._arrays(), told)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TaskCalibration:
        """Read a calibration that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        TaskCalibration
            The calibration, equal to the one saved.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is damaged or holds something else.
        """
        what = "a calibration learned from tasks"
        arrays, told = read_arrays(path, "task_calibration", FORMAT, what)
        try:
            found = {
                name: TaskQuantiles(arrays[f"{name}/values"], arrays[f"{name}/mass"], n)
                for name, n in told["n_tasks"].items()
            }
            shots = tuple(told["n_shots"])
            each = range(len(shots))
            regresses = told["kind"] == "regressor"
            return cls(
                told["kind"],
                shots,
                arrays["scales"],
                tuple(
                    tuple(found[f"scores/{i}/{o}"] for o in range(arrays["scales"].shape[1]))
                    for i in each
                ),
                () if regresses else tuple(found[f"known_rows/{i}"] for i in each),
                tuple(found.get(f"distances/{i}") for i in each),
                tuple(found.get(f"losses/{i}") for i in each),
                arrays["past_rows"],
                arrays["spread"],
                told["settings"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} does not hold {what}.") from error

    def __sklearn_clone__(self) -> TaskCalibration:
        return self

    def __copy__(self) -> TaskCalibration:
        return self

    def __deepcopy__(self, memo: Any) -> TaskCalibration:
        return self

    def __repr__(self) -> str:
        n_tasks = max((q.n_tasks for outputs in self.scores for q in outputs), default=0)
        return f"TaskCalibration({self.kind}, n_shots={self.n_shots}, {n_tasks} past tasks)"
