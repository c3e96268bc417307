"""Does meta-learning help here? Estimators side by side, by number of labels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import check_consistent_length, check_random_state

from ..algorithms import ProtoNetClassifier
from ..tasks import (
    N_JOBS,
    SCORING,
    Flag,
    IntOrRange,
    Name,
    check_arguments,
    check_n_shots,
    comparable,
    indexable,
    taken,
)
from ._comparison_table import comparison_table, episode_table
from ._paired_scores import first_shots, score_everyone, warn_failures
from .pooled import PastRows, PooledClassifier, PooledRegressor
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
    baselines: Any = "default",
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
    `past` regressions of past and new rows pooled.

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
    baselines : "default", dict of str to estimator, or None, default="default"
        The default for classification is logistic regression of standardised
        features, nearest centroid, a random forest and the classes' shares
        ("prior"); for regression, ridge regression and a Gaussian process of
        standardised features, a random forest and the mean. Images are
        flattened for them. None adds none.
    past : (X, y, groups) or None, default=None
        Past tasks, as meta-training had them: adds regressions of past and new
        rows pooled, without and with a column for the task
        (``PooledRegressor``, or ``PooledClassifier`` where the past has the
        labels of these tasks and an episode all of them).
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
        Processes for what is fitted episode by episode.

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

        ``comparison.attrs`` holds ``scoring`` and ``n_way``.
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
    >>> comparison[["estimator", "n_shots", "mean", "win_rate"]].round(2)
                estimator  n_shots  mean  win_rate
    0  ProtoNetClassifier        1  0.74      0.50
    1  ProtoNetClassifier        5  0.89      0.32
    2            neighbor        1  0.74      0.50
    3            neighbor        5  0.91      0.50
    """
    check_arguments(
        _ARGUMENTS, scoring=scoring, reference=reference, return_scores=return_scores, n_jobs=n_jobs
    )
    given = _named(estimators)
    classify = _kind_is_classification(given)
    if not classify and n_way is not None:
        raise ValueError(
            "To compare regressors pass n_way=None and groups: each group is then one task."
        )
    shots = check_n_shots(n_shots)
    X = indexable(X)
    y, groups = np.asarray(y), None if groups is None else comparable(groups)
    check_consistent_length(X, y, groups)
    split = EpisodeSplit(n_way, max(shots), n_query, n_episodes, random_state)
    rows = split.episodes(y, groups)
    seed = int(check_random_state(random_state).randint(2**31))
    rivals = _baselines(baselines, classify, X, seed)
    if past is not None:
        rivals |= _pooled_rivals(past, classify, X, y, groups, n_way, seed)
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
    return (table, episode_table(scores, shots, tasks)) if return_scores else table


# ---------------------------------------------------------------- what is compared
def _named(estimators: Any) -> dict[str, Any]:
    if isinstance(estimators, Mapping):
        named = dict(estimators)
    else:
        several = list(estimators) if isinstance(estimators, list | tuple) else [estimators]
        classes = [
            type(one.steps[-1][1] if isinstance(one, Pipeline) else one).__name__ for one in several
        ]
        named = {
            f"{name}-{classes[:i].count(name) + 1}" if classes.count(name) > 1 else name: one
            for i, (name, one) in enumerate(zip(classes, several, strict=True))
        }
    if not named:
        raise ValueError("estimators must be at least one, got none.")
    for name, one in named.items():
        if not isinstance(name, str) or isinstance(one, type) or not hasattr(one, "fit"):
            raise ValueError(
                "estimators must be an estimator, a list of them, or a dict of names and "
                f"estimators, got {name!r}: {one!r}."
            )
    return named


def _kind_is_classification(named: dict[str, Any]) -> bool:
    if all(is_classifier(one) for one in named.values()):
        return True
    if all(is_regressor(one) for one in named.values()):
        return False
    raise ValueError(
        f"estimators must be all classifiers or all regressors, got {list(named.values())!r}."
    )


def flattened(X: Any) -> np.ndarray:
    """Images and the like as flat rows of floats."""
    return np.asarray(X).reshape(len(X), -1).astype(np.float64)


def _baselines(baselines: Any, classify: bool, X: Any, seed: int) -> dict[str, Any]:
    if baselines is None:
        return {}
    if isinstance(baselines, Mapping):
        named = _named(baselines) if baselines else {}
        if named and _kind_is_classification(named) != classify:
            raise ValueError("baselines must be of the kind of the estimators.")
        return named
    if not isinstance(baselines, str) or baselines != "default":
        raise ValueError(
            f"baselines must be 'default', a dict of names and estimators or None, got "
            f"{baselines!r}."
        )
    flat = [FunctionTransformer(flattened)] if getattr(X, "ndim", 2) > 2 else []

    def of(*steps: Any) -> Any:
        return make_pipeline(*flat, *steps) if flat or len(steps) > 1 else steps[0]

    if classify:
        return {
            "logistic regression": of(StandardScaler(), LogisticRegression(max_iter=1000)),
            # scikit-learn's NearestCentroid has no probabilities at one row a class
            "nearest centroid": of(ProtoNetClassifier()),
            "random forest": of(RandomForestClassifier(random_state=seed)),
            "prior": of(DummyClassifier(strategy="prior")),
        }
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    return {
        "ridge": of(StandardScaler(), Ridge()),
        "random forest": of(RandomForestRegressor(random_state=seed)),
        "Gaussian process": of(StandardScaler(), process),
        "mean": of(DummyRegressor()),
    }


def _pooled_rivals(
    past: Any, classify: bool, X: Any, y: np.ndarray, groups: Any, n_way: Any, seed: int
) -> dict[str, Any]:
    if not isinstance(past, tuple | list) or len(past) != 3:
        raise ValueError("past must be (X, y, groups): rows of past tasks and whose they are.")
    X_past, y_past, past_groups = past
    if groups is not None and (again := len(np.intersect1d(groups, np.asarray(past_groups)))):
        warnings.warn(
            f"{again} of these tasks have ids that past has too: pooled models are optimistic "
            "unless they only share the names.",
            stacklevel=3,
        )
    if classify:
        labels = np.unique(y)
        narrow = n_way is not None and len(labels) > np.min(n_way)
        if narrow or set(labels.tolist()) != set(np.unique(np.asarray(y_past)).tolist()):
            return {}
    images = getattr(X, "ndim", 2) > 2
    rows = PastRows(flattened(X_past) if images else X_past, y_past, past_groups)
    make: Any = PooledClassifier if classify else PooledRegressor
    both = {
        "pooled": make(past=rows, random_state=seed),
        "pooled, with task": make(past=rows, with_task=True, random_state=seed),
    }
    for one in both.values():  # what needs computing once is kept with the rows
        first = taken(X, np.arange(1))
        clone(one).fit(flattened(first) if images else first, y[:1])
    if images:
        return {n: make_pipeline(FunctionTransformer(flattened), e) for n, e in both.items()}
    return both


def _scoring_name(scoring: Any) -> str:
    if isinstance(scoring, str):
        return scoring
    return getattr(scoring, "__name__", None) or type(scoring).__name__
