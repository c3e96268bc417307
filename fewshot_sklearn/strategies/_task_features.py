"""What a task looks like by its support rows alone: sizes, kinds of columns, landmarks.

B. Pfahringer, H. Bensusan and C. Giraud-Carrier. Meta-learning by landmarking various
learning algorithms. ICML 2000.

P. B. Brazdil, C. Soares and J. P. da Costa. Ranking learning algorithms: using IBL
and meta-learning on accuracy and time results. Machine Learning 50, 2003.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ..tasks import column_labels, distinct, indexable

#: Features of a task, in order; numbers of rows, columns and classes are logarithms.
SIZES = (
    "n_rows", "n_columns", "n_classes", "numeric", "binary", "categorical", "missing",
    "imbalance", "skewness",
)  # fmt: skip
LANDMARKS = ("nearest_neighbor", "stump", "linear")
FEATURES = (*SIZES, *LANDMARKS)

#: Rows that the landmarks look at, values of a category that they tell apart, parts of the rows
#: that the stump is tried on, and the penalty of the linear landmark.
MOST_ROWS, MOST_VALUES, N_PARTS, PENALTY = 500, 16, 10, 1.0


def task_features(X: Any, y: np.ndarray, kind: str) -> dict[str, float]:
    """Features of a task.

    Landmarks are scores on rows that were left out of the support: the nearest
    other row, a decision stump, and ridge regression on the targets or on
    one-hot classes. Of classes it is (accuracy - 1/n) / (1 - 1/n), of targets
    R^2, clipped to [-1, 1]. Rows whose class has no other row are not asked
    about, since they cannot be right: with one row a class, or with fewer than
    three rows of a regression, a landmark tells nothing, and is 0.

    Parameters
    ----------
    X : array-like or data frame of shape (n_rows, ...)
        Support rows; numbers, strings, dates and missing values may be among them.
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Labels or targets.
    kind : {"classifier", "regressor"}
        Which of both.

    Returns
    -------
    dict of str to float
        By the names in `FEATURES`; all are finite.

    Raises
    ------
    ValueError
        When X is sparse.
    """
    if hasattr(X, "tocsr") or (hasattr(X, "sparse") and hasattr(X, "to_coo")):
        raise ValueError(
            "X is sparse, and the features of a task are known of dense rows only: make it dense, "
            "or set features=False."
        )
    rows, shares = _numbers(indexable(X))
    n = len(rows)
    told = {"n_rows": np.log(n), "n_columns": np.log(max(shares.pop("n_columns"), 1))} | shares
    if kind == "classifier":
        labels, codes = distinct(np.asarray(y), "y")
        counts = np.bincount(codes)
        p = counts / n
        told["n_classes"] = np.log(len(labels))
        told["imbalance"] = 1 + (p @ np.log(p)) / np.log(len(p)) if len(p) > 1 else 0.0
        told["skewness"] = 0.0
        targets, asked = np.eye(len(labels))[codes], counts[codes] > 1
        by_class = np.argsort(codes, kind="stable")
        place = np.empty(n, dtype=int)
        place[by_class] = np.arange(n) - (np.cumsum(counts) - counts)[codes[by_class]]
        enough = len(labels) > 1 and bool(asked.any())
    else:
        targets = _standardised(np.asarray(y, dtype=np.float64).reshape(n, -1))
        told |= {"n_classes": 0.0, "imbalance": 0.0, "skewness": float((targets**3).mean())}
        codes, asked = None, np.ones(n, dtype=bool)
        by_class = np.argsort(targets[:, 0], kind="stable")
        place = np.empty(n, dtype=int)
        place[by_class] = np.arange(n)
        enough = n > 2 and bool(targets.any())
    told |= dict.fromkeys(LANDMARKS, 0.0)
    if enough and rows.shape[1]:
        few = by_class[np.linspace(0, n - 1, min(n, MOST_ROWS)).astype(int)]
        scores = _landmarks(
            rows[few], targets[few], None if codes is None else codes[few], asked[few], place[few]
        )
        told |= dict(zip(LANDMARKS, scores, strict=True))
    return {name: float(told[name]) for name in FEATURES}


def _landmarks(
    X: np.ndarray, targets: np.ndarray, codes: np.ndarray | None, asked: np.ndarray, place: Any
) -> list[float]:
    """Scores of the landmarks on rows that they were not given."""
    norms = (X * X).sum(1)
    distances = norms[:, None] + norms - 2 * X @ X.T
    np.fill_diagonal(distances, np.inf)
    neighbor = targets[distances.argmin(1)]

    # a row left out of ridge regression with an intercept, in closed form: H the hat matrix,
    # y_i - y'_i = (y_i - (H y)_i) / (1 - H_ii)
    n = len(X)
    centred = X - X.mean(0)
    gram = centred @ centred.T / X.shape[1]
    hat = np.linalg.solve(gram + PENALTY * np.eye(n), gram) + 1 / n
    left = np.maximum(1 - np.diag(hat), 1e-9)[:, None]
    linear = targets - (targets - hat @ targets) / left

    stump = np.zeros_like(targets)
    parts = place % N_PARTS
    for part in np.unique(parts):
        out = parts == part
        if out.all():
            continue
        if codes is None:
            tree = DecisionTreeRegressor(max_depth=1, random_state=0)
            stump[out] = tree.fit(X[~out], targets[~out]).predict(X[out]).reshape(out.sum(), -1)
            continue
        with warnings.catch_warnings():  # as many classes as half the rows are nothing special
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            tree = DecisionTreeClassifier(max_depth=1, random_state=0).fit(X[~out], codes[~out])
        stump[out] = np.eye(targets.shape[1])[tree.predict(X[out])]
    return [_score(told, targets, codes, asked) for told in (neighbor, stump, linear)]


def _score(
    told: np.ndarray, targets: np.ndarray, codes: np.ndarray | None, asked: np.ndarray
) -> float:
    if codes is not None:
        chance = 1 / targets.shape[1]
        right = (told.argmax(1) == codes)[asked].mean()
        return float((right - chance) / (1 - chance))
    error, spread = ((told - targets) ** 2).sum(), ((targets - targets.mean(0)) ** 2).sum()
    return float(np.clip(1 - error / spread, -1, 1)) if spread > 0 else 0.0


def _numbers(X: Any) -> tuple[np.ndarray, dict[str, float]]:
    """Rows as standardised numbers, categories one-hot, and what the columns are."""
    columns = _columns(X)
    parts, kinds = [], dict.fromkeys(("numeric", "binary", "categorical", "missing"), 0.0)
    width = 0
    for column in columns:
        block, is_category = _plain(column)
        width += block.shape[1]
        if is_category:
            missing = np.array([_is_missing(v) for v in block[:, 0]])
            kinds["categorical"] += 1
            parts.append(_one_hot(block[:, 0], missing))
        else:
            # of what cannot be told apart from a missing value nothing can be learned
            missing = ~np.isfinite(block)
            values = np.where(missing, 0.0, block)
            binary = ((values == 0) | (values == 1)).all(0)
            kinds["binary"] += binary.sum()
            kinds["numeric"] += (~binary).sum()
            parts.append(_standardised(values, ~missing))
        kinds["missing"] += missing.mean() * block.shape[1] if missing.size else 0.0
    shares = {name: float(count) / max(width, 1) for name, count in kinds.items()}
    n = len(X) if not columns else len(parts[0])
    return np.hstack([np.empty((n, 0)), *parts]), shares | {"n_columns": float(width)}


def _columns(X: Any) -> list[Any]:
    """Columns, or one block of them where all are numbers."""
    labels = column_labels(X)
    if hasattr(X, "iloc"):
        if getattr(X, "ndim", 2) == 1:
            return [X]
        return [X.iloc[:, i] for i in range(X.shape[1])]
    if labels is not None:
        return [X[name] for name in labels]
    X = X[:, None] if X.ndim == 1 else X.reshape(len(X), -1)
    return [X] if X.dtype.kind in "fiub" else list(X.T)


def _plain(column: Any) -> tuple[np.ndarray, bool]:
    """A column of numbers as floats, or one of something else, and whether it is the latter."""
    category = str(getattr(column, "dtype", "")).lower().startswith(("category", "categorical"))
    values = np.asarray(column)
    values = values[:, None] if values.ndim == 1 else values
    if not category and values.dtype.kind in "fiub":
        return values.astype(np.float64), False
    if values.dtype.kind in "mM":
        times = values.astype("M8[ns]" if values.dtype.kind == "M" else "m8[ns]")
        return np.where(np.isnat(times), np.nan, times.astype(np.int64).astype(float)), False
    values = values.astype(object)
    if not category:
        try:
            told = [np.nan if _is_missing(v) else _number(v) for v in values[:, 0]]
            return np.array(told, dtype=np.float64)[:, None], False
        except (TypeError, ValueError, OverflowError):
            pass
    return values, True


def _number(value: Any) -> float:
    if isinstance(value, str | bytes):  # digits may be a postcode
        raise ValueError
    return float(value)


def _is_missing(value: Any) -> bool:
    """None, NaN, NaT and NA: the latter are not equal to themselves, or will not say so."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _one_hot(values: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Columns of the most frequent values, such that two that differ are at a distance of 1."""
    told = np.array(["" if gone else f"{v}" for v, gone in zip(values, missing, strict=True)])
    known, codes, counts = np.unique(told, return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    return (codes[:, None] == frequent) / np.sqrt(2) if len(known) > 1 else np.zeros((len(told), 0))


def _standardised(X: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Columns of mean 0 and variance 1 over the values that are known; 0 for others."""
    known = np.ones_like(X, dtype=bool) if known is None else known
    X = X / np.maximum(np.abs(X).max(0, initial=0), np.finfo(float).tiny)  # squares are finite
    n = np.maximum(known.sum(0), 1)
    X = np.where(known, X - (X * known).sum(0) / n, 0.0)
    spread = np.sqrt((X * X).sum(0) / n)
    return np.where(spread > 1e-12, X / np.where(spread > 1e-12, spread, 1.0), 0.0)
