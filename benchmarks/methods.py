"""Every method on the same tasks: one encoder, one training budget; the table of docs/methods.md.

    python benchmarks/methods.py                   # train and score all, two at a time
    python benchmarks/methods.py proto maml        # some
    python benchmarks/methods.py --table           # print the tables of what is already scored

Each method trains for the same CPU time on one thread, whatever it makes of it. Results
are kept in benchmarks/.methods (--results), so that a stopped run goes on where it stood.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from skorch.callbacks import Callback, GradientNormClipping

import fewshot_sklearn as fs
from fewshot_sklearn.datasets import load_omniglot, make_sinusoid_tasks
from fewshot_sklearn.tasks import RandomAffine, add_rotations

RESULTS = Path(__file__).with_name(".methods")
#: CPU-seconds of meta-training.
BUDGET = {"omniglot": 120, "sinusoids": 60}
#: New tasks that each method is scored on.
N_EPISODES = {"omniglot": 600, "sinusoids": 1000}
#: Past tasks of each number of shots that the choice among plain classifiers is made on.
N_CHOOSING = 50
SETTINGS = {"5-way 1-shot": (5, 1), "5-way 5-shot": (5, 5), "20-way 1-shot": (20, 1)}
SHOTS = (5, 10, 20)
CONV4 = {"encoder": "conv4", "encoder__width": 32}
MLP = {"encoder": "mlp", "encoder__hidden": (40, 40)}


class CPUBudget(Callback):
    """Ends training when its CPU time is spent; the step size falls to zero on the way there."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.start_, self.lr_ = time.process_time(), net.lr

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        spent = (time.process_time() - self.start_) / self.seconds
        if spent >= 1:
            raise KeyboardInterrupt  # as skorch's EarlyStopping ends a training
        for group in net.optimizer_.param_groups:
            group["lr"] = self.lr_ * (1 + math.cos(math.pi * spent)) / 2


def flat_strategies() -> list[tuple[str, Any]]:
    """Plain classifiers of pixels, to choose among."""
    return [
        ("nearest class mean", NearestCentroid()),
        ("nearest neighbour", make_pipeline(Normalizer(), KNeighborsClassifier(1))),
        ("logistic regression", LogisticRegression(C=0.1, max_iter=200)),
        ("random forest", RandomForestClassifier(50, random_state=0)),
    ]


