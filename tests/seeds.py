"""How much room the thresholds of tests on trained things have: `make seeds`.

Runs `pytest -m trained` with ten seeds, and with three on each lesser instruction set that this
processor can be held to, and prints by how many standard deviations each threshold is passed.
Exits with 1 if a test failed or a threshold is passed by fewer than three.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from margins import RECORDS, SEED

ROOT = Path(__file__).parents[1]

#: Where the records of each run are left.
KEPT = ROOT / "build" / "seeds"

#: Standard deviations that the mean must be away from the threshold.
ENOUGH = 3

#: Environment variables that hold torch, oneDNN and MKL to an instruction set, least first.
LEVELS = {
    "default": ("default", "SSE41", "SSE4_2"),
    "avx2": ("avx2", "AVX2", "AVX2"),
    "avx512": ("avx512", "AVX512_CORE", "AVX512"),
}
VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


class Row(NamedTuple):
    """What all runs say of one comparison."""

    test: str
    name: str
    values: np.ndarray
    threshold: float
    direction: str

    @property
    def margin(self):
        """Standard deviations from the threshold to the mean; negative if on the wrong side."""
        if not np.isfinite(self.values).all():
            return -np.inf
        away = (self.values.mean() - self.threshold) * (1 if self.direction == "above" else -1)
        spread = self.values.std(ddof=1) if len(self.values) > 1 else 0.0
        return away / spread if spread > 0 else np.copysign(np.inf, away)

    @property
    def worst(self):
        return self.values.min() if self.direction == "above" else self.values.max()


def lesser_levels():
    """Levels below the one that torch chooses here."""
    own = torch.backends.cpu.get_cpu_capability().lower()
    return list(LEVELS)[: list(LEVELS).index(own)] if own in LEVELS else []


def run(level, seed, options):
    """One run of the tests, whose records go to a file of its own; the lines that tell failures."""
    records = KEPT / f"{level}-{seed}.jsonl"
    records.unlink(missing_ok=True)
    env = os.environ | {SEED: str(seed), RECORDS: str(records)}
    env |= {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name not in env}
    for name in VARIABLES:
        env.pop(name, None)
    if level != "native":
        env |= dict(zip(VARIABLES, LEVELS[level], strict=True))
        # what was compiled for one instruction set is not looked up for another
        env["TORCHINDUCTOR_CACHE_DIR"] = str(KEPT / f"compiled-{level}")
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-m", "trained", *options]
    command += ["-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not told:
        told = [(done.stdout + done.stderr).strip()[-2000:]]
    last = (done.stdout.strip().splitlines() or [""])[-1]
    print(f"{level}, seed {seed}: {last}", file=sys.stderr, flush=True)
    return told


def rows_of(files):
    """A row for each comparison of each test, the least margin first."""
    found = {}
    for file in files:
        for line in file.read_text("utf-8").splitlines() if file.exists() else ():
            record = json.loads(line)
            key = record["test"], record["name"]
            found.setdefault(key, []).append(record)
    rows = [
        Row(*key, np.array([r["value"] for r in records]), *(
            records[0][part] for part in ("threshold", "direction")
        ))
        for key, records in found.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row.margin)


def table(rows):
    """As Markdown."""
    lines = ["| test | value | n | mean | std | threshold | margin in std | worst |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        sign = ">" if row.direction == "above" else "<"
        spread = row.values.std(ddof=1) if len(row.values) > 1 else 0.0
        lines.append(
            f"| `{row.test.removeprefix('tests/')}` | {row.name} | {len(row.values)} | "
            f"{row.values.mean():.4g} | {spread:.2g} | {sign} {row.threshold:.4g} | "
            f"{row.margin:.1f} | {row.worst:.4g} |"
        )
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", default=["tests"], help="files or folders of tests")
    parser.add_argument("--seeds", type=int, default=10, help="on this processor as it is")
    parser.add_argument("--others", type=int, default=3, help="seeds on each lesser level")
    parser.add_argument("--levels", nargs="+", choices=["native", *LEVELS], help="default: all")
    parser.add_argument("-k", dest="expression", help="as pytest's -k")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--top", type=int, help="print so many lines of the table")
    asked = parser.parse_args(argv)
    levels = asked.levels or ["native", *lesser_levels()]
    few = min(asked.seeds, asked.others)
    counts = {level: asked.seeds if level == "native" else few for level in levels}
    runs = [(level, seed) for level, count in counts.items() for seed in range(count)]
    options = asked.paths + (["-k", asked.expression] if asked.expression else [])
    KEPT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(asked.jobs) as pool:
        told = list(pool.map(lambda one: run(*one, options), runs))
    rows = rows_of([KEPT / f"{level}-{seed}.jsonl" for level, seed in runs])
    print(table(rows[: asked.top]))
    narrow = sum(row.margin < ENOUGH for row in rows)
    for (level, seed), lines in zip(runs, told, strict=True):
        for line in lines:
            print(f"{level}, seed {seed}: {line}")
    print(f"{len(rows)} thresholds, {narrow} with fewer than {ENOUGH} standard deviations; "
          f"{sum(map(bool, told))} of {len(runs)} runs with failures")  # fmt: skip
    return int(narrow > 0 or any(told) or not rows)


if __name__ == "__main__":
    sys.exit(main())
