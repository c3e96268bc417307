"""CAVIA: a few context parameters adapt to the task; the network that reads them does not.

L. Zintgraf, K. Shiarlis, V. Kurin, K. Hofmann and S. Whiteson. Fast context
adaptation via meta-learning. ICML 2019.

E. Perez, F. Strub, H. de Vries, V. Dumoulin and A. Courville. FiLM: visual
reasoning with a general conditioning layer. AAAI 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad_and_value

from ..encoders import Shape
from ..estimators import FewShotClassifier, FewShotEstimator, FewShotRegressor, with_shared_texts
from ..learners import (
    DescendsCrossEntropy,
    DescendsSquaredError,
    InnerLoopEstimator,
    InnerLoopLearner,
    State,
    SupportLoss,
)
from ..tasks import Flag, Positive, Whole
from ._class_codes import label_codes

#: Layers whose numbers are held at once for each row and class.
OF_LAYERS = 4


class CAVIALearner(InnerLoopLearner):
    """adapt: phi = -alpha grad_phi L(theta, phi) (eq. 3) from zeros. predict: the network told phi.

    The network lies on the features: a layer whose units phi scales and shifts
    (FiLM), and the sum of a linear map of it and of what two more layers make of
    it, which starts from zero. So the outputs start linear in phi, as they are
    in the weights of a head. A regression has one phi; in a classification each
    class has its own, of which the network makes its logit.

    Where there is no past (`past`) no network has learned to read a context:
    phi is then the weights and bias of a linear head.
    """

    learned_only = ("reads", "film", "direct", "hidden", "out")
    wants_encoder = False  # it has a network of its own

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_context: int = 32,
        n_hidden: int = 64,
        past: bool = True,
        **options: Any,
    ):
        super().__init__(encoder, input_shape, n_outputs, head_only=True, **options)
        for name, size in {"n_context": n_context, "n_hidden": n_hidden}.items():
            if not (isinstance(size, int | np.integer) and size >= 1):
                raise ValueError(f"{name} must be an int, at least 1, got {size!r}.")
        if n_outputs is not None:
            del self.head
        self.n_context, self.n_hidden, self.past = n_context, n_hidden, past
        if past:
            self.reads = nn.Linear(self.n_features, n_hidden)
            self.film = nn.Linear(n_context, 2 * n_hidden, bias=False)
            self.hidden = nn.Linear(n_hidden, n_hidden)
            self.out = nn.Linear(n_hidden, n_outputs or 1)
            self.direct = nn.Linear(n_hidden, n_outputs or 1, bias=False)
            with torch.no_grad():
                # so large that step sizes that suit a linear head suit a context, too
                n_units = n_hidden if n_outputs is None else n_hidden * n_context
                nn.init.normal_(self.film.weight, std=n_units**-0.5)
                nn.init.zeros_(self.out.weight)
                codes = label_codes(n_outputs or 1, n_hidden, self.direct.weight)
                self.direct.weight.copy_(n_hidden**0.5 * codes)  # ones, and what is orthogonal
        else:
            for name in self.learned_only:
                setattr(self, name, None)

    # ------------------------------------------------------------------ context parameters
    def start(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """Context parameters of zero: one set for each class, or for the regression."""
        labels, size = y.shape[-1:], self.n_context
        if not self.past:
            size = self.n_features + 1
        elif self.n_outputs is not None:
            labels = torch.Size([1])
        return {"context": self.x_mean.new_zeros((*w.shape[:-1], *labels, size))}

    def network(self, params: State, Z: Tensor) -> Tensor:
        """Outputs (..., n, n_outputs) or logits (..., n, n_way) of rows Z, told the context."""
        phi = params["context"]
        if not self.past:
            return Z @ phi[..., :-1].mT + phi[..., None, :, -1]
        scale, shift = self.film(phi)[..., None, :, :].chunk(2, -1)
        h = self.reads(Z)[..., None, :] * (1 + scale) + shift
        outputs = self.direct(h) + self.out(self.hidden(h.relu()).relu())
        return outputs.squeeze(-1) if self.n_outputs is None else outputs.squeeze(-2)

    def _gradient(self, params: State, Z: Tensor, loss: SupportLoss) -> tuple[State, Tensor]:
        def total(params: State) -> tuple[Tensor, Tensor]:
            values = self._value(params, Z, loss)
            return values.sum(), values  # each task's depends on its own context alone

        grads, (_, values) = grad_and_value(total, has_aux=True)(params)
        if self.first_order:
            grads = {name: g.detach() for name, g in grads.items()}
        return grads, values.detach()

    # ------------------------------------------------------------------ memory
    def of_outputs(self, params: State) -> Tensor:
        return params["context"][..., 0]

    def parts_in_descent(self, Z: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        lead, per_label = Z.shape[:-2].numel(), OF_LAYERS * self._per_label()
        return self.parts_of(Z, lead * (self._width() + bias.shape[-1] * per_label), -2)

    def numbers_a_row(self, state: State) -> int:
        labels = state["context"][..., 0].numel()
        return super().numbers_a_row(state) + OF_LAYERS * labels * self._per_label()

    def _per_label(self) -> int:
        return self.n_hidden if self.past else 1


class CAVIAClassification(DescendsCrossEntropy, CAVIALearner):
    """CAVIA with context parameters for each class that comes."""

    def finished(self, outputs: Tensor, present: Tensor | None) -> Tensor:
        """Logarithms of probabilities: all logits of a row share what it says to no context."""
        return super().finished(outputs, present).log_softmax(-1)


class CAVIARegression(DescendsSquaredError, CAVIALearner):
    """CAVIA with context parameters for the task."""


#: What the parameters of both estimators mean.
STEPS = """
n_steps : int or None, default=None
    Gradient steps at `fit`. None takes the meta-init's, or 2, for regression 5.
