"""One score of many validation episodes: of all their queries together."""

from __future__ import annotations

from typing import Any

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


def in_order(told: list[list[Any]]) -> list[Any]:
    """Answers of processes that each had a part of every batch, in the order of the tasks.

    Parameters
    ----------
    told : list of list
        By process and batch; None where a process had no part, or there was no answer.

    Returns
    -------
    list
        What is not None.
    """
    return [part for of_batch in zip(*told, strict=True) for part in of_batch if part is not None]


def answers_of(outputs: Outputs, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Truth and answers of a batch of episodes, without the padding.

    Parameters
    ----------
    outputs : Tensor or Gaussian
        Of the queries, with leading axes of tasks and queries.
    y : Tensor
        Codes (T, n), negative where padded, or targets (T, n, n_outputs), NaN where padded.

    Returns
    -------
    truth, answers : ndarray
        Flat.
    """
    if y.is_floating_point():
        mean = outputs.mean if isinstance(outputs, Gaussian) else outputs
        real = ~y.isnan().any(-1).cpu()
        return y.cpu()[real].double().numpy(), mean.detach().cpu()[real].double().numpy()
    real = (y >= 0).cpu()
    return y.cpu()[real].numpy(), outputs.detach().argmax(-1).cpu()[real].numpy()  # type: ignore[union-attr]
