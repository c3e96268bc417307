"""The dual of a multi-class support vector machine, solved for many tasks at once.

K. Crammer and Y. Singer. On the algorithmic implementation of multiclass
kernel-based vector machines. JMLR 2, 2001 (the dual; the projection).

A. Beck and M. Teboulle. A fast iterative shrinkage-thresholding algorithm for
linear inverse problems. SIAM J. Imaging Sciences 2, 2009 (the steps).

B. O'Donoghue and E. Candes. Adaptive restart for accelerated gradient schemes.
Foundations of Computational Mathematics 15, 2015 (when momentum starts anew).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Steps of conjugate gradients, at most, that the derivative takes, and where they may end.
MOST_STEPS, CLOSE = 200, 1e-10


def crammer_singer(Z: Tensor, y: Tensor, cost: Tensor, n_steps: int) -> Tensor:
    """Dual coefficients a, which give the weights Z'a.

    They minimise |Z'a|^2 / 2 - sum(a * y) where a <= cost * y and the rows of a sum to zero:
    the dual of |W|^2 / 2 + sum_i cost_i (max_k (z_i w_k + 1 - y_ik) - sum_k y_ik z_i w_k). For
    indicators y that is Crammer and Singer's loss.

    Parameters
    ----------
    Z : Tensor of shape (..., n, n_features)
        Rows.
    y : Tensor of shape (..., n, n_way)
        Memberships.
    cost : Tensor of shape (..., n)
        What a row's loss counts; rows of zero take no part, and neither do their classes.
    n_steps : int
        Steps of accelerated projected gradients.

    Returns
    -------
    Tensor of shape (..., n, n_way)
        The coefficients. Their derivatives are those of the solution, whatever the steps were.
    """
    if torch.is_grad_enabled() and Z.requires_grad:
        return _Solution.apply(Z, y, cost, n_steps)
    return _solved(Z, y, cost, n_steps)


class _Solution(torch.autograd.Function):
    """Coefficients at which Z Z'a - y is alike for all classes of a row that are not at a bound."""

    @staticmethod
    def forward(ctx: Any, Z: Tensor, y: Tensor, cost: Tensor, n_steps: int) -> Tensor:
        a = _solved(Z, y, cost, n_steps)
        ctx.save_for_backward(Z, a, a < cost[..., None] * y)
        ctx.present = _present(y, cost)
        return a

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        Z, a, free = ctx.saved_tensors
        free = (free & ctx.present).to(a.dtype)
        number = free.sum(-1, keepdim=True).clamp_min(1.0)

        def within(t: Tensor) -> Tensor:
            """The part of a change that keeps bounds and sums."""
            t = t * free
            return t - free * (t.sum(-1, keepdim=True) / number)

        u = _conjugate_gradients(lambda t: within(Z @ (Z.mT @ t)), within(slope))
        # d(slope . a) = -u' d(Z Z') a
        return -(u @ (a.mT @ Z) + a @ (u.mT @ Z)), None, None, None


def _conjugate_gradients(product: Any, b: Tensor) -> Tensor:
    """x of least length such that product(x) = b, for a symmetric positive product."""
    x, rest = torch.zeros_like(b), b
    along, size = b, _squared(b)
    tiny, enough = torch.finfo(b.dtype).tiny, CLOSE**2 * size
    for _ in range(min(MOST_STEPS, b.shape[-1] * b.shape[-2])):
        if b.device.type == "cpu" and bool((size <= enough).all()):
            break
        bent = product(along)
        going = (size > enough).to(b.dtype)
        step = going * size / (along * bent).sum((-1, -2), keepdim=True).clamp_min(tiny)
        x, rest = x + step * along, rest - step * bent
        before, size = size, _squared(rest)
        along = rest + going * (size / before.clamp_min(tiny)) * along
    return x


def _squared(t: Tensor) -> Tensor:
    return t.square().sum((-1, -2), keepdim=True)


def _present(y: Tensor, cost: Tensor) -> Tensor:
    return ((cost[..., None] * y).sum(-2, keepdim=True) > 0).expand(y.shape)


@torch.no_grad()
def _solved(Z: Tensor, y: Tensor, cost: Tensor, n_steps: int) -> Tensor:
    most, present = cost[..., None] * y, _present(y, cost)
    inverse = torch.where(cost > 0, 1 / cost, 0.0)[..., None]
    if Z.shape[-2] <= Z.shape[-1]:
        K = Z @ Z.mT
        sizes = (K.abs() @ cost[..., None]).masked_fill(cost[..., None] == 0, 0.0)
        largest = sizes.amax((-1, -2), keepdim=True)
    else:
        K = None
        largest = (Z.mT @ (cost[..., None] * Z)).abs().sum(-1).amax(-1)[..., None, None]
    # of rows in units of their cost, so that a row twice is as one of twice the cost
    rate = cost[..., None] / largest.clamp_min(torch.finfo(Z.dtype).tiny)
    a = ahead = torch.zeros_like(most)
    age = torch.ones_like(largest)
    for _ in range(n_steps):
        pull = K @ ahead if K is not None else Z @ (Z.mT @ ahead)
        new = projected(ahead - rate * (pull - y), most, present)
        back = (inverse * (ahead - new) * (new - a)).sum((-1, -2), keepdim=True) > 0
        age = torch.where(back, 1.0, age)
        older, age = age, (1 + (1 + 4 * age.square()).sqrt()) / 2
        ahead = new + (older - 1) / age * (new - a)
        a = new
    return a


def projected(v: Tensor, most: Tensor, present: Tensor) -> Tensor:
    """The nearest a <= most to each row of v that sums to zero, over the classes present.

    It is min(v - t, most), whose sum falls with t. It is the least of the sums in which the
    first classes, in the order of v - most, are v - t and the others `most`; so t is the least
    of the places where these are zero.
    """
    order = torch.where(present, v - most, torch.inf).argsort(-1)
    there = present.gather(-1, order)
    v_sorted, most_sorted = (torch.where(there, t.gather(-1, order), 0.0) for t in (v, most))
    rest = most_sorted.flip(-1).cumsum(-1).flip(-1) - most_sorted  # of those that come after
    number = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    places = torch.where(there, (v_sorted.cumsum(-1) + rest) / number, torch.inf)
    t = places.amin(-1, keepdim=True)
    return torch.where(present, torch.minimum(v - t, most), 0.0)
