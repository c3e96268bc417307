"""Several rows of a regression at once: their covariance, and draws of what they may be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from ..learners import BYTES, FunctionLearner, Gaussian, Learner, State, numbers_at_once

#: Copies of what is drawn that are held at once.
OF_DRAWS = 3


def covariance_of_rows(
    estimator: Any, learner: Learner, state: State, rows: Tensor, outputs: Gaussian
) -> np.ndarray:
    """Predictive covariance (n_rows, n_rows, n_outputs), noise included, in float64."""
    n, numbers = len(rows), outputs.mean.shape[-1] * len(rows) ** 2
    if isinstance(learner, FunctionLearner):
        numbers = learner.numbers_to_correlate(state, n)
    _refuse(estimator, f"the covariance of {n} rows", numbers)
    if not isinstance(learner, FunctionLearner):
        return _diagonal(outputs.variance.double().cpu().numpy())
    shared = learner.covariance_of_features(state, learner.embed(rows))
    shared = (shared + shared.mT) / 2
    covariance = shared[..., None] * learner.function_variance()
    # as `predict` has it: rounding may take a variance that is nothing below zero
    own = torch.diagonal(covariance)
    own.copy_(own.clamp_min(0.0) + learner.noise_variance()[:, None])
    return covariance.cpu().numpy()


def _diagonal(variance: np.ndarray) -> np.ndarray:
    n, n_outputs = variance.shape
    covariance = np.zeros((n, n, n_outputs))
    covariance[np.arange(n), np.arange(n)] = variance
    return covariance


def drawn_targets(
    estimator: Any,
    learner: Learner,
    state: State,
    rows: Tensor,
    outputs: Gaussian,
    n_samples: int,
    random_state: Any,
    noise: bool,
) -> np.ndarray:
    """Draws (n_rows, n_outputs, n_samples) of what `covariance_of_rows` is the covariance of."""
    rng = check_random_state(random_state)
    mean = outputs.mean.double().cpu().numpy()
    n, n_outputs = mean.shape
    what, numbers = f"{n_samples} draws at {n} rows", OF_DRAWS * mean.size * n_samples
    if not isinstance(learner, FunctionLearner):
        if not noise:
            raise ValueError(
                f"{type(estimator).__name__} predicts how each row is spread, the noise included, "
                "and not how much of that is noise: noise must be True."
            )
        _refuse(estimator, what, numbers)
        std = outputs.variance.double().sqrt().cpu().numpy()
        return mean[..., None] + std[..., None] * rng.standard_normal((n, n_outputs, n_samples))
    _refuse(estimator, what, numbers + learner.numbers_to_draw(state, n))
    size = learner.n_draws_of(state, n)
    numbers_drawn = torch.from_numpy(rng.standard_normal((size, n_outputs * n_samples)))
    functions = learner.functions(state, learner.embed(rows), numbers_drawn.to(rows.device))
    unit = learner.function_variance().sqrt().cpu().numpy()
    drawn = functions.cpu().numpy().reshape(n, n_outputs, n_samples) * unit[:, None]
    drawn += mean[..., None]
    if noise:
        std = learner.noise_variance().sqrt().cpu().numpy()
        drawn += std[:, None] * rng.standard_normal(drawn.shape)
    return drawn


def _refuse(estimator: Any, what: str, numbers: int) -> None:
    """Refuse what takes more memory than `numbers_at_once`."""
    if numbers <= (most := numbers_at_once()):
        return
    needed = numbers * BYTES
    raise ValueError(
        f"{type(estimator).__name__} would need about {needed / 1e9:.1f} GB of memory for {what}, "
        f"more than the {most * BYTES / 1e9:.1f} GB that it may take. Ask for fewer at once, or "
        f"let it take more: sklearn.set_config(working_memory={-(-needed // 2**20)}), in MiB."
    )
