"""Support sets for networks that read rows one after another.

Such a network would answer differently for another order of the same rows, or
for a row of weight two and the same row twice. So it reads each distinct row
once, with its weight, in an order that the rows themselves determine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .memory import at_once, rows_for

#: Numbers of a pair of rows that comparing them holds at once.
OF_PAIRS = 8
#: Rows up to which sums by class are made in one table of queries, rows and classes.
FEW_ROWS = 1000


def reading_order(Z: Tensor) -> Tensor:
    """Where each row stands along a fixed direction, which is what they are ordered by.

    Parameters
    ----------
    Z : Tensor of shape (..., n, n_features)
        Rows.

    Returns
    -------
    Tensor of shape (..., n)
        The smaller, the earlier.
    """
    # any direction would do along which different rows hardly ever coincide
    direction = torch.arange(1, Z.shape[-1] + 1, dtype=torch.float64, device=Z.device).sqrt()
    return Z.detach().double() @ torch.cos(37.0 * direction)


def in_order(Z: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Order the rows of a support set and merge those that are the same.

    Parameters
    ----------
    Z : Tensor of shape (..., n, n_features)
        Features of the rows.
    y : Tensor of shape (..., n, n_way or n_outputs)
        Memberships or targets.
    w : Tensor of shape (..., n)
        Weights.

    Returns
    -------
    Z, y, w : Tensor
        The same rows, those of weight zero last. Of rows that are the same
        and have the same y, the first weighs what all do; the others nothing.
    """
    order = torch.sort(torch.where(w > 0, reading_order(Z), torch.inf), stable=True)[1]
    Z, y = (torch.take_along_dim(t, order[..., None], -2) for t in (Z, y))
    w = w.gather(-1, order)
    total, earlier = _alike(Z.detach(), y.detach(), w)
    return Z, y, torch.where((earlier == 0) & (w > 0), total, 0.0)


