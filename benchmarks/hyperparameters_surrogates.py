"""What guesses the accuracy of a setting on a new data set: for hyperparameters.py.

Each method learns from past data sets, all of them measured at all settings, and gives a surrogate:
from the settings of a new data set that were tried, mean and standard deviation at all settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.preprocessing import PolynomialFeatures

from fewshot_sklearn import (
    DeepKernelRegressor,
    InContextRegressor,
    MetaTrainer,
    NeuralProcessRegressor,
    RidgeHeadRegressor,
)
from fewshot_sklearn.model_selection import (
    PastRows,
    PooledMixedRegressor,
    PooledStatisticsRegressor,
)

EPOCHS = 40
#: Labelled settings of a training episode, and others.
N_SHOT, N_QUERY = (0, 16), 32
#: Latent factors of the Gaussian that is fitted to past tables.
N_FACTORS = 12
#: Noise variance of that Gaussian, at least, so that it can be solved for.
LEAST_NOISE = 1e-4
#: Examples that boosting learns from.
N_STATISTICS = 20_000

Answer = tuple[np.ndarray, np.ndarray | None]


class Past(NamedTuple):
    """Past data sets."""

    grid: np.ndarray
    #: (data sets, settings)
    accuracy: np.ndarray
    #: Rows, columns, classes and largest class's share: (data sets, 4).
    known: np.ndarray


class Known(NamedTuple):
    """What is known of a data set before any trial."""

    #: Rows, columns, classes and largest class's share.
    known: np.ndarray
    seed: int


Surrogate = Callable[[Known, np.ndarray, np.ndarray], Answer]


class Method(NamedTuple):
    learn: Callable[[Past], Surrogate | None]
    #: Whether its means are accuracies.
    predicts: bool = True


# --------------------------------------------------------------------------- what is told
def as_rows(grid: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A setting as it is."""
    return grid


def by_width(grid: np.ndarray, known: np.ndarray) -> np.ndarray:
    """gamma in units of one by the number of columns, as scikit-learn's "auto" has it."""
    return grid + np.array([0.0, np.log10(known[1])])


def as_it_is(known: np.ndarray) -> tuple[float, float]:
    return 0.0, 1.0


def above_chance(known: np.ndarray) -> tuple[float, float]:
    """From what always guessing the largest class scores, to one."""
    return known[3], 1 - known[3]


class Form(NamedTuple):
    """How settings and accuracies are told to a surrogate."""

    rows: Callable[[np.ndarray, np.ndarray], np.ndarray] = by_width
    #: Offset and unit of accuracies.
    scale: Callable[[np.ndarray], tuple[float, float]] = above_chance

    def past_rows(self, past: Past) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """X, y and groups."""
        X = np.vstack([self.rows(past.grid, known) for known in past.known])
        groups = np.repeat(np.arange(len(past.known)), len(past.grid))
        return X, self.targets(past).ravel(), groups

    def targets(self, past: Past) -> np.ndarray:
        offset, unit = np.array([self.scale(known) for known in past.known]).T[:, :, None]
        return (past.accuracy - offset) / unit


#: In which sets are most alike.
FAIR = Form()


def told(
    form: Form, grid: np.ndarray, answer: Callable[[np.ndarray, np.ndarray, np.ndarray], Answer]
) -> Surrogate:
    """A surrogate from `answer(X, y, asked)`."""

    def surrogate(known: Known, X: np.ndarray, y: np.ndarray) -> Answer:
        offset, unit = form.scale(known.known)
        rows, asked = form.rows(X, known.known), form.rows(grid, known.known)
        mean, std = answer(rows, (y - offset) / unit, asked)
        return offset + unit * mean, None if std is None else unit * std

    return surrogate


def pooled_mean(X: np.ndarray, y: np.ndarray) -> Any:
    """What past data sets have on average at a setting."""
    return HistGradientBoostingRegressor(max_leaf_nodes=15, random_state=0).fit(X, y)


# --------------------------------------------------------------------------- ours
def meta_learned(
    estimator: Any, form: Form = FAIR, less_mean: bool = False, **options: Any
) -> Method:
    """A regressor of this package, meta-trained on the past, or on what its mean leaves."""

    def learn(past: Past) -> Surrogate:
        settings = {
            "n_shot": N_SHOT, "n_query": N_QUERY, "max_epochs": EPOCHS, "lr": 1e-2,
            "random_state": 0, "verbose": 0, "device": "cpu",
        } | options  # fmt: skip
        X, y, groups = form.past_rows(past)
        common = pooled_mean(X, y).predict if less_mean else lambda X: np.zeros(len(X))
        trainer = MetaTrainer(clone(estimator), **settings)
        learned = trainer.fit(X, y - common(X), groups=groups).estimator_

        def answer(X: np.ndarray, y: np.ndarray, asked: np.ndarray) -> Answer:
            fitted = learned.fit(X, y - common(X)) if len(X) else learned.fit_prior()
            mean, std = fitted.predict(asked, return_std=True)
            return mean + common(asked), std

        return told(form, past.grid, answer)

    return Method(learn)


