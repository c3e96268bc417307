"""Evolution strategies: the gradient estimate, and meta-training of what has no gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.base import clone
from torch import nn

from fewshot_sklearn import (
    ESMetaTrainer,
    MAMLRegressor,
    MetaTrainer,
    RidgeHeadRegressor,
    few_shot_score,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.estimators import FewShotClassifier
from fewshot_sklearn.learners import FeatureLearner, present_classes

FIXED = {"validation_fraction": 0, "random_state": 0, "verbose": 0, "device": "cpu"}


# ------------------------------------------------------------------ a learner without gradients
class SignVote(FeatureLearner):
    """Signs of a linear map of the features; a query has the class of the nearest signs."""

    def __init__(self, encoder, input_shape, n_outputs=None):
        super().__init__(encoder, input_shape, n_outputs)
        self.project = nn.Linear(self.n_features, 16)
        self.unused = nn.Parameter(torch.ones(3), requires_grad=False)

    def adapt_features(self, Z, y, w):
        return {"signs": self.project(Z).sign(), "y": y, "w": w, "present": present_classes(y, w)}

    def predict_features(self, state, Z):
        close = self.project(Z).sign() @ state["signs"].mT
        close = close.masked_fill(state["w"][..., None, :] <= 0, -torch.inf)
        nearest = nn.functional.one_hot(close.argmax(-1), close.shape[-1]).to(Z.dtype)
        return (10 * nearest @ state["y"]).masked_fill(~state["present"][..., None, :], -torch.inf)


class SignVoteClassifier(FewShotClassifier):
    _learner_class = SignVote

    def __init__(
        self, meta_init=None, *, encoder=None, device="auto", dtype=None, random_state=None, **more
    ):
        self.meta_init, self.encoder, self.device = meta_init, encoder, device
        self.dtype, self.random_state = dtype, random_state
        self._set_encoder_params(more)


def error_rate(outputs, y_query):
    return (outputs.argmax(-1) != y_query).float().mean()


def noisy_classes(labels, seed):
    """Classes that differ in 4 columns, among 12 louder ones that say nothing."""
    rng = np.random.default_rng(seed)
    y = np.repeat(labels, 30)
    told = rng.normal(size=(len(labels), 4)).repeat(30, 0) + 0.3 * rng.normal(size=(len(y), 4))
    return np.hstack([told, 2 * rng.normal(size=(len(y), 12))]), y


VOTES = {"n_way": 5, "n_shot": 1, "n_query": 5, "n_episodes": 160, "batch_size": 32} | FIXED


@pytest.mark.parametrize("weighting", ["softmax", "ranks"])
def test_improves_a_learner_without_gradients_on_new_classes(weighting, margin):
    """Nor has the criterion a gradient."""
    past, new = noisy_classes(range(40), 0), noisy_classes(range(100, 120), 1)
    options = VOTES | {"criterion": error_rate, "weighting": weighting}
    estimator = SignVoteClassifier(random_state=0)
    scores = []
    for n_epochs in (0, 8):
        trainer = ESMetaTrainer(
            estimator, n_perturbations=16, lr=0.02, max_epochs=n_epochs, **options
        ).fit(*past)
        scores.append(few_shot_score(trainer.estimator_, *new, n_way=5, n_episodes=300))
    untrained, trained = scores
    gain, doubt = trained.mean - untrained.mean, np.hypot(trained.ci95, untrained.ci95)
    margin.above(gain / doubt, 2)
    assert np.array_equal(trainer.meta_init_.tensors["unused"], np.ones(3))  # requires no gradient


def test_gradients_cannot_train_it():
    trainer = MetaTrainer(SignVoteClassifier(random_state=0), max_epochs=1, **VOTES)
    with pytest.raises(RuntimeError, match="does not require grad"):
        trainer.fit(*noisy_classes(range(40), 0))


# ------------------------------------------------------------------ sinusoids
WAVES = {"n_shot": 10, "n_query": 15, "batch_size": 25, "n_episodes": 100} | FIXED
NET = {"encoder": "mlp", "encoder__hidden": (16, 16), "encoder__activation": "tanh"}
MAML = MAMLRegressor(**NET, n_steps=3, inner_lr=0.05, random_state=0)


@pytest.fixture(scope="module")
def sinusoids():
    past = make_sinusoid_tasks(200, n_shot=10, n_query=15, random_state=0)
    return past.data, past.target, past.groups


def test_maml_improves_on_new_sinusoids(sinusoids, margin):
    new = make_sinusoid_tasks(50, n_shot=10, n_query=15, random_state=1)
    asked = {"n_way": None, "n_shot": 10, "n_episodes": 100, "scoring": "neg_mean_squared_error"}
    errors = []
    for n_epochs in (0, 16):
        options = WAVES | {"max_epochs": n_epochs, "lr": 0.05}
        trainer = ESMetaTrainer(MAML, n_perturbations=16, **options).fit(*sinusoids)
        score = few_shot_score(trainer.estimator_, new.data, new.target, new.groups + 200, **asked)
        errors.append(-score.mean)
    margin.below(errors[1] / errors[0], 0.9)


# ------------------------------------------------------------------ the estimate
class KeepGradients(torch.optim.SGD):
    """Does not move, and remembers the gradients of each step."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.seen = []

    def step(self, closure=None):
        loss = closure()
        grads = [p.grad for p in self.param_groups[0]["params"] if p.grad is not None]
        self.seen.append(torch.cat([g.flatten() for g in grads]).double())
        return loss


