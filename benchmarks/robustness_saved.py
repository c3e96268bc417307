"""Whatever the package saves and loads; for the sections of `robustness.py` about files."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from robustness_tasks import few, made, tasks, trained

from fewshot_sklearn import (
    ESMetaTrainer,
    Experience,
    MetaInit,
    MetaTrainer,
    TaskCalibration,
    TaskMemory,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustedClassifier,
    TrustedRegressor,
    TrustLearner,
)

PROTO, RIDGE = "ProtoNetClassifier", "RidgeHeadRegressor"


class Saved(NamedTuple):
    """A kind of file."""

    #: Something to save, one of many by a seed.
    make: Callable[[int], Any]
    save: Callable[[Any, Path], None]
    load: Callable[[Path], Any]
    #: Numbers that something loaded gives, in use.
    use: Callable[[Any], np.ndarray]


def _of_seed(make: Callable[[], Any], name: str) -> Callable[[int], Any]:
    return cache(lambda seed: make(name, seed))  # type: ignore[call-arg]


def _init(name: str, seed: int) -> MetaInit:
    estimator = made(name, encoder="mlp", encoder__hidden=(64, 64))
    X, y, groups = tasks(name, seed)
    return MetaTrainer(estimator, **few(name, n_episodes=2)).fit(X, y, groups).meta_init_


def _memory(name: str, seed: int) -> TaskMemory:
    return TaskMemory.from_data(trained(name), *tasks(name, seed), keep_rows=True)


def _calibration(name: str, seed: int) -> TaskCalibration:
    n_way = None if name == RIDGE else 2
    learner = TrustLearner(
        trained(name), n_way=n_way, n_shots=(1, 2), n_query=4, n_episodes=8, random_state=seed
    )
    return learner.fit(*tasks(name, seed)).calibration_


def _experience(name: str, seed: int) -> Experience:
    scores = np.random.default_rng(seed).random((400, 3))
    return Experience.from_scores(["a", "b", "c"], {k: scores + k for k in range(1, 40)})


def _taskwise(name: str, seed: int) -> Any:
    return _empty_taskwise(name).fit(*tasks(name, seed))


def _empty_taskwise(name: str) -> Any:
    return (TaskwiseRegressor if name == RIDGE else TaskwiseClassifier)(trained(name))


def _asked(name: str) -> Any:
    return tasks(name, seed=1)[0]


def use_init(name: str, init: MetaInit) -> np.ndarray:
    """Answers of an estimator that begins there."""
    X, y, _ = tasks(name, seed=1)
    estimator = made(name).set_params(meta_init=init).fit(X[:24], y[:24])
    return np.asarray(estimator.predict(X[24:40]), dtype=np.float64)


def use_memory(memory: TaskMemory) -> np.ndarray:
    """All its numbers, and which of them are near."""
    near, distances = memory.nearest(memory.means[:3], n_neighbors=2)
    return np.concatenate(
        [memory.means.ravel(), np.ravel(distances), near.astype(str).view("u4").ravel()]
    )


def use_calibration(name: str, calibration: TaskCalibration) -> np.ndarray:
    """What an estimator trusts by it."""
    X, y, _ = tasks(name, seed=1)
    kind = TrustedRegressor if name == RIDGE else TrustedClassifier
    estimator = kind(trained(name), calibration).fit(X[:24], y[:24])
    return np.asarray(estimator.predict(X[24:40]), dtype=np.float64)


def use_experience(experience: Experience) -> np.ndarray:
    """All its scores."""
    return np.concatenate([experience.mean_scores.ravel(), experience.scores_at(2.5)])


def use_taskwise(name: str, fitted: Any) -> np.ndarray:
    """Answers for each task."""
    X, _, groups = tasks(name, seed=1)
    return np.asarray(fitted.predict(X, groups=groups), dtype=np.float64)


SAVED = {
    **{
        f"meta-init of {name}": Saved(
            _of_seed(_init, name), MetaInit.save, MetaInit.load,
            lambda init, name=name: use_init(name, init),
        )
        for name in (PROTO, RIDGE)
    },
    **{
        f"TaskMemory of {name}": Saved(
            _of_seed(_memory, name), TaskMemory.save, TaskMemory.load, use_memory
        )
        for name in (PROTO, RIDGE)
    },
    **{
        f"TaskCalibration of {name}": Saved(
            _of_seed(_calibration, name), TaskCalibration.save, TaskCalibration.load,
            lambda found, name=name: use_calibration(name, found),
        )
        for name in (PROTO, RIDGE)
    },
    "Experience": Saved(
        _of_seed(_experience, ""), Experience.save, Experience.load, use_experience
    ),
    **{
        f"tasks of {name}": Saved(
            _of_seed(_taskwise, name), lambda fitted, path: fitted.save_tasks(path),
            lambda path, name=name: _empty_taskwise(name).load_tasks(path),
            lambda fitted, name=name: use_taskwise(name, fitted),
        )
        for name in (PROTO, RIDGE)
    },
}  # fmt: skip


def content(raw: bytes) -> Any:
    """What a file says, in whatever order a header says it."""
    size = int.from_bytes(raw[:8], "little")
    if not raw[8 : 8 + size].startswith(b'{"__metadata__"'):
        return raw
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


#: Meta-trainings that draw: an estimator's name, and its trainer.
TRAININGS: dict[str, tuple[str, type[MetaTrainer], dict[str, Any]]] = {
    "ProtoNet": (PROTO, MetaTrainer, {}),
    "MAML": ("MAMLRegressor", MetaTrainer, {"validation_fraction": 0.25, "n_valid_episodes": 4}),
    "Reptile": ("ReptileClassifier", MetaTrainer, {}),
    "evolution": (RIDGE, ESMetaTrainer, {"n_perturbations": 2}),
}


def checkpointed(path: Path | None, epochs: int, training: str = "ProtoNet") -> str:
    """A meta-training with a checkpoint, or without: what came of it."""
    name, kind, more = TRAININGS[training]
    net = {"encoder": "mlp", "encoder__hidden": (16,), "encoder__dropout": 0.3}
    options = few(name, n_episodes=8, max_epochs=epochs, checkpoint=path) | more
    return kind(made(name, **net), **options).fit(*tasks(name)).meta_init_.digest


@cache
def bytes_of(kind: str, seed: int = 0) -> bytes:
    """What is in a file of that kind."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        if kind == "checkpoint":
            checkpointed(path, 1)
        else:
            SAVED[kind].save(SAVED[kind].make(seed), path)
        return path.read_bytes()
