"""Few-shot tasks on rows of 64 features, and estimators that were meta-trained on such tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from peers import library
from torch import nn

from fewshot_sklearn import MetaTrainer
from fewshot_sklearn.estimators import FewShotClassifier

N_FEATURES, N_WAY, N_SHOT, N_QUERY, N_STEPS, INNER_LR = 64, 5, 5, 15, 5, 0.1
HIDDEN = (64, 64)


def make_pool(n_classes: int, random_state: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal classes, 20 rows of each: X float32 (n, 64) and y (n,)."""
    rng = np.random.default_rng(random_state)
    y = np.repeat(np.arange(n_classes), N_SHOT + N_QUERY)
    X = rng.normal(size=(n_classes, N_FEATURES))[y] + rng.normal(size=(len(y), N_FEATURES))
    return X.astype(np.float32), y


def meta_trained(estimator: FewShotClassifier) -> FewShotClassifier:
    """The estimator, with a meta-init from a few steps of meta-training."""
    X, y = make_pool(40, random_state=1)
    trainer = MetaTrainer(
        estimator, n_way=N_WAY, n_shot=N_SHOT, n_query=N_QUERY, n_episodes=64, max_epochs=1,
        validation_fraction=0, device="cpu", random_state=0, verbose=0,
    )  # fmt: skip
    return trainer.fit(X, y).estimator_.set_params(device="cpu")


def peers_encoder() -> nn.Sequential:
    """The peers' network: as our ``"mlp"`` encoder, a ReLU after each layer."""
    layers: list[nn.Module] = []
    for width, units in zip((N_FEATURES, *HIDDEN), HIDDEN, strict=False):
        layers += [nn.Linear(width, units), nn.ReLU()]
    return nn.Sequential(*layers)


def learn2learn_maml() -> Any:
    """MAML of the same network with a linear head, first order: enough where nobody meta-trains."""
    network = nn.Sequential(*peers_encoder(), nn.Linear(HIDDEN[-1], N_WAY))
    return library("learn2learn").algorithms.MAML(network, lr=INNER_LR, first_order=True)
