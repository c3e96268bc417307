"""The rows of an episode, divided into support and queries in more than one way.

Embedding its rows is most of what an episode costs a method that looks at features alone.
Divided anew, the same features teach again: of a class with one support row and three queries,
each of the four can be the support row in turn.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..tasks import IGNORED_CODE
from .learner import Learner
from .outputs import Gaussian, Outputs


def divisions(y: Tensor, w: Tensor, y_query: Tensor, n_divisions: int) -> Tensor:
    """Which row stands where, in each division; the first is the one that was drawn.

    The rows of a class move on among the places of that class, as evenly as their number allows, so
    that a place keeps its class. Of a regression all are of one. What is padded or has no label
    stays.

    Parameters
    ----------
    y : Tensor of shape (T, n, n_way or n_outputs)
        Class memberships or targets of the support rows.
    w : Tensor of shape (T, n)
        Their weights, zero where padded.
    y_query : Tensor of shape (T, n_query) or (T, n_query, n_outputs)
        Codes, -100 where padded, or targets, NaN where padded.
    n_divisions : int
        How many.

    Returns
    -------
    Tensor of int of shape (n_divisions, T, n + n_query)
        Places among the support rows and, after them, the queries.
    """
    classes = torch.cat([_classes(y, w, y_query.ndim == 2), _classes_asked(y_query)], 1)
    order = classes.argsort(stable=True, dim=1)
    in_order = classes.gather(1, order).contiguous()
    first = torch.searchsorted(in_order, classes.contiguous())
    count = torch.searchsorted(in_order, classes.contiguous(), right=True) - first
    rank = order.argsort(1) - first
    turn = torch.arange(n_divisions, device=y.device)[:, None, None] * count // n_divisions
    turn = turn.masked_fill(classes < 0, 0)
    moved = first + (rank + turn) % count
    return order.expand(n_divisions, -1, -1).gather(2, moved)


def _classes(y: Tensor, w: Tensor, coded: bool) -> Tensor:
    """Classes (T, n) of support rows; -1 where there is none."""
    codes = y.argmax(-1) if coded else torch.zeros_like(w, dtype=torch.long)
    known = (w > 0) & (y.sum(-1) > 0) if coded else w > 0
    return codes.masked_fill(~known, -1)


def _classes_asked(y_query: Tensor) -> Tensor:
    """Classes (T, n_query) of queries; -1 where padded."""
    if y_query.ndim == 2:
        return y_query.masked_fill(y_query == IGNORED_CODE, -1)
    return torch.zeros_like(y_query[..., 0], dtype=torch.long).masked_fill(
        y_query.isnan().any(-1), -1
    )


def divided_loss(
    learner: Learner,
    batch: dict[str, Tensor],
    y_query: Tensor,
    n_divisions: int,
    loss: Callable[..., tuple[Tensor, Outputs]],
) -> tuple[Tensor, Outputs]:
    """A loss of the same rows, embedded once, in several divisions into support and queries.

    Parameters
    ----------
    learner : Learner
        One that looks at features.
    batch : dict of Tensor
        ``X``, ``y``, ``w`` and ``X_query`` of T episodes, on its device, and what else there is
        of their places, such as which are padded.
    y_query : Tensor of shape (T, n_query) or (T, n_query, n_outputs)
        What their queries are.
    n_divisions : int
        How many; the first is the one that was drawn.
    loss : callable
        ``loss(batch, y_query) -> (loss, outputs)``, of any number of episodes.

    Returns
    -------
    loss : Tensor of shape ()
        Its mean over the divisions.
    outputs : Tensor or Gaussian
        For the queries that were drawn.
    """
    X, y, w, X_query = (batch[name] for name in ("X", "y", "w", "X_query"))
    (n_tasks, n), places = y.shape[:2], divisions(y, w, y_query, n_divisions)
    Z = learner.embed_of_tasks(torch.cat([X, X_query], 1))
    Z = torch.cat([_at(Z, some) for some in places])
    if y_query.ndim == 3:  # targets go with their rows, where classes stay in their places
        targets = torch.cat([_at(torch.cat([y, y_query], 1), some) for some in places])
        y, y_query = targets[:, :n], targets[:, n:]
    else:
        y, y_query = y.repeat(n_divisions, 1, 1), y_query.repeat(n_divisions, 1)
    # what is padded stays in its place
    rest = {k: t.repeat(n_divisions, *[1] * (t.ndim - 1)) for k, t in batch.items() if k[0] == "w"}
    before, learner.given_features = learner.given_features, True
    try:
        value, outputs = loss({"X": Z[:, :n], "y": y, "X_query": Z[:, n:], **rest}, y_query)
    finally:
        learner.given_features = before
    if isinstance(outputs, Gaussian):
        return value, Gaussian(*(t[:n_tasks] for t in outputs))
    return value, outputs[:n_tasks]


def _at(rows: Tensor, places: Tensor) -> Tensor:
    """Rows (T, n, ...) of each task at the given places (T, n)."""
    tasks = torch.arange(len(rows), device=rows.device)[:, None]
    return rows[tasks, places]
