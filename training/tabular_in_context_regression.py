"""Train the in-context regressor of tables without a history, and measure it.

python training/tabular_in_context_regression.py --checkpoint tables.ckpt    # goes on from there

It learns from artificial tables alone (`target_priors`); the real table here is only measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shipping import train_and_ship
from sklearn.datasets import load_diabetes
from tabular_in_context import figure, on_artificial_tables
from target_priors import TargetPrior
from torch import Tensor

from fewshot_sklearn import InContextRegressor, MetaInit
from fewshot_sklearn.algorithms import InContextTargets
from fewshot_sklearn.learners import Gaussian

NAME = "tabular-in-context-regression"
#: Labelled rows.
N_ROWS = (5, 10, 20, 50, 100)
N_SPLITS, N_QUERY = 600, 50
#: Standard deviations that 95 % of a Gaussian lie within.
Z95 = 1.96
#: Artificial tables, tasks an epoch and epochs.
N_TABLES, N_EPISODES, EPOCHS = 8_000, 1_000, 40
#: Errors of more standard deviations than this count by their logarithm in training.
FAR = 5.0
#: What squared errors count, where likelihoods count one.
SQUARES = 1.0


class TableRegressor(InContextRegressor):
    """`InContextRegressor` before there is a meta-init for tables: what is trained here."""

    _learner_class = InContextTargets
    _defaults = {"n_layers": 2, "n_hidden": 32, "n_heads": 4}

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return self._hyperparameters(trained)


def bounded_loss(outputs: Gaussian, y_query: Tensor) -> Tensor:
    """Negative log likelihood of Gaussians, and squared errors, neither ruled by far outliers.

    The likelihood alone looks to tables without noise, where small errors cost most; squared
    errors look to those with much of it.

    Parameters
    ----------
    outputs : Gaussian
        Predictions (T, n_query, 1).
    y_query : Tensor of shape (T, n_query, 1)
        Targets, of deviation one over a table.

    Returns
    -------
    Tensor of shape ()
        Their mean.
    """
    square = (y_query - outputs.mean).square()
    likely = 0.5 * (_bent(square / outputs.variance) + outputs.variance.log())
    return (likely + SQUARES * _bent(square)).mean()


def _bent(square: Tensor) -> Tensor:
    """Squares, those beyond that of FAR by their logarithm."""
    far = FAR**2 * (1 + (square.clamp_min(FAR**2) / FAR**2).log())
    return torch.where(square > FAR**2, far, square)


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
    prior, options = TargetPrior(N_TABLES), {"criterion": bounded_loss}
    return on_artificial_tables(TableRegressor(), prior, N_EPISODES, epochs, checkpoint, **options)


# ------------------------------------------------------------------ measured
def row_splits(
    n: int, n_rows: int, n_splits: int, n_query: int = N_QUERY, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random choices of labelled rows, and of others to be told.

    Parameters
    ----------
    n : int
        Rows of the table.
    n_rows, n_splits, n_query, seed : int
        Labelled rows, how many choices, rows to be told, and what they depend on.

    Yields
    ------
    support, query : ndarray
        Row numbers; the first splits do not depend on how many there are.
    """
    for i in range(n_splits):
        order = np.random.default_rng([seed, n_rows, i]).permutation(n)
        yield order[:n_rows], order[n_rows:][:n_query]


def score_regression(
    regressor: Any,
    X: np.ndarray,
    y: np.ndarray,
    splits: Iterable[tuple[np.ndarray, np.ndarray]],
    tells: bool = True,
) -> dict[str, np.ndarray]:
    """Errors of each split and, of regressors that tell a distribution, how it fits.

    Parameters
    ----------
    regressor : regressor
        Any of scikit-learn's.
    X, y : ndarray of shape (n, n_features), (n,)
        Rows and targets.
    splits : iterable of (ndarray, ndarray)
        What `row_splits` yields.
    tells : bool, default=True
        Whether it predicts standard deviations.

    Returns
    -------
    dict of str to ndarray of shape (n_splits,)
        ``squared error`` over the variance of the table's targets, and ``seconds`` of fit and
        predict; of those that tell a distribution, too, ``log-likelihood`` of targets in units
        of their deviation, and ``coverage`` of 95 % intervals, in per cent.
    """
    unit, scores = y.std(), []
    for support, query in splits:
        start = time.perf_counter()
        regressor.fit(X[support], y[support])
        told = (
            regressor.predict(X[query], return_std=True) if tells else regressor.predict(X[query])
        )
        score = {"seconds": time.perf_counter() - start}
        mean, std = told if tells else (told, None)
        gaps = (y[query] - mean) / unit
        score["squared error"] = np.mean(gaps**2)
        if std is not None:
            z, spread = gaps * unit / std, std / unit
            score["log-likelihood"] = np.mean(-(z**2) / 2 - np.log(spread * (2 * np.pi) ** 0.5))
            score["coverage"] = 100 * np.mean(np.abs(z) <= Z95)
        scores.append(score)
    return {name: np.array([score[name] for score in scores]) for name in scores[0]}


def measure_tabular_regression(meta_init: MetaInit) -> Iterator[dict[str, Any]]:
    """Errors, likelihood and coverage on scikit-learn's diabetes, which was not trained on.

    Parameters
    ----------
    meta_init : MetaInit
        One for tables of any width.

    Yields
    ------
    dict
        ``task``, ``score``, ``mean``, ``ci95`` and ``episodes`` of each figure.
    """
    X, y = load_diabetes(return_X_y=True)
    for n_rows in N_ROWS:
        splits = row_splits(len(y), n_rows, N_SPLITS)
        scores = score_regression(InContextRegressor(meta_init), X, y, splits)
        for score in ("squared error", "log-likelihood", "coverage"):
            yield figure(f"diabetes, {n_rows} rows", score, scores[score])


CARD = {
    "data": f"{N_TABLES:,} artificial tables drawn from training/target_priors.py; no real table",
    "licence": "BSD-3-Clause, as the package",
    "training command": "python training/tabular_in_context_regression.py",
    "meant for": "flat rows with up to some hundred labelled rows, any number of features and of "
    "targets, no past tasks",
    "limits": "trained on 2 to 100 labelled rows and 1 to 64 features, and extrapolates beyond; "
    "predictions are Gaussian, whatever the noise; of a single labelled row nothing but its target "
    "is known; the memory and time of fit grow with the cube of the rows times the targets",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, and write the file that ships."""
    train_and_ship(argv, __doc__, NAME, EPOCHS, train, measure_tabular_regression, CARD)


if __name__ == "__main__":
    main()
