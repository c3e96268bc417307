"""A store on disk: the answers of one estimator in memory, whoever wrote it and whoever reads."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import Ridge

from fewshot_sklearn import (
    MetaEmbedding,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskStore,
    TaskwiseClassifier,
    TaskwiseRegressor,
    fit_partition,
)
from fewshot_sklearn.tasks import same_family
from fewshot_sklearn.taskwise import _database

FEW = {"n_query": 2, "max_epochs": 1, "n_episodes": 8, "random_state": 0, "verbose": 0}


@pytest.fixture(scope="module")
def rows():
    """(X, y, groups): 12 tasks of 3 to 8 rows of 6 features, in random order."""
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(12), 3 + np.arange(12) % 6))
    X = rng.normal(size=(len(groups), 6))
    return X, X[:, 0] * (1 + groups) + rng.normal(size=len(groups)), groups


@pytest.fixture(scope="module")
def ridge(rows):
    trainer = MetaTrainer(RidgeHeadRegressor(), n_shot=3, validation_fraction=0, **FEW)
    X, y, groups = rows
    return trainer.fit(np.tile(X, (3, 1)), np.tile(y, 3), np.tile(groups, 3)).estimator_


@pytest.fixture(scope="module")
def protonet(rows):
    X, _, groups = rows
    trainer = MetaTrainer(ProtoNetClassifier(), n_way=3, n_shot=1, validation_fraction=0, **FEW)
    return trainer.fit(X, groups).estimator_


@pytest.fixture
def store(tmp_path, rows, ridge):
    """All tasks, from files of three parts."""
    reg, (X, y, groups) = TaskwiseRegressor(ridge, updatable=True), rows
    parts = [groups % 3 == part for part in range(3)]
    files = [fit_partition(reg, X[p], y[p], groups[p], folder=tmp_path / "parts") for p in parts]
    return TaskStore(tmp_path / "all.tasks", reg).merge([*files, None])


# ------------------------------------------------------------------ equal to one in memory
def test_a_store_answers_as_one_estimator_does(store, rows, ridge):
    X, y, groups = rows
    whole = TaskwiseRegressor(ridge, updatable=True).fit(X, y, groups)
    assert len(store) == 12 and store.tasks().tolist() == list(range(12))
    assert 3 in store and 12 not in store
    asked = np.append(groups, [50, 60])  # of two that nobody saw
    rows = np.concatenate([X, X[:2]])
    for ours, theirs in zip(
        store.predict(rows, asked, return_std=True),
        whole.predict(rows, asked, return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    np.testing.assert_allclose(store.predict(X, groups), whole.predict(X, groups), rtol=1e-5)
    one, known = (s.task_estimator(4).predict(X, return_std=True) for s in (store, whole))
    np.testing.assert_allclose(one, known, rtol=1e-5)
    some = store.load([2, 7])
    assert some.tasks_.tolist() == [2, 7]


def test_what_is_asked_of_unseen_tasks(store, rows, ridge):
    X, _, _ = rows
    strict = TaskStore(store.path, TaskwiseRegressor(ridge, updatable=True, unseen="error"))
    with pytest.raises(ValueError, match=r"rows of 1 task\(s\) that fit did not see: \[50\]"):
        strict.predict(X[:2], [1, 50])
    with pytest.raises(ValueError, match=r"There are no tasks \[50\]"):
        store.task_estimator(50)
    with pytest.raises(ValueError, match="groups must hold values of the kind that fit saw"):
        store.predict(X[:2], ["1", "2"])
    with pytest.raises(ValueError, match="groups is needed"):
        store.predict(X[:2])


@pytest.mark.parametrize("mode", ["replace", "add"])
def test_tasks_are_renewed_begun_and_forgotten(store, rows, ridge, mode):
    X, y, groups = rows
    whole = TaskwiseRegressor(ridge, updatable=True).fit(X, y, groups)
    ids = [3, 3, 40, 5]
    for one in (whole, store):
        one.partial_fit(X[:4], y[:4], ids, mode=mode)
        one.forget([0, 11])
    assert store.tasks().tolist() == whole.tasks_.tolist()
    asked = np.append(groups, 40)
    rows = np.concatenate([X, X[:1]])
    ours, theirs = (one.predict(rows, asked, return_std=True) for one in (store, whole))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    with pytest.raises(ValueError, match=r"There are no tasks \[0\]"):
        store.forget([1, 0])
    assert 1 in store


def test_a_store_may_begin_with_rows(tmp_path, rows, ridge):
    X, y, groups = rows
    reg = TaskwiseRegressor(ridge)
    store = TaskStore(tmp_path / "new.tasks", reg)
    assert len(store) == 0 and len(store.tasks()) == 0
    with pytest.raises(ValueError, match="holds no tasks yet"):
        store.predict(X, groups)
    with pytest.raises(ValueError, match="groups is needed"):
        store.partial_fit(X, y)
    store.partial_fit(X, y, groups).partial_fit(X[:2], y[:2], [77, 78])
    expected = reg.fit(X, y, groups).predict(X, groups)
    np.testing.assert_allclose(store.predict(X, groups), expected, rtol=1e-6)
    assert len(store) == 14
    store.forget(store.tasks())
    assert len(store) == 0
    prior = reg.predict(X[:1], [99])
    np.testing.assert_allclose(store.predict(X[:1], [3]), prior, rtol=1e-6)


def test_a_column_of_the_table_says_the_task(tmp_path, rows, ridge):
    X, y, groups = rows
    names = [f"x{i}" for i in range(6)]
    table = pd.DataFrame(X, columns=names).assign(who=[f"who {g}" for g in groups])
    reg = TaskwiseRegressor(ridge, task="who")
    store = TaskStore(tmp_path / "t.tasks", reg).merge(reg.fit(table, y))
    np.testing.assert_allclose(store.predict(table), reg.predict(table), rtol=1e-6)
    with pytest.raises(ValueError, match="feature names should match"):
        store.predict(table.rename(columns={"x0": "z"}))
    other = TaskwiseRegressor(ridge, task="who").fit(table.assign(who="new")[["who", *names]], y)
    with pytest.raises(ValueError, match="holds tasks of feature_names_in="):
        store.merge(other)


# ------------------------------------------------------------------ classes
def test_classes_of_all_tasks(tmp_path, rows, protonet):
    X, _, groups = rows
    rng = np.random.default_rng(1)
    # every task has labels of its own, and one that all have
    y = np.where(rng.random(len(X)) < 0.4, "all", [f"{g} own" for g in groups])
    clf = TaskwiseClassifier(protonet, updatable=True)
    parts = [groups < 5, groups >= 5]
    files = [fit_partition(clf, X[p], y[p], groups[p], folder=tmp_path) for p in parts]
    store = TaskStore(tmp_path / "c.tasks", clf).merge(files)
    whole = TaskwiseClassifier(protonet, updatable=True).fit(X, y, groups)
    for one in (store, whole):
        one.partial_fit(X[:3], ["0 own", "zebra", "all"], [0, 0, 1], mode="add")
        one.forget([2, 9])
    assert store.classes_.tolist() == whole.classes_.tolist()
    assert "9 own" not in store.classes_ and "zebra" in store.classes_
    assert (store.predict(X, groups) == whole.predict(X, groups)).all()  # of unseen tasks too
    seen = ~np.isin(groups, [2, 9])
    assert (store.predict(X[seen], groups[seen]) == whole.predict(X[seen], groups[seen])).all()
    ours, theirs = (one.predict_proba(X, groups) for one in (store, whole))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    one = store.task_estimator(0)
    assert one.classes_.tolist() == whole.task_estimator(0).classes_.tolist()
    assert {"0 own", "zebra"} <= {*one.classes_}
    with pytest.raises(ValueError, match="return_std=True, but a classifier"):
        store.predict(X, groups, return_std=True)


def test_labels_keep_their_type(tmp_path, rows, protonet):
    X, _, groups = rows
    clf = TaskwiseClassifier(protonet)
    small, wide = np.uint8(groups % 3), (groups % 3 + 300)
    store = TaskStore(tmp_path / "c.tasks", clf).merge(clf.fit(X, small, groups))
    assert store.classes_.dtype == np.uint8
    store.partial_fit(X, wide, groups + 100)
    assert store.classes_.tolist() == [0, 1, 2, 300, 301, 302]
    assert (store.predict(X, groups + 100) >= 300).all()
    with pytest.raises(ValueError, match="y must"):
        store.partial_fit(X[:2], ["a", "b"], [500, 500])
    assert 500 not in store


def test_a_regressor_has_no_classes(store):
    assert not hasattr(store, "predict_proba") and not hasattr(store, "classes_")


# ------------------------------------------------------------------ ids
KINDS = {
    "small": [-3, 0, 7],
    "beyond floats": [2**53, 2**53 + 1, 2**62],
    "unsigned": np.array([1, 2**63 + 1, 2**64 - 1], np.uint64),
    "fractions": [0.5, 1.0, 2.25],
    "strings": ["", "Zoë", "日本"],
    "objects": np.array(["a", "b", "cc"], object),
    "days": np.array(["2020-01-01", "2020-01-02", "2021-05-05"], "M8[D]"),
    "plain times": [datetime(2020, 1, 1), datetime(2020, 1, 2), datetime(2021, 1, 1)],
    "spans": np.array([1, 2, 3], "m8[s]"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_every_kind_are_kept_exactly(tmp_path, rows, ridge, kind):
    X, y, _ = rows
    ids = KINDS[kind]
    reg = TaskwiseRegressor(ridge)
    groups = np.repeat(np.asarray(ids), 2)
    reg.fit(X[:6], y[:6], groups)
    store = TaskStore(tmp_path / "ids.tasks", reg).merge(reg)
    found = store.tasks()
    assert (found == reg.tasks_).all() and same_family(found, reg.tasks_)
    assert all(one in store for one in ids)
    np.testing.assert_allclose(store.predict(X[:6], groups), reg.predict(X[:6], groups), rtol=1e-6)
    store.forget([ids[1]])
    assert ids[1] not in store and len(store) == 2


def test_equal_ids_are_one_whatever_their_type(store, rows):
    X, _, groups = rows
    expected = store.predict(X, groups)
    for kind in (np.float32, np.uint8, object):
        np.testing.assert_array_equal(store.predict(X, groups.astype(kind)), expected)
    assert 3.0 in store and 3.5 not in store and "3" not in store


def test_ids_that_no_file_can_hold_are_refused(tmp_path, rows, ridge):
    X, y, _ = rows
    reg = TaskwiseRegressor(ridge).fit(X[:2], y[:2], [b"a", b"b"])
    with pytest.raises(ValueError, match=r"Only task ids .* numbers, strings or numpy times"):
        TaskStore(tmp_path / "b.tasks", reg).merge(reg)


# ------------------------------------------------------------------ merging
def test_a_task_of_two_parts_is_refused_or_replaced(store, rows, ridge, tmp_path):
    X, y, groups = rows
    reg = TaskwiseRegressor(ridge, updatable=True)
    before = store.predict(X, groups)
    later = fit_partition(reg, X[:4], y[:4], [5, 5, 90, 91], folder=tmp_path)
    with pytest.raises(ValueError, match=r"1 of 3 tasks are in the store already: \[5\]"):
        store.merge(later)
    assert 90 not in store
    np.testing.assert_array_equal(store.predict(X, groups), before)
    store.merge(later, duplicates="replace")
    assert 90 in store and len(store) == 14
    expected = reg.load_tasks(later).predict(X[:1], [5])
    np.testing.assert_allclose(store.predict(X[:1], [5]), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="duplicates must be one of"):
        store.merge(later, duplicates="first")


def test_what_was_merged_before_is_passed_over(store, tmp_path):
    files = sorted((tmp_path / "parts").iterdir())
    assert len(store.merge(map(str, files))) == len(store.merge(pd.Series(files))) == 12
    store.forget(0)
    assert 0 not in store.merge(files)  # it was asked to be forgotten
    assert 0 in store.merge(files, duplicates="replace")


def test_only_tasks_of_the_same_estimator_come_in(store, rows, ridge, protonet, tmp_path):
    X, y, groups = rows
    for other in (
        TaskwiseRegressor(ridge.__class__(ridge.meta_init, dtype="float64"), updatable=True),
        TaskwiseRegressor(ridge),
    ):
        file = fit_partition(other, X, y, groups + 100, folder=tmp_path / "other")
        with pytest.raises(ValueError, match="holds tasks of"):
            store.merge(file)
        with pytest.raises(ValueError, match="holds tasks of"):
            store.merge(other.fit(X, y, groups + 100))
    with pytest.raises(ValueError, match="holds tasks of"):
        TaskStore(store.path, TaskwiseClassifier(protonet))
    with pytest.raises(ValueError, match="one task"), pytest.warns(UserWarning):
        store.merge(TaskwiseRegressor(ridge, updatable=True).fit(X, y))
    with pytest.raises(ValueError, match="meta-trained"):
        fit_partition(TaskwiseRegressor(Ridge()), X, y, groups, folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="no file"):
        store.merge(tmp_path / "none")
    with pytest.raises(ValueError, match="taskwise must be a TaskwiseClassifier"):
        TaskStore(store.path, ridge)
    with pytest.raises(ValueError, match="taskwise must be a TaskwiseClassifier"):
        fit_partition(ridge, X, y, groups, folder=tmp_path)


def test_a_part_done_twice_is_one_file(tmp_path, rows, ridge):
    X, y, groups = rows
    reg = TaskwiseRegressor(ridge)
    first = fit_partition(reg, X, y, groups, folder=tmp_path)
    order = np.argsort(groups, kind="stable")
    assert fit_partition(reg, X[order], y[order], groups[order], folder=tmp_path) == first
    assert fit_partition(reg, X, y, groups + 1, folder=tmp_path) != first
    assert fit_partition(reg, X[:0], y[:0], groups[:0], folder=tmp_path) is None
    assert len([*tmp_path.iterdir()]) == 2
    assert not hasattr(reg, "tasks_")


# ------------------------------------------------------------------ damage and deletion
def test_damage_is_told_and_the_other_tasks_answer(store, rows):
    X, y, _ = rows
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE tasks SET state = zeroblob(length(state)) WHERE task = 5")
    with pytest.raises(ValueError, match="the state of task 5 does not match its checksum"):
        store.predict(X[:2], [4, 5])
    assert np.isfinite(store.predict(X[:2], [4, 6])).all()
    store.partial_fit(X[:3], y[:3], [5, 5, 5], mode="replace")
    assert np.isfinite(store.predict(X[:2], [4, 5])).all()


def test_a_state_in_the_place_of_another_is_told(store, rows):
    with sqlite3.connect(store.path) as connection:
        connection.execute(
            "UPDATE tasks SET (layout, checksum, state) = "
            "(SELECT layout, checksum, state FROM tasks WHERE task = 0) WHERE task = 6"
        )
    with pytest.raises(ValueError, match="the state of task 6"):
        store.predict(rows[0][:1], [6])


def test_other_files_are_refused(tmp_path, ridge):
    reg = TaskwiseRegressor(ridge)
    (tmp_path / "text").write_text("no database at all, but long enough to be taken for one" * 99)
    with pytest.raises(ValueError, match="is no store of tasks, or is damaged"):
        TaskStore(tmp_path / "text", reg)
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(ValueError, match="another SQLite file"):
        TaskStore(tmp_path / "other", reg)
    TaskStore(tmp_path / "later", reg)
    with sqlite3.connect(tmp_path / "later") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ValueError, match="has format 99; this version reads up to 1"):
        TaskStore(tmp_path / "later", reg)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        TaskStore(tmp_path / "none" / "a.tasks", reg)
    with pytest.raises(ValueError, match="path must be a path"):
        TaskStore(3, reg)


def test_a_truncated_store_is_told(store, rows):
    path, reg = store.path, store.taskwise
    store._database.outside("PRAGMA wal_checkpoint(TRUNCATE)")
    store._database._connection().close()
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match="damaged"):
        TaskStore(path, reg).predict(*rows[::2])


def test_what_is_forgotten_leaves_the_disk(store, rows, tmp_path):
    query = "SELECT state FROM tasks WHERE task = 5"
    with sqlite3.connect(store.path) as connection:
        (state,) = connection.execute(query).fetchone()
    files = [path for path in tmp_path.glob("all.tasks*")]

    def found():
        return any(state[-200:] in path.read_bytes() for path in files if path.exists())

    assert found()
    store.forget([5])
    assert not found()
    store.partial_fit(np.tile(rows[0], (10, 1))[:500], np.zeros(500), range(100, 600))
    store._database.outside("PRAGMA wal_checkpoint(TRUNCATE)")
    size = store.path.stat().st_size
    store.forget(range(100, 600))
    assert store.path.stat().st_size == size
    assert len(store.compact()) == 11 and store.path.stat().st_size < size


# ------------------------------------------------------------------ many at once
def test_readers_see_all_of_an_update_or_nothing(store, rows):
    """Two tasks that are always renewed together, by whoever writes, are never seen apart."""
    X = np.tile(rows[0][:3], (2, 1))
    low, high = np.full(6, -5.0), np.full(6, 5.0)
    groups, asked = np.repeat([20, 21], 3), [20, 21]
    top, bottom = (store.partial_fit(X, y, groups).predict(X[[0, 0]], asked)
                   for y in (high, low))  # fmt: skip
    apart = (top - bottom).min() / 2
    assert apart > 1 > 100 * abs(top[0] - top[1])
    torn, done = [], threading.Event()

    def read(own):
        while not done.is_set():
            told = own.predict(X[[0, 0]], asked)
            torn.append(abs(told[0] - told[1]) > apart)

    readers = [
        threading.Thread(target=read, args=(one,))
        for one in (store, TaskStore(store.path, store.taskwise))
    ]
    for reader in readers:
        reader.start()
    for i in range(500):
        store.partial_fit(X, (high, low)[i % 2], groups)
        if i >= 10 and len(torn) >= 20:
            break
    done.set()
    for reader in readers:
        reader.join()
    assert len(torn) >= 20 and not any(torn)


def test_no_addition_of_several_writers_is_lost(store, rows):
    X, y, _ = rows
    expected = store.load([4]).partial_fit(X[:8], y[:8], np.full(8, 4), mode="add")

    def add(i):
        store.partial_fit(X[i : i + 1], y[i : i + 1], [4], mode="add")

    writers = [threading.Thread(target=add, args=(i,)) for i in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    ours, theirs = (one.predict(X[:4], [4] * 4, return_std=True) for one in (store, expected))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_writer_that_is_killed_leaves_what_was_there(store, rows, tmp_path):
    X, _, groups = rows
    before, script = store.predict(X, groups), tmp_path / "writer.py"
    (tmp_path / "taskwise.pickle").write_bytes(pickle.dumps(store.taskwise))
    script.write_text(
        "import os, pickle, sys\n"
        "from fewshot_sklearn import TaskStore\n"
        "from fewshot_sklearn.taskwise import store as room\n"
        "taskwise = pickle.loads(open(sys.argv[2], 'rb').read())\n"
        "store, put = TaskStore(sys.argv[1], taskwise), room.put\n"
        "def die(*args):\n"
        "    put(*args)\n"
        "    os._exit(9)  # all is written, nothing is committed\n"
        "room.put = die\n"
        "store.partial_fit([[0.] * 6] * 8, [9.] * 8, [*range(8)])\n"
    )
    paths = [str(script), str(store.path), str(tmp_path / "taskwise.pickle")]
    assert subprocess.run([sys.executable, *paths]).returncode == 9
    np.testing.assert_array_equal(store.predict(X, groups), before)
    store.partial_fit(X[:1], [1.0], [3])  # and nobody holds it


def _told(store, X, groups, answers):
    answers.put(store.predict(X, groups))


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_a_store_goes_to_other_processes(store, rows, how):
    if how not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {how} here")
    X, _, groups = rows
    context = multiprocessing.get_context(how)
    expected, answers = store.predict(X, groups), context.Queue()
    other = context.Process(target=_told, args=(store, X, groups, answers))
    other.start()
    np.testing.assert_allclose(answers.get(timeout=120), expected, rtol=1e-6)
    other.join()
    np.testing.assert_array_equal(store.predict(X, groups), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).predict(X, groups), expected)


def test_a_store_that_is_gone_is_told_and_not_made_anew(store, rows):
    sent = pickle.dumps(store)
    store.path.rename(store.path.with_name("moved"))
    with pytest.raises(OSError, match=r"all\.tasks cannot be used: unable to open"):
        pickle.loads(sent).predict(rows[0][:1], [3])
    assert not store.path.exists()


def test_where_nothing_may_be_written_it_is_read(store, rows, monkeypatch):
    X, y, groups = rows
    path, expected = store.path, store.predict(X, groups)
    store._database.outside("PRAGMA wal_checkpoint(TRUNCATE)")
    monkeypatch.setattr(_database.os, "access", lambda path, mode: mode != os.W_OK)
    reader = TaskStore(path, store.taskwise)
    np.testing.assert_array_equal(reader.predict(X, groups), expected)
    with pytest.raises(OSError, match="readonly"):
        reader.partial_fit(X, y, groups)


def _refused(predict, X, groups):
    try:
        predict(X, groups=groups)
    except OSError as error:
        return "replaced by another file" in str(error)
    return False


def test_nothing_is_written_to_a_file_that_was_replaced(store, rows, ridge, tmp_path):
    X, y, groups = rows
    other = TaskStore(tmp_path / "new.tasks", TaskwiseRegressor(ridge, updatable=True))
    other.partial_fit(X, y, groups=groups)
    del other
    os.replace(tmp_path / "new.tasks", store.path)
    with pytest.raises(OSError, match="replaced by another file"):
        store.partial_fit(X, y, groups=groups)
    said = []  # nor does another thread take up the other file
    thread = threading.Thread(target=lambda: said.append(_refused(store.predict, X, groups)))
    thread.start()
    thread.join()
    assert said == [True]
    os.remove(store.path)
    with pytest.raises(OSError, match="removed, or replaced"):
        store.forget([0])


def test_no_model_of_nan_is_kept(store, rows):
    X, y, groups = rows
    before, bad = store.predict(X, groups=groups), y.copy()
    bad[groups == 3] = np.nan
    told = pytest.raises(ValueError, match=r"hold NaN, .*3.*Nothing was written")
    with sklearn.config_context(assume_finite=True), told:  # nobody looks at rows and targets
        store.partial_fit(X, bad, groups=groups)
    np.testing.assert_array_equal(store.predict(X, groups=groups), before)


def test_who_only_reads_makes_no_store(tmp_path, ridge):
    with pytest.raises(FileNotFoundError, match=r"no store .*none.tasks"):
        TaskStore(tmp_path / "none.tasks", TaskwiseRegressor(ridge), create=False)
    assert not (tmp_path / "none.tasks").exists()


def test_what_no_store_can_hold_is_told_at_once(tmp_path):
    with pytest.raises(ValueError, match="meta-trained"):
        TaskStore(tmp_path / "all.tasks", TaskwiseRegressor(Ridge()))
    assert not (tmp_path / "all.tasks").exists()


def test_no_store_has_a_task_without_an_id(store):
    assert None not in store and "a" not in store


def test_whose_ids_are_of_another_kind_is_told(store, rows, ridge, tmp_path):
    X, y, groups = rows
    updatable = TaskwiseRegressor(ridge, updatable=True)
    file = fit_partition(updatable, X, y, groups.astype(str), folder=tmp_path)
    with pytest.raises(ValueError, match=f"groups of {file} must be of the kind 'number'"):
        store.merge(file)


def test_a_file_is_no_folder(rows, ridge, tmp_path):
    (tmp_path / "file").write_text("")
    X, y, groups = rows
    with pytest.raises(ValueError, match="is a file"):
        fit_partition(TaskwiseRegressor(ridge), X, y, groups, folder=tmp_path / "file")


def test_no_answer_is_nan(rows, ridge, protonet):
    X, y, groups = rows
    spoilt = X.copy()
    spoilt[0, 0] = np.nan
    for taskwise, target in (
        (TaskwiseRegressor(ridge), y),
        (TaskwiseClassifier(protonet), (y > 0).astype(int)),
    ):
        fitted = taskwise.fit(X, target, groups=groups)
        with (
            sklearn.config_context(assume_finite=True),
            pytest.raises(ValueError, match="no finite answer"),
        ):
            fitted.predict(spoilt, groups=groups)
    with (
        sklearn.config_context(assume_finite=True),
        pytest.raises(ValueError, match="features are not finite"),
    ):
        MetaEmbedding(protonet.meta_init).fit(X).transform(spoilt)
