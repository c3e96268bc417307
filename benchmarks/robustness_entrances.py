"""Where data comes into the package; for the section `rows` of `robustness.py`.

Each entrance is a function of what it takes by name, which returns numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from robustness_tasks import (
    CLASSIFIERS,
    ESTIMATORS,
    N_ROWS,
    REGRESSORS,
    answers,
    few,
    made,
    tasks,
    trained,
)
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from fewshot_sklearn import (
    EpisodeSplit,
    ESMetaTrainer,
    MetaTrainer,
    PastRows,
    PooledClassifier,
    PooledRegressor,
    StrategyClassifier,
    StrategyRegressor,
    StrategySelector,
    TaskKFold,
    TaskMemory,
    TaskShuffleSplit,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
    select_queries,
    uncertainty,
)

PROTO, RIDGE = "ProtoNetClassifier", "RidgeHeadRegressor"


class Entrance(NamedTuple):
    """Where data comes in."""

    what: str
    #: Arguments, of X, y, groups and sample_weight.
    takes: tuple[str, ...]
    call: Callable[..., Any]
    regression: bool = False
    #: Whether names and number of the columns are known before.
    columns: bool = False
    width: bool = False
    #: Arguments whose labels or ids were known before.
    known_names: tuple[str, ...] = ()
    #: Rows that come in: of a task, or None, of all tasks.
    n_rows: int | None = None

    def given(self) -> dict[str, Any]:
        """Arguments as they should be."""
        X, y, groups = tasks(RIDGE if self.regression else PROTO, seed=1)
        weights = pd.Series(np.linspace(1, 2, len(X)))
        every = {"X": X, "y": y, "groups": groups, "sample_weight": weights}
        return {name: every[name][: self.n_rows] for name in self.takes}


TWO = 2 * N_ROWS


def fitted(estimator: Any, name: str) -> Any:
    """Fitted to the first two classes, or rows of the first two tasks."""
    X, y, _ = tasks(name, seed=1)
    return estimator.fit(X[:TWO], y[:TWO])


def own(name: str, meta_trained: bool) -> Any:
    """An estimator, with a past or without."""
    return trained(name) if meta_trained else made(name)


def fit(name: str, meta_trained: bool, X: Any, **arguments: Any) -> Any:
    """Fit, and ask of the same rows."""
    return answers(own(name, meta_trained).fit(X, **arguments), X)


def ask(name: str, meta_trained: bool, X: Any) -> Any:
    """Ask of rows."""
    return answers(fitted(own(name, meta_trained), name), X)


def of_estimators() -> list[Entrance]:
    """Fit and predict of every estimator, with a past and without."""
    found = []
    for name in ESTIMATORS:
        reg = name in REGRESSORS
        with_y = ("X",) if name == "MetaEmbedding" else ("X", "y", "sample_weight")
        for past in (False, True):
            of = f"{'trained ' if past else ''}{name}"
            known = {"columns": past, "width": past}
            found += [
                Entrance(f"{of}.fit", with_y, partial(fit, name, past), reg, **known, n_rows=TWO),
                Entrance(
                    f"{of}.predict", ("X",), partial(ask, name, past), reg, True, True, n_rows=TWO
                ),
            ]
    return found


def score(name: str, X: Any, y: Any, groups: Any = None, **options: Any) -> Any:
    """`few_shot_score` of a meta-trained estimator."""
    n_way = None if name in REGRESSORS else 2
    few = {"n_way": n_way, "n_shot": 2, "n_query": 4, "n_episodes": 6} | options
    return few_shot_score(trained(name), X, y, groups, **few).scores


def weights_of(trainer: Any) -> np.ndarray:
    """All that was learned, in a row."""
    tensors = trainer.meta_init_.tensors
    return np.concatenate([np.ravel(tensors[key]) for key in sorted(tensors)])


def train(kind: Any, name: str, past: bool, **data: Any) -> Any:
    """A meta-training, from a meta-init or from the beginning."""
    start = trained(name) if past else made(name, encoder="mlp", encoder__hidden=(4,))
    options = few(name, n_episodes=2) | ({"n_perturbations": 1} if kind is ESMetaTrainer else {})
    return weights_of(kind(start, **options).fit(**data))


def go_on(name: str, method: str, **data: Any) -> Any:
    """`partial_fit` or `score` of a trainer that was fitted."""
    X, y, groups = tasks(name)
    start = made(name, encoder="mlp", encoder__hidden=(4,))
    trainer = MetaTrainer(start, **few(name, n_episodes=2, n_valid_episodes=2)).fit(X, y, groups)
    if method == "score":
        return trainer.score(**data)
    return weights_of(trainer.partial_fit(**data))


def compare(name: str, X: Any, y: Any, groups: Any = None, past: Any = None, n_way: int = 2) -> Any:
    """`compare_few_shot` of a meta-trained estimator and a neighbour."""
    reg = name in REGRESSORS
    rival = KNeighborsRegressor(1) if reg else KNeighborsClassifier(1)
    table = compare_few_shot(
        trained(name), X, y, groups, n_way=None if reg else n_way, n_shots=(1, 2), n_episodes=4,
        n_query=4, baselines={"neighbor": rival}, past=past, random_state=0,
    )  # fmt: skip
    return table["mean"]


def past_of_comparison(name: str, **past: Any) -> Any:
    """What comes in as `past`: of a classification it is used where its classes are all of y's."""
    X, y, groups = tasks(name, seed=2)
    rows = (past["X"], past["y"], past["groups"])
    new = groups + 100 if name in REGRESSORS else None
    return compare(name, X, y, new, past=rows, n_way=len(np.unique(y)))


