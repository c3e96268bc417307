"""Splitters that keep whole tasks apart."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate

from fewshot_sklearn import (
    EpisodeSplit,
    MetaTrainer,
    ProtoNetClassifier,
    TaskKFold,
    TaskShuffleSplit,
)

Y = np.repeat(np.array(list("abcdefg")), [5, 3, 4, 2, 6, 3, 2])
GROUPS = np.arange(len(Y)) % 4


@pytest.mark.parametrize("splitter", [TaskKFold(3), TaskKFold(3, shuffle=True, random_state=0)])
@pytest.mark.parametrize("by", [None, "classes", "groups"])
def test_no_task_is_on_both_sides_and_each_is_tested_once(splitter, by):
    splitter.by = by
    tasks = Y if by == "classes" else GROUPS
    tested = []
    for past, new in splitter.split(Y, Y, GROUPS):
        assert not set(tasks[past]) & set(tasks[new])
        assert sorted([*past, *new]) == list(range(len(Y)))
        tested += [*np.unique(tasks[new])]
    assert sorted(tested) == sorted(set(tasks))


def test_without_groups_tasks_are_classes():
    by_class = [new.tolist() for _, new in TaskKFold(3).split(Y, Y)]
    assert by_class == [new.tolist() for _, new in GroupKFold(3).split(Y, Y, Y)]


def test_shuffles_are_seeded():
    def folds(seed):
        splitter = TaskKFold(3, shuffle=True, random_state=seed)
        return [new.tolist() for _, new in splitter.split(Y, Y)]

    assert folds(0) == folds(0) != folds(1)
    sizes = [len(np.unique(Y[new])) for new in folds(0)]
    assert sorted(sizes) == [2, 2, 3]


def test_random_tasks():
    splitter = TaskShuffleSplit(4, test_size=2, random_state=0)
    for past, new in splitter.split(Y, Y):
        assert len(np.unique(Y[new])) == 2 and len(np.unique(Y[past])) == 5
    by_group = TaskShuffleSplit(1, test_size=0.25, by="groups", random_state=0)
    assert len(np.unique(GROUPS[next(by_group.split(Y, Y, GROUPS))[1]])) == 1


@pytest.mark.parametrize("splitter", [TaskKFold(2), TaskShuffleSplit(2)])
def test_what_is_missing_is_named(splitter):
    with pytest.raises(ValueError, match="y is needed"):
        next(splitter.split(Y))
    with pytest.raises(ValueError, match="groups is needed"):
        next(type(splitter)(2, by="groups").split(Y, Y))
    with pytest.raises(ValueError, match="by must be"):
        next(type(splitter)(2, by="rows").split(Y, Y))
    assert "by='groups'" in repr(type(splitter)(2, by="groups"))


def test_more_folds_than_tasks_is_an_error():
    with pytest.raises(ValueError, match="number of"):
        next(TaskKFold(8).split(Y, Y))


def test_meta_cross_validation_and_a_grid_over_past_tasks(margin):
    X, y = load_digits(return_X_y=True)
    trainer = MetaTrainer(
        ProtoNetClassifier(encoder="mlp"), n_way=2, n_shot=1, n_episodes=16, max_epochs=1,
        validation_fraction=0, random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    scores = cross_validate(trainer, X, y, cv=TaskKFold(3))["test_score"]
    assert scores.shape == (3,)
    margin.above(scores.min(), 0.55)
    search = GridSearchCV(trainer, {"estimator__metric": ["euclidean", "cosine"]}, cv=TaskKFold(2))
    assert set(search.fit(X, y).best_params_) == {"estimator__metric"}
    halves = np.arange(len(y)) % 2
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_validate(trainer, X, y, cv=TaskKFold(2), params={"groups": halves})
    assert routed["test_score"].shape == (2,)


SPLITTERS = [
    TaskKFold(2), TaskShuffleSplit(2), TaskKFold(2, by="classes"), EpisodeSplit(2, 1, 2, 3),
    EpisodeSplit(None, 1, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize("splitter", SPLITTERS, ids=[str(i) for i in range(len(SPLITTERS))])
def test_rows_labels_and_groups_are_as_many(splitter):
    X, groups, labels = np.zeros((24, 1)), np.arange(24) % 4, np.arange(24) // 4 % 2
    assert len(list(splitter.split(X, labels, groups)))
    for y, g in (
        (labels, groups[:-1]),
        (labels, np.append(groups, groups)),
        (labels[:-1], groups),
        ([], groups),
    ):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            list(splitter.split(X, y, g))
