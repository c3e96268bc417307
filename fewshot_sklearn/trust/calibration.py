"""Temperatures and scales learned on past tasks, and measures of what they are worth.

C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger. On calibration of modern neural
networks. ICML 2017.

A. Niculescu-Mizil and R. Caruana. Predicting good probabilities with supervised
learning. ICML 2005 (reliability diagrams).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ..tasks import OneOf, Whole, check_arguments

#: Temperatures looked at first; the best one's neighbours bound the search.
TEMPERATURES = np.logspace(-3, 9, 73)
#: By how much rounding may bring a probability beyond 0 or 1.
ROUNDING = 1e-3
_ARGUMENTS = {"n_bins": Whole(1), "strategy": OneOf("uniform", "quantile")}


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature that makes the true classes most likely (Guo et al. 2017, section 4.2).

    Parameters
    ----------
    logits : ndarray of shape (n_rows, n_classes)
        Logits of queries of past episodes; minus infinity for classes that an
        episode lacks.
    truth : ndarray of shape (n_rows,)
        Column of the true class; rows where it is negative are left out.

    Returns
    -------
    float
        T of softmax(logits / T), which minimises the mean negative log likelihood.
        It lies between 1e-3 and 1e9.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.trust.calibration import fit_temperature
    >>> logits = np.array([[4.0, 0.0]] * 4)  # sure, and wrong one time in four
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 2)  # 4 / log 3
    3.64
    """
    logits, truth = logits[truth >= 0], truth[truth >= 0]
    if not len(logits):
        return 1.0
    steps = np.log(TEMPERATURES)

    def loss(log_temperature: float) -> float:
        told = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(np.take_along_axis(told, truth[:, None], 1).mean())

    best = int(np.argmin([loss(step) for step in steps]))
    bounds = steps[max(best - 1, 0)], steps[min(best + 1, len(steps) - 1)]
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def fit_scale(residuals: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The factors on standard deviations that make residuals most likely under Gaussians.

    Parameters
    ----------
    residuals : ndarray of shape (n_rows, n_outputs)
        Targets minus predictive means.
    std : ndarray of shape (n_rows, n_outputs)
        Predictive standard deviations.

    Returns
    -------
    ndarray of shape (n_outputs,)
        sqrt(mean((residual / std)^2)), which minimises the mean negative log
        likelihood; at least the smallest positive float where all residuals are zero.
    """
    scale = np.sqrt(np.square(residuals / std).mean(0))
    return np.maximum(scale, np.finfo(np.float64).tiny)


def at_shots(n_shots: float, known: Any, values: np.ndarray) -> np.ndarray:
    """Positive values known for some numbers of shots, interpolated at another.

    Linear in the logarithms of both; constant beyond the smallest and the largest
    number known.

    Parameters
    ----------
    n_shots : float
        Number of shots asked about.
    known : sequence of int, of length n_known
        Numbers of shots, ascending.
    values : ndarray of shape (n_known, ...)
        Values at these.

    Returns
    -------
    ndarray of shape (...)
        Value at `n_shots`.
    """
    place = np.interp(np.log(n_shots), np.log(known), np.arange(len(known)))
    low = min(int(place), max(len(known) - 2, 0))
    high, share = min(low + 1, len(known) - 1), place - low
    return np.exp((1 - share) * np.log(values[low]) + share * np.log(values[high]))


class ReliabilityBins(NamedTuple):
    """Rows binned by confidence: mean confidence, accuracy and share of the rows of each bin.

    Parameters
    ----------
    edges : ndarray of shape (n_bins + 1,)
        Edges of the bins.
    confidence, accuracy : ndarray of shape (n_bins,)
        Means over each bin; NaN where it is empty.
    share : ndarray of shape (n_bins,)
        Share of the (weighted) rows; sums to one.
    """

    edges: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error: mean of |accuracy - confidence| over the rows."""
        return float(np.nansum(self.share * np.abs(self.accuracy - self.confidence)))


def reliability_bins(
    confidence: Any,
    correct: Any,
    n_bins: int = 15,
    strategy: str = "uniform",
    sample_weight: Any = None,
) -> ReliabilityBins:
    """Bin rows by confidence.

    Parameters
    ----------
    confidence : array-like of shape (n_rows,)
        Probability of the predicted class.
    correct : array-like of shape (n_rows,)
        Whether the prediction was right.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width on [0, 1] (the usual ECE), or of as many rows each
        (adaptive bins; equal confidences stay together).
    sample_weight : array-like of shape (n_rows,) or None, default=None
        Weights of the rows.

    Returns
    -------
    ReliabilityBins
        The bins.

    Raises
    ------
    ValueError
        When there are no rows, or an option is unknown.
    """
    check_arguments(_ARGUMENTS, n_bins=n_bins, strategy=strategy)
    p, right = numbers(confidence, "confidence"), numbers(correct, "correct")
    w = np.ones(len(p)) if sample_weight is None else numbers(sample_weight, "sample_weight")
    if not len(p) or not len(p) == len(right) == len(w):
        raise ValueError(
            "confidence, correct and sample_weight must have one number a row and at least one "
            f"row, got {len(p)}, {len(right)} and {len(w)}."
        )
    refuse_no_probabilities(p, "confidence")
    if not (w >= 0).all() or not 0 < w.sum() < np.inf:
        raise ValueError("sample_weight must be finite, at least zero and not all zero.")
    edges = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile":
        edges = np.unique(np.quantile(p, edges))
        edges = np.array([edges[0], edges[0]]) if len(edges) == 1 else edges
    # bins (a, b], as Guo et al. have them; the first holds its lower edge too
    code = np.searchsorted(edges[1:-1], p, side="left")
    mass = np.bincount(code, w, len(edges) - 1)
    with np.errstate(invalid="ignore"):
        mean_p = np.bincount(code, w * p, len(mass)) / mass
        accuracy = np.bincount(code, w * right, len(mass)) / mass
    return ReliabilityBins(edges, mean_p, accuracy, mass / mass.sum())


def numbers(values: Any, name: str) -> np.ndarray:
    """Values of at least one axis as floats.

    Raises
    ------
    ValueError
        When they are no numbers; says their name.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}.") from error
    if not array.ndim:
        raise ValueError(f"{name} must be one number a row, got {values!r}.")
    return array


def refuse_no_probabilities(p: np.ndarray, name: str) -> None:
    """Raise a ValueError, which says the name, where a number is missing or not from 0 to 1."""
    wrong = ~((p >= -ROUNDING) & (p <= 1 + ROUNDING))
    if wrong.any():
        raise ValueError(
            f"{name} must be probabilities, from 0 to 1 and none of them missing, got "
            f"{p[wrong][0]} among them."
        )


def expected_calibration_error(
    y_true: Any,
    y_proba: Any,
    *,
    labels: Any = None,
    n_bins: int = 15,
    strategy: str = "uniform",
    sample_weight: Any = None,
) -> float:
    """Expected calibration error of the predicted class (Guo et al. 2017, eq. 3).

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Class labels.
    y_proba : array-like of shape (n_rows, n_classes)
        Class probabilities.
    labels : array-like of shape (n_classes,) or None, default=None
        Labels of the columns; None is the sorted labels in `y_true`.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or of as many rows each.
    sample_weight : array-like of shape (n_rows,) or None, default=None
        Weights of the rows.

    Returns
    -------
    float
        Mean distance of accuracy and confidence within the bins, between 0 and 1.

    Raises
    ------
    ValueError
        When the columns are not as many as the labels.

    See Also
    --------
    ReliabilityDisplay : Draws the bins.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern
       neural networks", ICML 2017, eq. 3.

    Examples
    --------
    >>> from fewshot_sklearn import expected_calibration_error
    >>> y_proba = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]
    >>> round(expected_calibration_error([0, 1, 1, 1], y_proba), 2)
    0.25
    """
    confidence, correct = top_label(y_true, y_proba, labels)
    return reliability_bins(confidence, correct, n_bins, strategy, sample_weight).ece


def top_label(y_true: Any, y_proba: Any, labels: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each row's predicted class, and whether that is the true one."""
    truth, proba = np.asarray(y_true), numbers(y_proba, "y_proba")
    names = np.unique(truth) if labels is None else np.asarray(labels)
    if proba.ndim != 2 or proba.shape != (len(truth), len(names)):
        raise ValueError(
            f"y_proba must have one row for each of {len(truth)} labels and one column for each "
            f"of the classes {names.tolist()}, got shape {proba.shape}. Pass labels= where "
            "y_true lacks some class."
        )
    refuse_no_probabilities(proba, "y_proba")
    return proba.max(1), names[proba.argmax(1)] == truth