#: By short name: the name in the table, the estimator, and what differs in the trainer's
#: parameters; None where nothing is meta-trained.
OMNIGLOT: dict[str, tuple[str, Any, dict[str, Any] | None]] = {
    "proto": ("ProtoNetClassifier", fs.ProtoNetClassifier(**CONV4), {}),
    "proto-places": (
        "ProtoNetClassifier, encoder__pools=3",
        fs.ProtoNetClassifier(**CONV4, encoder__pools=3),
        {},
    ),
    "cosine": (
        'ProtoNetClassifier, metric="cosine"',
        fs.ProtoNetClassifier(**CONV4, metric="cosine"),
        {},
    ),
    "gaussian": ("GaussianProtoNetClassifier", fs.GaussianProtoNetClassifier(**CONV4), {}),
    "matching": ("MatchingNetClassifier", fs.MatchingNetClassifier(**CONV4), {}),
    "full-context": (
        "MatchingNetClassifier, full_context=True",
        fs.MatchingNetClassifier(**CONV4, full_context=True),
        {},
    ),
    "relation": ("RelationNetClassifier", fs.RelationNetClassifier(**CONV4), {}),
    "simple-cnaps": ("SimpleCNAPSClassifier", fs.SimpleCNAPSClassifier(**CONV4), {}),
    "feat": ("FEATClassifier", fs.FEATClassifier(**CONV4), {}),
    "tadam": ("TADAMClassifier", fs.TADAMClassifier(**CONV4), {}),
    "dn4": ("DN4Classifier, encoder__pools=3", fs.DN4Classifier(**CONV4, encoder__pools=3), {}),
    "frn": ("FRNClassifier, encoder__pools=3", fs.FRNClassifier(**CONV4, encoder__pools=3), {}),
    "deep-emd": (
        "DeepEMDClassifier, encoder__pools=3",
        fs.DeepEMDClassifier(**CONV4, encoder__pools=3),
        {},
    ),
    "siamese": ("SiameseClassifier", fs.SiameseClassifier(**CONV4), {}),
    "simpleshot": ("NearestClassMeanClassifier", fs.NearestClassMeanClassifier(**CONV4), {}),
    "baseline++": (
        "BaselinePlusPlusClassifier",
        fs.BaselinePlusPlusClassifier(**CONV4),
        {},
    ),
    "ridge": ("RidgeHeadClassifier", fs.RidgeHeadClassifier(**CONV4), {}),
    "r2d2": ("R2D2Classifier", fs.R2D2Classifier(**CONV4), {}),
    "meta-opt-net": ("MetaOptNetClassifier", fs.MetaOptNetClassifier(**CONV4), {}),
    "kernel": ("DeepKernelClassifier", fs.DeepKernelClassifier(**CONV4), {}),
    "maml": ("MAMLClassifier", fs.MAMLClassifier(**CONV4, n_steps=1, inner_lr=2.0), {}),
    "fomaml": (
        "MAMLClassifier, first_order=True (FOMAML)",
        fs.MAMLClassifier(**CONV4, n_steps=1, inner_lr=2.0, first_order=True),
        {},
    ),
    "anil": (
        "MAMLClassifier, head_only=True (ANIL)",
        fs.MAMLClassifier(**CONV4, n_steps=1, inner_lr=2.0, head_only=True),
        {},
    ),
    "meta-sgd": ("MetaSGDClassifier", fs.MetaSGDClassifier(**CONV4, inner_lr=2.0), {}),
    "maml++": (
        "MAMLPlusPlusClassifier",
        fs.MAMLPlusPlusClassifier(**CONV4, n_steps=1, inner_lr=2.0),
        {},
    ),
    "boil": ("BOILClassifier", fs.BOILClassifier(**CONV4, n_steps=1, inner_lr=0.5), {}),
    "cavia": ("CAVIAClassifier", fs.CAVIAClassifier(**CONV4, inner_lr=1.0), {}),
    "meta-curvature": (
        "MetaCurvatureClassifier",
        fs.MetaCurvatureClassifier(**CONV4, n_steps=1, inner_lr=2.0),
        {},
    ),
    "imaml": (
        "IMAMLClassifier",
        fs.IMAMLClassifier(**CONV4, n_steps=5, inner_lr=0.5),
        {},
    ),
    "reptile": (
        "ReptileClassifier",
        fs.ReptileClassifier(**CONV4, inner_lr=1.0, train_steps=5, inner_batch=20, n_steps=5),
        {"n_shot": 10, "n_way": 5, "optimizer": torch.optim.SGD, "lr": 1.0},
    ),
    "protomaml": (
        "ProtoMAMLClassifier",
        fs.ProtoMAMLClassifier(**CONV4, n_steps=1, inner_lr=0.01),
        {},
    ),
    "meta-lstm": (
        "MetaLSTMClassifier",
        fs.MetaLSTMClassifier(**CONV4, n_steps=1, inner_lr=0.9),
        {},
    ),
    "leo": ("LEOClassifier", fs.LEOClassifier(**CONV4), {}),
    "mann": ("MANNClassifier", fs.MANNClassifier(**CONV4), {}),
    "snail": ("SNAILClassifier", fs.SNAILClassifier(**CONV4), {}),
    "in-context": ("InContextClassifier", fs.InContextClassifier(**CONV4), {}),
    "caml": ("CAMLClassifier", fs.CAMLClassifier(**CONV4), {}),
    "propagation": (
        "TransductivePropagationClassifier",
        fs.TransductivePropagationClassifier(**CONV4),
        {},
    ),
    "pt-map": ("TransductivePTMAPClassifier", fs.TransductivePTMAPClassifier(**CONV4), {}),
    "laplacian": (
        "TransductiveLaplacianShotClassifier",
        fs.TransductiveLaplacianShotClassifier(**CONV4),
        {},
    ),
    "tim": ("TransductiveTIMClassifier", fs.TransductiveTIMClassifier(**CONV4), {}),
    "evolution": (
        'ESMetaTrainer(ProtoNetClassifier, weighting="ranks"), small episodes',
        fs.ProtoNetClassifier(**CONV4),
        {"trainer": fs.ESMetaTrainer, "weighting": "ranks", "n_perturbations": 8, "lr": 2e-2}
        | {"n_way": 5, "batch_size": 1},
    ),
    "evolution-pixels": (
        "ESMetaTrainer(RidgeHeadClassifier) on pixels",
        fs.RidgeHeadClassifier(),
        {"trainer": fs.ESMetaTrainer, "lr": 2e-2},
    ),
    "strategies": ("StrategySelector of four classifiers of the pixels", None, {}),
    "pixel-mean": ("nearest class mean of the pixels", NearestCentroid(), None),
    "pixel-nn": ("nearest neighbour of the pixels", flat_strategies()[1][1], None),
    "pixel-lr": ("logistic regression of the pixels", flat_strategies()[2][1], None),
}
SINUSOIDS: dict[str, tuple[str, Any, dict[str, Any] | None]] = {
    "ridge": ("RidgeHeadRegressor", fs.RidgeHeadRegressor(**MLP), {}),
    "mixture": ("MixtureRidgeRegressor", fs.MixtureRidgeRegressor(**MLP), {}),
    "kernel": ("DeepKernelRegressor", fs.DeepKernelRegressor(**MLP), {"lr": 1e-2}),
    "neural-process": (
        "NeuralProcessRegressor, attentive=False",
        fs.NeuralProcessRegressor(**MLP, attentive=False),
        {},
    ),
    "attentive": ("NeuralProcessRegressor", fs.NeuralProcessRegressor(**MLP), {}),
    "in-context": ("InContextRegressor", fs.InContextRegressor(**MLP), {"lr": 1e-3}),
    "maml": ("MAMLRegressor", fs.MAMLRegressor(**MLP, n_steps=5, inner_lr=0.05), {}),
    "fomaml": (
        "MAMLRegressor, first_order=True (FOMAML)",
        fs.MAMLRegressor(**MLP, n_steps=5, inner_lr=0.05, first_order=True),
        {},
    ),
    "anil": (
        "MAMLRegressor, head_only=True (ANIL)",
        fs.MAMLRegressor(**MLP, n_steps=5, inner_lr=0.05, head_only=True),
        {},
    ),
    "meta-sgd": ("MetaSGDRegressor", fs.MetaSGDRegressor(**MLP, inner_lr=0.05), {}),
    "maml++": ("MAMLPlusPlusRegressor", fs.MAMLPlusPlusRegressor(**MLP, inner_lr=0.05), {}),
    "boil": ("BOILRegressor", fs.BOILRegressor(**MLP, inner_lr=0.05), {}),
    "cavia": ("CAVIARegressor", fs.CAVIARegressor(n_hidden=40, inner_lr=0.05), {}),
    "meta-curvature": (
        "MetaCurvatureRegressor",
        fs.MetaCurvatureRegressor(**MLP, inner_lr=0.05),
        {},
    ),
    "imaml": ("IMAMLRegressor", fs.IMAMLRegressor(**MLP, inner_lr=0.05, lam=1.0), {}),
    "reptile": (
        "ReptileRegressor",
        fs.ReptileRegressor(**MLP, inner_lr=0.02, train_steps=32, n_steps=32),
        {"optimizer": torch.optim.SGD, "lr": 0.5},
    ),
    "gp": (
        "Gaussian process of scikit-learn, RBF kernel",
        GaussianProcessRegressor(
            ConstantKernel(1.0) * RBF(1.0), alpha=1e-6, n_restarts_optimizer=2, random_state=0
        ),
        None,
    ),
    "plain-ridge": ("ridge of scikit-learn", Ridge(), None),
    "mean": ("mean of the support", DummyRegressor(), None),
}


