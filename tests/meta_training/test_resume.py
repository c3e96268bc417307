"""A meta-training that was killed goes on to exactly what an uninterrupted one gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, LRScheduler

import fewshot_sklearn
from fewshot_sklearn import MAMLRegressor, MetaTrainer, ProtoNetClassifier, RidgeHeadRegressor
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.tasks import RandomAffine

N_EPOCHS, KILLED_IN_EPOCH = 6, 4


class Kill(Callback):
    """kill -9 in the middle of an epoch."""

    def __init__(self, epoch=KILLED_IN_EPOCH):
        self.epoch = epoch

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) == self.epoch and len(net.history[-1, "batches"]) == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def classes():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(12), 8)
    return 2 * rng.normal(size=(12, 16))[y] + 0.7 * rng.normal(size=(96, 16)), y


def past(kind):
    """What the trainer of that kind is fitted on."""
    if kind == "sinusoids":
        waves = make_sinusoid_tasks(20, n_shot=6, n_query=6, random_state=0)
        return waves.data, waves.target, waves.groups
    if kind == "generator":
        return (make_sinusoid_tasks(n_shot=(3, 6), n_query=4),)
    return classes()


def build(kind, checkpoint, workers=0, callbacks=(), **options):
    """A trainer with everything that has a state: dropout, Adam, a schedule, early stopping."""
    net = {"encoder": "mlp", "encoder__hidden": (16,), "encoder__dropout": 0.3}
    estimator = {
        "classes": ProtoNetClassifier(**net),
        "images": ProtoNetClassifier(**net),
        "sinusoids": MAMLRegressor(**net, n_steps=2),
        "generator": RidgeHeadRegressor(**net),
    }[kind]
    options = {
        "n_way": 2, "n_shot": 2, "n_query": 3, "n_episodes": 48, "n_valid_episodes": 16,
        "validation_fraction": 0.25, "max_epochs": N_EPOCHS, "lr": 0.02, "random_state": 3,
        "augment": RandomAffine() if kind == "images" else None,
        "iterator_train__num_workers": workers, "optimizer__weight_decay": 1e-4,
        "verbose": 0, "device": "cpu",
    } | options  # fmt: skip
    schedule = LRScheduler(policy="StepLR", step_size=2, gamma=0.5)
    stop = EarlyStopping(patience=N_EPOCHS, load_best=True, sink=lambda text: None)
    callbacks = [("schedule", schedule), ("stop", stop), *callbacks]
    return MetaTrainer(estimator, checkpoint=checkpoint, callbacks=callbacks, **options)


def train_until_killed(kind, checkpoint, workers=0):
    """Train in another process, which does not survive its fourth epoch."""
    here, package = Path(__file__).parent, Path(fewshot_sklearn.__file__).parents[1]
    script = (
        "import sys, torch; torch.set_num_threads(1); sys.path[:0] = sys.argv[1:3]\n"
        "from test_resume import Kill, build, past\n"
        "kind, checkpoint, workers = sys.argv[3:]\n"
        "build(kind, checkpoint, int(workers), [('kill', Kill())]).fit(*past(kind))\n"
    )
    arguments = [str(here), str(package), kind, str(checkpoint), str(workers)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    done = subprocess.run([sys.executable, "-c", script, *arguments], **quiet)
    assert done.returncode == -signal.SIGKILL
    assert checkpoint.exists()


def assert_same_state(one, other):
    """Nested containers of tensors and numbers, to the last bit."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same_state(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same_state(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def assert_same_run(one, other):
    assert_same_state(dict(one.module_.state_dict()), dict(other.module_.state_dict()))
    assert_same_state(one.optimizer_.state_dict(), other.optimizer_.state_dict())
    for what in ("train_loss", "valid_loss", "epoch", "event_lr"):
        assert one.history[:, what] == other.history[:, what]
    assert (
        one.history[:, "batches", :, "train_loss"] == other.history[:, "batches", :, "train_loss"]
    )
    assert one.meta_init_.digest == other.meta_init_.digest


