"""Blocks of useless features, few past tasks: learned priors, simple models and an oracle.

    python benchmarks/useless_features.py [--past 5 10 20 50 200] [--draws 10]

Of 31 features 20 say nothing of any task. Every draw is a past of its own, and 30 new tasks.
Regression: mean squared error, as a share of the targets' variance, of the prior learned by
`task_prior` as it comes, of the same with the useful features alone (an oracle), of ridge
regression of a task's rows alone, and of one regression for all past rows. Classification, 4
classes a task: log loss of `RidgeHeadClassifier`, of the same oracle, and of logistic regression
alone. With 95% intervals over draws. Prints markdown tables.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from linear_priors import Table, Weights, closed_form, interval, pooled, ridge, standardised
from sklearn.linear_model import LogisticRegression

from fewshot_sklearn import MetaTrainer, RidgeHeadClassifier

SHOTS = (1, 2, 5, 10, 20)
N_FEATURES, N_USELESS = 31, 20
USED = np.arange(N_FEATURES) < N_FEATURES - N_USELESS
N_NEW, N_WAY = 30, 4


# --------------------------------------------------------------------------- regression
def lines(rng: np.random.Generator, mean: np.ndarray, n_tasks: int, n_rows: int) -> Table:
    """Tasks whose weights are the mean's, give or take, and an intercept of their own."""
    slopes = mean + 0.5 * rng.standard_normal((n_tasks, N_FEATURES)) * USED
    X = rng.standard_normal((n_tasks, n_rows, N_FEATURES))
    y = (X * slopes[:, None]).sum(2) + 2 * rng.standard_normal((n_tasks, n_rows))
    y += rng.standard_normal((n_tasks, 1))
    groups = np.repeat(np.arange(n_tasks), n_rows)
    return Table(X.reshape(-1, N_FEATURES), y.ravel(), groups)


def regressions(n_past: int, seed: int) -> dict[str, np.ndarray]:
    """Errors of shape (shots,) of each method."""
    rng = np.random.default_rng([seed, n_past])
    mean = rng.standard_normal(N_FEATURES) * USED
    past, new = lines(rng, mean, n_past, 30), lines(rng, mean, N_NEW, 80)
    cut = [np.flatnonzero(USED), np.arange(N_FEATURES)]
    auto = closed_form("auto", "auto")
    methods = {
        "learned": (auto, cut[1]),
        "oracle": (auto, cut[0]),
        "ridge alone": (ridge, cut[1]),
        "pooled": (pooled, cut[1]),
    }
    return {
        name: errors(learn(past._replace(X=past.X[:, columns])), past, new, columns)
        for name, (learn, columns) in methods.items()
    }


def errors(weights: Weights, past: Table, new: Table, columns: np.ndarray) -> np.ndarray:
    """Mean squared errors on the last 60 rows of each new task, from its first ones."""
    Phi = standardised(new.X[:, columns], past.X[:, columns]).reshape(N_NEW, 80, -1)
    y, out = new.y.reshape(N_NEW, 80), []
    for k in SHOTS:
        A = Phi[:, :k]
        gain = weights.covariance @ A.mT
        left = (y[:, :k] - A @ weights.mean)[..., None]
        coef = weights.mean[:, None] + gain @ np.linalg.solve(A @ gain + np.eye(k), left)
        out.append(np.square(y[:, 20:] - (Phi[:, 20:] @ coef)[..., 0]).mean())
    return np.array(out) / new.y.var()


# --------------------------------------------------------------------------- classification
def classes(rng: np.random.Generator, n_tasks: int, n_rows: int) -> np.ndarray:
    """Rows (n_tasks, N_WAY, n_rows, N_FEATURES) of normal classes around their means."""
    means = 0.7 * rng.standard_normal((n_tasks, N_WAY, 1, N_FEATURES)) * USED
    return means + rng.standard_normal((n_tasks, N_WAY, n_rows, N_FEATURES))


def classifications(n_past: int, seed: int) -> dict[str, np.ndarray]:
    """Log losses of shape (shots,) of each method."""
    rng = np.random.default_rng([seed, n_past])
    past, new = classes(rng, n_past, 20), classes(rng, N_NEW, 40)
    X = past.reshape(-1, N_FEATURES)
    codes = np.tile(np.repeat(np.arange(N_WAY), 20), n_past)
    groups = np.repeat(np.arange(n_past), 20 * N_WAY)
    methods = {}
    for name, columns in (("learned", np.arange(N_FEATURES)), ("oracle", np.flatnonzero(USED))):
        trainer = MetaTrainer(
            RidgeHeadClassifier(), n_way=N_WAY, n_shot=(1, 10), n_query=10, device="cpu",
            random_state=seed, verbose=0,
        )  # fmt: skip
        methods[name] = trainer.fit(X[:, columns], codes, groups=groups).estimator_, columns
    methods["logistic regression alone"] = LogisticRegression(max_iter=1000), np.arange(N_FEATURES)
    out = {}
    for name, (estimator, columns) in methods.items():
        losses = np.zeros(len(SHOTS))
        for task in new[..., columns]:
            asked, told = task[:, 20:].reshape(-1, len(columns)), np.repeat(np.arange(N_WAY), 20)
            for i, k in enumerate(SHOTS):
                rows, y = task[:, :k].reshape(-1, len(columns)), np.repeat(np.arange(N_WAY), k)
                p = np.log(estimator.fit(rows, y).predict_proba(asked).clip(1e-12))
                losses[i] -= p[np.arange(len(told)), told].mean() / N_NEW
        out[name] = losses
    return out


def table(measure: str, n_past: int, n_draws: int) -> None:
    """Print a line for each method."""
    of = {"regression": regressions, "classification": classifications}[measure]
    drawn = [of(n_past, seed) for seed in range(n_draws)]
    for name in drawn[0]:
        values = np.array([one[name] for one in drawn])
        cells = " | ".join(interval(column) for column in values.T)
        print(f"| {measure} | {n_past} | {name} | {cells} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--past", nargs="*", type=int, default=[5, 10, 20, 50, 200])
    parser.add_argument("--draws", type=int, default=10, help="default: 10")
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print("| | past tasks | method | " + " | ".join(f"{k} labels" for k in SHOTS) + " |")
    print("|---|---|---|" + "---|" * len(SHOTS))
    for measure in ("regression", "classification"):
        for n_past in parsed.past:
            table(measure, n_past, parsed.draws)


if __name__ == "__main__":
    main()
