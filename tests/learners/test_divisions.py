"""Episodes whose rows are divided into support and queries in more than one way."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import every_estimator

from fewshot_sklearn import (
    MAMLClassifier,
    MatchingNetClassifier,
    MetaTrainer,
    NearestClassMeanClassifier,
    NeuralProcessRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    SiameseClassifier,
)
from fewshot_sklearn.algorithms.protonet import ProtoNet
from fewshot_sklearn.encoders import Identity
from fewshot_sklearn.learners.divisions import divided_loss, divisions
from fewshot_sklearn.tasks import memberships


def an_episode():
    """Classes of 1 + 3, of 2 + 1 and of 1 + 0 rows, one row without a label, and padding."""
    codes = torch.tensor([[0, 1, 1, 2, -1, -100]])
    w = torch.tensor([[1.0, 1, 1, 1, 1, 0]])
    y_query = torch.tensor([[0, 0, 1, 0, -100]])
    return memberships(codes, 3, torch.float32), w, y_query


def test_rows_move_within_their_class():
    y, w, y_query = an_episode()
    places = divisions(y, w, y_query, 4)[:, 0]
    assert places[0].tolist() == list(range(11))
    all_codes = np.array([0, 1, 1, 2, -1, -1, 0, 0, 1, 0, -1])
    for division in places.numpy():
        assert sorted(division) == list(range(11))
        assert (all_codes[division] == all_codes).all()
        assert (division[[4, 5, 10]] == [4, 5, 10]).all()
    assert sorted(places[:, 0].tolist()) == [0, 6, 7, 9]  # each is the support row once


def test_the_loss_is_the_mean_over_the_divisions():
    torch.manual_seed(0)
    y, w, y_query = an_episode()
    learner = ProtoNet(Identity((2,)), (2,))
    X, X_query = torch.randn(1, 6, 2), torch.randn(1, 5, 2)
    rows = torch.cat([X, X_query], 1)

    def loss(batch, y_query):
        return learner.training_loss(**batch, y_query=y_query)

    batch = {"X": X, "y": y, "w": w, "X_query": X_query}
    value, outputs = divided_loss(learner, batch, y_query, 4, loss)
    each = []
    for places in divisions(y, w, y_query, 4)[:, 0]:
        moved = rows[:, places]
        each.append(loss(batch | {"X": moved[:, :6], "X_query": moved[:, 6:]}, y_query)[0])
    torch.testing.assert_close(value, torch.stack(each).mean())
    torch.testing.assert_close(outputs, learner(**batch))
    assert not learner.given_features


@every_estimator
def test_rows_that_are_embedded_before_are_what_they_were(trained, name):
    """What a learner makes of features is what it makes of their rows, if it says so."""
    learner = deepcopy(trained[name]._rebuild(trained[name].meta_init)).float()
    if not learner.looks_at_features:
        assert learner.adapts_encoder or name == "TADAMClassifier"
        return
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(2, 14, *trained[name].meta_init.spec["input_shape"], generator=generator)
    batch = {"X": rows[:, :6], "w": torch.ones(2, 6), "X_query": rows[:, 6:]}
    if learner.n_outputs is None:
        codes = (torch.arange(14) % 3).expand(2, -1)
        batch["y"], y_query = memberships(codes[:, :6], 3, torch.float32), codes[:, 6:]
    else:
        y = torch.rand(2, 14, 1, generator=generator)
        batch["y"], y_query = y[:, :6], y[:, 6:]

    def loss(batch, y_query):
        torch.manual_seed(0)  # some methods draw codes of classes
        return learner.training_loss(**batch, y_query=y_query)

    with torch.no_grad():
        expected, outputs = loss(batch, y_query)
        found, same = divided_loss(learner, batch, y_query, 1, loss)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(*((o,) if torch.is_tensor(o) else o for o in (same, outputs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_targets_go_with_their_rows():
    torch.manual_seed(0)
    n, n_query = 3, 4
    y, y_query = torch.randn(2, n, 1), torch.randn(2, n_query, 1)
    y_query[1, -1] = torch.nan
    seen = []

    class Recorder(torch.nn.Module):
        given_features = False

        def embed_of_tasks(self, X):
            return X

    def loss(batch, y_query):
        seen.append((batch, y_query))
        return y_query.nansum(), y_query

    batch = {"X": y, "y": y, "w": torch.ones(2, n), "X_query": y_query}
    divided_loss(Recorder(), batch, y_query, 3, loss)
    ((found, asked),) = seen
    assert len(asked) == 6
    torch.testing.assert_close(found["X"], found["y"])
    torch.testing.assert_close(found["X_query"], asked, equal_nan=True)


def past():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 8))
    y = np.repeat(np.arange(60), 8)
    X = centres[y] + 0.7 * rng.normal(size=(len(y), 8)) @ rng.normal(size=(8, 8))
    return X.astype(np.float32), y


@pytest.mark.parametrize(
    "estimator",
    [
        ProtoNetClassifier(encoder="mlp"),
        RidgeHeadClassifier(encoder="mlp"),
        MatchingNetClassifier(encoder="mlp", full_context=True),
        SiameseClassifier(encoder="mlp"),
        MAMLClassifier(encoder="mlp", head_only=True),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_methods_that_look_at_features_learn_so(estimator):
    torch.set_num_threads(1)
    X, y = past()
    scores = []
    for n_epochs in (1, 12):
        trainer = MetaTrainer(
            estimator,
            n_way=5,
            n_shot=1,
            n_query=3,
            n_divisions=4,
            n_episodes=64,
            max_epochs=n_epochs,
            lr=3e-3,
            validation_fraction=0,
            random_state=0,
            verbose=0,
        ).fit(X[:400], y[:400])
        losses = trainer.history[:, "train_loss"]
        scores.append(losses[-1])
    assert np.isfinite(scores).all() and scores[1] < scores[0]


def test_regressors_and_validation():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 12)
    X = rng.normal(size=(480, 3)).astype(np.float32)
    y = (X * rng.normal(size=(40, 3))[groups]).sum(1)
    for estimator in (RidgeHeadRegressor(encoder="mlp"), NeuralProcessRegressor()):
        trainer = MetaTrainer(
            estimator,
            n_shot=4,
            n_query=6,
            n_divisions=3,
            n_episodes=32,
            max_epochs=2,
            random_state=0,
            verbose=0,
        ).fit(X, y, groups=groups)
        assert np.isfinite(trainer.history[:, "valid_loss"]).all()


def test_a_user_s_own_criterion_sees_every_division():
    X, y = past()
    seen = []

    def criterion(outputs, y_query):
        seen.append(len(outputs))
        return torch.nn.functional.cross_entropy(outputs.flatten(0, 1), y_query.flatten())

    MetaTrainer(
        ProtoNetClassifier(),
        n_way=4,
        n_shot=1,
        n_query=2,
        n_divisions=3,
        n_episodes=8,
        batch_size=4,
        max_epochs=1,
        validation_fraction=0,
        criterion=criterion,
        random_state=0,
        verbose=0,
    ).fit(X, y)
    assert 12 in seen


@pytest.mark.parametrize("kind", [MAMLClassifier, NearestClassMeanClassifier])
def test_methods_that_cannot_use_them_refuse(kind):
    X, y = past()
    trainer = MetaTrainer(kind(encoder="mlp"), n_divisions=2, max_epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"n_divisions=2.*Set n_divisions=1"):
        trainer.fit(X, y)
