"""Training by telling all past classes apart, with the methods that do so."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from skorch.callbacks import Callback
from torch.nn import functional as F

from fewshot_sklearn import BaselinePlusPlusClassifier, MetaTrainer, NearestClassMeanClassifier
from fewshot_sklearn.tasks import PooledRows

NET = {"encoder": "mlp", "encoder__hidden": (16,)}
KINDS = {
    "nearest mean": NearestClassMeanClassifier,
    "cosine": BaselinePlusPlusClassifier,
    "linear": partial(BaselinePlusPlusClassifier, cosine=False),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
sampler = partial(PooledRows, n_way=3, n_shot=(1, 2), n_query=4)


def classes(n=12, seed=0):
    """(X, y) of classes whose label is the first column of their rows."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n), 8)
    X = 2 * rng.normal(size=(n, 16))[y] + 0.7 * rng.normal(size=(len(y), 16))
    X[:, 0] = y
    return X, y


def trainer(estimator, **options):
    few = {"n_way": 3, "n_shot": 2, "n_query": 3, "n_episodes": 32, "n_valid_episodes": 8}
    fixed = {"max_epochs": 3, "lr": 0.02, "random_state": 3, "verbose": 0, "device": "cpu"}
    fixed["keep_best"] = False
    return MetaTrainer(estimator, **(few | fixed | {"validation_fraction": 0.25} | options))


def noise(X, rng):
    return X + rng.normal(0, 0.1, X.shape)


class Batches(Callback):
    """Keeps the batches of training and of validation."""

    def __init__(self):
        self.seen = {True: [], False: []}

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        self.seen[training].append(batch)


# ------------------------------------------------------------------ the batches
def test_pooled_rows_are_of_all_classes_and_carry_their_codes():
    y = np.array(["c", "a", "d", "b"] * 5)
    pool = sampler(y)
    drawn = pool.draw(np.random.default_rng(0), 50)
    assert pool.n_classes == 4 and pool.n_rows == 3 * (2 + 4)
    assert drawn.support.shape == drawn.support_codes.shape == (50, 0)
    assert drawn.query.shape == (50, 18)
    np.testing.assert_array_equal(np.array(list("abcd"))[drawn.query_codes], y[drawn.query])
    assert set(drawn.query.ravel()) == set(range(20))


@pytest.mark.parametrize("kind", [object, str, float, int])
@pytest.mark.parametrize("group_kind", [None, object, str, float])
def test_pooled_rows_take_labels_of_any_kind(kind, group_kind):
    y = np.array([1, 2, 1, 2, 1, 3]).astype(str if kind is object else kind).astype(kind)
    groups = None
    if group_kind is not None:
        groups = np.array([7, 7, 7, 8, 8, 8])
        groups = groups.astype(str if group_kind is object else group_kind).astype(group_kind)
    pool = sampler(y, groups)
    expected = [0, 1, 0, 1, 0, 2] if groups is None else [0, 1, 0, 3, 2, 4]
    np.testing.assert_array_equal(pool.codes, expected)
    assert pool.n_classes == max(expected) + 1


def test_pooled_rows_where_queries_are_all_that_is_left():
    assert sampler([0, 0, 0, 1, 1, 2], n_query=None).n_rows == 3 * 3


def test_one_class_cannot_be_told_apart():
    with pytest.raises(ValueError, match="all rows are of one class"):
        trainer(NearestClassMeanClassifier(), validation_fraction=0).fit([[0.0], [1.0]], [5, 5])


# ------------------------------------------------------------------ what is trained
@every_kind
def test_a_batch_without_support_is_ordinary_classification(make):
    X, y = classes()
    batches = Batches()
    fitted = trainer(make(**NET), callbacks=[batches]).fit(X, y)
    learner, (batch, codes) = fitted.module_.eval(), batches.seen[True][0]
    assert batch["X"].shape[:2] == (16, 0) and batch["X_query"].shape == (16, 3 * 5, 16)
    t = {name: v.double().numpy() for name, v in learner.state_dict().items()}
    Z = (batch["X_query"].numpy().reshape(-1, 16) - t["x_mean"]) / t["x_scale"]
    Z = np.maximum(Z @ t["encoder.layers.0.weight"].T + t["encoder.layers.0.bias"], 0)
    W = t["past_classes.weight"]
    if isinstance(make, partial) or make is NearestClassMeanClassifier:
        logits = Z @ W.T + t["past_classes.bias"]
    else:
        W = W / np.linalg.norm(W, axis=1, keepdims=True)
        logits = 10 * Z @ W.T / np.maximum(np.linalg.norm(Z, axis=1, keepdims=True), 1e-12)
    expected = -log_softmax(logits, axis=1)[np.arange(len(Z)), codes.flatten()].mean()
    loss, outputs = learner.training_loss(**batch, y_query=codes)
    assert outputs.shape == (16, 15, 9) and codes.max() == 8
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-4)


@every_kind
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("augment", [None, noise])
def test_training_learns_to_tell_the_past_classes_apart(make, grouped, augment, margin):
    X, y = classes()
    groups = y // 4 if grouped else None
    labels = y % 4 if grouped else y  # equal labels in two groups are two classes
    batches = Batches()
    options = {"augment": augment, "validation_fraction": 0, "max_epochs": 12, "lr": 0.05}
    fitted = trainer(make(**NET), callbacks=[batches], **options).fit(X, labels, groups)
    assert fitted.module_.past_classes.weight.shape == (12, 16)
    X_query = torch.cat([batch["X_query"] for batch, _ in batches.seen[True]])
    asked = torch.cat([codes for _, codes in batches.seen[True]])
    if augment is None:
        np.testing.assert_array_equal(X_query[..., 0], asked)
    else:
        assert not torch.equal(X_query[..., 0], asked.float())
        np.testing.assert_allclose(X_query[..., 0], asked, atol=1)
    margin.below(fitted.history[-1, "train_loss"] / fitted.history[0, "train_loss"], 0.2)


