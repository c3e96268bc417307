"""How many labels does meta-learning save? Score against labels, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

BEST_BASELINE = "the best baseline"
#: Fewer labels saved than this share of them are not spoken of.
LEAST_SHARE = 0.1
#: Columns of `compare_few_shot` that are read here.
NEEDED = ["estimator", "baseline", "n_shots", "mean", "ci_low", "ci_high"]


def labels_saved(
    comparison: pd.DataFrame, estimator: str | None = None, baseline: str | None = None
) -> pd.DataFrame:
    """Say how many labels a baseline needs to do what an estimator does with few.

    The baseline's mean scores are joined by straight lines in the logarithm of
    the number of shots, and followed from the fewest labels on until they first
    reach the estimator's. Beyond the measured shots nothing is said but that.

    Parameters
    ----------
    comparison : DataFrame
        What ``compare_few_shot`` returned.
    estimator : str or None, default=None
        Name of the estimator; None takes the first.
    baseline : str or None, default=None
        Name of whom to compare it with. None takes at each number of shots the
        baseline of the best mean there.

    Returns
    -------
    DataFrame
        A line for each number of shots of the estimator, with columns

        - ``n_shots``, ``score``: its labels and its mean score;
        - ``bound``, ``baseline_shots``: the baseline's labels for that score: as
          many (``"="``), more than the most measured (``">"``) or fewer than
          the least (``"<"``);
        - ``saves``: whether it does better than the baseline with as many
          labels, by more than chance (the 95% interval of the paired difference
          where the comparison has it, or else both intervals apart; not
          corrected for the number of lines), and that is worth a tenth of the
          labels at least;
        - ``sentence``: the same in words.

        ``attrs["headline"]`` sums it up in one sentence.

    Raises
    ------
    ValueError
        When the comparison lacks the names or columns.

    See Also
    --------
    compare_few_shot : Makes the comparison.
    FewShotCurveDisplay : Draws it.

    Examples
    --------
    >>> import pandas as pd
    >>> from fewshot_sklearn import labels_saved
    >>> comparison = pd.DataFrame({
    ...     "estimator": ["ours"] * 2 + ["ridge"] * 2, "baseline": [False] * 2 + [True] * 2,
    ...     "n_shots": [1, 4, 1, 4], "mean": [0.7, 0.9, 0.6, 0.8],
    ...     "ci_low": [0.69, 0.89, 0.59, 0.79], "ci_high": [0.71, 0.91, 0.61, 0.81],
    ... })
    >>> for sentence in labels_saved(comparison).sentence:
    ...     print(sentence)
    1 label with ours does what 2 do with the best baseline
    4 labels with ours do more than 4 do with the best baseline
    """
    refuse_no_comparison(comparison)
    import pandas as pd

    estimator = checked_names(comparison, estimator, baseline)
    own = lines_of(comparison, estimator)
    curve = curve_of(comparison, baseline)
    if missing := set(own["n_shots"]) - set(curve["n_shots"]):
        raise ValueError(f"comparison must have the same shots for all, got none at {missing}.")
    unit = "" if comparison.attrs.get("n_way") is None else " a class"
    there = BEST_BASELINE if baseline is None else baseline
    lines = []
    for one in own.to_dict("records"):
        k = one["n_shots"]
        rival = curve[curve["n_shots"] == k].to_dict("records")[0]
        bound, needed = shots_for(one["mean"], curve["n_shots"], curve["mean"])
        clear = _clearly_above(one, rival)
        saves = clear and (bound == ">" or needed >= (1 + LEAST_SHARE) * k)
        verb = {"=": "what", ">": "more than", "<": "less than"}[bound]
        labels, do = (f"{k} label{unit}", "does") if k == 1 else (f"{k} labels{unit}", "do")
        lines.append(
            {
                "n_shots": k,
                "score": one["mean"],
                "bound": bound,
                "baseline_shots": needed,
                "saves": bool(saves),
                "sentence": f"{labels} with {estimator} {do} {verb} {number_told(needed)} "
                f"{'does' if number_told(needed) == '1' else 'do'} with {there}",
            }
        )
    saved = pd.DataFrame(lines)
    saved.attrs["headline"] = _headline(saved, estimator, there)
    return saved


def refuse_no_comparison(frame: Any) -> None:
    """Raise a ValueError where a frame is not of the form that ``compare_few_shot`` returns."""
    lacks = [c for c in ("estimator", "baseline", "n_shots", "mean") if c not in _columns(frame)]
    if lacks:
        raise ValueError(
            f"comparison must be a DataFrame that compare_few_shot returned: it lacks the columns "
            f"{lacks}, being a {type(frame).__name__}."
        )


def _columns(frame: Any) -> list[str]:
    return list(frame.columns) if hasattr(frame, "columns") and hasattr(frame, "iloc") else []


def shots_for(score: float, shots: Any, means: Any) -> tuple[str, float]:
    """Where a learning curve first reaches a score.

    Parameters
    ----------
    score : float
        The score to reach.
    shots : array-like of shape (n,)
        Numbers of shots, ascending.
    means : array-like of shape (n,)
        Scores there.

    Returns
    -------
    bound : {"=", ">", "<"}
        Whether the curve reaches it at `needed`, not within the measured
        shots, or before them.
    needed : float
        Number of shots, interpolated linearly in its logarithm; the last of
        them, or the first, where the curve does not pass through the score.
    """
    shots, means = np.asarray(shots, float), np.asarray(means, float)
    if score < means[0]:
        return "<", float(shots[0])
    reached = np.flatnonzero(means >= score)
    if not len(reached):
        return ">", float(shots[-1])
    j = reached[0]
    if j == 0:
        return "=", float(shots[0])
    share = (score - means[j - 1]) / (means[j] - means[j - 1])
    return "=", float(np.exp(np.interp(share, [0, 1], np.log(shots[j - 1 : j + 1]))))


def checked_names(comparison: Any, estimator: str | None, baseline: str | None) -> str:
    missing = [name for name in NEEDED if name not in comparison.columns]
    if missing:
        raise ValueError(
            f"comparison must be what compare_few_shot returned; it lacks the columns {missing}."
        )
    names = list(dict.fromkeys(comparison["estimator"]))
    for name, which in ((estimator, "estimator"), (baseline, "baseline")):
        if name is not None and name not in names:
            raise ValueError(f"{which} must be one of {names}, got {name!r}.")
    if baseline is None and not comparison["baseline"].any():
        raise ValueError(f"baseline is needed: the comparison has none; name one of {names}.")
    own = comparison.loc[~comparison["baseline"].astype(bool), "estimator"]
    if estimator is None and own.empty:
        raise ValueError(f"estimator is needed: all lines are of baselines; name one of {names}.")
    return own.iloc[0] if estimator is None else estimator


def lines_of(comparison: Any, name: str) -> Any:
    return comparison[comparison["estimator"] == name].sort_values("n_shots")


def curve_of(comparison: Any, baseline: str | None) -> Any:
    """The lines of a baseline, or of the best one at each number of shots."""
    if baseline is not None:
        return lines_of(comparison, baseline)
    rivals = comparison[comparison["baseline"].astype(bool)].reset_index(drop=True)
    return rivals.loc[rivals.groupby("n_shots")["mean"].idxmax()].sort_values("n_shots")


def _clearly_above(one: dict[str, Any], rival: dict[str, Any]) -> bool:
    if one.get("reference") == rival["estimator"]:
        return one["difference_low"] > 0
    return one["ci_low"] > rival["ci_high"]


def number_told(value: float) -> str:
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def _headline(saved: Any, estimator: str, there: str) -> str:
    if not saved["saves"].any():
        behind = (saved["bound"] == "<") | (saved["baseline_shots"] < saved["n_shots"])
        if behind.all():
            return f"{estimator} saves no labels: {there} needs fewer"
        return f"{estimator} saves no labels that these episodes could show"
    first = saved[saved["saves"]].iloc[0]
    later = saved[saved["n_shots"] > saved.loc[saved["saves"], "n_shots"].max()]
    end = f"; from {later['n_shots'].iloc[0]} on none are shown to be saved" if len(later) else ""
    return first["sentence"] + end
