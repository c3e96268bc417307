"""What rows are labelled with is what was given: no class is merged, missing or infinite."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import every_classifier
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB

import fewshot_sklearn
from fewshot_sklearn import (
    ProtoNetClassifier,
    RidgeHeadRegressor,
    StrategyClassifier,
    StrategyRegressor,
    StrategySelector,
    TaskKFold,
    TaskMemory,
    TaskShuffleSplit,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustedClassifier,
    TrustedRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
)
from fewshot_sklearn.tasks import class_labels, is_labelled, number_targets

CLASSIFIERS = [
    TaskwiseClassifier(),
    TaskwiseClassifier(GaussianNB()),
    StrategyClassifier({"a": GaussianNB()}),
    StrategyClassifier({"a": ProtoNetClassifier()}),
    TrustedClassifier(),
    TrustedClassifier(GaussianNB()),
]
every_outer_classifier = pytest.mark.parametrize(
    "clf", CLASSIFIERS, ids=[str(i) for i in range(len(CLASSIFIERS))]
)
quiet = pytest.mark.filterwarnings("ignore::UserWarning")
BEYOND = 2**53 + np.tile([0, 1, 2], 8)


def rows():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 10)
    X = rng.normal(size=(120, 2))
    return X, rng.normal(size=12)[groups] * X[:, 0], groups


@quiet
@every_outer_classifier
@pytest.mark.parametrize("kind", ["Int64", "UInt64", "int64"])
def test_large_integers_stay_classes_of_their_own(clf, kind):
    X, y = rows()[0][:24], pd.Series(BEYOND.astype(np.uint64 if kind[0] == "U" else int))
    clf.fit(X, y.astype(kind))
    assert [int(c) for c in clf.classes_] == [2**53, 2**53 + 1, 2**53 + 2]
    assert {int(c) for c in clf.predict(X)} <= set(BEYOND.tolist())


@every_classifier
def test_a_classifier_merges_no_classes_silently(name):
    clf = getattr(fewshot_sklearn, name)(encoder="identity")
    try:
        clf.fit(rows()[0][:24], pd.Series(BEYOND, dtype="Int64"))
    except ValueError as error:
        assert "y holds floats" in str(error)
        return
    assert [int(c) for c in clf.classes_] == [2**53, 2**53 + 1, 2**53 + 2]


MISSING = {
    "None": np.array(["a", "b", None, "a"], dtype=object),
    "NaN": np.array(["a", "b", np.nan, "a"], dtype=object),
    "NA": np.array(["a", "b", pd.NA, "a"], dtype=object),
    "NaT": pd.Series(pd.to_datetime(["2020", "2021", None, "2020"])),
    "NaT among objects": np.array(["a", "b", pd.NaT, "a"], dtype=object),
    "NaN among floats": np.array([0, 1, np.nan, 0]),
    "Int64": pd.Series([0, 1, None, 0], dtype="Int64"),
}


@quiet
@every_outer_classifier
@pytest.mark.parametrize("y", MISSING.values(), ids=MISSING)
def test_what_is_missing_is_no_class(clf, y):
    with pytest.raises(ValueError, match=r"y must say the class of each row|Input y contains NaN"):
        clf.fit(rows()[0][:4], y)


@quiet
@every_outer_classifier
def test_labels_of_two_kinds_are_refused_by_name(clf):
    with pytest.raises(ValueError, match="y must be of one kind"):
        clf.fit(rows()[0][:4], np.array([1, "a", 1, "a"], dtype=object))


@pytest.mark.parametrize(
    "call",
    [
        lambda X, y: next(TaskKFold(2).split(X, y)),
        lambda X, y: next(TaskShuffleSplit(2).split(X, y)),
        lambda X, y: TrustLearner(GaussianNB(), n_way=2, n_shots=(2,), n_episodes=4).fit(X, y),
        lambda X, y: StrategySelector(n_way=2, n_shots=(2,), n_episodes=4).fit(X, y),
        lambda X, y: few_shot_score(GaussianNB(), X, y, n_way=2, n_episodes=2),
    ],
)
def test_labels_that_are_none_are_refused_as_y(call):
    X, _, groups = rows()
    mixed = (groups % 4).astype(object)
    mixed[::2] = "a"
    with pytest.raises(ValueError, match="y must be of one kind that can be sorted"):
        call(X, mixed)
    with pytest.raises(ValueError, match="y must hold finite values, got inf"):
        call(X, np.where(np.arange(120) == 3, np.inf, groups % 4))


# ---------------------------------------------------------------- unlabelled rows
def test_the_mark_of_unlabelled_rows_is_no_class():
    assert is_labelled(np.array(["a", "-1"]), "-1").tolist() == [True, False]
    assert is_labelled(np.array(["a", -1], dtype=object), -1).tolist() == [True, False]
    assert is_labelled(np.array([3, -1]), -1).tolist() == [True, False]
    assert is_labelled(np.array(["a", "b"]), -1).all() and is_labelled(np.zeros(2), None).all()
    with pytest.raises(ValueError, match="unlabelled=-1 is none"):
        is_labelled(np.array(["a", "b", -1]), -1)
    marked = np.array(["a", "b", -1], dtype=object)
    assert class_labels(marked, unlabelled=-1).tolist() == ["a", "b", -1]


@quiet
def test_tasks_with_unlabelled_rows(trained):
    inner = trained["ProtoNetClassifier"].set_params(unlabelled=-1)
    X = np.random.default_rng(0).normal(size=(6, 64))
    y = np.array(["a", "b", -1, "a", "b", -1], dtype=object)
    assert TaskwiseClassifier(inner).fit(X, y).classes_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="unlabelled=-1 is none"):
        TaskwiseClassifier(inner).fit(X, np.array(["a", "b", -1, "a", "b", -1]))


# ---------------------------------------------------------------- targets
EPISODES = {"n_way": None, "n_episodes": 4}
LEARNS = {"n_way": None, "n_shots": (2,), "n_episodes": 4, "random_state": 0}
WITH_TARGETS = {
    "few_shot_score": lambda R, X, y, g: few_shot_score(R, X, y, g, **EPISODES).scores,
    "compare_few_shot": lambda R, X, y, g: compare_few_shot(
        R, X, y, g, n_shots=(2,), baselines={}, **EPISODES
    )["mean"],
    "TrustLearner": lambda R, X, y, g: TrustLearner(R, **LEARNS).fit(X, y, g).calibration_.scales,
    "TrustedRegressor": lambda R, X, y, g: TrustedRegressor(R).fit(X, y).predict(X),
    "StrategyRegressor": lambda R, X, y, g: StrategyRegressor({"a": R}).fit(X, y).predict(X),
    "StrategySelector": lambda R, X, y, g: (
        StrategySelector({"a": R}, **LEARNS).fit(X, y, g).experience_.mean_scores
    ),
    "TaskwiseRegressor": lambda R, X, y, g: TaskwiseRegressor(R).fit(X, y, g).predict(X, g),
    "TaskMemory": lambda R, X, y, g: (
        TaskMemory.from_data(RidgeHeadRegressor().fit(X, X[:, 0]), X, y, g).y_mean
    ),
}
every_call = pytest.mark.parametrize("call", WITH_TARGETS.values(), ids=WITH_TARGETS)
every_kind = pytest.mark.parametrize("inner", [Ridge(), RidgeHeadRegressor()], ids=["sk", "own"])


@quiet
@every_kind
@every_call
def test_numbers_among_objects_are_targets(call, inner):
    X, y, groups = rows()
    np.testing.assert_allclose(call(inner, X, y.astype(object), groups), call(inner, X, y, groups))


#: Without the comparison, which counts what fails.
REFUSES = {name: call for name, call in WITH_TARGETS.items() if name != "compare_few_shot"}


@quiet
@every_kind
@pytest.mark.parametrize("call", REFUSES.values(), ids=REFUSES)
def test_what_is_no_finite_number_is_no_target(call, inner):
    X, y, groups = rows()
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"y contains (NaN|infinity)"):
            call(inner, X, np.where(np.arange(120) == 5, bad, y), groups)
    for bad, said in (("x", "y must hold numbers"), (None, "y must say the target")):
        objects = y.astype(object)
        objects[5] = bad
        with pytest.raises(ValueError, match=said):
            call(inner, X, objects, groups)


def test_targets_keep_their_type():
    assert number_targets(np.arange(3)).dtype.kind == "i"
    assert number_targets(np.zeros((2, 2), np.float32)).dtype == np.float32
    assert number_targets(pd.Series([1, 2], dtype=object)).tolist() == [1.0, 2.0]
    for wrong in (["1", "2"], pd.to_datetime(["2020"])):
        with pytest.raises(
            ValueError, match="y must hold numbers, the targets of a regression, got"
        ):
            number_targets(wrong)
