"""Every callback that ships with skorch works with a MetaTrainer."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import skorch.callbacks
import torch
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    MlflowLogger,
    NeptuneLogger,
    ParamMapper,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    TrainEndCheckpoint,
    Unfreezer,
    WandbLogger,
    WarmRestartLR,
)

from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor
from fewshot_sklearn.datasets import make_sinusoid_tasks

PAST = make_sinusoid_tasks(40, random_state=0)


def trained(*callbacks, **options):
    """A trainer after two epochs of two batches each."""
    trainer = MetaTrainer(
        RidgeHeadRegressor(encoder="mlp", encoder__hidden=(8,)),
        max_epochs=2, n_episodes=32, n_valid_episodes=16, random_state=0, verbose=0, device="cpu",
        callbacks=list(callbacks), **options,
    )  # fmt: skip
    return trainer.fit(PAST.data, PAST.target, groups=PAST.groups)


def one(net, X, y=None):
    return 1.0


class Collects(Callback):
    """What happened at batches."""

    def on_train_begin(self, net, **kwargs):
        self.batches_, self.gradients_ = 0, 0

    def on_batch_end(self, net, **kwargs):
        self.batches_ += 1
        net.history.record_batch("collected", float(self.batches_))

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.gradients_ += 1


#: A callback's name, how it is made, and what it must have done to the trainer.
MADE = {
    "BatchScoring": (lambda to: BatchScoring(one, name="s"), lambda t: t.history[:, "s"] == [1, 1]),
    "Callback": (lambda to: Collects(), lambda t: t.callbacks_[-2][1].batches_ == 6),
    "Checkpoint": (
        lambda to: Checkpoint(dirname=to, load_best=True),
        lambda t: t.callbacks_[-2][1].f_criterion == "criterion.pt",
    ),
    "EarlyStopping": (
        lambda to: EarlyStopping(patience=1, threshold=0.99, load_best=True),
        lambda t: len(t.history) == 2,
    ),
    "EpochScoring": (lambda to: EpochScoring(one, name="s"), lambda t: t.history[-1, "s"] == 1),
    "EpochTimer": (lambda to: EpochTimer(), lambda t: t.history[-1, "dur"] > 0),
    "Freezer": (
        lambda to: Freezer("encoder*"),
        lambda t: not any(p.requires_grad for p in t.module_.encoder.parameters()),
    ),
    "GradientNormClipping": (
        lambda to: GradientNormClipping(1e-3),
        lambda t: max(p.grad.norm() for p in t.module_.parameters() if p.grad is not None) <= 1e-3,
    ),
    "Initializer": (
        lambda to: Initializer("encoder*weight", fn=torch.nn.init.zeros_),
        lambda t: next(t.module_.encoder.parameters()).abs().max() < 0.01,
    ),
    "LRScheduler": (
        lambda to: LRScheduler("StepLR", step_size=1),
        lambda t: np.allclose(t.history[:, "event_lr"], [1e-3, 1e-4]),
    ),
    "ParamMapper": (lambda to: ParamMapper("encoder*", at=1), lambda t: True),
    "PassthroughScoring": (
        lambda to: [Collects(), PassthroughScoring("collected")],
        lambda t: t.history[:, "collected"] == [3.0, 6.0],
    ),
    "PrintLog": (lambda to: PrintLog(sink=lambda text: None), lambda t: True),
    "ProgressBar": (lambda to: ProgressBar(), lambda t: True),
    "TrainEndCheckpoint": (
        lambda to: TrainEndCheckpoint(dirname=to),
        lambda t: t.load_params(checkpoint=t.callbacks_[-2][1].checkpoint_) is None,
    ),
    "Unfreezer": (
        lambda to: Unfreezer("encoder*", at=2),
        lambda t: all(p.requires_grad for p in t.module_.encoder.parameters()),
    ),
    "WarmRestartLR": (
        lambda to: LRScheduler(WarmRestartLR, min_lr=1e-4, max_lr=1e-2, base_period=1),
        lambda t: t.history[0, "event_lr"] == 1e-2,
    ),
}
#: Those that have a test of their own below.
OTHERS = {
    "InputShapeSetter", "LoadInitState", "MlflowLogger", "NeptuneLogger", "SacredLogger",
    "TensorBoard", "WandbLogger",
}  # fmt: skip


def test_none_is_left_out():
    assert set(skorch.callbacks.__all__) == {*MADE, *OTHERS}


@pytest.mark.parametrize("name", MADE)
def test_it_does_what_it_is_for(name, tmp_path):
    make, done = MADE[name]
    made = make(str(tmp_path))
    assert done(trained(*(made if isinstance(made, list) else [made])))


def test_training_goes_on_from_a_checkpoint_of_all_parts(tmp_path):
    first = trained(Checkpoint(dirname=str(tmp_path), monitor=None))
    assert {path.name for path in tmp_path.iterdir()} == {
        "params.pt", "optimizer.pt", "criterion.pt", "history.json",
    }  # fmt: skip
    second = trained(LoadInitState(Checkpoint(dirname=str(tmp_path))))
    assert len(second.history) == 4 and len(first.history) == 2


def test_mlflow():
    metrics, files = [], []
    client = SimpleNamespace(
        log_metric=lambda run, key, value, step: metrics.append((key, step)),
        log_artifact=lambda run, path: files.append(path.name),
        set_terminated=lambda run: files.append("end"),
    )
    run = SimpleNamespace(info=SimpleNamespace(run_id="1"))
    trained(MlflowLogger(run, client, log_on_batch_end=True))
    assert ("train_loss_epoch", 2) in metrics and ("valid_loss_batch", 3) in metrics
    assert files == ["params.pth", "optimizer.pth", "criterion.pth", "history.json", "end"]


def test_neptune(monkeypatch):
    for name in ("neptune", "neptune.types", "neptune.handler"):
        stand_in = ModuleType(name)
        stand_in.Handler = type("Handler", (), {})
        stand_in.File = SimpleNamespace(from_content=lambda text, extension: text)
        monkeypatch.setitem(sys.modules, name, stand_in)
    run = MagicMock()
    trained(NeptuneLogger(run, log_on_batch_end=True))
    run["training"].__setitem__.assert_any_call("config/optimizer", "Adam")
    run.stop.assert_called_once()


def test_sacred():
    told = []
    trained(SacredLogger(SimpleNamespace(log_scalar=lambda *args: told.append(args[0]))))
    assert {"train_loss", "valid_loss", "dur"} <= set(told)


def test_tensorboard():
    writer = MagicMock()
    trained(TensorBoard(writer))
    tags = {call.kwargs["tag"] for call in writer.add_scalar.call_args_list}
    assert "Loss/train_loss" in tags and writer.close.called


def test_weights_and_biases(tmp_path):
    run = MagicMock(dir=str(tmp_path))
    trainer = trained(WandbLogger(run))
    run.watch.assert_called_once_with(trainer.module_)
    assert run.log.call_count == 2
    trainer.load_params(f_params=tmp_path / "best_model.pth")


def test_the_shape_of_rows_is_not_to_be_set():
    with pytest.raises(ValueError, match="InputShapeSetter: a learner takes the shape"):
        trained(InputShapeSetter())
