"""Train the in-context classifier of tables without a history, and measure it.

python training/tabular_in_context.py --checkpoint tables.ckpt    # resumes if interrupted

It learns from artificial tables alone (`task_priors`); the real tables here are only measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax
from shipping import train_and_ship
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from skorch.callbacks import GradientNormClipping, LRScheduler
from task_priors import TaskPrior

from fewshot_sklearn import InContextClassifier, MetaInit, MetaTrainer
from fewshot_sklearn.algorithms import InContextTables
from fewshot_sklearn.model_selection import EpisodeAnswers
from fewshot_sklearn.tasks import EpisodeRows

NAME = "tabular-in-context"
#: Labelled rows in all.
N_ROWS = (5, 10, 20, 50)
N_SPLITS, N_QUERY = 600, 50
#: A probability less than this counts as this in a log loss, so that nobody's is infinite.
LEAST = 1e-6
#: Artificial tables, tasks an epoch, epochs, tasks a step and the highest learning rate.
N_TABLES, N_EPISODES, EPOCHS, BATCH, LR = 4_000, 1_000, 14, 32, 4e-3
TABLES: dict[str, Callable[..., Any]] = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}


class TableClassifier(InContextClassifier):
    """`InContextClassifier` before there is a meta-init for tables: what is trained here."""

    _learner_class = InContextTables
    _defaults = {"n_layers": 2, "n_hidden": 32, "n_heads": 4}


def train(epochs: int = EPOCHS, checkpoint: Path | None = None) -> MetaInit:
    """Meta-train on artificial tables.

    Parameters
    ----------
    epochs : int, default=EPOCHS
        Epochs of `N_EPISODES` tasks.
    checkpoint : Path or None, default=None
        Where to keep the state after each epoch, to go on from.

    Returns
    -------
    MetaInit
        What was learned, with single precision.
    """
    prior = TaskPrior(N_TABLES, n_query=24)
    return on_artificial_tables(TableClassifier(), prior, N_EPISODES, epochs, checkpoint)


def on_artificial_tables(
    estimator: Any,
    prior: TaskPrior,
    n_episodes: int,
    epochs: int,
    checkpoint: Path | None,
    **options: Any,
) -> MetaInit:
    """Meta-train an estimator on artificial tables, in one cycle of the learning rate.

    Parameters
    ----------
    estimator : estimator
        One for tables of any width.
    prior : TaskPrior
        Draws tasks.
    n_episodes, epochs : int
        Tasks an epoch, and epochs.
    checkpoint : Path or None
        Where to keep the state after each epoch, to go on from.
    **options : dict
        Others of `MetaTrainer`.

    Returns
    -------
    MetaInit
        What was learned, with single precision.
    """
    schedule = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=LR,
        total_steps=epochs * -(-n_episodes // BATCH),
        pct_start=0.1,
        step_every="batch",
    )
    trainer = MetaTrainer(
        estimator,
        n_episodes=n_episodes,
        batch_size=BATCH,
        lr=LR,
        max_epochs=epochs,
        validation_fraction=0,
        random_state=0,
        device="cpu",
        checkpoint=checkpoint,
        callbacks=[GradientNormClipping(1.0), schedule],
        **options,
    )
    return trainer.fit(prior).meta_init_


# ------------------------------------------------------------------ measured
def labelled_splits(
    y: np.ndarray, n_rows: int, n_splits: int = N_SPLITS, n_query: int = N_QUERY, seed: int = 0
) -> EpisodeRows:
    """Random choices of labelled rows: one of each class, and the others as they come.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Codes of the classes.
    n_rows : int
        Labelled rows, at least one for each class.
    n_splits, n_query, seed : int
        How many choices, how many rows to be told in each, and what they depend on.

    Returns
    -------
    EpisodeRows
        The splits; of these, the first ones do not depend on how many there are.
    """
    support, query = [], []
    for i in range(n_splits):
        order = np.random.default_rng([seed, n_rows, i]).permutation(len(y))
        first = np.zeros(len(y), dtype=bool)
        first[np.unique(y[order], return_index=True)[1]] = True
        order = np.concatenate([order[first], order[~first]])
        support.append(order[:n_rows])
        query.append(np.resize(order[n_rows:][::-1], min(n_query, len(y) - n_rows)))
    rows = np.array(support), np.array(query)
    return EpisodeRows(*rows, *(y[part] for part in rows))


def score_splits(
    estimator: Any, X: np.ndarray, y: np.ndarray, splits: EpisodeRows
) -> dict[str, np.ndarray]:
    """Accuracy and log loss of each split.

    Parameters
    ----------
    estimator : classifier
        Any of scikit-learn's.
    X, y : ndarray of shape (n, n_features), (n,)
        Rows and codes of their classes.
    splits : EpisodeRows
        What `labelled_splits` returned.

    Returns
    -------
    dict of str to ndarray of shape (n_splits,)
        ``accuracy``, in per cent, and ``log loss``.
    """
    told = EpisodeAnswers(estimator, X, y).about_queries(splits)
    n = len(splits.support)
    right = (told.outputs.argmax(1) == told.truth).reshape(n, -1).mean(1)
    log_proba = log_softmax(told.outputs, 1)[np.arange(len(told.truth)), told.truth]
    losses = -np.maximum(log_proba, np.log(LEAST)).reshape(n, -1).mean(1)
    return {"accuracy": 100 * right, "log loss": losses}


def figure(task: str, score: str, values: np.ndarray) -> dict[str, Any]:
    """A figure of a card: the mean over splits, and its 95 % interval."""
    ci95 = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    mean, ci95 = (float(f"{value:.4g}") for value in (values.mean(), ci95))
    return {"task": task, "score": score, "mean": mean, "ci95": ci95, "episodes": len(values)}


def measure_tabular(meta_init: MetaInit) -> Iterator[dict[str, Any]]:
    """Accuracy and log loss on scikit-learn's small tables, none of which was trained on.

    Parameters
    ----------
    meta_init : MetaInit
        One for tables of any width.

    Yields
    ------
    dict
        ``task``, ``score``, ``mean``, ``ci95`` and ``episodes`` of each figure.
    """
    for name, load in TABLES.items():
        X, y = load(return_X_y=True)
        for n_rows in N_ROWS:
            if n_rows < len(np.unique(y)):
                continue
            splits = labelled_splits(y, n_rows, N_SPLITS)
            scores = score_splits(InContextClassifier(meta_init), X, y, splits)
            for score, values in scores.items():
                yield figure(f"{name}, {n_rows} rows", score, values)


CARD = {
    "data": f"{N_TABLES:,} artificial tables drawn from training/task_priors.py; no real table",
    "licence": "BSD-3-Clause, as the package",
    "training command": "python training/tabular_in_context.py",
    "meant for": "flat rows of numbers with up to some hundred labelled rows, any number of "
    "features and of classes, no past tasks",
    "limits": "trained on 3 to 60 labelled rows, 2 to 20 classes and 1 to 64 features, and "
    "extrapolates beyond; the memory and time of fit grow with the square of the rows times the "
    "classes; it saw no missing values in training, which the estimator fills in and marks",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, and write the file that ships."""
    train_and_ship(argv, __doc__, NAME, EPOCHS, train, measure_tabular, CARD)


if __name__ == "__main__":
    main()
