"""One adapted model a task: equal to a loop of single fits, whatever the tasks look like."""

from __future__ import annotations

import copy
import json
import os
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from conftest import CLASSIFIERS, every_classifier, every_estimator, every_regressor, meta_train
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fewshot_sklearn import (
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskwiseClassifier,
    TaskwiseRegressor,
)
from fewshot_sklearn.algorithms.ridge import RidgeHeadRegression
from fewshot_sklearn.estimators import ManyTasks
from fewshot_sklearn.learners import Gaussian, Learner
from fewshot_sklearn.tasks import RowsByTask, padded_size
from fewshot_sklearn.taskwise import _states

SIZES = [1, 2, 3, 7, 9, 20, 33, 5, 1, 12]


@pytest.fixture(scope="module")
def many_digits():
    """(X, y, groups): tasks of 1 to 33 rows of 1 to 6 classes, rows in random order."""
    X, y = load_digits(return_X_y=True)
    rng, rows, groups = np.random.default_rng(0), [], []
    for task, size in enumerate(SIZES):
        classes = rng.choice(10, rng.integers(1, 7), replace=False)
        rows.append(rng.choice(np.flatnonzero(np.isin(y, classes)), size))
        groups.append(np.full(size, task * 10))
    order = rng.permutation(sum(SIZES))
    rows, groups = np.concatenate(rows)[order], np.concatenate(groups)[order]
    return X[rows], np.array([f"digit {d}" for d in y[rows]]), groups


@pytest.fixture(scope="module")
def many_sinusoids():
    """(X, y, groups): sinusoids of 1 to 33 rows, in random order."""
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(len(SIZES)) * 10, SIZES))
    X = rng.uniform(-5, 5, (len(groups), 1))
    return X, (1 + groups / 50) * np.sin(X[:, 0] + groups), groups


def taskwise(estimator, **params):
    kind = TaskwiseClassifier if type(estimator).__name__ in CLASSIFIERS else TaskwiseRegressor
    return kind(estimator, **params)


def loop(estimator, X, y, groups, X_query, groups_query, method="predict", weights=None):
    """The reference: clone and fit for one task after the other."""
    answers = {}
    for task in np.unique(groups_query):
        w = None if weights is None else weights[groups == task]
        one = clone(estimator).fit(X[groups == task], y[groups == task], w)
        answers[task] = one, getattr(one, method)(X_query[groups_query == task])
    return answers


# ---------------------------------------------------------------------- equal to a loop
@every_classifier
def test_a_classifier_equals_single_fits(name, trained, many_digits):
    X, y, groups = many_digits
    rng, estimator = np.random.default_rng(1), trained[name]
    asked = rng.permutation(len(X))[:60]
    w = rng.uniform(0.5, 2, len(X))
    fitted = TaskwiseClassifier(estimator).fit(X, y, groups, w)
    proba = fitted.predict_proba(X[asked], groups[asked])
    labels = fitted.predict(X[asked], groups[asked])
    assert proba.shape == (60, len(np.unique(y)))
    singles = loop(estimator, X, y, groups, X[asked], groups[asked], "predict_proba", w)
    for task, (one, expected) in singles.items():
        mine = groups[asked] == task
        has = np.isin(fitted.classes_, one.classes_)
        np.testing.assert_allclose(proba[mine][:, has], expected, atol=2e-3)
        assert (proba[mine][:, ~has] == 0).all()
        sure = np.diff(np.sort(expected, 1), axis=1)[:, -1:].min(1, initial=1) > 1e-2
        assert (labels[mine] == one.classes_[expected.argmax(1)])[sure].all()
        assert np.isin(labels[mine], one.classes_).all()


@every_regressor
def test_a_regressor_equals_single_fits(name, trained, many_sinusoids):
    X, y, groups = many_sinusoids
    rng, estimator = np.random.default_rng(1), trained[name]
    asked = rng.permutation(len(X))[:60]
    w = rng.uniform(0.5, 2, len(X))
    fitted = TaskwiseRegressor(estimator).fit(X, y, groups, w)
    got = fitted.predict(X[asked], groups[asked])
    assert got.shape == (60,)
    for task, (_, expected) in loop(
        estimator, X, y, groups, X[asked], groups[asked], weights=w
    ).items():
        np.testing.assert_allclose(got[groups[asked] == task], expected, atol=5e-3)


@every_estimator
def test_one_task_of_many_on_its_own(name, trained, many_digits, many_sinusoids):
    X, y, groups = many_digits if name in CLASSIFIERS else many_sinusoids
    fitted = taskwise(trained[name]).fit(X, y, groups)
    one = fitted.task_estimator(50)
    assert type(one) is type(trained[name])
    mine = groups == 50
    method = "predict_proba" if name in CLASSIFIERS else "predict"
    alone = getattr(one, method)(X[mine])
    together = getattr(fitted, method)(X[mine], groups[mine])
    if name in CLASSIFIERS:
        together = together[:, np.isin(fitted.classes_, one.classes_)]
    np.testing.assert_allclose(alone, together, atol=1e-4)


