"""Data far from zero, in small and in large units, and too large; for `robustness.py`.

Where the data lies and in which units it comes changes no score by more than a little, in one fit
and in a meta-training. What is too large to be computed with is refused, or answered with numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from robustness_entrances import ENTRANCES, Entrance
from robustness_tasks import CLASSIFIERS, ESTIMATORS, REGRESSORS, answers, few, made, tasks
from robustness_trials import Fell, Trial
from sklearn.metrics import accuracy_score, r2_score

from fewshot_sklearn import MetaTrainer, few_shot_score

#: Those that compare directions: an angle is one at the origin (docs/decisions/far_from_zero.rst).
BY_ANGLE = {"BaselinePlusPlusClassifier", "MatchingNetClassifier", "NearestClassMeanClassifier"}
OFFSETS = (1e3, -1e6, 1e6, 1.7e9)
UNITS = (1e-9, 1e-6, 1e-3, 1e3, 1e6, 1e9)
#: What targets become: multiplied and added to.
TARGETS = ((1.0, 1e9), (1.0, -1e6), (1e-6, 0.0), (1e12, 0.0), (1e-12, 5e-12))
#: Of scores of one fit, and of a meta-training, which may go another way for a rounding.
LITTLE, LITTLE_TRAINED = 0.02, 0.05
#: Which may be too large, or too small, for single precision.
EXTREMES = (1e12, 1e15, 1e17, 1e20, 1e30, 1e39, 1e150, 1e300, 1e-30, 1e-45, 1e-300)
WEIGHTS = (1e-50, 1e-30, 1e-20, 1e20, 1e30, 1e39, 1e300)
#: What an error may say of values that are too large or too small.
CLEAR = (
    "too large", "too small", "standard deviations from what past tasks", "infinity",
    "sample_weight must", "no finite answer",
    "strategies failed", "array must not contain infs",  # of scipy, within scikit-learn's Ridge
)  # fmt: skip
#: Rows to learn from, and to ask of.
N_KNOWN, N_ASKED = 40, 60
MIXED = np.array([1e-9, 1.0, 1e9, 1e-3, 1e3])


@cache
def plain() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, targets and labels that a linear function of the rows gives."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_KNOWN + N_ASKED, 5))
    y = X @ rng.normal(size=5) + 0.1 * rng.normal(size=len(X))
    return X, y, np.where(y > 0, "above", "below")


# ------------------------------------------------------------------ one fit
def score(name: str, X: np.ndarray, y: np.ndarray) -> float:
    """Accuracy or R^2, from nothing but the known rows."""
    estimator = made(name).fit(X[:N_KNOWN], y[:N_KNOWN])
    answered = answers(estimator, X[N_KNOWN:])
    if not np.isfinite(answered).all():
        raise Fell("it does not answer in numbers")
    if name == "MetaEmbedding":
        return 0.0
    measure = r2_score if name in REGRESSORS else accuracy_score
    return float(measure(y[N_KNOWN:], estimator.predict(X[N_KNOWN:])))


@cache
def usual_score(name: str) -> float:
    """Of the data as it is."""
    X, y, labels = plain()
    return score(name, X, y if name in REGRESSORS else labels)


def moved(name: str, change: Callable[[np.ndarray], np.ndarray], of: str) -> str:
    """Fit to rows, or targets, that lie elsewhere."""
    X, y, labels = plain()
    y = y if name in REGRESSORS else labels
    got = score(name, change(X), y) if of == "X" else score(name, X, change(y))
    return near(got, usual_score(name), LITTLE)


def near(got: float, usual: float, least: float) -> str:
    """Compare scores."""
    if not abs(got - usual) <= least:
        raise Fell(f"scores {got:.3f}, and {usual:.3f} of the same data elsewhere")
    return "the same"


def of_one_fit() -> Iterator[Trial]:
    """Rows and targets of each estimator, without a past: units of rows have no scale then."""
    for name in ESTIMATORS:
        for offset in OFFSETS:
            change = partial(np.add, offset)
            run = partial(in_numbers if name in BY_ANGLE else moved, name, change, "X")
            yield Trial(f"{name}.fit(X + {offset:g})", run)
        for unit in UNITS:
            change = partial(np.multiply, unit)
            yield Trial(f"{name}.fit(X * {unit:g})", partial(in_numbers, name, change, "X"))
        if name in REGRESSORS:
            for unit, offset in TARGETS:
                change = partial(affine, unit=unit, offset=offset)
                yield Trial(
                    f"{name}.fit(y * {unit:g} + {offset:g})", partial(moved, name, change, "y")
                )


def affine(values: np.ndarray, unit: float, offset: float) -> np.ndarray:
    """Other units, from another zero."""
    return values * unit + offset


def in_numbers(name: str, change: Callable[[np.ndarray], np.ndarray], of: str) -> str:
    """Fit, and look only whether it answers in numbers, or refuses clearly."""
    X, y, labels = plain()
    y = y if name in REGRESSORS else labels
    return refused_or_answered(
        lambda: score(name, change(X), y) if of == "X" else score(name, X, change(y))
    )


def refused_or_answered(run: Callable[[], Any]) -> str:
    """Whether it is a clear error, or numbers."""
    try:
        answered = np.asarray(run(), dtype=np.float64)
    except (ValueError, TypeError) as error:
        if any(word in str(error) for word in CLEAR):
            return "refused"
        raise Fell(f"unclear: {type(error).__name__}: {error}") from None
    if not np.isfinite(answered).all():
        raise Fell(f"{(~np.isfinite(answered)).sum()} of {answered.size} answers are no numbers")
    return "answered"


# ------------------------------------------------------------------ meta-training
def trained_score(name: str, change_X: Any, change_y: Any = None) -> float:
    """Mean score on new tasks after a meta-training, all of it on changed data."""

    def data(seed: int) -> tuple[Any, Any, Any]:
        X, y, groups = (part.to_numpy() for part in tasks(name, seed))
        return change_X(X), change_y(y) if change_y else y, groups

    estimator = made(name, encoder="mlp", encoder__hidden=(8,))
    past = MetaTrainer(estimator, **few(name, n_episodes=16)).fit(*data(0)).estimator_
    X, y, groups = data(1)
    n_way, scoring = (None, "r2") if name in REGRESSORS else (2, "accuracy")
    found = few_shot_score(
        past, X, y if n_way is None else y + 100, groups + 100,
        n_way=n_way, n_shot=5, n_query=5, n_episodes=20, scoring=scoring,
    )  # fmt: skip
    return found.mean


@cache
def usual_trained(name: str) -> float:
    """Of the data as it is."""
    return trained_score(name, np.asarray)


def trained_elsewhere(name: str, change_X: Any, change_y: Any = None) -> str:
    """Compare a training on changed data with one on plain data."""
    return near(trained_score(name, change_X, change_y), usual_trained(name), LITTLE_TRAINED)


def of_trainings() -> Iterator[Trial]:
    """Meta-trainings of each estimator on data that lies elsewhere."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        **{f"X + {offset:g}": partial(np.add, offset) for offset in OFFSETS},
        **{f"X * {unit:g}": partial(np.multiply, unit) for unit in UNITS},
        "X in mixed units": partial(np.multiply, MIXED),
        "X in mixed units, far from zero": lambda X: (X + 1e6) * MIXED,
    }
    for name in CLASSIFIERS + REGRESSORS:
        for what, change in changes.items():
            yield Trial(
                f"MetaTrainer({name}).fit({what})", partial(trained_elsewhere, name, change)
            )
        if name in REGRESSORS:
            for unit, offset in TARGETS:
                change = partial(affine, unit=unit, offset=offset)
                yield Trial(
                    f"MetaTrainer({name}).fit(y * {unit:g} + {offset:g})",
                    partial(trained_elsewhere, name, np.asarray, change),
                )


# ------------------------------------------------------------------ too large, too small
def extreme(entrance: Entrance, argument: str, value: float, everywhere: bool) -> str:
    """Come in with one extreme value, or all in such units."""
    given = entrance.given()
    whole = given[argument].astype(float)
    if everywhere:
        given[argument] = whole * value
    else:
        cell = (2, 1) if whole.ndim == 2 else (2,)
        whole.iloc[cell if len(cell) == 2 else cell[0]] = value
        given[argument] = whole
    return refused_or_answered(lambda: entrance.call(**given))


def of_extremes() -> Iterator[Trial]:
    """Values and weights that are too large or too small, at each entrance."""
    for entrance in ENTRANCES:
        for argument in entrance.takes:
            is_number = argument == "X" or (argument == "y" and entrance.regression)
            values = EXTREMES if is_number else WEIGHTS if argument == "sample_weight" else ()
            for value in values:
                for everywhere in (False, True):
                    what = "all times" if everywhere else "one is"
                    yield Trial(
                        f"{entrance.what}({argument}: {what} {value:g})",
                        partial(extreme, entrance, argument, value, everywhere),
                    )


def scale_trials() -> list[Trial]:
    """All of them."""
    return [*of_one_fit(), *of_trainings(), *of_extremes()]
