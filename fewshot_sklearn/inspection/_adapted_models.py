"""What an estimator learned of each of many past tasks, kept without their rows and asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..learners import TASKS_PER_CHUNK, Gaussian, Learner, State, over_axis
from ..tasks import Support

#: Parts of a state that tell how an adaptation went or how sure it is, not what it predicts.
NOT_PREDICTING = ("loss_curve", "spread", "directions", "root")


def about_targets(
    learner: Learner, rows: Tensor, targets: np.ndarray, of_task: list[np.ndarray]
) -> dict[str, Any]:
    """Mean and standard deviation of each task's targets, and what was learned of them."""
    return {
        "y_mean": np.stack([targets[part].mean(0) for part in of_task]),
        "y_scale": np.stack([targets[part].std(0) for part in of_task]),
        "states": _adapted_states(learner, rows, targets, of_task),
    }


def _adapted_states(
    learner: Learner, rows: Tensor, targets: np.ndarray, of_task: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """What predicts of each task's adapted state; nothing, where it grows with the rows."""
    y = torch.tensor(np.ascontiguousarray(targets), device=rows.device)
    w = learner.x_mean.new_ones(len(rows))

    def adapted(part: np.ndarray) -> State:
        support = Support(rows[part], y[part], w[part])
        with torch.no_grad():
            state = learner.adapt(support)
        return {k: t for k, t in state.items() if k not in NOT_PREDICTING}

    first = of_task[0]
    one, longer = adapted(first), adapted(np.append(first, first[0]))
    if any(one[name].shape != longer[name].shape for name in one):
        return {}
    states = [adapted(part) for part in of_task]
    return {name: torch.stack([s[name] for s in states]).cpu().numpy() for name in one}


@torch.no_grad()
def predicted(learner: Learner, kept: Mapping[str, np.ndarray], rows: Tensor) -> np.ndarray:
    """Means (n_tasks, n_rows, n_outputs) that the states of many tasks predict."""
    states = {name: torch.tensor(array, device=rows.device) for name, array in kept.items()}

    def one(state: State) -> Tensor:
        if "coef" in state:  # of a linear head: the spread of its posterior moves no mean
            d = state["coef"].shape[-2]
            state = state | {"spread": state["coef"].new_zeros(d, d)}
        outputs = learner.predict(state, rows)
        return outputs.mean if isinstance(outputs, Gaussian) else outputs

    if learner.vmaps and not learner.convolves:
        means = over_axis(one, states, chunk=TASKS_PER_CHUNK)
    else:
        n_tasks = len(next(iter(states.values())))
        means = torch.stack([one({k: t[i] for k, t in states.items()}) for i in range(n_tasks)])
    return means.double().cpu().numpy()
