"""Upper layers of a sentence encoder, trained to bring sentences of a class together.

P. Khosla, P. Teterwak, C. Wang, A. Sarna, Y. Tian, P. Isola, A. Maschinot, C. Liu and
D. Krishnan. Supervised contrastive learning. NeurIPS 2020.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._shared_model import joined

#: Of the cosines, found on sentences of intents that are in no figure.
TEMPERATURE = 0.07
#: Share of the steps in which the learning rate grows.
WARM_UP = 0.1
DROPOUT = 0.1


class Training(NamedTuple):
    """How layers are trained.

    Parameters
    ----------
    n_steps : int
        Steps at most.
    batch_size : int
        Sentences a step.
    lr : float
        Learning rate at its highest.
    """

    n_steps: int
    batch_size: int
    lr: float


def contrast(Z: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """How much likelier other sentences are as neighbours than those of the same class.

    Parameters
    ----------
    Z : Tensor of shape (n, width)
        Embeddings of length one.
    codes : Tensor of shape (n,)
        Classes, numbered.
    weights : Tensor of shape (n,)
        Weights of the sentences.

    Returns
    -------
    Tensor of shape ()
        Weighted mean of negative log-probabilities (eq. 2 of Khosla et al. 2020) of the
        sentences that have one of their class beside them.
    """
    itself = torch.eye(len(Z), dtype=torch.bool, device=Z.device)
    logp = (Z @ Z.T / TEMPERATURE).masked_fill(itself, -torch.inf).log_softmax(1)
    same = ((codes[:, None] == codes) & ~itself) * weights
    told = -(same * logp.masked_fill(itself, 0.0)).sum(1) / same.sum(1).clamp_min(1e-30)
    counted = weights * (same.sum(1) > 0)
    return (counted * told).sum() / counted.sum().clamp_min(1e-30)


def batches(
    codes: np.ndarray, training: Training, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Row numbers: some sentences of each of some classes, two at least where a class has them."""
    rows = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    n_classes = min(len(rows), max(training.batch_size // 2, 2))
    n_each = max(2, training.batch_size // n_classes)
    for _ in range(training.n_steps):
        chosen = rng.permutation(len(rows))[:n_classes]
        yield np.concatenate([rng.permutation(rows[c])[:n_each] for c in chosen])


def trained(
    layers: nn.ModuleList,
    tokens: Sequence[Tensor],
    codes: np.ndarray,
    weights: np.ndarray,
    training: Training,
    seed: int,
    seconds: float | None = None,
) -> nn.ModuleList:
    """Copies of layers, trained on sentences.

    Parameters
    ----------
    layers : nn.ModuleList
        The layers, which stay as they are.
    tokens : sequence of Tensor of shape (n_tokens, width)
        What they see of each sentence.
    codes : ndarray of shape (n_sentences,), int
        Classes, numbered.
    weights : ndarray of shape (n_sentences,)
        Weights, all positive.
    training : Training
        How.
    seed : int
        Seeds batches and dropout.
    seconds : float or None, default=None
        Steps are taken only while the next is likely to end within so many
        seconds; the learning rate falls to zero with the time.

    Returns
    -------
    nn.ModuleList
        Not to be trained any further.
    """
    begin = time.monotonic()
    rng = np.random.default_rng(seed)
    noise = torch.Generator().manual_seed(seed)
    layers = copy.deepcopy(layers).requires_grad_(True)
    optimizer = torch.optim.AdamW(layers.parameters(), lr=training.lr, weight_decay=0.01)
    y, w = torch.as_tensor(codes), torch.as_tensor(weights, dtype=torch.float32)
    longest = last = 0.0
    for step, rows in enumerate(batches(codes, training, rng)):
        share = step / training.n_steps
        if seconds is not None:
            spent = time.monotonic() - begin
            longest, last = max(longest, spent - last), spent
            if spent + longest > seconds:
                break
            share = max(share, spent / seconds)
        rate = training.lr * min((step + 1) / (WARM_UP * training.n_steps), 1.0, (1 - share) / 0.9)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, places = joined([tokens[i] for i in rows])
        for layer in layers:
            x = layer(_dropped(x, noise), places)
        Z = F.normalize(places.mean(_dropped(x, noise)), dim=-1)
        optimizer.zero_grad()
        contrast(Z, y[rows], w[rows]).backward()
        optimizer.step()
    return layers.requires_grad_(False)


def _dropped(x: Tensor, noise: torch.Generator) -> Tensor:
    kept = torch.rand(x.shape, generator=noise) >= DROPOUT
    return x * kept / (1 - DROPOUT)
