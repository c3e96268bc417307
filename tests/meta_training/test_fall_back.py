"""What was meta-trained beside plain models, weighed by how they do on past tasks."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score

from fewshot_sklearn import (
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    StrategyClassifier,
    StrategyRegressor,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def past():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 14)
    X = rng.normal(size=(len(groups), 2))
    slope = np.array([1.0, -1.0]) + rng.normal(size=(30, 2))
    y = (X * slope[groups]).sum(1) + 3 * rng.normal(size=30)[groups]
    return X, y + 0.5 * rng.normal(size=len(y)), groups


def trained(estimator, past, **params):
    params = {"random_state": 0, "verbose": 0, "device": "cpu", "n_episodes": 32} | params
    return MetaTrainer(estimator, **params).fit(past[0], past[1], groups=past[2])


@pytest.fixture(scope="module")
def careful(past):
    rivals = {"line": LinearRegression(), "mean": DummyRegressor()}
    return trained(RidgeHeadRegressor(), past, fall_back=rivals, fall_back_parts=3)


def test_the_past_says_how_far_to_trust_what_was_learned(careful, past):
    X, y, _ = past
    reg = careful.estimator_
    assert isinstance(reg, StrategyRegressor)
    assert reg.experience.n_shots == (0, 1, 2, 5, 10)
    few = reg.fit(X[:2], y[:2]).strategy_probabilities_
    assert few["meta-trained"] > 0.8  # which knows most of the slopes before it sees a row
    assert careful.meta_init_.spec["algorithm"] == "RidgeHeadRegression"
    np.testing.assert_allclose(sum(few.values()), 1)
    prior = reg.fit_prior()
    assert list(prior.estimators_) == ["meta-trained"]
    assert prior.predict(X[:3]).shape == (3,)


def test_what_is_of_no_use_is_left_alone(past):
    X, _, groups = past
    rng = np.random.default_rng(1)
    level = rng.normal(size=30)[groups]
    lines = trained(
        RidgeHeadRegressor(alpha=1e9, noise=1e3, encoder="identity"), (X, level, groups),
        fall_back={"mean": DummyRegressor()}, fall_back_parts=3, max_epochs=0,
    )  # fmt: skip
    reg = lines.estimator_.fit(X[:3], [2.0, 2.0, 2.0])
    assert reg.strategy_probabilities_["mean"] > 0.9
    np.testing.assert_allclose(reg.predict(X[:2]), 2.0, atol=0.3)


def test_it_is_an_estimator_like_any_other(careful, past):
    X, y, groups = past
    reg = clone(careful.estimator_).fit(X[:5], y[:5])
    told = reg.predict(X[5:8])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reg)).predict(X[5:8]), told)
    assert np.isfinite(cross_val_score(careful.estimator_, X[:14], y[:14], cv=3)).all()
    assert np.isfinite(careful.score(X, y, groups + 100))
    again = clone(careful).fit(X, y, groups=groups).estimator_
    np.testing.assert_array_equal(again.fit(X[:5], y[:5]).predict(X[5:8]), told)


def test_strong_baselines_of_a_raw_table(past, monkeypatch):
    monkeypatch.setattr("fewshot_sklearn.meta_training._falling_back.N_EPISODES", 16)
    X, y, groups = (part[:210] for part in past)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(
        kind=np.where(X[:, 0] > 0, "high", "low"), item=[f"i{i % 12}" for i in range(len(X))]
    )
    frame.loc[::9, "b"] = np.nan
    reg = trained(
        RidgeHeadRegressor(), (frame, y, groups), fall_back="strong", fall_back_parts=2
    ).estimator_
    names = {"meta-trained", "ridge", "mixed model", "pooled boosting", "pooled network"}
    assert names < set(reg.experience.names)
    fitted = reg.fit(frame[:4], y[:4])
    assert np.isfinite(fitted.predict(frame[4:9])).all()
    assert np.isfinite(reg.fit_prior().predict(frame[:3])).all()
    with pytest.raises(ValueError, match="2 features"):
        fitted.predict(frame[["a", "b"]])


def test_classes(monkeypatch):
    monkeypatch.setattr("fewshot_sklearn.meta_training._falling_back.N_EPISODES", 16)
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(12), 10)
    X = rng.normal(size=(12, 3))[y] + 0.5 * rng.normal(size=(120, 3))
    small = {"n_way": 3, "n_shot": 1, "n_query": 3, "max_epochs": 1}
    trainer = trained(ProtoNetClassifier(), (X, y, None), fall_back="strong", **small)
    clf = trainer.estimator_
    assert isinstance(clf, StrategyClassifier)
    assert {"meta-trained", "in-context", "logistic regression"} < set(clf.experience.names)
    fitted = clf.fit(X[:30], y[:30])
    np.testing.assert_allclose(fitted.predict_proba(X[30:]).sum(1), 1)


def test_wrong_uses(past):
    X, y, _ = past
    with pytest.raises(ValueError, match="fall_back"):
        trained(RidgeHeadRegressor(), past, fall_back="best")
    with pytest.raises(ValueError, match="fall_back_parts"):
        trained(RidgeHeadRegressor(), past, fall_back="strong", fall_back_parts=1)

    with pytest.raises(ValueError, match="fall_back must hold regressors"):
        trained(RidgeHeadRegressor(), past, fall_back={"a": DummyClassifier()})
    few = past[2] < 2
    with pytest.raises(ValueError, match="3 or more, got 2"):
        trained(RidgeHeadRegressor(), [p[few] for p in past], fall_back={"a": DummyRegressor()})
    with pytest.raises(ValueError, match="must not name"):
        trained(RidgeHeadRegressor(), past, fall_back={"meta-trained": DummyRegressor()})

    def generate(rng):
        return X[:5], y[:5], X[5:9], y[5:9]

    trainer = MetaTrainer(
        RidgeHeadRegressor(), fall_back="strong", max_epochs=1, n_episodes=4, verbose=0,
        random_state=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="generator"):
        trainer.fit(generate)


def test_two_targets_of_a_raw_table(past):
    X, y, groups = (part[:140] for part in past)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(item=[f"i{i % 12}" for i in range(len(X))])
    both = np.column_stack([y, 1e6 - y])
    rivals = {"mean": DummyRegressor()}
    reg = trained(RidgeHeadRegressor(), (frame, both, groups), fall_back=rivals, fall_back_parts=2)
    fitted = reg.estimator_.fit(frame[:5], both[:5])
    assert fitted.predict(frame[5:9]).shape == (4, 2)
