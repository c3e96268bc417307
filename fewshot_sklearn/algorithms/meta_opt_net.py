"""MetaOptNet: a linear support vector machine on learned features, learned through.

K. Lee, S. Maji, A. Ravichandran and S. Soatto. Meta-learning with
differentiable convex optimization. CVPR 2019.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import OF_PAIRS, KeepsFeatures, State, present_classes
from ..tasks import Positive, Whole
from ._crammer_singer import crammer_singer

#: Of the scores, to start from.
SCALE = 10.0
#: Tables of rows and classes that the steps hold at once.
OF_LABELS = 10


class MetaOptNet(KeepsFeatures):
    """adapt: weights of a multi-class support vector machine (eq. 7, by its dual, eq. 9).

    predict: its scores times a learned scale (eq. 12). Always solved in float64.
    """

    further_rows_told = (
        "`partial_fit` adds the features of further rows to those that the estimator knows, and "
        "solves anew. Without a meta-init all rows, which the estimator keeps, are adapted to anew."
    )
    centres_inputs_without_past = True
    features_in = "rows"

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        C: float = 0.1,
        n_steps: int = 200,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not C > 0:
            raise ValueError(f"C must be positive, got {C!r}.")
        if not (isinstance(n_steps, int | np.integer) and n_steps >= 1):
            raise ValueError(f"n_steps must be an int, at least 1, got {n_steps!r}.")
        self.C, self.n_steps = float(C), int(n_steps)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        phi = Z.double()
        a = crammer_singer(phi, y.double(), self.C * w.double(), self.n_steps)
        return {"coef": phi.mT @ a, "present": present_classes(y, w)}

    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return super().statistics(Z, y, w) | {"rows": Z}

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        pairs = OF_PAIRS * min(n_rows, self.n_features) ** 2
        return super().numbers_to_adapt(n_rows, n_labels) + OF_LABELS * n_rows * n_labels + pairs

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        scores = (Z.double() @ state["coef"]).to(Z.dtype)
        logits = self.log_scale.exp() * scores
        return logits.masked_fill(~state["present"][..., None, :], -torch.inf)


@with_shared_texts()
class MetaOptNetClassifier(FewShotClassifier):
    """MetaOptNet: a linear support vector machine on meta-learned features.

    `fit` minimises ``sum(W^2) / 2 + C sum_i (max_k (w_k z_i + 1 - [k = y_i]) - w_{y_i} z_i)``
    over the weights W of the classes (Crammer and Singer's machine [2]_, eq. 7 of [1]_). Class
    probabilities are the softmax of the scores w_k z times a scale (eq. 12). Encoder and
    scale were learned on past tasks by differentiating through the solution, whose
    derivatives the conditions of optimality give (section 3.2).

    Without a meta-init it is scikit-learn's
    ``LinearSVC(multi_class="crammer_singer", fit_intercept=False)`` on centred rows.

    Two things differ from the paper. The dual is solved by accelerated projected gradients,
    not by an interior-point method, as those of all tasks of a batch are then products of
    small matrices. And 1 is not added to the diagonal of its matrix, which the authors' code
    does and the paper does not say. Of class probabilities as labels, [k = y_i] is the
    probability.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    C : float or None, default=None
        What a row's loss counts beside half the squares of W. None takes the meta-init's, or 0.1
        without one, as in the paper.
    n_steps : int or None, default=None
        Steps of the solver. None takes the meta-init's, or 200 without one, which end within
        0.1 % of the solution for up to a hundred rows of unit scale. More rows, a larger C or
        larger features want more.
    {device}
    {dtype}
        The machine itself is always solved in float64.
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    coef_ : ndarray of shape (n_classes, n_features_out)
        Weights on the encoder's features.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    R2D2Classifier : Ridge regression in place of the machine.
    sklearn.svm.LinearSVC : The machine on rows as they are.

    References
    ----------
    .. [1] K. Lee, S. Maji, A. Ravichandran and S. Soatto, "Meta-learning with differentiable
       convex optimization", CVPR 2019.
    .. [2] K. Crammer and Y. Singer, "On the algorithmic implementation of multiclass
       kernel-based vector machines", JMLR 2, 2001.

    Examples
    --------
    >>> from fewshot_sklearn import MetaOptNetClassifier
    >>> clf = MetaOptNetClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = MetaOptNet
    _defaults = {"C": 0.1, "n_steps": 200}
    _constraints = {"C": Positive() | None, "n_steps": Whole(1) | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        C: float | None = None,
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
        self.C = C
        self.n_steps = n_steps
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    @property
    def coef_(self) -> np.ndarray:
        return self._state("coef").T
