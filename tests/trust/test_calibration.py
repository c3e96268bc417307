"""Temperatures, scales and measures of reliability, against scikit-learn, scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import norm
from sklearn.metrics import brier_score_loss, log_loss

from fewshot_sklearn import expected_calibration_error
from fewshot_sklearn.trust import class_reliability, gaussian_reliability
from fewshot_sklearn.trust.calibration import (
    at_shots,
    fit_scale,
    fit_temperature,
    reliability_bins,
)


def sampled(temperature, n=4000, n_classes=4, seed=0):
    """Logits, and classes drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(n, n_classes))
    cumulated = softmax(logits / temperature, axis=1).cumsum(1)
    return logits, (rng.random((n, 1)) > cumulated).sum(1)


# ---------------------------------------------------------------- temperature and scale
@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 30.0])
def test_temperature_is_that_of_least_loss(temperature):
    logits, truth = sampled(temperature)
    found = fit_temperature(logits, truth)

    def loss(t):
        return log_loss(truth, softmax(logits / t, axis=1))

    reference = minimize(
        lambda x: loss(np.exp(x[0])), [np.log(temperature)], method="Nelder-Mead", tol=1e-10
    )
    assert found == pytest.approx(np.exp(reference.x[0]), rel=2e-3)
    assert found == pytest.approx(temperature, rel=0.25)


def test_temperature_where_episodes_lack_classes_or_queries_lack_their_class():
    logits, truth = sampled(2.0)
    wider = np.pad(logits, [(0, 0), (0, 2)], constant_values=-np.inf)
    assert fit_temperature(wider, truth) == pytest.approx(fit_temperature(logits, truth))
    more = np.concatenate([logits, logits[:50]])
    unknown = np.concatenate([truth, np.full(50, -1)])
    assert fit_temperature(more, unknown) == pytest.approx(fit_temperature(logits, truth))
    assert fit_temperature(logits[:3], np.full(3, -1)) == 1.0


def test_temperature_of_logits_in_any_unit():
    logits, truth = sampled(2.0)
    once, huge = fit_temperature(logits, truth), fit_temperature(1e5 * logits, truth)
    assert huge == pytest.approx(1e5 * once, rel=1e-3)


def test_scale_is_that_of_least_loss():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2, (500, 2))
    residuals = std * rng.normal(size=std.shape) * [3.0, 0.2]
    found = fit_scale(residuals, std)

    def loss(x):
        return -norm.logpdf(residuals, scale=np.exp(x) * std).mean()

    reference = np.exp(minimize(loss, np.zeros(2)).x)
    np.testing.assert_allclose(found, reference, rtol=1e-3)
    assert (fit_scale(np.zeros((3, 1)), np.ones((3, 1))) > 0).all()


def test_between_known_shots_logarithms_are_interpolated():
    values = np.array([[8.0], [2.0], [1.0]])
    assert at_shots(2, (1, 4, 16), values) == pytest.approx([4.0])
    assert at_shots(4, (1, 4, 16), values) == pytest.approx([2.0])
    assert at_shots(0.5, (1, 4, 16), values) == pytest.approx([8.0])
    assert at_shots(99, (1, 4, 16), values) == pytest.approx([1.0])
    assert at_shots(7, (5,), values[:1]) == pytest.approx([8.0])


# ---------------------------------------------------------------- measures
def naive_ece(confidence, correct, edges):
    total = 0.0
    for i, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        own = (confidence > low) & (confidence <= high)
        if i == 0:
            own |= confidence == low
        if own.any():
            total += own.mean() * abs(correct[own].mean() - confidence[own].mean())
    return total


def test_expected_calibration_error_by_hand():
    logits, truth = sampled(3.0, n=500)
    proba = softmax(logits, axis=1)
    p, right = proba.max(1), proba.argmax(1) == truth
    found = expected_calibration_error(truth, proba)
    assert found == pytest.approx(naive_ece(p, right, np.linspace(0, 1, 16)))
    adaptive = expected_calibration_error(truth, proba, strategy="quantile")
    assert adaptive == pytest.approx(naive_ece(p, right, np.quantile(p, np.linspace(0, 1, 16))))
    bins = reliability_bins(p, right, strategy="quantile")
    assert np.ptp(bins.share * len(p)) <= 1.5  # as many rows each


def test_calibrated_probabilities_have_next_to_no_error():
    logits, truth = sampled(3.0)
    before = expected_calibration_error(truth, softmax(logits, axis=1))
    t = fit_temperature(logits, truth)
    after = expected_calibration_error(truth, softmax(logits / t, axis=1))
    assert before > 0.2 and after < 0.03


def test_a_weight_is_so_many_rows():
    rng = np.random.default_rng(0)
    p, right, times = rng.random(50), rng.random(50) < 0.5, rng.integers(0, 4, 50)
    weighted = reliability_bins(p, right, sample_weight=times)
    repeated = reliability_bins(p.repeat(times), right.repeat(times))
    np.testing.assert_allclose(weighted.share, repeated.share)
    assert weighted.ece == pytest.approx(repeated.ece)


def test_edges_are_kept():
    bins = reliability_bins([0.0, 1.0, 1.0, 0.2], [0, 1, 1, 0], n_bins=5)
    np.testing.assert_allclose(bins.share, [0.5, 0, 0, 0, 0.5])
    same = reliability_bins([0.7] * 4, [1, 1, 1, 0], strategy="quantile")
    assert same.ece == pytest.approx(0.05)


def test_labels_may_be_strings_and_columns_more_than_occur():
    proba = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1]]
    found = expected_calibration_error(["a", "b"], proba, labels=["a", "b", "c"])
    assert found == pytest.approx(0.3)
    with pytest.raises(ValueError, match="labels="):
        expected_calibration_error(["a", "b"], proba)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"n_bins": 0}, "n_bins"), ({"strategy": "other"}, "strategy"), ({"n_bins": 1.5}, "n_bins")],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(ValueError, match=said):
        reliability_bins([0.5], [1], **options)
    with pytest.raises(ValueError, match="at least one row"):
        reliability_bins([], [])


def test_scores_are_scikit_learns():
    logits, truth = sampled(1.0, n=300)
    found = class_reliability(log_softmax(logits, axis=1), truth)
    proba = softmax(logits, axis=1)
    assert found["nll"] == pytest.approx(log_loss(truth, proba))
    brier = brier_score_loss(truth, proba, scale_by_half=False)
    assert found["brier"] == pytest.approx(brier)
    assert found["accuracy"] == (proba.argmax(1) == truth).mean()


def test_gaussian_measures_are_scipys():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2, (5000, 1))
    residuals = std * rng.normal(size=std.shape)
    found = gaussian_reliability(residuals, std)
    assert found["nll"] == pytest.approx(-norm.logpdf(residuals, scale=std).mean())
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.015)
