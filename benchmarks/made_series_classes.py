"""Series of new classes: meta-trained estimators beside nearest neighbours and MiniRocket.

    python benchmarks/made_series_classes.py made
    python benchmarks/made_series_classes.py leaves --table data/leaves99/train.csv --epochs 10
    python benchmarks/made_series_classes.py GunPoint ArrowHead      # needs `pip install aeon`

`made` are noisy, shifted, warped and drifting copies of random periodic shapes; `leaves` are
outlines of 99 species (the distance from the middle, all the way around), a third of which are
new. Those two are trained on their past classes. Any other name is that of a data set of aeon, of
one channel, resampled: what is trained on the past classes of `made` is tried there.

MiniRocket is aeon's, fitted to the past series, with scikit-learn's ridge; without aeon it is left
out. Dynamic time warping has a band of a tenth of the length. `series_archive.py` has the data sets
of aeon as they are, of any length and number of channels.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier, RidgeHeadClassifier, few_shot_score
from fewshot_sklearn.datasets import load_leaves

N_EPISODES = 600
SHOTS = (1, 5)
N_TIMES = 128
#: Of `made`: past classes, new ones, and series of each.
MADE = (64, 50, 20)
N_HARMONICS = 6
#: Pairs that are warped at once.
PAIRS = 20_000


class Data(NamedTuple):
    """Series (n, n_times) of past and of new classes."""

    past: np.ndarray
    past_y: np.ndarray
    new: np.ndarray
    new_y: np.ndarray
    #: Where the past is from.
    source: str


def made(n_classes: int, n_rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Series of random periodic shapes, and which shape each is."""
    t, k = np.linspace(0, 1, N_TIMES), np.arange(1, N_HARMONICS + 1)[:, None]
    series = []
    for _ in range(n_classes):
        size, phase = rng.normal(size=k.shape) / k**0.7, rng.uniform(0, 2 * np.pi, k.shape)
        size /= np.sqrt((size**2).sum() / 2)
        for _ in range(n_rows):
            bend, start = rng.normal(0, 0.03, 2), rng.uniform(0, 2 * np.pi, 2)
            warped = t + rng.uniform(-0.1, 0.1)
            warped += bend @ np.sin(2 * np.pi * np.outer([1, 2], t) + start[:, None])
            shape = (size * np.sin(2 * np.pi * k * warped + phase)).sum(0)
            level, slope = rng.normal(0, 0.5, 2)
            shape = rng.uniform(0.7, 1.4) * shape + level + slope * t
            series.append(shape + rng.normal(0, 0.4, N_TIMES))
    return np.array(series, np.float32), np.repeat(np.arange(n_classes), n_rows)


def standardized(X: np.ndarray) -> np.ndarray:
    """Each series about zero, in units of its standard deviation, with `N_TIMES` times."""
    old, new = np.linspace(0, 1, X.shape[1]), np.linspace(0, 1, N_TIMES)
    X = np.stack([np.interp(new, old, x) for x in X])
    X = X - X.mean(1, keepdims=True)
    return (X / (X.std(1, keepdims=True) + 1e-8)).astype(np.float32)


