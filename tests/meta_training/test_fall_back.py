"""What was meta-trained beside plain models, weighed by how they do on past tasks."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsRegressor

from fewshot_sklearn import (
    MetaTrainer,
    PooledRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    StrategyClassifier,
    StrategyRegressor,
    select_queries,
)
from fewshot_sklearn.estimators import predicts

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


class Unable(DummyRegressor):
    """Cannot, and says why in words of each number of rows."""

    def fit(self, X, y, sample_weight=None):
        if len(y) > 3:
            raise TypeError("too many")
        raise ValueError(f"not of {len(y)} rows")


def test_who_never_answers_is_named_once_with_each_reason_once(past):
    rivals = {"unable": Unable(), "mean": DummyRegressor()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = trained(RidgeHeadRegressor(), past, fall_back=rivals, fall_back_parts=3)
    told = [str(one.message) for one in caught if "trateg" in str(one.message)]
    assert len(told) == 1 and "'unable' never answered" in told[0]
    assert told[0].count("ValueError: not of") == told[0].count("TypeError: too many") == 1
    known = trainer.estimator_.experience
    assert not known.stacking_weights_at(5)[known.names.index("unable")]


def test_data_that_is_short_is_told_once(past):
    kept = np.r_[0:200, 200:420:3]  # some tasks have fewer rows
    for more in ({}, {"fall_back": {"mean": DummyRegressor()}, "fall_back_parts": 3}):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trained(RidgeHeadRegressor(), [p[kept] for p in past], **more)
        told = [str(one.message) for one in caught if "is short" in str(one.message)]
        assert told == [
            "Some of the data is short: 30 group(s) of fewer than 20 rows used with the rows they "
            "have."
        ]
    y = np.repeat(np.arange(20), [1, 4] * 10)
    X = np.random.default_rng(0).normal(size=(len(y), 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(ProtoNetClassifier(), (X, y, None), max_epochs=1, n_way=2, validation_fraction=0.3)
    told = [str(one.message) for one in caught if "is short" in str(one.message)]
    assert len(told) == 1 and "10 class(es) of a single row left out; 10 class(es)" in told[0]


def test_weights_of_rows(careful, past):
    X, y, _ = past
    reg, w = careful.estimator_, np.array([1.0, 2.0, 0.0, 0.5, 1.0])
    weighed = clone(reg).fit(X[:5], y[:5], sample_weight=w)
    plain = clone(reg).fit(X[:5][w > 0], y[:5][w > 0], sample_weight=w[w > 0])
    np.testing.assert_allclose(weighed.predict(X[5:9]), plain.predict(X[5:9]))
    assert weighed.n_shots_ == 4
    one = clone(reg).fit(X[:5], y[:5], sample_weight=np.ones(5))
    np.testing.assert_allclose(one.predict(X[5:9]), clone(reg).fit(X[:5], y[:5]).predict(X[5:9]))
    assert not np.allclose(one.predict(X[5:9]), weighed.predict(X[5:9]))
    with pytest.raises(ValueError, match="at least zero"):
        clone(reg).fit(X[:5], y[:5], sample_weight=-w)
    neighbors = {"meta-trained": reg.strategies["meta-trained"], "near": KNeighborsRegressor(1)}
    with pytest.raises(ValueError, match=r"sample_weight must be None: \['near'\]"):
        StrategyRegressor(neighbors, combine="ensemble").fit(X[:5], y[:5], sample_weight=w)


def test_spread_of_the_mixture(past):
    X, y, _ = past
    ours = RidgeHeadRegressor()
    rivals = {"ours": ours, "process": GaussianProcessRegressor(random_state=0)}
    fitted = StrategyRegressor(rivals, combine="ensemble").fit(X[:8], y[:8])
    mean, std = fitted.predict(X[8:12], return_std=True)
    np.testing.assert_allclose(mean, fitted.predict(X[8:12]))
    told = [one.predict(X[8:12], return_std=True) for one in fitted.estimators_.values()]
    draws = np.random.default_rng(0).normal(size=(2, 100_000, 4))
    drawn = np.concatenate([m + s * d for (m, s), d in zip(told, draws, strict=True)])
    np.testing.assert_allclose(std, drawn.std(0), rtol=0.02)
    same, cov = fitted.predict(X[8:12], return_cov=True)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), std, rtol=1e-5)
    np.testing.assert_allclose(same, mean)
    with pytest.raises(RuntimeError, match="At most one"):
        fitted.predict(X[8:12], return_std=True, return_cov=True)


def test_without_a_spread_it_says_who_has_none(careful, past):
    X, y, _ = past
    fitted = clone(careful.estimator_).set_params(combine="ensemble", min_probability=0.0)
    fitted = fitted.set_params(temperature=1e9).fit(X[:5], y[:5])
    for option in ("return_std", "return_cov"):
        with pytest.raises(ValueError, match=option + r".*'line'.*fall_back"):
            fitted.predict(X[5:8], **{option: True})
    assert not predicts(fitted, "return_std") and predicts(RidgeHeadRegressor(), "return_std")
    assert len(select_queries(fitted, X[5:11], n=2, random_state=0)) == 2
    prior = clone(careful.estimator_).fit_prior()
    assert (prior.predict(X[:3], return_std=True)[1] > 0).all()


def test_no_rows_are_refused_as_by_all_others(careful, past):
    X, y, _ = past
    fitted, frame = careful.estimator_.fit(X[:5], y[:5]), pd.DataFrame(X, columns=["a", "b"])
    for nothing in (X[:0], frame[:0]):
        with pytest.raises(ValueError, match=r"0 sample\(s\).*minimum of 1 is required"):
            fitted.predict(nothing)
        with pytest.raises(ValueError, match=r"0 sample\(s\).*minimum of 1 is required"):
            fitted.estimators_["meta-trained"].predict(nothing)


def test_names_of_columns_are_known_without_rows(past, monkeypatch):
    monkeypatch.setattr("fewshot_sklearn.meta_training._falling_back.N_EPISODES", 8)
    X, y, groups = (part[:140] for part in past)
    frame = pd.DataFrame(X, columns=["a", "b"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*feature names")
        reg = trained(
            RidgeHeadRegressor(), (frame, y, groups), fall_back="strong", fall_back_parts=2
        ).estimator_.fit_prior()
        assert np.isfinite(reg.predict(frame[:3])).all()
        pooled = PooledRegressor(past=(frame, y, groups)).fit_prior()
        assert np.isfinite(pooled.predict(frame[:3])).all()
    assert list(reg.feature_names_in_) == ["a", "b"] == list(pooled.feature_names_in_)
    with pytest.raises(ValueError, match="feature names"):
        reg.predict(frame[["b", "a"]])


def test_more_parts_than_the_past_allows_are_as_many_as_it_does(past):
    X, y, groups = past
    few = groups < 4
    reg = trained(
        RidgeHeadRegressor(), (X[few], y[few], groups[few]), max_epochs=1,
        fall_back={"mean": DummyRegressor()}, fall_back_parts=31,
    ).estimator_  # fmt: skip
    assert min(reg.experience.n_episodes) >= 4
    codes = np.arange(len(X)) % 3
    with pytest.raises(ValueError, match="past classes out, which takes 4 or more, got 3"):
        trained(ProtoNetClassifier(), (X, codes, None), fall_back="strong")


def test_tasks_of_a_single_row_are_no_parts(past):
    X, y, groups = past
    some = np.r_[0:84, np.unique(groups, return_index=True)[1][6:]]
    reg = trained(
        RidgeHeadRegressor(), (X[some], y[some], groups[some]), max_epochs=1,
        fall_back={"mean": DummyRegressor()}, fall_back_parts=6,
    ).estimator_  # fmt: skip
    assert min(reg.experience.n_episodes) >= 6


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
