"""What to use at how many labels: a comparison in a sentence that claims no more than it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .learning_curves import refuse_no_comparison

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]

#: Columns of `compare_few_shot` that are read here, beside those that every comparison has.
NEEDED = ["reference", "difference", "difference_low", "difference_high", "p_holm"]
#: Level of the tests, after Holm's correction.
LEVEL = 0.05
#: Known baselines, the simplest first; any other stands after them, in the order of the table.
SIMPLEST = (
    "mean",
    "prior",
    "nearest centroid",
    "ridge",
    "logistic regression",
    "pooled",
    "pooled, with task",
    "mixed model",
    "Gaussian process",
    "random forest",
    "in-context",
    "pooled network",
    "pooled boosting",
)


@dataclass(frozen=True)
class Choice:
    """What to use at one number of shots, and why.

    Parameters
    ----------
    n_shots : int
        Labels a class or a task.
    use : str
        Name of what to use.
    sure : bool
        Whether it is an estimator that does better than every baseline, by more
        than chance.
    against : str
        The best baseline; where nothing is sure and `use` is that, what has the
        best mean.
    difference, low, high : float
        Mean paired difference, of `use` to `against` where it is sure, else of
        `against` to `use`, with its 95% interval; NaN where the comparison has
        none of the two.
    """

    n_shots: int
    use: str
    sure: bool
    against: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Recommendation:
    """What to use at how many labels; ``str`` says it in a sentence.

    Parameters
    ----------
    choices : tuple of Choice
        One for each number of shots, ascending: `n_shots`, `use`, whether that is `sure`, `against`
        what, and the paired `difference` with its 95% interval, `low` to `high`.
    unit : str
        What is counted: ``""`` for labels a task, ``" a class"`` for labels a class.

    See Also
    --------
    recommendation : Makes it from a comparison.

    Examples
    --------
    >>> from fewshot_sklearn import Recommendation
    >>> print(Recommendation((), ""))
    Nothing was compared.
    """

    choices: tuple[Choice, ...]
    unit: str

    def __str__(self) -> str:
        if not self.choices:
            return "Nothing was compared."
        runs: list[list[Choice]] = []
        for choice in self.choices:
            if runs and (runs[-1][0].use, runs[-1][0].sure) == (choice.use, choice.sure):
                runs[-1].append(choice)
            else:
                runs.append([choice])
        told = []
        for i, run in enumerate(runs):
            where = self._where(run, first=i == 0, last=i == len(runs) - 1)
            told.append(f"{where}{_told(run, where.endswith(': '))}")
        sentence = "; ".join(told)
        return sentence[0].upper() + sentence[1:] + "."

    def _where(self, run: list[Choice], first: bool, last: bool) -> str:
        low, high = run[0].n_shots, run[-1].n_shots
        labels = f"{high} label{'s' if high > 1 else ''}{self.unit}"
        if first and last:
            return f"at {labels}: " if low == high else f"from {low} to {labels}: "
        if first:
            return f"up to {labels}: " if len(run) > 1 or low > 1 else f"at {labels}: "
        if last:
            return f"from {low} on "
        return f"at {labels}: " if low == high else f"from {low} to {labels}: "


def recommendation(comparison: pd.DataFrame) -> Recommendation:
    """Say what to use at how many labels, going by what a comparison shows for sure.

    At each number of shots: the estimator of the best mean among those whose
    paired difference to the best baseline is above zero by its 95% interval, and
    stands Holm's correction for the whole table; where none is, the simplest of
    all that the best baseline is not above by the interval. The intervals and
    tests are those of the table: over the same episodes, and with groups taking
    the episodes of one task as one cluster.

    Parameters
    ----------
    comparison : DataFrame
        What ``compare_few_shot`` returned.

    Returns
    -------
    Recommendation
        Its `choices`, and as ``str`` a sentence.

    Raises
    ------
    ValueError
        When the comparison lacks columns.

    See Also
    --------
    compare_few_shot : Makes the comparison; its ``attrs["recommendation"]`` is the sentence.
    labels_saved : Says how many labels a baseline needs for the same score.

    Notes
    -----
    A table whose `reference` is not the best baseline has no paired difference to
    that. Intervals of the means that lie apart then count as a sure difference,
    which asks for more than a paired one would. In a table without baselines
    the estimators are compared with its reference.

    Examples
    --------
    >>> import pandas as pd
    >>> from fewshot_sklearn import recommendation
    >>> comparison = pd.DataFrame({
    ...     "estimator": ["ours"] * 2 + ["ridge"] * 2, "baseline": [False] * 2 + [True] * 2,
    ...     "n_shots": [1, 10] * 2, "mean": [0.7, 0.91, 0.58, 0.9],
    ...     "ci_low": [0.69, 0.9, 0.57, 0.89], "ci_high": [0.71, 0.92, 0.59, 0.91],
    ...     "reference": "ridge", "difference": [0.12, 0.01, 0., 0.],
    ...     "difference_low": [0.08, -0.02, 0., 0.], "difference_high": [0.16, 0.04, 0., 0.],
    ...     "p_holm": [0.001, 0.5, None, None],
    ... })
    >>> for part in str(recommendation(comparison)).split("; "):
    ...     print(part)
    At 1 label: ours (better than the best baseline, ridge, by 0.12 [0.08, 0.16])
    from 10 on no gain is sure: use ridge, the simplest on a par with the best (ours is 0.01
    [-0.02, 0.04] above).
    """
    refuse_no_comparison(comparison)
    if missing := [c for c in ("ci_low", "ci_high", *NEEDED) if c not in comparison.columns]:
        raise ValueError(
            f"comparison must be what compare_few_shot returned; it lacks the columns {missing}."
        )
    order = {name: i for i, name in enumerate(dict.fromkeys(comparison["estimator"]))}
    choices = [
        _choice(int(k), part.to_dict("records"), order)
        for k, part in comparison.groupby("n_shots", sort=True)
    ]
    unit = "" if comparison.attrs.get("n_way") is None else " a class"
    return Recommendation(tuple(choices), unit)


def _choice(n_shots: int, lines: list[dict[str, Any]], order: dict[str, int]) -> Choice:
    rivals = [line for line in lines if line["baseline"]]
    named = [line for line in lines if line["estimator"] == lines[0]["reference"]]
    best = max(rivals or named or lines[:1], key=lambda line: line["mean"])
    own = [line for line in lines if not line["baseline"] and line is not best]
    above = [line for line in own if _above(line, best) and _stands(line, best)]
    if above:
        one = max(above, key=lambda line: line["mean"])
        return Choice(n_shots, one["estimator"], True, best["estimator"], *_paired(one, best))
    # here no correction: it would keep what is probably worse among those to choose from
    on_a_par = [line for line in lines if not _above(best, line)]
    one = min(on_a_par, key=lambda line: _simplicity(line, order))
    # all differences of a table are to the best baseline
    top = best if one is not best else max([best, *on_a_par], key=lambda line: line["mean"])
    return Choice(n_shots, one["estimator"], False, top["estimator"], *_paired(top, one))


def _simplicity(line: dict[str, Any], order: dict[str, int]) -> tuple[int, int]:
    name = line["estimator"]
    if not line["baseline"]:
        return 2, order[name]
    return (0, SIMPLEST.index(name)) if name in SIMPLEST else (1, order[name])


def _paired(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
    """Paired difference of `one` to `other`, and its interval, where the table has it."""
    if one is other:
        return 0.0, 0.0, 0.0
    if one["reference"] == other["estimator"]:
        return one["difference"], one["difference_low"], one["difference_high"]
    if other["reference"] == one["estimator"]:
        return -other["difference"], -other["difference_high"], -other["difference_low"]
    return one["mean"] - other["mean"], np.nan, np.nan


def _above(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the 95% interval of the difference is above zero, or those of the means apart."""
    if one is other:
        return False
    if other["estimator"] == one["reference"] or one["estimator"] == other["reference"]:
        return bool(_paired(one, other)[1] > 0)
    return bool(one["ci_low"] > other["ci_high"])


