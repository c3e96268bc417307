"""Pieces of work that touch all public classes, each a function of a device that tells answers.

What they tell must be the same on the CPU and on a device.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits
from skorch.callbacks import EarlyStopping, GradientNormClipping, LRScheduler

import fewshot_sklearn as fs
from fewshot_sklearn import inspection
from fewshot_sklearn.datasets import make_sinusoid_tasks
from fewshot_sklearn.estimators import FewShotClassifier, FewShotRegressor
from fewshot_sklearn.tasks import RandomAffine, RandomColorCrop, RandomElastic

Answers = dict[str, Any]

matplotlib.use("Agg")
public = {name: getattr(fs, name) for name in fs.__all__}
ESTIMATORS = {
    name: kind
    for name, kind in public.items()
    if isinstance(kind, type) and issubclass(kind, FewShotClassifier | FewShotRegressor)
}
#: A training of two steps and one validation batch.
SHORT = {
    "n_episodes": 4,
    "batch_size": 2,
    "n_valid_episodes": 2,
    "max_epochs": 1,
    "n_shot": 2,
    "n_query": 3,
    "validation_fraction": 0.4,
    "random_state": 0,
    "verbose": 0,
}
SMALL = {
    "mlp": {"encoder__hidden": (16,)},
    "conv4": {"encoder__width": 4},
    "resnet8": {"encoder__widths": (4, 8)},
    "transformer": {},
}
#: All pieces of work, by name.
WORKS: dict[str, Callable[[str], Answers]] = {}


def work(name: str) -> Callable[[Callable[[str], Answers]], Callable[[str], Answers]]:
    """Keep a function under a name."""

    def keep(function: Callable[[str], Answers]) -> Callable[[str], Answers]:
        WORKS[name] = function
        return function

    return keep


# ---------------------------------------------------------------------- data
def digits() -> tuple[np.ndarray, np.ndarray]:
    """A dozen pictures (8, 8) of each digit."""
    X, y = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(y == digit)[:12] for digit in range(10)])
    return X[rows], y[rows]


def waves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thirty sinusoids."""
    some = make_sinusoid_tasks(30, n_shot=5, n_query=8, random_state=0)
    return some.data, some.target, some.groups


def past(estimator: Any, encoder: str = "mlp") -> tuple[Any, ...]:
    """Past tasks for an estimator."""
    if not is_classifier(estimator):
        return waves()
    X, y = digits()
    shape = (-1, 64) if encoder == "mlp" else (-1, 8, 8)
    return X[y < 7].reshape(shape), y[y < 7]


def new(estimator: Any, encoder: str = "mlp") -> tuple[np.ndarray, np.ndarray]:
    """A new task, in random order."""
    if not is_classifier(estimator):
        X, y, groups = waves()
        return X[groups == groups[0]], y[groups == groups[0]]
    X, y = digits()
    rows = np.random.default_rng(0).permutation(np.flatnonzero(y >= 7))
    return X[rows].reshape((-1, 64) if encoder == "mlp" else (-1, 8, 8)), y[rows]


# ---------------------------------------------------------------------- estimators
def few_steps(name: str) -> dict[str, int]:
    """So that what takes many steps is done soon."""
    return {"n_steps": 2} if "n_steps" in ESTIMATORS[name]._defaults else {}


def made(name: str, encoder: str = "mlp") -> Any:
    """A small estimator."""
    return ESTIMATORS[name](encoder=encoder, **SMALL[encoder], **few_steps(name))


def ways(estimator: Any) -> dict[str, int | None]:
    """Classes of a task."""
    return {"n_way": 3} if is_classifier(estimator) else {"n_way": None}


def trained(estimator: Any, device: str, kind: Any = fs.MetaTrainer, **options: Any) -> Any:
    """A trainer that has trained on a device."""
    encoder = estimator.encoder if isinstance(estimator.encoder, str) else "mlp"
    told = SHORT | options
    if is_classifier(estimator):
        told |= ways(estimator)
    return kind(estimator, device=device, **told).fit(*past(estimator, encoder))


@cache
def _served(name: str, encoder: str) -> Any:
    return trained(made(name, encoder), "cpu").estimator_


