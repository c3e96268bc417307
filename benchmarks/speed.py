"""Speed and memory, ours beside other libraries'.

    sh benchmarks/install_peers.sh                  # once: the other libraries
    benchmarks/.peers/bin/python benchmarks/speed.py [workload ...] [--rounds N]
    benchmarks/.peers/bin/python benchmarks/speed.py --check

Prints a markdown table. All run in one process with one torch thread, taking turns;
times are of CPU, and a ratio is the median over the rounds of the peer's time over ours.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
from timing import Row
from workloads import WORKLOADS

VERSIONS = ("torch", "scikit-learn", "numpy", "skorch")


def cpu() -> str:
    """Name of the processor and the instructions that torch uses on it."""
    names = [platform.processor() or platform.machine()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{(names or ['unknown processor'])[0]} ({torch.backends.cpu.get_cpu_capability()})"


def main() -> None:
    """Run the workloads asked for and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", metavar="workload", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--check", action="store_true", help="compare meta-gradients with learn2learn's, no timing"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.workloads) - set(WORKLOADS)
    if unknown:
        parser.error(f"unknown workload(s) {sorted(unknown)}; choose from {list(WORKLOADS)}")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.check:
        print("\n".join(import_module("workloads.maml_mlp").check()))
        return
    from peers import PACKAGES

    told = ", ".join(f"{name} {version(name)}" for name in (*VERSIONS, *PACKAGES))
    print(
        f"{time.strftime('%Y-%m-%d')}, {cpu()}, one thread, {arguments.rounds} rounds.\n{told}.\n"
    )
    print("| work | peer | the peer's | ours | ratio | target |")
    print("|---|---|---|---|---|---|")
    lines = []
    for name in arguments.workloads or WORKLOADS:
        for entry in import_module(f"workloads.{WORKLOADS[name]}").run(arguments.rounds):
            if isinstance(entry, Row):
                print(entry, flush=True)
            else:
                lines.append(entry)
    print("", *lines, sep="\n")


if __name__ == "__main__":
    main()
