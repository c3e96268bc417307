"""Trains and measures `series-conv1d-ridge`: what counts in a series, learned from made-up ones.

    python training/series.py                       # minutes
    python training/series.py --epochs 2 --output series.safetensors

Learned are the weights of each view, dilation and threshold of ``encoder="conv1d"`` and of its
waves, and a ridge head's intercept and scale, on `made_series`. Weights enter the ridge regression
through products of rows alone, so products of each group of features are made once, and
descent works on those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from made_series import N_WAY, made_task
from shipping import train_and_ship
from torch import Tensor
from torch.nn import functional as F

from fewshot_sklearn import MetaInit, RidgeHeadClassifier, few_shot_score
from fewshot_sklearn.encoders import Conv1d

N_TASKS, EPOCHS = 250, 500
#: Tasks that figures are measured on, and episodes of each.
NEW_TASKS, EPISODES = 60, 10
#: Tasks a step, episodes of each, and queries a class.
PER_STEP, PER_TASK, N_QUERY = 4, 3, 5
#: Numbers of rows a class, which are drawn alike.
SHOTS = (1, 2, 5)
LEARNING_RATE = 0.03
#: How far weights, as logarithms, are held to where they began.
HELD = 0.02
NAME = "series-conv1d-ridge"
CARD = {
    "data": "made-up tasks of training/made_series.py: shapes, bumps, waves, resonances, switches; "
    "no series that was measured",
    "licence": "BSD-3-Clause, as the package",
    "training command": "python training/series.py",
    "meant for": "series of any length and number of channels, with one to some ten labelled ones "
    "of each class, and no past tasks",
    "limits": "channels are looked at one by one; where in time something happens is hardly seen; "
    "with many labelled series MiniRocket and a ridge are as good, see docs/series.md",
}


class Weights(NamedTuple):
    """What is learned, to start from."""

    shares: Tensor
    waves: Tensor
    intercept: Tensor
    scale: Tensor


def groups_of(encoder: Conv1d, Z: Tensor) -> Tensor:
    """Products (n_groups, n, n) of features, group by group of one weight each."""
    n_shares = encoder.log_weights.numel() * len(encoder.filters)
    parts = Z[:, :n_shares].unflatten(1, (encoder.log_weights.numel(), -1))
    waves = Z[:, n_shares:].unflatten(1, (encoder.log_weights_of_waves.numel(), -1))
    return torch.cat([torch.einsum("igf,jgf->gij", part, part) for part in (parts, waves)])


def episodes(y: np.ndarray, n_shot: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rows (PER_TASK, ...) of supports and of queries, class after class."""
    rows = [
        [rng.permutation(np.flatnonzero(y == c))[: n_shot + N_QUERY] for c in range(N_WAY)]
        for _ in range(PER_TASK)
    ]
    drawn = torch.tensor(np.array(rows))
    return drawn[..., :n_shot].flatten(1), drawn[..., n_shot:].flatten(1)


def cost(found: Weights, products: Tensor, support: Tensor, query: Tensor) -> Tensor:
    """Cross-entropy of the queries after the ridge regression of `RidgeHeadClassifier`."""
    log = torch.cat([found.shares.flatten(), found.waves.flatten()])
    kernel = torch.einsum("g,gij->ij", (2 * log).exp(), products) + (-found.intercept).exp()
    labels = torch.arange(N_WAY).repeat_interleave(support.shape[1] // N_WAY)
    asked = torch.arange(N_WAY).repeat_interleave(query.shape[1] // N_WAY)
    target = F.one_hot(labels, N_WAY).to(kernel).expand(len(support), -1, -1)
    among = kernel[support[:, :, None], support[:, None]] + torch.eye(support.shape[1])
    scores = kernel[query[:, :, None], support[:, None]] @ torch.linalg.solve(among, target)
    logits = found.scale.exp() * scores
    return F.cross_entropy(logits.flatten(0, 1), asked.repeat(len(support)))


def train(epochs: int, checkpoint: Path | None) -> MetaInit:
    """Learn from made-up tasks.

    Parameters
    ----------
    epochs : int
        Steps, of `PER_STEP` tasks each.
    checkpoint : Path or None
        Not used: it takes minutes.

    Returns
    -------
    MetaInit
        What was learned.
    """
    rng = np.random.default_rng(0)
    clf = RidgeHeadClassifier(encoder="conv1d", device="cpu", random_state=0)
    learner = clf._new_learner((128,), None, seed=0)
    encoder, tasks = learner.encoder, []
    for _ in range(N_TASKS):
        X, y = made_task(rng)
        with torch.no_grad():
            tasks.append((groups_of(encoder, encoder(torch.from_numpy(X))), y))
    began = Weights(
        encoder.log_weights.data,
        encoder.log_weights_of_waves.data,
        learner.log_precision.data[-1],
        learner.log_scale.data,
    )
    found = Weights(*(part.clone().requires_grad_() for part in began))
    optimizer = torch.optim.Adam(found, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, epochs)
    for _ in range(epochs):
        drawn = rng.choice(N_TASKS, PER_STEP)
        losses = [
            cost(found, tasks[i][0], *episodes(tasks[i][1], int(rng.choice(SHOTS)), rng))
            for i in drawn
        ]
        away = [(a - b).square().mean() for a, b in zip(found[:2], began[:2], strict=True)]
        loss = torch.stack(losses).mean() + HELD * torch.stack(away).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        encoder.log_weights.copy_(found.shares)
        encoder.log_weights_of_waves.copy_(found.waves)
        learner.log_precision[-1] = found.intercept
        learner.log_scale.copy_(found.scale)
    provenance = {"epochs": epochs, "seed": 0}
    return MetaInit.from_state(learner.state_dict(), clf._spec(learner), provenance)


def measure_series(init: MetaInit) -> Iterator[dict[str, Any]]:
    """Accuracy on new made-up tasks.

    Parameters
    ----------
    init : MetaInit
        What is measured.

    Yields
    ------
    dict
        A figure, as `with_card` takes it.
    """
    for n_shot in SHOTS:
        rng, means = np.random.default_rng(1), []
        for i in range(NEW_TASKS):
            X, y = made_task(rng)
            score = few_shot_score(
                RidgeHeadClassifier(init), X, y, n_way=N_WAY, n_shot=n_shot, n_query=N_QUERY,
                n_episodes=EPISODES, random_state=i,
            )  # fmt: skip
            means.append(100 * score.mean)
        yield {
            "task": f"made-up series, 5-way {n_shot}-shot",
            "score": "accuracy, %",
            "mean": round(float(np.mean(means)), 1),
            "ci95": round(1.96 * float(np.std(means, ddof=1)) / NEW_TASKS**0.5, 1),
            "episodes": NEW_TASKS * EPISODES,
        }


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure and write the file that ships."""
    train_and_ship(argv, __doc__, NAME, EPOCHS, train, measure_series, CARD)


if __name__ == "__main__":
    main()
