"""A task that lies far from past ones: what is done about its targets, and said of its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..learners import Gaussian, Learner, Outputs
from ..meta_init import MetaInit
from ..tasks import TargetMove, check_columns_near, target_move

#: Names, in an adapted state, of where targets lie and in what unit, where that is not as usual.
LEVEL, SPREAD = "target_level", "target_spread"


def knows_targets(init: MetaInit) -> bool:
    """Whether past tasks say where targets lie."""
    spec = init.fixed_spec
    return bool(spec.get("past", True) and not spec.get("any_width") and spec.get("n_outputs"))


def move_of(
    learner: Learner, y: np.ndarray, w: np.ndarray, expected: Callable[[], np.ndarray] | None
) -> TargetMove | None:
    """`target_move`, from the past that a learner knows."""
    mean = _array(learner.y_mean) + _array(learner.y_rest)
    return target_move(y, w, mean, _array(learner.y_scale), expected)


def _array(values: Tensor) -> np.ndarray:
    # as arrays: what torch computes is counted
    return values.detach().cpu().numpy().astype(np.float64)


def without_labels(
    learner: Learner, adapt: Callable[..., Any], X: Tensor, y: Tensor, w: Tensor
) -> np.ndarray:
    """What is predicted of the rows of tasks before their labels are known."""
    with torch.no_grad():
        outputs = adapt(X, torch.zeros_like(y), torch.zeros_like(w), X)
    mean = outputs.mean if isinstance(outputs, Gaussian) else outputs
    return mean.double().cpu().numpy()


def put_back(outputs: Outputs, level: Any, spread: Any) -> Outputs:
    """Predictions as the targets of a task are, from those of the task brought near."""
    mean = outputs.mean if isinstance(outputs, Gaussian) else outputs
    level, spread = (torch.as_tensor(a, device=mean.device).double() for a in (level, spread))
    if isinstance(outputs, Gaussian):
        return Gaussian(mean * spread + level, outputs.variance * spread.square())
    return outputs * spread + level


def tell_far_columns(
    learner: Learner, init: MetaInit, X: np.ndarray, names: Sequence[Any] | None
) -> None:
    """`check_columns_near`, where rows are of a table whose columns past tasks had.

    Raises
    ------
    ValueError
        When a column lies where no past one was, by far.
    """
    table = len(learner.input_shape) == 1 and X.ndim == 2 and learner.n_channels <= 1
    if not table or learner.x_mean.ndim != 1 or not init.fixed_spec.get("past", True):
        return
    n = X.shape[1] - int(getattr(learner.encoder, "n_codes", 0))
    mean = (_array(learner.x_mean) + _array(learner.x_rest))[:n]
    scale = _array(learner.x_scale)[:n]
    if len(mean) != n or (not mean.any() and (scale == 1).all()):  # or rows count as they are
        return
    with refused_by(init):
        check_columns_near(X[:, :n], mean, scale, names)


@contextmanager
def refused_by(init: MetaInit) -> Iterator[None]:
    """Say which meta-init it is that knows of other rows or targets."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} So says {init.told}.") from error
