"""Rows that go at once while a graph is drawn: in that thread alone, and with the same answers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import sklearn
import torch
from conftest import INDUCTIVE, REGRESSORS, every_transductive

import fewshot_sklearn
from fewshot_sklearn.learners import at_once, undivided


def test_all_rows_go_at_once_in_that_thread():
    seen = []
    assert not at_once(5, 4) and at_once(4, 4)
    with undivided():
        assert at_once(5, 4)
        other = threading.Thread(target=lambda: seen.append(at_once(5, 4)))
        other.start()
        other.join()
    assert seen == [False] and not at_once(5, 4)


def test_it_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), undivided():
        raise ZeroDivisionError
    assert not at_once(5, 4)


@every_transductive
def test_what_answers_rows_together_is_not_drawn(name):
    estimator = getattr(fewshot_sklearn, name)(random_state=0).fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    learner = estimator._rebuild(estimator.meta_init_)
    with pytest.raises(NotImplementedError, match="depend on all rows of a call"):
        learner.answering(estimator._state_on(torch.device("cpu")))


@pytest.mark.parametrize("name", INDUCTIVE)
def test_what_no_row_changes_can_be_computed_before(name):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 3)), np.repeat([0.0, 1.0, 2.0], 4)
    estimator = getattr(fewshot_sklearn, name)(random_state=0)
    estimator.fit(X, y if name in REGRESSORS else y.astype(int))
    learner, rows = estimator._fitted_learner_and_rows(rng.normal(size=(40, 3)))
    state = estimator._state_on(rows.device)
    with torch.no_grad():
        whole = learner.predict(state, rows)
        answer = learner.answering(state)
        with undivided(), sklearn.config_context(working_memory=0.001):
            before = answer(rows)
    whole, before = ((t,) if isinstance(t, torch.Tensor) else t for t in (whole, before))
    for wanted, got in zip(whole, before, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-8)
