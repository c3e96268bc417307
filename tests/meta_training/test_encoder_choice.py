"""Which encoder is trained where none is asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from fewshot_sklearn import (
    InContextClassifier,
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
)

torch.set_num_threads(1)


def tasks(n_tasks, function, n_rows=20, n_features=2, seed=0):
    """Regression tasks: a curve that all share, and a level and a slope of each."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_tasks), n_rows)
    X = rng.normal(size=(len(groups), n_features))
    level, slope = rng.normal(size=(2, n_tasks))
    y = function(X[:, 0]) * (1 + 0.3 * slope[groups]) + level[groups]
    return X, y + 0.1 * rng.normal(size=len(y)), groups


def trained(estimator, past, **params):
    params = {"random_state": 0, "verbose": 0, "device": "cpu", "n_episodes": 32} | params
    return MetaTrainer(estimator, **params).fit(past[0], past[1], groups=past[2])


def encoder_of(trainer):
    return trainer.meta_init_.spec["encoder"]["name"]


@pytest.mark.parametrize(("function", "encoder"), [(np.sin, "spline"), (lambda x: x, "identity")])
def test_few_tasks_have_curves_where_the_likelihood_says_so(function, encoder):
    trainer = trained(RidgeHeadRegressor(), tasks(20, function))
    assert encoder_of(trainer) == encoder
    assert trainer.estimator_.encoder is None
    X, y, _ = tasks(1, function, seed=1)
    fitted = trainer.estimator_.fit(X[:6], y[:6])
    assert fitted.score(X[6:], y[6:]) > 0.5
    assert encoder_of(trained(RidgeHeadRegressor(encoder="identity"), tasks(20, function))) == (
        "identity"
    )


def test_only_numbers_of_many_values_bend():
    X, y, groups = tasks(20, np.sin)
    X = np.column_stack([X[:, 1] > 0, X[:, 0]]).astype(float)
    params = trained(RidgeHeadRegressor(), (X, y, groups)).meta_init_.spec["encoder"]["params"]
    assert params["columns"] == [1]


def test_a_network_is_taken_if_validation_is_surely_the_better_for_it():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(80), 24)
    X = rng.normal(size=(len(groups), 2))
    sign = rng.choice([-2.0, 2.0], 80)[groups]
    y = sign * np.tanh(3 * X[:, 0] * X[:, 1])  # no sum of curves
    best = {"max_epochs": 30, "n_episodes": 320, "lr": 1e-2, "n_shot": 10}
    trainer = trained(RidgeHeadRegressor(), (X, y, groups), **best)
    assert encoder_of(trainer) == "mlp"
    assert len(trainer.history) > 1
    linear = (X, sign * X[:, 0] + 0.1 * rng.normal(size=len(X)), groups)
    assert encoder_of(trained(RidgeHeadRegressor(), linear, max_epochs=3)) == "identity"


def test_without_validation_nothing_is_tried_that_it_would_have_to_judge():
    past = tasks(80, np.sin)
    assert encoder_of(trained(RidgeHeadRegressor(), past, validation_fraction=0)) == "spline"


def test_methods_that_adapt_the_encoder_have_a_network_from_enough_tasks_on():
    few, many = (trained(MAMLRegressor(), tasks(n, np.sin), max_epochs=1) for n in (20, 80))
    assert (encoder_of(few), encoder_of(many)) == ("identity", "mlp")


def blobs(n_classes, shape, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), 12)
    X = rng.normal(size=(n_classes, *shape))[y] + 0.5 * rng.normal(size=(len(y), *shape))
    return X, y, None


def test_images_are_convolved_and_methods_with_a_network_take_rows_as_they_are():
    small = {"max_epochs": 1, "n_shot": 1, "n_query": 2, "n_way": 3, "n_episodes": 4}
    small |= {"n_valid_episodes": 4}
    made = {
        name: encoder_of(trained(estimator, blobs(n, shape), **small))
        for name, estimator, n, shape in [
            ("colour", ProtoNetClassifier(), 8, (8, 9, 3)),
            ("grey", ProtoNetClassifier(), 8, (8, 8)),
            ("series", ProtoNetClassifier(), 8, (20, 3)),
            ("tiny", ProtoNetClassifier(), 8, (2, 3)),
            ("own network", InContextClassifier(n_layers=1, n_hidden=8, n_heads=1), 60, (4,)),
            ("few classes", ProtoNetClassifier(), 8, (4,)),
        ]
    }
    assert made == {
        "colour": "conv4", "grey": "conv4", "series": "series", "tiny": "identity",
        "own network": "identity", "few classes": "identity",
    }  # fmt: skip


def test_training_goes_on_with_what_was_chosen():
    past = tasks(20, np.sin)
    trainer = trained(RidgeHeadRegressor(), past)
    trainer.partial_fit(past[0], past[1], groups=past[2])
    assert encoder_of(trainer) == "spline"
    again = clone(trainer).fit(past[0], past[1], groups=past[2])
    assert again.meta_init_ == trained(RidgeHeadRegressor(), past).meta_init_


def test_many_categories_have_their_mean_targets_in_place_of_embeddings():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 30)
    item = rng.integers(30, size=len(groups))
    worth = rng.normal(size=30)
    X = pd.DataFrame({"item": [f"item {i}" for i in item], "x": rng.normal(size=len(item))})
    y = worth[item] + X["x"].to_numpy() + rng.normal(size=40)[groups]
    y += 0.1 * rng.normal(size=len(y))
    trainer = trained(RidgeHeadRegressor(), (X, y, groups))
    assert not any("likenesses" in name for name in trainer.meta_init_.tensors)
    means = trainer.meta_init_.table.columns[0].means
    assert len(means) == 31  # one that is not known, too
    order = [int(name.split()[1]) for name in trainer.meta_init_.table.columns[0].values]
    assert np.corrcoef(np.array(means)[:-1, 0], worth[order])[0, 1] > 0.95
    new = pd.DataFrame({"item": ["item 3", "item 7", "never seen"], "x": [0.0, 0.0, 0.0]})
    found = trainer.estimator_.fit(X[:5], y[:5]).predict(new)
    assert np.sign(found[0] - found[1]) == np.sign(worth[3] - worth[7])
    lowest, highest = sorted(trainer.estimator_.predict(X.assign(x=0.0)))[:: len(X) - 1]
    assert lowest < found[2] < highest
    embeds = trained(RidgeHeadRegressor(encoder="mlp"), (X, y, groups), max_epochs=1)
    assert any("likenesses" in name for name in embeds.meta_init_.tensors)


def test_what_convolves_is_refused_on_tables():
    X, y, groups = tasks(20, np.sin)
    X = pd.DataFrame(X).assign(item=[f"i{i % 30}" for i in range(len(X))])
    X.columns = X.columns.astype(str)
    with pytest.raises(ValueError, match="convolves images or series"):
        trained(RidgeHeadRegressor(encoder="series"), (X, y, groups))
