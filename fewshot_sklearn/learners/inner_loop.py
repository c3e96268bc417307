"""What MAML and its kin share: gradient descent on the support loss as the adaptation.

A method of this kind says where the descent starts (`start`), how far each step
goes (`rates`, or `update` where a step is more than a rate times the gradient),
and how meta-training learns from it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from ..encoders import MLP, Identity, Shape
from ..tasks import IGNORED_CODE, memberships
from ._attention_written_out import AttentionWrittenOut, may_attend
from ._fixed_parts import is_fixed_norm
from .descent import (
    CrossEntropy,
    Layers,
    SquaredError,
    SupportLoss,
    affine,
    backpropagate,
    outer,
    run,
)
from .learner import TASKS_PER_CHUNK, FeatureLearner
from .outputs import State, present_classes
from .shells import Shells

HEAD = ("head.weight", "head.bias")
#: What a state holds beside the encoder's weights.
EXTRAS = (*HEAD, "loss_curve", "present")


class InnerLoopLearner(FeatureLearner):
    """adapt: gradient descent on the support loss. predict: the adapted network.

    Meta-training runs plain gradient descent. Learned initialisations and step
    sizes do not extrapolate to more steps or to tasks unlike the past, so once
    trained a step is kept only if the support loss is no higher than at the
    start (for the first `trained_steps`) or than before the step (for further
    ones); otherwise it is taken back and the step size halved. Adaptation thus
    never diverges.

    Parameters
    ----------
    encoder, input_shape, n_outputs : see Learner
        The network, but for its head.
    n_steps : int, default=5
        Gradient steps.
    inner_lr : float, default=0.1
        Step size, or where learned step sizes start from.
    first_order : bool, default=False
        Whether meta-training ignores second derivatives.
    head_only : bool, default=False
        Whether only the head adapts.
    trained_steps : int, default=0
        Steps that meta-training took.
    """

    adapts_encoder = True
    scales_inputs_without_past = True
    #: The loss that adaptation descends.
    support_loss: type[SupportLoss]

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_steps: int = 5,
        inner_lr: float = 0.1,
        first_order: bool = False,
        head_only: bool = False,
        trained_steps: int = 0,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if any(_moves_statistics(m) for m in ([] if self.frozen else encoder.modules())):
            raise ValueError(
                "Gradient descent on a support set cannot use batch normalisation: the statistics "
                "of the set would leak into its queries. Use a norm that works within a row, such "
                "as torch.nn.GroupNorm, or freeze_encoder=True."
            )
        if not (isinstance(n_steps, int | np.integer) and n_steps >= 0):
            raise ValueError(f"n_steps must be an int, at least 0, got {n_steps!r}.")
        if not inner_lr > 0:
            raise ValueError(f"inner_lr must be positive, got {inner_lr!r}.")
        self.n_steps, self.inner_lr, self.first_order = n_steps, inner_lr, first_order
        # of an encoder that is not trained no weight adapts either
        self.head_only, self.trained_steps = head_only or self.frozen, trained_steps
        #: Names of the encoder's weights that adapt.
        self.adapting = () if self.head_only else _trained_names(encoder)
        if n_outputs is not None:
            self.head = nn.Linear(self.n_features, n_outputs)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        plain = isinstance(encoder, Identity | MLP) and encoder.is_plain_mlp() and not self.fixed
        self.takes_batches = plain or self.head_only
        self.looks_at_features = self.head_only
        self.with_weights = Shells(encoder)
        self.may_attend = may_attend(encoder)
        self.squash = any(isinstance(m, nn.Tanh) for m in encoder.modules())

    # ------------------------------------------------------------------ what methods differ in
    def start(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """Weights before adaptation.

        The head of a classifier is zero: all classes start alike, and softmax
        would not see what their rows have in common.
        """
        params: State = self.adapting_weights()
        if self.n_outputs is None:
            zeros = self.x_mean.new_zeros(y.shape[-1], self.n_features)
            return params | {"head.weight": zeros, "head.bias": zeros[:, 0]}
        return params | {"head.weight": self.head.weight, "head.bias": self.head.bias}

    def adapting_weights(self) -> State:
        """The encoder's weights that adapt: those that are trained, unless only the head does."""
        named = dict(self.encoder.named_parameters()) if self.adapting else {}
        return {f"encoder.{name}": named[name] for name in self.adapting}

    def rates(self, step: int, params: State) -> dict[str, Any]:
        """Step size of each weight, a number or a tensor that broadcasts, at one step."""
        return dict.fromkeys(params, self.inner_lr)

    def memory(self, params: State) -> State:
        """What `update` knows before the first step."""
        return {}

    def update(
        self, step: int, params: State, grads: State, memory: State, share: Tensor | None = None
    ) -> tuple[State, State]:
        """Weights and memory after a step, or after that share of it for each task."""
        rates = self.rates(step, params)
        if share is not None:  # the small factors first, and numbers once for all weights
            numbers = {rate for rate in rates.values() if not isinstance(rate, Tensor)}
            parts = {rate: share * rate for rate in numbers}
            rates = {
                k: spread(share, grads[k]) * rate
                if isinstance(rate, Tensor)
                else spread(parts[rate], grads[k])
                for k, rate in rates.items()
            }
        return {k: _stepped(p, rates[k], grads[k]) for k, p in params.items()}, memory

    def finished(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        """What the network puts out, as logits or in units of the targets."""
        raise NotImplementedError

    def targets(self, y: Tensor) -> Tensor:
        """Memberships or targets, as the support loss wants them."""
        return y

    # ------------------------------------------------------------------ the network
    def layers(self, params: State) -> Layers:
        """The weights of a plain MLP, head included."""
        names = [k.removesuffix(".weight") for k in params if k.endswith(".weight")]
        layers = [(params[f"{name}.weight"], params[f"{name}.bias"]) for name in names]
        return [(w, b if w.ndim == 2 else b[..., None, :]) for w, b in layers]

    def embed(self, X: Tensor) -> Tensor:
        """What adaptation leaves alone: the scaling, and the encoder if only the head adapts."""
        return super().embed(X) if self.head_only or self.given_features else self.scaled(X)

    def network(self, params: State, Z: Tensor) -> Tensor:
        """Outputs of what adapts, with the given weights."""
        if self.takes_batches:
            return run(self.layers(params), Z, self.squash)[-1]
        return affine(self.features(params, Z), params["head.weight"], params["head.bias"])

    def features(self, params: State, Z: Tensor) -> Tensor:
        """What the head sees, with the given weights of the encoder."""
        if self.head_only:
            return Z
        inner = {k.removeprefix("encoder."): p for k, p in params.items() if k not in EXTRAS}
        if self.takes_batches:
            hidden = {k: p for k, p in params.items() if k not in EXTRAS}
            return run_hidden(self.layers(hidden), Z, self.squash)
        if self.shared:
            return self.with_weights(inner, Z)
        return functional_call(self.encoder, inner, (Z,))

    def gradient(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[State, Tensor]:
        """Gradient of the support loss at the weights, and the loss."""
        parts = self.parts_in_descent(Z, self.of_outputs(params))
        if len(parts) == 1:
            return self._gradient(params, Z, loss)
        step = parts[0].shape[self._axis_of_rows]
        grads, value = self._gradient(params, parts[0], next(losses := loss.split(step)))
        for part, some in zip(parts[1:], losses, strict=True):
            more, worth = self._gradient(params, part, some)
            value = value + worth
            for name, g in grads.items():
                g += more[name]
        return grads, value

    def of_outputs(self, params: State) -> Tensor:
        """What has a number for each output, or class, among the weights."""
        return params["head.bias"]

    @property
    def _axis_of_rows(self) -> int:
        return -2 if self.takes_batches else 0

    def parts_in_descent(self, Z: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        """Rows in as many parts as a step of descent takes them in, for heads of these biases."""
        lead = Z.shape[: self._axis_of_rows].numel() if self.takes_batches else 1
        return self.parts_of(Z, lead * (self._width() + bias.shape[-1]), self._axis_of_rows)

    def _gradient(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[State, Tensor]:
        if self.takes_batches:
            layers = self.layers(params)
            hs = run(layers, Z, self.squash)
            value, slope = loss.value_and_slope(hs[-1])
            dzs = backpropagate(layers, hs, slope, self.squash)
            pairs = zip(dzs, hs[:-1], strict=True)
            flat = [g for dz, h in pairs for g in (outer(dz, h), dz.sum(-2))]
            grads: State = dict(zip(params, flat, strict=True))
        elif self.loops(Z) and not _is_transformed(Z):
            grads, value = self._gradient_of_one(params, Z, loss)
        else:
            with self.twice_differentiable():
                grads, value = grad_and_value(lambda p: self._value(p, Z, loss))(params)
        if self.first_order:
            grads = {name: g.detach() for name, g in grads.items()}
        return grads, value.detach()

    def _gradient_of_one(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[State, Tensor]:
        """The same of one task that is not vmapped, without what torch.func adds to operations."""
        again = torch.is_grad_enabled() and not self.first_order
        with torch.enable_grad(), self.twice_differentiable():
            # views: what a weight was made of is no way to it
            given = {
                k: p.view_as(p) if again and p.requires_grad else p.detach().requires_grad_()
                for k, p in params.items()
            }
            value = self._value(given, Z, loss)
            slopes = torch.autograd.grad(
                value, list(given.values()), create_graph=again, materialize_grads=True
            )
        return dict(zip(given, slopes, strict=True)), value

    def support_value(self, params: State, Z: Tensor, loss: SupportLoss) -> Tensor:
        """The support loss alone, where no step follows."""
        with torch.no_grad():
            parts = self.parts_in_descent(Z, self.of_outputs(params))
            losses = [loss] if len(parts) == 1 else loss.split(parts[0].shape[self._axis_of_rows])
            each = [self._value(params, *part) for part in zip(parts, losses, strict=True)]
        return each[0] if len(each) == 1 else torch.stack(each).sum(0)

    def twice_differentiable(self) -> AbstractContextManager[Any]:
        """Context in which meta-training can differentiate the gradient of a transformer."""
        again = self.training and not self.first_order and self.may_attend
        return AttentionWrittenOut() if again else nullcontext()

    def _value(self, params: State, Z: Tensor, loss: SupportLoss) -> Tensor:
        with self.rounded(Z, self.first_order):  # second derivatives would gain nothing
            outputs = self.network(params, Z)
        return loss.value(outputs.to(self.x_mean.dtype))

    # ------------------------------------------------------------------ the two functions
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        loss = self.support_loss(self.targets(y), w)
        params = self.start(Z, y, w)
        descend = self.descended if self.training else self.guarded
        params, curve = descend(params, Z, loss)
        if self.n_outputs is None:
            params = params | {"present": present_classes(y, w)}
        none = w.new_zeros((*w.shape[:-1], 0))
        return params | {"loss_curve": torch.stack(curve, -1) if curve else none}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        params = {name: t for name, t in state.items() if name not in ("present", "loss_curve")}
        with self.rounded(Z):
            outputs = self.network(params, Z)
        return self.finished(outputs.to(self.x_mean.dtype), state.get("present"))

    def backward_by_hand(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor, share: float
    ) -> tuple[Tensor, Tensor] | None:
        """One task at a time: the queries' graph is gone before the descent's is gone back through.

        What is predicted of queries depends on what was learned before by way of the adapted
        weights alone, or directly. So the gradient at these, taken first, is all that the graph of
        the descent has to be told.
        """
        usual = type(self).training_loss is InnerLoopLearner.training_loss
        if len(X) != 1 or self.takes_batches or not usual or not self.loops(X):
            return None
        Z, Z_query = self.embed_of_tasks(X)[0], self.embed_of_tasks(X_query)[0]
        state = self.adapt_features(Z, y[0], w[0])
        linked = {name: t for name, t in state.items() if t.requires_grad}
        ends = {name: t.detach().requires_grad_() for name, t in linked.items()}
        outputs = self.predict_features(state | ends, Z_query)[None]
        loss = self.loss(outputs, y_query)
        (loss * share).backward()
        told = {name: end.grad for name, end in ends.items() if end.grad is not None}
        if told:
            torch.autograd.backward([linked[name] for name in told], list(told.values()))
        return loss.detach() * share, outputs.detach()

    # ------------------------------------------------------------------ descent
    def path(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[list[State], list[Tensor]]:
        """Weights at the start and after each step of plain descent; the loss before each."""
        path, curve, memory = [params], [], self.memory(params)
        for step in range(self.n_steps):
            grads, value = self.gradient(path[-1], Z, loss)
            params, memory = self.update(step, path[-1], grads, memory)
            path.append(params)
            curve.append(value)
        return path, curve

    def descended(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[State, list[Tensor]]:
        """Plain gradient descent, and the loss before each step."""
        path, curve = self.path(params, Z, loss)
        return path[-1], curve

    def guarded(
        self, params: State, Z: Tensor, descended: SupportLoss
    ) -> tuple[State, list[Tensor]]:
        """Gradient descent that takes a step back, and halves its size, where it went wrong."""
        curve: list[Tensor] = []
        if not self.n_steps:
            return params, curve
        grads, loss = self.gradient(params, Z, descended)
        first, memory = loss, self.memory(params)
        share = None  # of a step, of each task: until one was taken back, all of it

        def keep(good: Tensor, new: State, old: State) -> State:
            return {k: torch.where(spread(good, new[k]), new[k], old[k]) for k in new}

        for step in range(self.n_steps):
            curve.append(loss)
            trial, trial_memory = self.update(step, params, grads, memory, share)
            limit = first if step < self.trained_steps else loss
            if step == self.n_steps - 1:
                good = self.support_value(trial, Z, descended) <= limit
                return (trial if _all_known(good) else keep(good, trial, params)), curve
            trial_grads, trial_loss = self.gradient(trial, Z, descended)
            good = trial_loss <= limit  # False for NaN
            if _all_known(good):
                params, memory, grads, loss = trial, trial_memory, trial_grads, trial_loss
                continue
            params = keep(good, trial, params)
            memory = keep(good, trial_memory, memory)
            grads = keep(good, trial_grads, grads)
            loss = torch.where(good, trial_loss, loss)
            share = torch.ones_like(loss) if share is None else share
            share = torch.where(good, share, share / 2)
        return params, curve

    def numbers_a_row(self, state: State) -> int:
        return state["loss_curve"].shape[:-1].numel() * self._width()  # weights are multiplied with

    def tasks_at_once(self, X: Tensor, X_query: Tensor) -> int:
        if X.device.type != "cpu" or self.head_only:
            return super().tasks_at_once(X, X_query)
        return 1 if self.convolves else TASKS_PER_CHUNK


def _trained_names(encoder: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, p in encoder.named_parameters() if p.requires_grad)


def _is_transformed(Z: Tensor) -> bool:
    """Whether torch.func is at work, or inference mode, in which nothing else differentiates."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor(Z)
    return wrapped or torch.is_inference_mode_enabled()


def _all_known(good: Tensor) -> bool:
    """Whether all are true, where asking is free: on the CPU, outside of a graph or a transform."""
    if good.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(good) and bool(good.all())


def _stepped(weight: Tensor, rate: Any, gradient: Tensor) -> Tensor:
    """The weight less a rate times its gradient, in one operation."""
    if isinstance(rate, Tensor):
        return torch.addcmul(weight, rate, gradient, value=-1)
    return torch.sub(weight, gradient, alpha=rate)


def _moves_statistics(part: nn.Module) -> bool:
    return isinstance(part, nn.modules.batchnorm._BatchNorm) and not is_fixed_norm(part)


def run_hidden(layers: Layers, Z: Tensor, squash: bool) -> Tensor:
    """Features of a plain MLP: what `run` does, with the nonlinearity after the last layer too."""
    if not layers:
        return Z
    last = run(layers, Z, squash)[-1]
    return last.tanh() if squash else last.relu()


def as_support(y_query: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Queries as though they were support: memberships or targets as y has them, weights as w.

    What is padded weighs zero.
    """
    if not y_query.is_floating_point():
        known = (y_query != IGNORED_CODE).to(w.dtype)
        return memberships(y_query, y.shape[-1], y.dtype), known
    missing = y_query.isnan()
    return y_query.masked_fill(missing, 0.0), (~missing[..., 0]).to(w.dtype)


def spread(per_task: Tensor, like: Tensor) -> Tensor:
    """Give a value a task the trailing axes of a tensor a task."""
    return per_task.reshape(per_task.shape + (1,) * (like.ndim - per_task.ndim))


class DescendsCrossEntropy:
    """Cross-entropy over the classes that have support."""

    support_loss: type[SupportLoss] = CrossEntropy

    def finished(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        assert present is not None
        return outputs.masked_fill(~present[..., None, :], -torch.inf)


class DescendsSquaredError:
    """Squared error of the scaled targets, averaged over outputs."""

    support_loss: type[SupportLoss] = SquaredError

    def targets(self, y: Tensor) -> Tensor:
        return self.scaled_targets(y)  # type: ignore[attr-defined]

    def finished(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        return self.in_units(outputs)  # type: ignore[attr-defined]


class InnerLoopEstimator:
    """What the estimators of these learners share."""

    #: Whether step sizes are learned, so that inner_lr means nothing once meta-trained.
    _learns_rates = False

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        params = super()._learner_params(trained)  # type: ignore[misc]
        if trained is None:
            return params | {"trained_steps": 0}
        as_trained = self._learns_rates or params["inner_lr"] <= trained["inner_lr"]
        return params | {"trained_steps": trained["n_steps"] if as_trained else 0}

    @property
    def loss_curve_(self) -> np.ndarray:
        return self._state("loss_curve")  # type: ignore[attr-defined]
