"""Episodes: what may be drawn, from whom, and the same again for the same (seed, i)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.tasks import (
    ArrayTasks,
    Blocks,
    ClassEpisodes,
    Episodes,
    GeneratedTasks,
    GroupEpisodes,
    TaskStream,
    check_int_or_range,
    pad_tasks,
    split_tasks,
)
from fewshot_sklearn.tasks.sampling import BLOCK, choose


def draws(sampler, n=50):
    drawn = sampler.draw(np.random.default_rng(0), n)
    return [drawn.episode(i) for i in range(n)]


def pool(n_classes=6, n_rows=10):
    """Labels of a pool of classes, shuffled."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(n_classes), n_rows))


# ---------------------------------------------------------------- what an episode holds
@pytest.mark.parametrize("n_query", [4, (2, 5), None])
@pytest.mark.parametrize("n_shot", [1, (1, 4)])
def test_support_and_query_never_share_a_row(n_shot, n_query):
    y = pool()
    by_class = ClassEpisodes(y, n_way=3, n_shot=n_shot, n_query=n_query)
    by_group = GroupEpisodes(y, n_shot=n_shot, n_query=n_query)
    for rows in draws(by_class) + draws(by_group):
        everyone = np.concatenate([rows.support, rows.query])
        assert len(np.unique(everyone)) == len(everyone)
        assert len(rows.support) and len(rows.query)


def test_the_numbers_asked_for_are_drawn():
    for rows in draws(ClassEpisodes(pool(), n_way=4, n_shot=3, n_query=2)):
        assert np.bincount(rows.support_codes).tolist() == [3] * 4
        assert np.bincount(rows.query_codes).tolist() == [2] * 4