def trainer_for(estimator: Any, task: str, **options: Any) -> fs.MetaTrainer:
    """A trainer that spends the budget; episodes are the same for all methods."""
    make = options.pop("trainer", fs.MetaTrainer)
    common: dict[str, Any] = {
        "max_epochs": 10**6,
        "validation_fraction": 0,
        "random_state": 0,
        "verbose": 0,
        "callbacks": [CPUBudget(BUDGET[task]), GradientNormClipping(10.0)],
    }
    if task == "omniglot":
        episodes = {"n_way": 20, "n_shot": 1, "n_query": 3, "augment": RandomAffine()}
        common |= episodes | {"n_episodes": 16, "batch_size": 2, "lr": 2e-3}
    else:
        common |= {"n_episodes": 1600, "batch_size": 16, "lr": 3e-3}
    return make(estimator, **(common | options))


def score_omniglot(estimator: Any, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Accuracy on letters of new alphabets."""
    found = {}
    for setting, (n_way, n_shot) in SETTINGS.items():
        start = time.process_time()
        s = fs.few_shot_score(
            estimator, X, y, n_way=n_way, n_shot=n_shot, n_query=5,
            n_episodes=N_EPISODES["omniglot"], random_state=0,
        )  # fmt: skip
        found[setting] = [s.mean, s.ci95, time.process_time() - start]
    return found


def score_sinusoids(estimator: Any) -> dict[str, Any]:
    """Squared error on new waves."""
    found, n = {}, N_EPISODES["sinusoids"]
    for k in SHOTS:
        tasks = make_sinusoid_tasks(n, n_shot=k, n_query=50, random_state=2024)
        start = time.process_time()
        s = fs.few_shot_score(
            estimator, tasks.data, tasks.target, tasks.groups, n_way=None, n_shot=k, n_query=None,
            n_episodes=n, scoring="neg_mean_squared_error",
        )  # fmt: skip
        found[f"K = {k}"] = [-s.mean, s.ci95, time.process_time() - start]
    return found


def letters() -> tuple[np.ndarray, ...]:
    """Past letters with their turned copies, and new ones: those that the example keeps back."""
    images, characters, alphabets = load_omniglot(return_X_y_groups=True)
    names = np.unique(alphabets.astype(str))
    new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
    X, y = add_rotations(images[~new], characters[~new])[:2]
    return X, y, images[new], characters[new]


def run(task: str, name: str, folder: Path) -> None:
    """Train one method, score it, and keep the result."""
    path = folder / f"{task}-{name}.json"
    if path.exists():
        return
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    table = OMNIGLOT if task == "omniglot" else SINUSOIDS
    label, estimator, options = table[name]
    result: dict[str, Any] = {"label": label, "date": time.strftime("%Y-%m-%d")}
    if task == "omniglot":
        X, y, X_new, y_new = letters()
    flat = options is None or estimator is None
    if estimator is None:
        selector = fs.StrategySelector(
            flat_strategies(), n_way=5, n_shots=(1, 5), n_query=5, n_episodes=N_CHOOSING,
            random_state=0,
        )  # fmt: skip
        start = time.process_time()
        selector.fit(X[::7].reshape(len(X[::7]), -1) / 255.0, y[::7])
        result["cost"], result["tasks"] = time.process_time() - start, 2 * selector.n_episodes
        estimator = selector.estimator_
    elif options is not None:
        trainer = trainer_for(estimator, task, **options)
        start = time.process_time()
        if task == "omniglot":
            trainer.fit(X, y)
        else:
            trainer.fit(make_sinusoid_tasks(n_shot=(5, 20), n_query=10))
        result["cost"] = time.process_time() - start
        history = trainer.history
        result["tasks"] = trainer.n_episodes * len(history)
        estimator = trainer.estimator_
    if task == "omniglot":
        X_new = X_new.reshape(len(X_new), -1) / 255.0 if flat else X_new
        result["scores"] = score_omniglot(estimator, X_new, y_new)
    else:
        result["scores"] = score_sinusoids(estimator)
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(result))
    print(json.dumps(result), flush=True)


def print_table(task: str, folder: Path) -> None:
    """A Markdown table, best first."""
    rows = [json.loads(p.read_text()) for p in folder.glob(f"{task}-*.json")]
    if not rows:
        return
    accuracy = task == "omniglot"
    columns = list(rows[0]["scores"])
    rows.sort(key=lambda r: r["scores"][columns[0]][0] * (-1 if accuracy else 1))
    print(f"\n| method | {' | '.join(columns)} | past tasks seen | scoring, ms a task |")
    print("|" + "---|" * (len(columns) + 3))
    for row in rows:
        cells = []
        for mean, ci, _ in row["scores"].values():
            cells.append(
                f"{100 * mean:.1f} ± {100 * ci:.1f}" if accuracy else f"{mean:.2g} ± {ci:.1g}"
            )
        seen = f"{row['tasks']:,}" if "tasks" in row else "none"
        spent = f"{1e3 * row['scores'][columns[0]][2] / N_EPISODES[task]:.1f}"
        print(f"| {row['label']} | {' | '.join(cells)} | {seen} | {spent} |")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder that keeps them")
    parser.add_argument(
        "--processes", type=int, default=min(2, os.cpu_count() or 1), help="0: all in this one"
    )
    given = parser.parse_args(argv)
    names = [("omniglot", n) for n in OMNIGLOT] + [("sinusoids", n) for n in SINUSOIDS]
    jobs = [(*one, given.results) for one in names if not given.names or one[1] in given.names]
    if not given.table and given.processes:
        with multiprocessing.get_context("spawn").Pool(given.processes, maxtasksperchild=1) as pool:
            pool.starmap(run, jobs, chunksize=1)
    elif not given.table:
        for job in jobs:
            run(*job)
    versions = (
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}"
    )
    print(f"{time.strftime('%Y-%m-%d')}, {versions}; {BUDGET} CPU-seconds of meta-training each")
    for task in BUDGET:
        print_table(task, given.results)


if __name__ == "__main__":
    main()
