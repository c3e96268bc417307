"""Trainings that one process runs, or several together: `torchrun shared_trainings.py folder`."""

from __future__ import annotations

import functools
import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from torch import nn

import fewshot_sklearn
from fewshot_sklearn import (
    BaselinePlusPlusClassifier,
    ESMetaTrainer,
    ESPolicyTrainer,
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    ReptileClassifier,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
)
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.estimators import FewShotClassifier, FewShotRegressor
from fewshot_sklearn.tasks import RandomAffine

PUBLIC = [getattr(fewshot_sklearn, name) for name in fewshot_sklearn.__all__]
METHODS = {
    c.__name__: c
    for c in PUBLIC
    if isinstance(c, type) and issubclass(c, FewShotClassifier | FewShotRegressor)
}
#: Parameters of a method, where the defaults take long.
SMALL = {
    "CAVIARegressor": {
        "n_hidden": 8,
        "n_steps": 1,
        "inner_lr": 0.005,
    },  # which goes up by large ones
    "IMAMLRegressor": {"n_steps": 4},  # what many steps make of rounding is no longer small
    "InContextClassifier": {"n_layers": 1, "n_hidden": 16},
    "InContextRegressor": {"n_layers": 1, "n_hidden": 16},
    "NeuralProcessRegressor": {"n_hidden": 16},
    "MAMLPlusPlusClassifier": {"multi_step_tasks": 15, "first_order_tasks": 3},
    "MAMLPlusPlusRegressor": {"multi_step_tasks": 15, "first_order_tasks": 3},
}
#: This process among those of torchrun.
RANK = int(os.environ.get("RANK", "0"))
#: A step that rounding does not change much, as it does one of Adam where a gradient is nearly 0.
PLAIN = {"optimizer": torch.optim.SGD, "lr": 0.02, "optimizer__momentum": 0.5}


def few(cls, **own):
    """An estimator with a small network."""
    name = cls.__name__
    return cls(encoder="mlp", encoder__hidden=(8,), **(SMALL.get(name, {}) | own))


