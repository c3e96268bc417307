"""The kinds of tasks in the tables of docs/methods.md: what is past, new, and scored."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from methods_rows import Row, classifiers, regressors

import fewshot_sklearn as fs
from fewshot_sklearn.datasets import (
    embed_sentences,
    load_banking77,
    load_chem97,
    load_clinc150,
    load_insteval,
    load_leaves,
    load_omniglot,
    make_sinusoid_tasks,
)
from fewshot_sklearn.tasks import RandomAffine, add_rotations

#: New tasks that a figure of classes, and one of targets, is the mean over.
N_EPISODES = {"classes": 600, "targets": 1000}
#: Sentences of an intent, at most.
N_SENTENCES = 40
#: Labels of a new school or lecturer, and rows of it that are asked about, at most.
N_LABELS, N_ASKED = 10, 20
CONV4 = {"encoder": "conv4", "encoder__width": 32}
MLP = {"encoder": "mlp", "encoder__hidden": (40, 40)}
WIDE_MLP = {"encoder": "mlp", "encoder__hidden": (128, 64)}


class Tasks(NamedTuple):
    """Past tasks, and new ones.

    Parameters
    ----------
    past : tuple, or a generator of tasks
        What `MetaTrainer.fit` takes: rows and labels, and tasks.
    new : tuple of ndarray
        The same of new tasks.
    """

    past: Any
    new: tuple[np.ndarray, ...]


class Kind(NamedTuple):
    """One kind of tasks.

    Parameters
    ----------
    read : callable
        Makes `Tasks` of a folder of data and one to keep what takes long.
    rows : dict of str to Row
        The methods.
    seconds : float
        CPU-seconds of meta-training.
    episodes : dict
        Parameters of the trainer, the same for all methods.
    settings : dict
        By heading: what is scored, as `few_shot_score` is told.
    """

    read: Callable[[Path, Path], Tasks]
    rows: dict[str, Row]
    seconds: float
    episodes: dict[str, Any]
    settings: dict[str, dict[str, Any]]


def letters(data: Path, kept: Path) -> Tasks:
    """Past letters with their turned copies, and new ones: those that the example keeps back."""
    images, characters, alphabets = load_omniglot(return_X_y_groups=True)
    names = np.unique(alphabets.astype(str))
    new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
    past = add_rotations(images[~new], characters[~new])[:2]
    return Tasks(past, (images[new], characters[new]))


def leaves(data: Path, kept: Path) -> Tasks:
    """Sixty past species, and 39 new ones, ten leaves of each."""
    found = load_leaves(data / "leaves99" / "train.csv")
    species = np.unique(found.target)
    n_past = round(len(species) * 60 / 99)
    past = np.isin(found.target, np.random.default_rng(0).permutation(species)[:n_past])
    X, y = found.data, found.target
    return Tasks((X[past], y[past]), (X[~past], y[~past]))


def intents(data: Path, kept: Path) -> Tasks:
    """Past intents of one corpus, and new ones of another, as embeddings of their sentences."""
    both = []
    for name, load in (("clinc150", load_clinc150), ("banking77", load_banking77)):
        corpus = load(data / name)
        order = np.random.default_rng(0).permutation(np.flatnonzero(corpus.split == "train"))
        y = corpus.target[order].astype(str)
        some = np.concatenate([order[y == intent][:N_SENTENCES] for intent in np.unique(y)])
        X = embed_sentences(corpus.sentences[some], cache=kept / f"{name}.npz")
        both.append((X, corpus.target[some].astype(str)))
    return Tasks(*both)


def waves(data: Path, kept: Path) -> Tasks:
    """Noise-free sine waves; new ones are drawn by the number of rows that is told."""
    return Tasks((make_sinusoid_tasks(n_shot=(5, 20), n_query=10),), ())


def grouped(load: Callable[[], Any], data: Path, kept: Path) -> Tasks:
    """Two thirds of the tasks of a table as past ones, the others as new ones."""
    found = load()
    X, y = np.asarray(found.data, float), np.asarray(found.target, float)
    units, sizes = np.unique(found.groups, return_counts=True)
    units = np.random.default_rng(0).permutation(units[sizes >= N_LABELS + 2])
    past, new = units[: len(units) * 2 // 3], units[len(units) * 2 // 3 :]
    both = [np.isin(found.groups, some) for some in (past, new)]
    unit = y[both[0]].std()  # errors are shares of the variance of the past targets
    return Tasks(*((X[rows], y[rows] / unit, found.groups[rows]) for rows in both))


TWENTY = {"n_way": 20, "n_shot": 1, "n_query": 3, "n_episodes": 16, "batch_size": 2, "lr": 2e-3}
SCHOOLS = {"n_shot": (5, N_LABELS), "n_query": 10, "n_episodes": 256, "batch_size": 16, "lr": 3e-3}
OF_TEN = {"n_way": None, "n_shot": N_LABELS, "n_query": N_ASKED}
#: By name, in the order in which they are trained.
KINDS = {
    "letters": Kind(
        letters, classifiers(CONV4, True), 120, TWENTY | {"augment": RandomAffine()},
        {
            "5-way 1-shot": {"n_way": 5, "n_shot": 1},
            "5-way 5-shot": {"n_way": 5, "n_shot": 5},
            "20-way 1-shot": {"n_way": 20, "n_shot": 1},
        },
    ),
    "waves": Kind(
        waves, regressors(MLP, True), 60, {"n_episodes": 1600, "batch_size": 16, "lr": 3e-3},
        {f"K = {k}": {"n_shot": k} for k in (5, 10, 20)},
    ),
    "leaves": Kind(
        leaves, classifiers(WIDE_MLP, False), 30, TWENTY,
        {"leaves, 20-way 1-shot": {"n_way": 20, "n_shot": 1}},
    ),
    "intents": Kind(
        intents, classifiers({"encoder": "residual"}, False), 30, TWENTY | {"lr": 2e-4},
        {"intents, 20-way 1-shot": {"n_way": 20, "n_shot": 1}},
    ),
    "Chem97": Kind(
        partial(grouped, load_chem97), regressors(MLP, False), 30, SCHOOLS, {"Chem97": OF_TEN},
    ),
    "InstEval": Kind(
        partial(grouped, load_insteval), regressors(MLP, False), 30, SCHOOLS,
        {"InstEval": OF_TEN},
    ),
}  # fmt: skip
#: Those of each table; the columns of the first come first.
OF_CLASSES, OF_TARGETS = ("letters", "leaves", "intents"), ("waves", "Chem97", "InstEval")


def score(name: str, estimator: Any, tasks: Tasks) -> dict[str, tuple[float, float, float]]:
    """Score an estimator on new tasks.

    Parameters
    ----------
    name : str
        One of KINDS.
    estimator : estimator
        What was trained.
    tasks : Tasks
        The new ones.

    Returns
    -------
    dict of str to (float, float, float)
        By heading: accuracy or mean squared error, its 95 % interval, and CPU-seconds a task.
    """
    found, classes = {}, name in OF_CLASSES
    n = N_EPISODES["classes" if classes else "targets"]
    for heading, setting in KINDS[name].settings.items():
        told: dict[str, Any] = {"n_episodes": n, "random_state": 0, **setting}
        rows = tasks.new
        if classes:
            told |= {"n_query": 5}
        else:
            told |= {"scoring": "neg_mean_squared_error"}
        if name == "waves":
            drawn = make_sinusoid_tasks(n, **setting, n_query=50, random_state=2024)
            rows = (drawn.data, drawn.target, drawn.groups)
            told |= {"n_way": None, "n_query": None, "random_state": None}
        start = time.process_time()
        scores = fs.few_shot_score(estimator, *rows, **told)
        spent = (time.process_time() - start) / n
        found[heading] = (scores.mean * (1 if classes else -1), scores.ci95, spent)
    return found
