"""When a training has learned what there is to learn: the best epoch, a falling step, the end.

L. Prechelt. Early stopping - but when? Neural networks: tricks of the trade. Springer 1998.
"""

from __future__ import annotations

import time
from typing import Any

import torch

#: By how much of itself the validation loss has to fall for an epoch to count as progress.
PROGRESS = 1e-4
#: What the learning rate is multiplied by when half of the patience is over.
FALL = 0.3


class Enough(Exception):
    """Training is to end here."""


class Stopping:
    """Watches the validation loss of one call of `fit`, epoch by epoch.

    All that it decides follows from the history and what a checkpoint holds, so that a run that
    was resumed goes the same way; only `time_budget` looks at a clock.

    Parameters
    ----------
    keep_best : bool
        Whether to keep the weights of the epoch of least validation loss.
    n_iter_no_change : int or None
        Epochs without progress after which training ends; None does not look.
    time_budget : float or None
        Seconds, from now on, that epochs may take.
    first : int, default=0
        Number of epochs that the history held before.

    Attributes
    ----------
    best : int or None
        Number of the best epoch, from 0; None without validation.
    weights : dict of str to Tensor or None
        A copy of the network's state after it.
    """

    def __init__(
        self,
        keep_best: bool,
        n_iter_no_change: int | None,
        time_budget: float | None,
        first: int = 0,
    ):
        self.keep_best, self.n_iter_no_change = keep_best, n_iter_no_change
        self.time_budget, self.first = time_budget, first
        self.best: int | None = None
        self.weights: dict[str, torch.Tensor] | None = None
        self._began = time.monotonic()

    def after_epoch(self, trainer: Any) -> None:
        """Look at the epoch that has just ended: keep its weights, let the learning rate fall.

        Parameters
        ----------
        trainer : MetaTrainer
            In the middle of `fit`.
        """
        losses = self._losses(trainer.history)
        if not losses:
            return
        best = self.first + min(range(len(losses)), key=losses.__getitem__)
        if self.keep_best and best == len(trainer.history) - 1:
            state = trainer.module_.changing_state().items()
            self.best, self.weights = best, {name: t.detach().clone() for name, t in state}
        if self._falls(losses):
            for group in trainer.optimizer_.param_groups:
                group["lr"] *= FALL

    def check(self, history: Any) -> None:
        """Raise `Enough` where training is to end.

        Parameters
        ----------
        history : skorch.history.History
            After an epoch.
        """
        losses = self._losses(history)
        patience = self.n_iter_no_change
        if patience is not None and losses and _idle(losses) >= patience:
            raise Enough
        if self.time_budget is None or len(history) == self.first:
            return
        longest = max(row.get("dur", 0.0) for row in history[self.first :])
        if self.seconds + longest > self.time_budget:
            raise Enough

    @property
    def seconds(self) -> float:
        """How long epochs have gone on."""
        return time.monotonic() - self._began

    def _losses(self, history: Any) -> list[float]:
        rows = [row.get("valid_loss") for row in history[self.first :]]
        known = [float("inf") if loss is None or loss != loss else loss for loss in rows]
        return known if any(loss is not None for loss in rows) else []

    def _falls(self, losses: list[float]) -> bool:
        if self.n_iter_no_change is None:
            return False
        step, idle = -(-self.n_iter_no_change // 2), _idle(losses)
        return idle > 0 and idle % step == 0


def _idle(losses: list[float]) -> int:
    """Epochs since the last that made progress."""
    least, last = losses[0], 0
    for i, loss in enumerate(losses):
        if loss < least and not loss > least - PROGRESS * abs(least):  # of infinity that is NaN
            least, last = loss, i
    return len(losses) - 1 - last
