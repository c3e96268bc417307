"""LaplacianShot: nearest class means, where rows that lie together are answered alike.

I. M. Ziko, J. Dolz, E. Granger and I. Ben Ayed. Laplacian regularized few-shot learning.
ICML 2020.

J. Liu, L. Song and Y. Qin. Prototype rectification for few-shot learning. ECCV 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import with_shared_texts
from ..learners import (
    KEPT_W,
    KEPT_Y,
    ROWS,
    PretrainedTransductiveLearner,
    State,
    class_means,
    present_classes,
)
from ..tasks import Flag, Number, Whole, shares
from ._neighbours import nearest, squared_distances
from ._transductive import TransductiveClassifier

#: How sharply cosines tell which class a row rectifies.
SHARPNESS = 10.0
#: Tables of all pairs of rows that are held at once.
OF_PAIRS = 6


class LaplacianShot(PretrainedTransductiveLearner):
    """predict: answers y_q that are near their class means and like those of their neighbours.

    Each step minimises a bound of sum y_q a_q + smoothness / 2 sum w(q, p) |y_q - y_p|^2.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_neighbors: int = 2,
        smoothness: float = 0.7,
        rectify: bool = True,
        n_steps: int = 20,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        self.n_neighbors, self.smoothness = n_neighbors, smoothness
        self.rectify, self.n_steps = rectify, n_steps

    def numbers_to_answer(self, n_support: int, n_rows: int, n_way: int) -> int:
        return super().numbers_to_answer(n_support, n_rows, n_way) + OF_PAIRS * n_rows**2

    def answer_together(self, state: State, Z: Tensor, asked: Tensor) -> Tensor:
        present = present_classes(state[KEPT_Y], state[KEPT_W])[..., None, :]
        support, Z = (F.normalize(rows - self.centre, dim=-1) for rows in (state[ROWS], Z))
        means = class_means(state, support)
        if self.rectify:
            means = self._rectified(means, support, Z, state, asked, present)
        near = self._neighbours(Z, asked)
        closeness = (-squared_distances(Z, means)).masked_fill(~present, -torch.inf)
        logits = closeness
        for _ in range(self.n_steps):
            logits = closeness + self.smoothness * (near @ logits.softmax(-1))
        return logits

    def _neighbours(self, Z: Tensor, asked: Tensor) -> Tensor:
        """One (..., n, n) where a row is among the nearest of another."""
        others = 1 - torch.eye(Z.shape[-2], dtype=Z.dtype, device=Z.device)
        mass = others * asked[..., None, :]
        return nearest(squared_distances(Z, Z), mass, self.n_neighbors).to(Z.dtype)

    def _rectified(
        self,
        means: Tensor,
        support: Tensor,
        Z: Tensor,
        state: State,
        asked: Tensor,
        present: Tensor,
    ) -> Tensor:
        """Class means of all rows (Liu 2020): each counts for the class that it is nearest to."""
        w = state[KEPT_W]
        shift = (shares(w)[..., None, :] @ support) - (shares(asked)[..., None, :] @ Z)
        rows, mass = torch.cat([support, Z + shift], -2), torch.cat([w, asked], -1)
        cosines = F.normalize(rows, dim=-1) @ F.normalize(means, dim=-1).mT
        weights = (SHARPNESS * cosines).masked_fill(~present, -torch.inf).softmax(-1)
        first = F.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights.dtype)
        counted = mass[..., None] * first * weights
        total = counted.sum(-2)[..., None]
        found = (counted.mT @ rows) / total.clamp_min(torch.finfo(Z.dtype).tiny)
        return torch.where(total > 0, found, means)


@with_shared_texts()
class TransductiveLaplacianShotClassifier(TransductiveClassifier):
    """LaplacianShot: nearest class means, and neighbours answered alike.

    **Transductive**: all rows of a call of `predict` are answered together, and the answer to
    one depends on the others. Features are centred on the mean feature of the past and brought
    to length one. With a_q the squared distances of row q to the class means, and w(q, p) one
    where p is among the nearest rows of q that are asked about, answers y_q start at softmax(-a_q)
    and are, step by step [1]_::

        y_q = softmax(-a_q + smoothness * sum_p w(q, p) y_p)

    each of which lowers an upper bound of the loss. With `rectify` the class means are, before,
    those of all rows: shifted by the difference of the mean of the support and that of the
    queries, each row counts for the class that it is nearest to, by how sure that is [2]_.

    Meta-training trains the encoder under a linear classifier of all past classes, as in the
    paper. A meta-init of prototypical networks has no mean feature to subtract. Probabilities
    are far from sure: those of the paper's y, which have no temperature. Rectified means are
    weighted means, where the paper's code divides by numbers of rows: means that are shorter the
    less sure their rows are attract all others by their distances. Rows as far as the
    farthest neighbour all are neighbours, so that answers do not depend on the order of rows.

    Parameters
    ----------
    {meta_init}
        One of `ProtoNetClassifier` or `NearestClassMeanClassifier` will do, too: its
        encoder is taken.
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_neighbors : int or None, default=None
        Nearest rows that each one is answered like, beside itself. None takes the meta-init's,
        or 2, as the paper's code has it.
    smoothness : float or None, default=None
        How much they count (lambda). None takes the meta-init's, or 0.7.
    rectify : bool or None, default=None
        Whether class means are those of all rows. None takes the meta-init's, or True.
    n_steps : int or None, default=None
        Steps. None takes the meta-init's, or 20.
    {device}
    {dtype}
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
    TransductivePropagationClassifier : Labels that spread on a graph of all rows.
    NearestClassMeanClassifier : Each row by itself.

    References
    ----------
    .. [1] I. M. Ziko, J. Dolz, E. Granger and I. Ben Ayed, "Laplacian regularized few-shot
       learning", ICML 2020.
    .. [2] J. Liu, L. Song and Y. Qin, "Prototype rectification for few-shot learning", ECCV
       2020.

    Examples
    --------
    >>> from fewshot_sklearn import TransductiveLaplacianShotClassifier
    >>> clf = TransductiveLaplacianShotClassifier(rectify=False).fit([[1, 0], [0, 1]], ["a", "b"])
    >>> clf.predict([[5, 4], [5, 5.5], [4, 5.5], [1, 2]])
    array(['b', 'b', 'b', 'b'], dtype='<U1')
    >>> clf.predict([[5, 4]])  # by itself
    array(['a'], dtype='<U1')
    """

    _learner_class = LaplacianShot
    _defaults = {"n_neighbors": 2, "smoothness": 0.7, "rectify": True, "n_steps": 20}
    _constraints = {
        "n_neighbors": Whole(1) | None,
        "smoothness": Number(low=0) | None,
        "rectify": Flag() | None,
        "n_steps": Whole(1) | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_neighbors: int | None = None,
        smoothness: float | None = None,
        rectify: bool | None = None,
        n_steps: int | None = None,
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
        self.n_neighbors = n_neighbors
        self.smoothness = smoothness
        self.rectify = rectify
        self.n_steps = n_steps
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
