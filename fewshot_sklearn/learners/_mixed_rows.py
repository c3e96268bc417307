"""Rows of many tasks, in few batches of tasks that have about as many rows each.

A mixed model's likelihood sees of a task's rows only what an orthogonal transform leaves as it is:
no task needs more rows than there are features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Numbers that one batch of tasks may hold.
AT_ONCE = 2**22
#: Numbers that are not worth a batch of their own.
FEW = 2**14


class Batch(NamedTuple):
    """Tasks of about as many rows each, in no more rows than there are features."""

    #: (T, m, p) and (T, m, K): an orthogonal transform of each task's rows; missing ones are zero.
    rows: Tensor
    targets: Tensor
    #: (T, K): squared lengths of what of the targets is orthogonal to the rows.
    rest: Tensor
    #: (T,): rows that there were.
    sizes: Tensor
    #: (T,): number of the task.
    tasks: Tensor


def batches(Phi: Tensor, Y: Tensor, tasks: Tensor) -> list[Batch]:
    """Tasks of similar sizes together, and none in more rows than features.

    Parameters
    ----------
    Phi : Tensor of shape (N, p)
        Features.
    Y : Tensor of shape (N, K)
        Targets.
    tasks : Tensor of shape (N,)
        Number of each row's task, from 0.

    Returns
    -------
    list of Batch
        Smallest tasks first.
    """
    order = torch.argsort(tasks, stable=True)
    sizes = torch.bincount(tasks)
    starts = sizes.cumsum(0) - sizes
    by_size = torch.argsort(sizes, stable=True)
    by_size = by_size[sizes[by_size] > 0]
    made, at = [], 0
    both = torch.cat([Phi, Y], 1)
    while at < len(by_size):
        smallest = int(sizes[by_size[at]])
        # sizes within a batch differ by a half at most, as far as rows are compressed anyway
        fits = sizes[by_size] <= max(smallest + 2, 3 * smallest // 2)
        most = max(1, AT_ONCE // (both.shape[1] * (3 * smallest // 2 + 2)))
        some = by_size[at : min(int(fits.sum()), at + most)]
        n = int(sizes[some].max())
        number = torch.arange(n)
        there = number < sizes[some, None]
        index = order[(starts[some, None] + number).clamp(max=len(order) - 1)]
        block = torch.where(there[..., None], both[index], 0.0)
        made.append(_compressed(block, Phi.shape[1], sizes[some], some))
        at += len(some)
    return _merged(made)


def _merged(data: list[Batch]) -> list[Batch]:
    """Fewer batches, where rows of zeros that make tasks as long as others cost little."""
    out = data[:1]
    for batch in data[1:]:
        last = out[-1]
        (T, m, p), (more, n, _) = last.rows.shape, batch.rows.shape
        together = (T + more) * n * (p + batch.targets.shape[-1])
        if together > AT_ONCE or (T * (n - m) * p > FEW and m < n):
            out.append(batch)
            continue
        longer = [torch.nn.functional.pad(part, (0, 0, 0, n - m)) for part in last[:2]]
        parts = zip((*longer, *last[2:]), batch, strict=True)
        out[-1] = Batch(*(torch.cat(pair) for pair in parts))
    return out


def _compressed(block: Tensor, p: int, sizes: Tensor, tasks: Tensor) -> Batch:
    rest = block.new_zeros(len(block), block.shape[-1] - p)
    if block.shape[1] > p:
        triangle = torch.linalg.qr(block, mode="r").R
        rest = triangle[:, p:, p:].square().sum(1)
        block = triangle[:, :p]
    return Batch(block[..., :p].contiguous(), block[..., p:].contiguous(), rest, sizes, tasks)


def some_tasks(data: Sequence[Batch], chosen: Tensor) -> list[Batch]:
    """Those of the tasks for which `chosen`, a mask by number, is true."""
    kept = [Batch(*(part[chosen[batch.tasks]] for part in batch)) for batch in data]
    return [batch for batch in kept if len(batch.tasks)]
