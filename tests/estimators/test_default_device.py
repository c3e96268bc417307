"""What torch makes by default, and where, changes nothing: no tensor of ours is left to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fewshot_sklearn
from fewshot_sklearn import (
    ESMetaTrainer,
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskMemory,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
    uncertainty,
)
from fewshot_sklearn.estimators import FewShotEstimator
from fewshot_sklearn.inspection import EmbeddingDisplay
from fewshot_sklearn.tasks import RandomAffine, add_rotations

KINDS = [
    c
    for c in (getattr(fewshot_sklearn, name) for name in fewshot_sklearn.__all__)
    if isinstance(c, type) and issubclass(c, FewShotEstimator)
]
RNG = np.random.default_rng(0)
X, LABELS, GROUPS = RNG.normal(size=(96, 6)), np.tile(np.arange(8), 12), np.repeat(np.arange(8), 12)
TARGETS, IMAGES = X @ RNG.normal(size=6), RNG.random((6, 8, 8))
MLP = {"encoder": "mlp", "encoder__hidden": (8,), "random_state": 0, "device": "cpu"}
FEW = {"n_episodes": 4, "n_query": 2, "random_state": 0}
DROPOUT = ProtoNetClassifier(**MLP, encoder__dropout=0.3)


@pytest.fixture
def elsewhere():
    """Make all that is left to the default on a device on which nothing can be computed."""

    def asked(call):
        torch.set_default_device("meta")
        torch.set_default_dtype(torch.float64)
        try:
            return call()
        finally:
            torch.set_default_device(None)
            torch.set_default_dtype(torch.float32)

    return asked


def trained(estimator=None, kind=MetaTrainer):
    trainer = kind(
        estimator or ProtoNetClassifier(**MLP),
        **{"n_way": 3, "n_shot": 1, "max_epochs": 2, "verbose": 0, "device": "cpu"},
        **{"n_valid_episodes": 3, **FEW},
    )
    if isinstance(estimator, RidgeHeadRegressor):
        return trainer.set_params(n_way=None).fit(X, TARGETS, GROUPS)
    return trainer.fit(X, LABELS)


@pytest.fixture(scope="module")
def made():
    """Meta-trained estimators."""
    return {
        "P": trained().estimator_,
        "M": trained(MAMLClassifier(**MLP)).estimator_,
        "R": trained(RidgeHeadRegressor(**MLP)).estimator_,
    }


def answer(estimator):
    y = LABELS if "Classifier" in type(estimator).__name__ else TARGETS
    estimator.fit(X[:32], y[:32])
    for name in ("transform", "predict_proba", "predict"):
        if hasattr(estimator, name):
            return getattr(estimator, name)(X)
    raise AssertionError("it answers nothing")


def trust(estimator, y, groups, n_way):
    learner = TrustLearner(estimator, n_way=n_way, n_shots=(1, 2), **FEW | {"n_episodes": 8})
    told = learner.fit(X, y, groups).estimator_.fit(X[:16], y[:16])
    return told.predict_set(X) if n_way else told.predict_interval(X)


CALLS = {
    "meta-training": lambda made: trained().meta_init_.digest,
    "of MAML": lambda made: trained(MAMLClassifier(**MLP)).meta_init_.digest,
    "of a regressor": lambda made: trained(RidgeHeadRegressor(**MLP)).meta_init_.digest,
    "with dropout": lambda made: trained(DROPOUT).meta_init_.digest,
    "by evolution": lambda made: trained(MAMLClassifier(**MLP), ESMetaTrainer).meta_init_.digest,
    "few_shot_score": lambda made: few_shot_score(made["P"], X, LABELS, n_way=3, **FEW).scores,
    "of steps": lambda made: few_shot_score(made["M"], X, LABELS, n_way=3, **FEW).scores,
    "compare_few_shot": lambda made: compare_few_shot(
        made["P"], X, LABELS, n_way=3, n_shots=(1, 2), **FEW
    )["mean"],
    "Taskwise": lambda made: (
        TaskwiseClassifier(made["P"])
        .fit(X, LABELS % 4, groups=GROUPS)
        .predict_proba(X, groups=GROUPS)
    ),
    "Taskwise regressor": lambda made: (
        TaskwiseRegressor(made["R"]).fit(X, TARGETS, groups=GROUPS).predict(X, groups=GROUPS)
    ),
    "trust": lambda made: trust(made["P"], LABELS, None, 3),
    "trust in a regressor": lambda made: trust(made["R"], TARGETS, GROUPS, None),
    "memory": lambda made: TaskMemory.from_data(made["P"], X, LABELS).means,
    "memory of a regressor": lambda made: TaskMemory.from_data(
        made["R"], X, TARGETS, GROUPS
    ).predictions(made["R"], X),
    "explain": lambda made: (
        made["P"]
        .fit(X[:16], LABELS[:16])
        .explain(X[:3], past=TaskMemory.from_data(made["P"], X, LABELS))["distance"]
        .to_numpy(float)
    ),
    "no labels": lambda made: made["P"].fit_prior([0, 1], [0.3, 0.7]).predict_proba(X),
    "no targets": lambda made: made["R"].fit_prior().predict(X),
    "embed": lambda made: made["P"].embed(X),
    "uncertainty": lambda made: uncertainty(
        made["R"].fit(X[:16], TARGETS[:16]), X, measure="variance"
    ),
    "display": lambda made: EmbeddingDisplay.from_estimator(made["P"], X[:16], LABELS[:16]).support,
    "a shipped meta-init": lambda made: (
        ProtoNetClassifier("omniglot-conv4", device="cpu")
        .fit(255 * np.repeat(IMAGES, 4, 1).repeat(4, 2)[:, :28, :28], [0, 1, 2] * 2)
        .predict_proba(np.zeros((1, 28, 28)))
    ),
    "altered copies": lambda made: RandomAffine()(IMAGES, np.random.default_rng(0)),
    "rotations": lambda made: add_rotations(IMAGES, np.arange(6))[0],
}


@pytest.mark.parametrize("encoder", ["mlp", None])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_estimators(kind, encoder, elsewhere):
    estimator = kind(encoder=encoder, random_state=0, device="cpu")
    before = answer(estimator)
    np.testing.assert_array_equal(before, elsewhere(lambda: answer(estimator)))
    again = kind(encoder=encoder, random_state=0, device="cpu")
    np.testing.assert_array_equal(before, elsewhere(lambda: answer(again)))


@pytest.mark.parametrize("name", CALLS)
def test_what_is_built_on_them(name, made, elsewhere):
    before = CALLS[name](made)
    np.testing.assert_array_equal(before, elsewhere(lambda: CALLS[name](made)))
