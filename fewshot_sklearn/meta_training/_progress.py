"""What a training says while it goes on: what it is at, what there is to beat, the time left."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import PrintLog

from ..tasks import Task
from ._past_tasks import PastTasks
from ._pooled_scores import pooled_score

#: Seconds and episodes that plain estimators are tried for, before training begins.
MOST_SECONDS, MOST_EPISODES = 1.0, 40


class Progress(PrintLog):
    """skorch's table of epochs, under a headline and with the time that is left at most."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Say what is trained, on what, and what scores there are to beat."""
        if not net.verbose:
            return
        plan = net._plan()
        self._sink(headline(net, plan), net.verbose)
        if told := ", ".join(f"{name} {score:.4f}" for name, score in to_beat(plan)):
            self._sink(f"valid_score without past tasks: {told}", net.verbose)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the epoch's line."""
        self._left = _seconds_left(net)
        super().on_epoch_end(net, **kwargs)

    def table(self, row: dict[str, Any]) -> str:
        """One line under its heading."""
        left = self.__dict__.get("_left")
        return super().table(row if left is None else row | {"left": _told(left)})


def headline(trainer: Any, plan: PastTasks) -> str:
    """One line: what is trained, on how many tasks, for how long.

    Parameters
    ----------
    trainer : MetaTrainer
        Initialized.
    plan : PastTasks
        What it is trained on.

    Returns
    -------
    str
        The line.
    """
    trained = [p for p in trainer.module_.parameters() if p.requires_grad]
    size = f"{sum(p.numel() for p in trained):,} parameters"
    tasks = "a generator's tasks"
    if plan.tasks is not None:
        tasks = f"{plan.tasks['count']:,} {plan.tasks['kind']}"
        if plan.n_held_out:
            tasks += f", {plan.n_held_out:,} more held out"
    if plan.classes is not None:
        tasks += f", whose {len(plan.classes)} classes recur"
    kind = "batches" if plan.estimator._learner_class.pretrains else "episodes"
    return (
        f"{plan.told}{type(plan.estimator).__name__} ({plan.encoder_told}, {size}) on {tasks}: at "
        f"most {trainer.max_epochs:,} epochs of {len(plan.train):,} {kind}."
    )


def to_beat(plan: PastTasks) -> Iterator[tuple[str, float]]:
    """Scores on some validation episodes of what knows no past: for the headline.

    Parameters
    ----------
    plan : PastTasks
        What is trained on.

    Yields
    ------
    (str, float)
        Name and score of each that could answer.
    """
    if plan.valid is None:
        return
    tasks = [plan.valid[i] for i in range(min(MOST_EPISODES, plan.trainer.n_valid_episodes))]
    for name, make in _plain(plan).items():
        start, told = time.monotonic(), []
        for task in tasks:
            try:
                told.append(_answer(make, task, plan.classification))
            except Exception:  # it is only told, and this one has nothing to say
                told = []
                break
            if time.monotonic() - start > MOST_SECONDS / 2:
                break
        if told:
            truth, answers = (np.concatenate(part) for part in zip(*told, strict=True))
            yield name, pooled_score(truth, answers, plan.classification)


def _plain(plan: PastTasks) -> dict[str, Callable[[], Any]]:
    own = type(plan.estimator)
    named: dict[str, Callable[[], Any]] = {own.__name__: lambda: own(device="cpu", random_state=0)}
    if plan.classification:
        named["logistic regression"] = lambda: LogisticRegression(max_iter=200)
    else:
        named["ridge"] = Ridge
    return named


def _answer(make: Callable[[], Any], task: Task, classifies: bool) -> tuple[np.ndarray, np.ndarray]:
    rows, asked = (np.asarray(X).reshape(len(X), -1) for X in (task.X, task.X_query))
    known = np.asarray(task.y) if classifies else np.asarray(task.y, dtype=np.float64)
    used = known >= 0 if classifies else np.ones(len(known), bool)
    if classifies and len(np.unique(known[used])) < 2:  # the only class there is, or any
        answers = np.full(len(asked), known[used][0] if used.any() else 0)
        return np.asarray(task.y_query), answers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(StandardScaler(), make()).fit(rows[used], known[used])
        answers = np.asarray(model.predict(asked))
    truth = np.asarray(task.y_query)
    return truth, answers.reshape(truth.shape)


def _seconds_left(net: Any) -> float | None:
    """Seconds that training goes on for at most: to the last epoch, or the end of its budget."""
    stopping, rows = net._stopping, net.history[net._stopping.first :]
    times = [row["dur"] for row in rows if "dur" in row]
    if not times:
        return None
    left = float(np.median(times)) * max(0, net.max_epochs - len(rows))
    if stopping.time_budget is not None:
        left = min(left, max(0.0, stopping.time_budget - stopping.seconds))
    return left


def _told(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
