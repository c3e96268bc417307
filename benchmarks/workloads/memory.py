"""Peak memory of a MAML meta-step on Omniglot with ten inner steps; our growth over 1,000 steps.

Each contender runs in a process of its own: ``python -m workloads.memory peak ours 10``.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import peers
import torch
from timing import Row

#: Inner steps of the meta-step whose peak is taken.
N_STEPS = 10
#: Steps between the two looks at what is resident; a fifth of them before.
LATER = 1000


def resident(field: str) -> float:
    """Megabytes: ``VmRSS`` now, ``VmHWM`` at the peak of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"No {field} in /proc/self/status.")


def conv4_step(who: str, n_steps: int) -> Callable[[], object]:
    """One meta-step of maml-conv4."""
    from torch.nn import functional as F

    from workloads.maml_conv4 import INNER_LR, N_QUERY, N_SHOT, N_TASKS, N_WAY, make_trainer
    from workloads.omniglot import Pool, as_rows, load, our_network, peers_network

    import_module("torch._dynamo")  # any optimizer's first step brings it in: nobody's 70 MB
    images, characters = load()
    if who == "ours":
        trainer = make_trainer(n_steps, steps=1)
        return lambda: trainer.fit(images, characters)
    network = peers_network(N_WAY) if who == "learn2learn" else our_network(N_WAY)
    step = peers.learn2learn_maml(network, F.cross_entropy, n_steps, INNER_LR)
    pool = Pool(as_rows(images[:8000]))
    return lambda: step(*pool.draw(N_TASKS, N_WAY, N_SHOT, N_QUERY))


def sinusoid_steps() -> Callable[[int], object]:
    """A number of our steps of maml-mlp with five inner steps."""
    from fewshot_sklearn.datasets import make_sinusoid_tasks
    from workloads.maml_mlp import N_ROWS, N_TASKS, make_trainer

    trainer, generator = make_trainer(5), make_sinusoid_tasks(n_shot=N_ROWS, n_query=N_ROWS)
    return lambda n: trainer.set_params(n_episodes=n * N_TASKS).partial_fit(generator)


def measure(what: str, who: str, number: int) -> float:
    """Megabytes, in this process: at the peak of so many inner steps, or by so many steps."""
    torch.set_num_threads(1)
    if what == "peak":
        step = conv4_step(who, number)
        before = resident("VmRSS")
        step()
        return resident("VmHWM") - before
    steps = sinusoid_steps()
    steps(number // 5)
    gc.collect()
    before = resident("VmRSS")
    steps(number)
    gc.collect()
    return resident("VmRSS") - before


def elsewhere(what: str, who: str, number: int) -> float:
    """Megabytes, in a new process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "workloads.memory", what, who, str(number)],
        cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1]))


def with_learn2learn() -> dict[str, object]:
    """The peers' names; missing where there is no learn2learn."""
    return dict.fromkeys(("learn2learn", "learn2learn, our network"), peers.library("learn2learn"))


def run(rounds: int) -> list[Row | str]:
    """Measure once; memory does not vary as times do."""
    ours = elsewhere("peak", "ours", N_STEPS)
    work = f"memory, peak of maml-conv4 with {N_STEPS} inner steps"
    report: list[Row | str] = []
    for who in peers.beside(with_learn2learn):
        theirs = elsewhere("peak", who, N_STEPS)
        report.append(Row(work, who, theirs, ours, theirs / ours, unit="MB"))
    if not report:
        report.append(Row(work, "none installed", None, ours, None, unit="MB"))
    growth = elsewhere("growth", "ours", LATER)
    report.append(f"memory: growth over {LATER:,} steps of maml-mlp: {growth:.1f} MB.")
    return report


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:3], int(sys.argv[3]))))
