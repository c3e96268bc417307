"""Rows shared out among classes, against all ways there are to do so."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import sklearn
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from fewshot_sklearn import (
    ProtoNetClassifier,
    TransductiveAssignmentClassifier,
    few_shot_score,
)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))
    return X[rows], y[rows]


def one_of_each(X, y, classes, start):
    """One row of each of some classes, from a row on."""
    return np.array([start + np.flatnonzero(y[start:] == label)[0] for label in classes])


@pytest.mark.parametrize(
    "inner",
    [None, ProtoNetClassifier(), LogisticRegression(), LinearSVC(), LinearDiscriminantAnalysis()],
    ids=str,
)
def test_no_other_way_is_likelier(digits, inner):
    X, y = digits
    classes = np.arange(6)
    known, asked = one_of_each(X, y, classes, 0), one_of_each(X, y, classes, 300)
    clf = TransductiveAssignmentClassifier(inner, 1)
    if isinstance(inner, LinearDiscriminantAnalysis):
        known = np.concatenate([known, one_of_each(X, y, classes, 150)])
    found = clf.fit(X[known], y[known]).predict(X[asked])
    assert sorted(found) == classes.tolist()
    bare = clf.estimator_
    scores = bare.predict_proba(X[asked]) if hasattr(bare, "predict_proba") else None
    logs = (
        log_softmax(bare.decision_function(X[asked]), 1)
        if scores is None
        else np.log(np.maximum(scores, 1e-12))
    )
    # a learner's own logits are not cut off, but these rows are not that far from each other
    if isinstance(bare, ProtoNetClassifier):
        logs = log_softmax(bare.decision_function(X[asked]), 1)
    best = max(permutations(range(6)), key=lambda way: logs[np.arange(6), list(way)].sum())
    np.testing.assert_array_equal(found, classes[list(best)])


def test_places_of_each_class(digits):
    X, y = digits
    known = np.concatenate([one_of_each(X, y, range(3), s) for s in (0, 100)])
    asked = np.flatnonzero(y[300:] < 3)[:20] + 300
    clf = TransductiveAssignmentClassifier().fit(X[known], y[known])
    assert np.bincount(clf.predict(X[asked])).max() == 7  # 20 rows of three classes: 7, 7 and 6
    clf.set_params(n_queries_per_class={0: 3, 2: 17})
    assert np.bincount(clf.predict(X[asked])).tolist() == [3, 0, 17]
    proba = clf.predict_proba(X[asked])
    assert (proba[:, 1] == 0).all()
    np.testing.assert_allclose(proba.sum(1), 1)
    # with room enough for all nothing changes
    clf.set_params(n_queries_per_class=20)
    np.testing.assert_array_equal(clf.predict(X[asked]), clf.estimator_.predict(X[asked]))


def test_probabilities_are_balanced(digits):
    X, y = digits
    known = np.concatenate([one_of_each(X, y, range(4), s) for s in (0, 100, 200)])
    asked = np.concatenate([one_of_each(X, y, range(4), s) for s in (300, 400, 500, 600, 700)])
    inner = LogisticRegression(C=1e-4)
    clf = TransductiveAssignmentClassifier(inner, 5).fit(X[known], y[known])
    proba = clf.predict_proba(X[asked])
    np.testing.assert_array_equal(clf.classes_[proba.argmax(1)], clf.predict(X[asked]))
    np.testing.assert_allclose(proba.sum(1), 1)
    bare = clf.estimator_.predict_proba(X[asked])
    kept = bare.argmax(1) == proba.argmax(1)
    assert kept.any()
    # of the rows that keep their class the ratio to the bare ones is one of rows times classes
    logs = np.log(proba[kept]) - np.log(bare[kept])
    logs = logs - logs.mean(1, keepdims=True)
    np.testing.assert_allclose(logs, np.broadcast_to(logs.mean(0), logs.shape), atol=1e-6)
    # few rows leave places over: sums are below them
    few = clf.predict_proba(X[asked[:6]])
    np.testing.assert_allclose(few.sum(1), 1)
    assert (few.sum(0) < 5).all()


def test_more_rows_than_places_are_refused(digits):
    X, y = digits
    clf = TransductiveAssignmentClassifier(n_queries_per_class=1).fit(X[:50], y[:50])
    with pytest.raises(ValueError, match=r"X has 11 rows, but .* has places for 10"):
        clf.predict(X[:11])
    assert len(clf.predict(X[:3])) == 3
    with pytest.raises(ValueError, match="which are not among"):
        clf.set_params(n_queries_per_class={77: 1}).fit(X[:50], y[:50])
    with pytest.raises(ValueError, match="must hold ints"):
        clf.set_params(n_queries_per_class={1: 1.5}).fit(X[:50], y[:50])


def test_too_many_rows_for_memory_are_refused(digits):
    X, y = digits
    clf = TransductiveAssignmentClassifier().fit(X[:50], y[:50])
    with sklearn.config_context(working_memory=1), pytest.raises(ValueError, match="of memory"):
        clf.predict(X)


def test_knowing_how_often_is_worth_it(digits):
    X, y = digits
    options = {"n_way": 8, "n_shot": 1, "n_query": 1, "n_episodes": 60, "random_state": 0}
    bare = few_shot_score(ProtoNetClassifier(), X, y, **options)
    knows = few_shot_score(
        TransductiveAssignmentClassifier(ProtoNetClassifier(), 1), X, y, **options
    )
    assert knows.mean > bare.mean + 0.03  # of the same episodes; nothing is trained


def test_in_a_grid_search(digits):
    X, y = digits
    clf = TransductiveAssignmentClassifier(LogisticRegression())
    search = GridSearchCV(clf, {"estimator__C": [1e-4, 1.0]}, cv=2).fit(X[:60], y[:60])
    assert set(search.best_params_) == {"estimator__C"}
