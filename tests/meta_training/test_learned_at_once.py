"""What has a closed form is learned from all past tasks at once, and not by descent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewshot_sklearn import (
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    few_shot_score,
)
from fewshot_sklearn.learners import task_prior
from fewshot_sklearn.meta_training._past_tasks import PastTasks

torch.set_num_threads(1)

FEW = {"n_shot": 4, "n_query": 6, "n_episodes": 16, "n_valid_episodes": 8, "max_epochs": 3}
FEW |= {"verbose": 0, "device": "cpu", "random_state": 0}


def lines(n_tasks, seed, n=20, d=3):
    """Linear tasks about a common one, far from zero and of units of their own."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n * n_tasks, d)) * [1.0, 1e3, 1e-3] + [1e4, 0.0, 5.0]
    weights = np.array([1.0, 2e-3, 5e2]) + rng.normal(size=(n_tasks, d)) * [0.5, 1e-3, 0.0]
    y = (X * np.repeat(weights, n, 0)).sum(1) + 0.3 * rng.normal(size=len(X)) + 1e5
    return X, y, np.repeat([f"task {seed}-{i}" for i in range(n_tasks)], n)


PAST, NEW = lines(40, 0), lines(20, 1)


def trained(estimator=None, past=PAST, **params):
    trainer = MetaTrainer(estimator or RidgeHeadRegressor(), **FEW | params)
    X, y, groups = past
    return trainer.fit(X, y, groups=groups)


def test_it_is_the_prior_of_most_likelihood():
    trainer = trained(validation_fraction=0)
    tensors = trainer.meta_init_.tensors
    X, y, groups = PAST
    Z = (X - tensors["x_mean"] - tensors["x_rest"].astype(float)) / tensors["x_scale"]
    phi = np.column_stack([Z, np.ones(len(Z))])
    targets = (y - tensors["y_mean"] - tensors["y_rest"].astype(float)) / tensors["y_scale"]
    codes = np.unique(groups, return_inverse=True)[1]
    prior = task_prior(phi, targets[:, None], codes)
    np.testing.assert_allclose(tensors["prior_mean"], prior.mean, atol=1e-3)
    covariance = tensors["prior_factor"] @ tensors["prior_factor"].T
    expected = (prior.factor @ prior.factor.T).numpy()
    np.testing.assert_allclose(covariance, expected, rtol=2e-2, atol=1e-2 * expected.max())
    np.testing.assert_allclose(tensors["log_noise"], prior.noise_variance.log(), atol=1e-3)


def test_one_epoch_judges_it():
    trainer = trained()
    assert len(trainer.history) == 1
    assert np.isfinite(trainer.history[-1, "valid_loss"])
    assert trainer.best_epoch_ == 1


def test_more_labels_do_not_hurt(margin):
    X, y, groups = NEW
    reg = trained().estimator_
    asked = {"n_way": None, "n_query": 10, "n_episodes": 100, "random_state": 0}
    errors = [
        -few_shot_score(reg, X, y, groups, n_shot=k, scoring="neg_mean_squared_error", **asked).mean
        for k in (1, 2, 5, 10)
    ]
    margin.below(np.divide(errors[1:], errors[:-1]).max(), 1)
    margin.below(errors[-1], 0.09 * 2.5, "against noise of 0.09")


@pytest.mark.parametrize("given", [{"alpha": 1.0}, {"noise": 1.0}, {"alpha": 2.0, "noise": 0.5}])
def test_a_prior_that_is_given_is_trained_on_episodes(given):
    assert len(trained(RidgeHeadRegressor(**given)).history) == 3


def test_it_goes_on_by_episodes():
    trainer = trained(keep_best=False)
    before = trainer.meta_init_
    trainer.partial_fit(*NEW[:2], groups=NEW[2])
    assert len(trainer.history) == 1 + 3
    assert not np.array_equal(
        trainer.meta_init_.tensors["prior_mean"], before.tensors["prior_mean"]
    )
    again = trained(trainer.estimator_, NEW)
    assert len(again.history) == 3


def test_generators_and_other_losses_are_trained_on_episodes():
    def generate(rng):
        rows = rng.normal(size=(8, 2))
        return rows[:4], rows[:4].sum(1), rows[4:], rows[4:].sum(1)

    assert len(MetaTrainer(RidgeHeadRegressor(), **FEW).fit(generate).history) == 3

    def squares(outputs, y):
        return (outputs.mean - y).square().mean()

    assert len(trained(criterion=squares).history) == 3


def test_no_epochs_learn_nothing():
    assert not trained(max_epochs=0).meta_init_.tensors["prior_mean"].any()


def test_many_features_are_trained_on_episodes():
    X, y, groups = PAST
    wide = np.hstack([X, np.random.default_rng(0).normal(size=(len(X), 130))])
    assert len(trained(past=(wide, y, groups)).history) == 3


@pytest.mark.parametrize("width", [4, 40])
def test_of_features_that_are_learned_it_is_taken_if_better(width):
    """The same network with and without: never worse on the tasks held out."""
    reg = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(width,))
    with_it, without = trained(reg), trained(reg.set_params(alpha=1.0))
    ours, theirs = (t.meta_init_.tensors for t in (with_it, without))
    for name in ours:
        if name.startswith("encoder."):
            np.testing.assert_array_equal(ours[name], theirs[name])
    losses = [_validation_loss(t) for t in (with_it, without)]
    assert losses[0] <= losses[1] * (1 + 1e-6) if losses[1] > 0 else losses[0] <= losses[1] + 1e-6
    if width > 32:  # too many for it
        np.testing.assert_array_equal(ours["prior_mean"], theirs["prior_mean"])