def _stands(one: dict[str, Any], reference: dict[str, Any]) -> bool:
    """Whether a difference to the reference stands Holm's correction; others have no test."""
    return one["reference"] != reference["estimator"] or bool(one["p_holm"] < LEVEL)


def _told(run: list[Choice], after_colon: bool) -> str:
    first = run[0]
    if first.sure:
        others = list(dict.fromkeys(choice.against for choice in run))
        by = [f"by {_interval(run[0])}"]
        if len(run) > 1:
            by = [f"by {_interval(c)} at {c.n_shots}" for c in (run[0], run[-1])]
        told = f"{first.use} (better than the best baseline, {_or(others)}, {' and '.join(by)})"
        return told if after_colon else f"use {told}"
    # of a run the difference that comes nearest to telling something
    widest = max(run, key=lambda c: c.difference if c.against != c.use else -np.inf)
    if widest.against == widest.use:
        return f"no gain is sure: use {first.use}, the best on average"
    at = f" at {widest.n_shots}" if len(run) > 1 else ""
    return (
        f"no gain is sure: use {first.use}, the simplest on a par with the best "
        f"({widest.against} is {_interval(widest)} above{at})"
    )


def _or(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _interval(choice: Choice) -> str:
    told = f"{choice.difference:.2g}"
    if np.isnan(choice.low):
        return told
    return f"{told} [{choice.low:.2g}, {choice.high:.2g}]"
