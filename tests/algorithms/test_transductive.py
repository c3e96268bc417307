"""What the transductive methods gain by training, and by all queries being there at once."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import every_transductive, meta_train
from sklearn.datasets import load_digits

import fewshot_sklearn
from fewshot_sklearn import ProtoNetClassifier, few_shot_score
from fewshot_sklearn.tasks import add_rotations

TASKS = {"n_way": 5, "n_shot": 1, "n_query": 15, "n_episodes": 60, "random_state": 0}
QUICK = {"TransductiveTIMClassifier": {"n_steps": 60, "solver": "adm"}}


@pytest.fixture(scope="module")
def digits():
    """(X, y, new): turned digits beside noise, and which rows are of 7 to 9, kept from training."""
    images = load_digits()
    X, y = add_rotations(images.images, images.target)
    X = X.reshape(len(X), -1)
    X = np.hstack([X, np.random.default_rng(0).normal(0, 5, X.shape)])
    return X, y, np.array([label[0] in "789" for label in y])


@every_transductive
def test_meta_training_pays(digits, name, margin):
    X, y, new = digits
    net = getattr(fewshot_sklearn, name)(
        encoder="mlp", encoder__hidden=(64,), **QUICK.get(name, {})
    )
    few = {"n_way": 5, "n_shot": 2, "n_query": 8, "n_episodes": 160, "max_epochs": 6}
    learned = few_shot_score(meta_train(net, X[~new][::3], y[~new][::3], **few), X[new], y[new],
                             **TASKS).mean  # fmt: skip
    untrained = few_shot_score(net.set_params(random_state=0), X[new], y[new], **TASKS).mean
    margin.above(learned, 0.3, "chance is 0.2")
    margin.above(learned - untrained, 0.05, "gain")


@every_transductive
def test_all_queries_at_once_pay(trained, digits_new, name, margin):
    """On the features of one meta-init, against each row by itself."""
    X, y = digits_new
    options = TASKS | {"n_way": 3}
    init = trained["ProtoNetClassifier"].meta_init
    alone = few_shot_score(ProtoNetClassifier(init), X, y, **options).mean
    own = {"TransductivePropagationClassifier": {"n_neighbors": 5}}
    est = getattr(fewshot_sklearn, name)(init, **own.get(name, {}))
    together = few_shot_score(est, X, y, **options).mean
    margin.above(together - alone, 0.0, "gain")
