"""Omniglot, episodes of it for the peers, and their networks."""

from __future__ import annotations

import numpy as np
import torch
from peers import library
from torch import Tensor, nn

from fewshot_sklearn.datasets import load_omniglot
from fewshot_sklearn.encoders import Conv4

DRAWINGS = 20


def load() -> tuple[np.ndarray, np.ndarray]:
    """Images (19280, 28, 28) and the numbers of their characters; 20 drawings of each in a row."""
    images, names, _ = load_omniglot(return_X_y_groups=True)
    characters = np.unique(names, return_inverse=True)[1]
    order = np.argsort(characters, kind="stable")
    return images[order], characters[order]


def as_rows(images: np.ndarray) -> Tensor:
    """Images as the peers' networks take them: (n, 1, 28, 28), in [0, 1]."""
    return torch.as_tensor(images)[:, None].float() / 255


class Pool:
    """Draws batches of episodes, all at once and without the checks that ours makes.

    Rows come in classes of 20, one after the other: images or features.
    """

    def __init__(self, rows: Tensor, random_state: int = 0):
        self.rows = rows.unflatten(0, (-1, DRAWINGS))
        self.rng = np.random.default_rng(random_state)

    def draw(
        self, n_tasks: int, n_way: int, n_shot: int, n_query: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """X (T, n, ...), y (T, n), and the same of the queries."""
        keys = self.rng.random((n_tasks, len(self.rows)))
        classes = np.argpartition(keys, n_way, 1)[:, :n_way]
        drawings = self.rng.random((n_tasks, n_way, DRAWINGS)).argsort(-1)[..., : n_shot + n_query]
        rows = self.rows[classes[..., None], drawings]
        codes = torch.arange(n_way)[:, None].expand(n_tasks, n_way, n_shot + n_query)
        support, query = slice(None, n_shot), slice(n_shot, None)
        return (
            rows[:, :, support].flatten(1, 2),
            codes[:, :, support].flatten(1),
            rows[:, :, query].flatten(1, 2),
            codes[:, :, query].flatten(1),
        )


def peers_encoder() -> nn.Module:
    """The field's conv4, batch norm included, as learn2learn ships it."""
    return library("learn2learn").vision.models.CNN4Backbone(hidden_size=64, channels=1)


def peers_network(n_way: int) -> nn.Module:
    """The same with a linear head."""
    models = library("learn2learn").vision.models
    return models.CNN4(n_way, hidden_size=64, channels=1, embedding_size=64)


def our_network(n_way: int) -> nn.Module:
    """The network that ours trains, for the peers: group norm, after the pooling."""
    return nn.Sequential(Conv4((28, 28)), nn.Linear(64, n_way))
