"""Model-agnostic meta-learning: a network whose weights are a few gradient steps from any task.

C. Finn, P. Abbeel and S. Levine. Model-agnostic meta-learning for fast
adaptation of deep networks. ICML 2017.

C.-H. Kao, W.-C. Chiu and P.-Y. Chen. MAML is a noisy contrastive learner in
classification. ICLR 2022 (the head of zeros).

H.-J. Ye and W.-L. Chao. How to train your MAML to excel in few-shot
classification. ICLR 2022 (one start for all classes, so that any number will do).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from .base import FewShotClassifier, FewShotRegressor
from .descent import (
    Batch,
    CrossEntropy,
    Descent,
    Layers,
    Plan,
    SquaredError,
    SupportLoss,
    affine,
    backpropagate,
    compiled,
    run,
    there_and_back,
)
from .encoders import MLP, Identity, Shape
from .learner import TASKS_PER_CHUNK, FeatureLearner, State, present_classes
from .tasks import IGNORED_CODE, memberships

HEAD = ("head.weight", "head.bias")
#: What a state holds beside the encoder's weights.
EXTRAS = (*HEAD, "loss_curve", "present")


class MAMLLearner(FeatureLearner):
    """adapt: gradient descent on the support loss (eq. 1). predict: the adapted network.

    Meta-training runs plain gradient descent. Learned initialisations and step
    sizes do not extrapolate to more steps or to tasks unlike the past, so once
    trained a step is kept only if the support loss is no higher than at the
    start (for the first `trained_steps`) or than before the step (for further
    ones); otherwise it is taken back and the step size halved. Adaptation thus
    never diverges.
    """

    scales_inputs_without_past = True
    #: The loss that adaptation descends.
    loss: type[SupportLoss]

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
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules()):
            raise ValueError(
                "MAML cannot use batch normalisation: the statistics of a support set would leak "
                "into its queries. Use a norm that works within a row, such as "
                "torch.nn.GroupNorm."
            )
        if not (isinstance(n_steps, int | np.integer) and n_steps >= 0):
            raise ValueError(f"n_steps must be an int, at least 0, got {n_steps!r}.")
        if not inner_lr > 0:
            raise ValueError(f"inner_lr must be positive, got {inner_lr!r}.")
        self.n_steps, self.inner_lr, self.first_order = n_steps, inner_lr, first_order
        self.head_only, self.trained_steps = head_only, trained_steps
        if n_outputs is not None:
            self.head = nn.Linear(self.n_features, n_outputs)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        plain = isinstance(encoder, Identity | MLP) and encoder.is_plain_mlp()
        self.takes_batches = plain or head_only
        self._linear = [m for m in self.modules() if isinstance(m, nn.Linear)]
        self.squash = any(isinstance(m, nn.Tanh) for m in encoder.modules())

    def initial(self, n_way: int) -> State:
        """Weights before adaptation.

        The head of a classifier is zero: all classes start alike, and softmax
        would not see what their rows have in common.
        """
        params: State = {}
        if not self.head_only:
            params = {f"encoder.{k}": p for k, p in self.encoder.named_parameters()}
        if self.n_outputs is None:
            zeros = self.x_mean.new_zeros(n_way, self.n_features)
            return params | {"head.weight": zeros, "head.bias": zeros[:, 0]}
        return params | {"head.weight": self.head.weight, "head.bias": self.head.bias}

    def _start(self, n_way: int) -> list[Tensor]:
        """`initial` of a plain MLP, without names."""
        params = [p for layer in self._linear for p in (layer.weight, layer.bias)]
        if self.n_outputs is not None:
            return params
        zeros = self.x_mean.new_zeros(n_way, self.n_features)
        return [*params, zeros, zeros[:, 0]]

    def finished(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        """What the network puts out, as logits or in units of the targets."""
        raise NotImplementedError

    def layers(self, params: State) -> Layers:
        """The weights of a plain MLP, head included."""
        names = [k.removesuffix(".weight") for k in params if k.endswith(".weight")]
        layers = [(params[f"{name}.weight"], params[f"{name}.bias"]) for name in names]
        return [(w, b if w.ndim == 2 else b[..., None, :]) for w, b in layers]

    def embed(self, X: Tensor) -> Tensor:
        """What adaptation leaves alone: the scaling, and the encoder if only the head adapts."""
        return super().embed(X) if self.head_only else self.scaled(X)

    def network(self, params: State, Z: Tensor) -> Tensor:
        """Outputs of what adapts, with the given weights."""
        if self.takes_batches:
            return run(self.layers(params), Z, self.squash)[-1]
        inner = {k.removeprefix("encoder."): p for k, p in params.items() if k not in EXTRAS}
        Z = functional_call(self.encoder, inner, (Z,))
        return affine(Z, params["head.weight"], params["head.bias"])

    def gradient(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[State, Tensor]:
        """Gradient of the support loss at the weights, and the loss."""
        if self.takes_batches:
            layers = self.layers(params)
            hs = run(layers, Z, self.squash)
            value, slope = loss.value_and_slope(hs[-1])
            dzs = backpropagate(layers, hs, slope, self.squash)
            pairs = zip(dzs, hs[:-1], strict=True)
            flat = [g for dz, h in pairs for g in (dz.mT @ h, dz.sum(-2))]
            grads: State = dict(zip(params, flat, strict=True))
        else:
            grads, value = grad_and_value(lambda p: self._value(p, Z, loss))(params)
        if self.first_order:
            grads = {name: g.detach() for name, g in grads.items()}
        return grads, value.detach()

    def _value(self, params: State, Z: Tensor, loss: SupportLoss) -> Tensor:
        with self.rounded(Z, self.first_order):  # second derivatives would gain nothing
            outputs = self.network(params, Z)
        return loss.value(outputs.to(Z.dtype))

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        loss = self.loss(self._targets(y), w)
        params, curve = self.initial(y.shape[-1]), []
        if self.training:
            for _ in range(self.n_steps):
                grads, value = self.gradient(params, Z, loss)
                curve.append(value)
                params = {k: p - self.inner_lr * grads[k] for k, p in params.items()}
        else:
            params, curve = self._guarded(params, Z, loss)
        if self.n_outputs is None:
            params = params | {"present": present_classes(y, w)}
        none = w.new_zeros((*w.shape[:-1], 0))
        return params | {"loss_curve": torch.stack(curve, -1) if curve else none}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        params = {name: t for name, t in state.items() if name not in ("present", "loss_curve")}
        with self.rounded(Z):
            outputs = self.network(params, Z)
        return self.finished(outputs.to(Z.dtype), state.get("present"))

    def forward(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Tensor:
        by_hand = self.training and self.takes_batches and not self.head_only
        if by_hand and not X.requires_grad:
            return self.over_tasks("_descend", X, y, w, X_query)
        return super().forward(X, y, w, X_query)  # type: ignore[return-value]

    def _plan(self) -> Plan:
        return Plan(self.loss, self.n_steps, self.inner_lr, self.squash, self.first_order)

    def _batch(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Batch:
        scale, shift = (None, None) if self.n_outputs is None else (self.y_scale, self.y_mean)
        return Batch(self.scaled(X), self._targets(y), w, self.scaled(X_query), scale, shift)

    @torch.no_grad()
    def backward_by_hand(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor, share: float
    ) -> tuple[Tensor, Tensor] | None:
        if not self.takes_batches or self.head_only:
            return None
        if self.n_outputs is None:
            w_query = (y_query != IGNORED_CODE).to(w.dtype)
            y_query = memberships(y_query, y.shape[-1], y.dtype)
        else:
            missing = y_query.isnan()
            w_query = (~missing[..., 0]).to(w.dtype)
            y_query = y_query.masked_fill(missing, 0.0)
        params = self._start(y.shape[-1])
        layers: Layers = list(zip(params[::2], params[1::2], strict=True))
        go = compiled(there_and_back, X.device.type) if self.compiled else there_and_back
        batch = self._batch(X, y, w, X_query)
        loss, outputs, grads = go(self._plan(), batch, layers, y_query, w_query, share)
        for p, g in zip(params, (g for pair in grads for g in pair), strict=True):
            if p.requires_grad:
                p.grad = g if p.grad is None else p.grad + g
        if self.n_outputs is None:
            outputs = self.finished(outputs, present_classes(y, w))
        return loss, outputs

    def steps_that_pay(self) -> int | None:
        by_hand = self.takes_batches and not self.head_only
        return 50_000 if by_hand else super().steps_that_pay()

    def tasks_at_once(self, X: Tensor, X_query: Tensor) -> int:
        if X.device.type != "cpu" or self.head_only:
            return super().tasks_at_once(X, X_query)
        return 1 if self.convolves else TASKS_PER_CHUNK

    def _descend(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Tensor:
        """`adapt` and `predict` while meta-training, with derivatives written by hand."""
        plan, batch = self._plan(), self._batch(X, y, w, X_query)
        outputs = Descent.apply(plan, batch, self.compiled, *self._start(y.shape[-1]))
        if self.n_outputs is not None:
            return outputs
        return self.finished(outputs, present_classes(y, w))

    def _guarded(
        self, params: State, Z: Tensor, descended: SupportLoss
    ) -> tuple[State, list[Tensor]]:
        """Gradient descent that takes a step back, and halves its size, where it went wrong."""
        curve: list[Tensor] = []
        if not self.n_steps:
            return params, curve
        grads, loss = self.gradient(params, Z, descended)
        rate, first = torch.full_like(loss, self.inner_lr), loss

        def keep(good: Tensor, new: State, old: State) -> State:
            return {k: torch.where(_spread(good, new[k]), new[k], old[k]) for k in new}

        for step in range(self.n_steps):
            curve.append(loss)
            trial = {k: p - _spread(rate, grads[k]) * grads[k] for k, p in params.items()}
            trial_grads, trial_loss = self.gradient(trial, Z, descended)
            good = trial_loss <= (first if step < self.trained_steps else loss)  # False for NaN
            params = keep(good, trial, params)
            grads = keep(good, trial_grads, grads)
            loss = torch.where(good, trial_loss, loss)
            rate = torch.where(good, rate, rate / 2)
        return params, curve

    def _targets(self, y: Tensor) -> Tensor:
        return y


def _spread(per_task: Tensor, like: Tensor) -> Tensor:
    """Give a value a task the trailing axes of a tensor a task."""
    return per_task.reshape(per_task.shape + (1,) * (like.ndim - per_task.ndim))


class MAMLClassification(MAMLLearner):
    """Cross-entropy over the classes that have support."""

    loss = CrossEntropy

    def finished(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        assert present is not None
        return outputs.masked_fill(~present[..., None, :], -torch.inf)


class MAMLRegression(MAMLLearner):
    """Squared error of the scaled targets, averaged over outputs."""

    loss = SquaredError

    def _targets(self, y: Tensor) -> Tensor:
        return (y - self.y_mean) / self.y_scale

    def finished(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        return torch.addcmul(self.y_mean, outputs, self.y_scale)


class _MAMLEstimator:
    """What the classifier and the regressor share."""

    _defaults = {"n_steps": 5, "inner_lr": 0.1, "first_order": False, "head_only": False}

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        params = super()._learner_params(trained)  # type: ignore[misc]
        as_trained = trained is not None and params["inner_lr"] <= trained["inner_lr"]
        return params | {"trained_steps": trained["n_steps"] if as_trained else 0}  # type: ignore[index]

    @property
    def loss_curve_(self) -> np.ndarray:
        return self._state("loss_curve")  # type: ignore[attr-defined]


class MAMLClassifier(_MAMLEstimator, FewShotClassifier):
    """MAML: a network adapted to the task by a few gradient steps from a meta-learned start.

    `fit` runs theta' = theta - inner_lr * grad L(theta) for `n_steps` steps on
    the support rows (eq. 1 of [1]_); meta-training chose theta so that this
    generalises, differentiating through the steps (or not: `first_order`).
    The head starts from zeros [2]_: all classes start alike [3]_, so any number
    of them can be fitted, in any order. Steps beyond the
    number meta-trained with (all of them, without a meta-init) are kept only
    where they lower the support loss.

    Parameters
    ----------
    meta_init : MetaInit, path or None, default=None
        What meta-training learned from past tasks. None starts from the
        encoder as it is and a head of zeros.
    encoder : str, nn.Module class, nn.Module or None, default=None
        ``"identity"``, ``"mlp"``, ``"conv4"``, ``"resnet12"`` or a module of
        your own (without batch norm). None takes the meta-init's, or
        ``"identity"`` without one.
    n_steps : int or None, default=None
        Gradient steps at `fit`. None takes the meta-init's, or 5.
    inner_lr : float or None, default=None
        Step size. None takes the meta-init's, or 0.1.
    first_order : bool or None, default=None
        Whether meta-training ignores second derivatives (FOMAML); changes
        nothing at `fit`. None takes the meta-init's, or False.
    head_only : bool or None, default=None
        Whether only the last layer adapts, on features that stay as they were
        meta-trained (ANIL [4]_). None takes the meta-init's, or False.
    device : str, default="auto"
        Where to compute; ``"auto"`` is the GPU where there is one.
    dtype : {"float32", "float64"} or None, default=None
        Precision. None is float32 with a meta-init and float64 without.
    random_state : int, RandomState instance or None, default=None
        Seeds the encoder's weights where there is no meta-init.
    **encoder__params
        Arguments of the encoder's constructor, each written
        ``encoder__name=value``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    loss_curve_ : ndarray of shape (n_steps,)
        Support loss (cross-entropy, in nats) before each step.
    meta_init_ : MetaInit
        The initialization that `fit` adapted from.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    ProtoNetClassifier : Needs no gradient at fit.

    References
    ----------
    .. [1] C. Finn, P. Abbeel and S. Levine, "Model-agnostic meta-learning for fast
       adaptation of deep networks", ICML 2017.
    .. [2] C.-H. Kao, W.-C. Chiu and P.-Y. Chen, "MAML is a noisy contrastive learner
       in classification", ICLR 2022.
    .. [3] H.-J. Ye and W.-L. Chao, "How to train your MAML to excel in few-shot
       classification", ICLR 2022.
    .. [4] A. Raghu, M. Raghu, S. Bengio and O. Vinyals, "Rapid learning or feature
       reuse? Towards understanding the effectiveness of MAML", ICLR 2020.

    Examples
    --------
    >>> from fewshot_sklearn import MAMLClassifier
    >>> clf = MAMLClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.set_params(n_steps=20).fit([[0.], [1.]], [0, 1]).loss_curve_.shape
    (20,)
    """

    _learner_class = MAMLClassification

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        n_steps: int | None = None,
        inner_lr: float | None = None,
        first_order: bool | None = None,
        head_only: bool | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.n_steps = n_steps
        self.inner_lr = inner_lr
        self.first_order = first_order
        self.head_only = head_only
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)


class MAMLRegressor(_MAMLEstimator, FewShotRegressor):
    """MAML for regression: a network adapted by a few gradient steps from a meta-learned start.

    `fit` runs theta' = theta - inner_lr * grad L(theta) for `n_steps` steps on
    the squared error of the support rows (eq. 1-2 of [1]_), with features and
    targets at the scale learned from the past. Steps beyond the number
    meta-trained with (all of them, without a meta-init) are kept only where
    they lower the support loss, so that no task diverges.

    Parameters
    ----------
    meta_init : MetaInit, path or None, default=None
        What meta-training learned from past tasks. None starts from the
        encoder as it is and a head of zeros.
    encoder : str, nn.Module class, nn.Module or None, default=None
        ``"identity"``, ``"mlp"``, ``"conv4"``, ``"resnet12"`` or a module of
        your own (without batch norm). None takes the meta-init's, or
        ``"identity"`` without one.
    n_steps : int or None, default=None
        Gradient steps at `fit`. None takes the meta-init's, or 5.
    inner_lr : float or None, default=None
        Step size. None takes the meta-init's, or 0.1.
    first_order : bool or None, default=None
        Whether meta-training ignores second derivatives (FOMAML); changes
        nothing at `fit`. None takes the meta-init's, or False.
    head_only : bool or None, default=None
        Whether only the last layer adapts, on features that stay as they were
        meta-trained (ANIL [2]_). None takes the meta-init's, or False.
    device : str, default="auto"
        Where to compute; ``"auto"`` is the GPU where there is one.
    dtype : {"float32", "float64"} or None, default=None
        Precision. None is float32 with a meta-init and float64 without.
    random_state : int, RandomState instance or None, default=None
        Seeds the encoder's weights where there is no meta-init.
    **encoder__params
        Arguments of the encoder's constructor, each written
        ``encoder__name=value``.

    Attributes
    ----------
    loss_curve_ : ndarray of shape (n_steps,)
        Support loss (mean squared error of the scaled targets) before each step.
    meta_init_ : MetaInit
        The initialization that `fit` adapted from.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    RidgeHeadRegressor : Solves for the head in closed form, with uncertainty.

    References
    ----------
    .. [1] C. Finn, P. Abbeel and S. Levine, "Model-agnostic meta-learning for fast
       adaptation of deep networks", ICML 2017.
    .. [2] A. Raghu, M. Raghu, S. Bengio and O. Vinyals, "Rapid learning or feature
       reuse? Towards understanding the effectiveness of MAML", ICLR 2020.

    Examples
    --------
    >>> from fewshot_sklearn import MAMLRegressor
    >>> reg = MAMLRegressor(n_steps=100).fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.5]]).round(2)
    array([4.])
    """

    _learner_class = MAMLRegression

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        n_steps: int | None = None,
        inner_lr: float | None = None,
        first_order: bool | None = None,
        head_only: bool | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.n_steps = n_steps
        self.inner_lr = inner_lr
        self.first_order = first_order
        self.head_only = head_only
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