inner_lr : float or None, default=None
    Step size. None takes the meta-init's, or 0.2, for regression 0.05. The paper has 1.
first_order : bool or None, default=None
    Whether meta-training ignores second derivatives; changes nothing at `fit`. None
    takes the meta-init's, or False.
"""


class _CAVIAEstimator(InnerLoopEstimator, FewShotEstimator):
    """Parameters of both estimators."""

    _defaults = {
        "n_steps": 2,
        "inner_lr": 0.2,
        "first_order": False,
        "n_context": 32,
        "n_hidden": 64,
    }
    _constraints = {
        "n_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "first_order": Flag() | None,
        "n_context": Whole(1) | None,
        "n_hidden": Whole(1) | None,
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
        first_order: bool | None = None,
        n_context: int | None = None,
        n_hidden: int | None = None,
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
        self.first_order = first_order
        self.n_context = n_context
        self.n_hidden = n_hidden
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"past": trained is not None}

    @property
    def context_(self) -> np.ndarray:
        return self._state("context")


@with_shared_texts(steps=STEPS)
class CAVIAClassifier(_CAVIAEstimator, FewShotClassifier):
    """CAVIA: a few context parameters of each class adapt; the network that reads them does not.

    `fit` takes `n_steps` gradient steps of context parameters phi, from zeros,
    on the support rows (eq. 3 of [1]_); the network's weights theta stay as they
    are. Meta-training learns theta from how well the queries are told apart
    with the adapted phi (eq. 4), differentiating through the steps. Steps
    beyond the number meta-trained with (all of them, without a meta-init) are
    kept only where they lower the support loss.

    The network lies on the features of any encoder: a layer whose units phi
    scales and shifts, as in the paper's convolutional network (FiLM [2]_), and the
    logit, which is linear in it at first; two more layers learn what is not.
    Unlike in the paper each class has context parameters of its own, of which one
    network makes its logit, so that any number of classes can be fitted, in any
    order; and phi acts behind the encoder, not within it, so that features are
    computed once. Without a
    meta-init nothing has learned to read a context: phi is then the weights of a
    linear head.

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
    n_context : int or None, default=None
        Context parameters of each class. None takes the meta-init's, or 64.
    n_hidden : int or None, default=None
        Units of each layer. None takes the meta-init's, or 64.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    context_ : ndarray of shape (n_classes, n_context)
        The adapted context parameters; without a meta-init weights and biases.
    {loss_curve_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLClassifier : All weights adapt; with ``head_only=True`` those of the head.

    References
    ----------
    .. [1] L. Zintgraf, K. Shiarlis, V. Kurin, K. Hofmann and S. Whiteson, "Fast context
       adaptation via meta-learning", ICML 2019.
    .. [2] E. Perez, F. Strub, H. de Vries, V. Dumoulin and A. Courville, "FiLM: visual
       reasoning with a general conditioning layer", AAAI 2018.

    Examples
    --------
    >>> from fewshot_sklearn import CAVIAClassifier
    >>> clf = CAVIAClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.context_.shape
    (2, 3)
    """

    _learner_class = CAVIAClassification
    _defaults = _CAVIAEstimator._defaults | {"n_context": 64}


@with_shared_texts(steps=STEPS)
class CAVIARegressor(_CAVIAEstimator, FewShotRegressor):
    """CAVIA for regression: a few context parameters adapt; the network that reads them does not.

    `fit` takes `n_steps` gradient steps of context parameters phi, from zeros,
    on the squared error of the support rows (eq. 3 of [1]_), with features and
    targets at the scale learned from the past; the network's weights theta stay
    as they are. Meta-training learns theta from how well queries are predicted
    with the adapted phi (eq. 4), differentiating through the steps. Steps beyond
    the number meta-trained with (all of them, without a meta-init) are kept only
    where they lower the support loss.

    The network lies on the features of any encoder: a layer whose units phi
    scales and shifts (FiLM [2]_), and the outputs, which are linear in it at first;
    two more layers learn what is not. The paper's network for regression has such
    layers alone, and a context told beside the inputs, which shifts the units of
    the first; to scale them too is its way with images. Without a meta-init nothing has learned to
    read a context: phi is then the weights of a linear head.

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
    n_context : int or None, default=None
        Context parameters. None takes the meta-init's, or 32.
    n_hidden : int or None, default=None
        Units of each layer. None takes the meta-init's, or 64.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    context_ : ndarray of shape (1, n_context)
        The adapted context parameters; without a meta-init a row of weights and a
        bias for each target.
    {loss_curve_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLRegressor : All weights adapt; with ``head_only=True`` those of the head.

    References
    ----------
    .. [1] L. Zintgraf, K. Shiarlis, V. Kurin, K. Hofmann and S. Whiteson, "Fast context
       adaptation via meta-learning", ICML 2019.
    .. [2] E. Perez, F. Strub, H. de Vries, V. Dumoulin and A. Courville, "FiLM: visual
       reasoning with a general conditioning layer", AAAI 2018.

    Examples
    --------
    >>> from fewshot_sklearn import CAVIARegressor
    >>> reg = CAVIARegressor(n_steps=200).fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.5]]).round(2)
    array([4.])
    """

    _learner_class = CAVIARegression
    _defaults = _CAVIAEstimator._defaults | {"n_steps": 5, "inner_lr": 0.05}
