"""The column of tasks by name and by place: in data frames, and in the arrays that tools make."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIERS, every_estimator, meta_train, scores_of
from scipy.sparse import csr_array
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB

import fewshot_sklearn
from fewshot_sklearn import RidgeHeadRegressor, TaskwiseClassifier, TaskwiseRegressor


def made(ids):
    """A data frame with the column of tasks in the middle, labels and targets."""
    rng = np.random.default_rng(0)
    numbers = np.repeat(np.arange(6), 8)
    table = pd.DataFrame({"a": rng.normal(size=48), "who": np.array(ids)[numbers]})
    table["b"] = rng.normal(size=48)
    return table, np.where(table["a"] * (numbers % 2 - 0.5) > 0, "up", "down"), table["b"] + numbers


NAMES = [f"customer {i}" for i in range(6)]
IDS = {"strings": NAMES, "ints": [7, 3, 20, 1, 4, 0]}
every_kind = pytest.mark.parametrize("ids", IDS.values(), ids=IDS)


def arrays_of(table):
    """What tools make of a data frame."""
    yield table.to_numpy()
    yield table.to_numpy().astype(object)
    yield table.to_numpy().tolist()


def quiet(call, *args):
    """The answer, without scikit-learn's word that an array has no column names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        return call(*args)


@every_estimator
@every_kind
def test_arrays_after_a_data_frame(name, ids):
    table, labels, targets = made(ids)
    kind, y = (TaskwiseClassifier, labels) if name in CLASSIFIERS else (TaskwiseRegressor, targets)
    inner = getattr(fewshot_sklearn, name)(encoder="mlp", encoder__hidden=(8,))
    options = {"n_way": 2} if name in CLASSIFIERS else {}
    options |= {"n_episodes": 2, "max_epochs": 1, "n_shot": 2, "n_query": 2}
    inner = meta_train(inner, table[["a", "b"]], y, table["who"], **options)
    fitted = kind(inner, task="who").fit(table, y)
    expected = scores_of(fitted, table)
    for array in arrays_of(table):
        np.testing.assert_array_equal(quiet(lambda X: scores_of(fitted, X), array), expected)
    by_groups = kind(inner).fit(table[["a", "b"]], y, table["who"])
    method = getattr(by_groups, "predict_proba", by_groups.predict)
    np.testing.assert_array_equal(method(table[["a", "b"]], table["who"]), expected)


@every_kind
@pytest.mark.parametrize("inner", [GaussianNB(), LogisticRegression()], ids=repr)
def test_arrays_after_a_data_frame_for_any_estimator(inner, ids):
    table, y, _ = made(ids)
    fitted = TaskwiseClassifier(inner, task="who").fit(table, y)
    for array in arrays_of(table):
        told = quiet(fitted.predict_proba, array)
        np.testing.assert_allclose(told, fitted.predict_proba(table), rtol=1e-12)
    array = table.to_numpy()
    new = np.array(NAMES if ids is NAMES else IDS["ints"], dtype=object)[0]
    array[:8, 1] = new
    assert quiet(fitted.partial_fit, array[:8], y[:8]).n_tasks_ == 6


@pytest.mark.parametrize("task", [1, -2, np.int64(1)])
def test_the_place_of_the_column(task):
    table, _, y = made(IDS["ints"])
    expected = TaskwiseRegressor(Ridge(), task="who").fit(table, y).predict(table)
    placed = TaskwiseRegressor(Ridge(), task=task)
    for X in (table, *arrays_of(table.astype(float))):
        np.testing.assert_allclose(placed.fit(X, y).predict(X), expected)
    few = placed.fit(csr_array(table.to_numpy()), y)
    np.testing.assert_allclose(few.predict(csr_array(table.to_numpy())), expected)
    with pytest.raises(ValueError, match=r"Leave one of the two out"):
        placed.fit(table, y, groups=table["who"])


@pytest.mark.parametrize("task", [3, -4])
def test_no_such_place(task):
    table, _, y = made(IDS["ints"])
    with pytest.raises(ValueError, match=r"place of a column of X, got X of shape \(48, 3\)"):
        TaskwiseRegressor(Ridge(), task=task).fit(table, y)


def test_a_name_that_is_a_number_is_the_name():
    table, _, y = made(IDS["ints"])
    table.columns = [1, 0, 2]  # the column of tasks is called 0, and is in the second place
    fitted = TaskwiseRegressor(Ridge(), task=0).fit(table, y)
    assert fitted.tasks_.tolist() == sorted(IDS["ints"])
    np.testing.assert_array_equal(fitted.predict(table.to_numpy()), fitted.predict(table))


