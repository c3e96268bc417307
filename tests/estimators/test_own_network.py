"""A user's own network, in all estimators: frozen, unscaled, adapted in part, of integers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSIFIERS, REGRESSORS, every_estimator, meta_train, scores_of
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

import fewshot_sklearn
from fewshot_sklearn import (
    MAMLClassifier,
    MetaEmbedding,
    MetaInit,
    MetaTrainer,
    ProtoNetClassifier,
    few_shot_score,
)
from fewshot_sklearn.tasks import RandomAffine

FEW = {"n_shot": 2, "n_query": 2, "n_episodes": 8, "max_epochs": 2, "lr": 1e-2}
#: Those whose `fit` adapts the encoder, where it is not frozen.
ADAPTING = [
    name
    for name in CLASSIFIERS + REGRESSORS
    if name.startswith(
        ("BOIL", "IMAML", "MAML", "MetaCurvature", "MetaLSTM", "MetaSGD", "ProtoMAML", "Reptile")
    )
]


class Backbone(nn.Module):
    """A network with all that may change without anybody asking for it; it counts its rows."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.drop, self.out, self.rows_seen = nn.Dropout(0.5), nn.Linear(6, 4), [0]

    def forward(self, x):
        self.rows_seen[0] += len(x)
        return self.out(self.drop(torch.relu(self.norm(self.conv(x)))).mean((2, 3)))

    def __deepcopy__(self, memo):
        memo[id(self.rows_seen)] = self.rows_seen  # which all copies share
        made = type(self)()
        for name, value in vars(self).items():
            made.__dict__[name] = copy.deepcopy(value, memo)
        return made


