"""Wall and CPU time of an epoch of one training, in one process and in several together.

    python benchmarks/distributed.py [protonet-conv4 maml-conv4 maml-mlp] [--processes 1 2]

Each process has one torch thread. The second epoch of a training is timed, without validation; of
several rounds, taken in turn, the least. The wall time of several processes is that of the slowest,
their CPU time the sum. Losses are those of the last step, which are to be the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from skorch.callbacks import Callback

from fewshot_sklearn import MAMLClassifier, MAMLRegressor, MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.datasets import load_omniglot, make_sinusoid_tasks

#: Steps of an epoch, by workload, of so many tasks.
STEPS = {"protonet-conv4": 5, "maml-conv4": 2, "maml-mlp": 200}
N_TASKS = 16
#: Of one process and of several.
Figures = dict[str, float]


class Clock(Callback):
    """How long the last epoch took."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Start."""
        self.began_ = time.perf_counter(), time.process_time()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Stop."""
        now = time.perf_counter(), time.process_time()
        self.took_ = [after - before for after, before in zip(now, self.began_, strict=True)]


def trained(name: str) -> MetaTrainer:
    """A training of two epochs."""
    options = {
        "n_way": 5, "n_shot": 1, "n_query": 15, "n_episodes": STEPS[name] * N_TASKS,
        "batch_size": N_TASKS, "max_epochs": 2, "validation_fraction": 0, "random_state": 0,
        "verbose": 0, "device": "cpu", "compile": False,
    }  # fmt: skip
    if name == "maml-mlp":
        options |= {"n_shot": 10, "n_query": 10}
        del options["n_way"]
        estimator = MAMLRegressor(encoder="mlp", encoder__hidden=(40, 40), n_steps=5)
        past: tuple[Any, ...] = (make_sinusoid_tasks(n_shot=10, n_query=10),)
    else:
        kinds = {"protonet-conv4": ProtoNetClassifier, "maml-conv4": MAMLClassifier}
        estimator = kinds[name](encoder="conv4")
        omniglot = load_omniglot()
        past = omniglot.images, omniglot.target
    return MetaTrainer(estimator, callbacks=[("clock", Clock())], **options).fit(*past)


def measure(name: str) -> Figures:
    """Seconds of this process."""
    torch.set_num_threads(1)
    trainer = trained(name)
    wall, cpu = dict(trainer.callbacks_)["clock"].took_
    loss = trainer.history[-1, "batches", -1, "train_loss"]
    return {"wall": wall, "cpu": cpu, "loss": loss}


def elsewhere(name: str, n: int) -> Figures:
    """Seconds of n processes that train together."""
    command = [sys.executable, __file__, name, "--here"]
    if n > 1:
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
        command[1:1] = start
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(told) == n
    walls, cpus = ([one[key] for one in told] for key in ("wall", "cpu"))
    return {"wall": max(walls), "cpu": sum(cpus), "loss": told[0]["loss"]}


def compared(name: str, processes: Sequence[int], rounds: int) -> None:
    """Print the rows of one workload."""
    found: dict[int, list[Figures]] = {n: [] for n in processes}
    for _ in range(rounds):
        for n in processes:
            found[n].append(elsewhere(name, n))
    first = {key: min(one[key] for one in found[processes[0]]) for key in ("wall", "cpu")}
    for n in processes:
        wall, cpu = (min(one[key] for one in found[n]) for key in ("wall", "cpu"))
        step = 1000 * wall / STEPS[name]
        print(
            f"| {name} | {n} | {wall:.2f} | {step:.1f} | {first['wall'] / wall:.2f} | {cpu:.2f} "
            f"| {cpu / first['cpu']:.2f} | {found[n][0]['loss']:.6f} |",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(STEPS)}; all if none")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="measure in this process alone")
    options = parser.parse_args(argv)
    if options.here:
        print("\n" + json.dumps(measure(options.names[0])), flush=True)
        return
    print("| workload | processes | wall s | ms a step | times as fast | CPU s | relative | loss |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.names or STEPS:
        compared(name, options.processes, options.rounds)


if __name__ == "__main__":
    main()
