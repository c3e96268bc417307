"""Processes that are killed while they train or save; for `robustness.py`.

A training goes on to the weights of one that nobody killed. A file is the old one or the new one,
whole, and after the next saving nothing lies beside it.
"""

from __future__ import annotations

import time
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from robustness_saved import SAVED, TRAININGS, bytes_of, checkpointed, content
from robustness_trials import Fell, Trial, answer_apart, apart

EPOCHS = 4
#: Trials of each training, and each kind of file.
N_TRAININGS, N_SAVINGS = 12, 8
#: What may be awaited of a process.
SECONDS = 60
#: Seconds of savings after which they are killed, at most.
SAVINGS = 0.05


@cache
def whole_training(training: str) -> tuple[str, float]:
    """What comes of a training that nobody kills, and how long it takes with a checkpoint."""
    usual = checkpointed(None, EPOCHS, training)
    with TemporaryDirectory() as folder:
        since = time.monotonic()
        same = checkpointed(Path(folder) / "file", EPOCHS, training)
    if same != usual:
        raise Fell("a checkpoint changes what is learned")
    return usual, time.monotonic() - since


def _train(told: Connection, path: Path, training: str) -> None:
    torch.set_num_threads(1)
    told.send("begun")
    checkpointed(path, EPOCHS, training)


def killed_training(training: str, seed: int) -> str:
    """Kill a training one to three times, and let it end."""
    rng = np.random.default_rng([seed, list(TRAININGS).index(training)])
    usual, seconds = whole_training(training)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "training.ckpt"
        for _ in range(rng.integers(1, 4)):
            with apart(_train, path, training) as (process, pipe):
                if not pipe.poll(SECONDS):
                    raise Fell("the training does not begin")
                time.sleep(rng.uniform(0, seconds))
                process.kill()
        had_one = path.exists()
        found = answer_apart(partial(checkpointed, path, EPOCHS, training), SECONDS)
        if found != usual:
            raise Fell(f"other weights, {found[:8]}, not {usual[:8]}; a checkpoint: {had_one}")
        _alone(path)
    return "went on" if had_one else "began anew"


def _alone(path: Path) -> None:
    beside = sorted(p.name for p in path.parent.iterdir())
    if beside != [path.name]:
        raise Fell(f"files that nobody wants: {beside}")


def _save_for_ever(told: Connection, kind: str, path: Path) -> None:
    made = [SAVED[kind].make(seed) for seed in (1, 0)]
    told.send("begun")
    while True:
        for one in made:
            SAVED[kind].save(one, path)


def killed_saving(kind: str, seed: int) -> str:
    """Kill a process that saves one of two things after the other to one file."""
    rng = np.random.default_rng([seed, list(SAVED).index(kind)])
    possible = [content(bytes_of(kind, i)) for i in (0, 1)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for _ in range(3):
            with apart(_save_for_ever, kind, path) as (process, pipe):
                if not pipe.poll(SECONDS):
                    raise Fell("the saving does not begin")
                time.sleep(rng.uniform(0, SAVINGS))
                process.kill()
            if path.exists():
                if content(path.read_bytes()) not in possible:
                    raise Fell("the file is neither the old one nor the new one")
                SAVED[kind].load(path)
        SAVED[kind].save(SAVED[kind].make(0), path)
        _alone(path)
    return "the same"


def kill_trials(seed: int = 0) -> list[Trial]:
    """Trainings and savings that are killed at moments that a seed says."""
    return [
        *(
            Trial(f"training of {training}(kill {i})", partial(killed_training, training, seed + i))
            for training in TRAININGS
            for i in range(N_TRAININGS)
        ),
        *(
            Trial(f"{kind}(kill {i})", partial(killed_saving, kind, seed + i))
            for kind in SAVED
            for i in range(N_SAVINGS)
        ),
    ]
