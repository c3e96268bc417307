"""Rows added to known tasks: equal to a fit on all rows, where the method takes them in."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import CLASSIFIERS, REGRESSORS, every_estimator, meta_train, scores_of
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fewshot_sklearn
from fewshot_sklearn import (
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskwiseClassifier,
    TaskwiseRegressor,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.estimators import many_tasks

#: Meta-trained estimators that take rows into what they know.
TAKE_IN = (
    "CAMLClassifier",
    "DN4Classifier",
    "DeepEMDClassifier",
    "DeepKernelClassifier",
    "DeepKernelRegressor",
    "FEATClassifier",
    "FRNClassifier",
    "GaussianProtoNetClassifier",
    "InContextClassifier",
    "InContextRegressor",
    "KernelLogisticClassifier",
    "MatchingNetClassifier",
    "MetaOptNetClassifier",
    "NearestClassMeanClassifier",
    "ProtoNetClassifier",
    "R2D2Classifier",
    "RelationNetClassifier",
    "RidgeHeadClassifier",
    "RidgeHeadRegressor",
    "SiameseClassifier",
    "SimpleCNAPSClassifier",
    "TransductiveLaplacianShotClassifier",
    "TransductivePTMAPClassifier",
    "TransductivePropagationClassifier",
    "TransductiveTIMClassifier",
)
take_in = pytest.mark.parametrize("name", TAKE_IN)
#: Of a running mean, of all features, of a posterior.
KINDS = pytest.mark.parametrize(
    "name", ["ProtoNetClassifier", "SiameseClassifier", "RidgeHeadRegressor"]
)
SMALL = {
    "CAMLClassifier": {"n_layers": 1, "n_hidden": 16},
    "InContextClassifier": {"n_layers": 1, "n_hidden": 16},
    "InContextRegressor": {"n_layers": 1, "n_hidden": 16},
    "NeuralProcessRegressor": {"n_hidden": 16},
}
CLOSE = {"rtol": 1e-6, "atol": 1e-8}
N = 150


class Past(dict):
    """Estimators that are meta-trained when they are first asked for, in double precision."""

    def __missing__(self, name):
        sizes = {"encoder": "mlp", "encoder__hidden": (8,)} | SMALL.get(name, {})
        start = getattr(fewshot_sklearn, name)(**sizes, random_state=0)
        few = {"n_shot": 3, "n_query": 3, "n_episodes": 8, "max_epochs": 1}
        if name in CLASSIFIERS:
            X, y = load_digits(return_X_y=True)
            made = meta_train(start, X[y < 7], y[y < 7], n_way=3, **few)
        else:
            tasks = make_sinusoid_tasks(20, n_shot=10, n_query=10, random_state=0)
            made = meta_train(start, tasks.data, 20 * tasks.target + 9, tasks.groups, **few)
        self[name] = made.set_params(dtype="float64")
        return self[name]


@pytest.fixture(scope="module")
def past():
    return Past()


def rows_of(name):
    """(X, y, groups, weights) of ten tasks in random order, each with classes of its own."""
    rng = np.random.default_rng(5)
    groups = rng.permutation(np.repeat(np.arange(10) * 10, [1, 2, 3, 7, 9, 20, 33, 15, 25, 35]))
    w = rng.choice([0.0, 0.5, 1.0, 2.0], N)
    w[np.unique(groups, return_index=True)[1]] = 1.0  # what a task begins with weighs something
    if name in REGRESSORS:
        X = rng.uniform(-5, 5, (N, 1))
        return X, 20 * np.sin(X[:, 0] + groups) + 9, groups, w
    X, y = load_digits(return_X_y=True)
    labels = np.stack([rng.choice(10, 5, replace=False) for _ in range(10)])
    chosen = labels[groups // 10, rng.integers(0, 5, N)]
    rows = np.array([rng.choice(np.flatnonzero(y == label)) for label in chosen])
    return X[rows], np.array([f"digit {d}" for d in y[rows]]), groups, w


def taskwise(estimator, **params):
    kind = TaskwiseClassifier if type(estimator).__name__ in CLASSIFIERS else TaskwiseRegressor
    return kind(estimator, **{"updatable": True, **params})


def in_pieces(fitted, rows, cuts):
    for a, b in pairwise([0, *cuts, N]):
        X, y, groups, w = (part[a:b] for part in rows)
        fitted.partial_fit(X, y, groups, w, mode="add")
    return fitted


def everything(fitted, X, groups):
    """All that it answers, unseen tasks included."""
    X, groups = np.r_[X, X[:3]], np.r_[groups, [1, 2, 3]]
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(X, groups)
    try:
        return np.stack(fitted.predict(X, groups, return_std=True))
    except ValueError:  # which has no standard deviation
        return fitted.predict(X, groups)


def assert_equal_answers(some, other, X, groups):
    np.testing.assert_array_equal(some.tasks_, other.tasks_)
    assert some.n_tasks_ == other.n_tasks_
    if hasattr(some, "classes_"):
        assert some.classes_.tolist() == other.classes_.tolist()
        for task in some.tasks_.tolist():
            own = [t.task_estimator(task).classes_.tolist() for t in (some, other)]
            assert own[0] == own[1]
    np.testing.assert_allclose(everything(some, X, groups), everything(other, X, groups), **CLOSE)


def states(fitted):
    return {t: fitted.task_estimator(t).state_ for t in fitted.tasks_.tolist()}


def assert_same_states(some, others):
    assert some.keys() == others.keys()
    for task, state in some.items():
        assert state.keys() == others[task].keys()
        for name, array in state.items():
            np.testing.assert_array_equal(array, others[task][name])


# ---------------------------------------------------------------------- equal to one fit
@every_estimator
def test_pieces_equal_one_fit_or_an_error_says_who_can(name, past):
    rows = X, y, groups, w = rows_of(name)
    if name in TAKE_IN:
        whole = taskwise(past[name]).fit(X, y, groups, w)
        without = taskwise(past[name], updatable=False).fit(X, y, groups, w)
        np.testing.assert_allclose(
            everything(whole, X, groups), everything(without, X, groups), **CLOSE
        )
        # tasks come one after the other, and their classes
        assert len(np.unique(groups[:12])) < 10
        assert_equal_answers(
            in_pieces(taskwise(past[name]), rows, [12, 30, 31, 90]), whole, X, groups
        )
        return
    kind = "Classifier" if name in CLASSIFIERS else "Regressor"
    with pytest.raises(ValueError, match=f'{name}.*RidgeHead{kind}.*mode="replace"'):
        taskwise(past[name]).fit(X, y, groups)
    fitted = taskwise(past[name], updatable=False).fit(X, y, groups)
    before = states(fitted)
    with pytest.raises(ValueError, match=f'{name}.*RidgeHead{kind}.*mode="replace"'):
        fitted.partial_fit(X[:3], y[:3], groups[:3], mode="add")
    assert_same_states(states(fitted), before)


@take_in
@pytest.mark.parametrize("way", ["file", "pickle"])
def test_it_goes_on_after_being_kept(name, way, past, tmp_path):
    X, y, groups, w = rows_of(name)
    fitted = taskwise(past[name]).fit(X[:60], y[:60], groups[:60], w[:60])
    if way == "file":
        fitted.save_tasks(tmp_path / "tasks")
        # what `fit` kept decides, not who loads it
        kept = taskwise(past[name], updatable=False).load_tasks(tmp_path / "tasks")
    else:
        kept = pickle.loads(pickle.dumps(fitted))
    before = states(fitted)
    kept.partial_fit(X[60:], y[60:], groups[60:], w[60:], mode="add")
    assert_equal_answers(kept, taskwise(past[name]).fit(X, y, groups, w), X, groups)
    assert_same_states(states(fitted), before)


@take_in
def test_row_by_row_in_small_batches(name, past, monkeypatch):
    X, y, groups, w = rows_of(name)
    whole = taskwise(past[name]).fit(X, y, groups, w)
    monkeypatch.setattr(many_tasks, "NUMBERS_AT_ONCE", 2000)
    monkeypatch.setattr(many_tasks, "TASKS_AT_ONCE", 2)
    fitted = taskwise(past[name]).fit(X[:120], y[:120], groups[:120], w[:120])
    for i in range(120, N):
        fitted.partial_fit(X[i : i + 1], y[i : i + 1], groups[i : i + 1], w[i : i + 1], mode="add")
    assert_equal_answers(fitted, whole, X, groups)
    assert all(len(next(iter(block.values()))) for block in fitted._states.blocks)


@pytest.mark.parametrize("name", [name for name in TAKE_IN if name in CLASSIFIERS])
def test_tasks_of_one_size_that_had_other_classes(name, past):
    X, _, _, _ = rows_of(name)
    X, groups = X[:144], np.repeat(np.arange(12), 12)
    y = np.tile(np.repeat(["a", "b", "c"], 4), 12)
    missing = np.array(["a", "b", "c"])[groups % 3]  # until later
    first, whole = y != missing, taskwise(past[name]).fit(X, y, groups)
    pieces = taskwise(past[name]).fit(X[first], y[first], groups[first])
    pieces.partial_fit(X[~first], y[~first], groups[~first], mode="add")
    assert_equal_answers(pieces, whole, X, groups)


@KINDS
def test_batches_are_bounded_by_what_states_hold_too(name, past, monkeypatch):
    X, y, _, _ = rows_of(name)
    groups = np.arange(N) % 10
    if name in CLASSIFIERS:  # the same of all tasks, so that nothing else keeps them apart
        y = np.where(np.arange(N) // 10 % 2, "a", "b")
    fitted = taskwise(past[name]).fit(X[:140], y[:140], groups[:140])
    sizes, taken_in = [], many_tasks.ManyTasks.taken_in

    def spied(self, state, Z, *rest):
        held = state["kept_w"].shape[1] if "kept_w" in state else 0
        sizes.append((len(Z), held + Z.shape[1], max(self.learner.n_features, X.shape[1])))
        return taken_in(self, state, Z, *rest)

    monkeypatch.setattr(many_tasks, "NUMBERS_AT_ONCE", 3000)
    monkeypatch.setattr(many_tasks.ManyTasks, "taken_in", spied)
    fitted.partial_fit(X[140:], y[140:], groups[140:], mode="add")
    assert sum(n for n, _, _ in sizes) == 10
    for n, rows, width in sizes:
        assert n == 1 or n * rows * max(rows, width) <= 3000


@KINDS
def test_a_task_that_was_replaced_is_added_to(name, past):
    X, y, groups, w = rows_of(name)
    fitted = taskwise(past[name]).fit(X, y[::-1].copy(), groups)
    fitted.partial_fit(X[:110], y[:110], groups[:110], w[:110])  # of all tasks
    assert set(groups[:110]) == set(groups)
    fitted.partial_fit(X[110:], y[110:], groups[110:], w[110:], mode="add")
    assert_equal_answers(fitted, taskwise(past[name]).fit(X, y, groups, w), X, groups)


@KINDS
def test_a_task_that_was_forgotten_is_begun(name, past):
    X, y, groups, _ = rows_of(name)
    fitted = taskwise(past[name]).fit(X, y, groups).forget([60, 20])
    mine = np.isin(groups, [60, 20])
    fitted.partial_fit(X[mine], y[mine], groups[mine], mode="add")
    assert_equal_answers(fitted, taskwise(past[name]).fit(X, y, groups), X, groups)


@KINDS
def test_other_tasks_stay_bit_by_bit(name, past):
    X, y, groups, _ = rows_of(name)
    fitted = taskwise(past[name]).fit(X, y, groups)
    before, mine = states(fitted), groups == 60
    fitted.partial_fit(X[mine], y[mine], groups[mine], mode="add")
    after = states(fitted)
    assert any((after[60][k].shape != a.shape) or (after[60][k] != a).any()
               for k, a in before[60].items())  # fmt: skip
    del before[60], after[60]
    assert_same_states(after, before)


@KINDS
def test_the_estimator_of_one_task_goes_on_by_itself(name, past):
    X, y, groups, w = rows_of(name)
    one = taskwise(past[name]).fit(X[:100], y[:100], groups[:100], w[:100]).task_estimator(60)
    mine = groups == 60
    late = mine & (np.arange(N) >= 100)
    one.partial_fit(X[late], y[late], sample_weight=w[late])
    single = clone(past[name]).fit(X[mine], y[mine], sample_weight=w[mine])
    np.testing.assert_allclose(scores_of(one, X), scores_of(single, X), **CLOSE)


@KINDS
def test_a_column_of_tasks_and_no_tasks_at_all(name, past):
    X, y, groups, _ = rows_of(name)
    columns = [f"x{i}" for i in range(X.shape[1])]
    table = pd.DataFrame(X, columns=columns).assign(who=groups)
    whole = taskwise(past[name], task="who").fit(table, y)
    pieces = taskwise(past[name], task="who").fit(table[:50], y[:50])
    pieces.partial_fit(table[50:], y[50:], mode="add")
    np.testing.assert_allclose(scores_of(pieces, table), scores_of(whole, table), **CLOSE)
    with pytest.warns(UserWarning, match="all rows count as one task"):
        lone = taskwise(past[name]).partial_fit(X[:50], y[:50], mode="add")
    lone.partial_fit(X[50:], y[50:], mode="add")
    single = clone(past[name]).fit(X, y)
    np.testing.assert_allclose(scores_of(lone, X), scores_of(single, X), **CLOSE)


def test_a_pipeline_of_frozen_steps(past):
    X, y, groups, _ = rows_of("ProtoNetClassifier")
    steps = FrozenEstimator(StandardScaler().fit(X)), past["ProtoNetClassifier"]
    fitted = TaskwiseClassifier(make_pipeline(*steps), updatable=True)
    whole = clone(fitted).fit(X, y, groups)
    fitted.fit(X[:50], y[:50], groups[:50])
    fitted.partial_fit(X[50:], y[50:], groups[50:], mode="add")
    got, expected = (one.predict_proba(X, groups) for one in (fitted, whole))
    np.testing.assert_allclose(got, expected, **CLOSE)


def test_two_targets(past):
    X, y, groups, w = rows_of("RidgeHeadRegressor")
    Y = np.stack([y, 2 - y], 1)
    few = {"n_shot": 3, "n_query": 3, "n_episodes": 8, "max_epochs": 1}
    start = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(8,), random_state=0)
    inner = meta_train(start, X, Y, np.repeat(range(15), 10), **few).set_params(dtype="float64")
    pieces = taskwise(inner).fit(X[:50], Y[:50], groups[:50], w[:50])
    pieces.partial_fit(X[50:], Y[50:], groups[50:], w[50:], mode="add")
    assert_equal_answers(pieces, taskwise(inner).fit(X, Y, groups, w), X, groups)
    with pytest.raises(ValueError, match="2 axes as in fit"):
        pieces.partial_fit(X, y, groups, mode="add")


def test_rows_that_weigh_nothing(past):
    X, y, groups, _ = rows_of("ProtoNetClassifier")
    fitted = taskwise(past["ProtoNetClassifier"]).fit(X, y, groups)
    expected = fitted.predict_proba(X, groups)
    fitted.partial_fit(X[:5], y[:5], groups[:5], np.zeros(5), mode="add")
    np.testing.assert_allclose(fitted.predict_proba(X, groups), expected, **CLOSE)
    with pytest.raises(ValueError, match=r"all are zero of \[7\]"):
        fitted.partial_fit(X[:2], y[:2], [10, 7], [1.0, 0.0], mode="add")
    with pytest.raises(ValueError, match=r"all are zero of \[10\]"):
        fitted.partial_fit(X[:2], y[:2], [10, 7], [0.0, 1.0])


# ---------------------------------------------------------------------- refused
@KINDS
def test_a_call_that_fails_changes_nothing(name, past):
    X, y, groups, _ = rows_of(name)
    fitted = taskwise(past[name]).fit(X, y, groups)
    before, answers, size = states(fitted), everything(fitted, X, groups), fitted.nbytes_
    other = [0, 1, 2] if name in CLASSIFIERS else ["a", "b", "c"]
    wrong = [
        (X[:3], other, groups[:3], None),
        (X[:3], y[:3], ["a", "b", "c"], None),
        (X[:3], y[:3], groups[:3], [1.0, 1.0, -1.0]),
        (X[:3], y[:3], [0, 10, 7], [1.0, 1.0, 0.0]),
        (np.c_[X, X][:3], y[:3], groups[:3], None),
        (np.full((3, X.shape[1]), np.nan), y[:3], groups[:3], None),
        (X[:3], y[:2], groups[:3], None),
        (X[:3], y[:3], None, None),
    ]
    for arguments in wrong:
        with pytest.raises(ValueError):
            fitted.partial_fit(*arguments, mode="add")
        assert_same_states(states(fitted), before)
        np.testing.assert_array_equal(everything(fitted, X, groups), answers)
        assert fitted.nbytes_ == size


@pytest.mark.parametrize("mode", ["append", None, True])
def test_an_unknown_mode(mode, past):
    X, y, groups, _ = rows_of("RidgeHeadRegressor")
    for inner in (past["RidgeHeadRegressor"], Ridge()):
        with pytest.raises(ValueError, match="mode must be 'replace' or 'add', got"):
            TaskwiseRegressor(inner).partial_fit(X, y, groups, mode=mode)


def test_not_fitted_to_be_added_to(past, tmp_path):
    X, y, groups, _ = rows_of("RidgeHeadRegressor")
    inner, path = past["RidgeHeadRegressor"], tmp_path / "tasks"
    fitted = TaskwiseRegressor(inner).fit(X, y, groups)
    fitted.set_params(updatable=True)  # too late
    fitted.save_tasks(path)
    loaded = TaskwiseRegressor(inner, updatable=True).load_tasks(path)
    for one in (fitted, loaded, TaskwiseRegressor(inner)):
        with pytest.raises(ValueError, match="fitted with updatable=True"):
            one.partial_fit(X, y, groups, mode="add")
    assert not hasattr(one, "tasks_")
    fitted.fit(X, y, groups).partial_fit(X, y, groups, mode="add")
    with pytest.raises(ValueError, match="updatable must be True or False"):
        TaskwiseRegressor(inner, updatable="yes").fit(X, y, groups)
    unlabelled = clone(past["ProtoNetClassifier"]).set_params(unlabelled="?")
    with pytest.raises(ValueError, match="ProtoNetClassifier, with these parameters"):
        TaskwiseClassifier(unlabelled, updatable=True).fit(*rows_of("ProtoNetClassifier")[:3])


# ---------------------------------------------------------------------- any other estimator
def test_others_do_what_their_partial_fit_does(past):
    X, y, groups, w = rows_of("ProtoNetClassifier")
    X, w, y = X[:, 20:30] + np.arange(10), w + 1, np.where(X[:, 20] > X[:, 21], "a", "b")
    X, y, w, groups = (np.r_[a[:2], a] for a in (X, y, w, groups))
    groups = groups % 20  # two tasks
    inner, first = GaussianNB(var_smoothing=1.0), slice(0, 60)
    fitted = TaskwiseClassifier(inner).fit(X[first], y[first], groups[first], w[first])
    old = {t: fitted.task_estimator(t) for t in (0, 10)}
    before = {t: e.theta_.copy() for t, e in old.items()}
    rest = slice(60, None)
    fitted.partial_fit(
        np.r_[X[rest], X], np.r_[y[rest], y], np.r_[groups[rest], np.full(len(X), 5)],
        np.r_[w[rest], w], mode="add",
    )  # fmt: skip
    assert fitted.tasks_.tolist() == [0, 5, 10]
    for task in (0, 10):
        mine = groups[first] == task
        late = groups[rest] == task
        one = clone(inner).fit(X[first][mine], y[first][mine], w[first][mine])
        one.partial_fit(X[rest][late], y[rest][late], sample_weight=w[rest][late])
        np.testing.assert_allclose(
            fitted.predict_proba(X, np.full(len(X), task)), one.predict_proba(X)
        )
        np.testing.assert_array_equal(old[task].theta_, before[task])  # who holds it, keeps it
    np.testing.assert_allclose(
        fitted.predict_proba(X, np.full(len(X), 5)), clone(inner).fit(X, y, w).predict_proba(X)
    )
    answers = fitted.predict_proba(X, groups)
    with pytest.raises(ValueError, match=r"classes \['c'\].*task 10.*takes no new"):
        fitted.partial_fit(X[:2], ["a", "c"], [0, 10], mode="add")
    np.testing.assert_array_equal(fitted.predict_proba(X, groups), answers)


def test_ours_without_past_are_refitted_by_themselves():
    X, y, groups, w = rows_of("ProtoNetClassifier")
    whole = TaskwiseClassifier(ProtoNetClassifier()).fit(X, y, groups, w)
    pieces = TaskwiseClassifier(ProtoNetClassifier()).fit(X[:50], y[:50], groups[:50], w[:50])
    pieces.partial_fit(X[50:], y[50:], groups[50:], w[50:], mode="add")
    assert pieces.classes_.tolist() == whole.classes_.tolist()
    np.testing.assert_allclose(
        pieces.predict_proba(X, groups), whole.predict_proba(X, groups), **CLOSE
    )


def test_others_that_cannot():
    X, y, groups, _ = rows_of("RidgeHeadRegressor")
    fitted = TaskwiseRegressor(Ridge()).fit(X, y, groups)
    with pytest.raises(ValueError, match=r"Ridge has no partial_fit.*mode=\"replace\""):
        fitted.partial_fit(X, y, groups, mode="add")
    with pytest.raises(ValueError, match="Ridge has no partial_fit"):
        TaskwiseRegressor(Ridge(), updatable=True).fit(X, y, groups)
    # of a single class, which it refuses to be fitted to
    lone = TaskwiseClassifier(SGDClassifier(random_state=0)).fit(
        X[:6], list("abaabb"), [1] * 5 + [2]
    )
    with pytest.raises(ValueError, match="could not be fitted to the labels of task 2"):
        lone.partial_fit(X[:2], ["a", "b"], [2, 2], mode="add")


def test_weights_that_partial_fit_takes_not():
    class Bare(GaussianNB):
        def partial_fit(self, X, y, classes=None):
            return super().partial_fit(X, y, classes)

    X, _, _, w = rows_of("ProtoNetClassifier")
    y = np.where(np.arange(N) % 2 == 0, "a", "b")
    fitted = TaskwiseClassifier(Bare()).fit(X, y, np.zeros(N), w)
    with pytest.raises(ValueError, match=r"partial_fit of Bare.* takes none"):
        fitted.partial_fit(X, y, np.zeros(N), w, mode="add")


def test_mode_is_routed_with_the_rest(past):
    X, y, groups, _ = rows_of("RidgeHeadRegressor")
    with sklearn.config_context(enable_metadata_routing=True):
        fitted = taskwise(past["RidgeHeadRegressor"]).fit(X, y, groups=groups)
        fitted.partial_fit(X, y, groups=groups, mode="add")
    assert fitted.n_tasks_ == 10
