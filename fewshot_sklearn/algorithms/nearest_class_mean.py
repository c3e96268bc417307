"""SimpleShot: the nearest class mean among normalised features of an ordinary classifier.

Y. Wang, W.-L. Chao, K. Q. Weinberger and L. van der Maaten. SimpleShot:
revisiting nearest-neighbor classification for few-shot learning. 2019.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import PretrainedLearner, RunningMeans, State, present_classes
from ..tasks import OneOf, Positive

NORMALIZATIONS = ("un", "l2n", "cl2n")
#: How quickly the centre follows the features while they are being trained.
FOLLOWING = 0.1


class NearestClassMean(RunningMeans, PretrainedLearner):
    """adapt: class means of normalised features. predict: minus the squared distance (eq. 2)."""

    means = "means"
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        normalization: str = "cl2n",
        scale: float = 10.0,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"normalization must be one of {list(NORMALIZATIONS)}, got {normalization!r}."
            )
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale!r}.")
        self.normalization, self.scale = normalization, float(scale)
        self.register_buffer("centre", torch.zeros(self.n_features))
        # mean squared distance of past rows from their centre, for each normalisation
        self.register_buffer("spread", torch.ones(len(NORMALIZATIONS)))

    def normalized(self, Z: Tensor, normalization: str) -> Tensor:
        """UN: the features; L2N: of length one (eq. 3); CL2N: centred before (eq. 4)."""
        if normalization == "un":
            return Z
        return F.normalize(Z - self.centre if normalization == "cl2n" else Z, dim=-1)

    def averaged(self, Z: Tensor) -> Tensor:
        return self.normalized(Z, self.normalization)

    # ------------------------------------------------------------------ what the past says
    @torch.no_grad()
    def _describe(self, Z: Tensor, share: float) -> None:
        """Move the centre and the spreads to those of some past rows, by a share of the way."""
        self.centre.lerp_(Z.mean(0), share)
        parts = [self.normalized(Z, name) for name in NORMALIZATIONS]
        spread = torch.stack([part.var(0, correction=0).sum() for part in parts])
        self.spread.lerp_(spread, share)

    def past_logits(self, Z: Tensor) -> Tensor:
        if self.training and self.waiting is not None:
            self.waiting.append(Z.detach())
        elif self.training:
            self.follow(Z)
        return super().past_logits(Z)

    def follow(self, Z: Tensor) -> None:  # so that validation sees about what is learned in the end
        self._describe(Z, FOLLOWING)

    def finish(self, X: Tensor) -> None:
        self._describe(self.embed(X), 1.0)

    # ------------------------------------------------------------------ the two functions
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass = w[..., None] * y
        total = mass.sum(-2).clamp_min(torch.finfo(Z.dtype).tiny)
        means = (mass.mT @ self.normalized(Z, self.normalization)) / total[..., None]
        return {"means": means, "present": present_classes(y, w)}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        Z, means = self.normalized(Z, self.normalization), state["means"]
        # -|z - m|^2 without |z|^2, which no softmax over classes sees; shifted so that large
        # offsets do not cancel
        shift = means.mean(-2, keepdim=True)
        Z, means = Z - shift, means - shift
        closeness = 2 * Z @ means.mT - means.square().sum(-1)[..., None, :]
        spread = self.spread[NORMALIZATIONS.index(self.normalization)]
        sharpness = self.scale / spread.clamp_min(torch.finfo(Z.dtype).eps)
        return (sharpness * closeness).masked_fill(~state["present"][..., None, :], -torch.inf)


@with_shared_texts()
class NearestClassMeanClassifier(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, FewShotClassifier
):
    """SimpleShot: the nearest class mean among the features of an ordinary classifier.

    Meta-training trains the encoder under a linear classifier of all past
    classes (eq. 1 of [1]_), not by episodes. `fit` brings the features of the
    support rows to length one, after subtracting the mean feature of the past
    (CL2N), and averages them by class; the means themselves are not brought to
    length one again. A row belongs to the class whose mean is nearest in
    Euclidean distance (eq. 2). Nothing is trained at `fit`. It is the baseline
    that methods trained by episodes have to beat.

    The paper has no probabilities: here they are the softmax of minus `scale`
    times the squared distances, measured in the mean squared distance of past
    rows from their centre. The mean feature is that of 2000 past rows, where
    the past has more. Without a meta-init there is no mean to subtract, so the
    default is the nearest mean of rows of length one.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    normalization : {"un", "l2n", "cl2n"} or None, default=None
        Features as they are, of length one, or centred and then of length one;
        may differ from what meta-training had. None takes the meta-init's, or
        ``"cl2n"`` without one.
    scale : float or None, default=None
        How sure probabilities are; predictions do not depend on it. None takes
        the meta-init's, or 10.0 without one.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    means_ : ndarray of shape (n_classes, n_features_out)
        Mean normalised support features of each class.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    BaselinePlusPlusClassifier : Trains a new last layer in place of the means.
    ProtoNetClassifier : The same, trained by episodes.

    References
    ----------
    .. [1] Y. Wang, W.-L. Chao, K. Q. Weinberger and L. van der Maaten, "SimpleShot:
       revisiting nearest-neighbor classification for few-shot learning",
       arXiv:1911.04623, 2019.

    Examples
    --------
    >>> from fewshot_sklearn import NearestClassMeanClassifier
    >>> clf = NearestClassMeanClassifier().fit([[3., 0.], [0., 2.], [0., 4.]], ["a", "b", "b"])
    >>> clf.predict([[5., 1.], [1., 5.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.means_
    array([[1., 0.],
           [0., 1.]])
    """

    _learner_class = NearestClassMean
    _defaults = {"normalization": "cl2n", "scale": 10.0}
    _constraints = {
        "normalization": OneOf(*NORMALIZATIONS) | None,
        "scale": Positive() | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        normalization: str | None = None,
        scale: float | None = None,
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
        self.normalization = normalization
        self.scale = scale
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def means_(self) -> np.ndarray:
        return self._state("means")

    @property
    def _n_features_out(self) -> int:
        return self.means_.shape[1]

    def transform(self, X: Any) -> np.ndarray:
        """Embed rows with the encoder and normalise.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            Their normalised features, in which `means_` are means.
        """
        learner, rows = self._fitted_learner_and_rows(X)
        with torch.no_grad():
            return learner.normalized(learner.embed(rows), learner.normalization).cpu().numpy()
