"""R2-D2: ridge regression with one learned penalty, as the paper has it.

L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi. Meta-learning with
differentiable closed-form solvers. ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import State, intercept_of
from ..tasks import Positive
from .ridge_classifier import RidgeHeadClassification


class R2D2(RidgeHeadClassification):
    """adapt: ridge regression of the class indicators (eq. 4; in Woodbury's form, eq. 6).

    predict: its outputs times a learned scale plus a learned shift (eq. 7). Penalty, scale and
    shift are one number each, learned by descent alone.
    """

    knows_classes = False
    further_rows_told = (
        "`partial_fit` adds further rows, new classes among them, to the products Z'Z and Z'Y that "
        "the solution takes, and needs no others; `forget` needs them once there are as many rows "
        "as features. Without a meta-init all rows, which the estimator keeps, are adapted to anew."
    )

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        alpha: float = 1.0,
    ):
        super().__init__(encoder, input_shape, n_outputs, alpha=alpha)
        self.log_precision = nn.Parameter(self.log_precision.detach()[0].clone())
        self.shift = nn.Parameter(torch.tensor(0.0))

    def penalties(self) -> Tensor:
        return self.log_precision.double().exp().expand(self.n_features + 1)

    def learn_from_episodes(
        self, episodes: Iterable[tuple[dict[str, Tensor], Tensor]], n_classes: int
    ) -> bool:
        return False  # the paper descends on episodes

    def learned_at_once(self) -> list[nn.Parameter]:
        return []

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        return super().predict_features(state, Z) + self.shift


@with_shared_texts()
class R2D2Classifier(FewShotClassifier):
    """R2-D2: ridge regression of class indicators, with a learned penalty, scale and shift.

    `fit` solves W = argmin ||ZW - Y||^2 + lambda ||W||^2 in closed form (eq. 4 of [1]_),
    by W = Z'(ZZ' + lambda I)^-1 Y where there are fewer rows than features (eq. 6). Z are
    the features and a column of ones. Class probabilities are the softmax of
    a ZW + b (eq. 7). Encoder, lambda, a and b were learned on past tasks by
    differentiating through the solution.

    `RidgeHeadClassifier` is the same regression, and its code is shared. It has a penalty
    for each feature, which it learns from all past tasks at once where it can, and it
    knows classes that recur. Here is the method of the paper: one penalty, learned by
    descent on episodes.

    Two things differ from the paper. Encoders here return their last layer, not the last
    two side by side. And lambda starts from 1 and a from 10, for features of about unit
    scale, not from 50 and 1e-4. A softmax does not see b, which the paper has for losses
    that do.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    alpha : float or None, default=None
        The penalty lambda that training starts from; a meta-init carries its learned one.
        None is 1.0.
    {device}
    {dtype}
        The solve itself is always float64.
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    coef_ : ndarray of shape (n_classes, n_features_out)
        Weights on the encoder's features.
    intercept_ : ndarray of shape (n_classes,)
        Intercepts.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    RidgeHeadClassifier : The same with a penalty for each feature.
    MetaOptNetClassifier : A support vector machine in place of the regression.

    References
    ----------
    .. [1] L. Bertinetto, J. Henriques, P. Torr and A. Vedaldi, "Meta-learning with
       differentiable closed-form solvers", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import R2D2Classifier
    >>> clf = R2D2Classifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = R2D2
    _defaults = {"alpha": 1.0}
    _constraints = {"alpha": Positive() | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        alpha: float | None = None,
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
        self.alpha = alpha
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def coef_(self) -> np.ndarray:
        return self._state("coef")[:-1].T

    @property
    def intercept_(self) -> np.ndarray:
        return intercept_of(self._state("coef"), self.meta_init_.spec, self.meta_init_.tensors)
