"""What stands beside estimators that are compared: plain ones, and past rows pooled with new."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import check_consistent_length

from ..algorithms import ProtoNetClassifier
from ..estimators import FewShotEstimator, FrozenStep, final_step, frozen_steps, through
from ..learners import is_over
from ..tasks import TableFormat, check_like, check_rows, class_labels, numbered, taken
from ._strong_rivals import MOST_IN_CONTEXT, STRONG, in_context, strong_rivals
from ._table_columns import TableColumns, learned_columns
from .fitted_answers import plain_features
from .past_rows import PastRows
from .pooled import PooledClassifier, PooledRegressor

#: Why what takes time to learn from the past is left out.
NO_TIME = "no time was left for it"


def checked_past(past: Any, X: Any) -> Any:
    """Rows of past tasks, or None, as they were given; of the columns that X has."""
    if past is None:
        return None
    if not isinstance(past, tuple | list) or len(past) != 3:
        raise ValueError("past must be (X, y, groups): rows of past tasks and whose they are.")
    check_rows(past[0])
    check_consistent_length(*past)
    check_like(X, past[0], "past")
    return past


def by_name(estimators: Any) -> dict[str, Any]:
    if isinstance(estimators, Mapping):
        named = dict(estimators)
    else:
        several = list(estimators) if isinstance(estimators, list | tuple) else [estimators]
        classes = [type(final_step(one)).__name__ for one in several]
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


def all_classify(named: dict[str, Any]) -> bool:
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


def steps_to_numbers(given: dict[str, Any], X: Any, past: Any = None) -> tuple[list[Any], Any]:
    """What makes flat numbers of rows for those that stand beside the estimators given.

    Images are flattened; what is no number goes through the frozen steps of the first estimator
    that has some, or else is made numbers as the past, or an estimator's, has its columns.

    Parameters
    ----------
    given : dict of str to estimator
        The estimators.
    X : array-like or data frame of shape (n_rows, ...)
        Rows.
    past : (X, y, groups) or None, default=None
        Rows of past tasks.

    Returns
    -------
    steps : list of transformer
        Frozen, but for one that flattens.
    rows : array-like of shape (n_past_rows, ...) or None
        The past rows after these steps.
    """
    known = None if past is None else past[0]
    steps: list[Any] = []
    if not _plain(X, known):
        own = (frozen_steps(one)[0] for one in given.values())
        steps = next((some for some in own if some), [])
    elif getattr(X, "ndim", 2) > 2:
        steps = [FunctionTransformer(flattened)]
    seen, rows = through(steps, X), None if known is None else through(steps, known)
    if _plain(seen, rows):
        return steps, rows
    if past is not None:
        classify = all(is_classifier(one) for one in given.values())
        columns, rows = learned_columns(rows, past[1], past[2], classify)
        return [*steps, FrozenStep(columns)], rows
    for one in given.values():
        final = final_step(one)
        table = final._table() if isinstance(final, FewShotEstimator) else None
        if table is not None:
            return [*steps, FrozenStep(TableColumns(table).fit(seen))], None
    return steps, None


def _plain(*tables: Any) -> bool:
    """Whether all rows are numbers, and not names that are made of digits."""
    return all(
        X is None or (plain_features(X) is not None and TableFormat.of(X) is None) for X in tables
    )


def baselines_of(
    baselines: Any, classify: bool, before: list[Any], seed: int, most_rows: int
) -> dict[str, Any]:
    """Baselines that need no past; `most_rows` is the size of the largest support set."""
    if baselines is None:
        return {}
    if isinstance(baselines, Mapping):
        named = by_name(baselines) if baselines else {}
        if named and all_classify(named) != classify:
            raise ValueError("baselines must be of the kind of the estimators.")
        return named
    if not isinstance(baselines, str) or baselines not in ("default", STRONG):
        raise ValueError(
            f"baselines must be 'default', 'strong', a dict of names and estimators or None, got "
            f"{baselines!r}."
        )
    alone = (_classifiers if classify else _regressors)(before, seed)
    if baselines == STRONG and classify and most_rows <= MOST_IN_CONTEXT:
        alone["in-context"] = in_context(before)
    return alone


def _of(before: list[Any], *steps: Any) -> Any:
    return make_pipeline(*before, *steps) if before or len(steps) > 1 else steps[0]


def _classifiers(before: list[Any], seed: int) -> dict[str, Any]:
    return {
        "logistic regression": _of(before, StandardScaler(), LogisticRegression(max_iter=1000)),
        # scikit-learn's NearestCentroid has no probabilities at one row a class
        "nearest centroid": _of(before, ProtoNetClassifier()),
        "random forest": _of(before, RandomForestClassifier(random_state=seed)),
        "prior": _of(before, DummyClassifier(strategy="prior")),
    }


def _regressors(before: list[Any], seed: int) -> dict[str, Any]:
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    return {
        "ridge": _of(before, StandardScaler(), Ridge()),
        "random forest": _of(before, RandomForestRegressor(random_state=seed)),
        "Gaussian process": _of(before, StandardScaler(), process),
        "mean": _of(before, DummyRegressor()),
    }


def pooled_rivals(
    past: Any,
    classify: bool,
    X: Any,
    y: np.ndarray,
    groups: Any,
    n_way: Any,
    before: list[Any],
    X_past: Any,
    seed: int,
    strong: bool = False,
    most_rows: int = 20,
    left_out: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Rivals that learn from the past; with `strong` those too that are given task statistics.

    `X_past` are the past rows after the steps `before`. With `left_out`, those that cannot learn
    from them, or for which no time is left, are missing, and it says why.
    """
    _, y_past, past_groups = past
    of_past = set(numbered(past_groups, "groups of past")[0].tolist())
    if groups is not None and (again := len(of_past & set(np.unique(groups).tolist()))):
        warnings.warn(
            f"{again} of these tasks have ids that past has too: pooled models are optimistic "
            "unless they only share the names.",
            stacklevel=3,
        )
    if classify:
        labels = np.unique(y)
        narrow = n_way is not None and len(labels) > np.min(n_way)
        known = class_labels(y_past, "y of past")
        if narrow or set(labels.tolist()) != set(known.tolist()):
            return {}
    rows = PastRows(X_past, y_past, past_groups)
    make: Any = PooledClassifier if classify else PooledRegressor
    both = {
        "pooled": make(past=rows, random_state=seed),
        "pooled, with task": make(past=rows, with_task=True, random_state=seed),
    }
    if strong:
        both |= strong_rivals(rows, classify, seed, most_rows, n_way is not None)
    with warnings.catch_warnings():  # a network that stops early for time's sake is no news
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name, one in list(both.items()):  # what needs computing once is kept with the rows
            if left_out is not None and is_over():
                left_out[name] = NO_TIME
                del both[name]
                continue
            try:
                clone(one).fit(through(before, taken(X, np.arange(1))), y[:1])
            except Exception as error:
                if left_out is None:
                    raise
                told = str(error).strip().partition("\n")[0]
                left_out[name] = f"{type(error).__name__}: {told}"
                del both[name]
    return {n: make_pipeline(*before, e) for n, e in both.items()} if before else both