def test_ranges_are_drawn_whole_ends_included():
    episodes = draws(ClassEpisodes(pool(), n_way=(2, 4), n_shot=(1, 3), n_query=(2, 4)), 200)
    ways = {rows.support_codes.max() + 1 for rows in episodes}
    shots = {len(rows.support) // (rows.support_codes.max() + 1) for rows in episodes}
    asked = {len(rows.query) // (rows.support_codes.max() + 1) for rows in episodes}
    assert (ways, shots, asked) == ({2, 3, 4}, {1, 2, 3}, {2, 3, 4})


def test_ranges_of_group_episodes_are_drawn_whole_ends_included():
    episodes = draws(GroupEpisodes(pool(), n_shot=[2, 4], n_query=(1, 3)), 200)
    assert {len(rows.support) for rows in episodes} == {2, 3, 4}
    assert {len(rows.query) for rows in episodes} == {1, 2, 3}


def test_n_query_none_takes_all_that_the_support_leaves():
    for rows in draws(ClassEpisodes(pool(), n_way=3, n_shot=2, n_query=None)):
        assert np.bincount(rows.query_codes).tolist() == [8] * 3
    for rows in draws(GroupEpisodes(pool(), n_shot=3, n_query=None)):
        assert (len(rows.support), len(rows.query)) == (3, 7)


def test_one_code_is_one_class_in_support_and_query():
    y = pool()
    for rows in draws(ClassEpisodes(y, n_way=3, n_shot=2, n_query=3)):
        pairs = set(zip(rows.support_codes, y[rows.support], strict=True))
        assert len(pairs) == 3
        assert set(zip(rows.query_codes, y[rows.query], strict=True)) == pairs


def test_every_class_and_every_row_has_its_turn():
    y = pool(5, 6)
    episodes = draws(ClassEpisodes(y, n_way=2, n_shot=1, n_query=2), 300)
    assert set(np.concatenate([rows.support for rows in episodes])) == set(range(len(y)))
    assert set(np.concatenate([rows.query for rows in episodes])) == set(range(len(y)))
    codes = [y[rows.support[0]] for rows in episodes]
    assert set(codes) == set(range(5))  # any class may be number 0


def test_classes_come_from_one_group_and_equal_labels_in_two_groups_are_two_classes():
    y = np.tile(np.repeat(["a", "b", "c"], 4), 3)
    groups = np.repeat([10, 20, 30], 12)
    seen = set()
    for rows in draws(ClassEpisodes(y, groups, n_way=3, n_shot=1, n_query=3)):
        (group,) = set(groups[rows.support]) | set(groups[rows.query])
        seen.add(group)
        assert sorted(y[rows.support]) == ["a", "b", "c"]
    assert seen == {10, 20, 30}


def test_a_group_episode_is_of_one_group():
    groups = pool(4, 6)
    episodes = draws(GroupEpisodes(groups, n_shot=2, n_query=2))
    members = [set(groups[np.concatenate([r.support, r.query])]) for r in episodes]
    assert all(len(m) == 1 for m in members)
    assert set.union(*members) == set(range(4))


# ---------------------------------------------------------------- too little data
def short_pool():
    """Classes of 1, 1, 3, 8 and 8 rows, and a second group of one usable class."""
    y = np.repeat([0, 1, 2, 3, 4, 0], [1, 1, 3, 8, 8, 6])
    return y, np.repeat(["g", "h"], [21, 6])


def test_small_classes_and_groups_are_counted_in_one_warning_and_used_or_left_out():
    y, groups = short_pool()
    with pytest.warns(UserWarning) as caught:
        sampler = ClassEpisodes(y, groups, n_way=5, n_shot=3, n_query=5)
    (warning,) = caught
    message = str(warning.message)
    assert "2 class(es) of a single row left out" in message
    assert "1 class(es) of fewer than 8 rows" in message
    assert "1 group(s) with fewer than two usable classes left out" in message
    assert "1 group(s) of fewer than 5 classes used whole" in message
    for rows in draws(sampler):
        assert set(y[rows.support]) == set(y[rows.query]) == {2, 3, 4}
        assert np.all(groups[rows.support] == "g")
        counts = dict(zip(*np.unique(y[rows.support], return_counts=True), strict=True))
        assert counts == {2: 2, 3: 3, 4: 3}  # at least one row is kept to be asked


def test_small_groups_are_counted_in_one_warning():
    groups = np.repeat([0, 1, 2, 3], [1, 1, 4, 20])
    with pytest.warns(UserWarning) as caught:
        sampler = GroupEpisodes(groups, n_shot=5, n_query=5)
    (warning,) = caught
    assert "2 group(s) of a single row left out" in str(warning.message)
    assert "1 group(s) of fewer than 10 rows" in str(warning.message)
    sizes = {(len(rows.support), len(rows.query)) for rows in draws(sampler)}
    assert sizes == {(3, 1), (5, 5)}


def test_enough_data_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClassEpisodes(pool(5, 5), n_way=5, n_shot=2, n_query=3)
        ClassEpisodes(pool(5, 5), n_way=5, n_shot=4, n_query=None)
        GroupEpisodes(pool(5, 5), n_shot=2, n_query=3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClassEpisodes([0, 1, 2, 3]),
        lambda: ClassEpisodes([0, 0, 0]),
        lambda: ClassEpisodes([0, 0, 1, 1], ["a", "a", "b", "b"]),
        lambda: GroupEpisodes([0, 1, 2]),
    ],
)
def test_no_possible_episode_is_an_error(make):
    with pytest.raises(ValueError, match="No episode can be drawn"):
        make()


@pytest.mark.parametrize("value", [0, (1, 2, 3), "5", 2.0, None, (4, 2), (0, 3)])
def test_bad_sizes_are_named(value):
    for name in ("n_way", "n_shot"):
        with pytest.raises(ValueError, match=name):
            ClassEpisodes(pool(), **{name: value})
    if value not in (0, (0, 3)):  # a whole task may be asked about before any label
        with pytest.raises(ValueError, match="n_shot"):
            GroupEpisodes(pool(), n_shot=value)
    if value is not None:
        with pytest.raises(ValueError, match="n_query"):
            ClassEpisodes(pool(), n_query=value)


def test_one_class_is_no_episode():
    with pytest.raises(ValueError, match="n_way"):
        ClassEpisodes(pool(), n_way=1)


@pytest.mark.parametrize("value", [3, np.int64(3), (3, 3), [3, 3]])
def test_an_int_is_a_range_of_one(value):
    assert check_int_or_range(value, "n", 1) == (3, 3)


# ---------------------------------------------------------------- many draws at once
@pytest.mark.parametrize("k", [1, 3, 7])
def test_choosing_without_replacement(k):
    sizes = np.array([0, 1, 2, 5, 8, 30, 1000] * 40)
    chosen = choose(sizes, k, np.random.default_rng(0))
    assert chosen.shape == (len(sizes), k)
    for size, row in zip(sizes, chosen, strict=True):
        real = row[row >= 0]
        assert len(set(real)) == len(real) == min(size, k)
        assert (real < size).all() and (row[len(real) :] == -1).all()


@pytest.mark.parametrize("size", [4, 40], ids=["by sorting", "by drawing again"])
def test_every_choice_and_every_order_is_as_likely(size):
    chosen = choose(np.full(40_000, size), 2, np.random.default_rng(0))
    pairs = np.bincount(chosen[:, 0] * size + chosen[:, 1], minlength=size * size)
    pairs = pairs.reshape(size, size)
    assert (np.diag(pairs) == 0).all()
    expected = 40_000 / (size * (size - 1))
    spread = (pairs[~np.eye(size, dtype=bool)] - expected) / np.sqrt(expected)
    assert 0.8 < spread.std() < 1.2 and abs(spread).max() < 6


def test_items_depend_on_their_number_alone_across_blocks():
    drawn = []

    def draw(rng, n):
        drawn.append(n)
        width = int(rng.integers(2, 5))
        return rng.integers(0, 100, (n, width)), None

    blocks = Blocks(draw, 4)
    whole = [blocks.take(7, [i])[0][0] for i in range(12)]
    batch, nothing = blocks.take(7, [2, 3, 4, 9, 1])
    assert nothing is None
    for row, i in zip(batch, [2, 3, 4, 9, 1], strict=True):
        assert row[: len(whole[i])].tolist() == whole[i].tolist()
        assert (row[len(whole[i]) :] == -1).all()
    assert np.array_equal(blocks.take(7, [4, 5, 6, 7])[0], [whole[i] for i in range(4, 8)])
    assert blocks.take(8, [0])[0].tolist() != [whole[0].tolist()]
    assert len(drawn) < 12


def test_a_batch_is_its_tasks():
    episodes = array_episodes()
    numbers = [BLOCK - 2, BLOCK - 1, BLOCK, 3]
    batch = episodes.__getitems__(numbers)
    for i, number in enumerate(numbers):
        assert_same_task(batch.task(i), episodes[number])
    stacked, together = pad_tasks([episodes[i] for i in numbers]), pad_tasks(batch)
    for a, b in zip(
        [*stacked[0].values(), stacked[1]], [*together[0].values(), together[1]], strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("n_shot", [4, (2, 6)])
def test_generators_that_draw_many_tasks_at_once(n_shot):
    generator = make_sinusoid_tasks(n_shot=n_shot, n_query=3)
    episodes = Episodes(GeneratedTasks(generator, classification=False), 10, seed=0)
    batch = episodes.__getitems__(range(300))
    shots = set()
    for i in (0, 7, 255, 256, 299):
        task = episodes[i]
        assert_same_task(task, batch.task(i))
        assert task.X_query.shape == task.y_query.shape == (3, 1)
    for i in range(300):
        task = batch.task(i)
        shots.add(len(task.X))
        x = np.concatenate([task.X, task.X_query])[:, 0]
        waves = np.stack([np.sin(x), np.cos(x)], 1)
        y = np.concatenate([task.y, task.y_query])[:, 0]
        amplitude = np.linalg.norm(np.linalg.lstsq(waves, y)[0])
        assert 0.1 <= amplitude <= 5
        np.testing.assert_allclose(waves @ np.linalg.lstsq(waves, y)[0], y, atol=1e-9)
    assert shots == ({4} if n_shot == 4 else {2, 3, 4, 5, 6})


# ---------------------------------------------------------------- from rows to tasks
def array_episodes(seed=0, augment=None):
    y = pool()
    X = np.random.default_rng(1).normal(size=(len(y), 3))
    sampler = ClassEpisodes(y, n_way=3, n_shot=(1, 3), n_query=(1, 3))
    return Episodes(ArrayTasks(X, None, sampler, augment), 8, seed=seed)


def assert_same_task(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_item_i_is_one_task_in_whatever_order_it_is_asked_for():
    episodes = array_episodes()
    forward = [episodes[i] for i in range(8)]
    for i in np.random.default_rng(0).permutation(8):
        assert_same_task(array_episodes()[i], forward[i])
        assert_same_task(episodes[i], forward[i])


def test_another_seed_or_another_index_is_another_task():
    episodes = array_episodes()
    first = episodes[0].X.ravel()[:3].tolist()
    assert episodes[1].X.ravel()[:3].tolist() != first
    assert array_episodes(seed=1)[0].X.ravel()[:3].tolist() != first


@pytest.mark.parametrize("augment", [None, lambda X, rng: X + rng.normal(size=X.shape)])
def test_worker_processes_draw_the_same_batches(augment):
    def batches(num_workers):
        episodes = array_episodes(augment=augment)
        loader = DataLoader(
            episodes, batch_size=3, sampler=TaskStream(episodes, 1), collate_fn=pad_tasks,
            num_workers=num_workers,
        )  # fmt: skip
        return [[*batch.values(), y_query] for batch, y_query in loader]

    alone, shared = batches(0), batches(2)
    assert len(alone) == len(shared) == 3
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_task_holds_the_rows_and_targets_of_the_arrays():
    groups = pool(4, 6)
    X, y = np.arange(48.0).reshape(24, 2), np.arange(24.0)[:, None]
    source = ArrayTasks(X, y, GroupEpisodes(groups, n_shot=2, n_query=3))
    task = source.tasks(0, [0]).task(0)
    assert np.array_equal(task.X, X[task.y[:, 0].astype(int)])
    assert np.array_equal(task.X_query, X[task.y_query[:, 0].astype(int)])


def test_augmentation_sees_each_row_once_and_changes_no_label():
    calls = []

    def augment(X, rng):
        calls.append(len(X))
        return X + 100

    plain, changed = array_episodes()[0], array_episodes(augment=augment)[0]
    assert calls == [len(plain.X) + len(plain.X_query)]
    assert np.array_equal(changed.X, plain.X + 100)
    assert np.array_equal(changed.X_query, plain.X_query + 100)
    assert np.array_equal(changed.y, plain.y)


# ---------------------------------------------------------------- generators of tasks
@pytest.mark.parametrize(
    "labels", [["b", "a", "c"], [30, 10, 20], [True, False], [2.5, -1.0], [-3, 7]]
)
def test_generated_labels_may_be_anything(labels):
    def generator(rng):
        y = np.array(labels)
        return rng.normal(size=(len(y), 2)), y, rng.normal(size=(4, 2)), y[[0, 1, 1, 0]]

    task = GeneratedTasks(generator, classification=True).tasks(0, [0]).task(0)
    classes = np.unique(labels)
    assert np.array_equal(classes[task.y], labels)
    assert np.array_equal(classes[task.y_query], np.array(labels)[[0, 1, 1, 0]])


@pytest.mark.parametrize("stranger", ["0", "aa", "z"])
def test_a_query_label_without_support_is_an_error(stranger):
    def generator(rng):
        return np.zeros((2, 1)), ["a", "b"], np.zeros((1, 1)), [stranger]

    with pytest.raises(ValueError, match="query labels that its support set lacks"):
        GeneratedTasks(generator, classification=True).tasks(0, [0])


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("dtype", [int, float])
def test_generated_targets_of_any_number_type_are_targets_not_codes(dtype, shape):
    def generator(rng):
        y = np.arange(4, dtype=dtype).reshape(shape)
        return rng.normal(size=(4, 2)), y, rng.normal(size=(4, 2)), y

    task = GeneratedTasks(generator, classification=False).tasks(0, [0]).task(0)
    batch, y_query = pad_tasks([task])
    assert batch["y"].tolist() == [[[0.0], [1.0], [2.0], [3.0]]]
    assert y_query.tolist() == [[[0.0], [1.0], [2.0], [3.0]]]


# ---------------------------------------------------------------- epoch after epoch
def test_the_stream_goes_on_with_new_tasks_every_epoch():
    stream = TaskStream(array_episodes())
    assert len(stream) == 8
    assert [list(stream) for _ in range(3)] == [list(range(a, a + 8)) for a in (0, 8, 16)]


def test_a_stream_that_starts_at_an_epoch_goes_on_as_an_uninterrupted_one():
    whole = TaskStream(array_episodes())
    list(whole), list(whole)
    assert list(TaskStream(array_episodes(), epoch=2)) == list(whole)


# ---------------------------------------------------------------- holding tasks out
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("by_group", [True, False])
def test_no_group_and_no_class_is_split(by_group, fraction):
    y, groups = np.tile(np.arange(10), 12), np.repeat(np.arange(12), 10)
    units = groups if by_group else y
    train, valid = split_tasks(y, groups if by_group else None, fraction, np.random.default_rng(0))
    assert not set(units[train]) & set(units[valid])
    assert sorted(np.concatenate([train, valid])) == list(range(120))
    n = len(np.unique(units))
    assert len(set(units[valid])) == max(1 if by_group else 2, round(fraction * n))


def test_the_held_out_tasks_follow_the_generator():
    groups = np.repeat(np.arange(20), 3)

    def held_out(seed):
        return split_tasks(groups, groups, 0.2, np.random.default_rng(seed))[1].tolist()

    assert held_out(0) == held_out(0)
    assert len({tuple(held_out(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize(
    ("n_units", "by_group", "fraction"),
    [(1, True, 0.1), (3, False, 0.1), (10, True, 0.0), (10, False, 0.0)],
)
def test_nothing_is_held_out_where_too_little_would_be_left(n_units, by_group, fraction):
    y = np.repeat(np.arange(n_units), 4)
    train, valid = split_tasks(y, y if by_group else None, fraction, np.random.default_rng(0))
    assert valid is None
    assert train.tolist() == list(range(4 * n_units))


def test_rows_go_to_a_device_in_float32_where_that_changes_nothing():
    rng = np.random.default_rng(0)
    rows, ragged = rng.normal(size=(9, 4)), rng.normal(size=(9, 4))
    ragged[2:, 3], ragged[:, 2] = np.nan, np.nan  # what follows the end of series
    sampler = ClassEpisodes(np.repeat([0, 1, 2], 3), n_way=2, n_shot=1, n_query=1)
    kinds = []
    for X in (rows, ragged, 1e9 + rows, rng.integers(0, 9, (9, 4), dtype=np.uint8)):
        source = ArrayTasks(X, None, sampler)
        source.move(torch.device("cpu"))
        kinds.append(source.X.dtype)
    assert kinds == [torch.float32, torch.float32, torch.float64, torch.uint8]
