"""Learners that answer all queries of a task together: which of them, from what, with how much."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
import torch
from conftest import TRANSDUCTIVE, every_transductive

import fewshot_sklearn
from fewshot_sklearn import (
    EpisodeSplit,
    ProtoNetClassifier,
    TaskwiseClassifier,
    TransductiveTIMClassifier,
    few_shot_score,
)
from fewshot_sklearn.datasets import load_omniglot
from fewshot_sklearn.model_selection import EpisodeAnswers
from fewshot_sklearn.tasks import Task, pad_tasks


def test_their_names_say_so_and_no_others():
    for name in fewshot_sklearn.__all__:
        learner = getattr(getattr(fewshot_sklearn, name), "_learner_class", None)
        if learner is not None:
            assert learner.transductive == name.startswith("Transductive")
    assert len(TRANSDUCTIVE) == 4


@every_transductive
@pytest.mark.parametrize("of", ["ProtoNetClassifier", "NearestClassMeanClassifier"])
def test_meta_inits_of_class_means_will_do(trained, task, name, of):
    X, y, X_query, _ = task(name)
    init = trained[of].meta_init
    clf = getattr(fewshot_sklearn, name)(init).fit(X, y)
    assert clf.meta_init_ is init
    np.testing.assert_allclose(clf.embed(X), trained[of].embed(X), rtol=1e-6)
    assert np.isfinite(clf.predict_proba(X_query)).all()
    learner = clf._rebuild(init)
    if hasattr(learner, "centre"):
        kept = trained[of]._rebuild(init)
        expected = getattr(kept, "centre", torch.zeros_like(learner.centre))
        torch.testing.assert_close(learner.centre, expected)


@every_transductive
def test_other_meta_inits_will_not(trained, task, name):
    X, y, _, _ = task(name)
    other = trained["RidgeHeadClassifier"].meta_init
    with pytest.raises(ValueError, match="was meta-trained as RidgeHeadClassification"):
        getattr(fewshot_sklearn, name)(other).fit(X, y)


def test_a_shipped_meta_init():
    images = load_omniglot().images[:6]
    clf = TransductiveTIMClassifier("omniglot-conv4", n_steps=5).fit(images[:2], ["a", "b"])
    assert clf.predict(images[2:]).shape == (4,)


@every_transductive
def test_rows_are_never_divided(trained, task, name):
    """Where memory is short that is said; other learners take rows in parts."""
    X, y, X_query, _ = task(name)
    est, many = trained[name].fit(X, y), np.repeat(X_query, 20, axis=0)
    whole = est.predict_proba(X_query)
    with sklearn.config_context(working_memory=1):
        with pytest.raises(ValueError, match=r"answer all rows of a call together.*working_memory"):
            est.predict(many)
        bare = ProtoNetClassifier(trained["ProtoNetClassifier"].meta_init).fit(X, y)
        assert len(bare.predict(many)) == len(many)
    np.testing.assert_array_equal(est.predict_proba(X_query), whole)


@every_transductive
def test_tasks_go_one_by_one_where_memory_is_short(trained, digits_new, name):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 2, "n_query": 8, "n_episodes": 6, "random_state": 0}
    at_once = few_shot_score(trained[name], X, y, **options)
    learner = trained[name]._rebuild(trained[name].meta_init)
    one = learner.numbers_to_answer(6, 24, 3) * 8 / 2**20
    with sklearn.config_context(working_memory=1.5 * one):
        in_turn = few_shot_score(trained[name], X, y, **options)
    np.testing.assert_allclose(in_turn.scores, at_once.scores)


# ------------------------------------------------------------------ what is asked together
@every_transductive
def test_the_queries_of_an_episode_are_asked_together(trained, digits_new, name):
    X, y = digits_new
    split = EpisodeSplit(n_way=3, n_shot=2, n_query=5, n_episodes=4, random_state=0)
    rows = split.episodes(y)
    answers = EpisodeAnswers(trained[name], X, y).about_queries(rows)
    for i in range(4):
        one = rows.episode(i)
        alone = trained[name].fit(X[one.support], y[one.support])
        order = [list(alone.classes_).index(y[one.support[one.support_codes == k][0]])
                 for k in range(3)]  # fmt: skip
        found = torch.tensor(answers.outputs[answers.episode == i]).softmax(1)
        expected = alone.predict_proba(X[one.query])[:, order]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@every_transductive
def test_rows_held_out_of_a_support_are_asked_without_the_rest(trained, digits_new, name):
    X, y = digits_new
    rows = EpisodeSplit(n_way=3, n_shot=2, n_query=1, n_episodes=1, random_state=0).episodes(y)
    found = EpisodeAnswers(trained[name], X, y).about_held_out_support(rows)
    one = rows.episode(0)
    first = np.array([(one.support_codes[:i] == code).sum() == 0
                      for i, code in enumerate(one.support_codes)])  # fmt: skip
    for held in (first, ~first):
        known, asked = one.support[~held], one.support[held]
        batch, _ = pad_tasks(
            [Task(X[known], one.support_codes[~held], X[asked], one.support_codes[held])]
        )
        est = trained[name]
        with torch.no_grad():
            expected = est._rebuild(est.meta_init)(**batch)[0]
        where = [np.flatnonzero(found.row == row)[0] for row in asked]
        np.testing.assert_allclose(
            torch.tensor(found.outputs[where]).softmax(1), expected.softmax(1), atol=1e-4
        )


@every_transductive
def test_the_rows_of_a_task_are_asked_together(trained, digits_new, name):
    X, y = digits_new
    groups = np.repeat(["one", "two"], [12, 20])
    taskwise = TaskwiseClassifier(trained[name]).fit(X[:32], y[:32], groups=groups)
    asked = np.repeat(["one", "two"], [9, 14])
    found = taskwise.predict_proba(X[32:55], asked)
    for task in ("one", "two"):
        alone = trained[name].fit(X[:32][groups == task], y[:32][groups == task])
        np.testing.assert_allclose(
            found[asked == task], alone.predict_proba(X[32:55][asked == task]), atol=1e-4
        )


# ------------------------------------------------------------------ stable
@every_transductive
@pytest.mark.parametrize(
    ("meta_trained", "factor"),  # rows so far from the past are refused
    [(True, 1e-8), (True, 1.0), (False, 1e-8), (False, 1.0), (False, 1e8)],
)
def test_no_nan_whatever_the_rows(trained, digits_new, name, meta_trained, factor):
    X, y = digits_new
    X = X[:30] * factor
    X[:, ::7] = 3.0 * factor
    X[11] = X[12]  # equal rows of the support, of the queries, and of both
    X[20] = X[21] = X[3]
    est = trained[name] if meta_trained else getattr(fewshot_sklearn, name)()
    proba = est.fit(X[:15], y[:15]).predict_proba(X[15:])
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(proba[5], proba[6], rtol=1e-4, atol=1e-6)
    same = np.repeat(X[:1], 5, axis=0)
    assert np.isfinite(est.fit(same, [0, 1, 0, 1, 1]).predict_proba(same)).all()
