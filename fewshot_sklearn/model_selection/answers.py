"""Answers for rows of episodes: logits, or means and standard deviations, and what they cost."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax


class Answers(NamedTuple):
    """Outputs for rows of episodes, and the truth.

    Parameters
    ----------
    outputs : ndarray of shape (n_rows, n_way or n_outputs)
        Logits, minus infinity for classes that an episode lacks; or means.
    std : ndarray of shape (n_rows, n_outputs) or None
        Predictive standard deviations, where the estimator has them.
    truth : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Codes, -1 for a class without support; or targets.
    episode : ndarray of shape (n_rows,)
        Which episode each row is of.
    row : ndarray of shape (n_rows,)
        Row numbers.
    """

    outputs: np.ndarray
    std: np.ndarray | None
    truth: np.ndarray
    episode: np.ndarray
    row: np.ndarray


def joined_answers(parts: list[Answers]) -> Answers:
    """Answers one after the other; of classification, with as many columns as the widest."""
    if not parts:
        none = np.empty(0, dtype=int)
        return Answers(np.empty((0, 1)), None, none, none, none)
    outputs, stds, truths, episodes, rows = zip(*parts, strict=True)
    widest = max(out.shape[1] for out in outputs)
    outputs = [
        np.pad(out, [(0, 0), (0, widest - out.shape[1])], constant_values=-np.inf)
        for out in outputs
    ]
    return Answers(
        np.concatenate(outputs),
        None if stds[0] is None else np.concatenate(stds),
        np.concatenate(truths),
        np.concatenate(episodes),
        np.concatenate(rows),
    )


def cross_entropies(logits: np.ndarray, truth: np.ndarray, temperature: float) -> np.ndarray:
    """Negative log probabilities (n_rows,) of the true classes, in nats."""
    told = log_softmax(logits / temperature, axis=1)
    return -np.take_along_axis(told, truth[:, None], 1)[:, 0]


def gaussian_losses(residuals: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Negative log likelihoods (n_rows,) of residuals (n_rows, n_outputs), without constants."""
    return (0.5 * np.square(residuals / std) + np.log(std)).mean(1)


def held_out_losses(held_out: Answers, scale: np.ndarray) -> np.ndarray:
    """Losses (n_rows,) of held-out rows: cross-entropies, or Gaussian, calibrated by `scale`."""
    if held_out.truth.ndim == 1:
        return cross_entropies(held_out.outputs, held_out.truth, float(scale[0]))
    std = np.ones_like(held_out.outputs) if held_out.std is None else held_out.std
    return gaussian_losses(held_out.truth - held_out.outputs, scale * std)