def test_standard_deviations_equal_those_of_single_fits(trained, many_sinusoids):
    X, y, groups = many_sinusoids
    estimator = trained["RidgeHeadRegressor"]
    mean, std = TaskwiseRegressor(estimator).fit(X, y, groups).predict(X, groups, return_std=True)
    for task in np.unique(groups):
        mine = groups == task
        single = clone(estimator).fit(X[mine], y[mine]).predict(X[mine], return_std=True)
        np.testing.assert_allclose(mean[mine], single[0], atol=1e-3)
        np.testing.assert_allclose(std[mine], single[1], rtol=1e-3)
    with pytest.raises(ValueError, match="no standard"):
        fitted = TaskwiseRegressor(trained["MAMLRegressor"]).fit(X, y, groups)
        fitted.predict(X, groups, return_std=True)


@pytest.mark.parametrize("options", [{}, {"n_steps": 0}, {"encoder__norm": "layer"}])
def test_descent_without_steps_and_with_a_norm_layer(options, many_sinusoids):
    # a batch without steps shares its start, and norm layers are vmapped
    X, y, groups = many_sinusoids
    Y = np.stack([y, -y], 1)
    past = {"n_shot": 5, "n_query": 5, "n_episodes": 16, "max_epochs": 1}
    estimator = MAMLRegressor(encoder="mlp", encoder__hidden=(8,), **options)
    big = np.isin(groups, [60, 50, 90])
    estimator = meta_train(estimator, X[big], Y[big], groups[big], **past)
    fitted = TaskwiseRegressor(estimator).fit(X, Y, groups)
    got = fitted.predict(X, groups)
    assert got.shape == Y.shape
    for task, (_, expected) in loop(estimator, X, Y, groups, X, groups).items():
        np.testing.assert_allclose(got[groups == task], expected, atol=1e-4)
    # what the states start from is not theirs to write to
    learned = {name: t.copy() for name, t in estimator.meta_init.tensors.items()}
    lone = TaskwiseRegressor(estimator).fit(X[:5], Y[:5], [1, 1, 1, 1, 1])
    lone.partial_fit(X[:5], 3 * Y[:5], [1, 1, 1, 1, 1])
    lone._states.blocks[0]["head.bias"][...] = 7.0
    for name, t in estimator.meta_init.tensors.items():
        np.testing.assert_array_equal(t, learned[name])


class MeanAndSlope(Learner):
    """A learner that is no `FeatureLearner`: the weighted mean, and how far X moves it."""

    def adapt(self, support):
        return {"mean": (support.w[:, None] * support.y).sum(0) / support.w.sum()}

    def predict(self, state, X):
        mean = state["mean"] + self.encoder(X).sum(-1, keepdim=True)
        return Gaussian(mean, mean.exp())


class MeanRegressor(RidgeHeadRegressor):
    _learner_class = MeanAndSlope
    _defaults = {}

    def _learner_params(self, trained):
        return {}


def test_a_learner_of_ones_own(many_sinusoids):
    X, y, groups = many_sinusoids
    past = {"n_shot": 2, "n_query": 2, "n_episodes": 16, "max_epochs": 1}
    big = np.isin(groups, [60, 50, 90])
    estimator = meta_train(MeanRegressor(encoder="mlp"), X[big], y[big], groups[big], **past)
    fitted = TaskwiseRegressor(estimator).fit(X, y, groups)
    mean, std = fitted.predict(X, groups, return_std=True)
    for task, (one, expected) in loop(estimator, X, y, groups, X, groups).items():
        mine = groups == task
        np.testing.assert_allclose(mean[mine], expected, atol=1e-5)
        np.testing.assert_allclose(std[mine], one.predict(X[mine], return_std=True)[1], atol=1e-5)


def test_any_other_estimator_is_fitted_task_by_task(many_sinusoids):
    X, y, groups = many_sinusoids
    w = np.random.default_rng(0).uniform(0.5, 2, len(X))
    with joblib.parallel_config("threading"):
        got = TaskwiseRegressor(Ridge(), n_jobs=2).fit(X, y, groups, w).predict(X, groups)
    for task, (_, expected) in loop(Ridge(), X, y, groups, X, groups, weights=w).items():
        np.testing.assert_array_equal(got[groups == task], expected)


def test_ours_without_past_is_fitted_task_by_task(many_digits):
    X, y, groups = many_digits
    got = TaskwiseClassifier().fit(X, y, groups).predict(X, groups)
    for task, (_, expected) in loop(ProtoNetClassifier(), X, y, groups, X, groups).items():
        np.testing.assert_array_equal(got[groups == task], expected)


def test_weights_reach_the_last_step_of_a_pipeline(many_sinusoids):
    X, y, groups = many_sinusoids
    w = np.random.default_rng(0).uniform(0, 1, len(X))
    pipe = make_pipeline(StandardScaler(), Ridge())
    got = TaskwiseRegressor(pipe).fit(X, y, groups, w).predict(X, groups)
    mine = groups == 60
    expected = clone(pipe).fit(X[mine], y[mine], ridge__sample_weight=w[mine]).predict(X[mine])
    np.testing.assert_allclose(got[mine], expected)
    assert not np.allclose(expected, clone(pipe).fit(X[mine], y[mine]).predict(X[mine]))
    for takes_none in (KNeighborsRegressor(1), make_pipeline(KNeighborsRegressor(1))):
        with pytest.raises(ValueError, match="takes none"):
            TaskwiseRegressor(takes_none).fit(X, y, groups, w)