def serving(name: str, device: str, encoder: str = "mlp") -> Any:
    """An estimator on a device; it was meta-trained on the CPU."""
    return clone(_served(name, encoder)).set_params(device=device)


def one_of_each(device: str) -> Iterator[Any]:
    """A classifier and a regressor."""
    yield serving("RidgeHeadClassifier", device)
    yield serving("RidgeHeadRegressor", device)


def losses(trainer: Any) -> np.ndarray:
    """All that a history tells of how well it went."""
    told = ["train_loss"] + ["valid_loss"] * ("valid_loss" in trainer.history[-1])
    return np.array([[epoch[name] for name in told] for epoch in trainer.history], float)


def answers(estimator: Any, X: np.ndarray) -> Answers:
    """All that a fitted estimator says of rows."""
    found = {}
    for method in ("predict", "predict_proba", "decision_function", "embed", "transform"):
        if hasattr(estimator, method):
            found[method] = getattr(estimator, method)(X)
    for more in ("return_std", "return_cov"):
        if more in inspect.signature(estimator.predict).parameters:
            found[more] = estimator.predict(X, **{more: True})[1]
    return found


# ---------------------------------------------------------------------- every estimator
def meta_training(device: str, name: str, encoder: str) -> Answers:
    """Meta-train."""
    return {"losses": losses(trained(made(name, encoder), device))}


def fit_predict(device: str, name: str, encoder: str) -> Answers:
    """Adapt, answer, explain, and answer again on the CPU."""
    fitted = serving(name, device, encoder)
    X, y = new(fitted, encoder)
    fitted.fit(X[:9], y[:9], sample_weight=np.arange(1.0, 10.0))
    found = answers(fitted, X[9:])
    fitted.explain(X[9:12])
    if hasattr(fitted, "fit_prior") and not is_classifier(fitted):
        found["prior"] = clone(fitted).fit_prior().predict(X[:3])
    at_home = answers(fitted.set_params(device="cpu"), X[9:])
    return found | {f"{key}, moved": value for key, value in at_home.items()}


def no_past(device: str, name: str) -> Answers:
    """Fit without any meta-training."""
    estimator = ESTIMATORS[name](device=device, random_state=0, **few_steps(name))
    X, y = new(estimator)
    return answers(estimator.fit(X[:9], y[:9]), X[9:])


def many_tasks(device: str, name: str) -> Answers:
    """Score episodes, and keep a model for each of many tasks."""
    estimator = serving(name, device)
    told = {"n_shot": 2, "n_query": 3, "n_episodes": 6, "random_state": 0} | ways(estimator)
    if is_classifier(estimator):
        X, y = new(estimator)
        groups, data, wrapper = np.arange(len(y)) % 4, (*new(estimator), None), "Classifier"
    else:
        X, y, groups = data = waves()
        wrapper = "Regressor"
    score = fs.few_shot_score(estimator, *data, **told).scores
    kept = getattr(fs, f"Taskwise{wrapper}")(estimator).fit(X, y, groups)
    asked = np.where(groups == groups[0], -1, groups)  # one task that is new
    method = "predict_proba" if is_classifier(estimator) else "predict"
    return {"scores": score, "kept": getattr(kept, method)(X, asked)}


def encoders_of(name: str) -> tuple[str, ...]:
    """Encoders to try a class with: convolutions where they adapt, and for prototypes."""
    kind = ESTIMATORS[name]
    adapts = kind._learner_class.adapts_encoder and issubclass(kind, FewShotClassifier)
    return ("mlp", "conv4") if adapts or name == "ProtoNetClassifier" else ("mlp",)


for _name, _kind in ESTIMATORS.items():
    for _encoder in encoders_of(_name):
        _told = {"name": _name, "encoder": _encoder}
        WORKS[f"{_name}, {_encoder}, meta-training"] = partial(meta_training, **_told)
        WORKS[f"{_name}, {_encoder}, fit"] = partial(fit_predict, **_told)
    WORKS[f"{_name}, no past"] = partial(no_past, name=_name)
    WORKS[f"{_name}, many tasks"] = partial(many_tasks, name=_name)