def test_a_criterion_of_the_users_own(margin):
    def smooth(outputs, y_query):
        return F.cross_entropy(outputs.flatten(0, 1), y_query.flatten(), label_smoothing=0.3)

    X, y = classes()
    options = {"validation_fraction": 0, "max_epochs": 20, "lr": 0.05}
    plain, smoothed = (
        trainer(NearestClassMeanClassifier(**NET), **options, **own).fit(X, y)
        for own in ({}, {"criterion": smooth})
    )
    margin.below(plain.history[-1, "train_loss"], 0.1, "plain")
    last, first = (smoothed.history[epoch, "train_loss"] for epoch in (-1, 0))
    margin.above(last, 0.5, "smoothed")
    margin.below(last / first, 1, "smoothed, of the first epoch's")


@every_kind
def test_the_last_layer_is_not_in_the_meta_init(make):
    X, y = classes()
    fitted = trainer(make(**NET)).fit(X, y)
    kept, everything = set(fitted.meta_init_.tensors), set(fitted.module_.state_dict())
    dropped = {name for name in everything if name.startswith("past_classes.")}
    assert dropped and kept == everything - dropped
    encoder = "encoder.layers.0.weight"
    untrained = trainer(make(**NET), max_epochs=0).fit(X, y)
    assert not np.array_equal(
        fitted.meta_init_.tensors[encoder], untrained.meta_init_.tensors[encoder]
    )


def test_a_generator_of_tasks_is_refused():
    with pytest.raises(ValueError, match=r"BaselinePlusPlusClassifier .*not a generator"):
        trainer(BaselinePlusPlusClassifier()).fit(lambda rng: None)


# ------------------------------------------------------------------ validation
@every_kind
def test_validation_is_of_few_shot_episodes_of_classes_held_out(make):
    X, y = classes()
    batches = Batches()
    fitted = trainer(make(**NET), callbacks=[batches]).fit(X, y)
    trained_on = {int(v) for b, _ in batches.seen[True] for v in b["X_query"][..., 0].unique()}
    held_out = {int(v) for b, _ in batches.seen[False] for v in b["X_query"][..., 0].unique()}
    assert len(trained_on) == 9 and len(held_out) == 3 and not trained_on & held_out
    batch, codes = batches.seen[False][-1]
    assert batch["X"].shape[1] == 3 * 2 and codes.max() == 2
    if make is not NearestClassMeanClassifier:  # whose centre is learned anew after training
        with torch.no_grad():
            outputs = fitted.module_.eval()(**batch)
        logp = log_softmax(outputs.double().numpy(), axis=-1)
        expected = -np.take_along_axis(logp, codes.numpy()[..., None], -1).mean()
        np.testing.assert_allclose(fitted.history[-1, "valid_loss"], expected, rtol=1e-5)


# ------------------------------------------------------------------ going on
@every_kind
@pytest.mark.parametrize("augment", [None, noise])
def test_a_resumed_training_gives_the_same_weights(tmp_path, make, augment):
    X, y = classes()
    build = partial(trainer, make(**NET, encoder__dropout=0.3), augment=augment)
    whole = build(max_epochs=4).fit(X, y)
    build(max_epochs=2, checkpoint=tmp_path / "c").fit(X, y)
    resumed = build(max_epochs=4, checkpoint=tmp_path / "c").fit(X, y)
    one, other = whole.module_.state_dict(), resumed.module_.state_dict()
    assert list(one) == list(other) and "past_classes.weight" in one
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.history[:, "valid_loss"] == resumed.history[:, "valid_loss"]
    assert whole.meta_init_.digest == resumed.meta_init_.digest


@every_kind
def test_going_on_from_a_meta_init_with_other_classes(make):
    first = trainer(make(**NET)).fit(*classes())
    X, y = classes(20, seed=1)
    untouched = trainer(first.estimator_, max_epochs=0).fit(X, y + 100)
    for name, tensor in first.meta_init_.tensors.items():
        if name.startswith(("encoder.", "x_")):
            np.testing.assert_array_equal(untouched.meta_init_.tensors[name], tensor)
    second = trainer(first.estimator_).fit(X, y + 100)
    assert second.module_.n_past_classes == 15
    assert second.meta_init_.provenance["tasks"]["count"] == 9 + 15
    name = "encoder.layers.0.weight"
    assert not np.array_equal(second.meta_init_.tensors[name], first.meta_init_.tensors[name])


@every_kind
def test_partial_fit_goes_on_with_the_same_classes_only(make):
    X, y = classes()
    whole = trainer(make(**NET), max_epochs=4).fit(X, y)
    parts = trainer(make(**NET), max_epochs=2).partial_fit(X, y).partial_fit(X, y)
    assert len(parts.history) == 4
    for name, tensor in whole.meta_init_.tensors.items():
        np.testing.assert_array_equal(parts.meta_init_.tensors[name], tensor)
    for others in ((X[y < 10], y[y < 10]), (X, y + 1)):
        with pytest.raises(ValueError, match=r"goes on with the past classes"):
            parts.partial_fit(*others)
