"""Simple CNAPS: class means under a Mahalanobis distance of each class.

P. Bateni, R. Goyal, V. Masrani, F. Wood and L. Sigal. Improved few-shot visual
classification. CVPR 2020.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import OF_PAIRS, SEEN, State, TakesIn, by_class, cholesky, present_classes
from ..tasks import Positive

#: Sums of squares about the mean, of each class.
SQUARES = "squares"


class SimpleCNAPS(TakesIn):
    """adapt: class means and regularised covariances Q_k (eq. 2-4). predict: minus the distance.

    Always in float64, where few rows have covariances without an inverse but for what is added.
    """

    scales_inputs_without_past = True
    further_rows_told = (
        "`partial_fit` adds further rows, new classes among them, to means and sums of squares, "
        "and `forget` takes classes out: neither needs the rows that were there before. Without a "
        "meta-init all rows, which the estimator keeps, are adapted to anew."
    )

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        beta: float = 1.0,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not beta > 0:
            raise ValueError(f"beta must be positive, got {beta!r}.")
        self.beta = float(beta)

    def _counted(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """Of each class what its rows weigh, their mean, and their squares about it."""
        Z, mass = Z.double(), (w[..., None] * y).mT.double()
        seen = mass.sum(-1)
        means = (mass @ Z) / seen.clamp_min(torch.finfo(Z.dtype).tiny)[..., None]
        squares = [
            (mass[..., k, :, None] * (apart := Z - means[..., k, None, :])).mT @ apart
            for k in range(y.shape[-1])
        ]
        return {SEEN: seen, "means": means, SQUARES: torch.stack(squares, -3)}

    def _solved(self, sums: State, present: Tensor) -> State:
        """Covariances of the classes and of the task, mixed, as factors."""
        seen, means, squares = sums[SEEN], sums["means"], sums[SQUARES]
        tiny = torch.finfo(means.dtype).tiny
        total = seen.sum(-1)
        centre = (seen[..., None] * means).sum(-2) / total.clamp_min(tiny)[..., None]
        apart = means - centre[..., None, :]
        # of all rows: those about their class mean, and the class means about theirs
        every = squares.sum(-3) + (seen[..., None] * apart).mT @ apart
        of_task = every / (total - 1).clamp_min(1.0)[..., None, None]
        of_class = squares / (seen - 1).clamp_min(1.0)[..., None, None]
        share = (seen / (seen + 1))[..., None, None]
        unit = torch.eye(means.shape[-1], dtype=means.dtype, device=means.device)
        Q = share * of_class + (1 - share) * of_task[..., None, :, :] + self.beta * unit
        root = cholesky(_raised(Q))
        # |root^-1 (z - m)|^2: the factor once inverted, a row is a product
        inverse = torch.linalg.solve_triangular(root, unit.expand(root.shape), upper=False)
        return {"means": means, "inverse": inverse, "present": present}

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return self._solved(self._counted(Z, y, w), present_classes(y, w))

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        tables = OF_PAIRS * n_labels * self.n_features**2 + 3 * n_rows * self.n_features
        return super().numbers_to_adapt(n_rows, n_labels) + tables

    def numbers_a_row(self, state: State) -> int:
        return state["means"].numel() + self._width()

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        # (..., n_way, n, n_features)
        apart = Z.double()[..., None, :, :] - state["means"][..., :, None, :]
        distance = 0.5 * (apart @ state["inverse"].mT).square().sum(-1).mT
        return -distance.to(Z.dtype).masked_fill(~state["present"][..., None, :], torch.inf)

    # ------------------------------------------------------------------ further rows
    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        sums = self._counted(Z, y, w)
        return {SEEN: sums[SEEN], SQUARES: sums[SQUARES]}

    def take_in_features(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        if index is not None:
            state = self._at(state, index)
        new, tiny = self._counted(Z, y, w), torch.finfo(torch.float64).tiny
        seen = state[SEEN] + new[SEEN]
        share = (new[SEEN] / seen.clamp_min(tiny))[..., None]
        apart = new["means"] - state["means"]
        between = (state[SEEN][..., None] * share * apart)[..., None] * apart[..., None, :]
        sums = {
            SEEN: seen,
            "means": state["means"] + share * apart,
            SQUARES: state[SQUARES] + new[SQUARES] + between,
        }
        return sums | self._solved(sums, state["present"] | present_classes(y, w))

    def leave_out(self, state: State, kept: Tensor) -> State:
        sums = self._at(state, kept)
        return sums | self._solved(sums, sums["present"])

    def _at(self, state: State, index: Tensor) -> State:
        axes = {SEEN: -1, "present": -1, "means": -2, SQUARES: -3}
        return {name: by_class(state[name], index, axis) for name, axis in axes.items()}


def _raised(Q: Tensor) -> Tensor:
    """A covariance, with so much on its diagonal that rounding leaves it positive."""
    size = Q.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    unit = torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)
    return Q + 8 * torch.finfo(Q.dtype).eps * size * unit


@with_shared_texts()
class SimpleCNAPSClassifier(FewShotClassifier):
    """Simple CNAPS: nearest class means by Mahalanobis distances that each class has its own of.

    `fit` takes of each class the mean m_k and the covariance S_k of its support rows'
    features, and the covariance S of all rows. A row's class probabilities are the softmax
    of minus (z - m_k)' Q_k^-1 (z - m_k) / 2 (eq. 2 of [1]_), where
    Q_k = l_k S_k + (1 - l_k) S + beta I with l_k = n_k / (n_k + 1) (eq. 3): the more rows a
    class has, the more its own spread counts. The encoder was learned on past tasks.
    Nothing is trained at `fit`. Without a meta-init features are rows in units of their
    standard deviation.

    Left out is what CNAPS has beside: a network that changes the encoder's layers for
    each task, which the paper trains above a large encoder that is trained before. Here
    the encoder is trained by the episodes themselves. Of weighted rows n_k is the sum of the
    weights.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    beta : float or None, default=None
        What is added to the diagonals of all Q_k, in squared units of the features. None
        takes the meta-init's, or 1.0 without one, as in the paper.
    {device}
    {dtype}
        Covariances and distances are always computed in float64.
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    means_ : ndarray of shape (n_classes, n_features_out)
        Mean support features of each class.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : All classes spread alike, in all directions.
    GaussianProtoNetClassifier : Rows say themselves how far they reach.

    References
    ----------
    .. [1] P. Bateni, R. Goyal, V. Masrani, F. Wood and L. Sigal, "Improved few-shot visual
       classification", CVPR 2020.

    Examples
    --------
    >>> from fewshot_sklearn import SimpleCNAPSClassifier
    >>> clf = SimpleCNAPSClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = SimpleCNAPS
    _defaults = {"beta": 1.0}
    _constraints = {"beta": Positive() | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        beta: float | None = None,
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
        self.beta = beta
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def means_(self) -> np.ndarray:
        return self._state("means")
