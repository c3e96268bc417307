"""The states of many tasks, stacked: kept, replaced, removed, and written to one file.

A task's state is a dict of small arrays, so the states of tasks of one size are
a dict of arrays with one more axis.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..meta_init import read_arrays, write_arrays

#: Beside the names of the state: which of all classes the task's own are (n_way,).
OWN_CLASSES = "own_classes"
#: Version of the file that `save` writes. The states of linear heads in files of version 1 hold a
#: matrix of all pairs of features, which learners still take.
FORMAT = 2
#: Tasks, and the arrays (T, ...) of their states by name.
Pieces = Iterable[tuple[np.ndarray, dict[str, np.ndarray]]]


def joined_arrays(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Concatenate arrays of the same names."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class TaskStates:
    """States of numbered tasks, in blocks of arrays that have an axis of tasks first.

    Parameters
    ----------
    n_tasks : int, default=0
        How many tasks there will be; `put` gives them their states.

    Attributes
    ----------
    blocks : list of dict of str to ndarray
        Arrays (T, ...) by name, those of `OWN_CLASSES` included.
    block_of, slot_of : ndarray of shape (n_tasks,)
        In which block, and where in it, the state of a task lies.
    """

    def __init__(self, n_tasks: int = 0):
        self.blocks: list[dict[str, np.ndarray]] = []
        self.block_of = np.full(n_tasks, -1)
        self.slot_of = np.full(n_tasks, -1)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for block in self.blocks for a in block.values())

    def put(self, pieces: Pieces) -> None:
        """Set the states of some tasks, given as (tasks, arrays); all others stay as they are."""
        alike: dict[int, list[tuple[np.ndarray, dict[str, np.ndarray]]]] = {}
        for tasks, arrays in pieces:
            alike.setdefault(self._block_for(arrays), []).append((tasks, arrays))
        for b, some in alike.items():
            tasks = np.concatenate([t for t, _ in some])
            self._put_into(b, tasks, joined_arrays([arrays for _, arrays in some]))
        self._drop_empty()

    def _put_into(self, b: int, tasks: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        block, inside = self.blocks[b], self.block_of[tasks] == b
        if inside.any():
            for name, array in arrays.items():
                if not block[name].flags.writeable:  # mapped from a file
                    block[name] = block[name].copy()
                block[name][self.slot_of[tasks[inside]]] = array[inside]
        new = tasks[~inside]
        if len(new):
            self._vacate(new)
            n = len(next(iter(block.values())))
            fresh = {name: a[~inside] for name, a in arrays.items()}
            self.blocks[b] = joined_arrays([block, fresh]) if n else fresh
            self.block_of[new], self.slot_of[new] = b, n + np.arange(len(new))

    def _block_for(self, arrays: dict[str, np.ndarray]) -> int:
        for b, block in enumerate(self.blocks):
            if block.keys() == arrays.keys() and all(
                block[name].dtype == a.dtype and block[name].shape[1:] == a.shape[1:]
                for name, a in arrays.items()
            ):
                return b
        self.blocks.append({name: a[:0] for name, a in arrays.items()})
        return len(self.blocks) - 1

    def _vacate(self, tasks: np.ndarray) -> None:
        """Take the states of some tasks out of their blocks."""
        for b in np.unique(self.block_of[tasks]):
            if b < 0:
                continue
            gone = tasks[self.block_of[tasks] == b]
            keep = np.ones(len(next(iter(self.blocks[b].values()))), bool)
            keep[self.slot_of[gone]] = False
            self.blocks[b] = {name: a[keep] for name, a in self.blocks[b].items()}
            stay = self.block_of == b
            stay[gone] = False
            self.slot_of[stay] = (np.cumsum(keep) - 1)[self.slot_of[stay]]
            self.block_of[gone] = self.slot_of[gone] = -1

    def _drop_empty(self) -> None:
        """Keep no blocks of sizes that no task is of any more: states may grow row by row."""
        full = np.array([len(next(iter(block.values()))) > 0 for block in self.blocks], bool)
        if full.all():
            return
        self.blocks = [block for block, keep in zip(self.blocks, full, strict=True) if keep]
        known = self.block_of >= 0
        self.block_of[known] = (np.cumsum(full) - 1)[self.block_of[known]]

    def drop(self, tasks: np.ndarray) -> None:
        """Remove some tasks; those left are numbered afresh, in the same order."""
        self._vacate(tasks)
        self.block_of = np.delete(self.block_of, tasks)
        self.slot_of = np.delete(self.slot_of, tasks)

    def renumber(self, places: np.ndarray, n_tasks: int) -> None:
        """Give task i the number ``places[i]``, and leave room for new ones."""
        for name in ("block_of", "slot_of"):
            moved = np.full(n_tasks, -1)
            moved[places] = getattr(self, name)
            setattr(self, name, moved)

    def relabel(self, places: np.ndarray) -> None:
        """Give class c the number ``places[c]``."""
        for block in self.blocks:
            block[OWN_CLASSES] = places[block[OWN_CLASSES]].astype(np.int32)

    def classes_in_use(self) -> np.ndarray:
        """Sorted numbers of the classes that some task has."""
        own = [block[OWN_CLASSES].ravel() for block in self.blocks]
        return np.unique(np.concatenate(own)) if own else np.zeros(0, int)

    def own_classes(self, tasks: np.ndarray) -> list[np.ndarray]:
        """Numbers of the classes of each of some tasks."""
        places = zip(self.block_of[tasks], self.slot_of[tasks], strict=True)
        return [self.blocks[block][OWN_CLASSES][slot] for block, slot in places]

    def take(self, task: int) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """A copy of the state of one task, and the numbers of its classes."""
        block, slot = self.blocks[self.block_of[task]], self.slot_of[task]
        arrays = {name: a[slot].copy() for name, a in block.items()}
        own = arrays.pop(OWN_CLASSES, None)
        return arrays, own

    # ------------------------------------------------------------------ one file
    def save(self, path: str | os.PathLike[str], meta: Mapping[str, Any]) -> None:
        """Write all states and some JSON to one safetensors file, whole or not at all."""
        arrays = {}
        for b, block in enumerate(self.blocks):
            inside = np.flatnonzero(self.block_of == b)
            tasks = np.empty(len(inside), np.int64)
            tasks[self.slot_of[inside]] = inside
            arrays[f"{b}/tasks"] = tasks
            arrays |= {f"{b}/state/{name}": a for name, a in block.items()}
        told = {"n_blocks": len(self.blocks), "n_tasks": len(self.block_of)}
        write_arrays(path, "taskwise", FORMAT, arrays, {**meta, **told})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> tuple[TaskStates, dict[str, Any]]:
        """Read what `save` wrote: the states and the JSON."""
        arrays, meta = read_arrays(path, "taskwise", FORMAT, "tasks written by save_tasks")
        states = cls(meta["n_tasks"])
        for b in range(meta["n_blocks"]):
            tasks, prefix = arrays[f"{b}/tasks"], f"{b}/state/"
            states.blocks.append(
                {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
            )
            states.block_of[tasks], states.slot_of[tasks] = b, np.arange(len(tasks))
        return states, meta
