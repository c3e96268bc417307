"""What an adapted model does not know: its posterior, in closed form or by the bootstrap.

D. B. Rubin. The Bayesian bootstrap. Annals of Statistics 9, 1981.

J. Harrison, A. Sharma and M. Pavone. Meta-learning priors for efficient online
Bayesian regression. WAFR 2018 (the posterior of a linear head).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ..algorithms import (
    DeepKernelRegression,
    DeepKernelRegressor,
    RidgeHeadRegression,
    RidgeHeadRegressor,
)
from ..estimators import (
    ManyTasks,
    adapts_in_batches,
    as_final_sees,
    as_numbers,
    for_new_classes,
    known_classes,
    predicts,
)
from ..learners import Gaussian, with_intercept
from ..tasks import places


def takes(estimator: Any, option: str) -> bool:
    """Whether an estimator's ``predict`` has an option, such as ``return_std``."""
    return not isinstance(estimator, Pipeline) and predicts(estimator, option)


def noise_variance(estimator: Any) -> np.ndarray | None:
    """Noise variance of each target, for regressors whose posterior is Gaussian in closed form.

    Parameters
    ----------
    estimator : estimator
        Fitted.

    Returns
    -------
    ndarray of shape (n_outputs,) or None
        In squared units of the targets; None where the estimator is no
        `RidgeHeadRegressor` or `DeepKernelRegressor`.
    """
    if not isinstance(estimator, RidgeHeadRegressor | DeepKernelRegressor):
        return None
    check_is_fitted(estimator)
    learner = estimator._rebuild(estimator.meta_init_)
    assert isinstance(learner, RidgeHeadRegression | DeepKernelRegression)
    noise = (
        learner.noise()
        if isinstance(learner, DeepKernelRegression)
        else learner.log_noise.double().exp()
    )
    return (noise * learner.y_scale.double().square()).cpu().numpy()


def predictive_covariance(estimator: Any, X: Any) -> np.ndarray | None:
    """Covariance of the targets of rows, where the estimator knows it.

    Parameters
    ----------
    estimator : estimator
        A fitted regressor.
    X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
        Rows.

    Returns
    -------
    ndarray of shape (n_outputs, n_rows, n_rows) or None
        Noise included, for the estimators of this package. None where neither
        the estimator is a `RidgeHeadRegressor` nor its ``predict`` takes
        ``return_cov``.
    """
    if isinstance(estimator, RidgeHeadRegressor):
        noise = noise_variance(estimator)
        assert noise is not None
        learner, rows = estimator._fitted_learner_and_rows(X)
        state = {name: torch.tensor(a, device=rows.device) for name, a in estimator.state_.items()}
        with torch.no_grad():
            phi = with_intercept(learner.embed(rows))
            half = learner.halves(state, phi).cpu().numpy()
        return noise[:, None, None] * (half @ half.T + np.eye(len(phi)))
    if not takes(estimator, "return_cov"):
        return None
    covariance = np.asarray(estimator.predict(X, return_cov=True)[1])
    return covariance[None] if covariance.ndim == 2 else np.moveaxis(covariance, -1, 0)


def bootstrap_predictions(
    estimator: Any, X: Any, y: Any, X_new: Any, n_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Predictions under draws from the Bayesian bootstrap posterior.

    Each draw refits a clone with weights n times Dirichlet(1, ..., 1) on the n
    labelled rows (section 1 of Rubin, 1981). Meta-trained estimators of this
    package adapt to all draws at once.

    Parameters
    ----------
    estimator : estimator
        Fitted or not; left as it is.
    X : array-like of shape (n_rows, ...)
        Labelled rows.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Their labels or targets.
    X_new : array-like of shape (n_new, ...)
        Rows to predict.
    n_draws : int
        Number of draws.
    rng : numpy.random.Generator
        Draws the weights.

    Returns
    -------
    ndarray of shape (n_draws, n_new, n_classes or n_outputs)
        Class probabilities, or means.

    Raises
    ------
    ValueError
        When the estimator's ``fit`` takes no weights.
    """
    check_consistent_length(X, y)
    weights = len(y) * rng.dirichlet(np.ones(len(y)), n_draws)
    y_array = np.asarray(y)
    if adapts_in_batches(estimator) and not (is_classifier(estimator) and y_array.ndim > 1):
        X_new, (estimator, X) = as_final_sees(estimator, X_new)[1], as_final_sees(estimator, X)
        return _adapted_at_once(estimator, X, y_array, X_new, weights)
    if not has_fit_parameter(estimator, "sample_weight"):
        raise ValueError(
            f"The Bayesian bootstrap refits the estimator with weights, but the fit of "
            f"{type(estimator).__name__} takes no sample_weight. Take a strategy that needs no "
            "posterior, such as 'margin' or 'typiclust'."
        )
    fits = (clone(estimator).fit(X, y, sample_weight=w) for w in weights)
    if is_classifier(estimator):
        return np.stack([fit.predict_proba(X_new) for fit in fits])
    return np.stack([np.asarray(fit.predict(X_new)).reshape(len(X_new), -1) for fit in fits])


def _adapted_at_once(
    estimator: Any, X: Any, y: np.ndarray, X_new: Any, weights: np.ndarray
) -> np.ndarray:
    if is_classifier(estimator):
        known = known_classes(estimator, y)
        if known is None:
            members = estimator._classes_and_members(y)[1]
            if known_classes(estimator) is not None:
                estimator = for_new_classes(estimator)
        else:
            members = (places(known, y)[:, None] == np.arange(len(known))).astype(np.float64)
        n_outputs = None
    else:
        members = y.reshape(len(y), -1).astype(np.float64)
        n_outputs = members.shape[1]
    table = estimator._table()
    known, asked = (as_numbers(table, rows) for rows in (X, X_new))
    if known.shape[1:] != asked.shape[1:]:
        raise ValueError(
            f"X_new has rows of shape {asked.shape[1:]}, but X has rows of shape {known.shape[1:]}."
        )
    # draws are tasks of the same rows, in which these weigh differently
    many = ManyTasks(estimator, np.concatenate([known, asked]), n_outputs, validated=True)
    both, n = np.arange(len(known) + len(asked)), len(known)
    known_targets = many.tensor(members) if n_outputs is None else many.targets(members, None)
    if many.by_features:
        many.features(both)
    found = []
    sizes = (np.full(len(weights), size) for size in (n, len(asked)))
    for which in many.batches(np.zeros(len(weights), int), *sizes):
        rows = many.rows(np.tile(both, (len(which), 1)))
        targets = known_targets.expand(len(which), *members.shape)
        outputs = many.episodes(rows[:, :n], targets, many.tensor(weights[which]), rows[:, n:])
        if isinstance(outputs, Gaussian):
            outputs = outputs.mean
        elif n_outputs is None:
            outputs = outputs.softmax(-1)
        found.append(outputs.double().cpu().numpy())
    return np.concatenate(found)
