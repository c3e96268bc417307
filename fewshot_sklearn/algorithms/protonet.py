"""Prototypical networks: the nearest class mean among learned features.

J. Snell, K. Swersky and R. Zemel. Prototypical networks for few-shot learning.
NeurIPS 2017.

M. Ren et al. Meta-learning for semi-supervised few-shot classification. ICLR
2018 (rows without a label).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import Refinement, RunningMeans, State, of_known, present_classes
from ..tasks import Anything, OneOf, Whole, is_labelled
from ._class_means import SHARPENING, closeness, first_log_scale
from ._known_prototypes import KnownPrototypes


class ProtoNet(RunningMeans):
    """adapt: class means of the features (eq. 1). predict: minus the scaled distance (eq. 2).

    Known classes, those of all past tasks, have a prototype before any row is seen
    (`KnownPrototypes`).
    """

    further_rows_told = (
        f"{RunningMeans.further_rows_told} Only with unlabelled rows or altered copies all are "
        "adapted to anew."
    )
    means = "prototypes"
    knows_classes = True
    #: Places, which are to follow the features while an encoder is trained.
    faster = {"known.prototypes": 10.0, "known.log_counts": 10.0, "known.log_scale": 10.0}

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        metric: str = "euclidean",
        refinement: str = "soft",
        n_refinements: int = 1,
        unlabelled: bool = False,
        n_known: int = 0,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        self.refinement = Refinement(refinement, n_refinements)
        self.unlabelled = unlabelled
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric must be 'euclidean' or 'cosine', got {metric!r}.")
        self.metric = metric
        # Snell's squared distances are taken as they are, of few features
        usual = first_log_scale(encoder, self.n_features)
        start = math.log(SHARPENING) if metric == "cosine" else usual
        self.log_scale = nn.Parameter(torch.tensor(start))
        self.known = None
        if n_known:
            self.known = KnownPrototypes(self.n_features, n_known, start)

    @property
    def takes_in(self) -> bool:
        return not self.unlabelled  # whose share of each class depends on all rows

    def averaged(self, Z: Tensor) -> Tensor:
        return F.normalize(Z, dim=-1) if self.metric == "cosine" else Z

    # ------------------------------------------------------------------ known classes
    def begin_known_classes(self, X: Tensor, codes: Tensor) -> None:
        assert self.known is not None
        with torch.no_grad():
            Z = self.averaged(self.embed(X))
        self.known.begin(Z, codes.to(Z.device))

    def learn_known_classes(
        self,
        X: Tensor,
        codes: Tensor,
        tasks: np.ndarray,
        episodes: Iterable[tuple[dict[str, Tensor], Tensor]],
    ) -> bool:
        """Learn their prototypes from all past rows, and how much these count from episodes."""
        assert self.known is not None
        with torch.no_grad():
            Z = self.averaged(self.embed(X))
            batches = []
            for batch, y_query in episodes:
                parts = (
                    self.averaged(self.embed(batch[name].flatten(0, 1))).unflatten(
                        0, batch[name].shape[:2]
                    )
                    for name in ("X", "X_query")
                )
                known, asked = parts
                batches.append((known, batch["y"], batch["w"], asked, y_query))
        codes = codes.to(Z.device)
        return self.known.learn(Z, codes, tasks, batches, self._closeness)

    def learned_of_known(self) -> list[nn.Parameter]:
        return [] if self.known is None else list(self.known.parameters())

    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        if self.known is not None:
            y = of_known(y, self.known.n_classes)
        return super().statistics(Z, y, w)

    def take_in_features(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        if self.known is None:
            return super().take_in_features(state, Z, y, w, index)
        return self.known.take_in(state, self.averaged(Z), y, w)

    def leave_out(self, state: State, kept: Tensor) -> State | None:
        return None if self.known is not None else super().leave_out(state, kept)

    # ------------------------------------------------------------------ the two functions
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        if self.known is not None:
            return self.known.adapt(self.averaged(Z), y, w)
        mass = w[..., None] * y
        total = mass.sum(-2).clamp_min(torch.finfo(Z.dtype).tiny)
        features = self.averaged(Z)
        prototypes = (mass.mT @ features) / total[..., None]
        present = present_classes(y, w)
        if self.unlabelled:
            prototypes = self.refinement(
                prototypes, features, y, w, lambda p, rows: self._logits(p, rows, present)
            )
        return {"prototypes": prototypes, "present": present}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        if self.known is not None:
            return self.known.logits(state, self.averaged(Z), self._closeness)
        return self._logits(state["prototypes"], self.averaged(Z), state["present"])

    def _logits(self, prototypes: Tensor, Z: Tensor, present: Tensor) -> Tensor:
        closeness = self._closeness(prototypes, Z, self.log_scale)
        return closeness.masked_fill(~present[..., None, :], -torch.inf)

    def _closeness(self, prototypes: Tensor, Z: Tensor, log_scale: Tensor) -> Tensor:
        """Logits, but for what all classes have in common."""
        if self.metric == "cosine":
            return log_scale.exp() * (Z @ F.normalize(prototypes, dim=-1).mT)
        return log_scale.exp() * closeness(prototypes, Z)


@with_shared_texts()
class ProtoNetClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FewShotClassifier):
    """Prototypical network: each class is the mean of its support rows' features.

    `fit` embeds the support rows with the meta-trained encoder and averages
    them by class, p_k = mean f(x_i) (eq. 1 of [1]_); a row's class
    probabilities are the softmax of minus its scaled distances to the
    prototypes (eq. 2). Nothing is trained at `fit`. Without a meta-init this is
    the nearest-centroid classifier.

    Where the classes of past tasks recur (``MetaTrainer(classes=...)``), each has a
    prototype before any row is seen: a mean is taken of it, as so many rows, and of the
    rows at hand. Prototypes and these numbers, one a feature, are learned, and so is how
    often each class occurs. Not with `unlabelled` rows.

    Rows whose class is not known can take part: say by `unlabelled` how they
    are marked in y, and they refine the prototypes in soft k-means steps [2]_.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    metric : {"euclidean", "cosine"} or None, default=None
        Squared Euclidean distance or cosine similarity, times a learned scale.
        None takes the meta-init's, or ``"euclidean"`` without one.
    unlabelled : label or None, default=None
        The value of y, such as -1, that marks a row without a label. None: all
        values are labels.
    refinement : {"soft", "distractors", "masked"} or None, default=None
        How unlabelled rows count: by their probability of each class; the same,
        beside a cluster for rows of no class; or faded out with the distance.
        The last two are learned, from episodes with ``n_unlabelled`` rows (see
        `MetaTrainer`). None takes the meta-init's, or ``"soft"`` without one.
    n_refinements : int or None, default=None
        Steps of soft k-means. None takes the meta-init's, or 1.
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
    prototypes_ : ndarray of shape (n_classes, n_features_out)
        Mean support features of each class.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    RidgeHeadClassifier : Solves for a linear classifier in place of the means.
    MAMLClassifier : Adapts the whole network by gradient descent.

    References
    ----------
    .. [1] J. Snell, K. Swersky and R. Zemel, "Prototypical networks for few-shot
       learning", NeurIPS 2017.
    .. [2] M. Ren, E. Triantafillou, S. Ravi et al., "Meta-learning for
       semi-supervised few-shot classification", ICLR 2018.

    Examples
    --------
    >>> from fewshot_sklearn import ProtoNetClassifier
    >>> clf = ProtoNetClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.prototypes_
    array([[0. , 0.5],
           [4. , 4. ]])

    With rows whose class is not known:

    >>> X, y = [[0.], [1.], [4.], [4.2], [3.8]], [0, 1, -1, -1, -1]
    >>> ProtoNetClassifier(unlabelled=-1).fit(X, y).prototypes_.round(2)
    array([[0.01],
           [3.25]])
    """

    _learner_class = ProtoNet
    _defaults = {"metric": "euclidean", "refinement": "soft", "n_refinements": 1}
    _constraints = {
        "metric": OneOf("euclidean", "cosine") | None,
        "unlabelled": Anything(),
        "refinement": OneOf("soft", "distractors", "masked") | None,
        "n_refinements": Whole(1) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        metric: str | None = None,
        unlabelled: Any = None,
        refinement: str | None = None,
        n_refinements: int | None = None,
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
        self.metric = metric
        self.unlabelled = unlabelled
        self.refinement = refinement
        self.n_refinements = n_refinements
        self.n_augment = n_augment
        self.augment = augment
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"unlabelled": self.unlabelled is not None}

    def _takes_known_classes(self) -> bool:
        return self.unlabelled is None  # whose rows move the prototypes alone

    def _classes_and_members(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.unlabelled is None:
            return super()._classes_and_members(y)
        known = is_labelled(y, self.unlabelled)
        if not known.any():
            raise ValueError(f"All rows are unlabelled: y holds nothing but {self.unlabelled!r}.")
        classes, members = super()._classes_and_members(y[known])
        everyone = np.zeros((len(y), len(classes)))
        everyone[known] = members
        return classes, everyone

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
            return learner.averaged(learner.embed(rows)).cpu().numpy()
