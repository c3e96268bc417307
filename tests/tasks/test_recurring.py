"""Whether labels recur: a rule on the labels, and for more than two classes on the rows."""

from __future__ import annotations

import numpy as np
import pytest

from fewshot_sklearn.tasks import (
    TaskEpisodes,
    labels_from_json,
    labels_recur,
    labels_to_json,
    places,
)


def tasks(n_tasks, n_classes, seed, same, n=30):
    """Blobs; the classes' places are the same in all tasks, or named at random in each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, 4)) * 2
    y = rng.integers(n_classes, size=(n_tasks, n))
    names = np.array([np.arange(n_classes) if same else rng.permutation(n_classes) for _ in y])
    X = centres[y] + rng.normal(size=(n_tasks, n, 4)) + rng.normal(size=(n_tasks, 1, 4))
    labels = np.take_along_axis(names, y, 1)
    return X.reshape(-1, 4), labels.ravel(), np.repeat(np.arange(n_tasks), n)


def test_two_labels_of_all_tasks_recur():
    y, groups = np.tile([0, 1], 10), np.repeat(np.arange(5), 4)
    assert labels_recur(y, groups)
    assert not labels_recur(y, None)
    assert not labels_recur(np.zeros(20, int), groups)
    assert not labels_recur(y, np.zeros(20, int))


def test_rare_classes_need_not_be_in_every_task():
    groups = np.repeat(np.arange(40), 5)
    y = np.where((groups % 10 == 0) & (np.arange(200) % 5 == 0), "churned", "stayed")
    assert labels_recur(y, groups)


def test_classes_of_their_own_do_not():
    groups = np.repeat(np.arange(10), 6)
    assert not labels_recur(groups * 3 + np.tile([0, 1, 2], 20), groups)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_that_name_other_things_do_not(seed):
    assert labels_recur(*reordered(tasks(12, 5, seed, same=True)))
    assert not labels_recur(*reordered(tasks(12, 5, seed, same=False)))


def reordered(task):
    X, y, groups = task
    return y, groups, X


def test_pool_of_many_classes_does_not():
    groups = np.repeat(np.arange(10), 60)
    assert not labels_recur(np.tile(np.arange(30), 20), groups)


def test_episodes_are_rows_as_they_come():
    codes, groups = np.tile([0, 0, 0, 1], 50), np.repeat(np.arange(10), 20)
    drawn = TaskEpisodes(codes, groups, n_shot=4, n_query=2).draw(np.random.default_rng(0), 400)
    sizes = (drawn.support >= 0).sum(1)
    assert set(sizes) == set(range(9))
    assert ((drawn.query >= 0).sum(1) == 4).all()
    for rows, known in ((drawn.support, drawn.support_codes), (drawn.query, drawn.query_codes)):
        real = rows >= 0
        assert (codes[rows[real]] == known[real]).all()
        assert (known[~real] == -100).all()
    for i in range(20):
        one = drawn.episode(i)
        both = np.concatenate([one.support, one.query])
        assert len(np.unique(groups[both])) == 1
        assert len(np.unique(both)) == len(both)
    shares = [(drawn.query_codes[i] == 1).mean() for i in range(400)]
    assert 0.2 < np.mean(shares) < 0.3


@pytest.mark.parametrize(
    "labels",
    [np.array([0, 1]), np.array(["a", "bc"]), np.array([False, True]), np.array([0.5, 2.0])],
    ids=str,
)
def test_labels_as_json(labels):
    again = labels_from_json(labels_to_json(labels))
    assert again.dtype == labels.dtype
    assert (again == labels).all()
    assert places(again, labels[::-1]).tolist() == [1, 0]
