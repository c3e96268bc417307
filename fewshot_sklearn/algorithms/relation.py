"""Relation networks: a learned comparison of rows with classes.

F. Sung, Y. Yang, L. Zhang, T. Xiang, P. Torr and T. Hospedales. Learning to
compare: relation network for few-shot learning. CVPR 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import Outputs, RunningMeans, State, present_classes
from ..tasks import IGNORED_CODE, Whole, memberships

#: Untrained, a row relates to a class by sigmoid(OFFSET - SLOPE * mean |difference|), which for
#: features of about unit scale, however many, is flat neither at zero nor at one.
OFFSET, SLOPE = 3.0, 12.0


class RelationNet(RunningMeans):
    """adapt: class means of the features. predict: log of the relation scores (eq. 1).

    The network starts from the L1 distance. Without a past, and unless its size is told, that is
    what it is: a layer that says so has as many weights as features squared.
    """

    means = "means"
    learned_only = ("hidden", "out")
    hidden: nn.Linear | None
    out: nn.Linear | None

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        relation_hidden: int | None = None,
        past: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        d = self.n_features
        if relation_hidden is None and not past:
            self.hidden = self.out = None
            return
        width = 2 * d if relation_hidden is None else relation_hidden
        if not (isinstance(width, int | np.integer) and width >= 1):
            raise ValueError(f"relation_hidden must be None or an int, at least 1, got {width!r}.")
        self.hidden, self.out = nn.Linear(2 * d, width), nn.Linear(width, 1)
        # relu(t) + relu(-t) = |t|: along each feature, or where those are too many or too few
        # for the units, along random directions of length one
        pairs = (width + 1) // 2
        along = torch.eye(d) if pairs == d else F.normalize(torch.randn(pairs, d), dim=-1)
        weight = torch.cat([torch.cat([along, -along], 1), torch.cat([-along, along], 1)])
        with torch.no_grad():
            # both layers at scales that steps of one size suit
            self.hidden.weight.copy_(SLOPE * pairs**-0.5 * weight[:width])
            self.hidden.bias.zero_()
            self.out.weight.fill_(-(pairs**-0.5))
            self.out.bias.fill_(OFFSET)

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass = w[..., None] * y
        total = mass.sum(-2).clamp_min(torch.finfo(Z.dtype).tiny)
        means = (mass.mT @ Z) / total[..., None]
        return {"means": means, "present": present_classes(y, w)}

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        log_relations = F.logsigmoid(self._related(Z, state["means"]))
        return log_relations.masked_fill(~state["present"][..., None, :], -torch.inf)

    def _related(self, Z: Tensor, means: Tensor) -> Tensor:
        """Logits of the relation scores (..., n, n_way)."""
        if self.hidden is None or self.out is None:
            return OFFSET - SLOPE / self.n_features * torch.cdist(Z, means, p=1.0)
        # the first layer of a concatenation is a sum of layers of its parts
        of_class, of_row = self.hidden.weight.chunk(2, -1)
        by_class = means @ of_class.mT + self.hidden.bias
        hidden = F.relu(by_class[..., None, :, :] + (Z @ of_row.mT)[..., :, None, :])
        return self.out(hidden)[..., 0]

    def loss(self, outputs: Outputs, y_query: Tensor) -> Tensor:
        """Squared error of the relation scores to one for a row's own class, else zero (eq. 2)."""
        assert isinstance(outputs, Tensor)
        asked = (y_query != IGNORED_CODE)[..., None] & (outputs > -torch.inf)
        error = outputs.exp() - memberships(y_query, outputs.shape[-1], outputs.dtype)
        losses = torch.where(asked, error.square(), 0.0)
        return (losses.sum((1, 2)) / asked.sum((1, 2)).clamp_min(1)).mean()


@with_shared_texts()
class RelationNetClassifier(FewShotClassifier):
    """Relation network: a small network learns how alike a row and a class are.

    `fit` averages the features f(x_i) of the support rows by class. The relation
    score of a row and a class is r = g(C(f_class, f(x))), in (0, 1), where C
    concatenates and g is a network of two layers (eq. 1 of [1]_). Encoder and g
    were learned on past tasks by the squared error of r to one for a row's own
    class and zero for others (eq. 2). Class probabilities are proportional
    to r. Nothing is trained at `fit`. Without a meta-init g is a decreasing
    function of the L1 distance, which a layer of ReLUs can represent, so that the
    class with the nearest mean wins.

    Two things differ from the paper. A class is the weighted mean of its rows, not
    their sum, since weights are relative and the number of rows is free. And g is
    a multilayer perceptron on features, not convolutions on maps of them,
    because encoders here return features.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    relation_hidden : int or None, default=None
        Hidden units of g. None takes the meta-init's; without one, twice the
        number of features, and g starts from the L1 distance. With any other
        number, from that along random directions.
    {device}
    {dtype}
    {random_state}
        Those of g, too, if they are random.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : Compares with class means by a fixed distance.
    SiameseClassifier : Compares with single rows.

    References
    ----------
    .. [1] F. Sung, Y. Yang, L. Zhang, T. Xiang, P. Torr and T. Hospedales, "Learning
       to compare: relation network for few-shot learning", CVPR 2018.

    Examples
    --------
    >>> from fewshot_sklearn import RelationNetClassifier
    >>> clf = RelationNetClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = RelationNet
    _defaults = {"relation_hidden": None}
    _constraints = {"relation_hidden": Whole(1) | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        relation_hidden: int | None = None,
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
        self.relation_hidden = relation_hidden
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _learner_params(self, trained: dict[str, Any] | None) -> dict[str, Any]:
        return super()._learner_params(trained) | {"past": trained is not None}