def test_a_task_of_one_class_where_the_classifier_refuses_one():
    X, y = np.array([[0.0], [1.0], [0.0], [1.0]]), np.array([0, 1, 2, 2])
    groups = ["two", "two", "one", "one"]
    fitted = TaskwiseClassifier(LogisticRegression(), unseen="error").fit(X, y, groups)
    assert fitted.predict(X, groups).tolist() == [0, 1, 2, 2]
    np.testing.assert_allclose(fitted.predict_proba(X, groups)[2:], [[0, 0, 1]] * 2)
    assert isinstance(fitted.task_estimator("one"), DummyClassifier)
    # what is wrong with several classes is an error as ever
    with pytest.raises(ValueError, match="NaN"):
        TaskwiseClassifier(LogisticRegression()).fit([[np.nan], [1.0]], [0, 1], ["a", "a"])


def test_probabilities_only_where_the_classifier_has_them(many_digits):
    X, y, groups = many_digits
    fitted = TaskwiseClassifier(LinearSVC()).fit(X, y, groups)
    assert not hasattr(fitted, "predict_proba")
    assert fitted.score(X, y, groups) == np.mean(fitted.predict(X, groups) == y) > 0.95


# ---------------------------------------------------------------------- whose rows
IDS = {
    "ints": lambda g: g,
    "strings": lambda g: [f"task {i}" for i in g],
    "floats": lambda g: g / 4,
    "bools": lambda g: g == 50,
    "categories": lambda g: pd.Categorical([f"task {i}" for i in g]),
    "times": lambda g: pd.Timestamp("2026-01-01") + pd.to_timedelta(g, "D"),
    "times with a zone": lambda g: pd.Timestamp("2026-01-01", tz="CET") + pd.to_timedelta(g, "D"),
    "periods": lambda g: pd.PeriodIndex([pd.Period("2026-01", "M") + int(i) for i in g]),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_any_kind_in_a_column_or_as_groups(kind, trained, many_sinusoids):
    X, y, groups = many_sinusoids
    estimator, ids = trained["RidgeHeadRegressor"], IDS[kind](groups)
    as_groups = TaskwiseRegressor(estimator).fit(X, y, ids)
    expected = as_groups.predict(X, ids)
    assert as_groups.n_tasks_ == len(np.unique(np.asarray(ids)))
    assert as_groups.n_features_in_ == 1
    one = as_groups.task_estimator(ids[3])
    np.testing.assert_allclose(one.predict(X[[3]]), expected[[3]], rtol=1e-4)

    table = pd.DataFrame({"x": X[:, 0], "who": ids}).sample(frac=1, random_state=0)
    in_column = TaskwiseRegressor(estimator, task="who").fit(table, y[table.index])
    np.testing.assert_allclose(in_column.predict(table), expected[table.index], rtol=1e-4)
    assert in_column.feature_names_in_.tolist() == ["x", "who"]
    assert in_column.n_features_in_ == 2
    assert in_column.task_estimator(ids[3]).feature_names_in_.tolist() == ["x"]


def test_the_task_told_twice_or_not_at_all(many_sinusoids):
    X, y, groups = many_sinusoids
    table = pd.DataFrame({"x": X[:, 0], "who": groups})
    reg = TaskwiseRegressor(task="who")
    with pytest.raises(ValueError, match="Leave one of the two out"):
        reg.fit(table, y, groups)
    for without in (table[["x"]], X):
        with pytest.raises(ValueError, match="names no column of X, and groups is None"):
            reg.fit(without, y)
    reg.fit(table[["x"]], y, groups)  # groups make up for the column
    with pytest.raises(ValueError, match="names no column"):
        reg.predict(table[["x"]])
    with pytest.raises(ValueError, match="groups is needed"):
        TaskwiseRegressor().fit(X, y, groups).predict(X)
    with pytest.raises(ValueError, match="fit had none"):
        TaskwiseRegressor().fit(X, y).predict(X, groups)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        TaskwiseRegressor().fit(X, y, groups[:-1])
    with pytest.raises(ValueError, match="one value a row"):
        TaskwiseRegressor().fit(X, y, np.stack([groups, groups], 1))


@pytest.mark.parametrize(
    "ids",
    [
        [1.0, np.nan],
        ["a", None],
        [pd.Timestamp("2026-01-01"), pd.NaT],
        np.array(["a", 1], dtype=object),
        pd.array([1, pd.NA], dtype="Int64"),
    ],
)
def test_missing_or_mixed_ids_are_refused(ids):
    with pytest.raises(ValueError, match="groups must"):
        TaskwiseRegressor().fit([[0.0], [1.0]], [0.0, 1.0], ids)


def test_columns_in_another_order_are_refused(trained, many_sinusoids):
    X, y, groups = many_sinusoids
    table = pd.DataFrame({"x": X[:, 0], "who": groups})
    for estimator in (trained["RidgeHeadRegressor"], Ridge()):
        fitted = TaskwiseRegressor(estimator, task="who").fit(table, y)
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.predict(table[["who", "x"]])
        with pytest.raises(ValueError, match="features"):
            TaskwiseRegressor(estimator).fit(X, y, groups).predict(np.c_[X, X], groups)


def test_mixed_tables_go_to_foreign_estimators_as_they_are(many_sinusoids):
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OneHotEncoder

    X, y, groups = many_sinusoids
    colour = np.where(X[:, 0] > 0, "red", "blue")
    table = pd.DataFrame({"x": X[:, 0], "colour": colour, "who": groups})
    encode = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    pipe = make_pipeline(encode, LinearRegression())
    fitted = TaskwiseRegressor(pipe, task="who").fit(table, y)
    mine = table[table.who == 60].drop(columns="who")
    expected = clone(pipe).fit(mine, y[mine.index]).predict(mine)
    np.testing.assert_allclose(fitted.predict(table)[mine.index], expected)


# ---------------------------------------------------------------------- unseen tasks
def test_unseen_tasks_get_the_prior_of_a_meta_trained_regressor(trained, many_sinusoids):
    X, y, groups = many_sinusoids
    new = np.where(groups == 20, -1, groups)
    for name in ("RidgeHeadRegressor", "MAMLRegressor"):
        fitted = TaskwiseRegressor(trained[name]).fit(X, y, groups)
        got, known = fitted.predict(X, new), fitted.predict(X, groups)
        prior = trained[name].fit_prior().predict(X[new == -1])
        np.testing.assert_allclose(got[new == -1], prior, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[new >= 0], known[new >= 0], rtol=1e-4, atol=1e-4)
        assert not np.allclose(got[new == -1], known[new == -1])
    mean, std = (
        TaskwiseRegressor(trained["RidgeHeadRegressor"])
        .fit(X, y, groups)
        .predict(X, groups + 1, return_std=True)
    )
    assert mean.shape == std.shape == y.shape and (std > 0).all()


def test_unseen_tasks_get_equal_probabilities_of_a_meta_trained_classifier(trained, many_digits):
    X, y, groups = many_digits
    fitted = TaskwiseClassifier(trained["ProtoNetClassifier"]).fit(X, y, groups)
    proba = fitted.predict_proba(X[:5], [-1, 0, -2, 20, -3])
    np.testing.assert_allclose(proba[[0, 2, 4]], 1 / len(fitted.classes_), rtol=1e-6)
    assert (proba[[1, 3]] == 0).any(1).all()
    assert set(fitted.predict(X[:5], [-1] * 5)) <= set(fitted.classes_)


def test_the_prior_of_a_table_warns_of_no_names(trained, many_sinusoids, recwarn):
    X, y, groups = many_sinusoids
    table = pd.DataFrame({"x": X[:, 0], "who": groups})
    past = {"n_shot": 2, "n_query": 2, "n_episodes": 16, "max_epochs": 1}
    big = table[table.who.isin([60, 50, 90])]
    init = RidgeHeadRegressor(encoder="mlp")
    init = meta_train(init, big[["x"]], y[big.index], big.who, **past)
    fitted = TaskwiseRegressor(init, task="who").fit(table, y)
    fitted.predict(table.assign(who=-1))
    assert not [w for w in recwarn if "feature names" in str(w.message)]


def test_unseen_tasks_get_the_pooled_model_of_any_other_estimator(many_sinusoids):
    X, y, groups = many_sinusoids
    reg = TaskwiseRegressor(Ridge()).fit(X, y, groups)
    pooled = Ridge().fit(X, y).predict(X[:4])
    np.testing.assert_allclose(reg.predict(X[:4], [-1, -2, -1, -3]), pooled)
    reg.partial_fit(X[:9], -y[:9], np.full(9, 999))
    np.testing.assert_allclose(reg.predict(X[:4], [-1, -2, -1, -3]), pooled)
    strict = TaskwiseRegressor(Ridge(), unseen="error").fit(X, y, groups)
    with pytest.raises(ValueError, match="unseen='prior'"):
        strict.set_params(unseen="prior").predict(X[:4], [-1] * 4)


def test_unseen_tasks_as_an_error_that_names_five(trained, many_sinusoids):
    X, y, groups = many_sinusoids
    for estimator in (trained["RidgeHeadRegressor"], Ridge()):
        fitted = TaskwiseRegressor(estimator, unseen="error").fit(X, y, groups)
        with pytest.raises(ValueError, match=r"7 task.*\[1, 2, 3, 4, 5\] and 2 more"):
            fitted.predict(X[:8], [1, 2, 3, 4, 5, 6, 7, 0])
        with pytest.raises(ValueError, match="kind that fit saw"):  # a string is no number
            fitted.predict(X[:1], ["0"])


# ---------------------------------------------------------------------- adding, refitting, removing
def states(fitted):
    return {task: fitted.task_estimator(task).state_ for task in fitted.tasks_.tolist()}


def assert_same_states(some, others):
    assert some.keys() == others.keys()
    for name, array in some.items():
        np.testing.assert_array_equal(array, others[name])


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "SiameseClassifier"])
def test_partial_fit_adds_and_refits_and_touches_no_other(name, trained, many_digits):
    X, y, groups = many_digits
    first = groups < 60
    fitted = TaskwiseClassifier(trained[name]).fit(X[first], y[first], groups[first])
    before, classes = states(fitted), fitted.classes_
    X_new, y_new = np.r_[X[~first], X[:4]], np.r_[y[~first], ["a", "b", "a", "z"]]
    g_new = np.r_[groups[~first], [20, 20, 20, 25]]  # 20 is refitted, 25 is new
    fitted.partial_fit(X_new, y_new, g_new)
    assert fitted.tasks_.tolist() == sorted({*groups.tolist(), 25})
    assert fitted.classes_.tolist() == sorted({*classes, *y_new})
    for task, state in states(fitted).items():
        if task in before and task != 20:
            assert_same_states(state, before[task])
            one = fitted.task_estimator(task)
            assert one.classes_.tolist() == np.unique(y[groups == task]).tolist()
        else:
            mine = g_new == task
            single = clone(trained[name]).fit(X_new[mine], y_new[mine])
            assert fitted.task_estimator(task).classes_.tolist() == single.classes_.tolist()
            ours = fitted.predict_proba(X_new[mine], g_new[mine])
            own = np.isin(fitted.classes_, single.classes_)
            np.testing.assert_allclose(ours[:, own], single.predict_proba(X_new[mine]), atol=1e-3)


