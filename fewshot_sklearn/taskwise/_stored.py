"""Tasks in a database: found, put, taken out. Each function works inside one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._ids import named
from ._keys import ids_of, keys_of, kind_of
from ._records import arrays_of, checksum, layout_of, records_of
from ._states import OWN_CLASSES, TaskStates

#: Ids that one query asks for.
ASKED_AT_ONCE = 500


class Found(NamedTuple):
    """Tasks that were asked for and are there.

    Attributes
    ----------
    which : ndarray of shape (n_found,)
        Which of those asked for they are.
    states : TaskStates
        Their states; class numbers in them are those of the database.
    """

    which: np.ndarray
    states: TaskStates


# ------------------------------------------------------------------ what is told of all
def told(connection: sqlite3.Connection, name: str) -> Any:
    """A plain value that was written by `tell`; None where there is none."""
    row = connection.execute("SELECT value FROM told WHERE name = ?", (name,)).fetchone()
    return None if row is None else json.loads(row[0])


def tell(connection: sqlite3.Connection, name: str, value: Any) -> None:
    """Write a plain value."""
    connection.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (name, json.dumps(value)))


def check_kind_of(
    connection: sqlite3.Connection, name: str, ids: np.ndarray, whose: str = ""
) -> None:
    """Refuse ids, or labels, of another kind than those there; the first ones say the kind."""
    kind, known = kind_of(ids), told(connection, name)
    if known is None:
        tell(connection, name, kind)
    elif kind != known:
        of_whom = f" of {whose}" if whose else ""
        raise ValueError(
            f"{name}{of_whom} must be of the kind {known!r}, as those stored are, got {ids[0]!r}."
        )


# ------------------------------------------------------------------ tasks
def _in_parts(keys: Sequence[Any]) -> Iterator[tuple[Sequence[Any], str]]:
    for start in range(0, len(keys), ASKED_AT_ONCE):
        part = keys[start : start + ASKED_AT_ONCE]
        yield part, ", ".join("?" * len(part))


def there(connection: sqlite3.Connection, keys: Sequence[Any]) -> np.ndarray:
    """Which tasks (n_tasks,) are there."""
    known: set[Any] = set()
    for part, marks in _in_parts(keys):
        query = f"SELECT task FROM tasks WHERE task IN ({marks})"
        known.update(key for (key,) in connection.execute(query, part))
    return np.array([key in known for key in keys], bool)


def find(connection: sqlite3.Connection, ids: np.ndarray, skip_damaged: bool = False) -> Found:
    """The tasks, of those asked for, that are there; damaged ones are an error, or left out."""
    keys = keys_of(ids)
    found: dict[Any, tuple[int, bytes]] = {}
    for part, marks in _in_parts(keys):
        query = f"SELECT task, layout, checksum, state FROM tasks WHERE task IN ({marks})"
        for key, layout, known, state in connection.execute(query, part):
            if checksum(key, state) != known:
                if skip_damaged:
                    continue
                raise ValueError(
                    f"The store is damaged: the state of task {key!r} does not match its "
                    "checksum. Fit it again (partial_fit), or forget it."
                )
            found[key] = layout, state
    which = np.array([i for i, key in enumerate(keys) if key in found], int)
    states = TaskStates(len(which))
    by_layout: dict[int, tuple[list[int], list[bytes]]] = {}
    for number, i in enumerate(which.tolist()):
        layout, state = found[keys[i]]
        numbers, records = by_layout.setdefault(layout, ([], []))
        numbers.append(number)
        records.append(state)
    states.put(
        (np.array(numbers), arrays_of(_layout(connection, layout), records))
        for layout, (numbers, records) in by_layout.items()
    )
    return Found(which, states)


def put(
    connection: sqlite3.Connection,
    ids: np.ndarray,
    states: TaskStates,
    classes: np.ndarray | None,
    replace: bool,
) -> None:
    """Put tasks in, in the place of those of their ids.

    Parameters
    ----------
    ids : ndarray of shape (n_tasks,)
        Their ids.
    states : TaskStates
        Their states, numbered so.
    classes : ndarray of shape (n_classes,) or None
        Labels that class numbers in the states stand for; None for regression.
    replace : bool
        Whether to replace tasks that are there, rather than to raise an error.
    """
    if not len(ids):
        return
    check_kind_of(connection, "groups", ids)
    keys = keys_of(ids)
    old = there(connection, keys)
    if old.any() and not replace:
        raise ValueError(
            f"{int(old.sum()):,} of {len(ids):,} tasks are in the store already: "
            f"{named(ids[old])}. A task whose rows were in two partitions was fitted to a part of "
            "them in each: partition by task. Where later ones are to replace those before, say "
            "duplicates='replace'."
        )
    codes = None if classes is None else _class_codes(connection, classes)
    if codes is not None:
        _count(connection, find(connection, ids[old], skip_damaged=True).states, -1)
    for b, block in enumerate(states.blocks):
        numbers = np.flatnonzero(states.block_of == b)
        arrays = {name: a[states.slot_of[numbers]] for name, a in block.items()}
        if codes is not None:
            arrays[OWN_CLASSES] = codes[arrays[OWN_CLASSES]]
            _count_of(connection, arrays[OWN_CLASSES], 1)
        layout = _layout_number(connection, layout_of(arrays))
        _refuse_nan(arrays, ids[numbers])
        some = [keys[i] for i in numbers.tolist()]
        connection.executemany(
            "INSERT INTO tasks VALUES (?, ?, ?, ?) ON CONFLICT (task) DO UPDATE SET "
            "layout = excluded.layout, checksum = excluded.checksum, state = excluded.state",
            (
                (key, layout, checksum(key, state), state)
                for key, state in zip(some, records_of(arrays), strict=True)
            ),
        )
    _drop_unused(connection, codes is not None)


def _refuse_nan(arrays: Mapping[str, np.ndarray], ids: np.ndarray) -> None:
    """Keep no model that came of rows or targets that were not finite, and were not looked at."""
    for array in arrays.values():
        if array.dtype.kind == "f" and np.isnan(array).any():
            bad = np.isnan(array).any(tuple(range(1, array.ndim)))
            raise ValueError(
                f"The models of some tasks hold NaN, {named(ids[bad])}: their rows or targets were "
                "not all finite. Nothing was written."
            )


def take_out(connection: sqlite3.Connection, ids: np.ndarray, classify: bool) -> None:
    """Delete tasks, all of which are there."""
    if classify:
        _count(connection, find(connection, ids, skip_damaged=True).states, -1)
    connection.executemany("DELETE FROM tasks WHERE task = ?", ((key,) for key in keys_of(ids)))
    _drop_unused(connection, classify)


def all_ids(connection: sqlite3.Connection) -> np.ndarray:
    """Ids of all tasks, sorted."""
    kind = told(connection, "groups")
    keys = [key for (key,) in connection.execute("SELECT task FROM tasks ORDER BY task")]
    ids = ids_of(kind or "number", keys)
    return np.sort(ids)


def first_id(connection: sqlite3.Connection) -> np.ndarray:
    """The id (1,) of some task, or none (0,)."""
    rows = connection.execute("SELECT task FROM tasks LIMIT 1").fetchall()
    return ids_of(told(connection, "groups") or "number", [key for (key,) in rows])


# ------------------------------------------------------------------ layouts
def _layout(connection: sqlite3.Connection, number: int) -> str:
    query = "SELECT arrays FROM layouts WHERE layout = ?"
    return connection.execute(query, (number,)).fetchone()[0]


def _layout_number(connection: sqlite3.Connection, layout: str) -> int:
    connection.execute("INSERT OR IGNORE INTO layouts (arrays) VALUES (?)", (layout,))
    query = "SELECT layout FROM layouts WHERE arrays = ?"
    return connection.execute(query, (layout,)).fetchone()[0]


# ------------------------------------------------------------------ classes
def _class_codes(connection: sqlite3.Connection, classes: np.ndarray) -> np.ndarray:
    """Numbers (n_classes,) of labels in the database, in which new ones get one."""
    if not len(classes):
        return np.zeros(0, np.int32)
    check_kind_of(connection, "y", classes)
    dtype, known = classes.dtype, told(connection, "y dtype")
    if known is not None and dtype.kind in "biuf":
        dtype = np.result_type(dtype, np.dtype(known))
    tell(connection, "y dtype", dtype.str if dtype.kind in "biuf" else None)
    keys = keys_of(classes)
    connection.executemany(
        "INSERT OR IGNORE INTO classes (label, tasks) VALUES (?, 0)", ((key,) for key in keys)
    )
    codes: dict[Any, int] = {}
    for part, marks in _in_parts(keys):
        query = f"SELECT label, class FROM classes WHERE label IN ({marks})"
        codes.update(connection.execute(query, part))
    return np.array([codes[key] for key in keys], np.int32)


def labels_of(
    connection: sqlite3.Connection, codes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted labels of some classes, or of all, and their numbers in the database."""
    query, pairs = "SELECT class, label FROM classes", []
    if codes is None:
        pairs = connection.execute(query).fetchall()
    else:
        for part, marks in _in_parts(codes.tolist()):
            pairs += connection.execute(f"{query} WHERE class IN ({marks})", part).fetchall()
    kind, dtype = told(connection, "y") or "number", told(connection, "y dtype")
    labels = ids_of(kind, [label for _, label in pairs], dtype)
    order = np.argsort(labels, kind="stable")
    return labels[order], np.array([code for code, _ in pairs], int)[order]


