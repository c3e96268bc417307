"""No id of a task, and no label of a class, may be missing; ids of any kind stay what they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import every_classifier, every_regressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

import fewshot_sklearn
from fewshot_sklearn import (
    EpisodeSplit,
    MetaTrainer,
    PastRows,
    PooledRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    StrategySelector,
    TaskKFold,
    TaskMemory,
    TaskShuffleSplit,
    TaskwiseRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
)
from fewshot_sklearn.inspection import ReliabilityDisplay
from fewshot_sklearn.tasks import comparable, in_one_kind, numbered

MISSING = {
    "nan": np.r_[np.repeat(np.arange(7.0), 12), np.full(12, np.nan)],
    "None": [*np.repeat(list("abcdefg"), 12), *[None] * 12],
    "NaN among strings": pd.Series([*np.repeat(list("abcdefg"), 12), *[np.nan] * 12], dtype=object),
    "NA": pd.array([*np.repeat(np.arange(7), 12), *[pd.NA] * 12], dtype="Int64"),
    "NA of strings": pd.Series([*np.repeat(list("abcdefg"), 12), *[pd.NA] * 12], dtype="string"),
    "NaT": pd.to_datetime([*np.repeat(["2020", "2021", "2022", "2023"], 21), *[None] * 12]),
    "category": pd.Series([*np.repeat(list("abcdefg"), 12), *[None] * 12], dtype="category"),
}


def rows():
    X = np.random.default_rng(0).normal(size=(96, 3))
    return X, X[:, 0]


def trained(estimator, **options):
    return MetaTrainer(
        estimator, n_episodes=4, max_epochs=1, validation_fraction=0, verbose=0, device="cpu",
        random_state=0, **options,
    )  # fmt: skip


FEW = {"n_way": None, "n_episodes": 3}
WITH_GROUPS = {
    "MetaTrainer": lambda X, y, g: trained(RidgeHeadRegressor(), n_shot=3).fit(X, y, g),
    "few_shot_score": lambda X, y, g: few_shot_score(RidgeHeadRegressor(), X, y, g, **FEW),
    "EpisodeSplit": lambda X, y, g: list(EpisodeSplit(**FEW).split(X, y, g)),
    "TaskKFold": lambda X, y, g: list(TaskKFold(2).split(X, y, g)),
    "TaskShuffleSplit": lambda X, y, g: list(TaskShuffleSplit(2).split(X, y, g)),
    "StrategySelector": lambda X, y, g: StrategySelector(
        [("one", KNeighborsRegressor(1)), ("two", KNeighborsRegressor(2))],
        n_way=None, n_shots=(2,), n_episodes=3,
    ).fit(X, y, groups=g),
    "TrustLearner": lambda X, y, g: TrustLearner(
        KNeighborsRegressor(1), n_way=None, n_shots=(2,), n_episodes=3
    ).fit(X, y, g),
    "compare_few_shot": lambda X, y, g: compare_few_shot(
        KNeighborsRegressor(1), X, y, g, n_shots=(2,), baselines={}, **FEW
    ),
    "PastRows": PastRows,
    "PooledRegressor": lambda X, y, g: PooledRegressor(past=(X, y, g)).fit(X, y),
    "TaskwiseRegressor": lambda X, y, g: TaskwiseRegressor().fit(X, y, g),
    "TaskMemory": lambda X, y, g: TaskMemory.from_data(
        RidgeHeadRegressor().fit(X[:9], y[:9]), X, y, g
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("groups", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("call", WITH_GROUPS.values(), ids=WITH_GROUPS)
def test_a_row_without_a_task_is_refused(call, groups):
    X, y = rows()
    with pytest.raises(ValueError, match=r"groups must say the task of each row.* 12 of 96 rows"):
        call(X, y, groups)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("call", WITH_GROUPS.values(), ids=WITH_GROUPS)
def test_whatever_kind_of_ids_there_is(call):
    X, y = rows()
    for ids in (
        np.repeat(np.arange(8), 12),
        np.repeat([f"customer {i}" for i in range(8)], 12),
        pd.Series(np.repeat(list("abcdefgh"), 12), dtype="category"),
        pd.array(np.repeat(np.arange(8), 12), dtype="Int64"),
        pd.Series(pd.to_datetime(np.repeat([f"{2000 + i}" for i in range(8)], 12))),
    ):
        call(X, y, ids)


WITH_LABELS = {
    "MetaTrainer": lambda X, y: trained(ProtoNetClassifier(), n_way=2).fit(X, y),
    "few_shot_score": lambda X, y: few_shot_score(
        ProtoNetClassifier(), X, y, n_way=2, n_episodes=2
    ),
    "EpisodeSplit": lambda X, y: list(EpisodeSplit(2, n_episodes=2).split(X, y)),
    "TaskKFold": lambda X, y: list(TaskKFold(2).split(X, y)),
    "StrategySelector": lambda X, y: StrategySelector(n_way=2, n_shots=(1,), n_episodes=2).fit(
        X, y
    ),
    "TrustLearner": lambda X, y: TrustLearner(n_way=2, n_shots=(1,), n_episodes=2).fit(X, y),
    "compare_few_shot": lambda X, y: compare_few_shot(
        KNeighborsClassifier(1), X, y, n_shots=(1,), n_way=2, n_episodes=2, baselines={}
    ),
    "ReliabilityDisplay": lambda X, y: ReliabilityDisplay.from_episodes(
        ProtoNetClassifier(), X, y, n_way=2, n_episodes=2
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("labels", [MISSING[k] for k in ("nan", "None", "NA", "NA of strings")])
@pytest.mark.parametrize("call", WITH_LABELS.values(), ids=WITH_LABELS)
def test_a_row_without_a_label_is_refused(call, labels):
    with pytest.raises(ValueError, match=r"y must say the class of each row.* 12 of 96 rows"):
        call(rows()[0], labels)


@every_classifier
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_classifier_is_not_fitted_without_a_label(name, missing):
    clf = getattr(fewshot_sklearn, name)(encoder="identity")
    with pytest.raises(ValueError, match=r"NaN|missing"):
        clf.fit(rows()[0][:4], np.array(["a", "b", missing, "a"], dtype=object))


@every_regressor
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, np.inf])
def test_a_regressor_is_not_fitted_without_a_target(name, missing):
    reg = getattr(fewshot_sklearn, name)(encoder="identity")
    for y in (
        np.array([1.0, 2.0, missing, 3.0], dtype=object),
        pd.Series([1.0, 2.0, missing, 3.0]),
    ):
        with pytest.raises((ValueError, TypeError), match=r"NaN|infinity|missing|NA"):
            reg.fit(rows()[0][:4], y)


def test_a_training_is_not_begun_without_a_target():
    X, y = rows()
    y = y.astype(object)
    y[3] = None
    with pytest.raises(ValueError, match="missing"):
        trained(RidgeHeadRegressor(), n_shot=3).fit(X, y, np.repeat(np.arange(8), 12))


def test_large_integers_stay_different():
    ids = pd.Series(2**53 + np.arange(40).repeat(3), dtype="Int64")
    found, which = numbered(ids)
    assert len(found) == 40 and found.dtype == np.int64
    np.testing.assert_array_equal(which, np.arange(40).repeat(3))
    learner = trained(RidgeHeadRegressor(), n_shot=1, n_query=1)
    X = np.random.default_rng(0).normal(size=(120, 2))
    assert learner.fit(X, X[:, 0], ids).meta_init_.provenance["tasks"]["count"] == 40


FLOATS = {
    "float64": (2.0**53, 2.0**53 - 1),
    "float32": (2.0**24, 2.0**24 - 1),
    "float16": (2.0**11, 2.0**11 - 1),
}


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("sign", [1, -1])
def test_floats_that_stand_for_several_integers_are_refused(kind, sign):
    several, one = FLOATS[kind]
    assert comparable(np.array([sign * one, 1.5], kind)).dtype == kind
    for ids in (np.array([1.0, sign * several], kind), np.array([1, np.dtype(kind).type(several)])):
        with pytest.raises(ValueError, match="groups holds floats such as"):
            comparable(ids.astype(kind))
        with pytest.raises(ValueError, match="y holds floats such as"):
            comparable(np.array([*ids.astype(kind)], dtype=object), "y")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("call", WITH_GROUPS.values(), ids=WITH_GROUPS)
def test_floats_are_no_ids_beyond_what_they_tell_apart(call):
    X, y = rows()
    with pytest.raises(ValueError, match="groups holds floats"):
        call(X, y, 2.0**53 + np.arange(8.0).repeat(12))
    with pytest.raises(ValueError, match="groups must hold finite values"):
        call(X, y, np.array([0.0, np.inf]).repeat(48))


KINDS = {
    "int64": np.int64, "uint64": np.uint64, "int8": np.int8, "float64": np.float64, "bool": bool,
}  # fmt: skip


@pytest.mark.parametrize("a", KINDS)
@pytest.mark.parametrize("b", KINDS)
def test_numbers_of_two_kinds_are_compared_exactly(a, b):
    values = [-3, 0, 1, 5, 120, 2**53 + 1, 2**53 + 2, 2**63 - 1, 2**63, 2**64 - 1]

    def of_kind(kind):
        kept = []
        for value in values:
            try:
                array = np.array([value], KINDS[kind])
            except OverflowError:
                continue
            exact = int(array[0]) == value
            if exact and not (array.dtype.kind == "f" and abs(value) >= 2**53):
                kept.append(value)
        return np.array(kept, KINDS[kind])

    one, other = of_kind(a), of_kind(b)
    first, second = in_one_kind(one, other)
    equal = first[:, None] == second
    np.testing.assert_array_equal(
        equal, [[int(x) == int(y) for y in other.tolist()] for x in one.tolist()]
    )
    assert first.tolist() == one.tolist() and second.tolist() == other.tolist()
    fractions = in_one_kind(of_kind("int64"), np.array([0.5, 1.0]))
    assert (fractions[0][:, None] == fractions[1]).sum() == 1


def test_what_cannot_be_ids():
    with pytest.raises(ValueError, match="one value a row"):
        comparable(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="of one kind that can be sorted"):
        numbered(np.array([1, "a"], dtype=object))
    with pytest.raises(ValueError, match="of one kind that can be sorted"):
        few_shot_score(
            ProtoNetClassifier(), rows()[0][:4], np.array([1, "a", 1, "a"], dtype=object)
        )