def strategies(reg: bool) -> Any:
    """Two strategies that take anything numeric."""
    neighbors = KNeighborsRegressor if reg else KNeighborsClassifier
    return {"one": neighbors(1), "two": neighbors(2)}


def select(reg: bool, X: Any, y: Any, groups: Any = None) -> Any:
    """`StrategySelector.fit`."""
    selector = StrategySelector(
        strategies(reg), n_way=None if reg else 2, n_shots=(2,), n_query=4, n_episodes=3,
        random_state=0,
    )  # fmt: skip
    return selector.fit(X, y, groups).experience_.mean_scores


def choose(reg: bool, X: Any, y: Any) -> Any:
    """Fit of one that chooses, and its answers."""
    kind = StrategyRegressor if reg else StrategyClassifier
    return answers(kind(strategies(reg)).fit(X, y), X)


def choose_asked(reg: bool, X: Any) -> Any:
    """Answers of one that chooses."""
    kind = StrategyRegressor if reg else StrategyClassifier
    return answers(fitted(kind(strategies(reg)), RIDGE if reg else PROTO), X)


def learner(name: str) -> Any:
    """A short `TrustLearner`."""
    n_way = None if name in REGRESSORS else 2
    return TrustLearner(
        trained(name), n_way=n_way, n_shots=(2,), n_query=4, n_episodes=4, random_state=0
    )


def trust(name: str, **data: Any) -> Any:
    """`TrustLearner.fit`."""
    return learner(name).fit(**data).calibration_.scales


def trusted(name: str, X: Any, y: Any, **data: Any) -> Any:
    """Fit of a trusted estimator, and its answers."""
    return answers(learner(name).fit(*tasks(name)).estimator_.fit(X, y, **data), X)


def trusted_asked(name: str, X: Any) -> Any:
    """Answers of a trusted estimator."""
    return answers(fitted(learner(name).fit(*tasks(name)).estimator_, name), X)


def taskwise(name: str, meta_trained: bool) -> Any:
    """One model for each task, meta-trained or any other."""
    if name in REGRESSORS:
        return TaskwiseRegressor(trained(name) if meta_trained else Ridge())
    return TaskwiseClassifier(trained(name) if meta_trained else KNeighborsClassifier(1))


def taskwise_fit(name: str, past: bool, X: Any, groups: Any, **data: Any) -> Any:
    """Fit of all tasks, and answers for each."""
    fitted = taskwise(name, past).fit(X, groups=groups, **data)
    return answers_of_tasks(fitted, X, groups)