def test_partial_fit_in_any_steps_equals_one_fit(trained, many_digits):
    X, y, groups = many_digits
    at_once = TaskwiseClassifier(trained["SiameseClassifier"]).fit(X, y, groups)
    in_steps = TaskwiseClassifier(trained["SiameseClassifier"])
    for task in np.random.default_rng(0).permutation(np.unique(groups)):
        mine = groups == task
        in_steps.partial_fit(X[mine][:1], y[mine][:1], groups[mine][:1])  # to be replaced
        in_steps.partial_fit(X[mine], y[mine], groups[mine])
    np.testing.assert_array_equal(in_steps.tasks_, at_once.tasks_)
    np.testing.assert_array_equal(in_steps.classes_, at_once.classes_)
    np.testing.assert_allclose(
        in_steps.predict_proba(X, groups), at_once.predict_proba(X, groups), atol=1e-5
    )
    assert in_steps.nbytes_ == at_once.nbytes_


def test_a_partial_fit_that_fails_changes_nothing(trained, many_digits):
    X, y, groups = many_digits
    fitted = TaskwiseClassifier(trained["ProtoNetClassifier"]).fit(X, y, groups)
    before, proba = states(fitted), fitted.predict_proba(X, groups)
    wrong = [
        (X[:3], [0, 1, 2], groups[:3], None),  # numbers among strings
        (X[:3], y[:3], ["a", "b", "c"], None),
        (X[:3], y[:3], [1, 1, 2], [1.0, 1.0, 0.0]),
        (X[:3, :5], y[:3], groups[:3], None),
        (np.full((3, 64), np.nan), y[:3], groups[:3], None),
        (X[:3], y[:3], None, None),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError):
            fitted.partial_fit(*arguments)
        for task, state in states(fitted).items():
            assert_same_states(state, before[task])
        np.testing.assert_array_equal(fitted.predict_proba(X, groups), proba)


