"""FEAT: class means that are adapted to each other by attention.

H.-J. Ye, H. Hu, D.-C. Zhan and F. Sha. Few-shot learning via embedding
adaptation with set-to-set functions. CVPR 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import LayerNorm, Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import (
    OF_PAIRS,
    MultiHeadAttention,
    Outputs,
    RunningMeans,
    State,
    check_sizes,
    present_classes,
)
from ..tasks import IGNORED_CODE, Number, Whole, memberships
from ._class_means import closeness, first_log_scale


class SetToSet(nn.Module):
    """Members of a set (..., n, n_features), each changed by what it reads from all (eq. 6-9)."""

    def __init__(self, n_features: int, n_heads: int):
        super().__init__()
        self.norm = LayerNorm(n_features)
        self.attention = MultiHeadAttention(n_features, n_heads)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, members: Tensor, w: Tensor) -> Tensor:
        seen = self.norm(members)
        keys, values = self.attention.project(seen, seen)
        return members + self.attention(seen, keys, values, w)


class FEAT(RunningMeans):
    """adapt: class means of the features. predict: minus the distance to what attention makes them.

    The means are kept, so that further rows can move them.
    """

    means = "means"
    learned_only = ("adaptation",)
    adaptation: SetToSet | None

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_heads: int = 1,
        contrast: float = 0.1,
        past: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not contrast >= 0:
            raise ValueError(f"contrast must be at least 0, got {contrast!r}.")
        self.contrast = float(contrast)
        self.log_scale = nn.Parameter(torch.tensor(first_log_scale(encoder, self.n_features)))
        self.adaptation = None
        if past:
            check_sizes(self.n_features, n_heads)
            self.adaptation = SetToSet(self.n_features, n_heads)

    def adapted(self, members: Tensor, w: Tensor) -> Tensor:
        """Members of a set, of weights w (..., n), as attention has them."""
        return members if self.adaptation is None else self.adaptation(members, w)

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass = w[..., None] * y
        total = mass.sum(-2).clamp_min(torch.finfo(Z.dtype).tiny)
        return {"means": (mass.mT @ Z) / total[..., None], "present": present_classes(y, w)}

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        pairs = 0 if self.adaptation is None else OF_PAIRS * n_labels**2
        return super().numbers_to_adapt(n_rows, n_labels) + pairs

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        present = state["present"]
        prototypes = self.adapted(state["means"], present.to(Z.dtype))
        logits = self.log_scale.exp() * closeness(prototypes, Z)
        return logits.masked_fill(~present[..., None, :], -torch.inf)

    # ------------------------------------------------------------------ what is trained
    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        """The loss of the queries, and that of rows among means of their adapted class (eq. 10)."""
        n = X.shape[1]
        Z = self.embed_of_tasks(torch.cat([X, X_query], 1))
        outputs = self.forward_features(Z[:, :n], y, w, Z[:, n:])
        loss = self.loss(outputs, y_query)
        if self.adaptation is None or not self.contrast:
            return loss, outputs
        asked = (y_query != IGNORED_CODE).to(w.dtype)
        members = torch.cat([y, memberships(y_query, y.shape[-1], y.dtype) * asked[..., None]], 1)
        beside = self.contrastive(Z, members, torch.cat([w, asked], 1))
        return loss + self.contrast * beside, outputs

    def contrastive(self, Z: Tensor, y: Tensor, w: Tensor) -> Tensor:
        """Cross-entropy of rows, given the means of classes whose rows were adapted together."""
        mass = (w[..., None] * y).mT
        # one set a class: rows of other classes weigh nothing in it
        together = self.adapted(Z[:, None].expand(-1, mass.shape[1], -1, -1), mass)
        total = mass.sum(-1, keepdim=True)
        centres = (mass[..., None, :] @ together)[..., 0, :]
        centres = centres / total.clamp_min(torch.finfo(Z.dtype).tiny)
        logits = self.log_scale.exp() * closeness(centres, Z)
        logits = logits.masked_fill(total.mT <= 0, -torch.inf)
        losses = -(y * F.log_softmax(logits, -1).masked_fill(y == 0, 0.0)).sum(-1)
        return ((w * losses).sum(-1) / w.sum(-1)).mean()


@with_shared_texts()
class FEATClassifier(FewShotClassifier):
    """FEAT: prototypes that are adapted to the task's other prototypes by attention.

    `fit` averages the features of the support rows by class. The means then read each
    other, by the attention of a transformer (eq. 6-9 of [1]_), so that what tells this
    task's classes apart counts. A row's class probabilities are the softmax of minus its
    scaled distances to what they become. Attention, scale and encoder were learned on past
    tasks. Nothing is trained at `fit`. Without a meta-init this is the nearest-centroid
    classifier.

    The loss in training adds that of the rows among class centres, each the mean of the
    rows of its class after these have read each other (eq. 10).

    Three things differ from the paper. Means are normalised before they are read rather
    than after, and what is read starts at zero, so that training starts from a prototypical
    network. There is no dropout within the attention. And the encoder is trained
    from the start by episodes, not by classification first.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_heads : int or None, default=None
        Heads of the attention; the number of features must be a multiple of it. None takes
        the meta-init's, or 1 without one, as in the paper.
    contrast : float or None, default=None
        How much the second loss counts; 0 is without. None takes the meta-init's, or 0.1.
    {device}
    {dtype}
    {random_state}
        That of the attention, too.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : The same without attention.
    InContextClassifier : Rows, not means, read each other.

    References
    ----------
    .. [1] H.-J. Ye, H. Hu, D.-C. Zhan and F. Sha, "Few-shot learning via embedding
       adaptation with set-to-set functions", CVPR 2020.

    Examples
    --------
    >>> from fewshot_sklearn import FEATClassifier
    >>> clf = FEATClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = FEAT
    _defaults = {"n_heads": 1, "contrast": 0.1}
    _constraints = {"n_heads": Whole(1) | None, "contrast": Number(0) | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_heads: int | None = None,
        contrast: float | None = None,
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
        self.n_heads = n_heads
        self.contrast = contrast
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"past": trained is not None}