def taskwise_partial_fit(name: str, past: bool, X: Any, groups: Any, **data: Any) -> Any:
    """Fit of some tasks more."""
    rows, y, ids = tasks(name)
    fitted = taskwise(name, past).fit(rows, y, groups=ids).partial_fit(X, groups=groups, **data)
    return answers_of_tasks(fitted, X, groups)


def taskwise_ask(name: str, past: bool, X: Any, groups: Any) -> Any:
    """Answers for each task."""
    rows, y, ids = tasks(name)
    return answers_of_tasks(taskwise(name, past).fit(rows, y, groups=ids), X, groups)


def answers_of_tasks(fitted: Any, X: Any, groups: Any) -> Any:
    """Probabilities or predictions."""
    method = "predict_proba" if hasattr(fitted, "predict_proba") else "predict"
    return getattr(fitted, method)(X, groups=groups)


def pooled(reg: bool, past: Any) -> Any:
    """An estimator of past rows and new ones."""
    return (PooledRegressor if reg else PooledClassifier)(past=past)


def pooled_fit(reg: bool, X: Any, y: Any) -> Any:
    """Fit beside past tasks, and answers."""
    rows, labels, groups = tasks(RIDGE if reg else PROTO)
    return answers(pooled(reg, (rows, labels, groups)).fit(X, y), X)


def pooled_ask(reg: bool, X: Any) -> Any:
    """Answers of one."""
    return answers(
        fitted(pooled(reg, tasks(PROTO if not reg else RIDGE)), RIDGE if reg else PROTO), X
    )


def past_rows(reg: bool, X: Any, y: Any, groups: Any) -> Any:
    """Rows of past tasks."""
    rows, labels, _ = tasks(RIDGE if reg else PROTO, seed=1)
    past = PastRows(X, y, groups)
    return answers(pooled(reg, past).fit(rows[:TWO], labels[:TWO]), rows)


def split(splitter: Any, y: Any, groups: Any = None, X: Any = None) -> Any:
    """Rows of all splits."""
    X = np.zeros((8 * N_ROWS, 1)) if X is None else X
    return np.concatenate([np.r_[a, b] for a, b in splitter.split(X, y, groups)])


def remember(name: str, kind: str, **data: Any) -> Any:
    """`TaskMemory.from_data`."""
    return TaskMemory.from_data(trained(name), kind=kind, **data).means


def queries(X: Any, strategy: str = "entropy") -> Any:
    """`select_queries`."""
    return select_queries(fitted(trained(PROTO), PROTO), X, n=3, strategy=strategy, random_state=0)


def both(
    what: str, takes: tuple[str, ...], call: Any, names: Any = (PROTO, RIDGE), **known: Any
) -> list[Entrance]:
    """An entrance of classification, and the same of regression."""
    return [
        Entrance(f"{what} of {name}", takes, partial(call, name), name in REGRESSORS, **known)
        for name in names
    ]


def each(what: str, takes: tuple[str, ...], call: Any, **known: Any) -> list[Entrance]:
    """An entrance whose first argument is whether it is regression."""
    return [
        Entrance(
            f"{what}{'Regressor' if reg else 'Classifier'}", takes, partial(call, reg), reg, **known
        )
        for reg in (False, True)
    ]


DATA = ("X", "y", "groups")
KNOWN = {"columns": True, "width": True}


