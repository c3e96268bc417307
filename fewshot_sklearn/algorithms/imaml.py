"""Implicit MAML: a meta-gradient that asks where adaptation ends, not how it got there.

A. Rajeswaran, C. Finn, S. Kakade and S. Levine. Meta-learning with implicit
gradients. NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad, grad_and_value

from ..encoders import Shape
from ..estimators import FewShotClassifier, FewShotEstimator, FewShotRegressor, with_shared_texts
from ..learners import (
    DescendsCrossEntropy,
    DescendsSquaredError,
    InnerLoopEstimator,
    InnerLoopLearner,
    State,
    SupportLoss,
    absent_classes,
    as_support,
    spread,
)
from ..tasks import Positive, Whole


class IMAMLLearner(InnerLoopLearner):
    """adapt: minimise L(phi) + lam / 2 |phi - theta|^2 from theta (eq. 3). predict: the network.

    Meta-training does not differentiate the descent. Where phi is the minimum,
    d phi / d theta = (I + H / lam)^-1 with H the Hessian of L at phi (lemma 1),
    so the gradient of the query loss at phi, multiplied with that by conjugate
    gradients (algorithm 2), is the meta-gradient.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        lam: float = 1.0,
        cg_steps: int = 5,
        **options: Any,
    ):
        super().__init__(encoder, input_shape, n_outputs, first_order=True, **options)
        if not lam > 0:
            raise ValueError(f"lam must be positive, got {lam!r}.")
        if not (isinstance(cg_steps, int | np.integer) and cg_steps >= 0):
            raise ValueError(f"cg_steps must be an int, at least 0, got {cg_steps!r}.")
        self.lam, self.cg_steps = lam, cg_steps

    # ------------------------------------------------------------------ the inner loop
    def path(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[list[State], list[Tensor]]:
        return super().path(params, Z, _Proximal(loss, params))  # type: ignore[arg-type]

    def guarded(
        self, params: State, Z: Tensor, descended: SupportLoss
    ) -> tuple[State, list[Tensor]]:
        return super().guarded(params, Z, _Proximal(descended, params))  # type: ignore[arg-type]

    def gradient(self, params: State, Z: Tensor, loss: Any) -> tuple[State, Tensor]:
        """Gradient of the support loss and of the pull towards the start, and their sum's value."""
        grads, value = super().gradient(params, Z, loss.loss)
        away = {k: (params[k] - start).expand_as(grads[k]) for k, start in loss.start.items()}
        grads = {k: g + self.lam * away[k] if k in away else g for k, g in grads.items()}
        return grads, self._pulled(value, away)

    def support_value(self, params: State, Z: Tensor, loss: Any) -> Tensor:
        away = {k: params[k] - start for k, start in loss.start.items()}
        return self._pulled(super().support_value(params, Z, loss.loss), away)

    def _pulled(self, value: Tensor, away: State) -> Tensor:
        """The loss and the pull towards the start, given how far away the weights are."""
        for far in away.values():
            value = value + self.lam / 2 * far.square().flatten(value.ndim).sum(-1)
        return value

    # ------------------------------------------------------------------ meta-training
    @torch.no_grad()
    def backward_by_hand(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """Add the mean over tasks of (I + H / lam)^-1 times the query loss's gradient at phi."""
        asked, w_query = as_support(y_query, y, w)
        Z, Z_query = self.embed_of_tasks(X), self.embed_of_tasks(X_query)
        found = self.over_tasks("implicit", Z, y, w, Z_query, asked, w_query)
        for name, p in self.named_parameters():
            if p.requires_grad and name in found:
                g = share * found[name].mean(0)
                p.grad = g if p.grad is None else p.grad + g
        outputs = found["outputs"]
        return share * self.loss(outputs, y_query), outputs

    def implicit(
        self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor, asked: Tensor, w_query: Tensor
    ) -> State:
        """The meta-gradient of a task, by name, and what phi says of the queries."""
        absent = absent_classes(y, w) if self.n_outputs is None else None
        support = self.support_loss(self.targets(y), w)
        queries = self.support_loss(self.targets(asked), w_query, absent)
        phi, _ = self.descended(self.start(Z, y, w), Z, support)
        phi = {k: p.expand(*w.shape[:-1], *self._shape(k, p, w)) for k, p in phi.items()}

        def asked_of(params: State) -> tuple[Tensor, Tensor]:
            outputs = self.network(params, Z_query).to(self.x_mean.dtype)
            return queries.value(outputs).sum(), outputs

        with self.twice_differentiable():
            slopes, (_, outputs) = grad_and_value(asked_of, has_aux=True)(phi)
            v = self._solved(slopes, phi, Z, support, w.ndim - 1)
        present = None if absent is None else ~absent[..., 0, :]
        return v | {"outputs": self.finished(outputs, present)}

    def _shape(self, name: str, p: Tensor, w: Tensor) -> torch.Size:
        """Shape of a weight of one task, whether all tasks still share it or not."""
        if name == "head.weight":
            return p.shape[-2:]
        if name == "head.bias":
            return p.shape[-1:]
        return self.encoder.get_parameter(name.removeprefix("encoder.")).shape

    def _solved(self, b: State, phi: State, Z: Tensor, support: SupportLoss, lead: int) -> State:
        """x with (I + H / lam) x = b for each task, by `cg_steps` steps of conjugate gradients."""

        def slope(params: State) -> State:
            return grad(lambda p: self._value(p, Z, support).sum())(params)

        def product(v: State) -> State:
            def along(params: State) -> Tensor:
                return sum((g * v[k]).sum() for k, g in slope(params).items())  # type: ignore[return-value]

            return {k: v[k] + h / self.lam for k, h in grad(along)(phi).items()}

        return conjugate_gradients(product, b, self.cg_steps, lead)

    def steps_that_pay(self) -> int | None:
        return None  # nothing that is compiled


class _Proximal:
    """A support loss, and the weights that descent is pulled towards."""

    def __init__(self, loss: SupportLoss, start: State):
        self.loss, self.start = loss, start


def conjugate_gradients(
    product: Callable[[State], State], b: State, n_steps: int, lead: int
) -> State:
    """Solve A x = b by so many steps, from x = b.

    A direction along which A is not positive, as a Hessian far from a minimum
    may have, ends it: x then stays what it was.

    Parameters
    ----------
    product : callable
        Multiplies with A.
    b : dict of str to Tensor
        The right side, in parts whose first `lead` axes are of tasks.
    n_steps : int
        Steps; none gives b.
    lead : int
        Axes of tasks.
    """

    def dot(u: State, v: State) -> Tensor:
        parts = [(u[k] * v[k]).flatten(lead).sum(-1) for k in u]
        return torch.stack(parts).sum(0)

    def plus(u: State, share: Tensor, v: State) -> State:
        return {k: u[k] + spread(share, v[k]) * v[k] for k in u}

    x = b
    if not n_steps:
        return x
    r = plus(b, -torch.ones_like(dot(b, b)), product(x))
    p, size = r, dot(r, r)
    going = size > 0
    for _ in range(n_steps):
        Ap = product(p)
        curvature = dot(p, Ap)
        going = going & (curvature > 0) & torch.isfinite(curvature)
        rate = torch.where(going, size / torch.where(going, curvature, 1.0), 0.0)
        x, r = plus(x, rate, p), plus(r, -rate, Ap)
        new = dot(r, r)
        share = torch.where(going & (size > 0), new / torch.where(size > 0, size, 1.0), 0.0)
        p, size = plus(r, share, p), new
        going = going & (new > 0)
    return x


class IMAMLClassification(DescendsCrossEntropy, IMAMLLearner):
    """Implicit MAML with a head of zeros for each class that comes."""


class IMAMLRegression(DescendsSquaredError, IMAMLLearner):
    """Implicit MAML with a learned head."""


#: What the parameters of both estimators mean.
STEPS = """
n_steps : int or None, default=None
    Gradient steps at `fit` and in meta-training, which has to come near the minimum.
    None takes the meta-init's, or 16, the paper's.
inner_lr : float or None, default=None
    Step size. None takes the meta-init's, or 0.1.
lam : float or None, default=None
    How strongly the weights are pulled towards the start. Where it is so small that
    the steps end far from the minimum the meta-gradient is wrong, and nothing may be
    learned: a larger one, such as 1, then helps. None takes the meta-init's, or 0.1.
cg_steps : int or None, default=None
    Steps of conjugate gradients in meta-training; none leaves first-order MAML's
    gradient, at the end of the descent. Changes nothing at `fit`. None takes the
    meta-init's, or 5, the paper's.
"""


class _IMAMLEstimator(InnerLoopEstimator, FewShotEstimator):
    """Parameters of both estimators."""

    _defaults = {"n_steps": 16, "inner_lr": 0.1, "lam": 0.1, "cg_steps": 5}
    _constraints = {
        "n_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "lam": Positive() | None,
        "cg_steps": Whole(0) | None,
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
        lam: float | None = None,
        cg_steps: int | None = None,
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
        self.lam = lam
        self.cg_steps = cg_steps
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)


@with_shared_texts(steps=STEPS)
class IMAMLClassifier(_IMAMLEstimator, FewShotClassifier):
    """Implicit MAML: adaptation stays near a start that is learned from where it ends.

    `fit` descends L(phi) + lam / 2 (phi - theta)^2 on the support rows for
    `n_steps` steps from theta (eq. 3 of [1]_). Meta-training learns theta: with g
    the gradient of the query loss at the adapted phi and H the Hessian of the
    support loss there, the meta-gradient is (I + H / lam)^-1 g (lemma 1), found by
    `cg_steps` steps of conjugate gradients (algorithm 2). It does not depend on the
    path, whose steps need not be remembered, and it is exact where phi is the
    minimum. Steps beyond the number meta-trained with (all of them, without a
    meta-init) are kept only where they lower that objective.

    Two things are this package's own. The head starts from zeros, in
    meta-training and at `fit`, so any number of classes can be fitted, in any
    order: only the encoder is meta-learned. And where the Hessian has a
    direction along which I + H / lam is not positive, conjugate gradients end
    there.

    Parameters
    ----------
    {meta_init}
        The head then starts from zeros.
    {encoder}
        One with batch norm is refused, unless it is frozen.
    {freeze_encoder}
    {scale_inputs}
    {layout}
    {steps}
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {loss_curve_}
        The pull towards the start included.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLClassifier : Differentiates through the steps.
    ReptileClassifier : Asks where adaptation ends, without second derivatives.

    References
    ----------
    .. [1] A. Rajeswaran, C. Finn, S. Kakade and S. Levine, "Meta-learning with implicit
       gradients", NeurIPS 2019.

    Examples
    --------
    >>> from fewshot_sklearn import IMAMLClassifier
    >>> clf = IMAMLClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.loss_curve_.shape
    (16,)
    """

    _learner_class = IMAMLClassification


@with_shared_texts(steps=STEPS)
class IMAMLRegressor(_IMAMLEstimator, FewShotRegressor):
    """Implicit MAML for regression: adaptation stays near a start learned from where it ends.

    `fit` descends L(phi) + lam / 2 (phi - theta)^2, L the squared error of the
    support rows at the scale learned from the past, for `n_steps` steps from
    theta (eq. 3 of [1]_). Meta-training learns theta: with g the gradient of the
    query loss at the adapted phi and H the Hessian of the support loss there,
    the meta-gradient is (I + H / lam)^-1 g (lemma 1), found by `cg_steps` steps of
    conjugate gradients (algorithm 2), which end where I + H / lam is not positive.
    Steps beyond the number meta-trained with (all of them, without a meta-init)
    are kept only where they lower that objective.

    Parameters
    ----------
    {meta_init}
        The head then starts from zeros, towards which it is pulled.
    {encoder}
        One with batch norm is refused, unless it is frozen.
    {freeze_encoder}
    {scale_inputs}
    {layout}
    {steps}
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {loss_curve_}
        The pull towards the start included.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLRegressor : Differentiates through the steps.
    ReptileRegressor : Asks where adaptation ends, without second derivatives.

    References
    ----------
    .. [1] A. Rajeswaran, C. Finn, S. Kakade and S. Levine, "Meta-learning with implicit
       gradients", NeurIPS 2019.

    Examples
    --------
    >>> from fewshot_sklearn import IMAMLRegressor
    >>> reg = IMAMLRegressor(n_steps=100, lam=1e-3).fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.5]]).round(2)
    array([4.])
    """

    _learner_class = IMAMLRegression
