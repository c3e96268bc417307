"""A budget of time is that of all of `fit`: closed forms, encoders and parts included."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyRegressor

from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.learners import deadline, is_over, seconds_left, within
from fewshot_sklearn.learners.task_prior import task_prior

torch.set_num_threads(1)
SPENT = 1e-6  # seconds, which are over before anything is done


@pytest.fixture(scope="module")
def past():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 14)
    X = rng.normal(size=(len(groups), 3))
    y = (X * (1 + rng.normal(size=(60, 3)))[groups]).sum(1) + 3 * rng.normal(size=60)[groups]
    return X, y + 0.5 * rng.normal(size=len(y)), groups


def trained(past, **params):
    params = {"random_state": 0, "verbose": 0, "device": "cpu", "n_episodes": 32} | params
    trainer = MetaTrainer(RidgeHeadRegressor(), **params)
    return trainer.fit(past[0], past[1], groups=past[2])


class Clock:
    """Time that goes on by a second whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


# ------------------------------------------------------------------ what is left
def test_what_is_inside_has_no_more_time_than_what_is_outside(monkeypatch):
    monkeypatch.setattr(deadline, "time", Clock())
    assert seconds_left() == np.inf and not is_over()
    with within(100):
        with within(None):
            assert 90 < seconds_left() < 100
        with within(5):
            assert seconds_left() < 5
            with within(1e9):
                assert seconds_left() < 5
        assert seconds_left() > 80
        with pytest.raises(KeyError), within(0):
            assert is_over()
            raise KeyError
        assert not is_over()
    assert seconds_left() == np.inf


def test_threads_have_time_of_their_own():
    found = []
    with within(0):
        thread = threading.Thread(target=lambda: found.append(is_over()))
        thread.start()
        thread.join()
        assert is_over() and found == [False]


# ------------------------------------------------------------------ what heeds it
def test_a_search_ends_with_what_it_has(past):
    X, y, groups = past
    Phi = np.hstack([X, np.ones((len(X), 1))])
    whole = task_prior(Phi, y, groups)
    with within(0):
        short = task_prior(Phi, y, groups)
    assert list(short.choice) == ["mean ridge", "intercept"] and len(whole.choice) > 3
    assert np.isfinite(short.loglik) and short.loglik < whole.loglik
    assert np.isfinite(short.mean.numpy()).all()


def test_a_search_that_is_cut_short_is_better_than_its_start(past, monkeypatch):
    X, y, groups = past
    Phi = np.hstack([X, np.ones((len(X), 1))])
    logliks = []
    for seconds in (0, 12, None):
        with monkeypatch.context() as patch:
            patch.setattr(deadline, "time", Clock())
            with within(seconds):
                logliks.append(task_prior(Phi, y, groups, structure="full", mean="flat").loglik)
    assert logliks == sorted(logliks) and logliks[0] < logliks[-1]


def test_no_network_is_tried_once_the_time_is_over(past, monkeypatch):
    tried = []
    run = MetaTrainer._run
    monkeypatch.setattr(
        MetaTrainer, "_run", lambda self, plan: (tried.append(self._encoder), run(self, plan))[1]
    )
    trainer = trained(past, time_budget=SPENT)
    assert len(tried) == 1 and tried[0]["encoder"] != "mlp"
    assert len(trainer.history) == 1
    fitted = trainer.estimator_.fit(past[0][:5], past[1][:5])
    assert np.isfinite(fitted.predict(past[0][5:9])).all()
    tried.clear()
    trained(past, max_epochs=1)
    assert [one["encoder"] for one in tried][-1] == "mlp" and len(tried) == 2


def test_a_budget_that_is_not_needed_changes_nothing(past):
    plain, bounded = (trained(past, max_epochs=1, time_budget=b) for b in (None, 1e6))
    assert plain.meta_init_.tensors.keys() == bounded.meta_init_.tensors.keys()
    for name, tensor in plain.meta_init_.tensors.items():
        np.testing.assert_array_equal(bounded.meta_init_.tensors[name], tensor)


def test_parts_are_tried_while_there_is_time(past):
    rivals = {"mean": DummyRegressor()}
    with pytest.warns(UserWarning, match="time_budget let fall_back try 1 of 4 parts") as told:
        trainer = trained(past, fall_back=rivals, fall_back_parts=4, time_budget=SPENT)
    assert not any("Strategies" in str(one.message) for one in told)
    known = trainer.estimator_.experience
    few = known.n_episodes
    np.testing.assert_allclose(known.stacking_weights_at(5).sum(), 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*parts of the past")
        all_parts = trained(past, fall_back=rivals, fall_back_parts=2, max_epochs=1)
    assert all(n < m for n, m in zip(few, all_parts.estimator_.experience.n_episodes, strict=True))


def test_what_takes_time_to_learn_is_left_out_and_told(past):
    part = [p[:140] for p in past]
    with pytest.warns(UserWarning, match=r"goes without 'pooled' \(no time was left for it\)"):
        trainer = trained(part, fall_back="strong", fall_back_parts=2, time_budget=SPENT)
    names = set(trainer.estimator_.experience.names)
    assert names == {"meta-trained", "ridge", "Gaussian process", "mean"}
    fitted = trainer.estimator_.fit(past[0][:4], past[1][:4])
    assert np.isfinite(fitted.predict(past[0][:3])).all()