@pytest.mark.parametrize("meta_trained", [True, False])
def test_forget(meta_trained, trained, many_digits):
    X, y, groups = many_digits
    y = np.where(groups == 20, "only here", y)
    inner = trained["SiameseClassifier"] if meta_trained else KNeighborsClassifier(1)
    fitted = TaskwiseClassifier(inner).fit(X, y, groups)
    kept = ~np.isin(groups, [20, 50])
    before, columns = fitted.predict_proba(X[kept], groups[kept]), fitted.classes_
    size = fitted.nbytes_
    with pytest.raises(ValueError, match=r"no tasks \[3\]"):
        fitted.forget([20, 3])
    assert fitted.n_tasks_ == len(SIZES)
    assert fitted.forget([20, 50]).tasks_.tolist() == np.unique(groups[kept]).tolist()
    assert fitted.nbytes_ < size
    assert fitted.classes_.tolist() == np.unique(y[kept]).tolist()
    same = np.isin(columns, fitted.classes_)
    np.testing.assert_allclose(
        fitted.predict_proba(X[kept], groups[kept]), before[:, same], atol=1e-6
    )
    with pytest.raises(ValueError, match="no tasks"):
        fitted.task_estimator(20)
    fitted.set_params(unseen="error")
    with pytest.raises(ValueError, match="20"):
        fitted.predict(X, groups)
    fitted.partial_fit(X[groups == 20], y[groups == 20], groups[groups == 20])
    assert "only here" in fitted.classes_ and 20 in fitted.tasks_


def test_all_forgotten_is_all_unseen(trained, many_sinusoids, many_digits):
    X, y, groups = many_sinusoids
    reg = TaskwiseRegressor(trained["RidgeHeadRegressor"]).fit(X, y, groups).forget(groups)
    expected = trained["RidgeHeadRegressor"].fit_prior().predict(X)
    np.testing.assert_allclose(reg.predict(X, groups), expected, rtol=1e-5)
    X, y, groups = many_digits
    clf = TaskwiseClassifier(trained["ProtoNetClassifier"]).fit(X, y, groups).forget(groups)
    with pytest.raises(ValueError, match="No task is left"):
        clf.predict(X, groups)
    assert clf.partial_fit(X, y, groups).n_tasks_ == len(SIZES)


