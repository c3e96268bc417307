"""Reptile: a start that training on a task moves little, found by moving towards where it leads.

A. Nichol, J. Achiam and J. Schulman. On first-order meta-learning algorithms.
arXiv:1803.02999, 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, FewShotEstimator, FewShotRegressor, with_shared_texts
from ..learners import (
    DescendsCrossEntropy,
    DescendsSquaredError,
    InnerLoopEstimator,
    InnerLoopLearner,
    State,
    absent_classes,
    as_support,
    spread,
)
from ..tasks import OneOf, Positive, Whole

#: Adam's decay of the second moment, and what keeps it from dividing by zero.
BETA2, EPS = 0.999, 1e-8


class ReptileLearner(InnerLoopLearner):
    """adapt: gradient descent on the support loss. predict: the adapted network.

    Meta-training does not differentiate through adaptation: it trains on all
    rows of a task and takes the way back from there as the gradient
    (Algorithm 2).
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        inner_optimizer: str = "sgd",
        train_steps: int = 10,
        inner_batch: int = 10,
        **options: Any,
    ):
        super().__init__(encoder, input_shape, n_outputs, first_order=True, **options)
        if inner_optimizer not in ("sgd", "adam"):
            raise ValueError(f"inner_optimizer must be 'sgd' or 'adam', got {inner_optimizer!r}.")
        for name, value in {"train_steps": train_steps, "inner_batch": inner_batch}.items():
            if not (isinstance(value, int | np.integer) and value >= 1):
                raise ValueError(f"{name} must be an int, at least 1, got {value!r}.")
        self.inner_optimizer = inner_optimizer
        self.train_steps, self.inner_batch = train_steps, inner_batch

    # ------------------------------------------------------------------ the inner optimiser
    def memory(self, params: State) -> State:
        if self.inner_optimizer == "sgd":
            return {}
        zero = next(iter(params.values())).new_zeros(())
        return {"weight": zero, **dict.fromkeys(params, zero)}

    def update(
        self, step: int, params: State, grads: State, memory: State, share: Tensor | None = None
    ) -> tuple[State, State]:
        """A step of gradient descent, or of Adam with beta_1 = 0."""
        if self.inner_optimizer == "sgd":
            return super().update(step, params, grads, memory, share)
        new = {k: BETA2 * memory[k] + (1 - BETA2) * g.square() for k, g in grads.items()}
        # 1 - beta_2^t, of the steps that were kept
        new["weight"] = BETA2 * memory["weight"] + (1 - BETA2)
        grads = {
            k: g / ((new[k] / spread(new["weight"], g)).sqrt() + EPS) for k, g in grads.items()
        }
        return super().update(step, params, grads, memory, share)[0], new

    # ------------------------------------------------------------------ meta-training
    @torch.no_grad()
    def backward_by_hand(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        """Add theta minus the mean of what training on each task makes of it."""
        asked, w_query = as_support(y_query, y, w)
        rows = torch.cat([X, X_query], 1)
        y_all, w_all = torch.cat([y, asked], 1), torch.cat([w, w_query], 1)
        drawn = self.minibatches(w_all)
        Z, Z_query = self.embed_of_tasks(rows), self.embed_of_tasks(X_query)
        adapted = self.over_tasks("trained_on", Z, y_all, w_all, drawn, Z_query)
        for name, p in self.named_parameters():
            if p.requires_grad and name in adapted:
                g = share * (p - adapted[name].mean(0))
                p.grad = g if p.grad is None else p.grad + g
        outputs = adapted["outputs"]
        return share * self.loss(outputs, y_query), outputs

    def minibatches(self, w: Tensor) -> Tensor:
        """Rows that each step sees, by number: (T, train_steps, inner_batch).

        Distinct ones of the task at random; of weight zero only where there are
        too few others.
        """
        shape = self.train_steps, w.shape[1]
        if self.random_numbers is None:
            chance = torch.rand((len(w), *shape), device=w.device)
        else:
            chance = self.random_numbers.of_each(len(w), shape, w.device)
        chance = chance.masked_fill((w == 0)[:, None], 2.0)
        return chance.argsort(-1)[..., : self.inner_batch]

    def trained_on(self, Z: Tensor, y: Tensor, w: Tensor, drawn: Tensor, Z_query: Tensor) -> State:
        """Weights after training on those minibatches, and what they say of the queries."""
        classifies = self.n_outputs is None
        absent = absent_classes(y, w) if classifies else None
        params, targets = self.start(Z, y, w), self.targets(y)
        memory = self.memory(params)
        for step in range(self.train_steps):
            rows = drawn[..., step, :]
            loss = self.support_loss(_take(targets, rows), _take(w, rows), absent)
            grads, _ = self.gradient(params, _take(Z, rows), loss)
            params, memory = self.update(step, params, grads, memory)
        with self.rounded(Z_query):
            outputs = self.network(params, Z_query).to(self.x_mean.dtype)
        return params | {
            "outputs": self.finished(outputs, None if absent is None else ~absent[..., 0, :])
        }

    def steps_that_pay(self) -> int | None:
        return None  # no second derivatives, no kernels worth compiling


def _take(rows: Tensor, numbers: Tensor) -> Tensor:
    """Rows (..., n, *shape) by number (..., k)."""
    index = numbers.reshape(numbers.shape + (1,) * (rows.ndim - numbers.ndim))
    return torch.take_along_dim(rows, index, numbers.ndim - 1)


class ReptileClassification(DescendsCrossEntropy, ReptileLearner):
    """Reptile with a head of zeros for each class that comes."""


class ReptileRegression(DescendsSquaredError, ReptileLearner):
    """Reptile with a learned head."""


#: What the parameters of both estimators mean.
STEPS = """
n_steps : int or None, default=None
    Steps at `fit`, each on all support rows. None takes the meta-init's, or 50, the
    paper's.
inner_lr : float or None, default=None
    Step size. Adam needs a smaller one, such as 0.01. None takes the meta-init's, or
    0.1.
inner_optimizer : {"sgd", "adam"} or None, default=None
    The rule of the steps, in meta-training and at `fit`; Adam is without momentum, as
    in the paper, and starts anew for each task. None takes the meta-init's, or
    ``"sgd"``.
train_steps : int or None, default=None
    Steps on each task in meta-training; changes nothing at `fit`. None takes the
    meta-init's, or 10.
inner_batch : int or None, default=None
    Rows of a task that each step of meta-training sees; changes nothing at `fit`. None
    takes the meta-init's, or 10.
"""


class _ReptileEstimator(InnerLoopEstimator, FewShotEstimator):
    """Parameters, and which steps are trusted."""

    _defaults = {
        "n_steps": 50,
        "inner_lr": 0.1,
        "inner_optimizer": "sgd",
        "train_steps": 10,
        "inner_batch": 10,
    }
    _constraints = {
        "n_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "inner_optimizer": OneOf("sgd", "adam") | None,
        "train_steps": Whole(1) | None,
        "inner_batch": Whole(1) | None,
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
        inner_optimizer: str | None = None,
        train_steps: int | None = None,
        inner_batch: int | None = None,
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
        self.inner_optimizer = inner_optimizer
        self.train_steps = train_steps
        self.inner_batch = inner_batch
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        # meta-training took other steps than `fit` takes, so all of these are guarded
        return super()._learner_params(trained) | {"trained_steps": 0}


@with_shared_texts(steps=STEPS)
class ReptileClassifier(_ReptileEstimator, FewShotClassifier):
    """Reptile: a network adapted to the task by gradient steps from a meta-learned start.

    Meta-training trains on each task, `train_steps` steps on minibatches of all
    its labelled rows, support and queries alike, and moves the start theta
    towards where that led: theta minus the mean over tasks of the trained
    weights serves the outer optimiser as the gradient (Algorithm 2 of [1]_), so
    with ``optimizer=torch.optim.SGD`` its ``lr`` is the paper's epsilon. No
    second derivatives are needed. `fit` runs `n_steps` steps on all support
    rows; one that would raise the support loss is taken back and halved.

    The head starts from zeros, in meta-training and at `fit`, so any number of
    classes can be fitted, in any order: unlike in the paper, only the encoder is
    meta-learned. And the inner Adam starts anew for each task, where the
    paper's goes on from the last, so that a task does not depend on those before.

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
    MAMLClassifier : Differentiates through adaptation.

    References
    ----------
    .. [1] A. Nichol, J. Achiam and J. Schulman, "On first-order meta-learning
       algorithms", arXiv:1803.02999, 2018.

    Examples
    --------
    >>> from fewshot_sklearn import ReptileClassifier
    >>> clf = ReptileClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.loss_curve_.shape
    (50,)
    """

    _learner_class = ReptileClassification


@with_shared_texts(steps=STEPS)
class ReptileRegressor(_ReptileEstimator, FewShotRegressor):
    """Reptile for regression: gradient steps from a meta-learned start.

    Meta-training trains on each task, `train_steps` steps on minibatches of all
    its labelled rows, support and queries alike, and moves the start theta,
    head included, towards where that led: theta minus the mean over tasks of
    the trained weights serves the outer optimiser as the gradient (Algorithm 2
    of [1]_), so with ``optimizer=torch.optim.SGD`` its ``lr`` is the paper's
    epsilon. No second derivatives are needed. `fit` runs `n_steps` steps on the
    squared error of all support rows, with features and targets at the scale
    learned from the past; one that would raise it is taken back and halved.
    Unlike the paper's, the inner Adam starts anew for each task, so that a task
    does not depend on those before.

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
    MAMLRegressor : Differentiates through adaptation.

    References
    ----------
    .. [1] A. Nichol, J. Achiam and J. Schulman, "On first-order meta-learning
       algorithms", arXiv:1803.02999, 2018.

    Examples
    --------
    >>> from fewshot_sklearn import ReptileRegressor
    >>> reg = ReptileRegressor(n_steps=100).fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.5]]).round(2)
    array([4.])
    """

    _learner_class = ReptileRegression
