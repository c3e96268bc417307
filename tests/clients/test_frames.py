"""Frames of polars and pyarrow keep their columns wherever rows are picked from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIERS, every_estimator, meta_train, scores_of
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import fewshot_sklearn
from fewshot_sklearn import (
    MetaTrainer,
    RidgeHeadRegressor,
    StrategySelector,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
    select_queries,
)
from fewshot_sklearn.tasks import column_names


@pytest.fixture(params=["polars", "pyarrow"])
def framed(request):
    """What makes the frame of another library of one of pandas."""
    library = pytest.importorskip(request.param)
    if request.param == "polars":
        return lambda table: library.DataFrame(table.to_dict("list"))
    return lambda table: library.table(table.to_dict("list"))


def made():
    """A table of two kinds of columns and the tasks, labels and targets."""
    rng, tasks = np.random.default_rng(0), np.repeat(np.arange(12), 20)
    colours = rng.choice(["red", "green", "blue"], 240)
    table = pd.DataFrame({"a": rng.normal(size=240), "colour": colours, "b": rng.normal(size=240)})
    table["who"] = [f"task {i}" for i in tasks]
    y = np.where((table["colour"] == "red") | (table["a"] > 1), "yes", "no")
    return table, y, 2 * table["a"].to_numpy() + tasks


def by_name(last):
    columns = [
        ("a", StandardScaler(), ["a"]),
        ("c", OneHotEncoder(handle_unknown="ignore"), ["colour"]),
    ]
    return make_pipeline(ColumnTransformer(columns), last)


#: What is asked of a table without and with the column of tasks: the same of any library's.
QUESTIONS = {
    "compare_few_shot": lambda X, whole, y, targets: compare_few_shot(
        by_name(LogisticRegression()), X, y, n_way=2, n_shots=(5,), n_query=5, n_episodes=20,
        baselines=None,
    )[["mean", "failures"]],
    "few_shot_score": lambda X, whole, y, targets: few_shot_score(
        by_name(LogisticRegression()), X, y, n_way=2, n_shot=5, n_query=5, n_episodes=20
    ).scores,
    "TaskwiseClassifier": lambda X, whole, y, targets: (
        TaskwiseClassifier(by_name(LogisticRegression()), task="who").fit(whole, y)
        .partial_fit(whole, y).predict_proba(whole)
    ),
    "TaskwiseRegressor": lambda X, whole, y, targets: (
        TaskwiseRegressor(by_name(Ridge()), task=3).fit(whole, targets).predict(whole)
    ),
    "StrategySelector": lambda X, whole, y, targets: (
        StrategySelector(
            {"by name": by_name(LogisticRegression())}, n_way=2, n_shots=(5,), n_query=5,
            n_episodes=10, random_state=0,
        ).fit(X, y).estimator_.fit(X, y).predict_proba(X)
    ),
    "TrustLearner": lambda X, whole, y, targets: (
        TrustLearner(
            by_name(LogisticRegression()), n_way=2, n_shots=(5,), n_query=5, n_episodes=20,
            novelty_score="max_probability", random_state=0,
        ).fit(X, y).estimator_.fit(X, y).predict_proba(X)
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*past task")
@pytest.mark.parametrize("question", QUESTIONS)
def test_columns_are_found_by_name(question, framed):
    table, y, targets = made()
    X = table.drop(columns="who")
    expected = QUESTIONS[question](X, table, y, targets)
    told = QUESTIONS[question](framed(X), framed(table), y, targets)
    np.testing.assert_array_equal(told, expected)
    if question == "compare_few_shot":
        assert not expected["failures"].any() and expected["mean"][0] > 0.7


@every_estimator
def test_every_estimator(name, framed):
    table, labels, targets = made()
    y = labels if name in CLASSIFIERS else targets
    X, groups = table[["a", "b"]], table["who"]
    other = framed(X)
    options = {"n_way": 2} if name in CLASSIFIERS else {}
    options |= {"n_episodes": 4, "max_epochs": 1, "n_shot": 2, "n_query": 2}
    kind = getattr(fewshot_sklearn, name)
    init = meta_train(kind(encoder="mlp", encoder__hidden=(8,)), other, y, groups, **options)
    same = meta_train(kind(encoder="mlp", encoder__hidden=(8,)), X, y, groups, **options)
    assert init.meta_init == same.meta_init  # the names of the columns are in it
    asked = scores_of(init.fit(other, y), other)
    np.testing.assert_array_equal(asked, scores_of(same.fit(X, y), X))
    taskwise = TaskwiseClassifier if name in CLASSIFIERS else TaskwiseRegressor
    answers = [
        taskwise(init, task="who").fit(frame, y).predict(frame)
        for frame in (table[["a", "b", "who"]], framed(table[["a", "b", "who"]]))
    ]
    np.testing.assert_array_equal(*answers)
    with pytest.raises(ValueError, match="feature names should match"):
        init.predict(framed(X[["b", "a"]]))


def test_names_of_columns(framed):
    table, _, _ = made()
    assert column_names(framed(table)) == list(table)


def test_queries_are_selected_from_them(framed):
    table, _, y = made()
    X = table[["a", "b"]]
    trainer = MetaTrainer(
        RidgeHeadRegressor(), n_episodes=4, max_epochs=1, random_state=0, verbose=0
    ).fit(X, y, groups=table["who"])
    reg = trainer.estimator_.fit(X[:5], y[:5])
    np.testing.assert_array_equal(select_queries(reg, framed(X), 3), select_queries(reg, X, 3))