def class_reliability(log_proba: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How good class probabilities are: accuracy, errors of calibration, proper scores.

    Parameters
    ----------
    log_proba : ndarray of shape (n_rows, n_classes)
        Logarithms of probabilities.
    truth : ndarray of shape (n_rows,)
        Columns of the true classes.

    Returns
    -------
    dict of str to float
        ``accuracy``; ``ece`` and ``adaptive_ece`` (15 bins); ``nll``, in nats;
        ``brier``, the sum of squares over classes, between 0 and 2.
    """
    proba = np.exp(log_proba)
    told = np.take_along_axis(log_proba, truth[:, None], 1)[:, 0]
    p, right = proba.max(1), proba.argmax(1) == truth
    one_hot = truth[:, None] == np.arange(proba.shape[1])
    return {
        "accuracy": float(right.mean()),
        "ece": reliability_bins(p, right).ece,
        "adaptive_ece": reliability_bins(p, right, strategy="quantile").ece,
        # a probability that underflowed is worth -700 nats, not infinity
        "nll": float(-np.maximum(told, np.log(np.finfo(np.float64).tiny)).mean()),
        "brier": float(np.square(proba - one_hot).sum(1).mean()),
    }


def gaussian_reliability(residuals: np.ndarray, std: np.ndarray) -> dict[str, float]:
    """How good predictive standard deviations are.

    Parameters
    ----------
    residuals, std : ndarray of shape (n_rows, n_outputs)
        Targets minus means, and standard deviations.

    Returns
    -------
    dict of str to float
        ``rmse``; ``nll``, Gaussian, in nats; ``coverage_90``, the share of
        residuals within 1.645 standard deviations.
    """
    z = residuals / std
    nll = 0.5 * (z**2 + np.log(2 * np.pi)) + np.log(std)
    return {
        "rmse": float(np.sqrt(np.square(residuals).mean())),
        "nll": float(nll.mean()),
        "coverage_90": float((np.abs(z) <= 1.6448536269514722).mean()),
    }