# ---------------------------------------------------------------------- in one file
@pytest.mark.parametrize("kind", ["ints", "strings", "times", "categories", "floats"])
def test_saved_tasks_answer_alike(kind, trained, many_digits, tmp_path):
    X, y, groups = many_digits
    ids, path = IDS[kind](groups), tmp_path / "tasks.safetensors"
    fitted = TaskwiseClassifier(trained["SiameseClassifier"]).fit(X, y, ids)
    fitted.forget(ids[0])
    fitted.save_tasks(path)
    assert os.listdir(tmp_path) == ["tasks.safetensors"]
    loaded = TaskwiseClassifier(trained["SiameseClassifier"])
    assert loaded.load_tasks(path) is loaded
    np.testing.assert_array_equal(loaded.tasks_, fitted.tasks_)
    np.testing.assert_array_equal(loaded.classes_, fitted.classes_)
    np.testing.assert_array_equal(loaded.predict_proba(X, ids), fitted.predict_proba(X, ids))
    loaded.partial_fit(X, y, ids)
    assert loaded.n_tasks_ == len(SIZES)


def test_a_saved_table_of_two_targets(trained, many_sinusoids, tmp_path):
    X, y, groups = many_sinusoids
    table = pd.DataFrame({"x": X[:, 0], "who": groups})
    reg = TaskwiseRegressor(trained["RidgeHeadRegressor"], task="who").fit(table, y[:, None])
    reg.save_tasks(tmp_path / "tasks.safetensors")
    loaded = TaskwiseRegressor(trained["RidgeHeadRegressor"], task="who")
    loaded.load_tasks(tmp_path / "tasks.safetensors")
    assert loaded.predict(table).shape == (len(X), 1)
    np.testing.assert_array_equal(loaded.predict(table), reg.predict(table))
    assert loaded.feature_names_in_.tolist() == ["x", "who"]
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(table[["who", "x"]])


