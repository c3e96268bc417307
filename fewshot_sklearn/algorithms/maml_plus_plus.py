"""MAML++: MAML whose training is stable, with step sizes learned by layer and step.

A. Antoniou, H. Edwards and A. Storkey. How to train your MAML. ICLR 2019.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, FewShotEstimator, FewShotRegressor, with_shared_texts
from ..learners import (
    DescendsCrossEntropy,
    DescendsSquaredError,
    InnerLoopEstimator,
    InnerLoopLearner,
    Outputs,
    State,
    present_classes,
)
from ..tasks import IGNORED_CODE, Positive, Whole


class MAMLPlusPlusLearner(InnerLoopLearner):
    """adapt: gradient descent with learned step sizes. predict: the adapted network.

    What depends on how far training has come depends on how many tasks it has
    seen, task by task, so that neither the size of a batch nor how it is cut
    into chunks matters.

    Attributes
    ----------
    alpha : nn.Parameter of shape (n_steps, n_layers)
        Step sizes; a layer's weight and bias share one, and the head is a layer.
    tasks_seen : Tensor of int
        Tasks that meta-training has seen.
    """

    tasks_seen: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        multi_step_tasks: int = 5000,
        first_order_tasks: int = 0,
        **options: Any,
    ):
        super().__init__(encoder, input_shape, n_outputs, **options)
        tasks = {"multi_step_tasks": multi_step_tasks, "first_order_tasks": first_order_tasks}
        for name, value in tasks.items():
            if not (isinstance(value, int | np.integer) and value >= 0):
                raise ValueError(f"{name} must be an int, at least 0, got {value!r}.")
        self.multi_step_tasks, self.first_order_tasks = multi_step_tasks, first_order_tasks
        names = list(self.adapting_weights())
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name in [*names, "head.weight"]))
        self.layer_of = {name: modules.index(name.rpartition(".")[0]) for name in names}
        self.layer_of |= dict.fromkeys(("head.weight", "head.bias"), len(modules) - 1)
        self.alpha = nn.Parameter(torch.full((self.n_steps, len(modules)), self.inner_lr))
        self.register_buffer("tasks_seen", torch.tensor(0))
        #: The same, for whose sake no GPU has to be waited for.
        self._seen_here: int | None = None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take step sizes of another number of steps: the first ones, and the last one again."""
        self._seen_here = None
        alpha = state_dict.get(f"{prefix}alpha")
        if alpha is not None and 0 < len(alpha) != self.n_steps:
            last = alpha[-1:].expand(max(0, self.n_steps - len(alpha)), -1)
            state_dict[f"{prefix}alpha"] = torch.cat([alpha[: self.n_steps], last])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def rates(self, step: int, params: State) -> dict[str, Any]:
        return {name: self.alpha[step, self.layer_of[name]] for name in params}

    # ------------------------------------------------------------------ what is trained
    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        """Query losses after each step, weighted (eq. 4), with the derivatives whose turn it is."""
        batch = self.embed_of_tasks(X), y, w, self.embed_of_tasks(X_query)
        on_cpu = self.tasks_seen.device.type == "cpu"
        if on_cpu or self._seen_here is None:
            self._seen_here = int(self.tasks_seen)
        seen = self._seen_here
        self.tasks_seen += len(X)
        self._seen_here += len(X)
        border = min(max(self.first_order_tasks - seen, 0), len(X))
        parts = []
        for first_order, rows in ((True, slice(0, border)), (False, slice(border, None))):
            if len(X[rows]):
                self.first_order = first_order
                parts.append(self.over_tasks("after_each_step", *(t[rows] for t in batch)))
        self.first_order = False
        outputs = torch.cat(parts)
        losses = _task_losses(*self.in_scale(outputs, y_query))  # type: ignore[arg-type]
        v = self.step_weights(seen + torch.arange(len(X), device=X.device).to(losses))
        # where only the last step counts, an infinite loss after another must not
        total = torch.where(v > 0, v * losses, 0.0).sum(1)
        return total.mean(), outputs[:, -1]

    def skip(self, n_tasks: int) -> None:
        if n_tasks:
            self.tasks_seen += n_tasks
            self._seen_here = None if self._seen_here is None else self._seen_here + n_tasks

    def step_weights(self, seen: Tensor) -> Tensor:
        """The weights v of eq. 4, for tasks before which so many were seen: (T, n_steps).

        All the same at first; in the end, which is reached linearly, all on the
        last step.
        """
        if self.multi_step_tasks:
            last = (seen / self.multi_step_tasks).clamp_max(1.0)
        else:
            last = torch.ones_like(seen)
        n = max(self.n_steps, 1)
        v = ((1 - last) / n)[:, None].repeat(1, n)
        v[:, -1] += last
        return v

    def after_each_step(self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor) -> Tensor:
        """Outputs for the queries after each step: (..., n_steps, n_query, n_way or n_outputs)."""
        path, _ = self.path(self.start(Z, y, w), Z, self.support_loss(self.targets(y), w))
        present = present_classes(y, w) if self.n_outputs is None else None
        outputs = []
        for params in path[1:] or path:
            with self.rounded(Z_query):
                out = self.network(params, Z_query)
            outputs.append(self.finished(out.to(self.x_mean.dtype), present))
        return torch.stack(outputs, -3)


