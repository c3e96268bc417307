"""Baseline++: a new cosine classifier for each task, on the features of an ordinary classifier.

W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. F. Wang and J.-B. Huang. A closer look at
few-shot classification. ICLR 2019.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import PretrainedLearner, State, present_classes
from ..tasks import Flag, Number, Positive, Whole


class CosineHead(nn.Module):
    """Scaled cosine similarities of features to a weight vector for each class.

    Parameters
    ----------
    n_features, n_classes : int
        Sizes.
    scale : float
        What the cosines are multiplied by.
    """

    def __init__(self, n_features: int, n_classes: int, scale: float):
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(n_classes, n_features)), scale

    def forward(self, Z: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(Z, dim=-1), F.normalize(self.weight, dim=-1))


class BaselinePlusPlus(PretrainedLearner):
    """adapt: train a new last layer on the frozen features of the support. predict: apply it."""

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        cosine: bool = True,
        n_steps: int = 100,
        inner_lr: float = 0.05,
        scale: float = 10.0,
        weight_decay: float = 0.001,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not (isinstance(n_steps, int | np.integer) and n_steps >= 0):
            raise ValueError(f"n_steps must be an int, at least 0, got {n_steps!r}.")
        for name, value in (("inner_lr", inner_lr), ("scale", scale)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {weight_decay!r}.")
        self.cosine, self.n_steps, self.inner_lr = cosine, n_steps, inner_lr
        self.scale, self.weight_decay = float(scale), weight_decay
        # a linear layer's descent, unlike a cosine's, is only as good as the scale of its inputs
        self.scales_inputs_without_past = not cosine

    def new_head(self, n_classes: int) -> nn.Module:
        if self.cosine:
            return CosineHead(self.n_features, n_classes, self.scale)
        return super().new_head(n_classes)

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        present = present_classes(y, w)
        share = (w / w.sum(-1, keepdim=True))[..., None]
        # cross-entropy has the slope share * (p * total - y) at the logits
        wanted, total = share * y, share * y.sum(-1, keepdim=True)
        mask = torch.zeros_like(y[..., :1, :]).masked_fill(~present[..., None, :], -torch.inf)
        train = self._cosine_head if self.cosine else self._linear_head
        weight, bias = train(Z, wanted, total, mask)
        return {"weight": weight, "bias": bias, "present": present}

    def _cosine_head(
        self, Z: Tensor, wanted: Tensor, total: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Descend from the class means; the weight vectors stay at length one.

        At length one the gradient of a cosine is that of the product without
        its part along the weight vector.
        """
        Z = F.normalize(Z, dim=-1)
        W = _unit(wanted.mT @ Z)
        scaled, rate = self.scale * Z, self.inner_lr * self.scale
        pull, push = rate * (wanted.mT @ Z), rate * total * Z
        for _ in range(self.n_steps):
            # inner_lr times the gradient of the product
            step = self._pushed(scaled, W, mask, push) - pull
            along = torch.linalg.vecdot(step, W)[..., None]
            W = _unit(torch.addcmul(W - step, along, W))
        return W, torch.zeros_like(W[..., 0])

    def _linear_head(
        self, Z: Tensor, wanted: Tensor, total: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Descend from zero, in steps short enough that the loss never rises.

        The slope of the loss changes by at most half the mean squared length
        of the inputs, 1 of the bias included, times the length of a step.
        """
        Z = torch.cat([Z, torch.ones_like(Z[..., :1])], -1)
        decay = torch.full_like(Z[..., :1, :], self.weight_decay)
        decay[..., -1] = 0.0
        steepest = 0.5 * (total * Z.square()).sum((-2, -1)) + self.weight_decay
        rate = (1 / steepest).clamp_max(self.inner_lr)[..., None, None]
        W = Z.new_zeros((*wanted.shape[:-2], wanted.shape[-1], Z.shape[-1]))
        keep, pull, push = 1 - rate * decay, rate * (wanted.mT @ Z), rate * total * Z
        for _ in range(self.n_steps):
            W = torch.addcmul(pull, keep, W) - self._pushed(Z, W, mask, push)
        return W[..., :-1], W[..., -1]

    def _pushed(self, Z: Tensor, W: Tensor, mask: Tensor, push: Tensor) -> Tensor:
        """softmax(Z W' + mask)' push, over as many rows at once as memory allows."""
        parts = self.parts_of(Z, W.shape[:-1].numel())
        pushes = push.split(parts[0].shape[-2], -2)
        products = (
            torch.softmax(rows @ W.mT + mask, -1).mT @ some
            for rows, some in zip(parts, pushes, strict=True)
        )
        return reduce(torch.add, products)

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        if self.cosine:
            Z = self.scale * F.normalize(Z, dim=-1)
        logits = Z @ state["weight"].mT + state["bias"][..., None, :]
        return logits.masked_fill(~state["present"][..., None, :], -torch.inf)


def _unit(W: Tensor) -> Tensor:
    """Weight vectors of length one; what is zero but for rounding stays zero."""
    length = torch.linalg.vector_norm(W, dim=-1, keepdim=True)
    return W / length.clamp_min(8 * torch.finfo(W.dtype).eps)


@with_shared_texts()
class BaselinePlusPlusClassifier(FewShotClassifier):
    """Baseline++: a new cosine classifier for each task, on features of an ordinary classifier.

    Meta-training trains the encoder under a classifier of all past classes,
    not by episodes. `fit` leaves the encoder as it is and trains a new last
    layer on the support rows by gradient descent on their cross-entropy. Its
    logits are scaled cosine similarities of a row's features to a weight
    vector for each class (section 3.2 of [1]_), and so were those of the layer
    above the past classes; or, with ``cosine=False``, both layers are linear:
    the paper's Baseline (section 3.1).

    The paper descends from a random layer, in 100 passes over random batches
    of four rows, with steps of 0.01. Here each of the 100 steps sees all rows,
    is five times as long to go as far, and starts from the class means (a
    linear layer: from zero), so that the order of the rows does not matter and
    the same rows always give the same classifier. The cosine layer's weight
    vectors are kept at length one, which cosines do not see; the linear layer's
    steps are cut short where they could make the loss rise. Without steps, or a
    meta-init, it is close to the nearest class mean by cosine.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    cosine : bool or None, default=None
        Whether the last layers compare directions (Baseline++) or are linear
        (Baseline). None takes the meta-init's, or True without one.
    n_steps : int or None, default=None
        Gradient steps at `fit`. None takes the meta-init's, or 100.
    inner_lr : float or None, default=None
        Step size at `fit`. None takes the meta-init's, or 0.05.
    scale : float or None, default=None
        What cosines are multiplied by to be logits, in meta-training and at
        `fit`. None takes the meta-init's, or 10.0 without one.
    weight_decay : float or None, default=None
        Weight decay of a linear layer at `fit`. None takes the meta-init's, or
        0.001.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    coef_ : ndarray of shape (n_classes, n_features_out)
        Weight vector of each class; of length one for cosines.
    intercept_ : ndarray of shape (n_classes,)
        Intercepts; zero for cosines.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    NearestClassMeanClassifier : Class means in place of a trained layer.
    MAMLClassifier : Trains for good starts of gradient descent.

    References
    ----------
    .. [1] W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. F. Wang and J.-B. Huang, "A closer
       look at few-shot classification", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import BaselinePlusPlusClassifier
    >>> clf = BaselinePlusPlusClassifier().fit([[3., 0.], [0., 2.], [0., 4.]], ["a", "b", "b"])
    >>> clf.predict([[5., 1.], [1., 5.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = BaselinePlusPlus
    _defaults = {
        "cosine": True, "n_steps": 100, "inner_lr": 0.05, "scale": 10.0, "weight_decay": 0.001,
    }  # fmt: skip
    _constraints = {
        "cosine": Flag() | None,
        "n_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "scale": Positive() | None,
        "weight_decay": Number(0) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        cosine: bool | None = None,
        n_steps: int | None = None,
        inner_lr: float | None = None,
        scale: float | None = None,
        weight_decay: float | None = None,
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
        self.cosine = cosine
        self.n_steps = n_steps
        self.inner_lr = inner_lr
        self.scale = scale
        self.weight_decay = weight_decay
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def coef_(self) -> np.ndarray:
        return self._state("weight")

    @property
    def intercept_(self) -> np.ndarray:
        return self._state("bias")