class Words(nn.Module):
    """A network of token ids, which must be of type long."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 5)

    def forward(self, x):
        assert x.dtype == torch.long
        return self.words(x).mean(1)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    net = Backbone()
    with torch.no_grad():
        net.norm.running_mean.normal_()
        net.norm.running_var.uniform_(0.5, 2.0)
    return net


def images(n_classes=8, n_rows=6, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n_rows)
    return rng.normal(3.0, 2.0, (len(y), 3, 8, 8)).astype(np.float32), y


def sentences(n_classes=8, n_rows=6, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n_rows)
    return rng.integers(0, 50, (len(y), 7)), y


def features(net, X):
    net = copy.deepcopy(net).eval()
    with torch.no_grad():
        return net(torch.as_tensor(X)).numpy()


def trained_on(name, X, y, options=None, **params):
    """Meta-trained; of a regression on noise, a task a class."""
    kind = getattr(fewshot_sklearn, name)
    options = FEW | (options or {})
    if name in REGRESSORS:
        target = np.random.default_rng(1).normal(size=len(y))
        return meta_train(kind(**params), X, target, y, **options)
    return meta_train(kind(**params), X, y, n_way=3, **options)


# ------------------------------------------------------------------ frozen
@every_estimator
def test_a_frozen_backbone_gives_its_own_features(name, backbone, tmp_path):
    X, y = images()
    before, state = features(backbone, X), copy.deepcopy(backbone.state_dict())
    kind, target = getattr(fewshot_sklearn, name), y.astype(float) if name in REGRESSORS else y
    alone = kind(encoder=backbone, freeze_encoder=True, random_state=0).fit(X[:12], target[:12])
    np.testing.assert_allclose(alone.embed(X), before, atol=1e-6)
    backbone.rows_seen[0] = 0
    trained = trained_on(name, X, y, encoder=backbone, freeze_encoder=True)
    # each row once; beside that zeros, to see what the network takes
    assert len(X) <= backbone.rows_seen[0] <= len(X) + 16
    np.testing.assert_allclose(trained.embed(X), before, atol=1e-6)
    trained.fit(X[:12], target[:12])
    np.testing.assert_allclose(trained.embed(X), before, atol=1e-6)
    assert not [key for key in trained.meta_init.tensors if key.startswith("encoder.")]
    path = tmp_path / "head.safetensors"
    trained.meta_init.save(path)
    loaded = kind(path, encoder=backbone).fit(X[:12], target[:12])
    np.testing.assert_allclose(loaded.embed(X), before, atol=1e-6)
    np.testing.assert_array_equal(scores_of(loaded, X), scores_of(trained, X))
    again = pickle.loads(pickle.dumps(trained))
    np.testing.assert_array_equal(scores_of(again, X), scores_of(trained, X))
    assert all(torch.equal(state[key], t) for key, t in backbone.state_dict().items())
    assert backbone.training and all(p.requires_grad for p in backbone.parameters())


def test_what_is_trained_on_kept_features_is_what_is_trained_on_rows(backbone):
    X, y = images()

    def same(X, rng):
        return X

    kept, computed = (
        trained_on("ProtoNetClassifier", X, y, {"augment": augment}, encoder=backbone,
                   freeze_encoder=True, metric="cosine")
        for augment in (None, same)
    )  # fmt: skip
    for key, t in kept.meta_init.tensors.items():
        np.testing.assert_allclose(t, computed.meta_init.tensors[key], rtol=1e-4, atol=1e-6)


def test_other_weights_beneath_a_head_are_refused(backbone):
    X, y = images()
    trained = trained_on("RidgeHeadClassifier", X, y, encoder=backbone, freeze_encoder=True)
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="on top of an encoder with other weights"):
        clone(trained).set_params(encoder=Backbone()).fit(X[:12], y[:12])


def test_a_frozen_backbone_in_the_tools_of_scikit_learn(backbone):
    X, y = images()
    trained = trained_on("ProtoNetClassifier", X, y, encoder=backbone, freeze_encoder=True)
    search = GridSearchCV(clone(trained), {"metric": ["euclidean", "cosine"]}, cv=2)
    assert search.fit(X[:12], y[:12]).best_estimator_.freeze_encoder
    features_of = MetaEmbedding(trained.meta_init, encoder=backbone).fit_transform(X)
    np.testing.assert_allclose(features_of, features(backbone, X), atol=1e-6)
    few = {"n_way": 3, "n_shot": 2, "n_query": 2, "n_episodes": 4, "random_state": 0}
    assert 0 <= few_shot_score(trained, X, y, **few).mean <= 1


def test_going_on_from_a_head_leaves_the_backbone_to_the_user(backbone):
    X, y = images()
    trained = trained_on("RidgeHeadClassifier", X, y, encoder=backbone, freeze_encoder=True)
    further = meta_train(trained, X, y, n_way=3, **FEW)
    np.testing.assert_allclose(further.embed(X), features(backbone, X), atol=1e-6)
    assert not [key for key in further.meta_init.tensors if key.startswith("encoder.")]


def test_thawing_trains_all_and_keeps_all(backbone):
    X, y = images()
    trained = trained_on("ProtoNetClassifier", X, y, encoder=backbone, freeze_encoder=True)
    thawed = meta_train(clone(trained).set_params(freeze_encoder=False), X, y, n_way=3, **FEW)
    assert np.abs(thawed.embed(X) - features(backbone, X)).max() > 1e-3
    kept = {k for k in thawed.meta_init.tensors if k.startswith("encoder.")}
    assert kept == {f"encoder.{k}" for k in backbone.state_dict()}
    # and freezing it there keeps what was learned, not what the user has
    frozen = meta_train(clone(thawed).set_params(freeze_encoder=True), X, y, n_way=3, **FEW)
    np.testing.assert_allclose(frozen.embed(X), thawed.embed(X), atol=1e-6)


def test_a_named_encoder_can_be_frozen_where_it_was_learned():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(48, 5)), np.repeat(np.arange(8), 6)
    learned = trained_on("ProtoNetClassifier", X, y, encoder="mlp")
    options = {"encoder_from": learned.meta_init}
    head = trained_on("RidgeHeadClassifier", X, y, options, encoder="mlp", freeze_encoder=True)
    for key, t in learned.meta_init.tensors.items():
        if key.startswith("encoder."):
            np.testing.assert_array_equal(head.meta_init.tensors[key], t)
    np.testing.assert_allclose(head.embed(X), learned.embed(X), atol=1e-6)


def test_what_categories_are_like_is_learned_before_a_frozen_encoder():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(8), 6)
    table = pd.DataFrame({"size": rng.normal(size=48), "town": rng.integers(0, 20, 48).astype(str)})
    start, trained = (
        trained_on("ProtoNetClassifier", table, y, {"max_epochs": epochs}, encoder="mlp",
                   encoder__dropout=0.5, freeze_encoder=True).meta_init.tensors
        for epochs in (0, 2)
    )  # fmt: skip
    moved = {key for key, t in trained.items() if np.abs(t - start[key]).max() > 0}
    assert {key for key in moved if key.startswith("encoder.")} == {"encoder.rows.likenesses.0"}


def test_a_resumed_training_of_a_head_is_the_same(backbone, tmp_path):
    X, y = images()
    made = ProtoNetClassifier(encoder=backbone, freeze_encoder=True, metric="cosine")
    options = FEW | {"n_way": 3, "verbose": 0, "random_state": 0, "device": "cpu"}
    whole = MetaTrainer(made, **options | {"max_epochs": 4}).fit(X, y)
    path = tmp_path / "checkpoint"
    MetaTrainer(made, **options, checkpoint=path).fit(X, y)
    resumed = MetaTrainer(made, **options | {"max_epochs": 4}, checkpoint=path).fit(X, y)
    assert resumed.meta_init_.tensors["log_scale"] == whole.meta_init_.tensors["log_scale"]
    assert path.stat().st_size < 40_000
    more = whole.partial_fit(X, y)
    np.testing.assert_allclose(more.estimator_.embed(X), features(backbone, X), atol=1e-6)


# ------------------------------------------------------------------ in part
def with_an_adapter(seed):
    """A stand-in for what peft makes: a fixed network, and a low-rank change of one layer."""

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.base = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh())
            self.base.requires_grad_(False)
            torch.manual_seed(seed)
            self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 8, bias=False)

        def forward(self, x):
            return self.base(x) + self.up(self.down(x))

    return Adapted()


@every_estimator
def test_of_an_adapted_network_the_adapter_is_trained_and_saved_alone(name, tmp_path):
    rng, y = np.random.default_rng(0), np.repeat(np.arange(8), 6)
    X, net = rng.normal(size=(48, 6)).astype(np.float32), with_an_adapter(1)
    trained = trained_on(name, X, y, encoder=net)
    kept = {k for k in trained.meta_init.tensors if k.startswith("encoder.")}
    assert kept == {"encoder.down.weight", "encoder.up.weight"}
    learner = trained._rebuild(trained.meta_init)
    for key, t in net.base.state_dict().items():
        assert torch.equal(learner.encoder.base.state_dict()[key], t)
    moved = learner.encoder.up.weight - net.up.weight
    assert moved.abs().max() > 1e-6
    target = y.astype(float) if name in REGRESSORS else y
    told = scores_of(trained.fit(X[:12], target[:12]), X)
    trained.meta_init.save(tmp_path / "adapter.safetensors")
    fresh = type(trained)(tmp_path / "adapter.safetensors", encoder=with_an_adapter(2))
    np.testing.assert_array_equal(scores_of(fresh.fit(X[:12], target[:12]), X), told)


@pytest.mark.parametrize("name", ADAPTING)
def test_steps_of_adaptation_leave_alone_what_needs_no_gradient(name):
    X = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    y = np.repeat(np.arange(3), 4)
    made = getattr(fewshot_sklearn, name)(encoder=with_an_adapter(1), random_state=0)
    made.fit(X, y.astype(float) if name in REGRESSORS else y)
    adapted = {key for key in made.state_ if key.startswith("encoder.")}
    assert adapted == {"encoder.down.weight", "encoder.up.weight"}
    frozen = clone(made).set_params(freeze_encoder=True)
    frozen.fit(X, y.astype(float) if name in REGRESSORS else y)
    assert not {key for key in frozen.state_ if key.startswith("encoder.")}


@pytest.mark.parametrize("name", ADAPTING)
def test_layers_that_need_no_gradient_stay_where_tasks_are_vmapped(name):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
    net[0].requires_grad_(False)
    X, y = np.random.default_rng(0).normal(size=(48, 6)), np.repeat(np.arange(8), 6)
    trained = trained_on(name, X, y, encoder=net)
    learner = trained._rebuild(trained.meta_init)
    assert learner.vmaps and torch.equal(learner.encoder[0].weight, net[0].weight)
    assert (learner.encoder[2].weight - net[2].weight).abs().max() > 1e-6
    trained.fit(X[:12], y[:12].astype(float) if name in REGRESSORS else y[:12])
    adapted = {key for key in trained.state_ if key.startswith("encoder.")}
    assert adapted == {"encoder.2.weight", "encoder.2.bias"}


def test_a_network_wrapped_by_peft(tmp_path):
    peft = pytest.importorskip("peft")

    def wrapped(seed):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
        torch.manual_seed(seed)
        return peft.get_peft_model(net, peft.LoraConfig(target_modules=["0", "2"], r=2))

    X = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)
    y = np.repeat(np.arange(8), 6)
    trained = trained_on("ProtoNetClassifier", X, y, encoder=wrapped(1))
    kept = [key for key in trained.meta_init.tensors if key.startswith("encoder.")]
    assert kept and all("lora_" in key for key in kept)
    told = trained.fit(X[:12], y[:12]).predict_proba(X)
    trained.meta_init.save(tmp_path / "lora.safetensors")
    fresh = ProtoNetClassifier(tmp_path / "lora.safetensors", encoder=wrapped(2))
    np.testing.assert_array_equal(fresh.fit(X[:12], y[:12]).predict_proba(X), told)


# ------------------------------------------------------------------ scale
@every_estimator
def test_rows_are_not_scaled_before_a_network_that_brings_its_weights(name, backbone):
    X, y = images()
    trained = trained_on(name, X, y, {"max_epochs": 0}, encoder=backbone, freeze_encoder=True)
    assert trained.meta_init.tensors["x_scale"] == 1
    np.testing.assert_allclose(trained.embed(X), features(backbone, X), atol=1e-6)


def test_scaling_can_be_asked_for_and_left_out():
    rng = np.random.default_rng(0)
    X, y = 100 + 5 * rng.normal(size=(48, 5)).astype(np.float32), np.repeat(np.arange(8), 6)
    net = nn.Linear(5, 3)

    def scale_of(**params):
        trained = trained_on("ProtoNetClassifier", X, y, {"max_epochs": 0}, **params)
        return trained.meta_init.tensors["x_scale"].mean(), trained.meta_init.inputs

    assert scale_of(encoder=net) == (1.0, {"scaled": False})
    assert scale_of(encoder="mlp", scale_inputs=False) == (1.0, {"scaled": False})
    for params in ({"encoder": net, "scale_inputs": True}, {"encoder": "mlp"}):
        scale, inputs = scale_of(**params)
        assert 3 < scale < 7 and inputs == {}


# ------------------------------------------------------------------ integers
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, np.int64) for name in CLASSIFIERS + REGRESSORS),
        ("ProtoNetClassifier", np.int32), ("MAMLRegressor", np.uint16),
    ],
)  # fmt: skip
def test_integers_reach_the_encoder_as_integers(name, dtype):
    X, y = sentences()
    net = Words()  # which asserts it
    target = y.astype(float) if name in REGRESSORS else y
    fresh = getattr(fewshot_sklearn, name)(encoder=net, random_state=0)
    fresh.fit(X[:12].astype(dtype), target[:12]).predict(X.astype(dtype))
    trained = trained_on(name, X.astype(dtype), y, encoder=net)
    assert trained.meta_init.inputs["integers"] and trained.meta_init.tensors["x_scale"].max() == 1
    told = scores_of(trained.fit(X[:12].astype(dtype), target[:12]), X.astype(dtype))
    # whole numbers of another type are the same ids
    np.testing.assert_array_equal(scores_of(trained, X.astype(float)), told)
    with pytest.raises(ValueError, match="X must hold whole numbers"):
        trained.predict(X + 0.5)
    learner = trained._rebuild(trained.meta_init)
    np.testing.assert_allclose(trained.embed(X), features(learner.encoder, X), atol=1e-6)


@pytest.mark.parametrize("freeze_encoder", [False, True])
def test_large_ids_stay_themselves(freeze_encoder):
    class Parity(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.factor * torch.nn.functional.one_hot(x[:, 0] % 2, 2)

    X = 2**40 + np.arange(48)[:, None] * 3
    y = X[:, 0] % 2
    trained = trained_on(
        "ProtoNetClassifier", X, y, {"validation_fraction": 0, "n_query": 4},
        encoder=Parity(), freeze_encoder=freeze_encoder,
    )  # fmt: skip
    assert trained.fit(X[:4], y[:4]).score(X, y) == 1.0


def test_integers_are_numbers_to_networks_that_take_no_others():
    X, y = sentences()
    made = ProtoNetClassifier(encoder=nn.Linear(7, 3), random_state=0).fit(X, y)
    np.testing.assert_allclose(made.embed(X), made.embed(X.astype(float)), rtol=1e-6)


def test_ids_cannot_be_scaled_nor_altered_like_images():
    X, y = sentences()
    with pytest.raises(ValueError, match="scale_inputs=True scales rows, but these are integers"):
        ProtoNetClassifier(encoder=Words(), scale_inputs=True).fit(X, y)
    with pytest.raises(ValueError, match="augment must be a function"):
        ProtoNetClassifier(encoder=Words(), n_augment=2).fit(X, y)

    def noise(X, rng):
        return X + rng.normal(size=X.shape)

    for augment in (noise, RandomAffine()):
        with pytest.raises(ValueError, match=r"whole numbers|not images"):
            ProtoNetClassifier(encoder=Words(), n_augment=2, augment=augment).fit(X, y)
        with pytest.raises(ValueError, match=r"whole numbers|not images"):
            trained_on("ProtoNetClassifier", X, y, {"augment": augment}, encoder=Words())

    def other_words(X, rng):
        return rng.permuted(X, axis=1)

    made = ProtoNetClassifier(encoder=Words(), n_augment=2, augment=other_words)
    made.fit(X, y).predict(X)
    trained_on("ProtoNetClassifier", X, y, {"augment": other_words}, encoder=Words())


def test_ids_that_the_network_does_not_know_are_told_of():
    X, y = sentences()
    with pytest.raises(ValueError, match="whole numbers that the encoder Words does not look up"):
        trained_on("ProtoNetClassifier", X + 100, y, encoder=Words())


def test_generated_tasks_of_integers():
    def generate(rng):
        X, y = sentences(3, 4, int(rng.integers(1000)))
        return X[::2], y[::2], X[1::2], y[1::2]

    options = {"n_episodes": 4, "max_epochs": 1, "verbose": 0, "random_state": 0, "device": "cpu"}
    trainer = MetaTrainer(MAMLClassifier(encoder=Words(), n_steps=1), **options).fit(generate)
    assert trainer.meta_init_.inputs["integers"]


def test_old_meta_inits_say_nothing_of_rows_and_still_load(trained):
    init = trained["ProtoNetClassifier"].meta_init
    assert init.inputs == {} and "inputs" not in init.spec
    assert MetaInit.from_state(init.state_dict(), init.spec).digest != ""
