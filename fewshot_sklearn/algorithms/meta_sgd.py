"""Meta-SGD: a start and, for every weight, a step size and direction, learned together.

Z. Li, F. Zhou, F. Chen and H. Li. Meta-SGD: learning to learn quickly for
few-shot learning. arXiv:1707.09835, 2017.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, FewShotRegressor, with_shared_texts
from ..learners import (
    DescendsCrossEntropy,
    DescendsSquaredError,
    InnerLoopLearner,
    State,
)
from ._steps_estimator import StepsEstimator


class MetaSGDLearner(InnerLoopLearner):
    """adapt: theta' = theta - alpha * grad L(theta) (eq. 3). predict: the adapted network.

    alpha has the shape of theta and is trained with it, on the query loss of
    theta' (eq. 4). A classifier's head, which starts from zeros whatever the
    number of classes, has a rate for each feature and one for the bias.
    """

    def __init__(
        self, encoder: nn.Module, input_shape: Shape, n_outputs: int | None = None, **options: Any
    ):
        super().__init__(encoder, input_shape, n_outputs, **options)
        weights: dict[str, torch.Tensor] = self.adapting_weights()
        if n_outputs is None:
            weights["head.weight"] = torch.empty(self.n_features)
            weights["head.bias"] = torch.empty(())
        else:
            weights |= {"head.weight": self.head.weight, "head.bias": self.head.bias}
        self.alpha = nn.ParameterDict(
            {_key(name): torch.full_like(p, self.inner_lr) for name, p in weights.items()}
        )

    def rates(self, step: int, params: State) -> dict[str, Any]:
        return {name: self.alpha[_key(name)] for name in params}


def _key(name: str) -> str:
    """The name of a weight, as torch allows for a parameter."""
    return name.replace(".", "/")


class MetaSGDClassification(DescendsCrossEntropy, MetaSGDLearner):
    """Meta-SGD with a head of zeros for each class that comes."""


class MetaSGDRegression(DescendsSquaredError, MetaSGDLearner):
    """Meta-SGD with a learned head, and a step size for each of its weights."""


#: What the parameters of both estimators mean.
STEPS = """
n_steps : int or None, default=None
    Gradient steps at `fit`. None takes the meta-init's, or 1, the paper's.
inner_lr : float or None, default=None
    Where the step sizes start from: all that there is without a meta-init; with one,
    of no effect. None takes the meta-init's, or 0.1, for regression 0.3.
first_order : bool or None, default=None
    Whether meta-training ignores second derivatives; changes nothing at `fit`. None
    takes the meta-init's, or False.
"""


class _MetaSGDEstimator(StepsEstimator):
    """Parameters of both estimators."""

    _learns_rates = True


@with_shared_texts(steps=STEPS)
class MetaSGDClassifier(_MetaSGDEstimator, FewShotClassifier):
    """Meta-SGD: one gradient step, whose size and direction are meta-learned weight by weight.

    `fit` runs theta' = theta - alpha * grad L(theta) on the support rows (eq. 3
    of [1]_), where alpha holds a step size for every weight. Meta-training
    learns theta and alpha together from how well theta' does on query rows (eq.
    4); a step size may turn negative, so alpha sets the direction too. Steps
    beyond the number meta-trained with (all of them, without a meta-init) are
    kept only where they lower the support loss.

    Two things differ from the paper. The head starts from zeros and its step
    sizes, one for each feature and one for the bias, are shared by all classes,
    so that any number of them can be fitted; a first step from zeros moves the
    head alone, so the encoder adapts from the second on. And step sizes start
    from one number, not from random ones, so that without a meta-init this is
    plain gradient descent.

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
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLClassifier : One fixed step size for all weights.
    MAMLPlusPlusClassifier : A learned step size for each layer and step.

    References
    ----------
    .. [1] Z. Li, F. Zhou, F. Chen and H. Li, "Meta-SGD: learning to learn quickly for
       few-shot learning", arXiv:1707.09835, 2017.

    Examples
    --------
    >>> from fewshot_sklearn import MetaSGDClassifier
    >>> clf = MetaSGDClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.loss_curve_.shape
    (1,)
    """

    _learner_class = MetaSGDClassification
    _defaults = {"n_steps": 1, "inner_lr": 0.1, "first_order": False}


@with_shared_texts(steps=STEPS)
class MetaSGDRegressor(_MetaSGDEstimator, FewShotRegressor):
    """Meta-SGD for regression: one gradient step, meta-learned weight by weight.

    `fit` runs theta' = theta - alpha * grad L(theta) on the squared error of the
    support rows (eq. 3 of [1]_), with features and targets at the scale learned
    from the past. alpha holds a step size for every weight; meta-training learns
    theta and alpha together from how well theta' does on query rows (eq. 4), and
    a step size may turn negative. Steps beyond the number meta-trained with (all
    of them, without a meta-init) are kept only where they lower the support
    loss. Unlike in the paper, step sizes start from one number, not from random
    ones, so that without a meta-init this is plain gradient descent.

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
    {loss_curve_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLRegressor : One fixed step size for all weights.
    MAMLPlusPlusRegressor : A learned step size for each layer and step.

    References
    ----------
    .. [1] Z. Li, F. Zhou, F. Chen and H. Li, "Meta-SGD: learning to learn quickly for
       few-shot learning", arXiv:1707.09835, 2017.

    Examples
    --------
    >>> from fewshot_sklearn import MetaSGDRegressor
    >>> reg = MetaSGDRegressor(n_steps=100).fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.5]]).round(2)
    array([4.])
    """

    _learner_class = MetaSGDRegression
    _defaults = {"n_steps": 1, "inner_lr": 0.3, "first_order": False}
