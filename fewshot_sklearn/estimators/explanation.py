"""Why a prediction: the support rows, and the past tasks, that a row is nearest to.

B. Kim, R. Khanna and O. Koyejo. Examples are not enough, learn to criticize!
Criticism for interpretability. NeurIPS 2016 (explanation by examples).

N. Papernot and P. McDaniel. Deep k-nearest neighbors: towards confident,
interpretable and robust deep learning. arXiv 1803.04765, 2018 (neighbours in the
features that a network decides by).
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional as F

from ..learners import Learner
from ._kept_support import row_labels

#: Learners that compare directions of features, beside those whose `metric` or `cosine` says so.
BY_ANGLE = ("MatchingNet",)

#: For each row asked for, its neighbours, a dict of columns each.
Neighbours = list[list[dict[str, Any]]]


class FeatureMetric(NamedTuple):
    """How a method compares features.

    Attributes
    ----------
    name : {"euclidean", "cosine"}
        The Euclidean distance, or one minus the cosine.
    centre : ndarray of shape (n_features,) or None
        What is taken off the features before.
    """

    name: str
    centre: np.ndarray | None = None

    def prepared(self, Z: np.ndarray) -> np.ndarray:
        """Features (n, n_features) as the method averages them: of length one, for the cosine."""
        Z = np.asarray(Z, dtype=np.float64)
        if self.centre is not None:
            Z = Z - self.centre
        if self.name == "cosine":
            Z = Z / np.maximum(np.linalg.norm(Z, axis=-1, keepdims=True), np.finfo(float).tiny)
        return Z

    def distances(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Distances (n, m) of prepared features or means of such."""
        from scipy.spatial.distance import cdist

        if self.name == "euclidean":
            return cdist(A, B)
        unit = FeatureMetric("cosine")
        return np.clip(1 - unit.prepared(A) @ unit.prepared(B).T, 0, 2)


def feature_metric(learner: Learner) -> FeatureMetric:
    """How a learner compares features: by distance, or by angle.

    Parameters
    ----------
    learner : Learner
        Any.

    Returns
    -------
    FeatureMetric
        The Euclidean distance, unless the learner looks at directions alone.
    """
    normalization = getattr(learner, "normalization", "un")
    if normalization == "cl2n":
        return FeatureMetric("cosine", learner.centre.double().cpu().numpy())  # type: ignore[operator]
    by_angle = (
        normalization == "l2n"
        or getattr(learner, "metric", None) == "cosine"
        or getattr(learner, "cosine", False)
        or type(learner).__name__ in BY_ANGLE
    )
    return FeatureMetric("cosine" if by_angle else "euclidean")


def encoder_features(learner: Learner, rows: Tensor) -> np.ndarray:
    """Features (n, n_features) of the encoder as meta-training left it.

    Also of learners whose adaptation goes on to change it, and whose own
    `embed` stops before it.

    Raises
    ------
    ValueError
        When they are not finite, as those of NaN that nobody was to look for are not.
    """
    with torch.no_grad():
        Z = Learner.embed(learner, rows).cpu().numpy()
    if not np.isfinite(Z).all():
        raise ValueError(
            "X holds rows whose features are not finite: they are not themselves, or are too "
            "unlike those that the encoder was trained on."
        )
    return Z


def deciding_features(estimator: Any, X: Any) -> np.ndarray:
    """The features that a fitted estimator decides by.

    Parameters
    ----------
    estimator : fitted estimator
        One of this package.
    X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
        Rows.

    Returns
    -------
    ndarray of shape (n_rows, n_features_out)
        Features of the encoder; where `fit` adapts it or scales its rows, of that.
    """
    learner, rows = estimator._fitted_learner_and_rows(X)
    if not callable(getattr(learner, "features", None)):
        return encoder_features(learner, rows)
    state = {k: torch.as_tensor(v, device=rows.device) for k, v in estimator.state_.items()}
    with torch.no_grad():
        return learner.features(state, learner.embed(rows)).cpu().numpy()


