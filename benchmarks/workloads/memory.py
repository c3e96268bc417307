"""Peak memory of a MAML meta-step on Omniglot with ten inner steps; our growth over 1,000 steps.

Each contender runs in a process of its own: ``python -m workloads.memory peak ours``.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from timing import Row

#: Inner steps of the meta-step whose peak is taken.
N_STEPS = 10
#: Steps before, and between, the two looks at what is resident.
WARM, LATER = 200, 1000


def resident(field: str) -> float:
    """Megabytes: ``VmRSS`` now, ``VmHWM`` at the peak of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"No {field} in /proc/self/status.")


def conv4_step(who: str) -> Callable[[], object]:
    """One meta-step of maml-conv4, with ten inner steps."""
    import peers
    from torch.nn import functional as F

    from workloads.maml_conv4 import INNER_LR, N_QUERY, N_SHOT, N_TASKS, N_WAY, make_trainer
    from workloads.omniglot import Pool, as_rows, load, our_network, peers_network

    images, characters = load()
    if who == "ours":
        trainer = make_trainer(N_STEPS, steps=1)
        return lambda: trainer.fit(images, characters)
    network = peers_network(N_WAY) if who == "learn2learn" else our_network(N_WAY)
    step = peers.learn2learn_maml(network, F.cross_entropy, N_STEPS, INNER_LR)
    pool = Pool(as_rows(images[:8000]))
    return lambda: step(*pool.draw(N_TASKS, N_WAY, N_SHOT, N_QUERY))


def sinusoid_steps() -> Callable[[int], object]:
    """A number of our steps of maml-mlp with five inner steps."""
    from fewshot_sklearn.datasets import make_sinusoid_tasks
    from workloads.maml_mlp import N_ROWS, N_TASKS, make_trainer

    trainer, generator = make_trainer(5), make_sinusoid_tasks(n_shot=N_ROWS, n_query=N_ROWS)
    return lambda n: trainer.set_params(n_episodes=n * N_TASKS).partial_fit(generator)


def measure(what: str, who: str) -> float:
    """Megabytes, in this process."""
    torch.set_num_threads(1)
    if what == "peak":
        step = conv4_step(who)
        before = resident("VmRSS")
        step()
        return resident("VmHWM") - before
    steps = sinusoid_steps()
    steps(WARM)
    gc.collect()
    before = resident("VmRSS")
    steps(LATER)
    gc.collect()
    return resident("VmRSS") - before


def elsewhere(what: str, who: str) -> float:
    """Megabytes, in a new process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "workloads.memory", what, who],
        cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1]))


def run(rounds: int) -> list[Row | str]:
    """Measure once; memory does not vary as times do."""
    ours = elsewhere("peak", "ours")
    report: list[Row | str] = []
    for who in ("learn2learn", "learn2learn, our network"):
        theirs = elsewhere("peak", who)
        work = f"memory, peak of maml-conv4 with {N_STEPS} inner steps"
        report.append(Row(work, who, theirs, ours, theirs / ours, unit="MB"))
    growth = elsewhere("growth", "ours")
    report.append(f"memory: growth over {LATER:,} steps of maml-mlp: {growth:.1f} MB.")
    return report


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:3])))
