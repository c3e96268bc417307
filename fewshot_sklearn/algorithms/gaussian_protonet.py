"""Gaussian prototypical networks: each row says how much it is to be trusted.

S. Fort. Gaussian prototypical networks for few-shot learning on Omniglot.
arXiv:1708.02735, 2017.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape, gives_unit_length
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import SEEN, RunningMeans, State, TakesIn, by_class, present_classes
from ..tasks import OneOf
from ._class_means import SHARPENING

#: Sums of the precisions of each class's rows, before they are pooled.
SUMMED = "summed"


class GaussianProtoNet(TakesIn):
    """adapt: precision-weighted class means (eq. 4-5) and class precisions S_c (eq. 6).

    predict: minus the scaled distance sqrt((x - p_c)' S_c (x - p_c)) (eq. 7).
    """

    further_rows_told = RunningMeans.further_rows_told

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        precision: str = "radius",
        pooling: str = "mean",
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if precision not in ("radius", "diagonal"):
            raise ValueError(f"precision must be 'radius' or 'diagonal', got {precision!r}.")
        if pooling not in ("sum", "mean"):
            raise ValueError(f"pooling must be 'sum' or 'mean', got {pooling!r}.")
        self.pooling = pooling
        self.raw = nn.Linear(self.n_features, 1 if precision == "radius" else self.n_features)
        nn.init.zeros_(self.raw.weight)
        nn.init.zeros_(self.raw.bias)
        sharpened = SHARPENING if gives_unit_length(encoder) else 1.0
        self.log_scale = nn.Parameter(torch.tensor(math.log(sharpened)))

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        S = self._trusted(Z)
        mass = (w[..., None] * y).mT
        precisions = mass @ S
        # subtracted first so that an offset common to all rows is not rounded away
        present = present_classes(y, w)
        origin = (w[..., None] * Z).sum(-2, keepdim=True) / _positive(w.sum(-1))[..., None, None]
        prototypes = origin + (mass @ (S * (Z - origin))) / _positive(precisions)
        pooled = self._pooled(precisions, mass.sum(-1), present)
        return {"prototypes": prototypes, "precisions": pooled, "present": present}

    def _trusted(self, Z: Tensor) -> Tensor:
        """Precision of each row."""
        return 1 + F.softplus(self.raw(Z))

    def _pooled(self, precisions: Tensor, n_rows: Tensor, present: Tensor) -> Tensor:
        if self.pooling == "sum":
            return precisions
        usual = n_rows.sum(-1) / _positive(present.to(precisions.dtype).sum(-1))
        return precisions * (usual[..., None] / _positive(n_rows))[..., None]

    # ------------------------------------------------------------------ further rows
    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass = (w[..., None] * y).mT
        return {SEEN: mass.sum(-1), SUMMED: mass @ self._trusted(Z)}

    def take_in_features(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        if index is not None:
            state = self._at(state, index)
        S, mass, prototypes = self._trusted(Z), (w[..., None] * y).mT, state["prototypes"]
        added = mass @ S
        summed, seen = state[SUMMED] + added, state[SEEN] + mass.sum(-1)
        present = state["present"] | present_classes(y, w)
        origin = (w[..., None] * Z).sum(-2, keepdim=True) / _positive(w.sum(-1))[..., None, None]
        moved = mass @ (S * (Z - origin)) - added * (prototypes - origin)
        return {
            "prototypes": prototypes + moved / _positive(summed),
            "precisions": self._pooled(summed, seen, present),
            "present": present,
            SEEN: seen,
            SUMMED: summed,
        }

    def leave_out(self, state: State, kept: Tensor) -> State:
        state = self._at(state, kept)
        return state | {"precisions": self._pooled(state[SUMMED], state[SEEN], state["present"])}

    def _at(self, state: State, index: Tensor) -> State:
        return {
            k: by_class(t, index, -1 if k in ("present", SEEN) else -2) for k, t in state.items()
        }

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        prototypes, present = state["prototypes"], state["present"]
        S = state["precisions"].expand(prototypes.shape)
        centre = _mean_of_present(prototypes, present)
        Z, prototypes = Z - centre, prototypes - centre
        size = Z.square() @ S.mT + (S * prototypes.square()).sum(-1)[..., None, :]
        squared = size - 2 * Z @ (S * prototypes).mT
        # below the rounding error of the difference it is noise, whose root has any slope
        noise = torch.finfo(Z.dtype).eps * size.detach() + torch.finfo(Z.dtype).tiny
        distance = torch.maximum(squared, noise).sqrt()
        return (-self.log_scale.exp() * distance).masked_fill(~present[..., None, :], -torch.inf)


def _positive(total: Tensor) -> Tensor:
    return total.clamp_min(torch.finfo(total.dtype).tiny)


def _mean_of_present(prototypes: Tensor, present: Tensor) -> Tensor:
    counted = present.to(prototypes.dtype)[..., None]
    return (counted * prototypes).sum(-2, keepdim=True) / _positive(counted.sum(-2, keepdim=True))


@with_shared_texts()
class GaussianProtoNetClassifier(FewShotClassifier):
    """Prototypical network whose rows carry a learned confidence.

    The encoder gives each row an embedding x_i and the inverse covariance
    S_i = 1 + softplus(raw_i) of a Gaussian around it, isotropic or diagonal.
    `fit` averages the rows of each class weighted by their precisions,
    p_c = sum S_i x_i / sum S_i (eq. 4-5 of [1]_), and adds the precisions up,
    S_c = sum S_i (eq. 6). A row's class probabilities are the softmax of minus
    its distances sqrt((x - p_c)' S_c (x - p_c)) (eq. 7), times a learned scale.
    Nothing is trained at `fit`.

    In [1]_ all classes have as many rows. Where they do not, a class with more of
    them would reach less far by eq. 6, so much so that among many features
    hardly any row is given to it. So each class counts as though it had the
    mean number of rows, which for classes of one size is eq. 6;
    ``pooling="sum"`` is eq. 6 for all. Without a meta-init all rows have the
    same precision: this is then the nearest-centroid classifier.

    It departs from [1]_ in two more ways. raw is an affine map of the embedding, in
    place of further channels of the last convolution, so that any encoder
    serves; it starts at zero. And the distances have a learned scale, which
    starts at one, so that an encoder whose features are normalised can still
    be sure of itself.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    precision : {"radius", "diagonal"} or None, default=None
        Whether a row's precision is one number or one for each feature. None
        takes the meta-init's, or ``"radius"`` without one.
    pooling : {"sum", "mean"} or None, default=None
        Whether a class's precision is the sum of those of its rows (eq. 6), or
        their mean times the mean number of rows of a class. None takes the
        meta-init's, or ``"mean"`` without one.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    prototypes_ : ndarray of shape (n_classes, n_features_out)
        Precision-weighted mean support features of each class.
    precisions_ : ndarray of shape (n_classes, 1) or (n_classes, n_features_out)
        Precision S_c of each class: the radius, or the diagonal.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : The same with all rows trusted alike.

    References
    ----------
    .. [1] S. Fort, "Gaussian prototypical networks for few-shot learning on Omniglot",
       arXiv:1708.02735, 2017.

    Examples
    --------
    >>> from fewshot_sklearn import GaussianProtoNetClassifier
    >>> clf = GaussianProtoNetClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.precisions_.round(2)
    array([[2.54],
           [2.54]])
    """

    _learner_class = GaussianProtoNet
    _defaults = {"precision": "radius", "pooling": "mean"}
    _constraints = {
        "precision": OneOf("radius", "diagonal") | None,
        "pooling": OneOf("sum", "mean") | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        precision: str | None = None,
        pooling: str | None = None,
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
        self.precision = precision
        self.pooling = pooling
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def prototypes_(self) -> np.ndarray:
        return self._state("prototypes")

    @property
    def precisions_(self) -> np.ndarray:
        return self._state("precisions")
