"""Tasks shared out to processes: the answers of one process, and one chunk for each."""

from __future__ import annotations

import os
import pickle
import warnings

import joblib
import numpy as np
import pytest

from fewshot_sklearn import TaskwiseClassifier, TaskwiseRegressor, few_shot_score
from fewshot_sklearn.estimators import chunks_for, shared_out
from fewshot_sklearn.model_selection import scoring
from fewshot_sklearn.taskwise import _batches


@pytest.mark.parametrize(
    "sizes", [[5], [1] * 10, [9, 1, 1, 1, 1, 1, 1, 1, 1, 1], [100, 1], [1, 100]]
)
def test_chunks_hold_every_task_once(sizes):
    sizes = np.array(sizes)
    with joblib.parallel_config("threading"):
        for n_jobs in (None, 1, 2, 3, 50):
            chunks = chunks_for(sizes, n_jobs)
            assert np.concatenate(chunks).tolist() == list(range(len(sizes)))
            assert all(len(part) for part in chunks) and len(chunks) <= (n_jobs or 1)
        two = [len(part) for part in chunks_for(np.ones(10), 2)]
    assert two == [5, 5]


def _one(number):
    warnings.warn(f"of {number % 2}", UserWarning, stacklevel=1)
    return number, os.getpid()


def test_warnings_of_other_processes_are_given_here_once_each():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        answers = shared_out(_one, [(i,) for i in range(4)], 2)
    assert [number for number, _ in answers] == [0, 1, 2, 3]
    assert os.getpid() not in {process for _, process in answers}
    assert sorted(str(w.message) for w in heard if w.category is UserWarning) == ["of 0", "of 1"]


# ------------------------------------------------------------------ whoever shares out
def counted(monkeypatch, module, name):
    """How often a function is called, and with what."""
    calls, function = [], getattr(module, name)

    def counting(*args):
        calls.append(args)
        return function(*args)

    monkeypatch.setattr(module, name, counting)
    return calls


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "MAMLClassifier"])
@pytest.mark.parametrize("how", [None, "neg_log_loss"])
def test_scores_of_chunks_are_those_of_one_call(trained, digits_new, monkeypatch, name, how):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 2, "n_query": 5, "n_episodes": 11, "scoring": how}
    whole = few_shot_score(trained[name], X, y, n_jobs=1, **options)
    calls = counted(monkeypatch, scoring, "_batched_scores")
    with joblib.parallel_config("threading"):
        parts = few_shot_score(trained[name], X, y, n_jobs=2, **options)
    assert len(calls) == 2
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-6)


@pytest.mark.parametrize("n_jobs, n_calls", [(None, 0), (1, 0), (3, 3)])
def test_tasks_of_chunks_are_those_of_one_call(trained, sinusoid_new, monkeypatch, n_jobs, n_calls):
    X, y, groups = sinusoid_new
    some = np.random.default_rng(0).permutation(len(X))[: 3 * len(X) // 4]  # of all sizes
    X, y, groups = X[some], y[some], groups[some]
    calls = counted(monkeypatch, _batches, "_adapted_chunk")
    for name in ("RidgeHeadRegressor", "MAMLRegressor"):
        whole = TaskwiseRegressor(trained[name]).fit(X, y, groups)
        with joblib.parallel_config("threading"):
            parts = TaskwiseRegressor(trained[name], n_jobs=n_jobs).fit(X, y, groups)
            parts.partial_fit(X[:9], y[:9], groups[:9])
        whole.partial_fit(X[:9], y[:9], groups[:9])
        np.testing.assert_allclose(
            parts.predict(X, groups), whole.predict(X, groups), rtol=1e-6, atol=1e-6
        )
    assert len(calls) >= n_calls and (len(calls) > 0) == (n_calls > 0)


def test_in_processes_too(trained, digits_new, sinusoid_new):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 1, "n_query": 5, "n_episodes": 8}
    clf = trained["ProtoNetClassifier"]
    one, two = (few_shot_score(clf, X, y, n_jobs=n, **options).scores for n in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-6)
    groups = np.arange(len(X)) % 7
    one, two = (
        TaskwiseClassifier(clf, updatable=True, n_jobs=n)
        .fit(X, y, groups)
        .partial_fit(X[:20], y[:20], groups[:20] + 5, mode="add")
        .predict_proba(X, groups)
        for n in (1, 2)
    )
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_meta_init_goes_to_a_process_once(trained, digits_new, monkeypatch):
    """What is sent holds it once for each of two processes, however many episodes there are."""
    X, y = digits_new
    clf = trained["ProtoNetClassifier"]
    calls = counted(monkeypatch, scoring, "_batched_scores")
    with joblib.parallel_config("threading"):
        few_shot_score(clf, X, y, n_way=3, n_query=5, n_episodes=300, n_jobs=2)
    sent = [len(pickle.dumps(call)) for call in calls]
    known = clf.meta_init.nbytes + X.nbytes + y.nbytes
    episodes = 300 * 3 * (1 + 5) * 2 * 8  # rows and their classes
    assert len(sent) == 2
    assert sum(sent) < 2 * known + 1.2 * episodes + 40_000