# --------------------------------------------------------------------------- rivals
def pooled(make: Callable[[PastRows], Any], form: Form, degree: int = 1) -> Method:
    """One model of all past rows; it takes no empty task, where the past's mean stands."""
    powers = PolynomialFeatures(degree, include_bias=False)

    def learn(past: Past) -> Surrogate:
        X, y, groups = form.past_rows(past)
        model = make(PastRows(powers.fit_transform(X), y, groups))
        common = form.targets(past).mean(0)

        def answer(X: np.ndarray, y: np.ndarray, asked: np.ndarray) -> Answer:
            if not len(X):
                return common, None
            fitted = model.fit(powers.transform(X), y)
            return fitted.predict(powers.transform(asked)), None

        return told(form, past.grid, answer)

    return Method(learn)


def gaussian_of_tables(form: Form) -> Method:
    """A Gaussian of as many dimensions as settings, fitted to past tables by factor analysis.

    It knows settings by their number: it cannot be asked of any that the past was not.
    """

    def learn(past: Past) -> Surrogate:
        Y = form.targets(past)
        factors = FactorAnalysis(min(N_FACTORS, min(Y.shape) - 1), random_state=0).fit(Y)
        mean, covariance = (
            factors.mean_,
            factors.get_covariance() + LEAST_NOISE * np.eye(Y.shape[1]),
        )
        number = {tuple(setting): i for i, setting in enumerate(past.grid)}

        def surrogate(known: Known, X: np.ndarray, y: np.ndarray) -> Answer:
            offset, unit = form.scale(known.known)
            at = [number[tuple(setting)] for setting in X]
            gain = np.linalg.solve(covariance[np.ix_(at, at)], covariance[at]).T
            told = mean + gain @ ((y - offset) / unit - mean[at])
            left = covariance.diagonal() - (gain * covariance[:, at]).sum(1)
            return offset + unit * told, unit * np.sqrt(np.maximum(left, 0))

        return surrogate

    return Method(learn)


def cold_process(warm: bool) -> Method:
    """scikit-learn's Gaussian process, its kernel tuned on the trials.

    The first trial is at random, or where the past is best on average.
    """
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern([2.0, 2.0], (0.3, 30.0), nu=2.5)
    process = GaussianProcessRegressor(kernel + WhiteKernel(1e-3, (1e-6, 1.0)), normalize_y=True)

    def learn(past: Past) -> Surrogate:
        def surrogate(known: Known, X: np.ndarray, y: np.ndarray) -> Answer:
            if len(X):
                return process.fit(X, y).predict(past.grid, return_std=True)
            if warm:
                return past.accuracy.mean(0), None
            return np.random.default_rng(known.seed).random(len(past.grid)), None

        return surrogate

    return Method(learn, predicts=warm)


def in_order(past: Past, order: np.ndarray) -> Surrogate:
    """The same settings in the same order for every data set."""
    value = np.empty(len(order))
    value[order] = -np.arange(len(order), dtype=float)
    return lambda known, X, y: (value, None)


def by_mean_rank(past: Past) -> Surrogate:
    return in_order(past, rankdata(-past.accuracy, axis=1).mean(0).argsort(kind="stable"))


def portfolio(past: Past) -> Surrogate:
    """Each next setting is that which lowers the mean regret of the past most."""
    best, order = np.full((len(past.accuracy), 1), -np.inf), []
    for _ in past.grid:
        gained = np.maximum(best, past.accuracy).mean(0)
        gained[order] = -np.inf
        order.append(int(gained.argmax()))
        best = np.maximum(best, past.accuracy[:, order[-1:]])
    return in_order(past, np.array(order))


WAVES = RidgeHeadRegressor(encoder="fourier", encoder__width=64)
TANH = {"encoder": "mlp", "encoder__hidden": (40, 40), "encoder__activation": "tanh"}
SMALL = {"encoder": "mlp", "encoder__hidden": (64,), "n_hidden": 64}
MATERN = DeepKernelRegressor(**TANH, kernel="matern52")
METHODS: dict[str, Method] = {
    "ridge head, waves": meta_learned(WAVES),
    "ridge head, waves, gamma as it is": meta_learned(WAVES, Form(as_rows)),
    "ridge head, waves, all as it is": meta_learned(WAVES, Form(as_rows, as_it_is)),
    "ridge head, tanh": meta_learned(RidgeHeadRegressor(**TANH)),
    "deep kernel": meta_learned(MATERN),
    "deep kernel, less the past's mean": meta_learned(MATERN, less_mean=True),
    "neural process": meta_learned(NeuralProcessRegressor(**SMALL, attentive=False), lr=1e-3),
    "in context": meta_learned(InContextRegressor(**SMALL, n_layers=2), lr=1e-3, max_epochs=20),
    "Gaussian of past tables": gaussian_of_tables(FAIR),
    "mixed model, quartic": pooled(lambda past: PooledMixedRegressor(past=past), FAIR, 4),
    "pooled boosting": pooled(
        lambda past: PooledStatisticsRegressor(past=past, max_rows=N_STATISTICS), FAIR
    ),
    "portfolio": Method(portfolio, predicts=False),
    "mean rank": Method(by_mean_rank, predicts=False),
    "cold GP, first trial of the past": cold_process(warm=True),
    "cold GP": cold_process(warm=False),
    "random": Method(lambda past: None, predicts=False),
}
