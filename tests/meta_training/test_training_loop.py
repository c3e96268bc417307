"""However a batch of tasks is run, in chunks, compiled, rounded or from rows at hand, it teaches
the same."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from fewshot_sklearn import (
    MAMLClassifier,
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.meta_training import _training_loop as training_loop
from fewshot_sklearn.tasks import ArrayTasks, ClassEpisodes, Episodes, pad_tasks

SMALL_MLP = {"encoder": "mlp", "encoder__hidden": (8,)}
SMALL_CONV = {"encoder": "conv4", "encoder__width": 4}
CLASSIFIERS = {
    "ProtoNet, mlp": ProtoNetClassifier(**SMALL_MLP),
    "ProtoNet, conv4": ProtoNetClassifier(**SMALL_CONV),
    "ridge, conv4": RidgeHeadClassifier(**SMALL_CONV),
    "MAML, mlp": MAMLClassifier(**SMALL_MLP, n_steps=2),
    "MAML, conv4": MAMLClassifier(**SMALL_CONV, n_steps=2),
    "MAML of the head, conv4": MAMLClassifier(**SMALL_CONV, n_steps=2, head_only=True),
}
#: Steps after which what differs by rounding still does: later, a row may be across a kink.
TWO_STEPS = {"n_episodes": 16, "max_epochs": 1}

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == digit)[:12] for digit in range(10)])
    return X[rows], y[rows]


def trainer(estimator, **options):
    few = {
        "n_way": 3,
        "n_shot": 2,
        "n_query": 4,
        "n_episodes": 24,
        "batch_size": 8,
        "max_epochs": 2,
    }
    # Adam would blow up what rounding does to gradients that are next to zero
    fixed = {"device": "cpu", "verbose": 0, "random_state": 0, "optimizer": torch.optim.SGD}
    fixed |= {"lr": 0.1, "n_valid_episodes": 8, "validation_fraction": 0.3}
    return MetaTrainer(estimator, **(few | fixed | options))


def assert_taught_the_same(one, other, **tolerance):
    ours, theirs = one.meta_init_.tensors, other.meta_init_.tensors
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], err_msg=name, **tolerance)


# ------------------------------------------------------------------ divergence
def test_steps_whose_gradients_are_not_finite_count_for_nothing():
    # the tenth of steps this large is beyond any float
    wild = MAMLRegressor(**SMALL_MLP, n_steps=10, inner_lr=1e4)
    past = make_sinusoid_tasks(n_shot=5)
    net = trainer(wild, max_epochs=1)
    with pytest.warns(UserWarning, match="diverged.* 3 of 3 steps"):
        net.fit(past)
    untrained = trainer(wild, max_epochs=0).fit(past)
    assert_taught_the_same(net, untrained, rtol=0, atol=0)


def test_one_such_step_harms_no_other():
    past, estimator = make_sinusoid_tasks(n_shot=5), MAMLRegressor(**SMALL_MLP, n_steps=2)
    calls = []

    class OneBadStep(MetaTrainer):
        def _in_chunks(self, batch, **fit_params):
            step = super()._in_chunks(batch, **fit_params)
            calls.append(len(calls))
            if len(calls) == 2:
                next(self.module_.parameters()).grad[0] = torch.nan
            return step

    params = trainer(estimator).get_params(deep=False)
    net = OneBadStep(**{k: v for k, v in params.items() if k != "module"})
    with pytest.warns(UserWarning, match="1 of 3 steps"):
        net.fit(past)
    assert len(calls) == 6
    assert all(np.isfinite(t).all() for t in net.meta_init_.tensors.values())


# ------------------------------------------------------------------ chunks
@pytest.mark.parametrize("chunk_size", [1, 3, None])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_chunks_of_tasks_change_nothing(digits, name, chunk_size):
    one = trainer(CLASSIFIERS[name], **TWO_STEPS).fit(*digits)
    other = trainer(CLASSIFIERS[name], **TWO_STEPS, chunk_size=chunk_size).fit(*digits)
    assert_taught_the_same(one, other, rtol=1e-3, atol=1e-5)
    for key in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(one.history[:, key], other.history[:, key], rtol=1e-4)


def test_ragged_tasks_in_chunks(digits):
    ragged = {"n_way": (2, 5), "n_shot": (1, 4), "n_query": (1, 5)} | TWO_STEPS
    one = trainer(CLASSIFIERS["ProtoNet, mlp"], **ragged).fit(*digits)
    other = trainer(CLASSIFIERS["ProtoNet, mlp"], chunk_size=3, **ragged).fit(*digits)
    assert_taught_the_same(one, other, rtol=1e-3, atol=1e-5)


def test_what_a_processor_takes_at_once():
    shapes = torch.zeros(32, 5, 64), torch.zeros(32, 75, 64)

    def at_once(name):
        learner = CLASSIFIERS[name]._new_learner((64,), None, seed=0)
        return learner.tasks_at_once(*shapes)

    assert at_once("MAML, conv4") == 1
    assert at_once("ProtoNet, conv4") == at_once("MAML of the head, conv4") == 2
    assert at_once("MAML, mlp") == 25 and at_once("ProtoNet, mlp") == 32


class WithLossOfItsOwn(MetaTrainer):
    """Changes nothing, but could."""

    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs)


@pytest.mark.parametrize("kind", ["regression", "classification", "ragged"])
def test_gradients_by_hand_teach_what_autograd_teaches(digits, kind):
    options = {"n_way": (2, 5), "n_shot": (1, 4), "n_query": (1, 5)} if kind == "ragged" else {}
    options |= TWO_STEPS
    past, estimator = digits, CLASSIFIERS["MAML, mlp"]
    if kind == "regression":
        past, estimator = (make_sinusoid_tasks(n_shot=(2, 6)),), MAMLRegressor(**SMALL_MLP)
    by_hand = trainer(estimator, **options).fit(*past)
    params = {k: v for k, v in by_hand.get_params(deep=False).items() if k != "module"}
    by_autograd = WithLossOfItsOwn(**params).fit(*past)
    assert by_hand._plain_loss and not by_autograd._plain_loss
    assert_taught_the_same(by_hand, by_autograd, rtol=1e-4, atol=1e-6)
    losses = (t.history[:, "train_loss"] for t in (by_hand, by_autograd))
    np.testing.assert_allclose(*losses, rtol=1e-5)


# ------------------------------------------------------------------ rounding
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_bfloat16_rounds_but_little(digits, name, monkeypatch, margin):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    exact = trainer(CLASSIFIERS[name]).fit(*digits)
    rounded = trainer(CLASSIFIERS[name], precision="bf16").fit(*digits)
    ours, theirs = (t.history[:, "train_loss"] for t in (rounded, exact))
    margin.below(np.abs(np.divide(ours, theirs) - 1).max(), 0.25)
    if "conv4" in name:
        assert ours != theirs
    assert all(array.dtype == np.float32 for array in rounded.meta_init_.tensors.values())


def test_a_processor_without_bfloat16_is_told_and_spared(digits, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.warns(UserWarning, match="no instructions for bfloat16"):
        rounded = trainer(CLASSIFIERS["ProtoNet, conv4"], precision="bf16").fit(*digits)
    exact = trainer(CLASSIFIERS["ProtoNet, conv4"]).fit(*digits)
    assert_taught_the_same(rounded, exact, rtol=0)


def test_tf32_changes_nothing_on_a_cpu(digits):
    before = torch.get_float32_matmul_precision()
    one = trainer(CLASSIFIERS["ProtoNet, conv4"], precision="tf32").fit(*digits)
    assert torch.get_float32_matmul_precision() == before
    assert_taught_the_same(one, trainer(CLASSIFIERS["ProtoNet, conv4"]).fit(*digits), rtol=0)


@pytest.mark.parametrize("option", [{"precision": "fp16"}, {"compile": "always"}])
def test_bad_switches_are_named(digits, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        trainer(CLASSIFIERS["ProtoNet, mlp"], **option).fit(*digits)


# ------------------------------------------------------------------ compiling
@needs_compiler
@pytest.mark.parametrize("kind", ["regression", "classification", "vmapped"])
def test_compiled_kernels_teach_the_same(digits, kind):
    if kind == "classification":
        past, estimator = digits, CLASSIFIERS["MAML, mlp"]
    else:
        past, estimator = (make_sinusoid_tasks(n_shot=5),), MAMLRegressor(**SMALL_MLP, n_steps=2)
    if kind == "vmapped":
        estimator = clone(estimator).set_params(encoder__activation="gelu", encoder__norm="layer")
    eager = trainer(estimator, **TWO_STEPS, compile=False).fit(*past)
    compiled = trainer(estimator, **TWO_STEPS, compile=True).fit(*past)
    assert compiled.module_.compiled and not eager.module_.compiled
    assert_taught_the_same(eager, compiled, rtol=1e-3, atol=1e-5)


@needs_compiler
def test_ragged_tasks_are_compiled_only_a_few_times(digits):
    from torch._dynamo.utils import counters

    counters.clear()
    ragged = {"n_way": (2, 6), "n_shot": (1, 4), "n_query": (1, 5), "n_episodes": 100}
    trainer(CLASSIFIERS["MAML, mlp"], compile=True, batch_size=4, **ragged).fit(*digits)
    assert 0 < counters["stats"]["unique_graphs"] <= 8


def test_only_long_trainings_are_compiled(monkeypatch):
    def compiles(max_epochs, compiler="/usr/bin/c++", name="MAML, mlp", **options):
        monkeypatch.setattr(training_loop.shutil, "which", lambda name: compiler)
        net = trainer(CLASSIFIERS[name], max_epochs=max_epochs, **options)
        learner = CLASSIFIERS[name]._new_learner((64,), None, seed=0)
        return net._compiles(learner.steps_that_pay())

    assert not compiles(10)
    assert compiles(50_000 // 3 + 1)  # three steps an epoch
    assert not compiles(50_000, compiler=None)
    assert not compiles(50_000, compile=False)
    assert compiles(1, compile=True)
    for name in ("MAML, conv4", "ProtoNet, mlp", "MAML of the head, conv4"):
        assert not compiles(50_000, name=name) and not compiles(1, name=name, compile=True)


def test_what_cannot_be_compiled_is_run_as_it_is(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    def fails(*args):
        raise TorchDynamoException("this is too hard\nfor many reasons")

    monkeypatch.setattr("fewshot_sklearn.algorithms.maml.compiled", lambda *args: fails)
    past, estimator = make_sinusoid_tasks(n_shot=5), MAMLRegressor(**SMALL_MLP)
    with pytest.warns(UserWarning, match="without compiling: this is too hard$"):
        compiled = trainer(estimator, compile=True).fit(past)
    assert_taught_the_same(trainer(estimator).fit(past), compiled, rtol=0)


# ------------------------------------------------------------------ batches
class Ears(Callback):
    """Hears of every batch."""

    def on_train_begin(self, net, **kwargs):
        self.heard = []

    def on_batch_end(self, net, training, loss, **kwargs):
        self.heard.append(
            net.history[-1, "batches", -1, "train_loss" if training else "valid_loss"]
        )


def test_who_listens_hears_every_batch_and_changes_nothing(digits):
    ears = Ears()
    one = trainer(CLASSIFIERS["ProtoNet, mlp"], callbacks=[ears]).fit(*digits)
    other = trainer(CLASSIFIERS["ProtoNet, mlp"]).fit(*digits)
    assert_taught_the_same(one, other, rtol=0)
    batches = [batch for epoch in one.history.to_list() for batch in epoch["batches"]]
    assert [b for epoch in other.history.to_list() for b in epoch["batches"]] == batches
    assert ears.heard == [b.get("train_loss", b.get("valid_loss")) for b in batches]
    assert other.history[-1]["train_batch_count"] == 3


@pytest.mark.parametrize(
    "loader", [{"iterator_train": DataLoader}, {"iterator_train__num_workers": 1}]
)
def test_any_loader_teaches_the_same(digits, loader):
    dropout = ProtoNetClassifier(**SMALL_MLP, encoder__dropout=0.5)
    one = trainer(dropout).fit(*digits)
    assert_taught_the_same(one, trainer(dropout, **loader).fit(*digits), rtol=0)


@pytest.mark.parametrize("ragged", [False, True])
def test_rows_that_lie_on_a_device_make_the_same_batches(digits, ragged):
    X, y = digits
    sampler = ClassEpisodes(y, n_way=(2, 4) if ragged else 3, n_shot=2, n_query=3)
    here, there = ArrayTasks(X, None, sampler), ArrayTasks(X, None, sampler)
    there.move(torch.device("cpu"))
    assert isinstance(there.X, torch.Tensor)
    for one, other in zip(
        DataLoader(Episodes(here, 9, seed=0), 4, collate_fn=pad_tasks),
        DataLoader(Episodes(there, 9, seed=0), 4, collate_fn=pad_tasks),
        strict=True,
    ):
        for a, b in zip([*one[0].values(), one[1]], [*other[0].values(), other[1]], strict=True):
            assert torch.equal(a, b)


def test_augmented_rows_stay_where_they_are(digits):
    X, y = digits
    source = ArrayTasks(X, None, ClassEpisodes(y), lambda X, rng: X)
    source.move(torch.device("cpu"))
    assert source.X is X


# ------------------------------------------------------------------ on a GPU
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_cuda_teaches_what_a_cpu_teaches(digits, name, precision):
    on_cpu = trainer(CLASSIFIERS[name]).fit(*digits)
    on_gpu = trainer(CLASSIFIERS[name], device="cuda", precision=precision).fit(*digits)
    losses = (t.history[:, "train_loss"] for t in (on_cpu, on_gpu))
    np.testing.assert_allclose(*losses, rtol={"fp32": 1e-3, "tf32": 2e-2, "bf16": 0.1}[precision])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_compiled_kernels_on_cuda():
    past = make_sinusoid_tasks(n_shot=5)
    estimator = MAMLRegressor(**SMALL_MLP, n_steps=2)
    eager = trainer(estimator, compile=False, device="cuda").fit(past)
    compiled = trainer(estimator, compile=True, device="cuda").fit(past)
    assert_taught_the_same(eager, compiled, rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------ memory
@pytest.mark.parametrize("name", [*CLASSIFIERS, "MAML for regression", "ridge for regression"])
def test_memory_does_not_grow_with_steps(digits, name):
    """No tensor outlives its step: what is allocated and not freed stays the same."""
    if "regression" in name:
        past = (make_sinusoid_tasks(n_shot=5),)
        estimator = (MAMLRegressor if "MAML" in name else RidgeHeadRegressor)(**SMALL_MLP)
    else:
        past, estimator = digits, CLASSIFIERS[name]
    options = {"batch_size": 4, "max_epochs": 1, "validation_fraction": 0}
    net = trainer(estimator, n_episodes=4, **options).fit(*past)

    def grown(n_episodes):
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as held:
            net.set_params(n_episodes=n_episodes).partial_fit(*past)
        return sum(event.self_cpu_memory_usage for event in held.key_averages())

    grown(4)
    assert abs(grown(12) - grown(4)) < 5_000  # one step and three
