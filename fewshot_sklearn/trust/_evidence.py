"""What an estimator's answers on past tasks teach: everything that a calibration holds.

C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger. On calibration of modern neural
networks. ICML 2017.

Y. Lee, R. F. Barber and R. Willett. Distribution-free inference with hierarchical
data. arXiv 2306.06342, 2023.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from ..model_selection import Answers, EpisodeAnswers, held_out_losses, joined_answers
from ..tasks import EpisodeRows
from ._conformal import TaskQuantiles, class_scores
from .calibration import class_reliability, fit_scale, fit_temperature, gaussian_reliability
from .novelty import row_scores, task_distance, within_class_spread
from .task_calibration import TaskCalibration

#: Rows of past tasks that a calibration keeps, at most.
PAST_ROWS = 512


class Fold(NamedTuple):
    """Episodes of one half of the past tasks, and which task each is of."""

    rows: EpisodeRows
    tasks: np.ndarray


class Level(NamedTuple):
    """What is learned for one number of shots."""

    scale: np.ndarray
    scores: tuple[TaskQuantiles, ...]
    known_rows: TaskQuantiles | None
    distances: TaskQuantiles | None
    losses: TaskQuantiles | None
    reliability: list[dict[str, Any]]


class PastAnswers:
    """The past tasks as an estimator sees them."""

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: np.ndarray,
        groups: np.ndarray | None,
        novelty_score: str,
        seed: int,
        n_jobs: int | None,
    ):
        self.answers = EpisodeAnswers(estimator, X, y, n_jobs)
        self.classifies = self.answers.classifies
        self.y, self.groups, self.novelty_score = y, groups, novelty_score
        embeds = self.answers.batched
        rng = np.random.default_rng(seed)
        sample = np.sort(rng.permutation(len(y))[:PAST_ROWS])
        Z = self.answers.features(sample)
        if Z is None and novelty_score in ("class_mean", "support_row") and self.classifies:
            raise ValueError(
                f"X must hold finite numbers for novelty_score={novelty_score!r}: sentences, files "
                "and tables go through the steps of a pipeline that MetaTrainer has trained, or "
                "are made numbers before. novelty_score='max_probability' takes them as they are."
            )
        # what has an equal share: groups, or classes where these are drawn from one pool
        self.unit = np.zeros(len(y), dtype=int) if groups is None else groups
        if groups is None:
            self.unit = np.unique(y, return_inverse=True)[1]
        self.numeric = Z is not None
        self.sample = sample
        if Z is None:
            self.spread, self.past_rows = np.empty(0), np.empty((0, 0))
            return
        labels = np.zeros(len(sample), dtype=int)
        if self.classifies:  # a sample has few rows of each of many classes: take some whole
            code = np.unique(y, return_inverse=True)[1]
            labels = code if groups is None else groups * (code.max() + 1) + code
            names = rng.permutation(np.unique(labels))
            order = np.argsort(np.argsort(names)[np.searchsorted(np.sort(names), labels)])
            whole = np.sort(order[: 4 * PAST_ROWS])
            spread = within_class_spread(self._numbers(whole), labels[whole], each=not embeds)
        else:
            spread = within_class_spread(Z, labels, each=not embeds)
        self.spread, self.past_rows = spread, Z / spread

    def _numbers(self, used: np.ndarray) -> np.ndarray:
        Z = self.answers.features(used)
        assert Z is not None
        return Z

    def level(self, folds: list[Fold]) -> Level:
        """All that episodes of one number of shots teach."""
        parts = [self.answers.about_queries(fold.rows) for fold in folds]
        every = joined_answers(parts)
        task = self.unit[every.row]
        scale = self._scale(every)
        scores = [
            TaskQuantiles.from_scores(column, task) for column in self._scores(every, scale).T
        ]
        known_rows = None
        distances: list[float] = []
        losses: list[np.ndarray] = []
        of: list[np.ndarray] = []
        if self.classifies:
            told = [self._row_scores(f, p, scale) for f, p in zip(folds, parts, strict=True)]
            known_rows = TaskQuantiles.from_scores(
                -np.concatenate([scores for scores, _ in told]),
                task[np.concatenate([known for _, known in told])],
            )
        for fold in folds:
            distances.extend(self._distances(fold))
            held_out = self.answers.about_held_out_support(fold.rows)
            if len(held_out.truth):
                episodes, place = np.unique(held_out.episode, return_inverse=True)
                each = held_out_losses(held_out, scale)
                losses.append(np.bincount(place, each) / np.bincount(place))
                of.append(fold.tasks[episodes])
        own = np.concatenate([fold.tasks for fold in folds])
        fine = ~np.isnan(distances)
        return Level(
            scale,
            tuple(scores),
            known_rows,
            TaskQuantiles.from_scores(np.array(distances)[fine], own[fine]) if fine.all() else None,
            _quantiles_of(losses, of),
            self._reliability(parts),
        )

    def calibration(self, levels: dict[int, Level], settings: dict[str, Any]) -> TaskCalibration:
        """The artefact."""
        every = list(levels.values())
        reliability = [
            {"n_shots": k} | row for k, level in levels.items() for row in level.reliability
        ]
        return TaskCalibration(
            "classifier" if self.classifies else "regressor",
            tuple(levels),
            np.stack([level.scale for level in every]),
            tuple(level.scores for level in every),
            tuple(level.known_rows for level in every if level.known_rows is not None),
            tuple(level.distances for level in every),
            tuple(level.losses for level in every),
            self.past_rows,
            self.spread,
            settings | {"reliability": reliability},
        )

    # ------------------------------------------------------------------ temperature or scale
    def _scale(self, answers: Answers) -> np.ndarray:
        if self.classifies:
            return np.array([fit_temperature(answers.outputs, answers.truth)])
        return fit_scale(answers.truth - answers.outputs, _deviations(answers))

    def _scores(self, answers: Answers, scale: np.ndarray) -> np.ndarray:
        if self.classifies:
            log_proba = log_softmax(answers.outputs / scale, axis=1)
            return class_scores(log_proba, answers.truth)[:, None]
        return np.abs(answers.truth - answers.outputs) / (scale * _deviations(answers))

    def _reliability(self, parts: list[Answers]) -> list[dict[str, Any]]:
        """Before and after, each half measured with what was learned on the other."""
        told: list[dict[str, Any]] = []
        if not all(len(part.truth) for part in parts):
            return told
        scales = [self._scale(part) for part in reversed(parts)]
        for calibrated in (False, True):
            if not calibrated and not self.classifies and parts[0].std is None:
                continue
            used = scales if calibrated else [np.ones_like(scale) for scale in scales]
            if self.classifies:
                known = [part.truth >= 0 for part in parts]
                scaled = [
                    part._replace(
                        outputs=log_softmax(part.outputs[k] / scale, axis=1),
                        truth=part.truth[k],
                        episode=part.episode[k],
                        row=part.row[k],
                    )
                    for part, scale, k in zip(parts, used, known, strict=True)
                ]
                every = joined_answers(scaled)
                row = class_reliability(every.outputs, every.truth)
            else:
                pairs = list(zip(parts, used, strict=True))
                row = gaussian_reliability(
                    np.concatenate([part.truth - part.outputs for part in parts]),
                    np.concatenate([scale * _deviations(part) for part, scale in pairs]),
                )
            told.append({"calibrated": calibrated} | row)
        return told

    # ------------------------------------------------------------------ novelty
    def _row_scores(
        self, fold: Fold, answers: Answers, scale: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the queries of known classes, and which these are."""
        rows, known = self.answers.coded(fold.rows), answers.truth >= 0
        logits = answers.outputs / scale
        if self.novelty_score in ("energy", "max_probability"):
            return row_scores(self.novelty_score, logits[known]), known
        scores = np.empty(len(known))
        assert rows.support_codes is not None
        for i in np.unique(answers.episode):
            own, real = answers.episode == i, rows.support[i] >= 0
            Z = self._numbers(rows.support[i][real]) / self.spread
            Z_query = self._numbers(rows.query[i][rows.query[i] >= 0]) / self.spread
            scores[own] = row_scores(
                self.novelty_score, logits[own], Z, rows.support_codes[i][real], Z_query
            )
        return scores[known], known

    def _distances(self, fold: Fold) -> list[float]:
        """Distances of support sets to the sample of past rows, less those of their own task."""
        if not self.numeric:
            return [float("nan")] * len(fold.tasks)
        found = []
        for support in fold.rows.support:
            used = support[support >= 0]
            other = ~np.isin(self.unit[self.sample], self.unit[used])
            found.append(task_distance(self._numbers(used) / self.spread, self.past_rows, other))
        return found


def _quantiles_of(scores: list[np.ndarray], tasks: list[np.ndarray]) -> TaskQuantiles | None:
    if not scores:
        return None
    return TaskQuantiles.from_scores(np.concatenate(scores), np.concatenate(tasks))


def _deviations(answers: Answers) -> np.ndarray:
    return np.ones_like(answers.outputs) if answers.std is None else answers.std
