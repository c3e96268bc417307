"""In-context regression for tables of any width: rows are read through their similarities.

N. Hollmann, S. Müller, K. Eggensperger and F. Hutter. TabPFN: a transformer
that solves small tabular classification problems in a second. ICLR 2023 (a
network trained on artificial tables only).

L. Breiman. Stacked regressions. Machine Learning 24, 1996. Y. Yao, A. Vehtari,
D. Simpson and A. Gelman. Using stacking to average Bayesian predictive
distributions. Bayesian Analysis 13, 2018 (section 3.4: weights from what models
say of rows that were left out).

The regressions in closed form that it weighs are in `_table_regressions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import LayerNorm, Shape
from ..learners import Gaussian, Outputs, State, check_sizes, joined, rows_for
from ..tasks import shares
from ._table_learner import SteeredLayer, TableLearner
from ._table_regressions import (
    N_EXPERTS,
    RIDGES,
    SIMILARITIES,
    STEERING,
    UNSURE,
    Regressions,
    all_regressions,
    relevance,
    told,
)
from ._table_similarities import Kernels, TableScale, Views

#: Tables of all pairs of rows that adapting holds at once; those that it takes to make an expert.
OF_PAIRS, OF_EXPERT = 24, 6
#: Numbers that it holds for each row and expert, and for each number of a token beside those that
#: its layers read.
OF_ROWS, OF_TOKENS = 8, 16
#: Numbers that describe an expert, and a task as a whole.
N_TOLD, N_FACTS = 4, 5
#: A squared error less than this, of a variance of one, counts as this.
LEAST_ERROR = 1e-6
#: A weight beyond this counts as this.
MOST_WEIGHT = 1e6
#: Rows of deviation one that the spread of residuals begins from.
BEGINS_FROM = 1.0
#: Least standard deviation of a prediction, of targets of deviation one.
LEAST_SPREAD = 1e-3


class InContextTargets(TableLearner):
    """adapt: regressions on similarities, weighed by how well each does. predict: their mean.

    The weights come from the squared errors of the rows left out, and a small
    network changes them. A transformer over tokens of rows, made of what the
    experts predict, corrects the mean and says how far off it may be. Each
    target is read by itself, by the same network.
    """

    steering = STEERING

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = 1,
        *,
        n_layers: int = 2,
        n_hidden: int = 32,
        n_heads: int = 4,
    ):
        super().__init__(encoder, input_shape, n_outputs or 1)
        check_sizes(n_hidden, n_heads, n_layers)
        self.n_hidden = n_hidden
        #: Steepness of the weights, for any number of rows and with the logarithm of it.
        self.steep = nn.Parameter(torch.tensor([1.5, 1.0]))
        self.name = nn.Parameter(torch.randn(N_EXPERTS, n_hidden) * 0.1)
        self.record = nn.Linear(N_TOLD + N_FACTS, n_hidden)
        self.summary = nn.Linear(n_hidden + N_FACTS, n_hidden)
        first, last = nn.Linear(2 * n_hidden, n_hidden), nn.Linear(n_hidden, 1)
        self.weigh = nn.Sequential(first, nn.GELU(), last)
        self.whole = nn.Linear(n_hidden, 2)
        self.token = nn.Linear(N_EXPERTS + len(UNSURE) + 4, n_hidden)
        self.unknown = nn.Parameter(torch.randn(n_hidden) * 0.1)
        self.layers = nn.ModuleList(
            SteeredLayer(n_hidden, n_heads, len(STEERING)) for _ in range(n_layers)
        )
        self.answer_norm, self.answer = LayerNorm(n_hidden), nn.Linear(n_hidden, 2)
        for linear in (last, self.whole, self.answer):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def scaled(self, X: Tensor) -> Tensor:
        """Rows as they come, in float64 if they do: their support says where they lie."""
        return X

    def _views(self, scale: TableScale, Z: Tensor) -> Views:
        """Rows, brought to scale before anything is rounded."""
        return Views(*(view.to(self.name.dtype) for view in scale(Z)))

    # ------------------------------------------------------------------ adapt
    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return self._adapted(Z, y, w)[0]

    def _adapted(self, Z: Tensor, y: Tensor, w: Tensor) -> tuple[State, TableScale, Views]:
        with torch.no_grad():
            w = w.clamp_max(MOST_WEIGHT)
            scale = TableScale(Z, w.to(Z.dtype))
            support = self._views(scale, Z)
            centre, unit = of_targets(y, w)
            target = ((y - centre) / unit).to(w.dtype)
        each = [
            self._adapted_to(target[..., k, None], scale, support, w) for k in range(y.shape[-1])
        ]
        # the axis of targets comes after those of tasks
        state = {name: torch.stack([one[name] for one in each], Z.ndim - 2) for name in each[0]}
        shared = {"Z": Z, "w": w, "y": target, "centre": centre.double(), "unit": unit.double()}
        return state | shared, scale, support

    def _adapted_to(self, y: Tensor, scale: TableScale, support: Views, w: Tensor) -> State:
        with torch.no_grad():
            kernels = _kernels(scale, support, y, w)
            # duplicates and heavy weights bring single precision to its end
            pairs = y.shape[:-2].numel() * y.shape[-2] ** 2
            at_once = len(RIDGES) if self.training else rows_for(OF_EXPERT * pairs)
            exact = all_regressions(kernels.among.double(), y.double(), w.double(), at_once)
            of = Regressions(*(t.to(y.dtype) for t in exact))
            record, facts, errors = track_record(of.left_out, y[..., 0], w, scale)
        facts_of_each = facts[..., None, :].expand(*record.shape[:-1], -1)
        known = F.gelu(self.record(torch.cat([record, facts_of_each], -1)) + self.name)
        summary = F.gelu(self.summary(torch.cat([known.mean(-2), facts], -1)))
        both = torch.cat([known, summary[..., None, :].expand_as(known)], -1)
        steepness = (self.steep[0] + self.steep[1] * facts[..., 0]).exp()
        gains = (self.weigh(both)[..., 0] - steepness[..., None] * errors).softmax(-1)
        shrink, widen = self.whole(summary).unbind(-1)
        state = {
            "coefficients": of.coefficients,
            "inverse": of.inverse,
            "gains": 2 * shrink.sigmoid()[..., None] * gains,
            "summary": summary,
        }
        residual = y[..., 0] - self._pooled(state, of.left_out)
        count = w.sum(-1)
        sums = (w * residual.square()).sum(-1) + BEGINS_FROM
        spread = (sums / (count + BEGINS_FROM)).sqrt() * widen.exp()
        # of one row, or of rows that all say the same, nothing but the size is known
        varied = (count > 1 + 1e-6) & (w * y[..., 0].square() > 0).any(-1)
        spread = torch.where(varied, spread, count.clamp_min(1.0).rsqrt())
        state |= {"spread": spread, "varied": varied.to(y.dtype)}
        h = self._tokens(state, of.left_out, of.unsure, y[..., 0])
        read = []
        for layer in self.layers:
            read.append(torch.stack(layer.read(h), -4))
            if layer is not self.layers[-1]:
                h = self._through(layer, h, read[-1], w, kernels.among)
        # (..., n_layers, 2, 1, n, n_hidden), the two being keys and values
        return state | {"read": torch.stack(read, -5)}

    def _pooled(self, state: State, predicted: Tensor) -> Tensor:
        """Weighed predictions (..., m) of experts (..., n_experts, m)."""
        return (state["gains"][..., None] * predicted).sum(-2)

    def _tokens(self, state: State, predicted: Tensor, unsure: Tensor, y: Tensor | None) -> Tensor:
        """Tokens (..., 1, m, n_hidden) of rows; y are targets (..., m) where they are known."""
        pooled, spread = self._pooled(state, predicted), state["spread"][..., None]
        if y is None:
            label = gap = torch.zeros_like(pooled)
        else:
            label, gap = y, (y - pooled) / spread
        seen = torch.cat([predicted, torch.stack([pooled, label, gap, gap.abs()], -2)], -2)
        seen = torch.cat([seen * (1 + (seen / 5).square()).rsqrt(), unsure.log() / 2], -2)
        h = self.token(seen.mT) + state["summary"][..., None, :]
        return (h if y is not None else h + self.unknown)[..., None, :, :]

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        a_row = OF_ROWS * N_EXPERTS + (2 * len(self.layers) + OF_TOKENS) * self.n_hidden
        kept = len(UNSURE) * n_labels
        return (OF_PAIRS + kept) * n_rows**2 + a_row * n_rows * n_labels

    # ------------------------------------------------------------------ predict
    def predict_features(self, state: State, Z: Tensor) -> Outputs:
        with torch.no_grad():
            scale = TableScale(state["Z"], state["w"].to(state["Z"].dtype))
            support = self._views(scale, state["Z"])
        return self._predicted(state, scale, support, Z)

    def answering_features(self, state: State) -> Callable[[Tensor], Outputs]:
        with torch.no_grad():
            scale = TableScale(state["Z"], state["w"].to(state["Z"].dtype))
            support = self._views(scale, state["Z"])
            of_targets = [
                _kernels(scale, support, state["y"][..., k, None], state["w"])
                for k in range(state["y"].shape[-1])
            ]
        return partial(self._predicted, state, scale, support, known=of_targets)

    def episode_of_features(self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor) -> Outputs:
        return self._predicted(*self._adapted(Z, y, w), Z_query)

    def _predicted(
        self,
        state: State,
        scale: TableScale,
        support: Views,
        Z: Tensor,
        known: Sequence[Kernels] | None = None,
    ) -> Gaussian:
        """Predictions of rows; `known` are the similarities for each target, if not to be made."""
        axis, w = Z.ndim - 2, state["w"]
        shared = ("Z", "w", "y", "centre", "unit")
        row = max(1, w.numel() * (len(SIMILARITIES) + len(UNSURE)), state["Z"].numel())
        means, spreads = [], []
        for k in range(state["y"].shape[-1]):
            own = {name: t.select(axis, k) for name, t in state.items() if name not in shared}
            y = state["y"][..., k, None]
            with torch.no_grad():
                kernels = _kernels(scale, support, y, w) if known is None else known[k]
            parts = [self._answered(own, scale, kernels, y, part) for (part,) in self.split(row, Z)]
            told_of = joined(parts, _along_rows)
            means.append(told_of.mean)
            spreads.append(told_of.variance)
        unit, centre = state["unit"], state["centre"]
        mean, variance = torch.stack(means, -1), torch.stack(spreads, -1)
        return Gaussian(mean * unit + centre, variance * unit.square())

    def _answered(
        self, state: State, scale: TableScale, kernels: Kernels, y: Tensor, Z: Tensor
    ) -> Gaussian:
        """Mean and variance (..., m) of rows Z, of targets of deviation one."""
        w, varied = kernels.w, state["varied"][..., None]
        with torch.no_grad():
            rows = self._views(scale, Z)
            K = kernels(rows)
            of = Regressions(state["coefficients"], state["inverse"], K, K)
            predicted, unsure = told(K, kernels.itself(rows), of, y, w)
        h = self._tokens(state, predicted, unsure, None)
        for layer, read in zip(self.layers, state["read"].unbind(-5), strict=True):
            h = self._through(layer, h, read, w, K)
        shift, wider = self.answer(self.answer_norm(h))[..., 0, :, :].unbind(-1)
        spread = state["spread"][..., None]
        mean = self._pooled(state, predicted) + spread * shift
        wider = 3 * (wider / 3).tanh()
        spread = (spread * torch.where(varied > 0, wider, 0.0).exp()).clamp_min(LEAST_SPREAD)
        return Gaussian(varied * mean, spread.square())


def _along_rows(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def _kernels(scale: TableScale, support: Views, y: Tensor, w: Tensor) -> Kernels:
    return Kernels(scale, support, w, [relevance(view, y, w) for view in support], SIMILARITIES)


def of_targets(y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (..., 1, n_outputs) of targets; of those that do not vary, their size."""
    share = shares(w.to(y.dtype))[..., None]
    centre = (share * y).sum(-2, keepdim=True)
    unit = (share * (y - centre).square()).sum(-2, keepdim=True).sqrt()
    size = centre.abs()
    varies = unit > 10 * torch.finfo(y.dtype).eps * size
    return centre, torch.where(varies, unit, torch.where(size > 0, size, 1.0))