def _alike(Z: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """What the rows weigh that are the same as each row, and how many of them come before it.

    Rows are in reading order, so of one task only those near to each other can be the same.
    """
    n, lead = Z.shape[-2], Z.shape[:-2].numel()
    told = [(values, _rounding(values)) for values in (Z, y)]
    step = rows_for(OF_PAIRS * lead * n)
    if step >= n:
        return _alike_among(told, w, slice(0, n), slice(0, n))
    place, slack = reading_order(Z), _slack(Z)
    found = []
    for first in range(0, n, step):
        rows = slice(first, min(first + step, n))
        near = _near(place, slack, w, rows) if Z.ndim == 2 else slice(0, n)
        found.append(_alike_among(told, w, rows, near))
    total, earlier = zip(*found, strict=True)
    return torch.cat(total, -1), torch.cat(earlier, -1)


def _alike_among(
    told: list[tuple[Tensor, Tensor]], w: Tensor, rows: slice, near: slice
) -> tuple[Tensor, Tensor]:
    """`_alike` of some rows, which are the same as none but those near."""
    close = [
        torch.cdist(values[..., rows, :], values[..., near, :], p=torch.inf) <= rounding
        for values, rounding in told
    ]
    same = (close[0] & close[1]).to(w.dtype)
    total = (same @ w[..., near, None])[..., 0]
    index = torch.arange(w.shape[-1], device=w.device)
    before = index[near] < index[rows, None]
    real = (w[..., near] > 0).to(w.dtype)
    return total, ((same * before) @ real[..., None])[..., 0]


def _rounding(values: Tensor) -> Tensor:
    """By how much equal values may differ (..., 1, 1)."""
    size = values.abs().amax((-1, -2), keepdim=True)
    return 8 * torch.finfo(values.dtype).eps * size


def _slack(Z: Tensor) -> Tensor:
    """How far apart in reading order rows are at most that are equal but for rounding."""
    eps, exact = torch.finfo(Z.dtype).eps, torch.finfo(torch.float64).eps
    n_features = Z.shape[-1]
    return Z.abs().amax().double() * n_features * (8 * eps + 2 * n_features * exact)


def _near(place: Tensor, slack: Tensor, w: Tensor, rows: slice) -> slice:
    """The rows of any weight among which those are that some rows are the same as."""
    some = place[: int((w > 0).sum())]
    if rows.start >= len(some):
        return rows
    ends = torch.stack([some[rows][0] - slack, some[rows][-1] + slack])
    first, last = torch.searchsorted(some, ends[:1]), torch.searchsorted(some, ends[1:], right=True)
    return slice(min(int(first), rows.start), max(int(last), rows.stop))


class LSTMCell(nn.Module):
    """One step of an LSTM (Hochreiter and Schmidhuber 1997), for any leading axes.

    Torch's own takes one leading axis. All gates start half open but the forget
    gate, whose bias starts at one.

    Parameters
    ----------
    n_in, n_hidden : int
        Sizes of the input and of the hidden and cell state.
    """

    def __init__(self, n_in: int, n_hidden: int):
        super().__init__()
        self.n_hidden = n_hidden
        self.gates = nn.Linear(n_in + n_hidden, 4 * n_hidden)
        with torch.no_grad():
            self.gates.bias.zero_()[n_hidden : 2 * n_hidden] = 1.0

    def start(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The state before the first step: zeros, with the leading axes of `like`."""
        zeros = like.new_zeros((*like.shape[:-1], self.n_hidden))
        return zeros, zeros

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor], real: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden and cell state after reading x; where `real` is False, as they were."""
        h, c = state
        i, f, o, g = self.gates(torch.cat([x, h], -1)).chunk(4, -1)
        new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        new_h = o.sigmoid() * new_c.tanh()
        if real is None:
            return new_h, new_c
        return torch.where(real[..., None], new_h, h), torch.where(real[..., None], new_c, c)


def masked_softmax(scores: Tensor, w: Tensor) -> Tensor:
    """Softmax over rows, each counted as many times as it weighs.

    Parameters
    ----------
    scores : Tensor of shape (..., n_query, n)
        Scores of n rows.
    w : Tensor of shape (..., n)
        Their weights; a row of weight zero gets nothing.

    Returns
    -------
    Tensor of shape (..., n_query, n)
        Attention, which sums to one; zero where no row has any weight.
    """
    # a finite stand-in for log 0, for a softmax of nothing but infinities is not a number
    log_weights = w.log().clamp_min(torch.finfo(w.dtype).min / 4)
    some = (w.sum(-1) > 0).to(w.dtype)
    return F.softmax(scores + log_weights[..., None, :], -1) * some[..., None, None]


def log_sums_by_class(scores: Tensor, mass: Tensor) -> Tensor:
    """Sum exponentials of row scores by class, without leaving logarithms.

    Parameters
    ----------
    scores : Tensor of shape (..., n_query, n)
        Logarithms of what is summed.
    mass : Tensor of shape (..., n, n_way)
        How much of each row counts for each class, at least zero.

    Returns
    -------
    Tensor of shape (..., n_query, n_way)
        log sum_i mass_ik exp(score_i); minus infinity for a class without mass.
    """
    if sums_by_own_class(mass):
        return _log_sums_of_own_class(scores, mass)
    # a finite stand-in for log 0: a sum of nothing but infinities has no gradient
    nothing = torch.finfo(scores.dtype).min / 4
    counts = mass > 0
    log_mass = torch.where(counts, mass, 1.0).log()[..., None, :, :]
    terms = torch.where(counts[..., None, :, :], scores[..., None] + log_mass, nothing)
    return terms.logsumexp(-2).masked_fill(~counts.any(-2)[..., None, :], -torch.inf)


def sums_by_own_class(mass: Tensor) -> bool:
    """Whether `log_sums_by_class` does without a table of queries, rows and classes.

    So it does where rows (..., n, n_way) are many and none counts for more than one class.
    """
    if torch.is_grad_enabled() or at_once(mass.shape[-2], FEW_ROWS):
        return False
    return bool(((mass > 0).sum(-1) <= 1).all())


def _log_sums_of_own_class(scores: Tensor, mass: Tensor) -> Tensor:
    """`log_sums_by_class` without a table of rows and classes for each query."""
    most, code = mass.max(-1)
    terms = scores + most.log()[..., None, :]
    of_class = code[..., None, :].expand(terms.shape)
    shape = (*terms.shape[:-1], mass.shape[-1])
    top = terms.new_full(shape, -torch.inf).scatter_reduce(-1, of_class, terms, "amax")
    known = torch.where(top > -torch.inf, top, 0.0)
    parts = (terms - known.gather(-1, of_class)).exp()
    return top + terms.new_zeros(shape).scatter_add(-1, of_class, parts).log().nan_to_num(neginf=0)
