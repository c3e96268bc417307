"""SHAP explains what was fitted, a model of many tasks included."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIERS, every_estimator

import fewshot_sklearn
from fewshot_sklearn import TaskwiseClassifier, TaskwiseRegressor

shap = pytest.importorskip("shap")
pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")


def made():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(30, 3)), columns=["a", "b", "c"])
    return table, np.where(table["a"] > 0, "up", "down"), 3 * table["a"].to_numpy()


@every_estimator
def test_every_estimator(name):
    table, labels, targets = made()
    estimator = getattr(fewshot_sklearn, name)(encoder="identity", random_state=0)
    estimator.fit(table, labels if name in CLASSIFIERS else targets)
    asked = estimator.predict_proba if name in CLASSIFIERS else estimator.predict
    explainer = shap.KernelExplainer(asked, shap.sample(table, 10, random_state=0), silent=True)
    values = explainer.shap_values(table.iloc[:2], silent=True)
    base = np.asarray(explainer.expected_value)
    np.testing.assert_allclose(values.sum(1) + base, asked(table.iloc[:2]), atol=1e-3)


@pytest.mark.parametrize("ids", [["ann", "bob"], [7, 3]], ids=["strings", "ints"])
def test_a_model_of_each_of_many_tasks(ids):
    table, labels, targets = made()
    table.insert(1, "who", [ids[i % 2] for i in range(30)])
    clf = TaskwiseClassifier(task="who").fit(table, labels)
    reg = TaskwiseRegressor(task="who").fit(table, targets)
    for asked in (clf.predict_proba, reg.predict):
        explainer = shap.KernelExplainer(asked, table.iloc[:10], silent=True)
        values = explainer.shap_values(table.iloc[:2], silent=True)
        told = values.sum(1) + np.asarray(explainer.expected_value)
        np.testing.assert_allclose(told, asked(table.iloc[:2]), atol=1e-3)