def gradients(make, data, estimator=MAML, **options):
    """Gradients of the steps of one epoch, in which nothing moves."""
    few = WAVES | {"optimizer": KeepGradients, "max_epochs": 1, "n_episodes": 25}
    trainer = make(estimator, **(few | options)).fit(*data)
    return trainer.optimizer_.seen, trainer


def test_linear_estimate_converges_to_the_gradient_of_a_tiny_learner(sinusoids, margin):
    tiny = MAMLRegressor(encoder="mlp", encoder__hidden=(3,), n_steps=2, random_state=0)
    tiny = tiny.set_params(encoder__activation="tanh")
    true = gradients(MetaTrainer, sinusoids, tiny)[0][0]
    errors = []
    for n in (20, 1000):
        options = {"n_perturbations": n, "sigma": 1e-2, "weighting": "linear"}
        found = gradients(ESMetaTrainer, sinusoids, tiny, **options)[0][0]
        errors.append(((found - true).norm() / true.norm()).item())
    # the mean of n directions in d dimensions is off by about sqrt(d / n)
    bound = 2 * np.sqrt(len(true) / 1000)
    margin.below(errors[1] / bound, 1, "of 1000 directions")
    margin.above(np.log(errors[0] / bound), 0, "of 20, logarithm")


def quadratic_losses(sigma, noise, curvature, theta):
    def f(t):
        return 0.5 * ((t * curvature) * t).sum(-1)

    return np.stack([f(theta + sigma * noise), f(theta - sigma * noise)], 1)


def test_linear_estimate_of_a_quadratic():
    """E[g] is the gradient exactly, whatever sigma: smoothing shifts a quadratic by a constant."""
    rng = np.random.default_rng(0)
    curvature, theta = np.array([1.0, 3.0, 0.5]), np.array([1.0, -2.0, 4.0])
    noise = rng.normal(size=(40_000, 3))
    trainer = ESMetaTrainer(MAML, sigma=0.7, weighting="linear")
    c = trainer._coefficients(quadratic_losses(0.7, noise, curvature, theta))
    np.testing.assert_allclose(c @ noise, curvature * theta, atol=0.15)


def test_softmax_estimate_by_the_formula():
    rng = np.random.default_rng(0)
    losses, noise = rng.normal(size=(6, 2)), rng.normal(size=(6, 4))
    everyone, d = losses.T.ravel(), np.concatenate([noise, -noise])
    p = softmax(-(everyone - everyone.mean()) / everyone.std() / 0.5)
    expected = -(everyone.std() * 0.5 / 0.1) * ((p - p.mean())[:, None] * d).sum(0)
    trainer = ESMetaTrainer(MAML, sigma=0.1, temperature=0.5)
    np.testing.assert_allclose(trainer._coefficients(losses) @ noise, expected, rtol=1e-10)


def test_estimate_of_ranks_by_the_formula():
    """Only the order of losses counts; equal ones count the same."""
    losses = np.array([[1.0, 2.0], [2.0, 7.0], [0.0, 3.0]])
    ranks = (rankdata(losses.ravel()).reshape(3, 2) - 1) / 5 - 0.5
    trainer = ESMetaTrainer(MAML, sigma=0.1, weighting="ranks")
    expected = (ranks[:, 0] - ranks[:, 1]) / (2 * 3 * 0.1)
    np.testing.assert_allclose(trainer._coefficients(losses), expected, rtol=1e-12)
    np.testing.assert_array_equal(
        trainer._coefficients(np.exp(losses)), trainer._coefficients(losses)
    )