def _task_losses(outputs: Tensor, y_query: Tensor) -> Tensor:
    """`episode_loss` of each task and step: (T, n_steps)."""
    if not y_query.is_floating_point():
        codes = y_query[:, None].expand(outputs.shape[:-1])
        losses = F.cross_entropy(
            outputs.movedim(-1, 1), codes, ignore_index=IGNORED_CODE, reduction="none"
        )
        return losses.sum(-1) / (codes != IGNORED_CODE).sum(-1).clamp_min(1)
    missing = y_query.isnan()[:, None]
    errors = (outputs - y_query.nan_to_num()[:, None]).square().masked_fill(missing, 0.0)
    return errors.sum((-1, -2)) / (~missing).sum((-1, -2)).clamp_min(1)


class MAMLPlusPlusClassification(DescendsCrossEntropy, MAMLPlusPlusLearner):
    """MAML++ with a head of zeros for each class that comes."""


class MAMLPlusPlusRegression(DescendsSquaredError, MAMLPlusPlusLearner):
    """MAML++ with a learned head."""


#: What the parameters of both estimators mean.
STEPS = """
n_steps : int or None, default=None
    Gradient steps at `fit`; those beyond the number meta-trained with take the step
    sizes of the last. None takes the meta-init's, or 5.
inner_lr : float or None, default=None
    Where the step sizes start from: all that there is without a meta-init; with one,
    of no effect. None takes the meta-init's, or 0.1.
multi_step_tasks : int or None, default=None
    Tasks of meta-training over which the loss after every step gives way to the loss
    after the last; changes nothing at `fit`. None takes the meta-init's, or 5000.
first_order_tasks : int or None, default=None
    Tasks for which meta-training ignores second derivatives before it takes them up;
    changes nothing at `fit`. None takes the meta-init's, or 0.
"""


class _MAMLPlusPlusEstimator(InnerLoopEstimator, FewShotEstimator):
    """Parameters of both estimators."""

    _learns_rates = True
    _defaults = {"n_steps": 5, "inner_lr": 0.1, "multi_step_tasks": 5000, "first_order_tasks": 0}
    _constraints = {
        "n_steps": Whole(0) | None,
        "inner_lr": Positive() | None,
        "multi_step_tasks": Whole(0) | None,
        "first_order_tasks": Whole(0) | None,
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
        multi_step_tasks: int | None = None,
        first_order_tasks: int | None = None,
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
        self.multi_step_tasks = multi_step_tasks
        self.first_order_tasks = first_order_tasks
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)


@with_shared_texts(steps=STEPS)
class MAMLPlusPlusClassifier(_MAMLPlusPlusEstimator, FewShotClassifier):
    """MAML++: MAML whose training is stable, with step sizes learned by layer and step.

    `fit` runs `n_steps` steps of gradient descent on the support rows from a
    meta-learned start, each layer with a step size of its own at each step,
    meta-learned too (and free to turn negative). Meta-training minimises a
    weighted sum of the query losses after every step (eq. 4 of [1]_): all weigh
    the same at first, and only the last in the end (`multi_step_tasks`). It may
    begin without second derivatives (`first_order_tasks`). The head starts from
    zeros, so any number of classes can be fitted, in any order. Steps beyond the
    number meta-trained with (all of them, without a meta-init) are kept only
    where they lower the support loss.

    Of the paper's other improvements, annealing the outer step size by a cosine
    is skorch's ``LRScheduler("CosineAnnealingLR", T_max=...)`` among the
    callbacks of `MetaTrainer`, and batch-norm statistics and weights for each
    step have no use here: encoders normalise within a row.

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
    MAMLClassifier : One fixed step size, and the loss after the last step alone.
    MetaSGDClassifier : A learned step size for each weight.

    References
    ----------
    .. [1] A. Antoniou, H. Edwards and A. Storkey, "How to train your MAML", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import MAMLPlusPlusClassifier
    >>> clf = MAMLPlusPlusClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.loss_curve_.shape
    (5,)
    """

    _learner_class = MAMLPlusPlusClassification


@with_shared_texts(steps=STEPS)
class MAMLPlusPlusRegressor(_MAMLPlusPlusEstimator, FewShotRegressor):
    """MAML++ for regression: MAML with step sizes learned by layer and step.

    `fit` runs `n_steps` steps of gradient descent on the squared error of the
    support rows from a meta-learned start, with features and targets at the
    scale learned from the past; each layer has a step size of its own at each
    step, meta-learned too (and free to turn negative). Meta-training minimises a
    weighted sum of the query losses after every step (eq. 4 of [1]_): all weigh
    the same at first, and only the last in the end (`multi_step_tasks`). It may
    begin without second derivatives (`first_order_tasks`). Steps beyond the
    number meta-trained with (all of them, without a meta-init) are kept only
    where they lower the support loss.

    Of the paper's other improvements, annealing the outer step size by a cosine
    is skorch's ``LRScheduler("CosineAnnealingLR", T_max=...)`` among the
    callbacks of `MetaTrainer`, and batch-norm statistics and weights for each
    step have no use here: encoders normalise within a row.

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
    MAMLRegressor : One fixed step size, and the loss after the last step alone.
    MetaSGDRegressor : A learned step size for each weight.

    References
    ----------
    .. [1] A. Antoniou, H. Edwards and A. Storkey, "How to train your MAML", ICLR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import MAMLPlusPlusRegressor
    >>> reg = MAMLPlusPlusRegressor(n_steps=100).fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> reg.predict([[1.5]]).round(2)
    array([4.])
    """

    _learner_class = MAMLPlusPlusRegression
