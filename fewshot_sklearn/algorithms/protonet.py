"""Prototypical networks: the nearest class mean among learned features.

J. Snell, K. Swersky and R. Zemel. Prototypical networks for few-shot learning.
NeurIPS 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from ..classifier import FewShotClassifier
from ..encoders import Shape
from ..learner import FeatureLearner, State, present_classes


class ProtoNet(FeatureLearner):
    """adapt: class means of the features (eq. 1). predict: minus the scaled distance (eq. 2)."""

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        metric: str = "euclidean",
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric must be 'euclidean' or 'cosine', got {metric!r}.")
        self.metric = metric
        # Snell's squared distances are taken as they are; cosines need sharpening (Gidaris 2018)
        start = torch.tensor(10.0 if metric == "cosine" else 1.0)
        self.log_scale = nn.Parameter(start.log())

    def _features(self, Z: Tensor) -> Tensor:
        return F.normalize(Z, dim=-1) if self.metric == "cosine" else Z

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass = w[..., None] * y
        total = mass.sum(-2).clamp_min(torch.finfo(Z.dtype).tiny)
        prototypes = (mass.mT @ self._features(Z)) / total[..., None]
        return {"prototypes": prototypes, "present": present_classes(y, w)}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        Z, prototypes = self._features(Z), state["prototypes"]
        if self.metric == "cosine":
            closeness = Z @ F.normalize(prototypes, dim=-1).mT
        else:
            # -|z - c|^2 without |z|^2, which no softmax over classes sees; centred so that
            # large offsets do not cancel
            centre = prototypes.mean(-2, keepdim=True)
            Z, prototypes = Z - centre, prototypes - centre
            closeness = 2 * Z @ prototypes.mT - prototypes.square().sum(-1)[..., None, :]
        return (self.log_scale.exp() * closeness).masked_fill(
            ~state["present"][..., None, :], -torch.inf
        )


class ProtoNetClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FewShotClassifier):
    """Prototypical network: each class is the mean of its support rows' features.

    `fit` embeds the support rows with the meta-trained encoder and averages
    them by class, p_k = mean f(x_i) (eq. 1 of [1]_); a row's class
    probabilities are the softmax of minus its scaled distances to the
    prototypes (eq. 2). Nothing is trained at `fit`. Without a meta-init this is
    the nearest-centroid classifier.

    Parameters
    ----------
    meta_init : MetaInit, path or None, default=None
        What meta-training learned from past tasks. None starts from the
        encoder as it is (random weights, for the encoders that have any).
    encoder : str, nn.Module class, nn.Module or None, default=None
        ``"identity"``, ``"mlp"``, ``"conv4"``, ``"resnet12"`` or a module of
        your own. None takes the meta-init's, or ``"identity"`` without one.
    metric : {"euclidean", "cosine"} or None, default=None
        Squared Euclidean distance or cosine similarity, times a learned scale.
        None takes the meta-init's, or ``"euclidean"`` without one.
    device : str, default="auto"
        Where to compute: ``"cpu"``, ``"cuda"``, ... ``"auto"`` is the GPU where
        there is one.
    dtype : {"float32", "float64"} or None, default=None
        Precision. None is float32 with a meta-init and float64 without.
    random_state : int, RandomState instance or None, default=None
        Seeds the encoder's weights where there is no meta-init.
    **encoder__params
        Arguments of the encoder's constructor, each written
        ``encoder__name=value``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    prototypes_ : ndarray of shape (n_classes, n_features_out)
        Mean support features of each class.
    meta_init_ : MetaInit
        The initialization that `fit` adapted from.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    RidgeHeadClassifier : Solves for a linear classifier in place of the means.
    MAMLClassifier : Adapts the whole network by gradient descent.

    References
    ----------
    .. [1] J. Snell, K. Swersky and R. Zemel, "Prototypical networks for few-shot
       learning", NeurIPS 2017.

    Examples
    --------
    >>> from fewshot_sklearn import ProtoNetClassifier
    >>> clf = ProtoNetClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.prototypes_
    array([[0. , 0.5],
           [4. , 4. ]])
    """

    _learner_class = ProtoNet
    _defaults = {"metric": "euclidean"}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        metric: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.metric = metric
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def prototypes_(self) -> np.ndarray:
        check_is_fitted(self)
        return self.state_["prototypes"]

    @property
    def _n_features_out(self) -> int:
        return self.prototypes_.shape[1]

    def transform(self, X: Any) -> np.ndarray:
        """Embed rows with the encoder.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            Their features, in which `prototypes_` are means; of length one for
            the cosine metric.
        """
        learner, rows = self._fitted_learner_and_rows(X)
        with torch.no_grad():
            return learner._features(learner.embed(rows)).cpu().numpy()