@work("resnet8")
def _(device: str) -> Answers:
    told = {"name": "ProtoNetClassifier", "encoder": "resnet8"}
    return meta_training(device, **told) | fit_predict(device, **told)


# ---------------------------------------------------------------------- ways to train
def generator(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """A task of three classes of normal rows."""
    X, y = rng.normal(size=(15, 8)), np.tile(np.arange(3), 5)
    X += y[:, None]
    return X[:6], y[:6], X[6:], y[6:]


def brighter(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An augmentation."""
    return X + rng.random()


TRAININGS: dict[str, dict[str, Any]] = {
    "augmented": {"augment": brighter},
    "turned": {"augment": RandomAffine()},
    "bent": {"augment": RandomElastic()},
    "recoloured": {"augment": RandomColorCrop()},
    "workers": {"iterator_train__num_workers": 1},
    "pinned": {"iterator_train__pin_memory": True},
    "pinned, workers": {"iterator_train__pin_memory": True, "iterator_train__num_workers": 1},
    "chunks": {"chunk_size": 1},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "compiled": {"compile": True},
    "fused": {"optimizer__fused": True},
    "foreach": {"optimizer": torch.optim.AdamW, "optimizer__foreach": True},
    "momentum": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
    "no validation": {"validation_fraction": 0},
    "callbacks": {
        "max_epochs": 2,
        "callbacks": [
            EarlyStopping(),
            LRScheduler("StepLR", step_size=1),
            GradientNormClipping(1.0),
        ],
    },
}


def training(device: str, name: str, options: dict[str, Any]) -> Answers:
    """Train in some way, then further."""
    trainer = trained(made(name, "conv4"), device, **options)
    trainer.partial_fit(*past(trainer.estimator, "conv4"))
    return {} if options.get("precision") == "bf16" else {"losses": losses(trainer)}


for _way, _options in TRAININGS.items():
    for _name in ("ProtoNetClassifier", "MAMLClassifier"):
        WORKS[f"training {_name}, {_way}"] = partial(training, name=_name, options=_options)


@work("training that cannot be compiled there")
def _(device: str) -> Answers:
    # dynamo leaves out what runs on a GPU that is pretended
    told = {"compile": device != "cpu"}
    return {
        name: losses(trained(made(name), device, **told))
        for name in ("MAMLRegressor", "MAMLClassifier", "MetaSGDRegressor")
    }


@work("training from a generator")
def _(device: str) -> Answers:
    trainers = [
        fs.MetaTrainer(made(name), device=device, **SHORT, n_way=3).fit(generator)
        for name in ("ProtoNetClassifier", "MAMLClassifier")
    ]
    return {type(t.estimator).__name__: losses(t) for t in trainers}


@work("training from a checkpoint")
def _(device: str) -> Answers:
    estimator = made("ProtoNetClassifier")
    with tempfile.TemporaryDirectory() as folder:
        kept = {"checkpoint": Path(folder, "kept")}
        trained(estimator, device, **kept)
        resumed = trained(estimator, device, **kept, max_epochs=2)
    straight = trained(estimator, device, max_epochs=2)
    assert resumed.meta_init_ == straight.meta_init_
    return {"losses": losses(resumed)}


@work("training leaves the user's random numbers alone")
def _(device: str) -> Answers:
    estimator = fs.MAMLRegressor(encoder="mlp", encoder__hidden=(16,), encoder__dropout=0.1)
    trained(estimator, device)  # whose dropout differs by device
    return {}


@work("ESMetaTrainer")
def _(device: str) -> Answers:
    trainer = trained(made("RidgeHeadRegressor"), device, fs.ESMetaTrainer, n_perturbations=2)
    return {"losses": losses(trainer)}


@work("digests")
def _(device: str) -> Answers:
    """The scale is that of the CPU, to the bit, so that artefacts differ in what was trained."""
    found = {}
    for name in ("ProtoNetClassifier", "RidgeHeadRegressor"):
        state = trained(made(name), device, max_epochs=0).meta_init_.tensors
        found |= {f"{name} {key}": np.asarray(value) for key, value in state.items()}
        estimator = made(name).set_params(device=device, random_state=0)
        X, y = new(estimator)
        without_past = estimator.fit(X[:9], y[:9]).meta_init_.tensors
        found |= {f"{name} without past {key}": value for key, value in without_past.items()}
    return {f"{key}, exactly": value.tobytes() for key, value in found.items()}


# ---------------------------------------------------------------------- what is built on them
@work("trust")
def _(device: str) -> Answers:
    found = {}
    for estimator in one_of_each(device):
        told = {"n_shots": (2,), "n_query": 5, "n_episodes": 10, "random_state": 0}
        learner = fs.TrustLearner(estimator, **told, **ways(estimator)).fit(*past(estimator))
        wrapper = fs.TrustedClassifier if is_classifier(estimator) else fs.TrustedRegressor
        X, y = new(estimator)
        fitted = wrapper(estimator, learner.calibration_).fit(X[:9], y[:9])
        found[wrapper.__name__] = fitted.predict(X[9:])
    return found


@work("strategies")
def _(device: str) -> Answers:
    found = {}
    for estimator in one_of_each(device):
        told = {"n_shots": (2,), "n_query": 3, "n_episodes": 4, "random_state": 0}
        selector = fs.StrategySelector(
            {"ours": estimator, "again": clone(estimator)}, **told, **ways(estimator)
        ).fit(*past(estimator))
        X, y = new(estimator)
        found[type(estimator).__name__] = selector.estimator_.fit(X[:9], y[:9]).predict(X[9:])
    return found


@work("memory")
def _(device: str) -> Answers:
    found = {}
    for estimator in one_of_each(device):
        memory = fs.TaskMemory.from_data(estimator, *past(estimator))
        X, y = new(estimator)
        estimator.fit(X[:9], y[:9]).explain(X[9:12], past=memory)
        if not is_classifier(estimator):
            found["nearest"] = memory.nearest_tasks(estimator, X[:9], y[:9])[1]
    return found


@work("embedding")
def _(device: str) -> Answers:
    estimator = serving("ProtoNetClassifier", device)
    X, _ = new(estimator)
    return {"Z": fs.MetaEmbedding(estimator.meta_init, device=device).fit_transform(X)}


@work("queries")
def _(device: str) -> Answers:
    found = {}
    for estimator in one_of_each(device):
        X, y = new(estimator)
        chosen = fs.select_queries(estimator.fit(X[:9], y[:9]), X[9:], 2, random_state=0)
        found[type(estimator).__name__] = chosen
    return found


@work("comparison")
def _(device: str) -> Answers:
    found = {}
    for estimator in one_of_each(device):
        told = {"n_shots": (2,), "n_query": 3, "n_episodes": 4} | ways(estimator)
        table = fs.compare_few_shot({"ours": estimator}, *past(estimator), **told)
        found[type(estimator).__name__] = table["mean"].to_numpy()
    return found


@work("displays")
def _(device: str) -> Answers:
    estimator = serving("MAMLClassifier", device)
    X, y = new(estimator)
    task = X[:9], y[:9], X[9:], y[9:]
    estimator.fit(*task[:2])
    inspection.AdaptationDisplay.from_estimator(estimator, *task)
    inspection.EmbeddingDisplay.from_estimator(estimator, *task)
    inspection.ReliabilityDisplay.from_estimator(estimator, *task[2:])
    estimator = serving("ProtoNetClassifier", device).fit(*task[:2])
    inspection.PrototypeDisplay.from_estimator(estimator, *task[:2], image_shape=(8, 8))
    return {}


@work("what ships")
def _(device: str) -> Answers:
    found = {}
    for name in fs.list_meta_inits():
        init = fs.load_meta_init(name)
        spec = init.spec
        width = [6] if spec.get("any_width") else spec["input_shape"]
        X = np.random.default_rng(0).random((9, *width)) * (255 if len(width) > 1 else 1)
        for kind in ESTIMATORS.values():
            if kind._learner_class.__name__ == spec["algorithm"]:
                classifies = issubclass(kind, FewShotClassifier)
                y = np.arange(9) % 3 if classifies else X.reshape(9, -1)[:, 0]
                fitted = kind(name, device=device).fit(X, y)
                found[f"{name} {kind.__name__}"] = getattr(fitted, "predict_proba", fitted.predict)(
                    X
                )
    return found
