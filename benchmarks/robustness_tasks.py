"""Estimators, small tasks for them and what they answer; for the sections of `robustness.py`."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier, is_regressor

import fewshot_sklearn
from fewshot_sklearn import MetaTrainer
from fewshot_sklearn.estimators import FewShotEstimator

N_FEATURES = 5
COLUMNS = [f"c{i}" for i in range(N_FEATURES)]
#: Of the tasks of `past` and `new`.
N_TASKS, N_ROWS = 8, 12


def _public() -> dict[str, type[FewShotEstimator]]:
    public = {name: getattr(fewshot_sklearn, name) for name in fewshot_sklearn.__all__}
    return {
        name: kind
        for name, kind in public.items()
        if isinstance(kind, type) and issubclass(kind, FewShotEstimator)
    }


#: Names of the public few-shot estimators.
ESTIMATORS = tuple(_public())
REGRESSORS = tuple(name for name, kind in _public().items() if is_regressor(kind()))
CLASSIFIERS = tuple(name for name, kind in _public().items() if is_classifier(kind()))


def made(name: str, **params: Any) -> Any:
    """A public estimator, by name, that repeats."""
    return _public()[name](random_state=0, device="cpu", **params)


def answers(estimator: Any, X: Any) -> np.ndarray:
    """What says most: probabilities, features of rows or predictions."""
    for method in ("predict_proba", "predict", "transform"):
        if hasattr(estimator, method):
            return np.asarray(getattr(estimator, method)(X), dtype=np.float64)
    raise TypeError(f"{estimator!r} answers nothing.")


@cache
def _tasks(seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(N_TASKS), N_ROWS)
    X = rng.normal(size=(N_TASKS, N_FEATURES))[task] * 2 + rng.normal(size=(len(task), N_FEATURES))
    y = (X * rng.normal(size=(N_TASKS, N_FEATURES))[task]).sum(1)
    return pd.DataFrame(X, columns=COLUMNS), task, y


def tasks(name: str, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Rows, labels or targets and tasks, for the estimator of that name.

    Of a classifier a task is two classes.
    """
    X, task, targets = _tasks(seed)
    if name in REGRESSORS or name.endswith("Regressor"):
        return X.copy(), pd.Series(targets), pd.Series(task)
    return X.copy(), pd.Series(task), pd.Series(task // 2)


def few(name: str, **options: Any) -> dict[str, Any]:
    """What makes a meta-training of the estimator of that name a short one."""
    own = {"n_way": 2, "n_shot": 3} if name not in REGRESSORS else {"n_shot": 5}
    same = {"n_query": 5, "n_episodes": 8, "max_epochs": 1, "validation_fraction": 0}
    return own | same | {"verbose": 0, "random_state": 0, "device": "cpu"} | options


@cache
def _trained(name: str) -> Any:
    if name == "MetaEmbedding":
        return fewshot_sklearn.MetaEmbedding(_trained("ProtoNetClassifier").meta_init)
    X, y, groups = tasks(name)
    estimator = _public()[name](encoder="mlp", encoder__hidden=(8,))
    return MetaTrainer(estimator, **few(name)).fit(X, y, groups).estimator_


def trained(name: str) -> Any:
    """A briefly meta-trained estimator, not fitted, that knows its columns."""
    return clone(_trained(name))
