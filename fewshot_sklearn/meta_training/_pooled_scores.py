"""One score of many validation episodes: of all their queries together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..learners import Gaussian, Outputs


def pooled_score(truth: np.ndarray, answers: np.ndarray, classifies: bool) -> float:
    """Share of right labels; or R^2, over the queries of all episodes together.

    Parameters
    ----------
    truth : ndarray of shape (n,) or (n, n_outputs)
        Codes or targets.
    answers : ndarray of the same shape
        What was predicted.
    classifies : bool
        Which.

    Returns
    -------
    float
        The score; NaN where all targets are the same.
    """
    if classifies:
        return float(np.mean(truth == answers))
    about = np.square(truth - truth.mean(0)).sum()
    return float(1 - np.square(truth - answers).sum() / about) if about > 0 else float("nan")


def chosen(outputs: Outputs, classifies: bool) -> torch.Tensor:
    """What is predicted of the queries (T, n), in a row: codes, or means (T * n, n_outputs)."""
    if isinstance(outputs, Gaussian):
        outputs = outputs.mean
    assert isinstance(outputs, torch.Tensor)
    found = outputs.detach()
    return found.argmax(-1).flatten() if classifies else found.flatten(0, 1)


def answers_of(
    predicted: Sequence[torch.Tensor], asked: Sequence[torch.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Truth and answers of many batches of episodes, without the padding.

    From a GPU they come all at once, so that its host waits for it once.

    Parameters
    ----------
    predicted : sequence of Tensor
        Of each batch, what `chosen` gave.
    asked : sequence of Tensor
        Codes (T, n), negative where padded, or targets (T, n, n_outputs), NaN where padded.

    Returns
    -------
    truth, answers : ndarray
        Flat.
    """
    answers = torch.cat(list(predicted)).cpu()
    if asked[0].is_floating_point():
        truth = torch.cat([y.flatten(0, 1) for y in asked]).cpu()
        real = ~truth.isnan().any(-1)
        return truth[real].double().numpy(), answers[real].double().numpy()
    truth = torch.cat([y.flatten() for y in asked]).cpu()
    real = truth >= 0
    return truth[real].numpy(), answers[real].numpy()
