"""Predictions before any label, and that labels help from the first on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import CLASSIFIERS, REGRESSORS, every_regressor, meta_train
from sklearn.base import clone

import fewshot_sklearn
from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor, few_shot_score
from fewshot_sklearn.datasets import make_sinusoid_tasks

every_classifier_type = pytest.mark.parametrize("name", CLASSIFIERS)


@every_regressor
def test_no_rows_are_rows_of_no_weight(trained, task, name):
    X, y, X_query, _ = task(name)
    prior = trained[name].fit_prior()
    expected = prior.predict(X_query)
    assert expected.shape == (len(X_query),) and np.isfinite(expected).all()
    learner = prior._rebuild(prior.meta_init)
    rows = torch.as_tensor(np.stack([X[:3]] * 2), dtype=torch.float32)
    targets = torch.as_tensor(np.stack([y[:3, None]] * 2), dtype=torch.float32)
    queries = torch.as_tensor(np.stack([X_query] * 2), dtype=torch.float32)
    w = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    with torch.no_grad():
        outputs = learner(rows, targets, w, queries)
    means = (outputs if isinstance(outputs, torch.Tensor) else outputs.mean)[..., 0].numpy()
    np.testing.assert_allclose(means[0], expected, rtol=1e-3, atol=1e-4)
    known = trained[name].fit(X[:2], y[:2]).predict(X_query)
    np.testing.assert_allclose(means[1], known, rtol=1e-3, atol=1e-3)


@every_regressor
def test_labels_take_the_prior_s_place(trained, task, name):
    X, y, X_query, _ = task(name)
    reg = trained[name].fit_prior()
    again = reg.fit(X, y).predict(X_query)
    np.testing.assert_array_equal(again, trained[name].fit(X, y).predict(X_query))
    np.testing.assert_array_equal(
        reg.fit_prior().predict(X_query), trained[name].fit_prior().predict(X_query)
    )


def test_the_ridge_head_s_prior_is_its_prior_mean(trained, task):
    X_query = task("RidgeHeadRegressor")[2]
    reg = trained["RidgeHeadRegressor"].fit_prior()
    mean, std = reg.predict(X_query, return_std=True)
    t = {name: array.astype(np.float64) for name, array in reg.meta_init.tensors.items()}
    phi = np.hstack([reg.embed(X_query), np.ones((len(X_query), 1))])
    np.testing.assert_allclose(
        mean, (phi @ t["prior_mean"] * t["y_scale"] + t["y_mean"])[:, 0], rtol=1e-5, atol=1e-5
    )
    leverage = 1 + np.square(phi @ t["prior_factor"]).sum(1)
    np.testing.assert_allclose(
        std, np.sqrt(leverage * np.exp(t["log_noise"])) * t["y_scale"], rtol=1e-4
    )


@every_classifier_type
def test_classes_without_rows_are_equally_likely(trained, digits_new, name, margin):
    X, y = digits_new
    clf = trained[name].fit_prior(["b", "a", "c", "d"])
    assert clf.classes_.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_allclose(clf.predict_proba(X[:3]), np.full((3, 4), 0.25), rtol=1e-6)
    assert clf.decision_function(X[:3]).shape == (3, 4)
    assert set(clf.predict(X[:3])) == {"a"}
    margin.above(clf.fit(X[:20], y[:20]).score(X[20:], y[20:]), 0.5)


def test_known_frequencies_of_classes(trained, digits_new):
    clf = trained["ProtoNetClassifier"].fit_prior(["no", "a yes"], [9, 1])
    np.testing.assert_allclose(clf.predict_proba(digits_new[0][:2])[:, 1], 0.9, rtol=1e-6)
    assert clf.predict(digits_new[0][:1]) == ["no"]
    with pytest.raises(AttributeError, match="no rows"):
        _ = trained["RidgeHeadClassifier"].fit_prior([0, 1]).coef_


@pytest.mark.parametrize("bad", [[1], [1, -1], [0, 0], [np.nan, 1]])
def test_bad_frequencies_are_named(trained, bad):
    with pytest.raises(ValueError, match="probabilities"):
        trained["ProtoNetClassifier"].fit_prior([0, 1], bad)
    with pytest.raises(ValueError, match="differ"):
        trained["ProtoNetClassifier"].fit_prior([0, 0])


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "RidgeHeadRegressor"])
def test_without_a_past_nothing_is_known(name):
    estimator = getattr(fewshot_sklearn, name)()
    arguments = ([0, 1],) if name in CLASSIFIERS else ()
    with pytest.raises(ValueError, match="no meta_init"):
        estimator.fit_prior(*arguments)


def test_names_of_columns_are_those_of_the_past():
    import pandas as pd

    past = make_sinusoid_tasks(40, random_state=0)
    frame = pd.DataFrame({"time": past.data[:, 0]})
    reg = meta_train(RidgeHeadRegressor(encoder="mlp"), frame, past.target, past.groups)
    prior = reg.fit_prior()
    assert prior.feature_names_in_.tolist() == ["time"]
    assert prior.predict(frame[:3]).shape == (3,)
    with pytest.raises(ValueError, match="feature names"):
        prior.predict(frame[:3].rename(columns={"time": "other"}))


def test_several_outputs_without_rows():
    past = make_sinusoid_tasks(40, random_state=0)
    both = np.stack([past.target, -past.target], 1)
    reg = meta_train(RidgeHeadRegressor(encoder="mlp"), past.data, both, past.groups)
    assert clone(reg).fit_prior().predict(past.data[:3]).shape == (3, 2)


def test_more_labels_never_hurt_on_average(margin):
    past = make_sinusoid_tasks(300, n_shot=10, n_query=15, random_state=0)
    reg = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(40, 40))
    reg = meta_train(reg, past.data, past.target, past.groups, n_shot=(0, 10), max_epochs=40)
    new = make_sinusoid_tasks(100, n_shot=10, n_query=15, random_state=1)
    errors = [
        -few_shot_score(
            reg, new.data, new.target, new.groups + 300, n_way=None, n_shot=k, n_episodes=300,
            scoring="neg_mean_squared_error",
        ).mean
        for k in (0, 1, 2, 5, 10)
    ]  # fmt: skip
    margin.below(np.divide(errors[1:], errors[:-1]).max(), 1, "with more labels")
    # an amplitude in 0.1 .. 5 and a phase in 0 .. pi leave a variance of about 3.1 about the mean
    margin.above(errors[0], 1.7, "with none")
    margin.below(errors[0], 4.2, "with none, at most")
    margin.below(errors[-1] / errors[0], 1 / 3, "with ten")


def test_zero_shots_train(sinusoid_new, margin):
    X, y, groups = sinusoid_new
    trainer = MetaTrainer(
        RidgeHeadRegressor(encoder="mlp"), n_shot=0, max_epochs=6, random_state=0, verbose=0,
        validation_fraction=0, device="cpu",
    )  # fmt: skip
    losses = [epoch["train_loss"] for epoch in trainer.fit(X, y, groups).history]
    margin.below(losses[-1] / losses[0], 1)


def test_embed_needs_no_fit(trained, digits_new, sinusoid_new):
    X = digits_new[0][:4]
    proto = trained["ProtoNetClassifier"]
    np.testing.assert_allclose(
        proto.embed(X), proto.fit(X, [0, 0, 1, 1]).transform(X), rtol=1e-5, atol=1e-6
    )
    for name in CLASSIFIERS + REGRESSORS:
        rows = X if name in CLASSIFIERS else sinusoid_new[0][:4]
        features = trained[name].embed(rows)
        assert features.shape[0] == 4 and features.ndim == 2
    with pytest.raises(ValueError, match="meta-trained on rows of shape"):
        proto.embed(X[:, :5])
