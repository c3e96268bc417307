"""What learners put out: states of tasks, logits, Gaussians; and what an episode's cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..tasks import IGNORED_CODE

#: What `Learner.adapt` returns: named tensors and nothing else.
State = dict[str, Tensor]


class Gaussian(NamedTuple):
    """A predictive distribution: means and variances of shape (n, n_outputs)."""

    mean: Tensor
    variance: Tensor


Outputs = Tensor | Gaussian


def joined(items: list[Any], join: Callable[[list[Tensor]], Tensor]) -> Any:
    """Stack or concatenate what a function of tasks returned: tensors, Gaussians or states."""
    if isinstance(items[0], Gaussian):
        return Gaussian(*(join(list(parts)) for parts in zip(*items, strict=True)))
    if isinstance(items[0], dict):
        return {name: join([item[name] for item in items]) for name in items[0]}
    return join(items)


def joined_as_they_come(parts: Iterable[Any], n_rows: int) -> Any:
    """Concatenate tensors (..., n, m), or Gaussians of them, each of which is dropped once copied.

    What is kept between large temporary tensors keeps the allocator from using their place again.
    """
    whole: list[Tensor] = []
    first, kind = 0, None
    for part in parts:
        kind = type(part)
        tensors = part if kind is Gaussian else (part,)
        if not whole:
            whole = [t.new_empty((*t.shape[:-2], n_rows, t.shape[-1])) for t in tensors]
        last = first + tensors[0].shape[-2]
        for target, t in zip(whole, tensors, strict=True):
            target[..., first:last, :] = t
        first = last
    return Gaussian(*whole) if kind is Gaussian else whole[0]


def present_classes(y: Tensor, w: Tensor) -> Tensor:
    """Which classes have support: a boolean (..., n_way) tensor."""
    return (w[..., None] * y).sum(-2) > 0


def episode_loss(outputs: Outputs, y_query: Tensor) -> Tensor:
    """Mean query loss of each task, averaged over the tasks.

    Cross-entropy for class codes, negative log likelihood for a Gaussian,
    squared error otherwise.

    Parameters
    ----------
    outputs : Tensor of shape (T, n_query, n_way or n_outputs) or Gaussian
        What `Learner.forward` returned.
    y_query : Tensor
        Codes (T, n_query), -100 where padded; or targets (T, n_query,
        n_outputs), NaN where padded.

    Returns
    -------
    Tensor of shape ()
        The loss.
    """
    if not y_query.is_floating_point():
        assert isinstance(outputs, Tensor)
        missing = y_query == IGNORED_CODE
        if _none(missing):
            return F.cross_entropy(outputs.flatten(0, 1), y_query.flatten())
        losses = F.cross_entropy(
            outputs.transpose(1, 2), y_query, ignore_index=IGNORED_CODE, reduction="none"
        )
        return (losses.sum(1) / (~missing).sum(1).clamp_min(1)).mean()
    missing = y_query.isnan()
    complete = _none(missing)
    if complete and isinstance(outputs, Tensor):
        return F.mse_loss(outputs, y_query)
    y_query = y_query.nan_to_num()
    if isinstance(outputs, Gaussian):
        error = (outputs.mean - y_query).square()
        losses = 0.5 * (error / outputs.variance + outputs.variance.log())
    else:
        losses = (outputs - y_query).square()
    if complete:
        return losses.mean()
    losses = torch.where(missing, 0.0, losses)
    return (losses.sum((1, 2)) / (~missing).sum((1, 2)).clamp_min(1)).mean()


def _none(missing: Tensor) -> bool:
    """Whether nothing is padded; not asked on a GPU, which would have to be waited for."""
    return missing.device.type == "cpu" and not missing.any()