def _compared(
    learner: Learner, Z: np.ndarray, rows: np.ndarray
) -> tuple[str, np.ndarray, np.ndarray]:
    """Name of the comparison; distances and similarities (n, n_support) of features."""
    parameter = next(learner.parameters(), None)
    a, b = (torch.from_numpy(part).to(parameter) for part in (Z, rows))
    if callable(kernel := getattr(learner, "kernel", None)):
        with torch.no_grad():
            a, b = a.double(), b.double()
            between = kernel(a, b).cpu().numpy()
            of_a, of_b = kernel.diagonal(a).cpu().numpy(), kernel.diagonal(b).cpu().numpy()
        squared = of_a[:, None] + of_b - 2 * between
        size = np.sqrt(of_a[:, None] * of_b)
        return "kernel", np.sqrt(squared.clip(0)), between / np.maximum(size, np.finfo(float).tiny)
    if callable(pair_logits := getattr(learner, "pair_logits", None)):
        with torch.no_grad():
            logits = pair_logits(a, b).double()
        return "verification", -F.logsigmoid(logits).cpu().numpy(), logits.sigmoid().cpu().numpy()
    metric = feature_metric(learner)
    Z, rows = metric.prepared(Z), metric.prepared(rows)
    distances = metric.distances(Z, rows)
    if metric.name == "cosine":
        return metric.name, distances, 1 - distances
    apart = metric.distances(rows, rows)[np.triu_indices(len(rows), 1)]
    usual = np.median(apart[apart > 0]) if (apart > 0).any() else 1.0
    return metric.name, distances, 1 / (1 + distances / usual)


def _columns(name: str, values: Any) -> dict[str, np.ndarray]:
    """Named columns of an array of one or two axes."""
    values = np.asarray(values)
    if values.ndim == 1:
        return {name: values}
    if values.shape[1] == 1:
        return {name: values[:, 0]}
    return {f"{name}_{i}": column for i, column in enumerate(values.T)}


def _support_targets(estimator: Any, y: Any) -> np.ndarray:
    """Labels, or targets; of class probabilities, the most probable class."""
    values = np.asarray(y)
    if is_classifier(estimator) and values.ndim == 2 and values.shape[1] > 1:
        columns = getattr(y, "columns", None)
        names = np.arange(values.shape[1]) if columns is None else np.asarray(columns)
        return names[values.argmax(1)]
    return values.ravel() if is_classifier(estimator) else values


def _predicted(estimator: Any, X: Any) -> dict[str, np.ndarray]:
    if is_classifier(estimator):
        probabilities = estimator.predict_proba(X)
        return {
            "prediction": estimator.classes_[probabilities.argmax(1)],
            "probability": probabilities.max(1),
        }
    if "return_std" in inspect.signature(estimator.predict).parameters:
        mean, std = estimator.predict(X, return_std=True)
        return _columns("prediction", mean) | _columns("std", std)
    return _columns("prediction", estimator.predict(X))