def classes():
    """Rows of 12 classes."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(12), 8)
    return rng.normal(size=(12, 6))[y] + 0.7 * rng.normal(size=(96, 6)), y


def waves():
    past = make_sinusoid_tasks(12, n_shot=4, n_query=4, random_state=0)
    return past.data, past.target, past.groups


def recurring():
    """Tasks that share two classes."""
    rng = np.random.default_rng(1)
    groups, y = np.repeat(np.arange(10), 12), np.tile(["left", "stayed"], 60)
    return rng.normal(size=(120, 3)) + (y == "left")[:, None] + groups[:, None] % 3, y, groups


def trained(estimator, past, kind=MetaTrainer, **options):
    """Ragged tasks, and a last batch of fewer."""
    usual = {
        "n_way": (2, 3), "n_shot": (1, 3), "n_query": 3, "n_episodes": 12, "batch_size": 5,
        "n_valid_episodes": 7, "validation_fraction": 0.3, "max_epochs": 2, "random_state": 0,
        "device": "cpu", "verbose": 0,
    }  # fmt: skip
    if isinstance(estimator, FewShotRegressor):
        usual |= {"n_shot": (1, 4)}
        del usual["n_way"]
    return kind(estimator, **(usual | options)).fit(*past)


def answer(trainer):
    """What there is to compare of a training."""
    history = [
        {k: v for k, v in row.items() if k not in ("batches", "dur") and v is not None}
        for row in trainer.history
    ]
    return {
        "digest": trainer.meta_init_.digest,
        "history": history,
        "batches": [
            [row["train_loss"] for row in of if "train_loss" in row]
            for of in trainer.history[:, "batches"]
        ],
        "state": {name: t.numpy() for name, t in trainer.meta_init_.state_dict().items()},
        "best": trainer.best_epoch_,
    }


# ------------------------------------------------------------------ what is trained
def method(name):
    past = classes() if issubclass(METHODS[name], FewShotClassifier) else waves()
    return trained(few(METHODS[name]), past, **PLAIN)


class OnlyHere(Callback):
    """Does something at the end of the second epoch, in the second process."""

    def __init__(self, what):
        self.what = what

    def on_epoch_end(self, net, **kwargs):
        if RANK == 1 and len(net.history) == 2:
            self.what(net)


def stop(net):
    raise KeyboardInterrupt


def fail(net):
    raise OSError("no room left")


def shift(net):
    next(net.module_.parameters()).data.add_(1.0)


def speed_up(net):
    net.optimizer_.param_groups[0]["lr"] *= 2


class Unsolvable(MetaTrainer):
    """A step of the second epoch in which one process cannot adapt."""

    def _in_chunks(self, batch, **fit_params):
        if RANK == 1 and len(self.history) == 2 and not self.history[-1, "batches", :-1]:
            raise torch.linalg.LinAlgError
        return super()._in_chunks(batch, **fit_params)


class Wrapped(MetaTrainer):
    """As DistributedDataParallel does it."""

    def initialize_module(self):
        super().initialize_module()
        self.module_ = nn.Sequential(self.module_)
        return self


def accuracy(net, X, y=None):
    outputs = np.concatenate([np.asarray(o.argmax(-1)).ravel() for o in net.forward_iter(X)])
    truth = np.concatenate([np.asarray(row[1]).ravel() for row in net.get_iterator(X)])
    return accuracy_score(truth[truth >= 0], outputs[truth >= 0])


def share_right(net, X, y):
    """Of one batch."""
    outputs = net.infer(X).argmax(-1)
    return float((outputs == y)[y >= 0].double().mean())


def with_callbacks():
    callbacks = [
        ("clip", GradientNormClipping(0.05)),
        ("right", BatchScoring(share_right, name="right", lower_is_better=False)),
        ("steps", LRScheduler("ReduceLROnPlateau", monitor="right", patience=0, factor=0.5)),
        ("scored", EpochScoring(accuracy, name="scored", use_caching=False)),
        ("stop", EarlyStopping(patience=2, threshold=0.05, load_best=True, sink=lambda t: None)),
    ]
    net = few(ProtoNetClassifier)
    return trained(net, classes(), callbacks=callbacks, max_epochs=8, **(PLAIN | {"lr": 0.3}))


def with_norm(seed, frozen):
    """A network of one's own."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
    return trained(ProtoNetClassifier(encoder=net, freeze_encoder=frozen), classes(), max_epochs=1)


def with_mixin():
    from skorch.hf import AccelerateMixin

    class Accelerated(AccelerateMixin, MetaTrainer):
        pass

    return trained(few(ProtoNetClassifier), classes(), kind=Accelerated, accelerator=object())


def of_other_rows():
    X, y = classes()
    return trained(few(ProtoNetClassifier), (X + RANK, y))


def fallen_back():
    options = {"fall_back": {"ridge": Ridge()}, "fall_back_parts": 2, "n_shot": 2}
    return trained(few(RidgeHeadRegressor), waves(), **options)


def goes_on(folder, first, then):
    """A training whose checkpoint other processes have written, or which they go on from."""

    def run(max_epochs):
        schedule = [("fall", LRScheduler("StepLR", step_size=1, gamma=0.7))]
        options = {"max_epochs": max_epochs, "callbacks": schedule} | PLAIN
        return trained(few(MAMLRegressor), waves(), checkpoint=folder / "resumed.pt", **options)

    return run(first if then is None else then)


