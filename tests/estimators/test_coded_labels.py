"""Classifiers that take no labels but 0, 1, ... work wherever any classifier does."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import unique_labels

from fewshot_sklearn import (
    PooledClassifier,
    ProtoNetClassifier,
    StrategyClassifier,
    StrategySelector,
    TaskwiseClassifier,
    TrustedClassifier,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
)
from fewshot_sklearn.estimators import CodedLabels, fitted_to_labels


class CodesOnly(LogisticRegression):
    """As XGBoost's: logistic regression that refuses labels other than 0, 1, ..."""

    def fit(self, X, y, sample_weight=None):
        if unique_labels(y).tolist() != list(range(len(unique_labels(y)))):
            raise ValueError(f"Invalid classes, got {unique_labels(y)}")
        return super().fit(X, y, sample_weight)


CODES = CodesOnly()
PLAIN = LogisticRegression()
pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed")


@pytest.fixture(scope="module", params=["strings", "ints", "floats", "objects"])
def blobs(request):
    """(X, y, groups) of four classes in six tasks, under labels that are no codes."""
    X, codes = make_blobs(240, centers=8, n_features=3, cluster_std=3.0, random_state=0)
    kinds = {
        "strings": np.array([f"class {i}" for i in range(8)]),
        "ints": np.arange(8) * 3 + 5,
        "floats": np.arange(8) + 1.0,
        "objects": np.array([*"abcdefgh"], dtype=object),
    }
    return X, kinds[request.param][codes], np.arange(240) % 6


def same(a, b):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("wrapped", [lambda e: e, lambda e: make_pipeline(StandardScaler(), e)])
def test_every_user_of_foreign_classifiers(blobs, wrapped):
    X, y, groups = blobs
    codes, plain = wrapped(CODES), wrapped(PLAIN)
    few = {"n_way": 3, "n_episodes": 20, "random_state": 0}
    table = compare_few_shot(
        {"codes": codes, "plain": plain}, X, y, n_shots=(2, 5), baselines=None, **few
    )
    assert not table["failures"].any()
    same(table["mean"][table.estimator == "codes"], table["mean"][table.estimator == "plain"])
    scores = [few_shot_score(e, X, y, n_shot=3, **few).scores for e in (codes, plain)]
    same(*scores)
    asked, expected = (TaskwiseClassifier(e).fit(X, y, groups) for e in (codes, plain))
    same(asked.predict(X, groups), expected.predict(X, groups))
    same(asked.predict_proba(X, groups + 1), expected.predict_proba(X, groups + 1))
    same(asked.classes_, expected.classes_)
    known, other = (StrategySelector({"s": e}, n_shots=(2,), **few) for e in (codes, plain))
    assert known.fit(X, y).experience_ == other.fit(X, y).experience_
    for a, b in [
        (known.estimator_.fit(X, y), StrategyClassifier({"s": plain}).fit(X, y)),
        (TrustedClassifier(codes).fit(X, y), TrustedClassifier(plain).fit(X, y)),
        (PooledClassifier(codes).fit(X, y), PooledClassifier(plain).fit(X, y)),
    ]:
        same(a.predict(X), b.predict(X))
        same(a.predict_proba(X), b.predict_proba(X))


@pytest.mark.filterwarnings("ignore:.*past task")
def test_trust(blobs):
    X, y, _ = blobs
    learner = {"n_way": 2, "n_shots": (3,), "n_episodes": 20, "random_state": 0}
    codes, plain = (TrustLearner(e, **learner).fit(X, y) for e in (CODES, PLAIN))
    same(codes.calibration_.scales, plain.calibration_.scales)
    same(codes.estimator_.fit(X, y).predict_set(X), plain.estimator_.fit(X, y).predict_set(X))


def test_others_are_given_the_labels_as_they_are(blobs):
    X, y, _ = blobs
    assert type(fitted_to_labels(PLAIN, X, y)) is LogisticRegression
    assert type(fitted_to_labels(CODES, X, np.searchsorted(np.unique(y), y))) is CodesOnly
    fitted = fitted_to_labels(CODES, X, y)
    assert type(fitted) is CodedLabels and fitted.predict(X).dtype == y.dtype
    same(fitted.decision_function(X), LogisticRegression().fit(X, y).decision_function(X))


def test_weights_reach_it(blobs):
    X, y, _ = blobs
    w = np.random.default_rng(0).uniform(0.1, 2, len(y))
    same(
        fitted_to_labels(CODES, X, y, sample_weight=w).predict_proba(X),
        LogisticRegression().fit(X, y, w).predict_proba(X),
    )


@pytest.mark.parametrize("estimator", [CODES, ProtoNetClassifier(), Ridge()], ids=repr)
def test_an_error_that_codes_do_not_mend_is_the_estimator_s_own(estimator):
    X = np.array([[0.0], [np.nan]])
    with pytest.raises(ValueError, match=r"Invalid classes|NaN"):
        fitted_to_labels(estimator, X, [3, 4])
