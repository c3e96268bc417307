"""A picture of score against labels, of an estimator and its rivals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..tasks import Flag, OneOf, check_arguments
from .axes import check_axes, pyplot
from .comparison import compare_few_shot
from .learning_curves import (
    checked_names,
    curve_of,
    labels_saved,
    lines_of,
    number_told,
    refuse_no_comparison,
)

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]


class FewShotCurveDisplay:
    """Learning curves of few-shot estimators: score against the number of labels.

    Make one with `from_comparison` or `from_estimators`. Estimators are drawn in
    colour, baselines in grey, each with a band of its 95% interval; an arrow
    leads from what the first estimator does with few labels to where the best
    baseline does as well.

    Parameters
    ----------
    comparison : DataFrame
        What ``compare_few_shot`` returned.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the curves.
    figure_ : matplotlib Figure
        Figure of the axes.
    lines_ : dict of str to matplotlib Line2D
        Curve of each estimator and baseline.

    See Also
    --------
    compare_few_shot : Makes the comparison.
    labels_saved : Says in words what the title sums up.

    Examples
    --------
    >>> import pandas as pd
    >>> from fewshot_sklearn.model_selection import FewShotCurveDisplay
    >>> comparison = pd.DataFrame({
    ...     "estimator": ["ours"] * 2 + ["ridge"] * 2, "baseline": [False] * 2 + [True] * 2,
    ...     "n_shots": [1, 4, 1, 4], "mean": [0.7, 0.9, 0.6, 0.8],
    ...     "ci_low": [0.69, 0.89, 0.59, 0.79], "ci_high": [0.71, 0.91, 0.61, 0.81],
    ... })
    >>> display = FewShotCurveDisplay.from_comparison(comparison)
    >>> display.ax_.get_title("left")
    '1 label with ours does what 2 do with the best baseline'
    """

    _constraints = {
        "negate_score": Flag() | None,
        "bands": OneOf("mean", "difference") | None,
    }

    def __init__(self, comparison: pd.DataFrame):
        self.comparison = comparison

    @classmethod
    def from_comparison(
        cls,
        comparison: pd.DataFrame,
        *,
        estimator: str | None = None,
        baseline: str | None = None,
        score_name: str | None = None,
        negate_score: bool | None = None,
        bands: str | None = "mean",
        ax: Any = None,
    ) -> FewShotCurveDisplay:
        """Draw a comparison.

        Parameters
        ----------
        comparison : DataFrame
            What ``compare_few_shot`` returned.
        estimator, baseline : str or None, default=None
            Whom the title and the arrow are about; see ``labels_saved``.
        score_name : str or None, default=None
            What to write beside the score; None is the name of the scorer.
        negate_score : bool or None, default=None
            Whether to turn the sign of the scores; None does for scorers called
            ``"neg_..."``, so that an error is drawn as one.
        bands : {"mean", "difference"} or None, default="mean"
            What the bands show: the 95% interval of each mean, or as wide a one
            as that of its paired difference to the reference. Where tasks differ
            more than estimators the former overlap however clear a difference
            is, as all estimators see the same tasks. None draws no bands.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes new ones.

        Returns
        -------
        FewShotCurveDisplay
            The display, drawn.
        """
        return cls(comparison).plot(
            ax,
            estimator=estimator,
            baseline=baseline,
            score_name=score_name,
            negate_score=negate_score,
            bands=bands,
        )

    @classmethod
    def from_estimators(
        cls, estimators: Any, X: Any, y: Any, groups: Any = None, *, ax: Any = None, **options: Any
    ) -> FewShotCurveDisplay:
        """Compare estimators and draw the comparison.

        Parameters
        ----------
        estimators, X, y, groups : see compare_few_shot
            What to compare, and on which tasks.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes new ones.
        **options : dict
            Further arguments of ``compare_few_shot``: `n_shots`, `n_way`, ...

        Returns
        -------
        FewShotCurveDisplay
            The display, drawn; its `comparison` holds the numbers.
        """
        options.pop("return_scores", None)
        comparison = compare_few_shot(estimators, X, y, groups, **options)
        return cls.from_comparison(comparison, ax=ax)

    def plot(
        self,
        ax: Any = None,
        *,
        estimator: str | None = None,
        baseline: str | None = None,
        score_name: str | None = None,
        negate_score: bool | None = None,
        bands: str | None = "mean",
    ) -> FewShotCurveDisplay:
        """Draw the curves.

        Errors that differ more than twentyfold get a logarithmic axis.
        Curves that lie far from those of the estimators and the best baseline
        may leave the axes; the legend says which do.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes new ones.
        estimator, baseline, score_name, negate_score, bands : see from_comparison
            What is drawn how.

        Returns
        -------
        FewShotCurveDisplay
            The display.
        """
        check_arguments(self._constraints, bands=bands, negate_score=negate_score)
        check_axes(ax)
        plt = pyplot()
        from matplotlib.ticker import FixedLocator, NullLocator

        frame = self.comparison
        refuse_no_comparison(frame)
        alone = baseline is None and not frame["baseline"].any()
        first = frame["estimator"].iloc[0] if alone else checked_names(frame, estimator, baseline)
        scoring = str(frame.attrs.get("scoring", "score"))
        negative = scoring.startswith("neg_") if negate_score is None else negate_score
        sign = -1.0 if negative else 1.0
        if ax is None:
            _, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        key = frame[~frame["baseline"].astype(bool)]
        if not alone:
            import pandas as pd

            key = pd.concat([key, curve_of(frame, baseline)])
        shown, every = sign * key["mean"].to_numpy(), sign * frame["mean"].to_numpy()
        log = negative and 0 < 20 * shown.min() < shown.max() and every.min() > 0
        low, high = _limits(shown, every, log)
        ax.set_yscale("log" if log else "linear")
        self.lines_ = self._curves(sign, first, low, high, bands)
        ticks = sorted(set(frame["n_shots"]))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.set_xlim(ticks[0] / 1.08, ticks[-1] * 1.08)
        ax.set_ylim(low, high)
        a_class = "" if frame.attrs.get("n_way") is None else " a class"
        name = scoring.removeprefix("neg_") if negative else scoring
        better = " (lower is better)" if negative else ""
        ax.set_xlabel(f"labels{a_class or ' a task'}")
        ax.set_ylabel(score_name or name.replace("_", " ") + better)
        if not alone:
            saved = labels_saved(frame, first, baseline)
            ax.set_title(saved.attrs["headline"], loc="left", fontsize=10, wrap=True)
            self._arrow(saved, sign)
        handles = list(self.lines_.values())
        ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="0.92", zorder=0)
        ax.set_axisbelow(True)
        return self

    def _curves(
        self, sign: float, first: str, low: float, high: float, bands: str | None
    ) -> dict[str, Any]:
        from matplotlib import style

        colors = style.library["seaborn-v0_8-colorblind"]["axes.prop_cycle"].by_key()["color"]
        frame, lines = self.comparison, {}
        rivals = list(dict.fromkeys(frame.loc[frame["baseline"].astype(bool), "estimator"]))
        own = [n for n in dict.fromkeys(frame["estimator"]) if n not in rivals]
        own.sort(key=lambda name: name != first)
        for i, name in enumerate(own + rivals):
            of = lines_of(frame, name)
            x, mean = of["n_shots"].to_numpy(), sign * of["mean"].to_numpy()
            outside = ((mean < low) | (mean > high)).all()
            look: dict[str, Any] = {"color": colors[i % 6], "lw": 2.2, "marker": "o", "zorder": 4}
            if name in rivals:
                j = i - len(own)
                look = {
                    "color": str(0.25 + 0.4 * j / max(len(rivals) - 1, 1)),
                    "lw": 1.1,
                    "ls": ["--", "-.", ":"][j % 3],
                    "marker": "svD^Px*"[j % 7],
                    "ms": 4,
                    "zorder": 3,
                }
            label = f"{name} (beyond the axes)" if outside else name
            (lines[name],) = self.ax_.plot(x, mean, label=label, **look)
            if bands is None:
                continue
            top, middle = (
                ("ci_high", "mean") if bands == "mean" else ("difference_high", "difference")
            )
            half = (of[top] - of[middle]).to_numpy()
            # a log axis has no place for an interval that reaches below zero
            floor = low / 10 if self.ax_.get_yscale() == "log" else -np.inf
            ends = np.maximum([mean - half, mean + half], floor)
            alpha = 0.08 if name in rivals else 0.18
            self.ax_.fill_between(x, *ends, color=look["color"], alpha=alpha, lw=0)
        return lines

    def _arrow(self, saved: Any, sign: float) -> None:
        """From the score that the title speaks of to where the baseline reaches it."""
        if not saved["saves"].any():
            return
        one = saved[saved["saves"]].iloc[0]
        y, ends_there = sign * one["score"], one["bound"] == "="
        if one["baseline_shots"] > 1.02 * one["n_shots"]:
            self.ax_.annotate(
                number_told(one["baseline_shots"]) if ends_there else "",
                (one["baseline_shots"], y),
                (0, 3),
                textcoords="offset points",
                ha="left",
                fontsize=8,
                color="0.3",
            )
            self.ax_.annotate(
                "",
                (one["baseline_shots"], y),
                (one["n_shots"], y),
                arrowprops={
                    "arrowstyle": "-|>" if ends_there else "->",
                    "color": "0.3",
                    "ls": "-" if ends_there else ":",
                    "shrinkA": 5,
                    "shrinkB": 0,
                },
                zorder=5,
            )


def _limits(key: np.ndarray, every: np.ndarray, log: bool) -> tuple[float, float]:
    """Scores to show: the key ones, and of all others those as far away again to either side."""
    to, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    low, high = to(key.min()), to(key.max())
    reach = high - low or 0.1 * abs(high)
    low = min(low, max(to(every.min()), low - reach))
    high = max(high, min(to(every.max()), high + reach))
    margin = 0.04 * (high - low) or 0.05
    return float(back(low - margin)), float(back(high + margin))