def track_record(
    left_out: Tensor, y: Tensor, w: Tensor, scale: TableScale
) -> tuple[Tensor, Tensor, Tensor]:
    """How well the experts did on the rows left out, and what kind of task it is.

    Parameters
    ----------
    left_out : Tensor of shape (..., n_experts, n)
        Predictions of the support rows, each left out.
    y, w : Tensor of shape (..., n), (..., n)
        Targets of deviation one, and weights.
    scale : TableScale
        Knows which features vary.

    Returns
    -------
    record : Tensor of shape (..., n_experts, N_TOLD)
        Logarithms of the squared and of the absolute error, of those of the mean of the others;
        correlation with the targets, and size of what is predicted.
    facts : Tensor of shape (..., N_FACTS)
        Numbers of rows and features, how the targets are spread, and the least error; centred.
    errors : Tensor of shape (..., n_experts)
        Half the first of the record.
    """
    count, share = w.sum(-1), shares(w)
    mass = w.clamp_max(1.0)
    rest = (count[..., None] - mass).clamp_min(1e-6)
    plain = y * (1 + mass / rest)  # residuals of the mean of the other rows
    gaps = y[..., None, :] - left_out
    weights = share[..., None, :]

    def mean(values: Tensor) -> Tensor:
        return (weights * values).sum(-1)

    square = (mean(gaps.square()) + LEAST_ERROR).log()
    square = square - (mean(plain.square()[..., None, :]) + LEAST_ERROR).log()
    absolute = (mean(gaps.abs()) + LEAST_ERROR**0.5).log()
    absolute = absolute - (mean(plain.abs()[..., None, :]) + LEAST_ERROR**0.5).log()
    size = mean(left_out.square()).sqrt()
    inner = mean(y[..., None, :] * left_out)
    record = torch.stack([square / 2, absolute, inner / (size + 1e-3), (size + 1e-2).log()], -1)
    record = record * (1 + (record / 4).square()).rsqrt()
    n_features = scale.varies.sum((-1, -2)).to(y.dtype) + 1
    skewed = mean((y**3)[..., None, :])[..., 0]
    facts = torch.stack(
        [
            count.clamp(1e-3, 1e4).log() - 3.0,
            n_features.log() - 2.0,
            4 * (mean(y.abs()[..., None, :])[..., 0] - 0.8),
            skewed * (1 + (skewed / 3).square()).rsqrt(),
            record[..., 0].amin(-1) + 0.5,
        ],
        -1,
    )
    return record, facts, square / 2