def _validation_loss(trainer):
    X, y, groups = PAST
    trainer.plan_ = PastTasks(trainer, X, y, groups, afresh=True)
    try:
        return trainer._validation_losses().mean()
    finally:
        del trainer.plan_


def test_two_targets_and_few_tasks():
    X, y, groups = PAST
    both = trained(past=(X, np.column_stack([y, 2 * y + X[:, 0]]), groups)).estimator_
    assert np.isfinite(both.fit(X[:5], np.column_stack([y, y])[:5]).predict(X[:3])).all()
    few = groups < np.unique(groups)[4]
    told = trained(past=(X[few], y[few], groups[few])).estimator_.fit(X[:3], y[:3])
    assert np.isfinite(told.predict(X, return_std=True)).all()


def test_other_methods_have_nothing_to_learn_so():
    assert len(trained(MAMLRegressor(encoder="mlp", n_steps=1)).history) == 3


# ------------------------------------------------------------------ classification
def normal_classes(n_classes, seed, n=12, useless=12, d=18):
    """Normal classes around their means, in some of the features."""
    rng = np.random.default_rng(seed)
    means = 1.5 * rng.normal(size=(n_classes, 1, d)) * (np.arange(d) >= useless)
    X = means + rng.normal(size=(n_classes, n, d))
    return X.reshape(-1, d) * 10.0 + 1e3, np.repeat(np.arange(n_classes), n)


def learned(estimator=None, groups=None, n_classes=24, **params):
    trainer = MetaTrainer(estimator or RidgeHeadClassifier(), **FEW | {"n_way": 3} | params)
    X, y = normal_classes(n_classes, 0)
    return trainer.fit(X, y, groups=None if groups is None else y // groups)


@pytest.mark.parametrize("groups", [None, 4], ids=["classes of a pool", "classes of groups"])
def test_penalties_of_useless_features_are_higher(groups):
    trainer = learned(groups=groups)
    assert len(trainer.history) == 1
    penalties = trainer.meta_init_.tensors["log_precision"]
    assert np.isfinite(penalties).all()
    assert penalties[:12].min() > penalties[12:18].max()


def test_scale_and_level_are_most_likely_for_the_queries():
    trainer = learned(n_episodes=40, validation_fraction=0)
    learner, plan = trainer.module_, PastTasks(trainer, *normal_classes(24, 0), None, True)

    def loss():
        found = [
            float(learner.training_loss(**batch, y_query=q)[0])
            for batch, q in plan._batches(learner, learner.x_mean.device, plan.train)
        ]
        return np.average(found, weights=[32, 8])

    with torch.no_grad():
        least = loss()
        for parameter in learner.learned_at_once():
            for change in (-1.5, 1.5):
                parameter += change
                assert loss() > least
                parameter -= change


def test_it_is_better_than_where_it_starts(margin):
    X, y = normal_classes(30, 1)
    asked = {"n_way": 3, "n_shot": 4, "n_query": 6, "n_episodes": 200, "random_state": 0}
    kinds = {"scoring": "neg_log_loss"} | asked
    with_it = few_shot_score(learned().estimator_, X, y, **kinds).mean
    without = few_shot_score(learned(max_epochs=0).estimator_, X, y, **kinds).mean
    margin.above(with_it - without, 0.02)


def test_classes_that_are_given_alpha_are_trained_on_episodes():
    assert len(learned(RidgeHeadClassifier(alpha=1.0)).history) == 3


def test_episodes_of_any_number_of_classes_and_few_of_them():
    trainer = learned(n_way=(2, 4), n_shot=(1, 3), n_query=None, n_classes=6)
    assert len(trainer.history) == 1
    for name in ("log_precision", "log_scale"):
        assert np.isfinite(trainer.meta_init_.tensors[name]).all()


def test_other_classifiers_and_goings_on_are_trained_on_episodes():
    assert len(learned(ProtoNetClassifier()).history) == 3
    trainer = learned(keep_best=False)
    X, y = normal_classes(24, 0)
    before = trainer.meta_init_.tensors["log_precision"]
    trainer.partial_fit(X, y)
    assert len(trainer.history) == 1 + 3
    assert not np.array_equal(trainer.meta_init_.tensors["log_precision"], before)


def test_networks_of_classifiers_are_trained_as_before():
    """The same network with and without what is tried at the end, which is taken if better."""
    net = {"encoder": "mlp", "encoder__hidden": (8,)}
    with_it = learned(RidgeHeadClassifier(**net))
    without = learned(RidgeHeadClassifier(**net, alpha=1.0))
    ours, theirs = (t.meta_init_.tensors for t in (with_it, without))
    for name in (name for name in ours if name.startswith("encoder.")):
        np.testing.assert_array_equal(ours[name], theirs[name])
    losses = []
    for trainer in (with_it, without):
        trainer.plan_ = PastTasks(trainer, *normal_classes(24, 0), None, afresh=True)
        losses.append(trainer._validation_losses().mean())
        del trainer.plan_
    assert losses[0] <= losses[1] * (1 + 1e-6)
    assert not np.array_equal(ours["log_precision"], theirs["log_precision"])


def test_targets_that_are_all_alike_are_answered():
    X, _, groups = PAST
    reg = trained(past=(X, np.full(len(X), 3.0), groups)).estimator_
    mean, std = reg.fit(X[:3], [3.0, 3.0, 3.0]).predict(X[:5], return_std=True)
    np.testing.assert_allclose(mean, 3.0)
    assert (std < 1e-3).all()