def _count(connection: sqlite3.Connection, states: TaskStates, by: int) -> None:
    for block in states.blocks:
        _count_of(connection, block[OWN_CLASSES], by)


def _count_of(connection: sqlite3.Connection, own: np.ndarray, by: int) -> None:
    """Keep account of how many tasks have each class."""
    codes, counts = np.unique(own, return_counts=True)
    connection.executemany(
        "UPDATE classes SET tasks = tasks + ? WHERE class = ?",
        zip((by * counts).tolist(), codes.tolist(), strict=True),
    )


def _drop_unused(connection: sqlite3.Connection, classify: bool) -> None:
    if classify:
        connection.execute("DELETE FROM classes WHERE tasks = 0")


def told_alike(connection: sqlite3.Connection, meta: Mapping[str, Any], what: str) -> None:
    """Have one description of all tasks; refuse tasks of another."""
    meta, known = json.loads(json.dumps(meta)), told(connection, "meta")
    if known is None:
        tell(connection, "meta", meta)
        return
    for name in sorted({*meta, *known}):
        if meta.get(name) != known.get(name):
            raise ValueError(
                f"{what} holds tasks of {name}={meta.get(name)!r}, but those of the store have "
                f"{known.get(name)!r}. Fit them by the same estimator, on rows of the same columns."
            )
