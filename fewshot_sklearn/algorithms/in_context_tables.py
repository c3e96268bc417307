"""In-context learning for tables of any width: rows are read through their similarities.

N. Hollmann, S. Müller, K. Eggensperger and F. Hutter. TabPFN: a transformer
that solves small tabular classification problems in a second. ICLR 2023 (a
network trained on artificial tables only).

D. H. Wolpert. Stacked generalization. Neural Networks 5, 1992. L. Breiman.
Stacked regressions. Machine Learning 24, 1996 (models weighed by what they say
of rows that were left out).

A network that sees rows only through similarities, and what closed-form
classifiers make of them (`table_experts`), reads tables of any width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import LayerNorm, Shape
from ..learners import State, check_sizes, present_classes, rows_for
from ._table_experts import (
    EXPERTS_READ,
    N_EXPERTS,
    SIMILARITIES,
    STEERING,
    Experts,
    all_experts,
    centred,
    relevance,
)
from ._table_learner import SteeredLayer, TableLearner
from ._table_similarities import Kernels, TableScale

#: Tables of all pairs of rows that adapting holds at once; those that it takes to make an expert.
OF_PAIRS, OF_EXPERT = 14, 8
#: Tables of rows and classes for each expert, and for each number of a token beside those that its
#: layers read.
OF_LABELS, OF_TOKENS = 7, 16
#: Sharpnesses at which the experts are tried on the rows left out.
SHARPNESSES = (0.5, 1.0, 2.0, 4.0, 8.0)


class InContextTables(TableLearner):
    """adapt: experts on similarities, and tokens that say how well each does. predict: their pool.

    Each expert's scores are taken to one scale and added up with weights that a
    small network reads off how well the experts did on the support rows, each
    left out. A transformer over (row, class) tokens, made of the experts'
    scores, corrects the sum. All classes are read by the same network.
    """

    steering = STEERING

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        n_layers: int = 2,
        n_hidden: int = 32,
        n_heads: int = 4,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        check_sizes(n_hidden, n_heads, n_layers)
        self.n_hidden = n_hidden
        self.name = nn.Parameter(torch.randn(N_EXPERTS, n_hidden) * 0.1)
        self.record = nn.Linear(len(SHARPNESSES) + 1 + N_FACTS, n_hidden)
        self.summary = nn.Linear(n_hidden + N_FACTS, n_hidden)
        first, last = nn.Linear(2 * n_hidden, n_hidden), nn.Linear(n_hidden, 1)
        self.weigh = nn.Sequential(first, nn.GELU(), last)
        self.prior = nn.Linear(n_hidden, 1)
        self.token = nn.Linear(N_EXPERTS + 4, n_hidden)
        self.unknown = nn.Parameter(torch.randn(n_hidden) * 0.1)
        self.layers = nn.ModuleList(
            SteeredLayer(n_hidden, n_heads, len(STEERING)) for _ in range(n_layers)
        )
        self.answer_norm, self.answer = LayerNorm(n_hidden), nn.Linear(n_hidden, 1)
        for linear in (last, self.prior, self.answer):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    # ------------------------------------------------------------------ adapt
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return self._adapted(Z, y, w)[0]

    def _adapted(self, Z: Tensor, y: Tensor, w: Tensor) -> tuple[State, TableScale, Kernels]:
        with torch.no_grad():
            scale = TableScale(Z, w)
            kernels = _kernels(scale, Z, y, w)
            # duplicates and heavy weights bring single precision to its end; training has none
            dtype = Z.dtype if self.training else torch.float64
            pairs = y.shape[:-2].numel() * y.shape[-2] ** 2
            at_once = N_EXPERTS if self.training else rows_for(OF_EXPERT * pairs)
            exact = all_experts(kernels.among, y.to(dtype), w.to(dtype), at_once)
            experts = Experts(*(t.to(Z.dtype) for t in exact))
            present = present_classes(y, w)
            scores = centred(experts.left_out, present[..., None, None, :])
            size = w.sum(-1) * present.sum(-1)
            spread = (w[..., None, :, None] * scores.square()).sum((-1, -2)) / size[..., None]
            spread = spread.sqrt()
            spread = torch.where(spread > 1e-5, spread, 1.0)[..., None, None]
            scores = scores / spread
            counts = (w[..., None] * y).sum(-2)
            record, facts = track_record(scores, y, w, counts, scale)
            record = torch.cat([record, spread[..., 0].log()], -1)
        facts_of_each = facts[..., None, :].expand(*record.shape[:-1], -1)
        known = F.gelu(self.record(torch.cat([record, facts_of_each], -1)) + self.name)
        summary = F.gelu(self.summary(torch.cat([known.mean(-2), facts], -1)))
        both = torch.cat([known, summary[..., None, :].expand_as(known)], -1)
        # softplus of the constant, times their number, is a sum of three
        gains = F.softplus(self.weigh(both) + math.log(math.expm1(3.0 / N_EXPERTS)))
        state = {
            "Z": Z,
            "y": y,
            "w": w,
            "coefficients": experts.coefficients,
            "offsets": experts.offsets,
            "spread": spread,
            "gains": gains[..., None],
            "prior": self.prior(summary),
            "summary": summary,
        }
        h = self._tokens(state, scores, counts, left_out=True)[1]
        read = []
        for layer in self.layers:
            read.append(torch.stack(layer.read(h), -4))
            if layer is not self.layers[-1]:
                h = self._through(layer, h, read[-1], w, kernels.among)
        # (..., n_layers, 2, n_way, n, n_hidden), the two being keys and values
        return state | {"read": torch.stack(read, -5)}, scale, kernels

    def _tokens(
        self, state: State, scores: Tensor, counts: Tensor, left_out: bool
    ) -> tuple[Tensor, Tensor]:
        """Pooled logits (..., n, n_way) and tokens (..., n_way, n, n_hidden) of scaled scores."""
        y, w = state["y"], state["w"]
        present = counts > 0
        if left_out:
            counts = (counts[..., None, :] - w.clamp_max(1.0)[..., None] * y).clamp_min(0.0)
        else:
            counts = counts[..., None, :]
        part = ((counts + 0.3) / (counts + 0.3).sum(-1, keepdim=True)).log()
        part = centred(part, present[..., None, :])
        pooled = (state["gains"] * scores).sum(-3) + state["prior"][..., None] * part
        logits = pooled.masked_fill(~present[..., None, :], -torch.inf)
        bent = torch.cat([scores, pooled[..., None, :, :]], -3)
        bent = bent * (1 + (bent / 5).square()).rsqrt()
        label = (
            y - 1 / present.to(y.dtype).sum(-1)[..., None, None]
            if left_out
            else torch.zeros_like(pooled)
        )
        extra = (logits.softmax(-1), part.expand_as(pooled), label)
        seen = torch.cat([bent, torch.stack(extra, -3)], -3)
        h = self.token(seen.movedim(-3, -1).transpose(-2, -3))
        h = h + state["summary"][..., None, None, :]
        return logits, h if left_out else h + self.unknown

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        a_label = OF_LABELS * N_EXPERTS + (2 * len(self.layers) + OF_TOKENS) * self.n_hidden
        return OF_PAIRS * n_rows**2 + a_label * n_rows * n_labels

    # ------------------------------------------------------------------ predict
    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        return self.answering_features(state)(Z)

    def answering_features(self, state: State) -> Callable[[Tensor], Tensor]:
        with torch.no_grad():
            scale = TableScale(state["Z"], state["w"])
            kernels = _kernels(scale, state["Z"], state["y"], state["w"])
        return partial(self._predicted, state, scale, kernels)

    def labels_in_use(self, y: Tensor, w: Tensor) -> Tensor:
        return (torch.arange(1, y.shape[-1] + 1, device=w.device) * present_classes(y, w)).amax(-1)

    def padded(self, outputs: Tensor, n_labels: int) -> Tensor:
        return F.pad(outputs, (0, n_labels - outputs.shape[-1]), value=-torch.inf)

    def episode_of_features(self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor) -> Tensor:
        state, scale, kernels = self._adapted(Z, y, w)
        return self._predicted(state, scale, kernels, Z_query)

    def _predicted(self, state: State, scale: TableScale, kernels: Kernels, Z: Tensor) -> Tensor:
        # each expert's similarities to the support rows, and its scores
        row = max(1, state["coefficients"].shape[:-2].numel() * sum(state["y"].shape[-2:]))
        row = max(row, state["Z"].numel())
        answers = [self._answered(state, scale, kernels, part) for (part,) in self.split(row, Z)]
        return answers[0] if len(answers) == 1 else torch.cat(answers, -2)

    def _answered(self, state: State, scale: TableScale, kernels: Kernels, Z: Tensor) -> Tensor:
        y, w = state["y"], state["w"]
        counts = (w[..., None] * y).sum(-2)
        with torch.no_grad():
            K = kernels(scale(Z))
            scores = K[..., list(EXPERTS_READ), :, :] @ state["coefficients"] + state["offsets"]
            scores = centred(scores, (counts > 0)[..., None, None, :]) / state["spread"]
        logits, h = self._tokens(state, scores, counts, left_out=False)
        for layer, read in zip(self.layers, state["read"].unbind(-5), strict=True):
            h = self._through(layer, h, read, w, K)
        return logits + self.answer(self.answer_norm(h))[..., 0].mT


def _kernels(scale: TableScale, Z: Tensor, y: Tensor, w: Tensor) -> Kernels:
    support = scale(Z)
    return Kernels(scale, support, w, [relevance(view, y, w) for view in support], SIMILARITIES)


#: Numbers that describe a task as a whole.
N_FACTS = 5


def track_record(
    scores: Tensor, y: Tensor, w: Tensor, counts: Tensor, scale: TableScale
) -> tuple[Tensor, Tensor]:
    """How well the experts did on the rows left out, and what kind of task it is.

    Parameters
    ----------
    scores : Tensor of shape (..., n_experts, n, n_way)
        Scaled scores of the support rows, each left out.
    y, w : Tensor of shape (..., n, n_way), (..., n)
        Memberships and weights.
    counts : Tensor of shape (..., n_way)
        Weight of each class.
    scale : TableScale
        Knows which features vary.

    Returns
    -------
    record : Tensor of shape (..., n_experts, len(SHARPNESSES))
        Cross-entropy at each sharpness, less that of a guess, bent. Rows that
        are the only ones of their class do not count.
    facts : Tensor of shape (..., N_FACTS)
        Logarithms of the numbers of rows, of rows that count, features and
        classes, and of the rows of the smallest class; centred.
    """
    absent = (counts <= 0)[..., None, None, :]
    again = counts[..., None, :] - w.clamp_max(1.0)[..., None] * y > 1e-6 * counts[..., None, :]
    valid = w * (y * again).sum(-1)
    n_valid = valid.sum(-1)
    n_way = (counts > 0).sum(-1).to(w.dtype)
    share = (valid / n_valid.clamp_min(1e-6)[..., None])[..., None, :]
    losses = []
    for sharpness in SHARPNESSES:
        logits = (sharpness * scores).masked_fill(absent, -torch.inf)
        right = (y[..., None, :, :] * scores).sum(-1) * sharpness
        losses.append((share * (logits.logsumexp(-1) - right)).sum(-1))
    some = (n_valid > 0)[..., None, None]
    record = torch.where(some, torch.stack(losses, -1) - n_way.log()[..., None, None], 0.0)
    record = record * (1 + record.square()).rsqrt()
    least = counts.masked_fill(counts <= 0, torch.inf).amin(-1)
    numbers = (w.sum(-1), n_valid + 1, scale.varies.sum((-1, -2)) + 1, n_way, least)
    centres = (3.0, 3.0, 2.5, 1.2, 1.5)
    facts = [n.clamp(1e-3, 1e3).log() - c for n, c in zip(numbers, centres, strict=True)]
    return record, torch.stack(facts, -1)
