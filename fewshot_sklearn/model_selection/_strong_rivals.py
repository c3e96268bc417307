"""The strongest of what stands beside estimators that are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupShuffleSplit
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ..algorithms import InContextClassifier
from ..estimators import CodedLabels, FrozenStep
from .past_rows import PastRows
from .pooled_mixed import PooledMixedRegressor
from .pooled_statistics import VALIDATION, PooledStatisticsClassifier, PooledStatisticsRegressor

#: What `baselines` is, where these are wanted.
STRONG = "strong"
#: Labelled rows of an episode up to which in-context learning stands beside: its memory and time
#: grow with their square, and it was trained on far fewer.
MOST_IN_CONTEXT = 300
#: Standard deviations beyond which statistics are not told apart by a network.
FARTHEST = 5.0
#: Weight decays that the network is tried with, in scikit-learn's unit.
DECAYS = [1e-3, 1.0, 10.0]


def in_context(before: list[Any]) -> Any:
    """In-context classification by the labelled rows alone, of many episodes at once."""
    ours = InContextClassifier("tabular-in-context")
    steps = [step if isinstance(step, FrozenStep) else _frozen(step) for step in before]
    return make_pipeline(*steps, ours) if steps else ours


def _frozen(step: Any) -> FrozenStep:
    """What flattens learns nothing, and may be taken as fitted."""
    return FrozenStep(clone(step).fit(np.zeros((1, 1))))


def strong_rivals(
    rows: PastRows, classify: bool, seed: int, most_rows: int, balanced: bool
) -> dict[str, Any]:
    """Rivals that learn from the past what is to be made of a few labelled rows.

    Parameters
    ----------
    rows : PastRows
        Past tasks.
    classify : bool
        Whether y are labels.
    seed : int
        Seeds them.
    most_rows : int
        Size of the largest support set.
    balanced : bool
        Whether episodes have as many rows of each class.

    Returns
    -------
    dict of str to estimator
        By name.
    """
    options: dict[str, Any] = {"past": rows, "n_shot": most_rows, "random_state": seed}
    network = _network(classify, seed)
    if classify:
        options["balanced"] = balanced
        return {
            "pooled network": PooledStatisticsClassifier(network, **options),
            "pooled boosting": PooledStatisticsClassifier(**options),
        }
    return {
        "mixed model": PooledMixedRegressor(past=rows, random_state=seed),
        "pooled network": PooledStatisticsRegressor(network, **options),
        "pooled boosting": PooledStatisticsRegressor(**options),
    }


def _network(classify: bool, seed: int) -> Any:
    """A network whose weight decay is chosen by past tasks held out."""
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -FARTHEST, "a_max": FARTHEST})
    kind: Any = MLPClassifier if classify else MLPRegressor
    network = kind(
        hidden_layer_sizes=(64, 64), early_stopping=True, n_iter_no_change=5, max_iter=40,
        batch_size=256, random_state=seed,
    )  # fmt: skip
    alpha = "network__alpha"
    if classify:  # before scikit-learn 1.8 it cannot stop early where labels are words
        network, alpha = CodedLabels(network), "network__estimator__alpha"
    steps = Pipeline([("scale", StandardScaler()), ("clip", clip), ("network", network)])
    scoring = "neg_log_loss" if classify else "neg_mean_squared_error"
    split = GroupShuffleSplit(1, test_size=VALIDATION, random_state=seed)
    return GridSearchCV(steps, {alpha: DECAYS}, scoring=scoring, cv=split)
