"""Learning from past tasks how sure an estimator may be of its answers for a new one.

C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger. On calibration of modern neural
networks. ICML 2017.

Y. Lee, R. F. Barber and R. Willett. Distribution-free inference with hierarchical
data. arXiv 2306.06342, 2023.

A. Fisch, T. Schuster, T. Jaakkola and R. Barzilay. Few-shot conformal prediction with
auxiliary tasks. ICML 2021.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.utils import check_consistent_length, check_random_state

from ..algorithms import ProtoNetClassifier, RidgeHeadRegressor
from ..estimators import final_step
from ..model_selection import EpisodeSplit, tasks_seen
from ..tasks import (
    N_JOBS,
    Anything,
    EpisodeRows,
    IntOrRange,
    Learns,
    OneOf,
    Seed,
    Whole,
    WholeOrRange,
    check_int_or_range,
    check_n_shots,
    check_parameters,
    check_rows,
    comparable,
    distinct,
    identity_of,
    number_targets,
    numbered,
    warn_of_n_way,
)
from ._evidence import Fold, PastAnswers
from .classifier import TrustedClassifier
from .novelty import ROW_SCORES
from .regressor import TrustedRegressor


class TrustLearner(BaseEstimator):
    """Learn from past tasks how sure an estimator may be: temperatures, coverage, novelty.

    The estimator is fitted and asked on episodes of the past tasks, for several
    numbers of shots. What it got right there says what its answers are worth on a
    new task of as few labels, which could not say it itself:

    * the temperature [1]_, or the scale of standard deviations, of most likelihood;
    * quantiles of conformal scores, each past task having an equal share [2]_ [3]_;
    * how far rows of a task's own classes lie from its support;
    * how far support sets lie from other tasks' rows, and their loss when held out.

    The past tasks should be ones that meta-training has not seen, and like those
    to come: keep some back.

    Parameters
    ----------
    estimator : estimator or None, default=None
        Any classifier or regressor; meta-trained ones of this package answer many
        episodes at once, of others each is fitted. None is
        ``ProtoNetClassifier()``, or with ``n_way=None`` ``RidgeHeadRegressor()``.
    n_way : int, (low, high) or None, default=5
        Classes an episode; classification only. None makes each group one task
        with all its classes.
    n_shots : sequence of int, default=(1, 2, 5, 10)
        Numbers of support rows a class (a task, for regression) to learn about.
    n_query : int, (low, high) or None, default=15
        Query rows a class (a task); None takes all that the support leaves.
    n_episodes : int, default=200
        Episodes for each number of shots.
    novelty_score : {"class_mean", "support_row", "energy", "max_probability"}, \