@pytest.mark.parametrize(
    ("kind", "workers"),
    [("classes", 0), ("classes", 2), ("images", 0), ("sinusoids", 0), ("generator", 0)],
)
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, kind, workers):
    checkpoint = tmp_path / "training.ckpt"
    train_until_killed(kind, checkpoint, workers)
    begun = []

    class Epochs(Callback):
        def on_epoch_begin(self, net, **kwargs):
            begun.append(len(net.history))

    resumed = build(kind, checkpoint, workers, [("epochs", Epochs())]).fit(*past(kind))
    assert begun[0] == KILLED_IN_EPOCH  # not from the beginning
    assert begun[-1] == N_EPOCHS == len(resumed.history)
    assert_same_run(resumed, build(kind, None, workers).fit(*past(kind)))


def test_a_checkpoint_changes_nothing_and_leaves_one_file(tmp_path):
    with_one = build("classes", tmp_path / "training.ckpt").fit(*past("classes"))
    assert_same_run(with_one, build("classes", None).fit(*past("classes")))
    assert [p.name for p in tmp_path.iterdir()] == ["training.ckpt"]


def test_an_interrupt_loses_less_than_an_epoch(tmp_path):
    class Interrupt(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    build("classes", checkpoint, callbacks=[("interrupt", Interrupt())]).fit(*data)
    resumed = build("classes", checkpoint).fit(*data)
    assert_same_run(resumed, build("classes", None).fit(*data))


def test_a_finished_training_returns_at_once(tmp_path):
    class Refuse(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise AssertionError("trained again")

    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    first = build("classes", checkpoint).fit(*data)
    again = build("classes", checkpoint, callbacks=[("refuse", Refuse())]).fit(*data)
    assert_same_run(again, first)
    assert again.estimator_.fit(*data).score(*data) == first.estimator_.fit(*data).score(*data)


def test_a_training_that_stopped_early_ends_the_same_again(tmp_path):
    def stopping(checkpoint):
        trainer = build("classes", checkpoint, max_epochs=40, lr=0.5)
        return trainer.set_params(callbacks__stop__patience=2).fit(*past("classes"))

    first = stopping(tmp_path / "training.ckpt")
    assert len(first.history) < 40
    assert_same_run(stopping(tmp_path / "training.ckpt"), first)
    assert_same_run(stopping(None), first)


def test_more_epochs_go_on_from_a_finished_training(tmp_path):
    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    build("classes", checkpoint, max_epochs=3).fit(*data)
    assert_same_run(build("classes", checkpoint).fit(*data), build("classes", None).fit(*data))


@pytest.mark.parametrize("policy", ["ReduceLROnPlateau", "CosineAnnealingLR", "MultiStepLR"])
def test_every_schedule_goes_on(tmp_path, policy):
    arguments = {
        "ReduceLROnPlateau": {"patience": 0, "monitor": "valid_loss", "factor": 0.5},
        "CosineAnnealingLR": {"T_max": 6},
        "MultiStepLR": {"milestones": [2, 4]},
    }[policy]

    def train(checkpoint, max_epochs):
        schedule = LRScheduler(policy=policy, **arguments)
        trainer = build("classes", checkpoint, max_epochs=max_epochs)
        return trainer.set_params(callbacks__schedule=schedule).fit(*past("classes"))

    train(tmp_path / "training.ckpt", 3)
    assert_same_run(train(tmp_path / "training.ckpt", 6), train(None, 6))


def test_a_schedule_by_batch_goes_on(tmp_path):
    def train(checkpoint, max_epochs):
        schedule = LRScheduler(policy="StepLR", step_size=4, gamma=0.9, step_every="batch")
        trainer = build("classes", checkpoint, max_epochs=max_epochs)
        return trainer.set_params(callbacks__schedule=schedule).fit(*past("classes"))

    train(tmp_path / "training.ckpt", 3)
    resumed, whole = train(tmp_path / "training.ckpt", 6), train(None, 6)
    assert_same_state(resumed.optimizer_.state_dict(), whole.optimizer_.state_dict())
    assert resumed.meta_init_.digest == whole.meta_init_.digest


class Collects(Callback):
    """A callback whose fitted attributes are of kinds that no safe loader reads."""

    def on_train_begin(self, net, **kwargs):
        self.scores_, self.kinds_, self.helper_ = [], {}, self

    def on_epoch_end(self, net, **kwargs):
        self.scores_.append(np.float64(0.5))
        self.kinds_[np.int64(1)] = np.ones(2)


def test_what_a_callback_collects_does_not_spoil_the_checkpoint(tmp_path):
    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    build("classes", checkpoint, callbacks=[("c", Collects())], max_epochs=3).fit(*data)
    resumed = build("classes", checkpoint, callbacks=[("c", Collects())]).fit(*data)
    assert_same_run(resumed, build("classes", None).fit(*data))


# ---------------------------------------------------------------- checkpoints that do not fit
def damaged(raw, how):
    return {"empty": b"", "half": raw[: len(raw) // 2], "text": b"not a checkpoint" * 10}[how]


@pytest.mark.parametrize("damage", ["empty", "half", "text"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    build("classes", checkpoint, max_epochs=1).fit(*data)
    checkpoint.write_bytes(damaged(checkpoint.read_bytes(), damage))
    with pytest.raises(ValueError, match=r"training\.ckpt cannot be read; delete it"):
        build("classes", checkpoint).fit(*data)


@pytest.mark.parametrize("content", [{"weights": torch.ones(3)}, torch.ones(3), {}, None])
def test_a_file_of_torch_that_is_no_checkpoint_is_named(tmp_path, content):
    torch.save(content, tmp_path / "training.ckpt")
    with pytest.raises(ValueError, match=r"training\.ckpt"):
        build("classes", tmp_path / "training.ckpt").fit(*past("classes"))


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_checkpoint_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"fingerprint": Payload()}, tmp_path / "training.ckpt")
    with pytest.raises(ValueError, match=r"training\.ckpt"):
        build("classes", tmp_path / "training.ckpt").fit(*past("classes"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.03}, {"random_state": 4}, {"n_way": 3}, {"n_shot": 1}, {"n_episodes": 32},
        {"optimizer__weight_decay": 0.1}, {"validation_fraction": 0.5}, {"batch_size": 8},
        {"estimator__encoder__hidden": (8,)}, {"estimator__metric": "cosine"},
        {"augment": RandomAffine()},
    ],
)  # fmt: skip
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, options):
    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    build("classes", checkpoint, max_epochs=1).fit(*data)
    with pytest.raises(ValueError, match=r"training\.ckpt was written with other settings"):
        build("classes", checkpoint).set_params(**options).fit(*data)


@pytest.mark.parametrize("which", ["X", "y", "groups"])
def test_a_checkpoint_of_other_data_is_refused(tmp_path, which):
    checkpoint = tmp_path / "training.ckpt"
    data = dict(zip(("X", "y", "groups"), past("sinusoids"), strict=True))
    build("sinusoids", checkpoint, max_epochs=1).fit(**data)
    data[which] = data[which].copy()
    data[which][0] += 1
    with pytest.raises(ValueError, match=r"training\.ckpt was written with other settings or data"):
        build("sinusoids", checkpoint).fit(**data)


@pytest.mark.parametrize("options", [{"verbose": 1, "callbacks__print_log__sink": str}])
def test_what_does_not_touch_the_weights_may_change(tmp_path, options):
    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    build("classes", checkpoint, max_epochs=3).fit(*data)
    resumed = build("classes", checkpoint).set_params(**options).fit(*data)
    assert_same_run(resumed, build("classes", None).fit(*data))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_may_change(tmp_path, workers):
    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    build("classes", checkpoint, max_epochs=3).fit(*data)
    resumed = build("classes", checkpoint, workers).fit(*data)
    assert resumed.meta_init_.digest == build("classes", None).fit(*data).meta_init_.digest


def test_a_failure_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    checkpoint, data = tmp_path / "training.ckpt", past("classes")
    build("classes", checkpoint, max_epochs=3).fit(*data)
    old = checkpoint.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            build("classes", checkpoint).fit(*data)
    assert checkpoint.read_bytes() == old
    assert_same_run(build("classes", checkpoint).fit(*data), build("classes", None).fit(*data))
