"""What is too large for the memory that `fit` may take is refused before it is asked for."""

from __future__ import annotations

from typing import Any

from ..learners import BYTES, OF_LABELS, Learner, numbers_at_once


def refuse_too_large(estimator: Any, learner: Learner, n_rows: int, n_labels: int) -> None:
    """Refuse a task for which the learner needs more memory than `numbers_at_once` allows.

    Parameters
    ----------
    estimator : FewShotEstimator
        Whose `fit` it is.
    learner : Learner
        Its learner.
    n_rows : int
        Rows of the task.
    n_labels : int
        Its classes or targets.

    Raises
    ------
    ValueError
        When it does, which says what to do.
    """
    numbers, classifies = learner.numbers_to_adapt(n_rows, n_labels), learner.n_outputs is None
    least = Learner.numbers_to_adapt(learner, n_rows, n_labels)
    kind = "Classifier" if classifies else "Regressor"
    other = f" Or take one that needs less, such as RidgeHead{kind}." if numbers > 2 * least else ""
    labels = f"{n_labels} classes" if classifies else f"{n_labels} target(s)"
    _refuse(estimator, f"{n_rows} rows of {labels}", numbers, other)


def refuse_too_many_labels(estimator: Any, n_rows: int, n_classes: int) -> None:
    """Refuse so many rows of so many classes that a table of both is too large.

    Raises
    ------
    ValueError
        When it is, which says what to do.
    """
    numbers = OF_LABELS * n_rows * n_classes
    _refuse(estimator, f"{n_rows} rows of {n_classes} classes", numbers, "")


def _refuse(estimator: Any, what: str, numbers: int, other: str) -> None:
    if numbers <= (most := numbers_at_once()):
        return
    needed = numbers * BYTES
    raise ValueError(
        f"{type(estimator).__name__} would need about {needed / 1e9:.1f} GB of memory to fit "
        f"{what}, more than the {most * BYTES / 1e9:.1f} GB that it may take. Fit fewer rows, or "
        f"let it take more: sklearn.set_config(working_memory={-(-needed // 2**20)}), in MiB."
        f"{other}"
    )