def test_a_file_of_another_estimator_or_damaged(trained, many_sinusoids, tmp_path):
    X, y, groups = many_sinusoids
    ridge, path = trained["RidgeHeadRegressor"], tmp_path / "tasks.safetensors"
    TaskwiseRegressor(ridge).fit(X, y, groups).save_tasks(path)
    past = {"n_shot": 2, "n_query": 2, "n_episodes": 16, "max_epochs": 1}
    big = np.isin(groups, [60, 50, 90])
    other = meta_train(RidgeHeadRegressor(encoder="mlp"), X[big], y[big], groups[big], **past)
    for wrong, what in [
        (other, "meta_init="),
        (trained["MAMLRegressor"], "estimator="),
        (clone(ridge).set_params(dtype="float64"), "dtype="),
        (clone(ridge).set_params(noise=0.7), "hyperparameters="),
    ]:
        with pytest.raises(ValueError, match=what):
            TaskwiseRegressor(wrong).load_tasks(path)
    with pytest.raises(ValueError, match="joblib"):
        TaskwiseRegressor().load_tasks(path)
    with pytest.raises(ValueError, match="joblib"):
        TaskwiseRegressor().fit(X, y, groups).save_tasks(tmp_path / "none")
    with pytest.raises(NotFittedError):
        TaskwiseRegressor(ridge).save_tasks(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        TaskwiseRegressor(ridge).load_tasks(tmp_path / "none")
    with pytest.raises(ValueError, match="Only task ids"):
        fitted = TaskwiseRegressor(ridge).fit(X, y, IDS["periods"](groups))
        fitted.save_tasks(tmp_path / "none")
    assert os.listdir(tmp_path) == ["tasks.safetensors"]

    content = bytearray(path.read_bytes())
    ridge.meta_init.save(tmp_path / "init.safetensors")
    content[-3] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    (tmp_path / "short").write_bytes(content[:-50])
    (tmp_path / "empty").write_bytes(b"")
    for name, what in [
        ("flipped", "checksum"),
        ("short", "damaged"),
        ("empty", "damaged"),
        ("init.safetensors", "does not hold tasks written by save_tasks"),
    ]:
        with pytest.raises(ValueError, match=what):
            TaskwiseRegressor(ridge).load_tasks(tmp_path / name)


def test_the_file_holds_ids_and_classes_as_json_and_no_pickle(trained, many_digits, tmp_path):
    X, y, groups = many_digits
    path = tmp_path / "tasks.safetensors"
    TaskwiseClassifier(trained["ProtoNetClassifier"]).fit(X, y, groups).save_tasks(path)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    told = json.loads(header["__metadata__"]["taskwise"])["told"]
    assert told["tasks"]["values"] == np.unique(groups).tolist()
    assert told["classes"]["values"] == np.unique(y).tolist()
    assert told["meta_init"] == trained["ProtoNetClassifier"].meta_init.digest


def test_a_path_as_meta_init_is_read_once(trained, many_sinusoids, tmp_path):
    X, y, groups = many_sinusoids
    trained["RidgeHeadRegressor"].meta_init.save(tmp_path / "init.safetensors")
    inner = RidgeHeadRegressor(tmp_path / "init.safetensors")
    fitted = TaskwiseRegressor(inner).fit(X, y, groups)
    os.unlink(tmp_path / "init.safetensors")
    expected = TaskwiseRegressor(trained["RidgeHeadRegressor"]).fit(X, y, groups)
    np.testing.assert_array_equal(fitted.predict(X, groups), expected.predict(X, groups))
    fitted.task_estimator(20).predict(X)


# ---------------------------------------------------------------------- among scikit-learn's own
def test_clone_pickle_and_copy(trained, many_digits):
    X, y, groups = many_digits
    fitted = TaskwiseClassifier(trained["SiameseClassifier"], unseen="error").fit(X, y, groups)
    assert not hasattr(clone(fitted), "tasks_")
    assert clone(fitted).unseen == "error"
    for twin in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(
            twin.predict_proba(X, groups), fitted.predict_proba(X, groups)
        )
        twin.forget(20)
    assert 20 in fitted.tasks_


def test_states_mapped_from_a_file_can_be_refitted(trained, many_sinusoids, tmp_path):
    X, y, groups = many_sinusoids
    fitted = TaskwiseRegressor(trained["RidgeHeadRegressor"]).fit(X, y, groups)
    joblib.dump(fitted, tmp_path / "dump")
    mapped = joblib.load(tmp_path / "dump", mmap_mode="r")
    mapped.partial_fit(X, -y, groups)
    np.testing.assert_allclose(
        mapped.predict(X, groups),
        TaskwiseRegressor(trained["RidgeHeadRegressor"]).fit(X, -y, groups).predict(X, groups),
    )


def test_groups_are_routed(trained, many_sinusoids):
    X, y, groups = many_sinusoids
    folds = KFold(3, shuffle=True, random_state=0)
    reg = TaskwiseRegressor(trained["RidgeHeadRegressor"])
    with sklearn.config_context(enable_metadata_routing=True):
        found = cross_validate(reg, X, y, cv=folds, params={"groups": groups})["test_score"]
        grid = GridSearchCV(TaskwiseRegressor(Ridge()), {"estimator__alpha": [0.1, 1e6]}, cv=folds)
        grid.fit(X, y, groups=groups)
        assert grid.best_params_ == {"estimator__alpha": 0.1}
        across = cross_validate(reg, X, y, cv=GroupKFold(3), params={"groups": groups})
        assert np.isfinite(across["test_score"]).all()
    for score, (train, test) in zip(found, folds.split(X), strict=True):
        fitted = clone(reg).fit(X[train], y[train], groups[train])
        assert score == pytest.approx(fitted.score(X[test], y[test], groups[test]))


def test_a_column_of_tasks_needs_no_routing(many_sinusoids):
    X, y, groups = many_sinusoids
    table = pd.DataFrame({"x": X[:, 0], "who": groups})
    grid = GridSearchCV(
        TaskwiseRegressor(Ridge(), task="who"),
        {"estimator__alpha": [0.1, 1e6]},
        cv=KFold(3, shuffle=True, random_state=0),
        scoring="neg_mean_absolute_error",
    )
    assert grid.fit(table, y).best_params_ == {"estimator__alpha": 0.1}


def test_standard_deviations_of_a_foreign_regressor(many_sinusoids):
    X, y, groups = many_sinusoids
    gp = GaussianProcessRegressor(alpha=0.1)
    _, std = TaskwiseRegressor(gp).fit(X, y, groups).predict(X, groups, return_std=True)
    mine = groups == 60
    expected = clone(gp).fit(X[mine], y[mine]).predict(X[mine], return_std=True)[1]
    np.testing.assert_allclose(std[mine], expected)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (TaskwiseRegressor(unseen="guess"), "unseen must be"),
        (TaskwiseRegressor(ProtoNetClassifier()), "estimator must be a regressor"),
        (TaskwiseClassifier(Ridge()), "estimator must be a classifier"),
        (TaskwiseClassifier("ridge"), "estimator must be a classifier"),
    ],
)
def test_wrong_parameters(wrong, what):
    with pytest.raises(ValueError, match=what):
        wrong.fit([[0.0], [1.0]], [0, 1], [0, 1])


@pytest.mark.parametrize("y", [[0.0, np.nan], np.array(["a", np.nan], dtype=object)])
def test_missing_labels_are_refused(y, trained):
    for inner in (trained["ProtoNetClassifier"], None, LogisticRegression()):
        with pytest.raises(ValueError, match="contains NaN"):
            TaskwiseClassifier(inner).fit(np.ones((2, 64)), y, [0, 1])


def test_rows_of_another_shape_than_meta_trained_on(trained, many_digits):
    X, y, groups = many_digits
    fitted = TaskwiseClassifier(trained["ProtoNetClassifier"])
    with pytest.raises(ValueError, match="meta-trained on rows of shape"):
        fitted.fit(X[:, :5], y, groups)
    with pytest.raises(ValueError, match="features"):
        fitted.fit(X, y, groups).predict(X[:, :5], groups)
    with pytest.raises(ValueError, match="2 output"):
        reg = TaskwiseRegressor(trained["RidgeHeadRegressor"])
        reg.fit(X[:, :1], np.ones((len(X), 2)), groups)


