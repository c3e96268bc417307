"""What stands beside one meta-trained estimator, made of the same past."""

from __future__ import annotations

from typing import Any

from sklearn.base import is_classifier

from ._rivals import baselines_of, pooled_rivals, steps_to_numbers

#: Of the baselines one that takes a hundred times as long as the others.
TOO_SLOW = "random forest"


def past_rivals(
    estimator: Any,
    past: Any,
    baselines: Any,
    n_way: Any,
    most_rows: int,
    seed: int,
    left_out: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Plain estimators, and ones that learn from the past, that take rows as the estimator does.

    Parameters
    ----------
    estimator : estimator
        What was meta-trained, whose steps before the last make numbers of rows, if it has any.
    past : (X, y, groups)
        What it was meta-trained on; without groups none learns from the past.
    baselines : "strong", "default" or dict of str to estimator
        As ``compare_few_shot`` takes them; a random forest is left out.
    n_way : int, (low, high) or None
        Classes of an episode; None for regression.
    most_rows : int
        Size of the largest support set.
    seed : int
        Seeds them.
    left_out : dict of str to str or None, default=None
        Is told which cannot learn from the past, or have no time left for it, and why; with
        None the error of one that cannot is raised.

    Returns
    -------
    dict of str to estimator
        By name, without those.
    """
    X, y, groups = past
    classify = is_classifier(estimator)
    before, rows = steps_to_numbers({"": estimator}, X, past)
    rivals = baselines_of(baselines, classify, before, seed, most_rows)
    rivals.pop(TOO_SLOW, None)
    if groups is None or not isinstance(baselines, str):
        return rivals
    strong = baselines == "strong"
    return rivals | pooled_rivals(
        past, classify, X, y, None, n_way, before, rows, seed, strong, most_rows, left_out
    )
