"""What an adapted model does not know: its posterior, in closed form or by the bootstrap.

D. B. Rubin. The Bayesian bootstrap. Annals of Statistics 9, 1981.

J. Harrison, A. Sharma and M. Pavone. Meta-learning priors for efficient online
Bayesian regression. WAFR 2018 (the posterior of a linear head).
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ..algorithms import (
    DeepKernelRegression,
    DeepKernelRegressor,
    RidgeHeadRegression,
    RidgeHeadRegressor,
    with_intercept,
)
from ..estimators import ROW_DTYPES, adapts_in_batches, resolve_device
from ..learners import FeatureLearner, Gaussian

#: Rows whose encoding or prediction is repeated for all draws at once, at most.
ROWS_AT_ONCE = 20_000


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
        with torch.no_grad():
            phi = with_intercept(learner.embed(rows)).cpu().numpy()
        half = phi @ estimator.state_["spread"].T  # the posterior covariance is spread' spread
        return noise[:, None, None] * (half @ half.T + np.eye(len(phi)))
    if "return_cov" not in inspect.signature(estimator.predict).parameters:
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
    init = estimator._resolve_meta_init()
    if is_classifier(estimator):
        members = estimator._classes_and_members(y)[1]
        n_outputs = None
    else:
        members = y.reshape(len(y), -1).astype(np.float64)
        n_outputs = members.shape[1]
    X, X_new = (check_array(rows, dtype=ROW_DTYPES, allow_nd=True) for rows in (X, X_new))
    for rows in (X, X_new):
        estimator._check_fits(init, rows.shape[1:], n_outputs)
    learner = estimator._rebuild(init)
    device, dtype = resolve_device(estimator.device), estimator._compute_dtype()
    support, asked, targets, w = (
        torch.as_tensor(a).to(device, dtype) for a in (X, X_new, members, weights)
    )
    found = []
    with torch.no_grad():
        forward = learner
        if isinstance(learner, FeatureLearner):  # then every row is encoded once
            support, asked = learner.embed(support), learner.embed(asked)
            forward = learner.forward_features
        for part in w.split(max(1, ROWS_AT_ONCE // (len(support) + len(asked)))):
            S, goals, Q = (t.expand(len(part), *t.shape) for t in (support, targets, asked))
            outputs = forward(S, goals, part, Q)
            if isinstance(outputs, Gaussian):
                outputs = outputs.mean
            elif n_outputs is None:
                outputs = outputs.softmax(-1)
            found.append(outputs.double().cpu().numpy())
    return np.concatenate(found)
