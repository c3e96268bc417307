"""Penalties of ridge regression for classes: from all past episodes at once, or by Adam.

    python benchmarks/class_penalties.py [--leaves train.csv] [--data made omniglot ...]

Classes are split 60 to 40, those of Omniglot 200 to 200. `RidgeHeadClassifier` learns from the
former with fixed features, at once (as it comes) and by Adam on episodes (alpha=1.0), with
MetaTrainer's own budget. New 5-way episodes are of the latter. Beside it stand logistic regression
and the nearest centroid of the support rows. Accuracy and log loss with 95% intervals over
episodes, which are the same for all, and of the difference to Adam. Prints a markdown table.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import EpisodeSplit, MetaTrainer, RidgeHeadClassifier
from fewshot_sklearn.datasets import load_leaves, load_omniglot

N_EPISODES = 600
N_WAY = 5
#: Epochs of Adam, at most; MetaTrainer's default.
MAX_EPOCHS = 100
#: Blocks of columns of the leaves.
LEAVES = {"margin": slice(0, 64), "shape": slice(64, 128), "texture": slice(128, 192)}


class Pool(NamedTuple):
    """Rows of many classes, and how many of the classes are past."""

    X: np.ndarray
    y: np.ndarray
    n_past: int
    #: Rows that a class has for support and queries.
    n_rows: int


def leaves(path: str, columns: slice) -> Pool:
    """Ten leaves of each of 99 species."""
    data = load_leaves(path)
    return Pool(data.data[:, columns], np.unique(data.target, return_inverse=True)[1], 60, 10)


def omniglot(side: int = 7) -> Pool:
    """Pixels of 400 characters, averaged to 7 by 7."""
    X, y = load_omniglot(return_X_y_groups=True)[:2]
    y = np.unique(y, return_inverse=True)[1]
    some = np.isin(y, np.random.default_rng(0).permutation(y.max() + 1)[:400])
    X = X[some].astype(np.float64).reshape(-1, side, 28 // side, side, 28 // side).mean((2, 4))
    return Pool(X.reshape(len(X), -1), np.unique(y[some], return_inverse=True)[1], 200, 20)


def made(n_features: int = 60, n_useless: int = 40, n_classes: int = 100) -> Pool:
    """Normal classes around their means; most of the features say nothing about any."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((n_classes, 1, n_features)) * (np.arange(n_features) >= n_useless)
    X = 0.7 * means + rng.standard_normal((n_classes, 20, n_features))
    return Pool(X.reshape(-1, n_features), np.repeat(np.arange(n_classes), 20), 60, 20)


def per_episode(estimator: Any, X: np.ndarray, y: np.ndarray, split: EpisodeSplit) -> np.ndarray:
    """(episodes, 2): accuracy, and log loss or NaN."""
    scores = []
    for support, query in split.split(X, y):
        fitted = estimator.fit(X[support], y[support])
        right = (fitted.predict(X[query]) == y[query]).mean()
        loss = np.nan
        if not isinstance(fitted, NearestCentroid):
            p = np.log(fitted.predict_proba(X[query]).clip(1e-12))
            loss = -p[np.arange(len(query)), np.searchsorted(fitted.classes_, y[query])].mean()
        scores.append((right, loss))
    return np.array(scores)


def interval(values: np.ndarray) -> str:
    """A mean and half of its 95% interval."""
    if np.isnan(values).any():
        return ""
    return f"{values.mean():.4f} ± {1.96 * values.std(ddof=1) / len(values) ** 0.5:.4f}"


def rows_of(name: str, pool: Pool, n_shot: int) -> None:
    """Print a line for each method."""
    order = np.random.default_rng(1).permutation(pool.y.max() + 1)
    past, new = np.isin(pool.y, order[: pool.n_past]), np.isin(pool.y, order[pool.n_past :])
    n_query = min(15, pool.n_rows - n_shot)
    kinds = {"n_way": N_WAY, "n_shot": n_shot, "n_query": n_query, "random_state": 0}
    split = EpisodeSplit(n_episodes=N_EPISODES, **kinds)
    X, y = pool.X[new], pool.y[new]
    found, seconds = {}, {}
    for label, alpha in (("by Adam on episodes", 1.0), ("at once", None)):
        trainer = MetaTrainer(
            RidgeHeadClassifier(alpha=alpha),
            max_epochs=MAX_EPOCHS,
            device="cpu",
            verbose=0,
            **kinds,
        )
        start = time.perf_counter()
        trainer.fit(pool.X[past], pool.y[past])
        seconds[label] = f"{time.perf_counter() - start:.1f}"
        found[label] = per_episode(trainer.estimator_, X, y, split)
    alone = {
        "logistic regression": LogisticRegression(max_iter=1000),
        "nearest centroid": NearestCentroid(),
    }
    scale = StandardScaler().fit(pool.X[past])  # that of the past, as ours
    for label, estimator in alone.items():
        found[label] = per_episode(estimator, scale.transform(X), y, split)
    for label, scores in found.items():
        apart = scores - found["by Adam on episodes"]
        told = [interval(part) for part in (*scores.T, *apart.T)]
        if label == "by Adam on episodes":
            told[2:] = ["", ""]
        cells = " | ".join(told)
        print(f"| {name} | {n_shot} | {label} | {cells} | {seconds.get(label, '')} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leaves", help="train.csv of Kaggle's Leaf Classification")
    parser.add_argument("--data", nargs="*", help="default: all that is there")
    parser.add_argument("--shots", nargs="*", type=int, default=[1, 5], help="default: 1 5")
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    pools = {"made": made, "omniglot": omniglot}
    if parsed.leaves:
        pools |= {
            f"leaves, {part}": lambda columns=columns: leaves(parsed.leaves, columns)
            for part, columns in (LEAVES | {"all": slice(0, 192)}).items()
        }
    print("| data | shots | method | accuracy | log loss", end="")
    print(" | accuracy, to Adam | log loss, to Adam | s |\n|---|---|---|---|---|---|---|---|")
    for name in parsed.data or pools:
        pool = pools[name]()
        for n_shot in parsed.shots:
            rows_of(name, pool, n_shot)


if __name__ == "__main__":
    main()
