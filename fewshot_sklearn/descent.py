"""Gradient descent of many fully connected networks at once, differentiated by hand.

MAML differentiates through gradient descent. For fully connected networks both
derivatives are short recursions of batched matrix products: backpropagation,
and its directional derivative (B. A. Pearlmutter, Fast exact multiplication by
the Hessian, Neural Computation 1994). Without autograd's bookkeeping they take
a fraction of the time.

Layers are pairs of a weight (out, in) or (T, out, in) and a bias (out,) or
(T, 1, out): shared by all tasks, or each task's own. The nonlinearity, between
layers, is ReLU or tanh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Layers = list[tuple[Tensor, Tensor]]
#: Takes a direction at the outputs to the slope's derivative along it.
Curvature = Callable[[Tensor], Tensor]


class SupportLoss(Protocol):
    """Weighted mean loss of the support rows, with derivatives at the outputs.

    All of them accept leading axes of tasks.
    """

    def value(self, outputs: Tensor) -> Tensor:
        """sum(w * loss) / sum(w), one value a task."""

    def value_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and its gradient at the outputs."""

    def slope_and_curvature(self, outputs: Tensor) -> tuple[Tensor, Curvature]:
        """The gradient, and the product of the second derivative with a direction."""


class SquaredError:
    """Squared error, averaged over outputs."""

    def __init__(self, y: Tensor, w: Tensor):
        self.y, self.share = y, w / w.sum(-1, keepdim=True)
        self.rate = (self.share * (2 / y.shape[-1]))[..., None]

    def value(self, outputs: Tensor) -> Tensor:
        return (self.share * (outputs - self.y).square().mean(-1)).sum(-1)

    def value_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        error = outputs - self.y
        return (self.share * error.square().mean(-1)).sum(-1), self.rate * error

    def slope_and_curvature(self, outputs: Tensor) -> tuple[Tensor, Curvature]:
        return (outputs - self.y).mul_(self.rate), self.rate.mul


class CrossEntropy:
    """Cross-entropy over the classes that have support; y are class memberships."""

    def __init__(self, y: Tensor, w: Tensor):
        self.y, self.share = y, w / w.sum(-1, keepdim=True)
        self.absent = ((w[..., None] * y).sum(-2) <= 0)[..., None, :]
        self.total = y.sum(-1, keepdim=True)

    def _log_probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.masked_fill(self.absent, -torch.inf).log_softmax(-1)

    def _value(self, logp: Tensor) -> Tensor:
        losses = -(self.y * logp.masked_fill(self.absent, 0.0)).sum(-1)
        return (self.share * losses).sum(-1)

    def value(self, outputs: Tensor) -> Tensor:
        return self._value(self._log_probabilities(outputs))

    def value_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        logp = self._log_probabilities(outputs)
        return self._value(logp), self.share[..., None] * (logp.exp() * self.total - self.y)

    def slope_and_curvature(self, outputs: Tensor) -> tuple[Tensor, Curvature]:
        p = outputs.masked_fill(self.absent, -torch.inf).softmax(-1)
        rate = self.share[..., None] * self.total

        def curvature(direction: Tensor) -> Tensor:
            moved = p * direction
            return rate * (moved - p * moved.sum(-1, keepdim=True))

        return self.share[..., None] * (p * self.total - self.y), curvature


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W' + b, with weights shared by all tasks or each task's own."""
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    if x.shape[-1] == 1:  # an outer product; batched matrix products are slow at those
        return torch.addcmul(bias, x, weight.mT)
    return torch.baddbmm(bias, x, weight.mT)


def _back(dz: Tensor, weight: Tensor) -> Tensor:
    """dz W."""
    return dz * weight if dz.shape[-1] == 1 else torch.matmul(dz, weight)


def _descended(weight: Tensor, dz: Tensor, h: Tensor, rate: float) -> Tensor:
    """W - rate dz' h for each task, in the orientation that is quicker."""
    if h.shape[-1] < dz.shape[-1]:
        return torch.baddbmm(weight.mT, h.mT, dz, alpha=-rate).mT
    return torch.baddbmm(weight, dz.mT, h, alpha=-rate)


def _outer(dz: Tensor, h: Tensor) -> Tensor:
    """dz' h for each task, in the orientation that is quicker."""
    return torch.bmm(h.mT, dz).mT if h.shape[-1] < dz.shape[-1] else torch.bmm(dz.mT, h)


def run(layers: Layers, x: Tensor, squash: bool) -> list[Tensor]:
    """The rows, each hidden layer's activations, and the outputs."""
    hs = [x]
    for i, (weight, bias) in enumerate(layers):
        z = affine(hs[-1], weight, bias)
        if i < len(layers) - 1:
            z = z.tanh_() if squash else z.relu_()
        hs.append(z)
    return hs


def _through(dh: Tensor, h: Tensor, squash: bool) -> Tensor:
    """Gradient before the nonlinearity, given that after it and its value."""
    if squash:
        return torch.ops.aten.tanh_backward(dh, h)
    return torch.ops.aten.threshold_backward(dh, h, 0)


