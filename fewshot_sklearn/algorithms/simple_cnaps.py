"""Simple CNAPS: class means under a Mahalanobis distance of each class.

P. Bateni, R. Goyal, V. Masrani, F. Wood and L. Sigal. Improved few-shot visual
classification. CVPR 2020.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import OF_PAIRS, KeepsFeatures, State, cholesky, present_classes
from ..tasks import Positive
from ._spanned import along_and_across, basis_of, raised


class SimpleCNAPS(KeepsFeatures):
    """adapt: class means and regularised covariances Q_k (eq. 2-4). predict: minus the distance.

    Of fewer rows than features they are computed along the directions that rows span: across
    them, all classes are alike. Always in float64.
    """

    scales_inputs_without_past = True
    features_in = "rows"

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
        self.log_beta = nn.Parameter(torch.tensor(math.log(beta)))

    def _few(self, n_rows: int) -> bool:
        """Whether rows span less than all directions; a basis of them has no sure derivative."""
        return not self.training and n_rows < self.n_features

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        Z, mass, total = Z.double(), (w[..., None] * y).mT.double(), _positive(w.double().sum(-1))
        centre = (w.double()[..., None, :] @ Z) / total[..., None, None]
        rows = Z - centre
        state = {"centre": centre[..., 0, :]}
        if self._few(Z.shape[-2]):
            basis = basis_of(rows, w)
            rows, state = rows @ basis, state | {"basis": basis}
        means = (mass @ rows) / _positive(mass.sum(-1))[..., None]
        Q = self.covariances(rows, means, mass)
        unit = torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device).expand(Q.shape)
        # |root^-1 (z - m)|^2: the factor once inverted, a row is a product
        inverse = torch.linalg.solve_triangular(cholesky(raised(Q)), unit, upper=False)
        present = present_classes(y, w)
        return {**state, "means": means, "inverse": inverse, "present": present}

    def covariances(self, rows: Tensor, means: Tensor, mass: Tensor) -> Tensor:
        """Q_k (..., n_way, d, d) of rows about zero, of what they count for each class."""
        seen = mass.sum(-1)
        weights = mass.sum(-2)
        of_task = _squares(rows, weights) / (weights.sum(-1) - 1).clamp_min(1.0)[..., None, None]
        parts = [
            _squares(rows - means[..., k, None, :], mass[..., k, :]) for k in range(mass.shape[-2])
        ]
        of_class = torch.stack(parts, -3) / (seen - 1).clamp_min(1.0)[..., None, None]
        share = (seen / (seen + 1))[..., None, None]
        unit = torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)
        return (
            share * of_class
            + (1 - share) * of_task[..., None, :, :]
            + self.log_beta.double().exp() * unit
        )

    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return super().statistics(Z, y, w) | {"rows": Z}

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        n = min(n_rows, self.n_features)
        tables = OF_PAIRS * n_labels * n**2 + 3 * n_rows * n
        return super().numbers_to_adapt(n_rows, n_labels) + tables

    def numbers_a_row(self, state: State) -> int:
        return 2 * state["means"].numel() + self._width()

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        rows, across = Z.double() - state["centre"][..., None, :], None
        if "basis" in state:
            rows, across = along_and_across(rows, state["basis"])
        # (..., n_way, n, d)
        apart = rows[..., None, :, :] - state["means"][..., :, None, :]
        distance = 0.5 * (apart @ state["inverse"].mT).square().sum(-1).mT
        if across is not None:
            distance = distance + 0.5 * across[..., None] / self.log_beta.double().exp()
        return -distance.to(Z.dtype).masked_fill(~state["present"][..., None, :], torch.inf)


def _positive(total: Tensor) -> Tensor:
    return total.clamp_min(torch.finfo(total.dtype).tiny)


def _squares(rows: Tensor, w: Tensor) -> Tensor:
    return (w[..., None] * rows).mT @ rows


@with_shared_texts()
class SimpleCNAPSClassifier(FewShotClassifier):
    """Simple CNAPS: nearest class means by Mahalanobis distances that each class has its own of.

    `fit` takes of each class the mean m_k and the covariance S_k of its support rows'
    features, and the covariance S of all rows. A row's class probabilities are the softmax
    of minus (z - m_k)' Q_k^-1 (z - m_k) / 2 (eq. 2 of [1]_), where
    Q_k = l_k S_k + (1 - l_k) S + beta I with l_k = n_k / (n_k + 1) (eq. 3): the more rows a
    class has, the more its own spread counts. Encoder and beta were learned on past tasks.
    Nothing is trained at `fit`. Without a meta-init features are rows in units of their
    standard deviation.

    Of fewer rows than features `fit` takes no table of all pairs of features; each step of
    meta-training does, for every class of its tasks.

    Left out is what CNAPS has beside: a network that changes the encoder's layers for
    each task, which the paper trains above a large encoder that is trained before. Here
    the encoder is trained by the episodes themselves, and beta, which the paper leaves at
    1, with it, as the size of features is learned, too. Of weighted rows n_k is the sum of the
    weights.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    beta : float or None, default=None
        What is added to the diagonals of all Q_k, in squared units of the features, to start
        training from; a meta-init carries its learned one. None is 1.0, as in the paper.
    {device}
    {dtype}
        Covariances and distances are always computed in float64.
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
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
