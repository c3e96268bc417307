"""Does meta-learning help here? Estimators side by side, by number of labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, check_random_state

from ..tasks import (
    N_JOBS,
    SCORING,
    Flag,
    IntOrRange,
    Name,
    as_they_are,
    check_arguments,
    check_n_shots,
    check_rows,
    comparable,
    indexable,
    number_targets,
    warn_of_order,
)
from ._comparison_table import comparison_table, episode_table
from ._paired_scores import first_shots, score_everyone, warn_failures
from ._rivals import (
    all_classify,
    baselines_of,
    by_name,
    checked_past,
    pooled_rivals,
    steps_to_numbers,
)
from ._strong_rivals import STRONG
from .recommending import recommendation
from .scoring import EpisodeSplit, tasks_seen

#: What the arguments may be; those of the episodes are checked where these are drawn.
_ARGUMENTS = {
    "scoring": SCORING,
    "reference": Name() | None,
    "return_scores": Flag(),
    "n_jobs": N_JOBS,
}


def compare_few_shot(
    estimators: Any,
    X: Any,
    y: Any,
    groups: Any = None,
    *,
    n_shots: Sequence[int] = (1, 2, 5, 10, 20),
    n_way: IntOrRange | None = 5,
    n_query: IntOrRange | None = 15,
    n_episodes: int = 600,
    baselines: Any = "strong",
    past: Any = None,
    scoring: Any = None,
    reference: str | None = None,
    return_scores: bool = False,
    random_state: Any = 0,
    n_jobs: int | None = None,
) -> Any:
    """Compare estimators on the same few-shot episodes, for several numbers of labels.

    All estimators see the same episodes. Those of different numbers of shots
    are paired as well: episode i has the same queries at all of them, and its
    support at k shots holds that at fewer. Beside the estimators stand plain
    scikit-learn ones, fitted to the labels of each episode alone, and with
    `past` models that learn from past tasks without meta-learning.

    Parameters
    ----------
    estimators : estimator, list of estimators, or dict of str to estimator
        All classifiers or all regressors: meta-trained ones of this package,
        which adapt to many episodes at once, or any of scikit-learn's. In a
        list they are called by their class.
    X : array-like or DataFrame of shape (n_rows, n_features) or (n_rows, \\*input_shape)
        Rows of tasks or classes kept out of meta-training.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Labels or targets.
    groups : array-like of shape (n_rows,) or None, default=None
        Task or group of each row. With groups, all intervals and tests take
        the episodes of one group as one cluster.
    n_shots : sequence of int, default=(1, 2, 5, 10, 20)
        Numbers of support rows a class (a task, with ``n_way=None``).
    n_way, n_query, n_episodes : see EpisodeSplit
        What an episode is. Regression needs ``n_way=None`` and `groups`.
    baselines : "strong", "default", dict of str to estimator, or None, default="strong"
        ``"default"`` is for classification logistic regression of standardised
        features, nearest centroid, a random forest and the classes' shares
        ("prior"); for regression, ridge regression and a Gaussian process of
        standardised features, a random forest and the mean. ``"strong"`` adds
        ``InContextClassifier()`` ("in-context"), for episodes of at most 300
        labelled rows, and what `past` says below. Images
        are flattened for them, and rows that are no numbers come to them through the
        frozen steps of the first estimator that has some; else few categories have a
        column each, missing numbers are filled and marked, dates are days, and of
        many categories each is the mean of its targets in `past`, or left out.
        None adds none.
    past : (X, y, groups) or None, default=None
        Past tasks, as meta-training had them: adds regressions of past and new
        rows pooled, without and with a column for the task
        (``PooledRegressor``, or ``PooledClassifier`` where the past has the
        labels of these tasks and an episode all of them). With strong baselines
        also a mixed model with random slopes (``PooledMixedRegressor``), and
        gradient boosting and a neural network that are trained on the past once,
        on rows and statistics of the labelled rows of their task ("pooled
        boosting", "pooled network"; ``PooledStatisticsRegressor``,
        ``PooledStatisticsClassifier``).
    scoring : str, callable or None, default=None
        A scikit-learn scorer, greater is better. None is accuracy, or for
        regression ``"neg_mean_squared_error"``: R^2 divides by the variance of
        each episode's few queries, and one episode of nearly equal targets
        can then outweigh all others.
    reference : str or None, default=None
        Name of the estimator to take differences to. None is the baseline of
        the best mean at each number of shots (without baselines, the first
        estimator): chosen on these very episodes, which favours the baselines
        a little.
    return_scores : bool, default=False
        Whether to return the scores of all episodes too.
    random_state : int, RandomState instance or None, default=0
        Seeds the episodes, which at the largest number of shots are those of
        ``few_shot_score``, and the baselines.
    n_jobs : int or None, default=None
        Processes: for what is fitted episode by episode, and for chunks of the episodes
        of meta-trained estimators of this package.

    Returns
    -------
    comparison : DataFrame
        One line for each estimator and number of shots, with columns

        - ``estimator``, ``baseline`` (bool), ``n_shots``: what was scored;
        - ``mean``, ``ci_low``, ``ci_high``: mean score and its 95% interval, as
          ``FewShotScore`` has it;
        - ``n_episodes``, ``n_tasks`` (groups, or classes without groups) and
          ``n_labels``, the mean number of labelled rows of an episode;
        - ``reference``, ``difference``, ``difference_low``,
          ``difference_high``: mean difference to the reference over the same
          episodes and its 95% interval; ``win_rate``: share of episodes in
          which it scores higher, ties counted half;
        - ``p_value``: of no difference, by a t test of the paired differences
          with the standard error of the interval; ``p_holm``: the same,
          corrected for all lines of the table [2]_; NaN for the reference;
        - ``fit_seconds``: mean time of one `fit`; of estimators that are scored
          in batches, over the first ten episodes;
        - ``failures``: episodes in which it raised an error or its score was
          not finite. They count with the score of a ``DummyClassifier`` or
          ``DummyRegressor``, and a warning says why.

        ``comparison.attrs`` holds ``scoring``, ``n_way`` and ``recommendation``:
        what to use at how many labels, in a sentence.
    scores : DataFrame
        Only with ``return_scores=True``: a line for each episode, indexed by
        ``episode`` and ``task``; a column for each pair of estimator and shots.

    Raises
    ------
    ValueError
        When arguments make no sense, or a score is not defined on an episode
        even for the mean.

    Warns
    -----
    UserWarning
        When a meta-init, or `past`, has seen some of these tasks; when classes
        or groups are too small for the largest number of shots; when an
        estimator failed on episodes.

    See Also
    --------
    FewShotCurveDisplay : Draws the comparison.
    labels_saved : Says how many labels a baseline needs for the same score.
    recommendation : Says what to use at how many labels.
    few_shot_score : Scores one estimator.

    References
    ----------
    .. [1] J. Demsar, "Statistical comparisons of classifiers over multiple data sets",
       JMLR 7, 2006.
    .. [2] S. Holm, "A simple sequentially rejective multiple test procedure",
       Scandinavian Journal of Statistics 6, 1979.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from fewshot_sklearn import ProtoNetClassifier, compare_few_shot
    >>> X, y = load_digits(return_X_y=True)
    >>> comparison = compare_few_shot(
    ...     ProtoNetClassifier(), X, y, n_shots=(1, 5), n_episodes=20,
    ...     baselines={"neighbor": KNeighborsClassifier(1)},
    ... )
    >>> comparison[["estimator", "n_shots", "mean"]].round(2)
                estimator  n_shots  mean
    0  ProtoNetClassifier        1  0.74
    1  ProtoNetClassifier        5  0.89
    2            neighbor        1  0.74
    3            neighbor        5  0.91
    """
    check_arguments(
        _ARGUMENTS, scoring=scoring, reference=reference, return_scores=return_scores, n_jobs=n_jobs
    )
    given = by_name(estimators)
    classify = all_classify(given)
    if not classify and n_way is not None:
        raise ValueError(
            "To compare regressors pass n_way=None and groups: each group is then one task."
        )
    shots = check_n_shots(n_shots)
    check_rows(X)
    X = indexable(X)
    warn_of_order(X, y=y, groups=groups)
    y = as_they_are(y) if classify else number_targets(y)
    groups = None if groups is None else comparable(groups)
    check_consistent_length(X, y, groups)
    past = checked_past(past, X)
    split = EpisodeSplit(n_way, max(shots), n_query, n_episodes, random_state)
    rows = split.episodes(y, groups)
    seed = int(check_random_state(random_state).randint(2**31))
    before, X_past = steps_to_numbers(given, X, past)
    most_rows = int((rows.support >= 0).sum(1).max())
    rivals = baselines_of(baselines, classify, before, seed, most_rows)
    if past is not None:
        strong = isinstance(baselines, str) and baselines == STRONG
        rivals |= pooled_rivals(
            past, classify, X, y, groups, n_way, before, X_past, seed, strong, most_rows
        )
    if twice := set(given) & set(rivals):
        raise ValueError(f"estimators must have other names than baselines, got {sorted(twice)}.")
    everyone = given | rivals
    if reference is not None and reference not in everyone:
        raise ValueError(f"reference must be one of {list(everyone)}, got {reference!r}.")
    if told := {seen for one in given.values() if (seen := tasks_seen(one, y, groups, X))}:
        warnings.warn(" ".join(sorted(told)), stacklevel=2)
    if scoring is None:
        scoring = "accuracy" if classify else "neg_mean_squared_error"

    nested = [first_shots(rows, k) for k in shots]
    results = score_everyone(everyone, X, y, nested, scoring, classify, n_jobs)
    warn_failures(results, len(shots) * n_episodes)
    tasks = None if groups is None else groups[rows.support[:, 0]]
    counted = y[rows.query[rows.query >= 0]] if tasks is None else tasks
    sizes = {
        "n_episodes": n_episodes,
        "n_tasks": len(np.unique(counted)),
        "n_labels": [float((part.support >= 0).sum(1).mean()) for part in nested],
    }
    scores = {name: result.scores for name, result in results.items()}
    table = comparison_table(results, shots, tasks, sizes, list(rivals), reference)
    table.attrs = {"scoring": _scoring_name(scoring), "n_way": n_way}
    chosen = table
    if reference is not None:  # the best baseline, whatever the table is about
        chosen = comparison_table(results, shots, tasks, sizes, list(rivals), None)
        chosen.attrs = table.attrs
    table.attrs |= {"recommendation": str(recommendation(chosen))}
    return (table, episode_table(scores, shots, tasks)) if return_scores else table


def _scoring_name(scoring: Any) -> str:
    if isinstance(scoring, str):
        return scoring
    return getattr(scoring, "__name__", None) or type(scoring).__name__
