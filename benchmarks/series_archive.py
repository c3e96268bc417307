"""Few labels of the series that aeon ships, as they are: `encoder="conv1d"` beside MiniRocket.

    python benchmarks/series_archive.py                  # all nine; needs `pip install aeon`
    python benchmarks/series_archive.py GunPoint OSULeaf
    python benchmarks/series_archive.py made             # series made up here, without aeon

Nothing has learned from any of these data sets: `series-conv1d-ridge` from made-up series alone.
Both see the same episodes of up to five classes, drawn from the training and the test series
together. MiniRocket is aeon's, with scikit-learn's ridge; its thresholds come from all series of
the data set without their labels, which is more than a user of five rows has. Series of different
length reach it as the archive pads them; without aeon it is left out.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import torch
from made_series_classes import made
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import RidgeHeadClassifier, few_shot_score
from fewshot_sklearn.tasks import pad_series

N_EPISODES = 600
SHOTS = (1, 5)
#: Classes and series of each that are made up.
MADE = (8, 20)
NAMES = (
    "ACSF1", "ArrowHead", "BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels",
    "OSULeaf", "PickupGestureWiimoteZ", "UnitTest",
)  # fmt: skip
#: Of which the archive has padded copies.
RAGGED = ("JapaneseVowels", "PickupGestureWiimoteZ")


class Data(NamedTuple):
    """Series (n, n_times, n_channels), NaN after their end; the same padded; their classes."""

    X: np.ndarray
    padded: np.ndarray
    y: np.ndarray


def read(name: str, copy: str = "") -> tuple[list[np.ndarray], np.ndarray]:
    """All series of a data set in aeon's package, each (n_channels, n_times)."""
    datasets = import_module("aeon.datasets")
    folder = Path(datasets.__file__).parent / "data" / name
    parts = [
        datasets.load_from_ts_file(str(folder / f"{name}{copy}_{part}.ts"))
        for part in ("TRAIN", "TEST")
    ]
    return [series for X, _ in parts for series in X], np.concatenate([y for _, y in parts])


def data_of(name: str) -> Data:
    """The data set of that name."""
    if name == "made":
        X, y = made(*MADE, np.random.default_rng(0))
        return Data(X[..., None], X[..., None], y)
    series, y = read(name)
    X = pad_series([one.T for one in series])
    if name not in RAGGED:
        return Data(X, X, y)
    equal, _ = read(name, "_eq")
    return Data(X, np.stack(equal).transpose(0, 2, 1), y)


def rocket_features(data: Data) -> np.ndarray | None:
    """MiniRocket's features; None without aeon."""
    try:
        kind = import_module("aeon.transformations.collection.convolution_based").MiniRocket
    except ImportError:
        return None
    X = np.ascontiguousarray(data.padded.transpose(0, 2, 1), dtype=np.float32)
    return np.asarray(kind(random_state=0).fit_transform(X))


def scores_of(data: Data) -> dict[str, np.ndarray]:
    """Accuracies (n_shots, n_episodes), in per cent, of each method."""
    shipped = RidgeHeadClassifier("series-conv1d-ridge")
    rivals = {'RidgeHeadClassifier("series-conv1d-ridge")': (shipped, data.X)}
    if (features := rocket_features(data)) is not None:
        ridge = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 10)))
        rivals["MiniRocket, ridge"] = (ridge, features)
    n_way = min(5, len(np.unique(data.y)))
    return {
        told: np.array(
            [
                few_shot_score(
                    estimator, rows, data.y, n_way=n_way, n_shot=k, n_query=5,
                    n_episodes=N_EPISODES, random_state=0,
                ).scores
                for k in SHOTS
            ]
        ) * 100
        for told, (estimator, rows) in rivals.items()
    }  # fmt: skip


def told(scores: Sequence[np.ndarray]) -> str:
    """The mean over data sets (n_episodes,) each, and the interval that episodes leave."""
    mean = np.mean([s.mean() for s in scores])
    error = np.sqrt(sum(s.var(ddof=1) / len(s) for s in scores)) / len(scores)
    return f"{mean:.1f} ± {1.96 * error:.1f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Score everyone on each data set, and print a table with the mean of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}; or made")
    names = parser.parse_args(argv).data
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="sklearn")
    found = [f"torch {torch.__version__}", f"scikit-learn {sklearn.__version__}"]
    found += [f"aeon {d.version}" for d in metadata.distributions() if d.name == "aeon"]
    print(f"{time.strftime('%Y-%m-%d')}, {', '.join(found)}, {N_EPISODES} episodes, 95% intervals")
    every = {name: scores_of(data_of(name)) for name in names}
    methods = list(every[names[0]])
    print(f"\n| | {' | '.join(f'{k}-shot {m}' for k in SHOTS for m in methods)} |")
    print("|---" * (1 + len(SHOTS) * len(methods)) + "|")
    rows = {name: [every[name]] for name in names} | {"mean": list(every.values())}
    for name, several in rows.items():
        cells = [told([s[m][i] for s in several]) for i in range(len(SHOTS)) for m in methods]
        print(f"| {name} | {' | '.join(cells)} |")
    first, last = methods[0], methods[-1]
    print(f"\n{first} minus {last}, on the same episodes:")
    for name, several in rows.items():
        cells = [told([s[first][i] - s[last][i] for s in several]) for i in range(len(SHOTS))]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
