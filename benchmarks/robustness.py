"""Does it hold: what is tried that must be answered well or refused with a clear error.

    python benchmarks/robustness.py                      # all sections
    python benchmarks/robustness.py forged-files --tries 1000 --seed 5

Prints a table of how much was tried, held and fell, and what fell. Each section makes its
trials from seeds, so that the same numbers try the same things; a section that fell on something
makes the exit status 1. Trials run in processes of their own, a batch each, so that one that kills
its process falls by itself; with --processes 0 in this one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from robustness_bad_calls import bad_calls
from robustness_files import file_trials
from robustness_kills import kill_trials
from robustness_rows import row_trials
from robustness_scales import scale_trials
from robustness_sizes import size_trials
from robustness_threads import thread_trials
from robustness_trials import Told, Trial, bounded, outcome

FORGER = Path(__file__).parents[1] / "tests" / "meta_init" / "forger.py"
#: Trials of one process that makes forged files, and seconds that it may take.
BATCH, MOST_SECONDS = 250, 3000
#: What makes the trials of a section of a seed, how many of them a process makes, and what one may
#: take, in seconds.
TRIALS: dict[str, tuple[Callable[[int], list[Trial]], int, float]] = {
    "rows": (lambda seed: row_trials(), 500, 60),
    "scales": (lambda seed: scale_trials(), 200, 60),
    "threads": (lambda seed: thread_trials(), 50, 60),
    "damaged-files": (file_trials, 100, 90),
    "kills": (kill_trials, 50, 200),
    "sizes": (lambda seed: size_trials(), 50, 90),
}
#: Trials a section makes unless told otherwise; of some, all there are.
N_TRIES = dict.fromkeys(["forged-files", "bad-calls", *TRIALS], 10_000)


# ------------------------------------------------------------------ forged files
def forged_files(n_tries: int, seed: int, n_processes: int) -> Told:
    """Meta-inits that someone forged: each is refused by name, or works in little time and memory.

    See tests/meta_init/forger.py.
    """
    first = seed * 10**6
    batches = [(i, min(i + BATCH, first + n_tries)) for i in range(first, first + n_tries, BATCH)]
    if n_processes:
        with ThreadPoolExecutor(n_processes) as pool:
            done = [row for rows in pool.map(_elsewhere, batches) for row in rows]
    else:
        done = [row for batch in batches for row in _here(*batch)]
    ways = Counter(row["fate"] for row in done)
    fell = [
        f"seed {row['seed']}: {row['name']}, {row['what']}: {row['why']}"
        for row in done
        if row["fate"] == "fell"
    ]
    return Told(len(done), len(done) - len(fell), ways, fell)


def _here(first: int, last: int) -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(FORGER.parent))
    from forger import fates

    for seed, forged, fate in fates(first, last):
        yield {"seed": seed, "name": forged.name, "what": forged.what, **fate._asdict()}


def _elsewhere(batch: tuple[int, int]) -> list[dict[str, Any]]:
    """Try a batch in a process of its own; what it was at when it died fell, and it begins anew."""
    first, last = batch
    rows: list[dict[str, Any]] = []
    while first < last:
        command = [sys.executable, str(FORGER), str(first), str(last)]
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, timeout=MOST_SECONDS, preexec_fn=bounded
            )
            printed, why = done.stdout, f"the process ended with {done.returncode}"
        except subprocess.TimeoutExpired as error:
            printed, why = error.stdout or b"", "the process did not end"
        whole = printed.split(b"\n")[:-1]  # the last may have been cut short
        rows += [json.loads(line) for line in whole]
        first = rows[-1]["seed"] + 1 if rows else first
        if first < last:
            rows.append({"seed": first, "name": "?", "what": "?", "fate": "fell", "why": why})
            first += 1
    return rows


def calls(n_tries: int, seed: int, n_processes: int) -> Told:
    """Calls with a wrong argument: each is refused by its name; in this process, whatever is said.

    See robustness_bad_calls.py.
    """
    return Told(*bad_calls(n_tries, seed))


def trials(section: str, n_tries: int, seed: int, n_processes: int) -> Told:
    """Trials of a module of their own, see robustness_trials.py."""
    torch.set_num_threads(1)  # processes are forked
    make, batch, seconds = TRIALS[section]
    return outcome(make(seed), n_tries, seed, n_processes, batch, seconds)


#: What is tried, by name: a function of the number of trials, a seed and the number of processes.
SECTIONS: dict[str, Callable[[int, int, int], Told]] = {
    "forged-files": forged_files,
    "bad-calls": calls,
    **{name: partial(trials, name) for name in TRIALS},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sections asked for, and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--tries", type=int, help="trials a section, in place of its own number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args(argv)
    strangers = set(args.sections) - set(SECTIONS)
    if strangers:
        parser.error(f"no sections {sorted(strangers)}; there are {list(SECTIONS)}")
    print("| section | tried | held | fell | how |\n|---|---|---|---|---|")
    fallen = []
    for name in args.sections or SECTIONS:
        told = SECTIONS[name](args.tries or N_TRIES[name], args.seed, args.processes)
        ways = ", ".join(f"{way}: {count:,}" for way, count in sorted(told.ways.items()))
        print(
            f"| {name} | {told.tried:,} | {told.held:,} | {len(told.fell):,} | {ways} |", flush=True
        )
        fallen += [f"{name}, {line}" for line in told.fell]
    print("\n".join(fallen))
    return bool(fallen)


if __name__ == "__main__":
    sys.exit(main())
