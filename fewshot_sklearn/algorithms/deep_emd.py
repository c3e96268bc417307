"""DeepEMD: how much it takes to move the places of a row onto those of each class.

C. Zhang, Y. Cai, G. Lin and C. Shen. DeepEMD: few-shot image classification with
differentiable earth mover's distance and structured classifiers. CVPR 2020.

M. Cuturi. Sinkhorn distances: lightspeed computation of optimal transport. NeurIPS 2013.
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
from ..learners import RunningMeans, State, present_classes
from ..tasks import Number, Whole
from ._places import PLACES, OfPlaces

#: What similarities end at one are multiplied by, to start from: as in the paper.
SCALE = 12.5
#: What a place weighs at least, in units of the mean.
LEAST = 1e-3
#: Tables of the places of a query and of a class that are held at once.
OF_PAIRS = 8


class DeepEMD(OfPlaces, RunningMeans):
    """adapt: the mean map of each class. predict: scaled similarity of maps (eq. 4, 8).

    Places weigh what the other map's mean says of them (eq. 7).
    """

    means = "maps"

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        entropy: float = 0.05,
        n_steps: int = 100,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not entropy >= 0.01:
            raise ValueError(f"entropy must be at least 0.01, got {entropy!r}.")
        if not (isinstance(n_steps, int | np.integer) and n_steps >= 1):
            raise ValueError(f"n_steps must be an int, at least 1, got {n_steps!r}.")
        self.entropy, self.n_steps = float(entropy), int(n_steps)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass = (w[..., None] * y).mT
        total = mass.sum(-1, keepdim=True).clamp_min(torch.finfo(Z.dtype).tiny)
        return {"maps": (mass @ Z) / total, "present": present_classes(y, w)}

    def numbers_a_row(self, state: State) -> int:
        pairs = state["maps"][..., 0].numel() * self.n_places**2
        return OF_PAIRS * pairs + state["maps"].numel() + self._width()

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        # (..., n, 1, P, C) and (..., 1, n_way, P, C)
        U = self.places(Z)[..., :, None, :, :]
        V = self.places(state["maps"])[..., None, :, :, :]
        cosines = F.normalize(U, dim=-1) @ F.normalize(V, dim=-1).mT
        alike = matched(cosines, _weights(U, V), _weights(V, U), self.entropy, self.n_steps)
        logits = self.log_scale.exp() * alike.to(Z.dtype)
        return logits.masked_fill(~state["present"][..., None, :], -torch.inf)


def _weights(U: Tensor, V: Tensor) -> Tensor:
    """What places of U (..., P, C) weigh beside a map V: they sum to one (eq. 7)."""
    size = U.detach().abs().amax((-1, -2), keepdim=True)
    size = torch.where(size > 0, size, 1.0)
    likeness = F.relu(((U / size) * F.normalize(V.mean(-2, keepdim=True), dim=-1)).sum(-1))
    mean = likeness.mean(-1, keepdim=True)
    # where no place is like the other map all weigh the same
    raised = likeness + LEAST * torch.where(mean > 0, mean, 1.0)
    return raised / raised.sum(-1, keepdim=True)


def matched(cosines: Tensor, a: Tensor, b: Tensor, entropy: float, n_steps: int) -> Tensor:
    """max over x of sum(x * cosines) - entropy KL(x | a b'), of sums a of rows and b of columns.

    Parameters
    ----------
    cosines : Tensor of shape (..., P, P)
        Similarities, at most one.
    a, b : Tensor of shape (..., P)
        Weights, which sum to one.
    entropy : float
        The less, the nearer to the most similarity that a matching has.
    n_steps : int
        Sinkhorn's steps.

    Returns
    -------
    Tensor of shape (...)
        The value, in float64. Its derivatives are those of the solution, by its multipliers.
    """
    cosines, a, b = cosines.double(), a.double(), b.double()
    with torch.no_grad():
        K = ((cosines - 1) / entropy).exp()
        u, v = torch.ones_like(a + b), torch.ones_like(a + b)
        for _ in range(n_steps):
            u = 1 / (K @ (b * v)[..., None])[..., 0]
            v = 1 / (K.mT @ (a * u)[..., None])[..., 0]
        flow = (a * u)[..., :, None] * K * (b * v)[..., None, :]
        of_a, of_b = entropy * u.log(), entropy * v.log()
        value = 1 - (a * of_a).sum(-1) - (b * of_b).sum(-1)
    slopes = (flow * cosines).sum((-1, -2)) - (of_a * a).sum(-1) - (of_b * b).sum(-1)
    return value + (slopes - slopes.detach())


@with_shared_texts(places=PLACES)
class DeepEMDClassifier(FewShotClassifier):
    """DeepEMD: the earth mover's distance between the places of a row and of each class.

    The features of a row are a map: one descriptor for each place of a picture. `fit`
    averages the maps of each class. A row is as like a class as the best matching of their
    places makes them, by cosine (eq. 4 of [1]_), where a place weighs the more the more it
    is like the other map as a whole (eq. 7). Class probabilities are the softmax of that
    times a learned scale (eq. 8). Encoder and scale were learned on past tasks. Nothing is
    trained at `fit`. Where rows are one place each, it is the nearest class mean by cosine.

    Three things differ from the paper. The matching has an entropy, for which Sinkhorn's
    steps [2]_ solve all matchings of a batch at once, in place of a linear program each; its
    derivatives are exact. A class of several rows is their mean map: the paper trains it
    further at test time. And least weights count in units of the mean, so that the size of
    features does not matter.

    Parameters
    ----------
    {meta_init}
    {encoder}
        {places}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    entropy : float or None, default=None
        What the entropy of a matching counts beside cosines, at least 0.01: the less, the
        nearer to the earth mover's distance, and the more steps it takes. None takes the
        meta-init's, or 0.05 without one.
    n_steps : int or None, default=None
        Sinkhorn's steps. None takes the meta-init's, or 100 without one.
    {device}
    {dtype}
        Matchings are always computed in float64.
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
    DN4Classifier : The nearest places count, however often.
    FRNClassifier : A row's places are put together from those of a class.

    References
    ----------
    .. [1] C. Zhang, Y. Cai, G. Lin and C. Shen, "DeepEMD: few-shot image classification with
       differentiable earth mover's distance and structured classifiers", CVPR 2020.
    .. [2] M. Cuturi, "Sinkhorn distances: lightspeed computation of optimal transport",
       NeurIPS 2013.

    Examples
    --------
    >>> from fewshot_sklearn import DeepEMDClassifier
    >>> clf = DeepEMDClassifier().fit([[0., 1.], [1., 3.], [4., 1.]], ["a", "a", "b"])
    >>> clf.predict([[1., 5.], [3., 1.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = DeepEMD
    _defaults = {"entropy": 0.05, "n_steps": 100}
    _constraints = {"entropy": Number(0.01) | None, "n_steps": Whole(1) | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        entropy: float | None = None,
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
        self.entropy = entropy
        self.n_steps = n_steps
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
