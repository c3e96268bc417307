"""`MetaTrainer(encoder_from=...)`: training starts from the encoder of another method's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.datasets import load_digits

from fewshot_sklearn import (
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadClassifier,
    few_shot_score,
)

SETTINGS = {
    "n_way": 3, "n_shot": 1, "n_query": 2, "n_episodes": 8, "max_epochs": 2, "batch_size": 4,
    "validation_fraction": 0, "random_state": 0, "verbose": 0, "device": "cpu",
}  # fmt: skip
ENCODER = {"encoder": "mlp", "encoder__hidden": (8,)}


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def first(digits):
    X, y = digits
    return MetaTrainer(ProtoNetClassifier(**ENCODER), **SETTINGS).fit(X[y < 5], y[y < 5]).meta_init_


def encoder(init):
    return {k: v for k, v in init.tensors.items() if k.startswith("encoder.")}


@pytest.mark.parametrize("kind", [RidgeHeadClassifier, MAMLClassifier, ProtoNetClassifier])
@pytest.mark.parametrize("how", ["object", "file"])
def test_training_starts_from_those_weights(digits, first, kind, how, tmp_path):
    first.save(tmp_path / "first.safetensors")
    source = first if how == "object" else tmp_path / "first.safetensors"
    still = MetaTrainer(kind(**ENCODER), **{**SETTINGS, "lr": 0.0}, encoder_from=source)
    init = still.fit(*digits).meta_init_
    for name, weights in encoder(first).items():
        assert_array_equal(init.tensors[name], weights)
    moved = MetaTrainer(kind(**ENCODER), **SETTINGS, encoder_from=source).fit(*digits).meta_init_
    assert any(not np.array_equal(v, moved.tensors[k]) for k, v in encoder(first).items())


def test_what_the_first_was_trained_on_stays_known(digits, first):
    X, y = digits
    later = y >= 5
    trainer = MetaTrainer(RidgeHeadClassifier(**ENCODER), **SETTINGS, encoder_from=first)
    trainer.fit(X[later], y[later])
    assert trainer.meta_init_.cite_tasks(np.unique(y)) == 10
    assert trainer.meta_init_.cite_rows(X[~later]) > 0
    with pytest.warns(UserWarning, match="was meta-trained on"):
        few_shot_score(trainer.estimator_, X[~later], y[~later], n_way=3, n_shot=1, n_episodes=2)


def test_another_encoder_is_an_error(digits, first):
    wider = RidgeHeadClassifier(encoder="mlp", encoder__hidden=(9,))
    with pytest.raises(ValueError, match="does not fit the encoder MLP"):
        MetaTrainer(wider, **SETTINGS, encoder_from=first).fit(*digits)


def test_a_checkpoint_of_another_start_is_not_gone_on_from(digits, first, tmp_path):
    kept = {**SETTINGS, "checkpoint": tmp_path / "state.ckpt"}
    MetaTrainer(RidgeHeadClassifier(**ENCODER), **kept).fit(*digits)
    with pytest.raises(ValueError, match="other settings"):
        MetaTrainer(RidgeHeadClassifier(**ENCODER), **kept, encoder_from=first).fit(*digits)