NET = functools.partial(few, ProtoNetClassifier)
CHUNKS = {"chunk_size": 2, "n_episodes": 16, "batch_size": 8} | PLAIN
TRAININGS = {name: functools.partial(method, name) for name in METHODS} | {
    "one task a batch": lambda: trained(NET(), classes(), batch_size=1, **PLAIN),
    "adam": lambda: trained(few(MAMLRegressor), waves(), max_epochs=2),
    "dropout": lambda: trained(NET(encoder__dropout=0.4), classes(), **CHUNKS),
    "reptile in chunks": lambda: trained(few(ReptileClassifier), classes(), **CHUNKS),
    "augmented": lambda: trained(
        ProtoNetClassifier(encoder="conv4", encoder__width=4),
        (classes()[0].repeat(11, 1)[:, :64].reshape(-1, 8, 8), classes()[1]),
        augment=RandomAffine(), max_epochs=2, **PLAIN,
    ),
    "recurring": lambda: trained(RidgeHeadClassifier(), recurring(), n_shot=2, max_epochs=2),
    "generator": lambda: trained(
        few(RidgeHeadRegressor), (make_sinusoid_tasks(n_shot=(2, 5), n_query=4),), **PLAIN
    ),
    "evolution": lambda: trained(
        few(MAMLRegressor), waves(), kind=ESMetaTrainer, n_perturbations=5, **PLAIN
    ),
    "pretrained classes": lambda: trained(NET(), classes(), pretrain="labels", pretrain_epochs=2),
    "pretrained targets": lambda: trained(
        few(RidgeHeadRegressor), waves(), pretrain="labels", pretrain_epochs=2, **PLAIN
    ),
    "workers": lambda: trained(
        NET(), classes(), max_epochs=1, iterator_train__num_workers=1, **PLAIN
    ),
    "no validation": lambda: trained(NET(), classes(), validation_fraction=0, **PLAIN),
    "callbacks": with_callbacks,
    "patience": lambda: trained(NET(), classes(), n_iter_no_change=1, max_epochs=9, lr=0.5),
    "encoder chosen": lambda: trained(RidgeHeadRegressor(), waves(), max_epochs=1),
    "fallen back": fallen_back,
    "frozen norm": lambda: with_norm(0, True),
    "all past classes, in chunks": lambda: trained(
        few(BaselinePlusPlusClassifier), classes(), **CHUNKS
    ),
}  # fmt: skip
#: Trainings of several processes that have no counterpart, or end in an error.
OTHERS = {
    "any seed": lambda: trained(NET(), classes(), random_state=None),
    "time": lambda: trained(NET(), classes(), time_budget=0.05, max_epochs=10_000),
    "stopped by one": lambda: trained(
        NET(), classes(), callbacks=[OnlyHere(stop)], max_epochs=5, **PLAIN
    ),
    "unsolvable": lambda: trained(NET(), classes(), kind=Unsolvable, **PLAIN),
    "other rows": of_other_rows,
    "other settings": lambda: trained(NET(), classes(), lr=1e-3 * (1 + RANK)),
    "other methods": lambda: trained(
        few([ReptileClassifier, ProtoNetClassifier][RANK]), classes(), random_state=None
    ),
    "goes apart": lambda: trained(NET(), classes(), callbacks=[OnlyHere(shift)]),
    "other steps": lambda: trained(NET(), classes(), callbacks=[OnlyHere(speed_up)]),
    "failed in one": lambda: trained(NET(), classes(), callbacks=[OnlyHere(fail)]),
    "batch norm": lambda: with_norm(0, False),
    "other weights": lambda: with_norm(RANK, True),
    "policies": lambda: ESPolicyTrainer(max_iter=1).fit([lambda policy, rng: 0.0]),
    "fall back in time": lambda: trained(
        few(RidgeHeadRegressor), waves(), fall_back="strong", time_budget=5.0
    ),
    "after all": lambda: trained(NET(), classes(), **PLAIN),
}


def told(run):
    """The answer, or the error."""
    try:
        found = run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return answer(found)


def main(folder):
    torch.set_num_threads(1)
    found = {name: told(run) for name, run in {**TRAININGS, **OTHERS}.items()}
    found["alone"] = told(lambda: trained(NET(), classes(), distributed=False, **PLAIN))
    found["from one"] = told(lambda: goes_on(folder / "by one", 2, 4))
    found["for one"] = told(lambda: goes_on(folder / "by two", 2, None))
    files = [Checkpoint(dirname=str(folder / f"of process {RANK}"), load_best=False)]
    found["files"] = told(
        lambda: trained(NET(), classes(), callbacks=files, verbose=1, max_epochs=2)
    )
    torch.distributed.init_process_group("gloo")
    found["in a group"] = told(lambda: trained(NET(), classes(), distributed=True, **PLAIN))
    found["group is left"] = torch.distributed.is_initialized()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    torch.save(found, folder / f"found{RANK}.pt")
    print(json.dumps({"ended": RANK}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