def test_softmax_estimate_becomes_linear_as_the_temperature_grows():
    losses = np.random.default_rng(0).normal(size=(6, 2))
    linear = ESMetaTrainer(MAML, weighting="linear")._coefficients(losses)
    hot = ESMetaTrainer(MAML, temperature=1e5)._coefficients(losses)
    mild = ESMetaTrainer(MAML, temperature=1.0)._coefficients(losses)
    np.testing.assert_allclose(hot, linear, rtol=1e-3)
    assert np.abs(mild - linear).max() > 0.1 * np.abs(linear).max()


@pytest.mark.parametrize("weighting", ["softmax", "linear", "ranks"])
def test_losses_that_are_not_finite_count_as_the_worst(weighting):
    trainer = ESMetaTrainer(MAML, weighting=weighting)
    broken, worst = np.array([[1.0, np.nan], [2.0, 3.0]]), np.array([[1.0, 3.0], [2.0, 3.0]])
    np.testing.assert_array_equal(trainer._coefficients(broken), trainer._coefficients(worst))
    for nothing in (np.full((2, 2), np.nan), np.ones((2, 2))):
        np.testing.assert_array_equal(trainer._coefficients(nothing), 0)


# ------------------------------------------------------------------ the trainer
def test_train_loss_is_that_of_the_unperturbed_parameters(sinusoids):
    _, ours = gradients(ESMetaTrainer, sinusoids, n_perturbations=2, sigma=0.5)
    _, theirs = gradients(MetaTrainer, sinusoids)
    assert ours.history[0, "train_loss"] == pytest.approx(theirs.history[0, "train_loss"], rel=1e-5)
    for name, tensor in ours.meta_init_.tensors.items():  # put back to the last bit
        np.testing.assert_array_equal(tensor, theirs.meta_init_.tensors[name])


@pytest.mark.parametrize("weighting", ["softmax", "linear", "ranks"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_noise_is_new_at_each_step_and_the_same_for_all_chunks(
    sinusoids, weighting, dropout, margin
):
    options = {"n_perturbations": 3, "weighting": weighting, "n_episodes": 50}
    estimator = clone(MAML).set_params(encoder__dropout=dropout)
    whole, _ = gradients(ESMetaTrainer, sinusoids, estimator, chunk_size=None, **options)
    margin.below(torch.nn.functional.cosine_similarity(*whole, dim=0), 0.9)
    if not dropout:
        parts, _ = gradients(ESMetaTrainer, sinusoids, estimator, chunk_size=7, **options)
        for one, other in zip(whole, parts, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


def test_perturbations_share_dropout(sinusoids, monkeypatch, margin):
    """With sigma next to nothing, masks of their own would make enormous differences of losses."""
    estimator = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(8,), encoder__dropout=0.5)
    options = {"n_perturbations": 4, "weighting": "linear", "sigma": 1e-3}
    shared, _ = gradients(ESMetaTrainer, sinusoids, estimator, **options)
    monkeypatch.setattr(ESMetaTrainer, "_begin_chunk", lambda self, first: None)
    of_their_own, _ = gradients(ESMetaTrainer, sinusoids, estimator, **options)
    margin.below(shared[0].norm() / of_their_own[0].norm(), 0.2)


def test_resumed_run_is_the_uninterrupted_one(sinusoids, tmp_path):
    options = WAVES | {"n_perturbations": 3, "checkpoint": tmp_path / "es.pt"}
    ESMetaTrainer(MAML, max_epochs=1, **options).fit(*sinusoids)
    resumed = ESMetaTrainer(MAML, max_epochs=3, **options).fit(*sinusoids)
    straight = ESMetaTrainer(MAML, max_epochs=3, **(options | {"checkpoint": None}))
    straight.fit(*sinusoids)
    assert resumed.history[:, "train_loss"] == straight.history[:, "train_loss"]
    assert resumed.meta_init_.digest == straight.meta_init_.digest
    with pytest.raises(ValueError, match="other settings"):
        ESMetaTrainer(MAML, max_epochs=3, **(options | {"sigma": 0.1})).fit(*sinusoids)


def test_parameters():
    trainer = ESMetaTrainer(MAML, n_perturbations=7, lr=0.5, optimizer__weight_decay=0.1)
    copied = clone(trainer)
    params = copied.get_params()
    assert (params["n_perturbations"], params["lr"], params["sigma"]) == (7, 0.5, 0.05)
    assert params["optimizer__weight_decay"] == 0.1 and params["estimator__n_steps"] == 3
    assert copied.set_params(temperature=2.0, estimator__n_steps=1).temperature == 2.0
    assert MAML.n_steps == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_perturbations", 0), ("sigma", 0.0), ("temperature", -1), ("weighting", "rank")],
)
def test_wrong_parameters(sinusoids, name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        ESMetaTrainer(MAML, **(WAVES | {name: value})).fit(*sinusoids)
