"""Matching networks: a softmax over the support rows, by cosine similarity.

O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu and D. Wierstra. Matching
networks for one shot learning. NeurIPS 2016.

S. Gidaris and N. Komodakis. Dynamic few-shot visual learning without forgetting.
CVPR 2018 (the learned scale of cosines).
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
from ..learners import (
    KeepsFeatures,
    LSTMCell,
    State,
    in_order,
    log_sums_by_class,
    masked_softmax,
    sums_by_own_class,
)
from ..tasks import Flag, Whole


class MatchingNet(KeepsFeatures):
    """adapt: embeds the support rows, in the context of each other if so asked (A.2).

    predict: sum_i a(x, x_i) y_i (eq. 1), a the softmax over rows of scaled cosines.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        full_context: bool = False,
        n_reads: int = 5,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not isinstance(full_context, bool | np.bool_):
            raise ValueError(f"full_context must be True or False, got {full_context!r}.")
        if not (isinstance(n_reads, int | np.integer) and n_reads >= 1):
            raise ValueError(f"n_reads must be an int, at least 1, got {n_reads!r}.")
        self.full_context, self.n_reads = full_context, n_reads
        # cosines end at one, so that a softmax of them as they are is nearly flat (Gidaris 2018)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        if full_context:
            d = self.n_features
            self.forwards, self.backwards = LSTMCell(d, d), LSTMCell(d, d)
            self.reader = LSTMCell(2 * d, d)
            # what the cells write starts at zero: an untrained context changes no feature
            for cell in (self.forwards, self.backwards, self.reader):
                with torch.no_grad():
                    cell.gates.weight[3 * d :] = 0.0

    further_rows_told = (
        "`partial_fit` adds the features of further rows, new classes among them, to those that "
        "the estimator knows, and `forget` takes some out. With full context, where the features "
        "of a row depend on all rows, those are read anew."
    )
    features_in = "rows"

    @property
    def takes_in(self) -> bool:
        return not self.full_context  # in which the features of a row depend on all rows

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass = w[..., None] * y
        if self.full_context:
            # the cells read no labels, so rows with the same features are one row, whatever theirs
            rows, _, weights = in_order(Z, torch.zeros_like(w)[..., None], w)
            mass = self.by_rows(lambda part: _same_rows(part, Z) @ mass, rows, w.numel())
            mass, w = mass * (weights > 0)[..., None], weights
            Z = self.in_context(rows, weights > 0)
        return {"rows": Z, "mass": mass, "weights": w}

    def in_context(self, Z: Tensor, real: Tensor) -> Tensor:
        """g(x_i, S) of appendix A.2, over rows in the order given; not real ones are skipped."""
        n = Z.shape[-2]
        hidden = torch.zeros_like(Z)
        for cell, order in ((self.forwards, range(n)), (self.backwards, reversed(range(n)))):
            state, read = cell.start(Z[..., 0, :]), {}
            for i in order:
                state = cell(Z[..., i, :], state, real[..., i])
                read[i] = state[0]
            hidden = hidden + torch.stack([read[i] for i in range(n)], -2)
        return hidden + Z

    def after_reading(self, state: State, Z: Tensor) -> Tensor:
        """f(x, S), attLSTM of appendix A.1: each query reads from the support on its own."""
        rows, (hidden, cell) = state["rows"], self.reader.start(Z)
        for _ in range(self.n_reads):
            h = hidden + Z  # eq. 4; before the first step nothing but f'(x)
            read = masked_softmax(h @ rows.mT, state["weights"]) @ rows  # eq. 5, 6
            hidden, cell = self.reader(torch.cat([Z, read], -1), (h, cell))  # eq. 3
        return hidden + Z

    def numbers_a_row(self, state: State) -> int:
        if not sums_by_own_class(state["mass"]):
            return super().numbers_a_row(state)
        rows, classes = state["mass"][..., 0], state["mass"][..., 0, :]
        return rows.numel() + classes.numel() + self._width()

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        if self.full_context:
            Z = self.after_reading(state, Z)
        cosines = F.normalize(Z, dim=-1) @ F.normalize(state["rows"], dim=-1).mT
        sums = log_sums_by_class(self.log_scale.exp() * cosines, state["mass"])
        return sums.log_softmax(-1)


def _same_rows(rows: Tensor, Z: Tensor) -> Tensor:
    """Ones where rows (..., m, d) stand for rows Z (..., n, d), as `in_order` has it."""
    size = Z.detach().abs().amax((-1, -2), keepdim=True)
    gap = torch.cdist(rows.detach(), Z.detach(), p=torch.inf)
    return (gap <= 8 * torch.finfo(Z.dtype).eps * size).to(Z.dtype)


@with_shared_texts()
class MatchingNetClassifier(FewShotClassifier):
    """Matching network: a nearest-neighbour vote, weighted by attention, in learned features.

    A row's class probabilities are P(y) = sum_i a(x, x_i) y_i (eq. 1 of [1]_),
    where the attention a is the softmax over the support rows of the cosine
    c(f(x), g(x_i)). Nothing is trained at `fit`. With ``full_context=True``
    the features of a support row depend on the other support rows, read by a
    bidirectional LSTM (appendix A.2), and those of a query on the support set, by
    an LSTM that attends to it (attLSTM, appendix A.1, eq. 3 to 6). Without a
    meta-init this is a nearest-neighbour smoother by cosine, full context or not.

    Three things differ from the paper. Cosines are multiplied by a learned scale,
    10 at first, as in [2]_: they end at one, so that their softmax over more than
    a few rows is nearly uniform. The LSTM reads the support rows, of which the
    paper leaves the order open, in an order that the rows determine, and rows
    with the same features once: else answers would hang on the order of rows, and
    on whether a row has weight two or is there twice. And f' and g' are
    one encoder, as in the paper's experiments.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    full_context : bool or None, default=None
        Whether rows are embedded in the context of the support set. None takes
        the meta-init's, or False without one.
    n_reads : int or None, default=None
        Processing steps K in which a query reads from the support set; only
        with full context. None takes the meta-init's, or 5 without one.
    {device}
    {dtype}
    {random_state}
        Those of the LSTMs, too.
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    ProtoNetClassifier : Compares with class means in place of single rows.
    SiameseClassifier : Learns from pairs whether two rows are of one class.

    References
    ----------
    .. [1] O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu and D. Wierstra,
       "Matching networks for one shot learning", NeurIPS 2016.
    .. [2] S. Gidaris and N. Komodakis, "Dynamic few-shot visual learning without
       forgetting", CVPR 2018.

    Examples
    --------
    >>> from fewshot_sklearn import MatchingNetClassifier
    >>> clf = MatchingNetClassifier().fit([[0., 1.], [1., 3.], [4., 1.]], ["a", "a", "b"])
    >>> clf.predict([[1., 5.], [3., 1.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = MatchingNet
    _defaults = {"full_context": False, "n_reads": 5}
    _constraints = {"full_context": Flag() | None, "n_reads": Whole(1) | None}

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        full_context: bool | None = None,
        n_reads: int | None = None,
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
        self.full_context = full_context
        self.n_reads = n_reads
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)
