"""BOIL: MAML whose inner loop changes the body of the network alone; the head stays.

J. Oh, H. Yoo, C. Kim and S.-Y. Yun. BOIL: towards representation change for
few-shot learning. ICLR 2021.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, FewShotRegressor, with_shared_texts
from ..learners import (
    DescendsCrossEntropy,
    DescendsSquaredError,
    InnerLoopLearner,
    State,
)
from ._class_codes import class_codes, label_codes
from ._steps_estimator import StepsEstimator


class BOILLearner(InnerLoopLearner):
    """adapt: gradient descent of the encoder below a fixed head. predict: the adapted network.

    A classifier's head has a row for each class: its code times a learned
    matrix. The codes of fewer than n_features classes are orthonormal, so that
    such rows are as free as the paper's; none has a part along the sum of all
    features, which is large after a ReLU. What a class is called decides nothing.

    A head of zeros would tell the body nothing, so it starts from the codes.
    Where no weight of the encoder adapts, the body is a linear layer that
    starts from zeros below a head of orthonormal rows. Under gradient descent
    the product of the two moves as a head of zeros does, which is what adapts.
    """

    def __init__(
        self, encoder: nn.Module, input_shape: Shape, n_outputs: int | None = None, **options: Any
    ):
        super().__init__(encoder, input_shape, n_outputs, **options)
        if not self.adapting:
            return
        if n_outputs is None:
            self.turned = nn.Parameter(torch.eye(self.n_features))
            self.head_bias = nn.Parameter(torch.zeros(()))
        else:
            with torch.no_grad():
                self.head.weight.copy_(label_codes(n_outputs, self.n_features, self.head.weight))

    def start(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        if not self.adapting or self.n_outputs is not None:
            return super().start(Z, y, w)
        rows = Z.flatten(w.ndim).to(w.dtype).nan_to_num()
        weight = class_codes(rows, y, w, self.n_features, first=1) @ self.turned
        return self.adapting_weights() | {
            "head.weight": weight,
            "head.bias": self.head_bias.expand(weight.shape[:-1]),
        }

    def rates(self, step: int, params: State) -> dict[str, Any]:
        """None for the head, where there is a body (eq. 2)."""
        return {
            name: 0.0 if self.adapting and name.startswith("head.") else rate
            for name, rate in super().rates(step, params).items()
        }


class BOILClassification(DescendsCrossEntropy, BOILLearner):
    """BOIL with a fixed row of the head for each class that comes."""


class BOILRegression(DescendsSquaredError, BOILLearner):
    """BOIL with a learned head that `adapt` leaves as it is."""


#: What the parameters of both estimators mean.
STEPS = """
n_steps : int or None, default=None
    Gradient steps at `fit`. None takes the meta-init's, or 1, the paper's.
inner_lr : float or None, default=None
    Step size of the body. None takes the meta-init's, or 0.5, the paper's; for
    regression 0.1.
first_order : bool or None, default=None
    Whether meta-training ignores second derivatives; changes nothing at `fit`. None
    takes the meta-init's, or False.
"""


@with_shared_texts(steps=STEPS)
class BOILClassifier(StepsEstimator, FewShotClassifier):
    """BOIL: the body of the network adapts to the task, its last layer does not.

    `fit` runs `n_steps` steps of gradient descent on the support rows in which
    the encoder's weights move and the head's do not (eq. 2 of [1]_), so that
    features change until they suit the head. Meta-training learns both,
    differentiating through the steps. Steps beyond the number meta-trained with
    (all of them, without a meta-init) are kept only where they lower the support
    loss.

    A head has as many rows as there are classes, and they have to differ, since
    a body below equal rows learns nothing. So that any number of classes can be
    fitted, the row of a class is a fixed code times a learned matrix, which for
    fewer classes than features is as free as the paper's learned rows. Unlike
    in the paper, which row a class gets depends on where the mean of its rows
    lies, not on chance. Rows of more classes than were met in meta-training are
    untrained, and take many more steps: meta-train with as many as will come.

    An encoder without weights to adapt (the identity, or a frozen one) leaves no
    body: a linear layer from zeros below orthonormal rows then is one, which is
    to say that a head of zeros adapts.

    Parameters
    ----------
    {meta_init}
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
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLClassifier : Body and head adapt; with ``head_only=True`` the head alone.

    References
    ----------
    .. [1] J. Oh, H. Yoo, C. Kim and S.-Y. Yun, "BOIL: towards representation change for
       few-shot learning", ICLR 2021.

    Examples
    --------
    >>> from fewshot_sklearn import BOILClassifier
    >>> clf = BOILClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.loss_curve_.shape
    (1,)
    """

    _learner_class = BOILClassification
    _defaults = {"n_steps": 1, "inner_lr": 0.5, "first_order": False}


@with_shared_texts(steps=STEPS)
class BOILRegressor(StepsEstimator, FewShotRegressor):
    """BOIL for regression: the body of the network adapts to the task, its last layer does not.

    `fit` runs `n_steps` steps of gradient descent on the squared error of the
    support rows in which the encoder's weights move and the head's do not (eq. 2
    of [1]_), with features and targets at the scale learned from the past.
    Meta-training learns both, differentiating through the steps. Steps beyond
    the number meta-trained with (all of them, without a meta-init) are kept only
    where they lower the support loss. The paper has classification alone.

    An encoder without weights to adapt (the identity, or a frozen one) leaves no
    body: a linear layer from zeros below a head of length one then is one, which
    is to say that the head adapts.

    Parameters
    ----------
    {meta_init}
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
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLRegressor : Body and head adapt; with ``head_only=True`` the head alone.

    References
    ----------
    .. [1] J. Oh, H. Yoo, C. Kim and S.-Y. Yun, "BOIL: towards representation change for
       few-shot learning", ICLR 2021.

    Examples
    --------
    >>> from fewshot_sklearn import BOILRegressor
    >>> reg = BOILRegressor(n_steps=100).fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.5]]).round(2)
    array([4.])
    """

    _learner_class = BOILRegression
    _defaults = {"n_steps": 5, "inner_lr": 0.1, "first_order": False}