def test_a_name_alone_says_nothing_of_an_array():
    table, _, y = made(IDS["ints"])
    with pytest.raises(ValueError, match="the place of the column as task"):
        TaskwiseRegressor(Ridge(), task="who").fit(table.to_numpy(), y)


def test_tools_that_make_arrays_of_tables():
    table, y, _ = made(IDS["ints"])
    fitted = TaskwiseClassifier(GaussianNB(), task="who").fit(table, y)
    told = quiet(lambda: permutation_importance(fitted, table.to_numpy(), y, random_state=0))
    assert told.importances_mean[0] > 2 * abs(told.importances_mean[2])
    groups, cv = np.tile(np.arange(8), 6), GroupKFold(4)
    by_name, by_place = (
        cross_val_score(TaskwiseClassifier(GaussianNB(), task=task), X, y, groups=groups, cv=cv)
        for task, X in [("who", table), (1, table.to_numpy())]
    )
    np.testing.assert_allclose(by_place, by_name)


def test_a_saved_file_knows_the_place(tmp_path):
    table, _, y = made(NAMES)
    init = meta_train(
        RidgeHeadRegressor(), table[["a", "b"]], y, table["who"], n_episodes=2, max_epochs=1,
        n_shot=2, n_query=2,
    )  # fmt: skip
    fitted = TaskwiseRegressor(init, task="who").fit(table, y)
    fitted.save_tasks(tmp_path / "tasks")
    loaded = TaskwiseRegressor(init, task="who").load_tasks(tmp_path / "tasks")
    array = table.to_numpy()
    np.testing.assert_array_equal(quiet(loaded.predict, array), fitted.predict(table))


@pytest.mark.parametrize("given", [["0"], np.array(["0"], object), [b"0"], ["2024-01-01"]])
def test_ids_of_another_kind_are_a_mistake(given):
    table, y, _ = made(IDS["ints"])
    fitted = TaskwiseClassifier(GaussianNB()).fit(table[["a", "b"]], y, table["who"])
    for call in (fitted.predict, fitted.predict_proba):
        with pytest.raises(ValueError, match="values of the kind that fit saw"):
            call(table[["a", "b"]][:1], given)
    assert fitted.predict(table[["a", "b"]][:2], [20.0, 99.5]).shape == (2,)


def test_numbers_of_an_array_in_place_of_names_are_unseen_tasks():
    table, y, _ = made(NAMES)
    fitted = TaskwiseClassifier(GaussianNB(), task="who").fit(table, y)
    with pytest.warns(UserWarning, match=r"The column 'who' of X must.*taken for unseen tasks"):
        fitted.predict(np.zeros((1, 3)))
    table["who"] = 0
    with pytest.raises(ValueError, match="The column 'who' of X must hold values of the kind"):
        fitted.predict(table)


def test_intervals_of_mapie():
    regression = pytest.importorskip("mapie.regression")

    table, _, y = made(NAMES)
    fitted = TaskwiseRegressor(Ridge(), task="who").fit(table[::2], y[::2])
    with pytest.warns(UserWarning, match="taken for unseen tasks"):  # it tries it out with zeros
        conformal = regression.SplitConformalRegressor(fitted, prefit=True, confidence_level=0.8)
        quiet(conformal.conformalize, table[1::2].to_numpy(), y[1::2])
        told, intervals = quiet(conformal.predict_interval, table.to_numpy())
    np.testing.assert_allclose(told, fitted.predict(table))
    inside = (intervals[:, 0, 0] <= y) & (y <= intervals[:, 1, 0])
    assert inside[1::2].mean() >= 0.8


@pytest.mark.parametrize("meta_trained", [True, False])
def test_classes_after_partial_fit(trained, meta_trained):
    X, y = np.arange(8.0)[:, None] * np.ones(64), np.array(list("aabbccdd"))
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    inner = trained["ProtoNetClassifier"] if meta_trained else GaussianNB()
    fitted = TaskwiseClassifier(inner).fit(X, y, groups)
    assert fitted.classes_.tolist() == ["a", "b", "c", "d"]
    fitted.partial_fit(X[:4], ["b", "b", "long", "long"], groups[:4])
    assert fitted.classes_.tolist() == ["b", "c", "d", "long"]
    at_once = TaskwiseClassifier(inner).fit(X, ["b", "b", "long", "long", *y[4:]], groups)
    np.testing.assert_array_equal(fitted.predict(X, groups), at_once.predict(X, groups))
    np.testing.assert_allclose(fitted.predict_proba(X, groups), at_once.predict_proba(X, groups))
    # the model of all rows still knows a class that no task has any more
    unseen = fitted.predict_proba(X, groups + 9)
    np.testing.assert_allclose(unseen.sum(1), 1, rtol=1e-6)
    assert set(fitted.predict(X, groups + 9)) <= set(fitted.classes_)
