"""Many threads, a caller's settings and random numbers; for `robustness.py`.

Fits, predictions, scores and trainings in threads are those of one thread, to the last bit, while
the caller draws numbers of their own; what is set for torch neither changes nor is changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from robustness_tasks import (
    CLASSIFIERS,
    ESTIMATORS,
    REGRESSORS,
    answers,
    few,
    made,
    tasks,
    trained,
)
from robustness_trials import Fell, Trial
from torch import nn

from fewshot_sklearn import ESMetaTrainer, MetaTrainer, few_shot_score

N_THREADS = (4, 8)
#: Times that a thread is asked for something, for each thread.
TURNS = 3
N_DRAWN = 300


class Bumpy(nn.Module):
    """An encoder of a user's own that draws when made, and while it is trained."""

    def __init__(self, input_shape: Any):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*input_shape, 8), nn.GELU(), nn.Dropout(0.3))
        self.shift = nn.Parameter(torch.randn(8))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Features of rows."""
        return self.layers(X) + self.shift


# ------------------------------------------------------------------ what goes on meanwhile
def drawn() -> tuple[bytes, bytes, float]:
    """Numbers of the caller's own, of torch, numpy and Python."""
    mine = torch.stack([torch.rand(()) for _ in range(N_DRAWN)])
    return mine.numpy().tobytes(), np.random.rand(N_DRAWN).tobytes(), random.random()  # noqa: NPY002


def seeded() -> None:
    """Begin the caller's numbers anew."""
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)


def settings() -> dict[str, Any]:
    """What may be set for torch."""
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "numpy errors": tuple(sorted(np.geterr().items())),
    }


def together(jobs: list[Callable[[], np.ndarray]], n_threads: int) -> list[np.ndarray]:
    """What jobs give in threads, each several times, while the caller draws numbers."""
    seeded()
    usual = drawn()
    before = settings()
    seeded()
    with ThreadPoolExecutor(n_threads) as pool:
        made = [pool.submit(jobs[i % len(jobs)]) for i in range(TURNS * n_threads)]
        mine = drawn()
        found = [one.result() for one in made]
    if mine != usual:
        raise Fell("the caller's random numbers are others")
    if settings() != before:
        raise Fell(f"settings of torch are others: {settings()}, not {before}")
    return found


def same_in_threads(jobs: list[Callable[[], np.ndarray]], n_threads: int) -> str:
    """Compare jobs in threads with the same alone, before and after."""
    alone = [job() for job in jobs]
    for i, got in enumerate(together(jobs, n_threads)):
        same(got, alone[i % len(jobs)], "in threads")
    for job, usual in zip(jobs, alone, strict=True):
        same(job(), usual, "after threads")
    return "the same"


def same(got: np.ndarray, usual: np.ndarray, when: str) -> None:
    """Bit for bit."""
    if got.shape != usual.shape or got.tobytes() != usual.tobytes():
        worst = np.abs(got - usual).max() if got.shape == usual.shape else got.shape
        raise Fell(f"another answer {when}: {worst}")


# ------------------------------------------------------------------ trials
def start(name: str, kind: str) -> Any:
    """An estimator with a past, or without one and with a network that draws."""
    if kind == "a past":
        return trained(name)
    encoders = {
        "its own": {},
        "dropout": {"encoder": "mlp", "encoder__hidden": (8,), "encoder__dropout": 0.3},
        "Bumpy": {"encoder": Bumpy},
    }
    return made(name, **encoders[kind])


def data(name: str, task: int) -> tuple[Any, Any, Any]:
    """Two tasks, and rows to ask about."""
    X, y, groups = (part.to_numpy() for part in tasks(name, seed=1))
    two = np.isin(groups, (task, task + 2) if name in REGRESSORS else (task,))
    return X[two][::2], y[two][::2], X[two][1::2]


def fitted_anew(name: str, kind: str, task: int) -> np.ndarray:
    """Fit and ask."""
    X, y, asked = data(name, task)
    return answers(start(name, kind).fit(X, y), asked)


def fits(name: str, kind: str, n_threads: int) -> str:
    """Fits in threads, of several tasks."""
    return same_in_threads([partial(fitted_anew, name, kind, i) for i in range(3)], n_threads)


