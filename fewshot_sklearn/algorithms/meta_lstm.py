"""The LSTM meta-learner: an LSTM whose cell state is the weights of the network that it trains.

S. Ravi and H. Larochelle. Optimization as a model for few-shot learning. ICLR
2017.

M. Andrychowicz et al. Learning to learn by gradient descent by gradient
descent. NeurIPS 2016 (appendix A: what the LSTM sees of gradients and losses).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import (
    DescendsCrossEntropy,
    InnerLoopEstimator,
    InnerLoopLearner,
    LSTMCell,
    State,
    SupportLoss,
    spread,
)
from ..tasks import Positive, Whole

#: Numbers that a step of meta-training may keep for the way back; two gigabytes.
NUMBERS_AT_ONCE = 2**29
#: Numbers that a step holds for each weight and hidden unit: gates, and both of its states.
OF_GATES = 13


def preprocessed(x: Tensor, p: float = 10.0) -> Tensor:
    """Size and sign of numbers whose magnitudes differ much (Andrychowicz 2016, appendix A).

    Parameters
    ----------
    x : Tensor of shape (...)
        Gradients or losses.
    p : float, default=10.0
        Numbers below exp(-p) are told by their value, others by their logarithm.

    Returns
    -------
    Tensor of shape (..., 2)
        (log|x| / p, sign(x)) where |x| >= exp(-p), else (-1, exp(p) x).
    """
    size = x.abs()
    large = size >= math.exp(-p)
    first = torch.where(large, size.clamp_min(math.exp(-p)).log() / p, -1.0)
    return torch.stack([first, torch.where(large, x.sign(), math.exp(p) * x)], -1)


class MetaLearner(nn.Module):
    """One step of the two-layer LSTM, the same for every coordinate (section 3 of the paper).

    Parameters
    ----------
    hidden_size : int
        Hidden units of the first layer.
    inner_lr : float
        Where the input gate starts.
    """

    def __init__(self, hidden_size: int, inner_lr: float):
        super().__init__()
        self.first = LSTMCell(4, hidden_size)
        # [h_t, theta_{t-1}, gate_{t-1}] to the gate, of which the second layer has two
        self.input_gate = nn.Linear(hidden_size + 2, 1)
        self.forget_gate = nn.Linear(hidden_size + 2, 1)
        with torch.no_grad():
            for gate, bias in (
                (self.input_gate, math.log(inner_lr / (1 - inner_lr))),
                (self.forget_gate, 8.0),
            ):
                gate.weight.zero_()
                gate.bias.fill_(bias)

    def forward(
        self, theta: Tensor, grad: Tensor, loss: Tensor, memory: State
    ) -> tuple[Tensor, State]:
        """Weights and memory after a step.

        Parameters
        ----------
        theta, grad : Tensor of shape (..., n)
            The cell state: n coordinates of the weights; and their gradient.
        loss : Tensor of shape (...)
            Loss at theta.
        memory : dict
            ``h`` and ``c`` (..., n, hidden_size) of the first layer, gates
            ``i`` and ``f`` (..., n) of the step before.
        """
        told = torch.cat([preprocessed(grad), preprocessed(loss[..., None].expand_as(grad))], -1)
        hidden = (*told.shape[:-1], self.first.n_hidden)
        h, c = self.first(told, (memory["h"].expand(hidden), memory["c"].expand(hidden)))
        i, f = (
            gate(torch.cat([h, theta[..., None], old.expand_as(theta)[..., None]], -1))
            .sigmoid()
            .squeeze(-1)
            for gate, old in (
                (self.input_gate, memory["i"]),
                (self.forget_gate, memory["f"]),
            )  # eq. 3 and 4
        )
        return f * theta - i * grad, {"h": h, "c": c, "i": i, "f": f}  # eq. 2


class MetaLSTM(DescendsCrossEntropy, InnerLoopLearner):
    """adapt: c_t = f_t * c_{t-1} - i_t * grad L_t (eq. 2). predict: the network of weights c_T.

    Gradients and losses count as constants in meta-training (section 3.2).
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_steps: int = 5,
        inner_lr: float = 0.1,
        hidden_size: int = 20,
        trained_steps: int = 0,
    ):
        super().__init__(
            encoder,
            input_shape,
            n_outputs,
            n_steps=n_steps,
            inner_lr=inner_lr,
            first_order=True,
            trained_steps=trained_steps,
        )
        if not inner_lr < 1:
            raise ValueError(
                f"inner_lr must be below 1, as the gate that starts from it is, got {inner_lr!r}."
            )
        if not (isinstance(hidden_size, int | np.integer) and hidden_size >= 1):
            raise ValueError(f"hidden_size must be an int, at least 1, got {hidden_size!r}.")
        self.hidden_size = hidden_size
        self.meta_learner = MetaLearner(hidden_size, inner_lr)

    def memory(self, params: State) -> State:
        n = sum(p.numel() for p in params.values())
        zeros = self.x_mean.new_zeros(n, self.hidden_size)
        return {"h": zeros, "c": zeros, "i": zeros[:, 0], "f": zeros[:, 0]}

    def gradient(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[State, Tensor]:
        """Gradient at the weights, beside the loss, which `update` has to know; and the loss."""
        with torch.no_grad():
            grads, value = super().gradient(params, Z, loss)
        return grads | {"loss": value}, value

    def update(
        self, step: int, params: State, grads: State, memory: State, share: Tensor | None = None
    ) -> tuple[State, State]:
        loss = grads["loss"]
        lead = loss.ndim

        def flat(named: State) -> Tensor:
            tensors = [named[k].expand_as(grads[k]).flatten(lead) for k in params]
            return torch.cat(tensors, -1)

        theta = flat(params)
        moved, memory = self.meta_learner(theta, flat(grads), loss, memory)
        if share is not None:
            moved = theta + spread(share, moved) * (moved - theta)
        shapes = {k: grads[k].shape[lead:] for k in params}
        parts = moved.split([shape.numel() for shape in shapes.values()], -1)
        named = zip(shapes.items(), parts, strict=True)
        return {k: part.unflatten(-1, shape) for (k, shape), part in named}, memory

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        weights = sum(p.numel() for p in self.adapting_weights().values())
        weights += (self.n_features + 1) * n_labels
        return super().numbers_to_adapt(n_rows, n_labels) + OF_GATES * self.hidden_size * weights

    def tasks_at_once(self, X: Tensor, X_query: Tensor) -> int:
        """As many as the gates of all coordinates and steps leave room for."""
        n_weights = sum(p.numel() for p in self.adapting_weights().values())
        a_task = OF_GATES * self.hidden_size * self.n_steps * n_weights
        room = max(1, NUMBERS_AT_ONCE // max(1, a_task))
        return min(room, super().tasks_at_once(X, X_query))


@with_shared_texts()
class MetaLSTMClassifier(InnerLoopEstimator, FewShotClassifier):
    """LSTM meta-learner: a network trained by an LSTM, which is trained on past tasks.

    The update of an LSTM's cell state, c_t = f_t * c_{t-1} + i_t * c~_t, is
    gradient descent where c are the weights of a network and c~_t the negative
    gradient (eq. 2 of [1]_). `fit` runs it for `n_steps` steps on the support
    rows. The input gate i_t is then a step size and the forget gate f_t shrinks
    the weights; both are computed for each weight by an LSTM that reads its
    gradient, the loss and its value (eq. 3-4), with the same parameters for all
    weights. Meta-training learns these and the initial weights, taking
    gradients and losses for constants. Steps beyond the number meta-trained
    with (all of them, without a meta-init) are kept only where they lower the
    support loss, others only where they end below where it was at the start.

    Without a meta-init, the input gate is `inner_lr` and the forget gate 0.9997
    (a bias of 8): gradient descent, but for a decay too faint to be seen.

    Departures from the paper: the head starts from zeros, not from a learned
    row for each class, so that any number of classes can be fitted, in any
    order; and there is no batch normalisation, whose statistics would tell rows
    to predict about each other. The gates' weights start at zero, not near it,
    so that without a meta-init nothing is random but the encoder.

    Parameters
    ----------
    {meta_init}
        The head then starts from zeros.
    {encoder}
        One with batch norm is refused, unless it is frozen.
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_steps : int or None, default=None
        Steps of the LSTM at `fit`. None takes the meta-init's, or 5.
    inner_lr : float or None, default=None
        Where the input gate, the step size, starts; below one. All that there
        is without a meta-init; with one, of no effect. None takes the
        meta-init's, or 0.1.
    hidden_size : int or None, default=None
        Hidden units of the LSTM's first layer. None takes the meta-init's, or
        20.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {loss_curve_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLClassifier : Learns only where gradient descent starts.
    MetaSGDClassifier : Learns a fixed step size for each weight.

    References
    ----------
    .. [1] S. Ravi and H. Larochelle, "Optimization as a model for few-shot
       learning", ICLR 2017.

    Examples
    --------
    >>> from fewshot_sklearn import MetaLSTMClassifier
    >>> clf = MetaLSTMClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.loss_curve_.round(2)
    array([0.69, 0.61, 0.53, 0.47, 0.43])
    """

    _learner_class = MetaLSTM
    _learns_rates = True
    _defaults = {"n_steps": 5, "inner_lr": 0.1, "hidden_size": 20}
    _constraints = {
        "n_steps": Whole(0) | None,
        "inner_lr": Positive(below=1) | None,
        "hidden_size": Whole(1) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_steps: int | None = None,
        inner_lr: float | None = None,
        hidden_size: int | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        self.scale_inputs = scale_inputs
        self.layout = layout
        self.n_steps = n_steps
        self.inner_lr = inner_lr
        self.hidden_size = hidden_size
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
