"""Damaged files, and files that change while they are in use; for `robustness.py`.

A file with a wrong bit, cut short, emptied or of another kind is refused by an error that names
it; whatever becomes of a file that was loaded, who loaded it goes on as before.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from robustness_saved import PROTO, RIDGE, SAVED, bytes_of, checkpointed
from robustness_saved import content as content_of
from robustness_tasks import made, tasks
from robustness_trials import Fell, Trial, answer_apart

from fewshot_sklearn import MetaEmbedding

KINDS = (*SAVED, "checkpoint")
#: Files of each kind and damage.
N_EACH = 8
#: What one that is used while it changes may take.
SECONDS = 60


# ------------------------------------------------------------------ damage
def _flipped(raw: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    damaged = bytearray(raw)
    damaged[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _flipped_in_front(raw: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    damaged = bytearray(raw)
    damaged[rng.integers(min(64, len(raw)))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _cut(raw: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    return raw[: rng.integers(1, len(raw))]


def _zeroed(raw: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    first = int(rng.integers(len(raw)))
    last = min(len(raw), first + int(rng.integers(1, 512)))
    return raw[:first] + bytes(last - first) + raw[last:]


def _mixed(raw: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    first = int(rng.integers(1, len(raw)))
    return raw[:first] + other[first:]


def _doubled(raw: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    first, last = sorted(rng.integers(len(raw), size=2))
    return raw[:last] + raw[first:]


DAMAGES: dict[str, Callable[[bytes, np.random.Generator, bytes], bytes]] = {
    "one bit flipped": _flipped,
    "one bit flipped in front": _flipped_in_front,
    "cut short": _cut,
    "zeros in it": _zeroed,
    "its end of another file": _mixed,
    "a part twice": _doubled,
    "another file": lambda raw, rng, other: other,
    "emptied": lambda raw, rng, other: b"",
    "one byte": lambda raw, rng, other: raw[:1],
    "one byte more": lambda raw, rng, other: raw + b"\0",
    "noise": lambda raw, rng, other: rng.bytes(len(raw)),
}


def damaged(kind: str, damage: str, seed: int) -> str:
    """Load a damaged file."""
    rng = np.random.default_rng([seed, KINDS.index(kind), list(DAMAGES).index(damage)])
    raw = bytes_of(kind)
    others = [k for k in KINDS if k.split(" of ")[0] != kind.split(" of ")[0]]
    content = DAMAGES[damage](raw, rng, bytes_of(others[rng.integers(len(others))]))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"file-{seed}.saved"
        path.write_bytes(content)
        try:
            found = checkpointed(path, 2) if kind == "checkpoint" else SAVED[kind].load(path)
        except (ValueError, OSError) as error:
            if path.name not in str(error):
                raise Fell(f"not named: {type(error).__name__}: {error}") from None
            return "refused"
        except Exception as error:
            raise Fell(f"raw: {type(error).__name__}: {error}") from None
        if content == raw:
            return "the same"
        if kind == "checkpoint":
            raise Fell(f"went on from it, to {found[:8]}")
        again = path.with_name("again")
        SAVED[kind].save(found, again)
        if content_of(again.read_bytes()) != content_of(raw):
            raise Fell("loaded as something else")
    return "the same"


# ------------------------------------------------------------------ change while in use
def _overwritten(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(os.urandom(path.stat().st_size))


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"x")
    os.replace(other, path)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut short": lambda path: os.truncate(path, max(1, path.stat().st_size // 3)),
    "overwritten": _overwritten,
    "replaced": _replaced,
    "deleted": lambda path: path.unlink(),
    "made a folder": lambda path: (path.unlink(), path.mkdir()),
}


def changed(kind: str, change: str) -> str:
    """Load a file, change it, and go on in a process of its own."""
    return answer_apart(partial(_used_while_changed, kind, change), SECONDS)


def _used_while_changed(kind: str, change: str) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(bytes_of(kind))
        found = SAVED[kind].load(path)
        before = SAVED[kind].use(SAVED[kind].load(path))  # what is first used after the change
        CHANGES[change](path)
        for _ in range(2):
            if not np.array_equal(SAVED[kind].use(found), before):
                raise Fell("another answer after the change")
        again = Path(folder) / "again"
        SAVED[kind].save(found, again)
        if content_of(again.read_bytes()) != content_of(bytes_of(kind)):
            raise Fell("saved as something else after the change")
    return "the same"


def named_by_path(name: str, change: str) -> str:
    """An estimator that names its meta-init's file: a fit goes on, another is refused by name."""
    return answer_apart(partial(_path_changed, name, change), SECONDS)


def _path_changed(name: str, change: str) -> str:
    X, y, _ = tasks(RIDGE if name == RIDGE else PROTO, seed=1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(bytes_of(f"meta-init of {RIDGE if name == RIDGE else PROTO}"))
        if name == "MetaEmbedding":
            estimator, ask = MetaEmbedding(str(path)).fit(X), "transform"
        else:
            estimator, ask = (
                made(name).set_params(meta_init=str(path)).fit(X[:24], y[:24]),
                "predict",
            )
        before = getattr(estimator, ask)(X)
        CHANGES[change](path)
        if not np.array_equal(getattr(estimator, ask)(X), before):
            raise Fell("another answer after the change")
        try:
            estimator.fit(X[:24], y[:24])
        except (ValueError, OSError) as error:
            if str(path) not in str(error):
                raise Fell(f"not named: {type(error).__name__}: {error}") from None
        else:
            raise Fell("fitted to a file that is gone")
        if not np.array_equal(getattr(estimator, ask)(X), before):
            raise Fell("another answer after a fit that was refused")
        shutil.rmtree(path, ignore_errors=True)
    return "the same"


def file_trials(seed: int = 0) -> list[Trial]:
    """Every damage to every kind of file, and every change."""
    for kind in KINDS:
        bytes_of(kind)  # before there are others who would make it, too
    found = [
        Trial(f"{kind}({damage}, {i})", partial(damaged, kind, damage, seed * N_EACH + i))
        for kind in KINDS
        for damage in DAMAGES
        for i in range(N_EACH)
    ]
    found += [
        Trial(f"{kind}({change} while in use)", partial(changed, kind, change))
        for kind in SAVED
        for change in CHANGES
    ]
    found += [
        Trial(f"{name} by path({change} while in use)", partial(named_by_path, name, change))
        for name in (PROTO, RIDGE, "MetaEmbedding")
        for change in CHANGES
    ]
    return found
