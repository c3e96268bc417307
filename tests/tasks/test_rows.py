"""What are no rows is refused in scikit-learn's words, by all that holds other estimators."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB

from fewshot_sklearn import (
    ProtoNetClassifier,
    StrategyClassifier,
    StrategyRegressor,
    StrategySelector,
    TaskMemory,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustedClassifier,
    TrustedRegressor,
    TrustLearner,
    few_shot_score,
    select_queries,
    uncertainty,
)
from fewshot_sklearn.tasks import check_rows

AROUND_OTHERS = [
    TaskwiseRegressor(),
    TaskwiseRegressor(Ridge()),
    TaskwiseClassifier(),
    TaskwiseClassifier(GaussianNB()),
    StrategyRegressor(),
    StrategyClassifier(),
    TrustedRegressor(),
    TrustedClassifier(),
]
every_outer = pytest.mark.parametrize("outer", AROUND_OTHERS, ids=[str(e) for e in AROUND_OTHERS])
quiet = pytest.mark.filterwarnings("ignore::UserWarning")
NO_ROWS = {
    "None": None,
    "dict": {"a": [1.0, 2.0]},
    "a number": 5.0,
    "a string": "ab",
    "an empty list": [],
    "an empty array": np.zeros((0, 2)),
    "an empty frame": pd.DataFrame(np.zeros((0, 2)), columns=["a", "b"]),
    "empty and sparse": csr_matrix((0, 2)),
}
every_nothing = pytest.mark.parametrize("X", NO_ROWS.values(), ids=NO_ROWS)
SAID = r"Expected 2D array, got|Found array with 0 sample|could not convert string|float\(\)"


def rows():
    X = np.random.default_rng(0).normal(size=(8, 2))
    return X, np.arange(8) % 2


@quiet
@every_nothing
@every_outer
def test_nothing_is_learned_of_no_rows(outer, X):
    with pytest.raises((ValueError, TypeError), match=SAID):
        outer.fit(X, [0, 1] if X is None or np.ndim(X) < 1 else [])


@quiet
@every_nothing
@every_outer
def test_nothing_is_answered_for_no_rows(outer, X):
    fitted = outer.fit(*rows())
    asked = [fitted.predict, lambda X: fitted.score(X, [])]
    for ask in asked + ([fitted.predict_proba] if hasattr(fitted, "predict_proba") else []):
        with pytest.raises((ValueError, TypeError), match=SAID):
            ask(X)


@quiet
@pytest.mark.parametrize("task", ["c", None])
@pytest.mark.parametrize("kind", [TaskwiseClassifier, TaskwiseRegressor])
def test_no_rows_of_many_tasks(kind, task):
    X, y = rows()
    table = pd.DataFrame(X, columns=["a", "b"]).assign(c=np.repeat([3, 7], 4))
    groups = None if task else table["c"]
    fitted = kind(task=task).fit(table, y, groups)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\) \(shape=\(0, 3\)\)"):
        fitted.predict(table[:0], None if task else groups[:0])


@every_outer
def test_a_number_is_no_column_of_targets(outer):
    with pytest.raises((ValueError, TypeError), match=r"1d array|at least 1 dimension"):
        outer.fit(rows()[0], 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda X: few_shot_score(GaussianNB(), X, [0, 1]),
        lambda X: TrustLearner(GaussianNB()).fit(X, [0, 1]),
        lambda X: StrategySelector().fit(X, [0, 1]),
        lambda X: TaskMemory.from_data(ProtoNetClassifier().fit(*rows()), X, [0, 1]),
        lambda X: select_queries(ProtoNetClassifier().fit(*rows()), X),
        lambda X: uncertainty(ProtoNetClassifier().fit(*rows()), X),
    ],
)
@every_nothing
def test_no_past_and_no_pool(call, X):
    with pytest.raises((ValueError, TypeError), match=SAID):
        call(X)


def test_rows_of_any_kind_are_counted():
    for X in (["a text", "another"], np.zeros((2, 3, 3)), csr_matrix((2, 3)), [[1], [2]]):
        assert check_rows(X) == 2
