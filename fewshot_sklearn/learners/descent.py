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

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..tasks import shares

_tanh_backward = torch.ops.aten.tanh_backward.default
_relu_backward = torch.ops.aten.threshold_backward.default

Layers = list[tuple[Tensor, Tensor]]


class SupportLoss(Protocol):
    """Weighted mean loss of the support rows, with derivatives at the outputs.

    Made from memberships or targets and from weights, all of which may have
    leading axes of tasks.
    """

    def __init__(self, y: Tensor, w: Tensor, absent: Tensor | None = None): ...

    def value(self, outputs: Tensor) -> Tensor:
        """sum(w * loss) / sum(w), one value a task."""

    def value_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and its gradient at the outputs."""

    def slope(self, outputs: Tensor) -> Tensor:
        """The gradient alone."""

    def curvature(self, outputs: Tensor, direction: Tensor) -> Tensor:
        """The slope's derivative along a direction at the outputs."""

    def split(self, n_rows: int) -> Iterator[SupportLoss]:
        """The losses of so many rows each, whose values and slopes add up to its own."""


def absent_classes(y: Tensor, w: Tensor) -> Tensor:
    """Which classes have no support: a boolean (..., 1, n_way) tensor."""
    return ((w[..., None] * y).sum(-2) <= 0)[..., None, :]


class _SumOverRows:
    """A loss that can be had for some of its rows."""

    #: Names of what it holds of each row, and the axis of the rows in it.
    _of_rows: dict[str, int]

    def split(self, n_rows: int) -> Iterator[Any]:
        held = {
            name: getattr(self, name).split(n_rows, axis) for name, axis in self._of_rows.items()
        }
        for parts in zip(*held.values(), strict=True):
            some = copy(self)
            vars(some).update(zip(held, parts, strict=True))
            yield some


class SquaredError(_SumOverRows):
    """Squared error, averaged over outputs."""

    _of_rows = {"y": -2, "share": -1, "rate": -2}

    def __init__(self, y: Tensor, w: Tensor, absent: Tensor | None = None):
        self.y, self.share = y, shares(w)
        self.rate = (self.share * (2 / y.shape[-1]))[..., None]

    def value(self, outputs: Tensor) -> Tensor:
        return (self.share * (outputs - self.y).square().mean(-1)).sum(-1)

    def value_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        error = outputs - self.y
        return (self.share * error.square().mean(-1)).sum(-1), self.rate * error

    def slope(self, outputs: Tensor) -> Tensor:
        return (outputs - self.y) * self.rate

    def curvature(self, outputs: Tensor, direction: Tensor) -> Tensor:
        return self.rate * direction


