"""Meta-Curvature: gradients of the inner loop are multiplied with learned matrices.

E. Park and J. B. Oliva. Meta-curvature. NeurIPS 2019.
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
from ._steps_estimator import StepsEstimator

#: The widest axis of a weight that gets a matrix; a wider one gets a number for each entry.
WIDEST = 1024


class Curvature(nn.Module):
    """The learned linear map of the gradients of one weight, at first the identity.

    A weight of shape (out, in, *kernel) counts as a tensor of three axes, its
    kernel flattened: MC(G) = G x_3 M_f x_2 M_i x_1 M_o (eq. 10 and 11 of the
    paper), the mode products with a matrix for each axis. A vector has no axes
    to multiply along: it gets a number for each entry, as does an axis wider
    than WIDEST.

    Parameters
    ----------
    shape : tuple of int
        Of the weight.
    free : tuple of int, default=()
        Axes that stay as they are.
    """

    def __init__(self, shape: tuple[int, ...], free: tuple[int, ...] = ()):
        super().__init__()
        self.shape = tuple(shape)
        self.sizes = self.shape if len(shape) < 3 else (*shape[:2], _product(shape[2:]))
        own = [axis for axis in range(len(self.sizes)) if axis not in free]
        self.along = nn.ParameterDict({str(axis): self._at_first(axis) for axis in own})

    def _at_first(self, axis: int) -> Tensor:
        n = self.sizes[axis]
        return torch.ones(n) if len(self.sizes) == 1 or n > WIDEST else torch.eye(n)

    def forward(self, grad: Tensor) -> Tensor:
        """The gradient (..., \\*shape), each axis multiplied with its own matrix."""
        lead = grad.ndim - len(self.shape)
        kernel = len(self.shape) > 2
        G = grad.flatten(lead + 2) if kernel else grad
        for axis, M in self.along.items():
            behind = len(self.sizes) - 1 - int(axis)
            if M.ndim == 1:
                G = G * M.reshape(M.shape + (1,) * behind)
            else:
                G = (G.movedim(-1 - behind, -1) @ M.mT).movedim(-1, -1 - behind)
        return G.unflatten(-1, self.shape[2:]) if kernel else G


def _product(sizes: tuple[int, ...]) -> int:
    return torch.Size(sizes).numel()


class MetaCurvatureLearner(InnerLoopLearner):
    """adapt: theta' = theta - inner_lr * MC(grad L(theta)). predict: the adapted network.

    The matrices are trained with theta, on the query loss of theta'. The head
    of a classifier, which starts from zeros, has matrices for its features and
    a number for its biases. Its classes are all alike: what treats them alike is
    a multiple of the identity, beside one of their sum, which is zero in any
    gradient of a cross-entropy.
    """

    def __init__(
        self, encoder: nn.Module, input_shape: Shape, n_outputs: int | None = None, **options: Any
    ):
        super().__init__(encoder, input_shape, n_outputs, **options)
        maps = {name: Curvature(p.shape) for name, p in self.adapting_weights().items()}
        if n_outputs is None:
            maps["head.weight"] = Curvature((1, self.n_features), free=(0,))
            self.of_biases = nn.Parameter(torch.ones(()))
        else:
            maps["head.weight"] = Curvature(self.head.weight.shape)
            maps["head.bias"] = Curvature(self.head.bias.shape)
        self.curvature = nn.ModuleDict({_key(name): one for name, one in maps.items()})

    def bent(self, name: str, grad: Tensor) -> Tensor:
        """MC of the gradient of one weight."""
        if name == "head.bias" and self.n_outputs is None:
            return self.of_biases * grad
        return self.curvature[_key(name)](grad)

    def update(
        self, step: int, params: State, grads: State, memory: State, share: Tensor | None = None
    ) -> tuple[State, State]:
        grads = {name: self.bent(name, g) for name, g in grads.items()}
        return super().update(step, params, grads, memory, share)


def _key(name: str) -> str:
    """The name of a weight, as torch allows for a module."""
    return name.replace(".", "/")


class MetaCurvatureClassification(DescendsCrossEntropy, MetaCurvatureLearner):
    """Meta-Curvature with a head of zeros for each class that comes."""


class MetaCurvatureRegression(DescendsSquaredError, MetaCurvatureLearner):
    """Meta-Curvature with a learned head."""


#: What the parameters of both estimators mean.
STEPS = """
n_steps : int or None, default=None
    Gradient steps at `fit`. None takes the meta-init's, or 5.
