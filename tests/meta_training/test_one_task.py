"""A past of a single task is told of, whatever the method."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyRegressor

import fewshot_sklearn
from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.estimators import FewShotClassifier, FewShotRegressor

torch.set_num_threads(1)
METHODS = [
    getattr(fewshot_sklearn, name)
    for name in fewshot_sklearn.__all__
    if isinstance(getattr(fewshot_sklearn, name), type)
    and issubclass(getattr(fewshot_sklearn, name), FewShotClassifier | FewShotRegressor)
]


def told_by(estimator, X, y, groups, **params):
    params = {"max_epochs": 1, "verbose": 0, "device": "cpu", "random_state": 0} | params
    params |= {"n_episodes": 4, "n_valid_episodes": 4, "n_way": 3, "n_shot": 2, "n_query": 2}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MetaTrainer(estimator, **params).fit(X, y, groups=groups)
    return [str(one.message) for one in caught if "one past task only" in str(one.message)]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_one_task_is_told_of_once(method):
    X = np.random.default_rng(0).normal(size=(40, 3))
    classify = issubclass(method, FewShotClassifier)
    y = np.arange(40) % 3 if classify else X.sum(1)
    found = told_by(method(), X, y, np.zeros(40, int))
    assert len(found) == 1 and "several past tasks" in found[0]


@pytest.mark.parametrize("classify", [False, True])
def test_several_tasks_are_not(classify):
    X = np.random.default_rng(0).normal(size=(60, 3))
    method = fewshot_sklearn.ProtoNetClassifier if classify else RidgeHeadRegressor
    y = np.arange(60) % 3 if classify else X.sum(1)
    assert not told_by(method(), X, y, np.arange(60) // 15)
    if classify:  # a pool of more classes than an episode has
        assert not told_by(method(), X, np.arange(60) % 6, None)


def test_parts_of_few_tasks_do_not_repeat_it():
    X = np.random.default_rng(0).normal(size=(60, 3))
    rivals = {"fall_back": {"mean": DummyRegressor()}, "fall_back_parts": 3}
    assert not told_by(RidgeHeadRegressor(), X, X.sum(1), np.arange(60) // 20, **rivals)