def of_functions() -> list[Entrance]:
    """All but fit and predict of few-shot estimators."""
    found = [
        *both("few_shot_score", DATA, score, **KNOWN),
        Entrance(
            "few_shot_score by log loss", ("X", "y"),
            partial(score, PROTO, scoring="neg_log_loss"), **KNOWN,
        ),
        *both("MetaTrainer.fit", DATA, partial(train_with, MetaTrainer, False)),
        *both(
            "MetaTrainer.fit from a meta-init", DATA,
            partial(train_with, MetaTrainer, True), **KNOWN,
        ),
        *both("ESMetaTrainer.fit", DATA, partial(train_with, ESMetaTrainer, False)),
        *both("MetaTrainer.partial_fit", DATA, partial(go_on, method="partial_fit"), **KNOWN),
        *both("MetaTrainer.score", DATA, partial(go_on, method="score"), **KNOWN),
        *both("compare_few_shot", DATA, compare, **KNOWN),
        *both(
            "past of compare_few_shot", DATA, past_of_comparison,
            width=True, known_names=("y", "groups"),
        ),
        *both("TrustLearner.fit", DATA, trust, **KNOWN),
        *both("Trusted.fit", ("X", "y", "sample_weight"), trusted, n_rows=TWO, **KNOWN),
        *both("Trusted.predict", ("X",), trusted_asked, n_rows=TWO, **KNOWN),
        *each("StrategySelector.fit of ", DATA, select),
        *each("Strategy.fit of ", ("X", "y"), choose, n_rows=TWO),
        *each("Strategy.predict of ", ("X",), choose_asked, n_rows=TWO, **KNOWN),
        *each("Pooled.fit of ", ("X", "y"), pooled_fit, n_rows=TWO, width=True, known_names=("y",)),
        *each("Pooled.predict of ", ("X",), pooled_ask, n_rows=TWO, **KNOWN),
        *each("PastRows of ", DATA, past_rows, width=True, known_names=("y",)),
        Entrance("EpisodeSplit", ("y", "groups"), partial(split, EpisodeSplit(2, 2, 4, 3, 0))),
        Entrance(
            "EpisodeSplit of regression", ("groups",),
            partial(split, EpisodeSplit(None, 2, 4, 3, 0), np.zeros(8 * N_ROWS)), True,
        ),
        Entrance("TaskKFold", ("y",), partial(split, TaskKFold(2))),
        Entrance(
            "TaskKFold of groups", ("groups",),
            partial(split, TaskKFold(2), np.zeros(8 * N_ROWS)), True,
        ),
        Entrance("TaskShuffleSplit", ("y",), partial(split, TaskShuffleSplit(2, random_state=0))),
        Entrance("TaskMemory of classes", ("X", "y"), partial(remember, PROTO, "classes"), **KNOWN),
        Entrance("TaskMemory of groups", DATA, partial(remember, PROTO, "groups"), **KNOWN),
        Entrance(
            "TaskMemory of RidgeHead", DATA, partial(remember, RIDGE, "groups"), True, **KNOWN
        ),
        Entrance("select_queries", ("X",), queries, **KNOWN),
        Entrance("select_queries coreset", ("X",), partial(queries, strategy="coreset"), **KNOWN),
        Entrance("uncertainty", ("X",), partial(measure, measure="margin"), **KNOWN),
        Entrance("embed", ("X",), lambda X: trained(PROTO).embed(X), **KNOWN),
        Entrance(
            "embed of a fitted one", ("X",),
            lambda X: fitted(made(RIDGE), RIDGE).embed(X), True, **KNOWN,
        ),
        Entrance("explain", ("X",), explain, **KNOWN),
    ]  # fmt: skip
    for past, of in ((True, "meta-trained "), (False, "")):
        known = KNOWN if past else {}
        more = (*DATA, "sample_weight") if past else DATA
        found += [
            *both(f"{of}Taskwise.fit", more, partial(with_past, taskwise_fit, past), **known),
            *both(
                f"{of}Taskwise.partial_fit", more,
                partial(with_past, taskwise_partial_fit, past),
                known_names=("y", "groups"), **KNOWN,
            ),
            *both(
                f"{of}Taskwise.predict", ("X", "groups"),
                partial(with_past, taskwise_ask, past), known_names=("groups",), **KNOWN,
            ),
        ]  # fmt: skip
    return found


def with_past(call: Any, past: bool, name: str, **data: Any) -> Any:
    """The same with its arguments in another order."""
    return call(name, past, **data)


def train_with(kind: Any, past: bool, name: str, **data: Any) -> Any:
    """The same with its arguments in another order."""
    return train(kind, name, past, **data)


def measure(X: Any, measure: str) -> Any:
    """`uncertainty`."""
    return uncertainty(fitted(trained(PROTO), PROTO), X, measure)


def explain(X: Any) -> Any:
    """Similarities that an explanation has."""
    told = fitted(trained(PROTO), PROTO).explain(X)
    return told.similarities if hasattr(told, "similarities") else len(told)


assert set(CLASSIFIERS) | set(REGRESSORS) | {"MetaEmbedding"} == set(ESTIMATORS)
ENTRANCES = of_estimators() + of_functions()
