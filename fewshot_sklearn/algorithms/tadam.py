"""TADAM: a prototypical network whose encoder is conditioned on the task.

B. N. Oreshkin, P. Rodriguez Lopez and A. Lacoste. TADAM: task dependent adaptive
metric for improved few-shot learning. NeurIPS 2018.

E. Perez, F. Strub, H. de Vries, V. Dumoulin and A. Courville. FiLM: visual
reasoning with a general conditioning layer. AAAI 2018 (scales and shifts of layers).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..encoders import LayerNorm, Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import FeatureLearner, Outputs, Shells, State, present_classes
from ..tasks import Number
from ._class_means import closeness, first_log_scale

#: Layers that are scaled and shifted: norms, or where there are none those that weigh.
NORMS = (LayerNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
WEIGH = (nn.Linear, nn.modules.conv._ConvNd)
#: Residual layers of the networks that condition, as in the paper.
N_RESIDUAL = 3


class _FromTask(nn.Module):
    """One number a channel, of what a task is like: zero at first (section 3.2)."""

    def __init__(self, n_features: int, width: int):
        super().__init__()
        self.first = nn.Linear(n_features, width)
        self.residual = nn.ModuleList(nn.Linear(width, width) for _ in range(N_RESIDUAL))
        self.multiplier = nn.Parameter(torch.zeros(width))

    def forward(self, task: Tensor) -> Tensor:
        h = F.relu(self.first(task))
        for layer in self.residual:
            h = h + F.relu(layer(h))
        return self.multiplier * h


class Conditions(nn.Module):
    """Scales 1 + gamma and shifts beta of all layers, of what a task is like."""

    def __init__(self, n_features: int, widths: list[int]):
        super().__init__()
        self.norm = LayerNorm(n_features)
        self.gamma = nn.ModuleList(_FromTask(n_features, width) for width in widths)
        self.beta = nn.ModuleList(_FromTask(n_features, width) for width in widths)

    def forward(self, task: Tensor) -> list[tuple[Tensor, Tensor]]:
        task = self.norm(task)
        return [(1 + g(task), b(task)) for g, b in zip(self.gamma, self.beta, strict=True)]

    def size(self) -> Tensor:
        """Sum of the squares of the multipliers."""
        parts = [part.multiplier.square().sum() for part in (*self.gamma, *self.beta)]
        return torch.stack(parts).sum()


class TADAM(FeatureLearner):
    """adapt: conditions the encoder on the mean of the class means, and takes the means anew.

    predict: minus the scaled distance to them, of rows that the conditioned encoder embeds.
    """

    adapts_encoder = True
    learned_only = ("conditions",)
    conditions: Conditions | None

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        penalty: float = 0.01,
        past: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not penalty >= 0:
            raise ValueError(f"penalty must be at least 0, got {penalty!r}.")
        self.penalty = float(penalty)
        self.log_scale = nn.Parameter(torch.tensor(first_log_scale(encoder, self.n_features)))
        #: Names of the layers that are conditioned.
        self.conditioned = _conditioned(encoder) if past else []
        self.takes_batches = not self.conditioned
        self.conditions = None
        if self.conditioned:
            weights = dict(encoder.named_parameters())
            widths = [len(weights[f"{name}.weight"]) for name in self.conditioned]
            self.conditions = Conditions(self.n_features, widths)
        self.with_weights = Shells(encoder)

    # ------------------------------------------------------------------ the network
    def embed(self, X: Tensor) -> Tensor:
        """What a task leaves alone: the scaling, and the encoder if none of it is conditioned."""
        return self.scaled(X) if self.conditioned else super().embed(X)

    def features(self, weights: State, Z: Tensor) -> Tensor:
        """Features of scaled rows, by the encoder with these weights in place of its own."""
        if not self.conditioned:
            return Z
        inner = {k.removeprefix("encoder."): t for k, t in weights.items()}
        with self.rounded(Z):
            if self.shared:
                found = [self.with_weights(inner, part) for part in self._parts(Z)]
            else:
                found = [functional_call(self.encoder, inner, (part,)) for part in self._parts(Z)]
        return (found[0] if len(found) == 1 else torch.cat(found)).to(self.x_mean.dtype)

    def _parts(self, Z: Tensor) -> tuple[Tensor, ...]:
        return self.parts_of(Z, self._width(), 0)

    def weights_for(self, means: Tensor, present: Tensor) -> State:
        """Weights of the conditioned layers: a scaled and shifted layer has scaled weights."""
        if self.conditions is None:
            return {}
        counted = present.to(means.dtype)
        task = (counted[..., None, :] @ means)[..., 0, :] / counted.sum().clamp_min(1.0)
        own, weights = dict(self.encoder.named_parameters()), {}
        for name, (scale, shift) in zip(self.conditioned, self.conditions(task), strict=True):
            weight = own[f"{name}.weight"]
            weights[f"encoder.{name}.weight"] = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            if f"{name}.bias" in own:
                weights[f"encoder.{name}.bias"] = own[f"{name}.bias"] * scale + shift
        return weights

    # ------------------------------------------------------------------ the two functions
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass, present = (w[..., None] * y).mT, present_classes(y, w)
        total = mass.sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
        # of the encoder as it is first
        means = (mass @ self.features({}, Z)) / total
        weights = self.weights_for(means, present)
        if weights:
            means = (mass @ self.features(weights, Z)) / total
        return {"means": means, "present": present, **weights}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        weights = {k: t for k, t in state.items() if k.startswith("encoder.")}
        near = closeness(state["means"], self.features(weights, Z))
        logits = self.log_scale.exp() * near
        return logits.masked_fill(~state["present"][..., None, :], -torch.inf)

    def numbers_a_row(self, state: State) -> int:
        tasks = state["means"].shape[:-2].numel()
        return tasks * self._width() + state["means"].numel()

    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        """The loss of the queries, and the penalty on how much a task changes."""
        loss, outputs = super().training_loss(X, y, w, X_query, y_query)
        if self.conditions is not None:
            loss = loss + self.penalty * self.conditions.size()
        return loss, outputs


def _conditioned(encoder: nn.Module) -> list[str]:
    """Names of the layers that are scaled and shifted, of those that are trained."""
    for kinds in (NORMS, WEIGH):
        found = [
            name
            for name, part in encoder.named_modules()
            if isinstance(part, kinds)
            and isinstance(weight := getattr(part, "weight", None), nn.Parameter)
            and weight.requires_grad
        ]
        if found:
            return found
    return []


@with_shared_texts()
class TADAMClassifier(FewShotClassifier):
    """TADAM: a prototypical network whose encoder changes with the task.

    `fit` embeds the support rows and takes the mean of the class means for what the task is
    like. From it small networks tell a scale and a shift of each channel of each layer of
    the encoder (section 3.2 of [1]_), which then embeds the rows once more: the means of
    these are the prototypes. A row's class probabilities are the softmax of minus its
    distances to them, times a learned scale (section 3.1). Nothing is trained at `fit`.
    Without a meta-init, without layers to change, or with a frozen encoder it is a
    prototypical network.

    Scales and shifts act behind the norms of an encoder; of one without norms, behind
    all its layers. They start from none, by multipliers which start at zero and on which
    training has a penalty (section 3.2).

    Two things differ from the paper. The auxiliary classification of all past classes that
    the paper trains beside (section 3.3) is left out, as meta-training here has either
    episodes or classification. And what a task is like comes normalised to the networks that
    read it, so that the size of features does not matter.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    penalty : float or None, default=None
        What the squares of the multipliers cost in training. None takes the meta-init's,
        or 0.01.
    {device}
    {dtype}
    {random_state}
        Those of the networks that condition, too.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : The encoder is the same for all tasks.
    MAMLClassifier : The encoder is changed by gradient descent.

    References
    ----------
    .. [1] B. N. Oreshkin, P. Rodriguez Lopez and A. Lacoste, "TADAM: task dependent adaptive
       metric for improved few-shot learning", NeurIPS 2018.

    Examples
    --------
    >>> from fewshot_sklearn import TADAMClassifier
    >>> clf = TADAMClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = TADAM
    _defaults = {"penalty": 0.01}
    _constraints = {"penalty": Number(0) | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        penalty: float | None = None,
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
        self.penalty = penalty
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"past": trained is not None}
