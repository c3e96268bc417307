"""Work instead of seconds: operations, FLOPs and bytes of what users do most; kernels on a GPU.

    python benchmarks/counts.py          # print the table; exit with 1 where work has grown
    python benchmarks/counts.py --write  # accept the present counts as the new ones

Counts do not depend on the machine or on how busy it is, so continuous integration
can hold them: an accidental loop over tasks, a second pass through an encoder or a
copy of a batch shows here at once. The accepted counts are in counts.json. Kernels that a
training step launches on a GPU, and the places where its host waits for it, are counted on one
that is pretended (tests/pretended_gpu), where that can be built.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fewshot_sklearn import (
    MAMLClassifier,
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    few_shot_score,
)
from fewshot_sklearn.datasets import load_omniglot, make_sinusoid_tasks

ACCEPTED = Path(__file__).with_name("counts.json")
#: What counts may exceed the accepted ones by, for other versions of torch.
TOLERANCE = 1.05
#: Episodes that are scored.
N_EPISODES = 200
#: Steps whose kernels are counted.
ON_A_GPU = (
    "ProtoNetClassifier, conv4",
    "RidgeHeadRegressor, mlp",
    "MAMLRegressor, mlp",
    "MAMLClassifier, conv4",
)


class WorkCounter(TorchDispatchMode):
    """Counts the operations that torch dispatches, and the bytes they allocate."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.bytes = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.operations += 1
            inputs = {t.data_ptr() for t in tree_leaves((args, kwargs)) if _is_plain(t)}
            self.bytes += sum(
                t.nbytes for t in tree_leaves(out) if _is_plain(t) and t.data_ptr() not in inputs
            )
        return out


def _is_plain(thing: Any) -> bool:
    return isinstance(thing, torch.Tensor)


def trainer(estimator: Any, **options: Any) -> MetaTrainer:
    """A trainer of one epoch, without validation."""
    fixed = {"validation_fraction": 0, "max_epochs": 1, "random_state": 0, "verbose": 0}
    return MetaTrainer(estimator, device="cpu", compile=False, **fixed, **options)


def training_step(estimator: Any, past: tuple[Any, ...], n_tasks: int, **options: Any) -> Callable:
    """One step on `n_tasks` tasks."""
    net = trainer(estimator, n_episodes=n_tasks, batch_size=n_tasks, **options).fit(*past)
    return lambda: net.partial_fit(*past)


def workloads() -> dict[str, Callable[[], Any]]:
    """What is counted."""
    images, characters, _ = load_omniglot(return_X_y_groups=True)
    images, characters = images[:2000], characters[:2000]
    sinusoids = (make_sinusoid_tasks(n_shot=10, n_query=10),)
    mlp = {"encoder": "mlp", "encoder__hidden": (40, 40)}
    one_shot = {"n_way": 5, "n_shot": 1, "n_query": 15}
    works: dict[str, Callable[[], Any]] = {
        "MAML step, mlp, 25 tasks, 1 inner step": training_step(
            MAMLRegressor(**mlp, n_steps=1), sinusoids, 25
        ),
        "MAML step, mlp, 25 tasks, 5 inner steps": training_step(
            MAMLRegressor(**mlp, n_steps=5), sinusoids, 25
        ),
        "MAML step, conv4, 2 tasks, 1 inner step": training_step(
            MAMLClassifier(encoder="conv4", n_steps=1), (images, characters), 2, **one_shot
        ),
        "first-order MAML step, conv4, 2 tasks": training_step(
            MAMLClassifier(encoder="conv4", n_steps=1, first_order=True),
            (images, characters),
            2,
            **one_shot,
        ),
        "ProtoNet step, conv4, 2 tasks": training_step(
            ProtoNetClassifier(encoder="conv4"), (images, characters), 2, **one_shot
        ),
        "ridge step, mlp, 16 tasks": training_step(RidgeHeadRegressor(**mlp), sinusoids, 16),
    }
    X, y = images.reshape(len(images), -1), characters
    for estimator in (
        ProtoNetClassifier(encoder="mlp"),
        RidgeHeadClassifier(encoder="mlp"),
        MAMLClassifier(encoder="mlp", n_steps=5),
    ):
        name = type(estimator).__name__
        fitted = trainer(estimator, n_episodes=16, n_shot=1).fit(X[:1000], y[:1000]).estimator_
        support, query = np.arange(1000, 2000, 20)[:25], np.arange(1001, 2000, 20)[:25]

        def fit_predict(clf: Any = fitted, support: Any = support, query: Any = query) -> Any:
            return clf.fit(X[support], y[support]).predict(X[query])

        def score(clf: Any = fitted) -> Any:
            return few_shot_score(clf, X[1000:], y[1000:], n_episodes=N_EPISODES)

        works[f"{name}: fit and predict"] = fit_predict
        works[f"{name}: score {N_EPISODES} episodes"] = score
    return works


def count(work: Callable[[], Any]) -> dict[str, int]:
    """Operations, FLOPs and bytes of one call, after a first one that fills the caches."""
    work()
    with WorkCounter() as counter:
        work()
    with FlopCounterMode(display=False) as flops:
        work()
    return {
        "operations": counter.operations,
        "flops": flops.get_total_flops(),
        "bytes": counter.bytes,
    }


def launches(names: Sequence[str] = ON_A_GPU) -> dict[str, dict[str, int]]:
    """Kernels of a training step of two tasks on a pretended GPU, and its waits."""
    tests = Path(__file__).parents[1] / "tests"
    if not (tests / "pretended_gpu").exists() or shutil.which(os.environ.get("CXX", "c++")) is None:
        return {}
    places = os.pathsep.join(map(str, (tests.parent, tests)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pretended_gpu.steps", *names],
        env=os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        f"{line['name']}: step on a GPU": {
            "kernels": int(line["kernels"][0]),
            "waits": len(line["waits"]),
        }
        for line in told
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Count, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="accept the present counts")
    parser.add_argument("--accepted", type=Path, default=ACCEPTED, help="file that holds them")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {name: count(work) for name, work in workloads().items()}
    on_gpu = launches()
    found |= on_gpu
    if options.write:
        options.accepted.write_text(json.dumps(found, indent=2) + "\n")
    accepted = json.loads(options.accepted.read_text())
    grown = []
    print("| work | operations | MFLOP | MB allocated |")
    print("|---|---|---|---|")
    for name, counts in found.items():
        if name in on_gpu:
            continue
        told = counts["operations"], counts["flops"] / 1e6, counts["bytes"] / 1e6
        print(f"| {name} | {told[0]:,} | {told[1]:,.1f} | {told[2]:,.1f} |")
    if on_gpu:
        print("\n| work | kernels | waits |\n|---|---|---|")
    for name, counts in on_gpu.items():
        print(f"| {name} | {counts['kernels']:,} | {counts['waits']} |")
    for name, counts in found.items():
        for kind, value in counts.items():
            known = accepted.get(name, {}).get(kind, 0)
            if value > TOLERANCE * known:
                grown.append(f"{name}: {value:,} {kind}, accepted are {known:,}")
    print("\n".join(grown) if grown else "\nNo work has grown.")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
