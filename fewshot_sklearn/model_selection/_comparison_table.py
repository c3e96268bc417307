"""What paired scores say: means, differences, tests, as a table.

J. Demsar. Statistical comparisons of classifiers over multiple data sets. JMLR 7, 2006.

S. Holm. A simple sequentially rejective multiple test procedure. Scandinavian
Journal of Statistics 6, 1979.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student_t

from ._paired_scores import Scores
from .scores import FewShotScore, standard_error

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]


def comparison_table(
    results: dict[str, Scores],
    shots: list[int],
    tasks: np.ndarray | None,
    sizes: dict[str, Any],
    rivals: list[str],
    reference: str | None,
) -> pd.DataFrame:
    import pandas as pd

    means = {name: result.scores.mean(1) for name, result in results.items()}
    lines = []
    for name, result in results.items():
        for s, k in enumerate(shots):
            score = FewShotScore(result.scores[s], tasks)
            against = reference or max(rivals, key=lambda rival: means[rival][s], default=None)
            against = against or next(iter(results))
            lines.append(
                {
                    "estimator": name,
                    "baseline": name in rivals,
                    "n_shots": k,
                    "mean": score.mean,
                    "ci_low": score.mean - score.ci95,
                    "ci_high": score.mean + score.ci95,
                    **sizes,
                    "n_labels": sizes["n_labels"][s],
                    "reference": against,
                    **_paired(result.scores[s], results[against].scores[s], tasks),
                    "fit_seconds": float(np.nanmean(result.seconds[s])),
                    "failures": int(result.failed[s].sum()),
                }
            )
            if name == against:
                lines[-1]["p_value"] = np.nan
    table = pd.DataFrame(lines)
    table.insert(table.columns.get_loc("p_value") + 1, "p_holm", holm(table["p_value"].to_numpy()))
    return table


def _paired(scores: np.ndarray, others: np.ndarray, tasks: np.ndarray | None) -> dict[str, float]:
    difference = FewShotScore(scores - others, tasks)
    error, dof = standard_error(difference.scores, tasks)
    mean = difference.mean
    if error > 0:
        p = float(2 * student_t.sf(abs(mean) / error, dof))
    else:  # no two episodes (tasks) differ, or there is but one
        p = np.nan if np.isnan(error) else float(mean == 0)
    return {
        "difference": mean,
        "difference_low": mean - difference.ci95,
        "difference_high": mean + difference.ci95,
        "win_rate": float(((scores > others) + 0.5 * (scores == others)).mean()),
        "p_value": p,
    }


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's correction for testing several hypotheses.

    Parameters
    ----------
    p_values : ndarray of shape (n,)
        P values; NaN where there is no test.

    Returns
    -------
    ndarray of shape (n,)
        Adjusted values: max over j <= i of min(1, (m - j + 1) p_(j)), in
        ascending order of p, over the m that are not NaN.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.maximum.accumulate(np.minimum(1, factors * p_values[order]))
    return adjusted


def episode_table(scores: dict[str, np.ndarray], shots: list[int], tasks: np.ndarray | None) -> Any:
    import pandas as pd

    n = len(next(iter(scores.values()))[0])
    index = pd.MultiIndex.from_arrays(
        [np.arange(n), np.full(n, -1) if tasks is None else tasks], names=["episode", "task"]
    )
    columns = pd.MultiIndex.from_product([scores, shots], names=["estimator", "n_shots"])
    return pd.DataFrame(np.concatenate(list(scores.values())).T, index, columns)
