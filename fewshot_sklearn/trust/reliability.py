"""Reliability diagrams: accuracy against confidence.

A. Niculescu-Mizil and R. Caruana. Predicting good probabilities with supervised
learning. ICML 2005.

C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger. On calibration of modern neural
networks. ICML 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import clone
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from ..estimators import final_step
from ..model_selection import EpisodeAnswers, EpisodeSplit, check_axes, pyplot
from ..tasks import IntOrRange
from .calibration import ReliabilityBins, reliability_bins, top_label
from .classifier import TrustedClassifier


class ReliabilityDisplay:
    """Reliability diagram of a classifier: how often it is right, by how sure it is.

    The upper part draws the accuracy of each bin of confidence (the probability of
    the predicted class); on the diagonal, probabilities mean what they say. Points
    below it are over-confident. The lower part draws how many of the rows are in
    each bin. Make one with `from_episodes`, `from_estimator` or `from_predictions`.

    Parameters
    ----------
    bins : ReliabilityBins
        Mean confidence, accuracy and share of rows of each bin.
    name : str or None, default=None
        Name for the legend.

    Attributes
    ----------
    ece : float
        Expected calibration error.
    ax_ : matplotlib Axes
        Where the accuracy was drawn.
    histogram_ax_ : matplotlib Axes
        Where the shares were drawn.
    figure_ : matplotlib Figure
        The figure.
    line_ : matplotlib Artist
        The line of accuracies.

    See Also
    --------
    expected_calibration_error : The number in the legend.
    TrustLearner : Makes the probabilities better.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern
       neural networks", ICML 2017, section 2.

    Examples
    --------
    >>> from fewshot_sklearn.trust import ReliabilityDisplay
    >>> y_proba = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]
    >>> display = ReliabilityDisplay.from_predictions([0, 1, 1, 1], y_proba)
    >>> display.ax_.get_xlabel()
    'confidence'
    """

    def __init__(self, bins: ReliabilityBins, *, name: str | None = None):
        self.bins = bins
        self.name = name

    @property
    def ece(self) -> float:
        return self.bins.ece

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        labels: Any = None,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ReliabilityDisplay:
        """Draw the reliability of predicted probabilities.

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
        name : str or None, default=None
            Name for the legend.
        ax : matplotlib Axes or None, default=None
            Where to draw; see `plot`.
        **kwargs : dict
            Options of the line.

        Returns
        -------
        ReliabilityDisplay
            The diagram, drawn.
        """
        confidence, correct = top_label(y_true, y_proba, labels)
        bins = reliability_bins(confidence, correct, n_bins, strategy, sample_weight)
        return cls(bins, name=name).plot(ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_bins: int = 15,
        strategy: str = "uniform",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ReliabilityDisplay:
        """Draw the reliability of a fitted classifier on other rows of its task.

        Parameters
        ----------
        estimator : estimator
            A fitted classifier with `predict_proba`.
        X : array-like of shape (n_rows, ...)
            Rows.
        y : array-like of shape (n_rows,)
            Their labels.
        n_bins, strategy, sample_weight, name, ax, **kwargs : object
            See `from_predictions`; the name is by default the class of the estimator, or
            of a pipeline's last step.

        Returns
        -------
        ReliabilityDisplay
            The diagram, drawn.
        """
        check_is_fitted(estimator)
        return cls.from_predictions(
            y,
            estimator.predict_proba(X),
            labels=estimator.classes_,
            n_bins=n_bins,
            strategy=strategy,
            sample_weight=sample_weight,
            name=type(final_step(estimator)).__name__ if name is None else name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_episodes(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        groups: Any = None,
        *,
        n_way: IntOrRange | None = 5,
        n_shot: IntOrRange = 1,
        n_query: IntOrRange | None = 15,
        n_episodes: int = 100,
        random_state: Any = 0,
        n_bins: int = 15,
        strategy: str = "uniform",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ReliabilityDisplay:
        """Draw the reliability of a classifier on the queries of many episodes together.

        Parameters
        ----------
        estimator : estimator
            Any classifier; a clone is fitted on the support of each episode.
        X : array-like of shape (n_rows, ...)
            Rows of tasks that neither meta-training nor `TrustLearner` has seen.
        y : array-like of shape (n_rows,)
            Labels.
        groups : array-like of shape (n_rows,) or None, default=None
            Task or group of each row.
        n_way, n_shot, n_query, n_episodes, random_state : object
            The episodes, see `EpisodeSplit`.
        n_bins, strategy, name, ax, **kwargs : object
            See `from_predictions`; the name is by default the class of the estimator, or
            of a pipeline's last step.

        Returns
        -------
        ReliabilityDisplay
            The diagram, drawn.
        """
        check_consistent_length(X, y, groups)
        rows = EpisodeSplit(n_way, n_shot, n_query, n_episodes, random_state).episodes(y, groups)
        confidence, correct = _over_episodes(estimator, X, y, rows)
        bins = reliability_bins(confidence, correct, n_bins, strategy)
        name = type(final_step(estimator)).__name__ if name is None else name
        return cls(bins, name=name).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> ReliabilityDisplay:
        """Draw the diagram.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw. None is a new figure. The histogram goes below
            the axes; several diagrams on the same axes share it.
        name : str or None, default=None
            Name for the legend, in place of the display's own.
        **kwargs : dict
            Options of the line, such as ``color``.

        Returns
        -------
        ReliabilityDisplay
            Itself.
        """
        check_axes(ax)
        plt = pyplot()

        if ax is None:
            _, ax = plt.subplots(figsize=(5, 5.5), layout="constrained")
        lower = getattr(ax, "_reliability_histogram", None)
        if lower is None:
            lower = _prepared(ax)
        name = self.name if name is None else name
        label = f"ECE {100 * self.ece:.1f} %"
        label = label if name is None else f"{name} ({label})"
        filled = self.bins.share > 0
        confidence, accuracy = self.bins.confidence[filled], self.bins.accuracy[filled]
        (self.line_,) = ax.plot(
            confidence, accuracy, **({"linewidth": 1.2, "label": label} | kwargs)
        )
        color = self.line_.get_color()
        # what few rows say is small
        sizes = 10 + 90 * self.bins.share[filled] / self.bins.share.max()
        ax.scatter(confidence, accuracy, sizes, color=color, alpha=0.8, linewidths=0, zorder=3)
        lower.stairs(self.bins.share, self.bins.edges, color=color, linewidth=1.2)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0.2)
        self.ax_, self.histogram_ax_, self.figure_ = ax, lower, ax.figure
        return self


def _prepared(ax: Any) -> Any:
    """Axes for the histogram below the diagram's own, and what both show whatever is drawn."""
    lower = ax.inset_axes((0, -0.27, 1, 0.22), sharex=ax)
    ax._reliability_histogram = lower
    ax.plot([0, 1], [0, 1], ":", color="0.4", label="as sure as right")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    ax.tick_params(labelbottom=False)
    ax.xaxis.label.set_visible(False)
    lower.set(xlabel="confidence", ylabel="share of rows", yscale="log", ylim=(1e-4, 1))
    for axes in (ax, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return lower


def _over_episodes(estimator: Any, X: Any, y: Any, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, and whether it was right, of the queries of all episodes."""
    known = estimator._known() if isinstance(estimator, TrustedClassifier) else None
    plain = estimator if known is None else estimator._inner()
    whole = isinstance(estimator, TrustedClassifier) and estimator.fallback is not None
    answers = EpisodeAnswers(clone(estimator) if whole else plain, X, y)
    answered = answers.about_queries(rows)
    logits = answered.outputs
    if known is not None and not whole:  # what each episode's fit would divide its logits by
        coded = answers.coded(rows)
        assert coded.support_codes is not None
        n_classes = coded.support_codes.max(1) + 1
        shots = (coded.support >= 0).sum(1) / n_classes
        scales = {float(k): float(known.scale_at(k)[0]) for k in np.unique(shots)}
        logits = logits / np.array([scales[float(k)] for k in shots])[answered.episode, None]
    proba = softmax(logits, axis=1)
    return proba.max(1), proba.argmax(1) == answered.truth