inner_lr : float or None, default=None
    Step size, beside what the matrices make of it. None takes the meta-init's, or 0.1.
first_order : bool or None, default=None
    Whether meta-training ignores second derivatives; changes nothing at `fit`. None
    takes the meta-init's, or False.
"""


class _MetaCurvatureEstimator(StepsEstimator):
    """Parameters of both estimators."""

    _defaults = {"n_steps": 5, "inner_lr": 0.1, "first_order": False}


@with_shared_texts(steps=STEPS)
class MetaCurvatureClassifier(_MetaCurvatureEstimator, FewShotClassifier):
    """Meta-Curvature: gradient steps whose directions learned matrices turn and stretch.

    `fit` runs theta' = theta - inner_lr * MC(grad L(theta)) for `n_steps` steps on
    the support rows. MC multiplies the gradient of each weight along its axes
    (outputs, inputs, kernel) with a matrix of that axis, so that the entries of
    a gradient tell each other where to go, where Meta-SGD gives each a step size
    of its own (section 4 of [1]_, the variant MC2). Meta-training learns
    theta and the matrices, which start from the identity, together.
    Steps beyond the number meta-trained with (all of them, without a meta-init)
    are kept only where they lower the support loss.

    Three things are this package's own. The head starts from zeros, and only its
    features have a matrix, so that any number of classes can be fitted, in any order.
    Vectors, such as biases, get a number for each entry. So does an axis of more
    than 1024 entries, whose matrix would be larger than the network.

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
    MAMLClassifier : The gradients as they are.
    MetaSGDClassifier : A learned step size for each weight.

    References
    ----------
    .. [1] E. Park and J. B. Oliva, "Meta-curvature", NeurIPS 2019.

    Examples
    --------
    >>> from fewshot_sklearn import MetaCurvatureClassifier
    >>> clf = MetaCurvatureClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.loss_curve_.shape
    (5,)
    """

    _learner_class = MetaCurvatureClassification


@with_shared_texts(steps=STEPS)
class MetaCurvatureRegressor(_MetaCurvatureEstimator, FewShotRegressor):
    """Meta-Curvature for regression: gradient steps that learned matrices turn and stretch.

    `fit` runs theta' = theta - inner_lr * MC(grad L(theta)) for `n_steps` steps on
    the squared error of the support rows, with features and targets at the scale
    learned from the past. MC multiplies the gradient of each weight along its
    axes (outputs, inputs, kernel) with a matrix of that axis (section 4 of [1]_,
    the variant MC2). Meta-training learns theta and the matrices, which start from
    the identity, together. Steps beyond the number meta-trained
    with (all of them, without a meta-init) are kept only where they lower the
    support loss. Vectors, such as biases, get a number for each entry, and so
    does an axis of more than 1024 entries.

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
    MAMLRegressor : The gradients as they are.
    MetaSGDRegressor : A learned step size for each weight.

    References
    ----------
    .. [1] E. Park and J. B. Oliva, "Meta-curvature", NeurIPS 2019.

    Examples
    --------
    >>> from fewshot_sklearn import MetaCurvatureRegressor
    >>> reg = MetaCurvatureRegressor(n_steps=100).fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.5]]).round(2)
    array([4.])
    """

    _learner_class = MetaCurvatureRegression
