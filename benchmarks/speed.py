"""Speed and memory, ours beside other libraries'.

    sh benchmarks/install_peers.sh                  # once: the other libraries
    benchmarks/.peers/bin/python benchmarks/speed.py [workload ...] [--rounds N]
    benchmarks/.peers/bin/python benchmarks/speed.py --check

Prints a markdown table. All run in one process with one torch thread, taking turns; times are of
CPU, and a ratio is the median over the rounds of the peer's time over ours. What is not
installed is left out: in an environment without the other libraries ours are timed alone.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from peers import PACKAGES
from threadpoolctl import threadpool_limits
from timing import Row
from workloads import WORKLOADS

#: Ratios that are aimed at, by the start of the work's name and the peer.
TARGETS = {
    ("maml-mlp, 1 inner step, compiled", "learn2learn"): 35,
    ("maml-mlp, 5 inner steps, compiled", "learn2learn"): 35,
    ("maml-mlp", "learn2learn"): 25,
    ("maml-mlp", "parallel-metalearn"): 5,
    ("maml-conv4, second order, bf16", "learn2learn"): 2.4,
    ("maml-conv4, first order, bf16", "learn2learn"): 3,
    ("maml-conv4, second order", "learn2learn"): 1.8,
    ("maml-conv4, first order", "learn2learn"): 2.0,
    ("maml-conv4, head only", "learn2learn"): 2.2,
    ("protonet-conv4, bf16", "easyfsl"): 3,
    ("protonet-conv4, bf16", "learn2learn"): 3,
    ("protonet-conv4", "easyfsl"): 1.9,
    ("protonet-conv4", "learn2learn"): 1.9,
    ("scoring", "easyfsl"): 30,
    ("scoring", "learn2learn"): 30,
    ("many-tasks, MAML", "the same estimator, loop"): 7,
    ("many-tasks, ProtoNet", "the same estimator, loop"): 20,
    ("sharing, GridSearchCV", "nn.Module as a parameter"): 50,
}
VERSIONS = ("torch", "scikit-learn", "numpy", "skorch")


def target(row: Row) -> float | None:
    """The ratio that is aimed at, if any."""
    found = (
        r for (work, peer), r in TARGETS.items() if row.work.startswith(work) and row.peer == peer
    )
    return next(found, None)


def cpu() -> str:
    """Name of the processor and the instructions that torch uses on it."""
    names = [platform.processor() or platform.machine()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or ['unknown processor'])[0]} ({torch.backends.cpu.get_cpu_capability()})"


def installed(name: str) -> str:
    """Name and version of a package, or that it is not here."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the workloads asked for and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="workload", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--check", action="store_true", help="compare meta-gradients with the peers', no timing"
    )
    arguments = parser.parse_args(argv)
    unknown = set(arguments.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload(s) {sorted(unknown)}; choose from {list(WORKLOADS)}")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.check:
        print("\n".join(import_module("workloads.maml_mlp").check()))
        return
    told = ", ".join(map(installed, (*VERSIONS, *PACKAGES)))
    print(
        f"{time.strftime('%Y-%m-%d')}, {cpu()}, one thread, {arguments.rounds} rounds.\n{told}.\n"
    )
    print("| work | peer | the peer's | ours | ratio | target |")
    print("|---|---|---|---|---|---|")
    lines = []
    held = threadpool_limits(1)  # the BLAS of numpy and scikit-learn, too
    for name in arguments.workloads or WORKLOADS:
        for entry in import_module(f"workloads.{WORKLOADS[name]}").run(arguments.rounds):
            if isinstance(entry, Row):
                print(replace(entry, target=entry.target or target(entry)), flush=True)
            else:
                lines.append(entry)
    held.restore_original_limits()
    print("", *dict.fromkeys(lines), sep="\n")


if __name__ == "__main__":
    main()