default="class_mean"
        What `TrustedClassifier.score_samples` is: see there. The last two need no
        numeric rows.
    n_jobs : int or None, default=None
        Processes for estimators that are fitted one episode after the other.
    random_state : int, RandomState instance or None, default=None
        Seeds the episodes.

    Attributes
    ----------
    calibration_ : TaskCalibration
        What was learned.
    estimator_ : TrustedClassifier or TrustedRegressor
        The estimator with it, ready for new tasks.
    reliability_ : list of dict
        For each number of shots two rows, before and after calibration: accuracy,
        ECE of 15 equal and 15 adaptive bins, negative log likelihood and Brier
        score; or for regression RMSE, likelihood and the coverage of 90 % Gaussian
        intervals (nothing before for an estimator without deviations). Measured on
        one half of the past tasks with the scale learned on the other, both ways.
        ``pandas.DataFrame(reliability_)`` makes a table.

    See Also
    --------
    TrustedClassifier : Uses what was learned.
    TrustedRegressor : Uses what was learned.
    MetaTrainer : Meta-trains the estimator, on other past tasks.

    Notes
    -----
    What has an equal share of the mass is a group, all its episodes together. The
    coverage promised is then for new groups, and K of them can promise no more than
    K / (K + 1). Without groups it is a class of the pool: how well rows are told apart
    depends most on the class they are of, and the classes to come are new. That is
    more cautious than to count each episode as a task (K is the number of classes,
    not of episodes), and still not exact, as an episode's classes are in it together.
    For statements about whole tasks, without groups, each episode does count as one.

    Temperatures are learned on the same tasks as the quantiles. One number does not
    fit a few hundred tasks closely, but strictly the promise is for a temperature
    known before. The scale of deviations cancels out of intervals.

    Episodes of tasks with too few rows for a number of shots are left out.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern
       neural networks", ICML 2017, section 4.2.
    .. [2] Y. Lee, R. F. Barber and R. Willett, "Distribution-free inference with
       hierarchical data", arXiv 2306.06342, 2023.
    .. [3] A. Fisch, T. Schuster, T. Jaakkola and R. Barzilay, "Few-shot conformal
       prediction with auxiliary tasks", ICML 2021.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from fewshot_sklearn import TrustLearner
    >>> X, y = make_blobs(900, centers=30, cluster_std=4, random_state=0)
    >>> learner = TrustLearner(
    ...     KNeighborsClassifier(1), n_way=3, n_shots=(1, 5), n_episodes=20, random_state=0
    ... ).fit(X, y)
    >>> bare, calibrated = learner.reliability_[0], learner.reliability_[1]
    >>> bool(bare["ece"] > 2 * calibrated["ece"])  # a single neighbour is always sure
    True
    """

    _constraints = {
        "estimator": Learns("classifier") | Learns("regressor") | None,
        "n_way": WholeOrRange(2) | None,
        "n_shots": Anything(),  # see check_n_shots
        "n_query": WholeOrRange(1) | None,
        "n_episodes": Whole(1),
        "novelty_score": OneOf(*ROW_SCORES),
        "n_jobs": N_JOBS,
        "random_state": Seed(),
    }

    __metadata_request__fit = {"groups": True}

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_way: IntOrRange | None = 5,
        n_shots: Any = (1, 2, 5, 10),
        n_query: IntOrRange | None = 15,
        n_episodes: int = 200,
        novelty_score: str = "class_mean",
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.n_way = n_way
        self.n_shots = n_shots
        self.n_query = n_query
        self.n_episodes = n_episodes
        self.novelty_score = novelty_score
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> TrustLearner:
        """Learn from past tasks, forgetting what was known.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_rows, ...)
            Rows of all past tasks, of whatever kind the estimator takes.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Labels or targets.
        groups : array-like of shape (n_rows,) or None, default=None
            Regression: the task of each row. Classification: optional; the classes
            of an episode then come from one group, which is one task.

        Returns
        -------
        self : object
            The learner.

        Raises
        ------
        ValueError
            When no past task has rows enough for any number of shots.

        Warns
        -----
        UserWarning
            When the meta-init was trained on some of these tasks; when numbers of
            shots or episodes are left out; when the tasks are too few to promise a
            coverage of 0.9.
        """
        check_parameters(self)
        estimator = self.estimator
        if estimator is None:
            estimator = RidgeHeadRegressor() if self.n_way is None else ProtoNetClassifier()
        shots = check_n_shots(self.n_shots)
        if is_regressor(estimator):
            warn_of_n_way(self.n_way, final_step(estimator))
        check_rows(X, self)
        y = comparable(y, "y") if is_classifier(estimator) else number_targets(y)
        check_consistent_length(X, y, groups)
        if is_classifier(estimator):
            distinct(y, "y")  # which says that labels must be of one kind
        if seen := tasks_seen(estimator, y, groups, X):
            warnings.warn(seen, stacklevel=2)
        groups = None if groups is None else numbered(groups)[1]
        self._seed = int(check_random_state(self.random_state).randint(2**31))
        past = PastAnswers(estimator, X, y, groups, self.novelty_score, self._seed, self.n_jobs)
        folds = {k: self._draw(y, groups, k, past.classifies) for k in shots}
        if lost := [k for k in shots if not len(folds[k][0].tasks)]:
            warnings.warn(f"No past task has rows enough for n_shots={lost}.", stacklevel=2)
        levels = {k: past.level(folds[k]) for k in shots if k not in lost}
        if not levels:
            raise ValueError(f"n_shots={shots} are more than any past task has rows for.")
        self.calibration_ = past.calibration(levels, self._settings(past, estimator))
        least = min(level.scores[0].n_tasks for level in levels.values())
        if least < 9:
            warnings.warn(
                f"{least} past task(s) can promise a coverage of {least}/{least + 1} at most: with "
                "more, sets hold all classes and intervals are infinite. (Without groups, each "
                "class counts as a task.)",
                stacklevel=2,
            )
        self.reliability_ = self.calibration_.settings["reliability"]
        make = TrustedClassifier if past.classifies else TrustedRegressor
        self.estimator_ = make(clone(estimator), self.calibration_)
        return self

    def _settings(self, past: PastAnswers, estimator: Any) -> dict[str, Any]:
        n_way = list(self.n_way) if isinstance(self.n_way, tuple) else self.n_way
        return {
            "n_way": n_way if past.classifies else None,
            "n_query": list(self.n_query) if isinstance(self.n_query, tuple) else self.n_query,
            "n_episodes": self.n_episodes,
            "novelty_score": past.novelty_score,
            "groups": past.groups is not None,
            "estimator": identity_of(estimator),
        }

    # ------------------------------------------------------------------ episodes
    def _draw(
        self, y: np.ndarray, groups: np.ndarray | None, k: int, classifies: bool
    ) -> list[Fold]:
        """Episodes of k shots of two halves of the past tasks that share no group, or class."""
        n_way = self.n_way if classifies else None
        rng = np.random.default_rng([self._seed, k])
        halves: list[np.ndarray] = []
        if groups is None and n_way is not None:
            names, codes = np.unique(y, return_inverse=True)
            if len(names) >= 2 * check_int_or_range(n_way, "n_way", 2)[1]:
                first = np.isin(codes, rng.permutation(len(names))[: len(names) // 2])
                halves = [np.flatnonzero(first), np.flatnonzero(~first)]
        with warnings.catch_warnings():  # tasks that are short are left out below
            warnings.filterwarnings("ignore", "Some of the data is short")
            if halves:
                sizes = self.n_episodes // 2, self.n_episodes - self.n_episodes // 2
                parts = [
                    _renumbered(self._split(n_way, k, n, i).episodes(y[half]), half)
                    for i, (n, half) in enumerate(zip(sizes, halves, strict=True))
                ]
                tasks = [np.arange(sizes[0]), sizes[0] + np.arange(sizes[1])]
                folds = [Fold(p, t) for p, t in zip(parts, tasks, strict=True)]
                return [_complete(fold, k) for fold in folds]
            rows = self._split(n_way, k, self.n_episodes, 0).episodes(y, groups)
        own = np.arange(self.n_episodes) if groups is None else groups[rows.support[:, 0]]
        whole = _complete(Fold(rows, own), k)
        names = np.unique(whole.tasks)
        first = np.isin(whole.tasks, rng.permutation(names)[: len(names) // 2])
        if len(names) == 1:  # nothing but halves of its episodes to measure on
            first = np.arange(len(first)) % 2 == 0
        return [_chosen(whole, ~first), _chosen(whole, first)]

    def _split(self, n_way: Any, k: int, n_episodes: int, half: int) -> EpisodeSplit:
        seed = int(np.random.default_rng([self._seed, k, half]).integers(2**31))
        return EpisodeSplit(n_way, k, self.n_query, n_episodes, seed)


def _renumbered(rows: EpisodeRows, numbers: np.ndarray) -> EpisodeRows:
    support, query = (np.where(a >= 0, numbers[a], -1) for a in rows[:2])
    return rows._replace(support=support, query=query)


def _chosen(fold: Fold, which: np.ndarray) -> Fold:
    parts = (None if a is None else a[which] for a in fold.rows)
    return Fold(EpisodeRows(*parts), fold.tasks[which])  # type: ignore[arg-type]


def _complete(fold: Fold, k: int) -> Fold:
    """The episodes that have k shots and something to ask."""
    rows = fold.rows
    ways = 1 if rows.support_codes is None else rows.support_codes.max(1) + 1
    enough = (rows.support >= 0).sum(1) == k * ways
    return _chosen(fold, enough & (rows.query >= 0).any(1))
