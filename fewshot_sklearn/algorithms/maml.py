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

import torch
from torch import Tensor, nn

from ..estimators import FewShotClassifier, FewShotRegressor, with_shared_texts
from ..learners import (
    Batch,
    DescendsCrossEntropy,
    DescendsSquaredError,
    Descent,
    InnerLoopEstimator,
    InnerLoopLearner,
    Layers,
    Plan,
    as_support,
    compiled,
    present_classes,
    there_and_back,
)
from ..tasks import Flag, Positive, Whole


class MAMLLearner(InnerLoopLearner):
    """adapt: gradient descent on the support loss (eq. 1). predict: the adapted network.

    Fully connected networks are trained with derivatives written by hand.
    """

    @property
    def by_hand(self) -> bool:
        """Whether `fewshot_sklearn.learners.descent` differentiates the whole of adaptation."""
        return self.takes_batches and not self.head_only

    def forward(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Tensor:
        if self.by_hand and self.training and not X.requires_grad:
            return self.over_tasks("_descend", X, y, w, X_query)
        return super().forward(X, y, w, X_query)  # type: ignore[return-value]

    def _start(self, n_way: int) -> list[Tensor]:
        """`start` of a plain MLP, without names."""
        linear = [m for m in self.modules() if isinstance(m, nn.Linear)]
        params = [p for layer in linear for p in (layer.weight, layer.bias)]
        if self.n_outputs is not None:
            return params
        zeros = self.x_mean.new_zeros(n_way, self.n_features)
        return [*params, zeros, zeros[:, 0]]

    def _plan(self) -> Plan:
        return Plan(self.support_loss, self.n_steps, self.inner_lr, self.squash, self.first_order)

    def _batch(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Batch:
        return Batch(self.scaled(X), self.targets(y), w, self.scaled(X_query))

    def backward_by_hand(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor, share: float
    ) -> tuple[Tensor, Tensor] | None:
        if not self.by_hand:
            return super().backward_by_hand(X, y, w, X_query, y_query, share)
        with torch.no_grad():
            return self._there_and_back(X, y, w, X_query, y_query, share)

    def _there_and_back(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        y_query, w_query = as_support(y_query, y, w)
        y_query = self.targets(y_query)
        params = self._start(y.shape[-1])
        layers: Layers = list(zip(params[::2], params[1::2], strict=True))
        go = compiled(there_and_back, X.device.type) if self.compiled else there_and_back
        batch = self._batch(X, y, w, X_query)
        loss, outputs, grads = go(self._plan(), batch, layers, y_query, w_query, share)
        for p, g in zip(params, (g for pair in grads for g in pair), strict=True):
            if p.requires_grad:
                p.grad = g if p.grad is None else p.grad + g
        return loss, self.finished(outputs, present_classes(y, w))

    def steps_that_pay(self) -> int | None:
        return 50_000 if self.by_hand else super().steps_that_pay()

    def _descend(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Tensor:
        """`adapt` and `predict` while meta-training, with derivatives written by hand."""
        plan, batch = self._plan(), self._batch(X, y, w, X_query)
        outputs = Descent.apply(plan, batch, self.compiled, *self._start(y.shape[-1]))
        return self.finished(outputs, present_classes(y, w))


class MAMLClassification(DescendsCrossEntropy, MAMLLearner):
    """MAML with a head of zeros for each class that comes."""


class MAMLRegression(DescendsSquaredError, MAMLLearner):
    """MAML with a learned head."""


#: What the parameters of both estimators mean.
STEPS = """
n_steps : int or None, default=None
    Gradient steps at `fit`. None takes the meta-init's, or 5.
inner_lr : float or None, default=None
    Step size. None takes the meta-init's, or 0.1.
first_order : bool or None, default=None
    Whether meta-training ignores second derivatives (FOMAML); changes nothing at
    `fit`. None takes the meta-init's, or False.
"""


@with_shared_texts(steps=STEPS)
class MAMLClassifier(InnerLoopEstimator, FewShotClassifier):
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
    {meta_init}
        The head then starts from zeros.
    {encoder}
        One with batch norm is refused, unless it is frozen.
    {freeze_encoder}
    {scale_inputs}
    {layout}
    {steps}
    head_only : bool or None, default=None
        Whether only the last layer adapts, on features that stay as they were
        meta-trained (ANIL [4]_). None takes the meta-init's, or False.
    {n_augment}
    {augment}
    {device}
    {dtype}
    {random_state}
        Seeds the altered copies, too.
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
    _defaults = {"n_steps": 5, "inner_lr": 0.1, "first_order": False, "head_only": False}
    _constraints = {
        "n_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "first_order": Flag() | None,
        "head_only": Flag() | None,
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
        head_only: bool | None = None,
        n_augment: int = 0,
        augment: Any = None,
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
        self.head_only = head_only
        self.n_augment = n_augment
        self.augment = augment
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)


@with_shared_texts(steps=STEPS)
class MAMLRegressor(InnerLoopEstimator, FewShotRegressor):
    """MAML for regression: a network adapted by a few gradient steps from a meta-learned start.

    `fit` runs theta' = theta - inner_lr * grad L(theta) for `n_steps` steps on
    the squared error of the support rows (eq. 1-2 of [1]_), with features and
    targets at the scale learned from the past. Steps beyond the number
    meta-trained with (all of them, without a meta-init) are kept only where
    they lower the support loss, so that no task diverges.

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
    head_only : bool or None, default=None
        Whether only the last layer adapts, on features that stay as they were
        meta-trained (ANIL [2]_). None takes the meta-init's, or False.
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
    _defaults = {"n_steps": 5, "inner_lr": 0.1, "first_order": False, "head_only": False}
    _constraints = {
        "n_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "first_order": Flag() | None,
        "head_only": Flag() | None,
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
        head_only: bool | None = None,
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
        self.head_only = head_only
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