@cache
def data_of(name: str, table: Path | None) -> Data:
    """The series of that name."""
    rng = np.random.default_rng(0)
    past_classes, new_classes, n_rows = MADE
    past, past_y = (standardized(part) if part.ndim > 1 else part for part in made(
        past_classes, n_rows, rng
    ))  # fmt: skip
    if name == "made":
        new, new_y = made(new_classes, n_rows, rng)
        return Data(past, past_y, standardized(new), new_y, name)
    if name == "leaves":
        if table is None:
            raise SystemExit("leaves needs --table, the train.csv of Kaggle's Leaf Classification.")
        leaves = load_leaves(table)
        outline = [f.startswith("shape") for f in leaves.feature_names]
        X = standardized(leaves.data[:, outline])
        species = rng.permutation(np.unique(leaves.target))
        new_ones = np.isin(leaves.target, species[: len(species) // 3])
        past, past_y = X[~new_ones], leaves.target[~new_ones]
        return Data(past, past_y, X[new_ones], leaves.target[new_ones], name)
    X, y = import_module("aeon.datasets").load_classification(name)
    return Data(past, past_y, standardized(X[:, 0]), y, "made")


def warped_distances(X: np.ndarray) -> np.ndarray:
    """Dynamic time warping between all pairs of series (n, n_times), within a band."""
    n, n_times = X.shape
    band = max(1, n_times // 10)
    first, second = np.triu_indices(n, 1)
    found = np.zeros((n, n))
    for part in np.array_split(np.arange(len(first)), len(first) // PAIRS + 1):
        a, b = X[first[part]].T.copy(), X[second[part]].T.copy()
        above = np.full((n_times + 1, len(part)), np.inf, X.dtype)
        above[0] = 0
        for i in range(n_times):
            row = np.full_like(above, np.inf)
            for j in range(max(0, i - band), min(n_times, i + band + 1)):
                best = np.minimum(np.minimum(above[j], above[j + 1]), row[j])
                row[j + 1] = best + (a[i] - b[j]) ** 2
            above = row
        found[first[part], second[part]] = found[second[part], first[part]] = np.sqrt(above[-1])
    return found


@cache
def meta_trained(kind: type, source: str, table: Path | None, epochs: int) -> tuple[object, float]:
    """What has learned from the past classes, and the seconds that it took."""
    data, start = data_of(source, table), time.process_time()
    trainer = MetaTrainer(
        kind(encoder="series"),
        n_way=10,
        n_shot=(1, 5),
        n_query=4,
        n_episodes=100,
        batch_size=2,
        max_epochs=epochs,
        lr=1e-3,
        validation_fraction=0,
        random_state=0,
        verbose=0,
    )
    trained = trainer.fit(data.past, data.past_y).estimator_
    return trained, time.process_time() - start


def methods(
    data: Data, table: Path | None, epochs: int
) -> Iterator[tuple[str, object, np.ndarray, float]]:
    """Name, estimator, rows of the new classes as it takes them, seconds to learn from the past."""
    for kind in (ProtoNetClassifier, RidgeHeadClassifier):
        trained, seconds = meta_trained(kind, data.source, table, epochs)
        yield f'{kind.__name__}(encoder="series")', trained, data.new, seconds
    shipped = RidgeHeadClassifier("series-conv1d-ridge")
    yield 'RidgeHeadClassifier("series-conv1d-ridge")', shipped, data.new, 0.0
    untrained = ProtoNetClassifier(encoder="series", random_state=0)
    yield "the same ProtoNet without past", untrained, data.new, 0.0
    try:
        rocket = import_module("aeon.transformations.collection.convolution_based").MiniRocket
    except ImportError:
        print("MiniRocket is left out: aeon is not installed.")
    else:
        start = time.process_time()
        features = rocket(random_state=0).fit(data.past[:, None])
        rows = np.asarray(features.transform(data.new[:, None]))
        ridge = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 10)))
        yield "MiniRocket, ridge", ridge, rows, time.process_time() - start
    yield "1-NN, Euclidean", KNeighborsClassifier(1), data.new, 0.0
    between = warped_distances(data.new)
    neighbour = KNeighborsClassifier(
        1, algorithm="brute", metric=lambda a, b: between[int(a[0]), int(b[0])]
    )
    yield "1-NN, dynamic time warping", neighbour, np.arange(len(data.new))[:, None], 0.0


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score and print a table for each of the data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=["made"])
    parser.add_argument("--table", type=Path, help="train.csv of the leaves")
    parser.add_argument("--epochs", type=int, default=30, help="of 100 episodes each")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="sklearn")
    found = [f"torch {torch.__version__}", f"scikit-learn {sklearn.__version__}"]
    found += [f"aeon {d.version}" for d in metadata.distributions() if d.name == "aeon"]
    print(f"{time.strftime('%Y-%m-%d')}, {', '.join(found)}, {N_EPISODES} episodes, 95% intervals")
    for name in options.data:
        data = data_of(name, options.table)
        n_way = min(5, len(np.unique(data.new_y)))
        print(f"\n| {name}, {n_way}-way | {' | '.join(f'{k}-shot' for k in SHOTS)} | s to learn |")
        print("|---" * (len(SHOTS) + 2) + "|")
        for told, estimator, rows, seconds in methods(data, options.table, options.epochs):
            scores = [
                few_shot_score(
                    estimator, rows, data.new_y, n_way=n_way, n_shot=k, n_query=5,
                    n_episodes=N_EPISODES, random_state=0,
                )
                for k in SHOTS
            ]  # fmt: skip
            cells = [f"{100 * s.mean:.1f} ± {100 * s.ci95:.1f}" for s in scores]
            print(f"| {told} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
