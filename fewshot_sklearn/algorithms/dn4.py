"""DN4: how near the places of a row are to those of each class.

W. Li, L. Wang, J. Xu, J. Huo, Y. Gao and J. Luo. Revisiting local descriptor based
image-to-class measure for few-shot learning. CVPR 2019.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import KeepsFeatures, State
from ..tasks import Whole
from ._places import PLACES, OfPlaces

#: Cosines end at one: what they are multiplied by, to start from.
SCALE = 20.0
#: Tables of the places of a query and of the support that are held at once.
OF_PAIRS = 6


class DN4(OfPlaces, KeepsFeatures):
    """adapt: keeps the places of the support rows. predict: the mean of the nearest of each class.

    Of the k descriptors of a class that are nearest by cosine to one of the query (eq. 4-6).
    A row of weight two has each of its descriptors twice.
    """

    features_in = "rows"

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_neighbors: int = 3,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not (isinstance(n_neighbors, int | np.integer) and n_neighbors >= 1):
            raise ValueError(f"n_neighbors must be an int, at least 1, got {n_neighbors!r}.")
        self.n_neighbors = int(n_neighbors)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return {"rows": Z, "mass": w[..., None] * y}

    def numbers_a_row(self, state: State) -> int:
        return OF_PAIRS * self.n_places**2 * state["mass"][..., 0].numel() + self._width()

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        mass = state["mass"]
        near = F.normalize(self.places(state["rows"]), dim=-1).flatten(-3, -2)
        cosines = F.normalize(self.places(Z), dim=-1).flatten(-3, -2) @ near.mT
        cosines, order = cosines.sort(-1, descending=True)
        # of the descriptors in that order what there is left to take
        each = mass.repeat_interleave(self.n_places, -2)
        found = []
        for k in range(mass.shape[-1]):
            count = each[..., None, :, k].expand(cosines.shape).gather(-1, order)
            before = count.cumsum(-1) - count
            taken = torch.minimum(count, (self.n_neighbors - before).clamp_min(0.0))
            total = taken.sum(-1).clamp_min(torch.finfo(Z.dtype).tiny)
            found.append((taken * cosines).sum(-1) / total)
        # (..., n, n_places, n_way)
        likeness = torch.stack(found, -1).unflatten(-2, (-1, self.n_places)).mean(-2)
        logits = self.log_scale.exp() * likeness
        return logits.masked_fill(~(mass > 0).any(-2)[..., None, :], -torch.inf)


@with_shared_texts(places=PLACES)
class DN4Classifier(FewShotClassifier):
    """DN4: a vote of local descriptors for the class that has the nearest ones.

    The features of a row are a map: one descriptor for each place of a picture. `fit` keeps
    those of the support rows. A class is as near to a row as the k descriptors of it that
    are nearest to each of the row's, by cosine, are on average (eq. 4-6 of [1]_): from
    whichever rows and places these come. Class probabilities are the softmax of that times
    a learned scale. Encoder and scale were learned on past tasks. Nothing is trained at
    `fit`. Where rows are one place each, it is a nearest-neighbour classifier.

    It departs from [1]_ in that cosines are averaged, not added up, and that their scale is
    learned, so that classes may have any number of rows, less than k, too. A row of weight
    two has its descriptors twice.

    Parameters
    ----------
    {meta_init}
    {encoder}
        {places}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_neighbors : int or None, default=None
        The k nearest descriptors that count. None takes the meta-init's, or 3 without one,
        as in the paper.
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
    DeepEMDClassifier : Places are matched one by one.
    FRNClassifier : A row's places are put together from those of a class.

    References
    ----------
    .. [1] W. Li, L. Wang, J. Xu, J. Huo, Y. Gao and J. Luo, "Revisiting local descriptor based
       image-to-class measure for few-shot learning", CVPR 2019.

    Examples
    --------
    >>> from fewshot_sklearn import DN4Classifier
    >>> clf = DN4Classifier().fit([[0., 1.], [1., 3.], [4., 1.]], ["a", "a", "b"])
    >>> clf.predict([[1., 5.], [3., 1.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = DN4
    _defaults = {"n_neighbors": 3}
    _constraints = {"n_neighbors": Whole(1) | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        n_neighbors: int | None = None,
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
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