def backpropagate(layers: Layers, hs: list[Tensor], slope: Tensor, squash: bool) -> list[Tensor]:
    """Gradients before each layer's nonlinearity; a weight's is ``dz.mT @ h``."""
    dzs = [slope]
    for i in range(len(layers) - 1, 0, -1):
        dzs.append(_through(_back(dzs[-1], layers[i][0]), hs[i], squash))
    return dzs[::-1]


class _Step(NamedTuple):
    """What one inner step leaves for the way back."""

    layers: Layers
    hs: list[Tensor]
    dzs: list[Tensor]
    curvature: Curvature


class Plan(NamedTuple):
    """How to descend, and how to scale and shift what comes out in the end."""

    loss: SupportLoss
    n_steps: int
    rate: float
    squash: bool
    first_order: bool
    scale: Tensor | None = None
    shift: Tensor | None = None


class Descent(torch.autograd.Function):
    """Outputs of the adapted networks on query rows, as a function of the shared start."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, X: Tensor, X_query: Tensor, *params: Tensor) -> Tensor:
        layers: Layers = list(zip(params[::2], params[1::2], strict=True))
        ones = X.new_ones(len(X), 1, X.shape[1])
        tape = []
        for _ in range(plan.n_steps):
            hs = run(layers, X, plan.squash)
            slope, curvature = plan.loss.slope_and_curvature(hs[-1])
            dzs = backpropagate(layers, hs, slope, plan.squash)
            tape.append(_Step(layers, hs, dzs, curvature))
            layers = [
                (
                    _descended(weight, dz, h, plan.rate),
                    torch.baddbmm(bias, ones, dz, alpha=-plan.rate),
                )
                for (weight, bias), dz, h in zip(layers, dzs, hs[:-1], strict=True)
            ]
        hs = run(layers, X_query, plan.squash)
        ctx.plan, ctx.tape, ctx.ones = plan, tape, ones
        ctx.query = layers, hs
        if plan.scale is None:
            return hs[-1]
        return torch.addcmul(plan.shift, hs[-1], plan.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        plan, tape = ctx.plan, ctx.tape
        layers, hs = ctx.query
        if plan.scale is not None:
            slope = slope * plan.scale
        dzs = backpropagate(layers, hs, slope, plan.squash)
        if plan.first_order or not tape:
            grads = [_shared(dz, h) for dz, h in zip(dzs, hs[:-1], strict=True)]
        else:
            along: Layers = [
                (_outer(dz, h), dz.sum(1, keepdim=True)) for dz, h in zip(dzs, hs[:-1], strict=True)
            ]
            for step in tape[:0:-1]:
                changes = _hessian_product(step, along, plan.squash)
                for i, ((weight, bias), parts) in enumerate(zip(along, changes, strict=True)):
                    bias.baddbmm_(ctx.ones, parts[0][0], alpha=-plan.rate)
                    for dz, h in parts:
                        weight = _descended(weight, dz, h, plan.rate)
                    along[i] = weight, bias
            grads = []
            changes = _hessian_product(tape[0], along, plan.squash)
            for (weight, bias), parts in zip(along, changes, strict=True):
                bias = bias.sum(0)[0].sub_(parts[0][0].sum((0, 1)), alpha=plan.rate)
                weight = weight.sum(0)
                for dz, h in parts:
                    weight.addmm_(dz.flatten(0, 1).mT, h.flatten(0, 1), alpha=-plan.rate)
                grads.append((weight, bias))
        return None, None, None, *(g for pair in grads for g in pair)


def _shared(dz: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a weight and a bias that all tasks share."""
    dz = dz.flatten(0, 1)
    return dz.mT @ h.flatten(0, 1), dz.sum(0)


def _hessian_product(
    step: _Step, along: Layers, squash: bool
) -> Sequence[Sequence[tuple[Tensor, Tensor]]]:
    """Product of the support loss's second derivative with a direction, as factors.

    For each layer one or two pairs (dz, h): the weight's part is the sum of
    ``dz.mT @ h``, the bias's is the sum of the first dz over rows.
    """
    layers, hs, dzs = step.layers, step.hs, step.dzs
    last = len(layers) - 1
    moved: list[Tensor] = []  # derivatives of the activations
    for i, (weight, bias) in enumerate(along):
        change = affine(hs[i], weight, bias)
        if i:
            change += _back(moved[-1], layers[i][0].mT)
        if i < last:
            change = _through(change, hs[i + 1], squash)
        moved.append(change)
    bent = step.curvature(moved[last])
    products: list[list[tuple[Tensor, Tensor]]] = []
    for i in range(last, -1, -1):
        parts = [(bent, hs[i])]
        if i:
            parts.append((dzs[i], moved[i - 1]))
            dh = _back(bent, layers[i][0])
            if dzs[i].shape[-1] == 1:
                dh.addcmul_(dzs[i], along[i][0])
            else:
                dh.baddbmm_(dzs[i], along[i][0])
            bent = _through(dh, hs[i], squash)
            if squash:  # tanh is curved: its slope 1 - h^2 changes, by -2 h times h's change
                bent -= 2 * _back(dzs[i], layers[i][0]) * hs[i] * moved[i - 1]
        products.append(parts)
    return products[::-1]