class CrossEntropy(_SumOverRows):
    """Cross-entropy over the classes that have support; y are class memberships.

    Which are absent is read off y and w, unless these are of queries and it is told.
    """

    _of_rows = {"y": -2, "share": -1, "total": -2}

    def __init__(self, y: Tensor, w: Tensor, absent: Tensor | None = None):
        self.y, self.share = y, shares(w)
        self.absent = absent_classes(y, w) if absent is None else absent
        self.total = y.sum(-1, keepdim=True)

    def _log_probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.masked_fill(self.absent, -torch.inf).log_softmax(-1)

    def _value(self, logp: Tensor) -> Tensor:
        losses = -(self.y * logp.masked_fill(self.absent, 0.0)).sum(-1)
        return (self.share * losses).sum(-1)

    def _slope(self, p: Tensor) -> Tensor:
        return self.share[..., None] * (p * self.total - self.y)

    def value(self, outputs: Tensor) -> Tensor:
        return self._value(self._log_probabilities(outputs))

    def value_and_slope(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        logp = self._log_probabilities(outputs)
        return self._value(logp), self._slope(logp.exp())

    def slope(self, outputs: Tensor) -> Tensor:
        return self._slope(self._log_probabilities(outputs).exp())

    def curvature(self, outputs: Tensor, direction: Tensor) -> Tensor:
        p = self._log_probabilities(outputs).exp()
        moved = p * direction
        change = moved - p * moved.sum(-1, keepdim=True)
        return self.share[..., None] * self.total * change


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W' + b, with weights shared by all tasks or each task's own."""
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    if x.shape[-1] == 1:  # an outer product; batched matrix products are slow at those
        return torch.addcmul(bias, x, weight.mT)
    return torch.baddbmm(bias, x, weight.mT)


def _back(dz: Tensor, weight: Tensor) -> Tensor:
    """dz W."""
    if dz.shape[-1] == 1:
        return dz * weight
    return torch.matmul(dz, weight) if weight.ndim == 2 else torch.bmm(dz, weight)


def _descended(weight: Tensor, dz: Tensor, h: Tensor, rate: float) -> Tensor:
    """W - rate dz' h for each task, in the orientation that is quicker."""
    if h.shape[-1] < dz.shape[-1]:
        return torch.baddbmm(weight.mT, h.mT, dz, alpha=-rate).mT
    return torch.baddbmm(weight, dz.mT, h, alpha=-rate)


def outer(dz: Tensor, h: Tensor) -> Tensor:
    """dz' h for each task, in the orientation that is quicker."""
    if h.shape[-1] < dz.shape[-1]:
        return (h.mT @ dz).mT
    return dz.mT @ h


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
    return _tanh_backward(dh, h) if squash else _relu_backward(dh, h, 0)


def backpropagate(layers: Layers, hs: list[Tensor], slope: Tensor, squash: bool) -> list[Tensor]:
    """Gradients before each layer's nonlinearity; a weight's is dz' h."""
    dzs = [slope]
    for i in range(len(layers) - 1, 0, -1):
        dzs.append(_through(_back(dzs[-1], layers[i][0]), hs[i], squash))
    return dzs[::-1]


class Step(NamedTuple):
    """What one inner step leaves for the way back."""

    layers: Layers
    hs: list[Tensor]
    dzs: list[Tensor]


class Plan(NamedTuple):
    """How to descend."""

    loss: type[SupportLoss]
    n_steps: int
    rate: float
    squash: bool
    first_order: bool


class Batch(NamedTuple):
    """Scaled support and query rows of many tasks."""

    X: Tensor
    y: Tensor
    w: Tensor
    X_query: Tensor


def there(plan: Plan, batch: Batch, layers: Layers) -> tuple[Tensor, list[Step]]:
    """Descend from shared layers: outputs for the queries, and all steps, the query's last."""
    ones = batch.X.new_ones(len(batch.X), 1, batch.X.shape[1])
    loss = plan.loss(batch.y, batch.w)
    steps = []
    for _ in range(plan.n_steps):
        hs = run(layers, batch.X, plan.squash)
        dzs = backpropagate(layers, hs, loss.slope(hs[-1]), plan.squash)
        steps.append(Step(layers, hs, dzs))
        layers = [
            (
                _descended(weight, dz, h, plan.rate),
                torch.baddbmm(bias, ones, dz, alpha=-plan.rate),
            )
            for (weight, bias), dz, h in zip(layers, dzs, hs[:-1], strict=True)
        ]
    hs = run(layers, batch.X_query, plan.squash)
    # without the outputs: autograd would hold on to them, and they to autograd
    return hs[-1], [*steps, Step(layers, hs[:-1], [])]


def back(plan: Plan, batch: Batch, steps: list[Step], slope: Tensor) -> Layers:
    """Gradients of the shared layers, given that at the outputs for the queries."""
    *steps, (layers, hs, _) = steps
    dzs = backpropagate(layers, hs, slope, plan.squash)
    if plan.first_order or not steps:
        return [_shared(dz, h) for dz, h in zip(dzs, hs, strict=True)]
    ones = batch.X.new_ones(len(batch.X), 1, batch.X.shape[1])
    loss = plan.loss(batch.y, batch.w)
    along: Layers = [(outer(dz, h), dz.sum(1, keepdim=True)) for dz, h in zip(dzs, hs, strict=True)]
    for step in steps[:0:-1]:
        changes = _hessian_product(loss, step, along, plan.squash)
        for i, ((weight, bias), parts) in enumerate(zip(along, changes, strict=True)):
            bias = torch.baddbmm(bias, ones, parts[0][0], alpha=-plan.rate)
            for dz, h in parts:
                weight = _descended(weight, dz, h, plan.rate)
            along[i] = weight, bias
    grads = []
    changes = _hessian_product(loss, steps[0], along, plan.squash)
    for (weight, bias), parts in zip(along, changes, strict=True):
        flat = [(dz.flatten(0, 1), h.flatten(0, 1)) for dz, h in parts]
        weight, bias = weight.sum(0), bias.flatten(0, 1).sum(0)
        bias = bias.sub(flat[0][0].sum(0), alpha=plan.rate)
        for dz, h in flat:
            weight = torch.addmm(weight, dz.t(), h, alpha=-plan.rate)
        grads.append((weight, bias))
    return grads


def there_and_back(
    plan: Plan, batch: Batch, layers: Layers, y: Tensor, w: Tensor, share: float
) -> tuple[Tensor, Tensor, Layers]:
    """Share of the mean query loss, outputs, and gradients of the shared layers.

    y and w are the queries' memberships or targets and their weights.
    """
    outputs, steps = there(plan, batch, layers)
    absent = absent_classes(batch.y, batch.w) if plan.loss is CrossEntropy else None
    values, slope = plan.loss(y, w, absent).value_and_slope(outputs)
    share /= len(y)
    return values.sum() * share, outputs, back(plan, batch, steps, slope * share)


class Descent(torch.autograd.Function):
    """Outputs of the adapted networks for the queries, as a function of the shared layers."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, batch: Batch, compile: bool, *params: Tensor) -> Tensor:
        layers: Layers = list(zip(params[::2], params[1::2], strict=True))
        go = compiled(there, batch.X.device.type) if compile else there
        outputs, steps = go(plan, batch, layers)
        ctx.known = plan, batch, steps, compile
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        plan, batch, steps, compile = ctx.known
        go = compiled(back, batch.X.device.type) if compile else back
        grads = go(plan, batch, steps, slope)
        return None, None, None, *(g for pair in grads for g in pair)


@cache
def compiled(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True, options={"cpp_wrapper": device == "cpu"})


def _shared(dz: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a weight and a bias that all tasks share."""
    dz = dz.flatten(0, 1)
    return dz.t() @ h.flatten(0, 1), dz.sum(0)


def _hessian_product(
    loss: SupportLoss, step: Step, along: Layers, squash: bool
) -> Sequence[Sequence[tuple[Tensor, Tensor]]]:
    """Product of the support loss's second derivative with a direction, as factors.

    For each layer one or two pairs (dz, h): the weight's part is the sum of
    dz' h, the bias's is the sum of the first dz over rows.
    """
    layers, hs, dzs = step
    last = len(layers) - 1
    moved: list[Tensor] = []  # derivatives of the activations
    for i, (weight, bias) in enumerate(along):
        change = affine(hs[i], weight, bias)
        if i:
            change += _back(moved[-1], layers[i][0].mT)
        if i < last:
            change = _through(change, hs[i + 1], squash)
        moved.append(change)
    bent = loss.curvature(hs[-1], moved[last])
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