def explain(
    estimator: Any,
    X: Any,
    X_support: Any,
    y_support: Any,
    *,
    n_neighbors: int = 3,
    past: Any = None,
) -> Any:
    """Say what each prediction rests on: the nearest support rows, and the nearest past tasks.

    Nearness is that of the features the method decides by: those of the
    meta-trained encoder, or, for methods that adapt the encoder, of the adapted
    one. Methods that compare directions (the cosine metric of prototypical
    networks, matching networks, Baseline++, normalised class means) are asked
    for the cosine, deep kernels for their kernel, Siamese networks for the
    probability of "same class", all others for the Euclidean distance.
    What a method learns on top of the features (attention, relation scores, a
    linear head, the precisions of a class) is not part of it: then a near row
    is one that the encoder takes to be alike, not the weight it had.

    Parameters
    ----------
    estimator : fitted estimator
        A classifier or regressor of this package.
    X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
        Rows to explain the predictions of.
    X_support : array-like of shape (n_support, n_features) or (n_support, \\*input_shape), or None
        The rows that the estimator was fitted on; None where it saw none.
    y_support : array-like of shape (n_support,) or (n_support, n_outputs), or None
        Their labels, class probabilities or targets.
    n_neighbors : int, default=3
        Number of nearest support rows, and of nearest past tasks, to tell; all
        of them, where there are fewer.
    past : TaskMemory or None, default=None
        Past tasks to compare with, made with the same meta-init.

    Returns
    -------
    pandas.DataFrame
        For each row asked for, one line for each neighbour, nearest first:

        ``row`` : index label, or number, of the row asked for.
        ``prediction`` : label, or target (``prediction_0``, ... for several).
        ``probability`` : of the predicted label; classifiers.
        ``std`` : predictive standard deviation in units of y; regressors that have one.
        ``kind`` : ``"support"`` or ``"past"``.
        ``rank`` : 1 for the nearest of its kind.
        ``neighbor`` : index label, or number, of the support row; or the id of
        the past class or task.
        ``y`` : label or target of the support row; missing for past tasks.
        ``metric`` : ``"euclidean"``, ``"cosine"`` (one minus the cosine),
        ``"kernel"`` (distance in the kernel's feature space), ``"verification"``
        (minus the log probability of "same class"); or ``"rmse"``, for past tasks
        of a regression (see ``TaskMemory.nearest_tasks``: the same for all rows).
        ``distance`` : in that metric.
        ``similarity`` : at most 1, the more alike the higher: the cosine, the
        kernel's correlation, the probability of "same class"; for the
        Euclidean distance d it is 1 / (1 + d / m) with m the median distance
        between support rows, so that 0.5 is as near as those are to one
        another. Missing for past tasks.

    Raises
    ------
    ValueError
        When the estimator is of another package, the support does not fit, or
        `past` was made with another meta-init.

    See Also
    --------
    TaskMemory : What past tasks looked like.

    References
    ----------
    .. [1] N. Papernot and P. McDaniel, "Deep k-nearest neighbors: towards confident,
       interpretable and robust deep learning", arXiv 1803.04765, 2018.

    Examples
    --------
    >>> from fewshot_sklearn import ProtoNetClassifier
    >>> from fewshot_sklearn.estimators import explain
    >>> X, y = [[0.0, 0.0], [0.0, 1.0], [4.0, 4.0]], ["a", "a", "b"]
    >>> clf = ProtoNetClassifier().fit(X, y)
    >>> explain(clf, [[0.0, 3.0]], X, y, n_neighbors=2)[["prediction", "neighbor", "y", "distance"]]
      prediction  neighbor  y  distance
    0          a         1  a       2.0
    1          a         0  a       3.0
    """
    import pandas as pd  # type: ignore[import-untyped]

    if not hasattr(estimator, "_fitted_learner_and_rows"):
        raise ValueError(
            f"estimator must be one of this package, got {type(estimator).__name__}. Of a "
            "pipeline, pass the last step and rows as they reach it."
        )
    check_is_fitted(estimator)
    if not (isinstance(n_neighbors, int | np.integer) and n_neighbors >= 1):
        raise ValueError(f"n_neighbors must be an int, at least 1, got {n_neighbors!r}.")
    if X_support is None or not len(X_support):
        support: Neighbours = [[] for _ in range(len(X))]
    else:
        if y_support is None or len(y_support) != len(X_support):
            found = "None" if y_support is None else f"{len(y_support)} values"
            raise ValueError(
                f"y_support must hold one value for each of the {len(X_support)} rows of "
                f"X_support, got {found}."
            )
        support = _nearest_support(estimator, X, X_support, y_support, n_neighbors)
    if past is not None:
        past.check_made_with(estimator)
        earlier = _nearest_past(estimator, X, X_support, y_support, n_neighbors, past)
    elif not support[0]:
        raise ValueError(
            "There is nothing to explain by: pass the support rows that the estimator was fitted "
            "on, or past tasks."
        )
    else:
        earlier = [[] for _ in range(len(X))]
    told = {"row": row_labels(X)} | _predicted(estimator, X)
    frame = pd.DataFrame(
        [
            {name: column[i] for name, column in told.items()} | neighbour
            for i in range(len(X))
            for neighbour in support[i] + earlier[i]
        ]
    )
    if y_support is not None and np.asarray(y_support).dtype.kind in "iu":
        whole = [name for name in frame if name == "y" or str(name).startswith("y_")]
        frame = frame.astype(dict.fromkeys(whole, "Int64"))  # which may lack values, for the past
    return frame


def _ranked(kind: str, ids: Any, **columns: Any) -> list[dict[str, Any]]:
    """Neighbours of one row, nearest first, a dict each."""
    return [
        {"kind": kind, "rank": rank + 1, "neighbor": one}
        | {name: column[rank] for name, column in columns.items()}
        for rank, one in enumerate(ids)
    ]


def _nearest_support(
    estimator: Any, X: Any, X_support: Any, y_support: Any, n_neighbors: int
) -> Neighbours:
    learner = estimator._rebuild(estimator.meta_init_)
    metric, distances, similarities = _compared(
        learner, deciding_features(estimator, X), deciding_features(estimator, X_support)
    )
    order = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
    labels = row_labels(X_support)
    targets = _columns("y", _support_targets(estimator, y_support))
    return [
        _ranked(
            "support",
            labels[near],
            **{name: column[near] for name, column in targets.items()},
            metric=[metric] * len(near),
            distance=distances[i, near],
            similarity=similarities[i, near],
        )
        for i, near in enumerate(order)
    ]


def _nearest_past(
    estimator: Any, X: Any, X_support: Any, y_support: Any, n_neighbors: int, past: Any
) -> Neighbours:
    if past.states and X_support is not None:
        ids, distances = past.nearest_tasks(estimator, X_support, y_support, n_neighbors)
        return [_ranked("past", ids, metric=["rmse"] * len(ids), distance=distances)] * len(X)
    learner, rows = estimator._fitted_learner_and_rows(X)
    ids, distances = past.nearest(encoder_features(learner, rows), n_neighbors)
    names = [past.metric.name] * ids.shape[1]
    return [
        _ranked("past", ids[i], metric=names, distance=distances[i]) for i in range(len(distances))
    ]