def test_a_task_whose_rows_weigh_nothing(trained, many_sinusoids):
    X, y, groups = many_sinusoids
    with pytest.raises(ValueError, match=r"all are zero of \[20\]"):
        TaskwiseRegressor(trained["RidgeHeadRegressor"]).fit(X, y, groups, groups != 20)


def test_rows_without_label(trained, many_digits):
    X, y, groups = many_digits
    hidden = np.where(np.arange(len(y)) % 3 == 0, "?", y)
    labelled = np.isin(groups, np.unique(groups[hidden != "?"]))
    X, hidden, groups = X[labelled], hidden[labelled], groups[labelled]
    inner = trained["ProtoNetClassifier"].set_params(unlabelled="?")
    fitted = TaskwiseClassifier(inner).fit(X, hidden, groups)
    assert "?" not in fitted.classes_
    got = fitted.predict_proba(X, groups)
    for task, (one, expected) in loop(inner, X, hidden, groups, X, groups, "predict_proba").items():
        own = np.isin(fitted.classes_, one.classes_)
        np.testing.assert_allclose(got[groups == task][:, own], expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"unlabelled of \[7\]"):
        fitted.partial_fit(X[:1], ["?"], [7])


# ---------------------------------------------------------------------- batches
def test_padding_is_at_most_a_quarter_and_covers_all_rows():
    counts = np.arange(1, 5000)
    sizes = padded_size(counts)
    assert (sizes >= counts).all() and (sizes <= 1.25 * counts).all()
    assert (np.diff(sizes) >= 0).all() and len(np.unique(sizes)) < 60


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_hold_every_task_once_and_are_bounded(trained, device, monkeypatch):
    monkeypatch.setattr("fewshot_sklearn.estimators.many_tasks.NUMBERS_AT_ONCE", 2000)
    rng = np.random.default_rng(0)
    tasks = rng.permutation(np.repeat(np.arange(200), rng.integers(1, 40, 200)))
    by_task, kinds = RowsByTask.of(tasks), np.arange(200) % 3
    many = ManyTasks(trained["RidgeHeadRegressor"], np.zeros((len(tasks), 1)))
    many.device = torch.device(device)  # only asked what it is
    seen, sizes = [], []
    for which in many.batches(kinds, by_task.counts):
        assert len(set(kinds[which])) == 1
        rows = by_task.padded(which)
        assert rows.size * max(rows.shape[1], many.learner.n_features) <= 2000 or len(which) == 1
        real = rows >= 0
        assert (tasks[rows] == by_task.tasks[which][:, None])[real].all()
        seen.append(rows[real])
        sizes.append(len(which))
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(len(tasks)))
    assert max(sizes) > 1


def test_groups_that_a_search_keeps_to_itself_are_missed(many_sinusoids):
    X, y, groups = many_sinusoids
    search = GridSearchCV(TaskwiseRegressor(Ridge()), {"unseen": ["prior"]}, cv=GroupKFold(3))
    with pytest.warns(UserWarning, match=r"all rows count as one task.*enable_metadata_routing"):
        search.fit(X, y, groups=groups)
    alone = [r for r in range(len(y)) if groups[r] in (30, 60)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TaskwiseRegressor(Ridge()).fit(X, y, groups)
        TaskwiseRegressor(Ridge()).fit(X[alone], y[alone], groups[alone] * 0)
        TaskwiseRegressor(Ridge(), task=0).fit(np.c_[groups, X], y)
        with sklearn.config_context(enable_metadata_routing=True):
            search.fit(X, y, groups=groups)
    assert search.best_estimator_.n_tasks_ == len(SIZES)


def test_files_of_the_first_format_load_and_answer(tmp_path, monkeypatch):
    """Whose linear heads hold a matrix of all pairs of features; and rows can be added to them."""
    rng = np.random.default_rng(0)
    X, y, groups = rng.normal(size=(60, 30)), rng.normal(size=60), np.repeat(np.arange(12), 5)
    trainer = MetaTrainer(
        RidgeHeadRegressor(), n_shot=3, n_query=2, max_epochs=1, n_episodes=8, random_state=0,
        verbose=0, validation_fraction=0,
    )  # fmt: skip
    estimator = trainer.fit(X, y, groups).estimator_
    options = {"updatable": True}
    now = TaskwiseRegressor(estimator, **options).fit(X, y, groups)
    with monkeypatch.context() as older:
        older.setattr(RidgeHeadRegression, "_few", lambda self, n_rows: False)
        older.setattr(_states, "FORMAT", 1)
        TaskwiseRegressor(estimator, **options).fit(X, y, groups).save_tasks(tmp_path / "older")
    loaded = TaskwiseRegressor(estimator, **options).load_tasks(tmp_path / "older")
    assert loaded.nbytes_ > 4 * now.nbytes_
    for one in (now, loaded):
        one.partial_fit(X[:2], y[:2], groups[:2], mode="add")
    ours, theirs = (one.predict(X, groups, return_std=True) for one in (now, loaded))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    now.save_tasks(tmp_path / "now")
    monkeypatch.setattr(_states, "FORMAT", 1)
    with pytest.raises(ValueError, match="has format 2; this version reads up to 1"):
        TaskwiseRegressor(estimator, **options).load_tasks(tmp_path / "now")