def predictions(name: str, kind: str, n_threads: int) -> str:
    """One fitted estimator that all threads ask."""
    X, y, asked = data(name, 0)
    estimator = start(name, kind).fit(X, y)
    jobs = [lambda i=i: answers(estimator, asked[i:]) for i in range(3)]
    return same_in_threads(jobs, n_threads)


def scores(name: str, n_threads: int) -> str:
    """`few_shot_score` in threads."""
    X, y, groups = tasks(name, seed=1)
    n_way = None if name in REGRESSORS else 2

    def score(seed: int) -> np.ndarray:
        return few_shot_score(
            trained(name), X, y, groups, n_way=n_way, n_shot=2, n_query=4, n_episodes=4,
            random_state=seed,
        ).scores  # fmt: skip

    return same_in_threads([partial(score, seed) for seed in range(2)], n_threads)


def trainings(name: str, kind: str, trainer: Any, n_threads: int) -> str:
    """Trainings in threads."""
    X, y, groups = tasks(name)
    more = {"n_perturbations": 2} if trainer is ESMetaTrainer else {}

    def train() -> np.ndarray:
        options = few(name, n_episodes=4, **more)
        found = trainer(start(name, kind), **options).fit(X, y, groups).meta_init_
        return np.frombuffer(found.digest.encode(), np.uint8)

    return same_in_threads([train], n_threads)


# ------------------------------------------------------------------ settings of the caller
@contextmanager
def default_dtype() -> Iterator[None]:
    """torch computes in double precision, where nothing else is said."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device() -> Iterator[None]:
    """torch makes tensors elsewhere, where nothing else is said."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def raising() -> Iterator[None]:
    """numpy raises where it would warn."""
    with np.errstate(all="raise", under="ignore"):
        yield


SETTINGS = {
    "double precision by default": default_dtype,
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "another default device": default_device,
    "numpy that raises": raising,
}


def under(setting: str, name: str, kind: str, what: str) -> str:
    """A fit, or a training, under a setting of the caller's."""
    job = partial(fitted_anew, name, kind, 0)
    if what == "training":
        X, y, groups = tasks(name)

        def job() -> np.ndarray:
            trainer = MetaTrainer(start(name, kind), **few(name, n_episodes=4))
            digest = trainer.fit(X, y, groups).meta_init_.digest
            return np.frombuffer(digest.encode(), np.uint8)

    usual = job()
    with SETTINGS[setting]():
        before = settings()
        got = job()
        if settings() != before:
            raise Fell(f"settings of torch are others: {settings()}, not {before}")
    same(got, usual, f"under {setting}")
    return "the same"


def thread_trials() -> list[Trial]:
    """All of them."""
    found = []
    for name in ESTIMATORS:
        kinds = ("a past",) if name == "MetaEmbedding" else ("a past", "its own", "Bumpy")
        for n in N_THREADS:
            for kind in kinds:
                found += [
                    Trial(f"{name}({kind}).fit({n} threads)", partial(fits, name, kind, n)),
                    Trial(
                        f"{name}({kind}).predict({n} threads)", partial(predictions, name, kind, n)
                    ),
                ]
        for setting in SETTINGS:
            found += [
                Trial(f"{name}({kind}).fit({setting})", partial(under, setting, name, kind, "fit"))
                for kind in kinds
            ]
    for name in CLASSIFIERS + REGRESSORS:
        found.append(Trial(f"few_shot_score({name}: 4 threads)", partial(scores, name, 4)))
        found += [
            Trial(
                f"{trainer.__name__}({name}, {kind}).fit({n} threads)",
                partial(trainings, name, kind, trainer, n),
            )
            for trainer, kind, n in (
                (MetaTrainer, "dropout", 4),
                (MetaTrainer, "Bumpy", 8),
                (ESMetaTrainer, "dropout", 4),
            )
        ]  # fmt: skip
        found += [
            Trial(
                f"MetaTrainer({name}).fit({setting})",
                partial(under, setting, name, "dropout", "training"),
            )
            for setting in SETTINGS
        ]
    return found
