"""Scores over episodes: their mean, and how far it may be from that of new tasks.

A. C. Cameron and D. L. Miller. A practitioner's guide to cluster-robust inference.
Journal of Human Resources 50, 2015. For intervals where episodes share tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t


def standard_error(scores: np.ndarray, clusters: np.ndarray | None = None) -> tuple[float, int]:
    """Standard error of a mean, robust to what scores of one cluster have in common.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores.
    clusters : ndarray of shape (n,) or None, default=None
        Cluster (task) of each score; None takes all scores as independent.

    Returns
    -------
    se : float
        With residuals e_i and G clusters, sqrt(G / (G - 1) sum_g (sum_{i in g}
        e_i)^2) / n [1]_; the usual standard error where every score is a cluster
        of its own. NaN for a single cluster.
    dof : int
        Degrees of freedom, G - 1.

    References
    ----------
    .. [1] A. C. Cameron and D. L. Miller, "A practitioner's guide to cluster-robust
       inference", Journal of Human Resources 50, 2015, sections II.C and VI.
    """
    sums = residuals = scores - scores.mean()
    if clusters is not None:
        sums = np.bincount(np.unique(clusters, return_inverse=True)[1], residuals)
    n = len(sums)
    if n < 2:
        return float("nan"), n - 1
    return float(np.sqrt(n / (n - 1) * (sums**2).sum()) / len(scores)), n - 1


@dataclass(frozen=True)
class FewShotScore:
    """Scores over episodes.

    Parameters
    ----------
    scores : ndarray of shape (n_episodes,)
        One score an episode.
    clusters : ndarray of shape (n_episodes,) or None, default=None
        Task (group) that each episode was drawn from. Episodes of one task have
        much in common, so that the interval is then that of a mean over
        clusters: what is to be expected of new tasks. None takes the episodes
        as independent, as is usual where classes are drawn from one pool.

    Attributes
    ----------
    mean : float
        Mean score.
    ci95 : float
        Half width of the 95% confidence interval of the mean: 1.96 standard
        errors; with clusters, the cluster-robust standard error [1]_ times the
        quantile of Student's t with one degree of freedom less than there are
        clusters. NaN for a single episode or cluster.

    References
    ----------
    .. [1] A. C. Cameron and D. L. Miller, "A practitioner's guide to cluster-robust
       inference", Journal of Human Resources 50, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn import FewShotScore
    >>> print(FewShotScore(np.array([0.8, 1.0, 0.9, 0.9])))
    0.9000 ± 0.0800 (4 episodes)
    >>> print(FewShotScore(np.array([0.8, 1.0, 0.9, 0.9]), np.array(["a", "b", "c", "c"])))
    0.9000 ± 0.1863 (4 episodes of 3 tasks)
    """

    scores: np.ndarray
    clusters: np.ndarray | None = None

    def __post_init__(self) -> None:
        scores, clusters = np.asarray(self.scores), self.clusters
        if scores.ndim != 1 or not len(scores) or scores.dtype.kind not in "fiub":
            raise ValueError(
                f"scores must be one number an episode, one or more, got {self.scores!r}."
            )
        if clusters is not None and np.shape(clusters) != scores.shape:
            raise ValueError(
                f"clusters must be one id a score, {len(scores)} of them, got {clusters!r}."
            )
        object.__setattr__(self, "scores", scores)

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    @property
    def ci95(self) -> float:
        error, dof = standard_error(self.scores, self.clusters)
        if self.clusters is None or dof < 1:
            return 1.96 * error
        return float(student_t.ppf(0.975, dof) * error)

    def __str__(self) -> str:
        counted = f"{len(self.scores):,} episodes"
        if self.clusters is not None:
            counted += f" of {len(np.unique(self.clusters)):,} tasks"
        return f"{self.mean:.4f} ± {self.ci95:.4f} ({counted})"
