"""What learners of tables of any width share: scale, attention steered by similarities, batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..learners import (
    TASKS_PER_CHUNK,
    FeatureLearner,
    Outputs,
    State,
    TransformerLayer,
    at_once,
    joined,
)
from ._table_similarities import TableScale

#: Numbers that a prediction's largest tensor holds at once, which bounds its memory.
AT_ONCE = 10_000_000
#: Tasks of a training batch that go together, padded to the largest of them.
TASKS_TOGETHER = 8


class SteeredLayer(TransformerLayer):
    """A transformer layer whose heads also look to rows for being similar.

    To the scores of a head is added a learned combination of `n_steering` similarities.
    """

    def __init__(self, n_hidden: int, n_heads: int, n_steering: int):
        super().__init__(n_hidden, n_heads)
        # heads that start alike would stay alike
        start = torch.linspace(0.0, 4.0, n_heads)[:, None].repeat(1, n_steering)
        self.steer = nn.Parameter(start)

    def steered(self, h: Tensor, keys: Tensor, values: Tensor, w: Tensor, alike: Tensor) -> Tensor:
        """The next state of h (..., n_way, n_query, n_hidden), with similarities to all rows."""
        attention = self.attention
        q, k, v = (
            t.unflatten(-1, (attention.n_heads, -1)).transpose(-2, -3)
            for t in (attention.query(self.norm_rows(h)), keys, values)
        )
        # a row counts as often as it weighs; finite, for rows of nothing but infinities have no sum
        often = w.log().clamp_min(torch.finfo(w.dtype).min / 4)[..., None, None, :]
        bias = (torch.einsum("hk,...kqn->...hqn", self.steer, alike) + often)[..., None, :, :, :]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        h = h + attention.out(read.transpose(-2, -3).flatten(-2))
        return h + self.mlp(self.norm_mixed(h))


class TableLearner(FeatureLearner):
    """Rows of any width, each task brought to the scale of its own support."""

    wants_encoder = False
    #: Each a `SteeredLayer`.
    layers: Any
    #: Which similarities steer attention.
    steering: tuple[int, ...]

    def __init__(self, encoder: nn.Module, input_shape: Shape, n_outputs: int | None = None):
        super().__init__(encoder, input_shape, n_outputs)
        self.x_mean, self.x_rest, self.x_scale = torch.zeros(()), torch.zeros(()), torch.ones(())
        if n_outputs is not None:
            self.y_mean, self.y_rest, self.y_scale = self.x_mean, self.x_rest, self.x_scale

    def fit_scale(self, X: Tensor | None, y: Tensor | None, w: Tensor | None = None) -> None:
        """Learn nothing: each task is brought to the scale of its own support."""

    def features(self, state: State, Z: Tensor) -> Tensor:
        """Standardised values of rows, as similarities compare them (..., n, n_features)."""
        return TableScale(state["Z"], state["w"])(Z).values

    def split(self, numbers_a_row: int, *rows: Tensor) -> list[tuple[Tensor, ...]]:
        """Rows (..., n, m), in as many parts as memory asks for; in one while training."""
        step = max(1, AT_ONCE // numbers_a_row)
        if self.training or at_once(rows[0].shape[-2], step):
            return [rows]
        return list(zip(*(t.split(step, -2) for t in rows), strict=True))

    def _through(
        self, layer: SteeredLayer, h: Tensor, read: Tensor, w: Tensor, K: Tensor
    ) -> Tensor:
        """A layer, over so many rows at once as memory allows; K are all their similarities."""
        keys, values = read.unbind(-4)
        n_heads = layer.attention.n_heads
        row = max(1, h.shape[:-2].numel() * n_heads * keys.shape[-2])
        done = [
            layer.steered(rows, keys, values, w, alike[..., list(self.steering), :, :])
            for rows, alike in self.split(row, h, K)
        ]
        return done[0] if len(done) == 1 else torch.cat(done, -2)

    def numbers_a_row(self, state: State) -> int:
        # `_predicted` divides further what meets the state
        return state["y"].shape[:-2].numel() * (state["y"].shape[-1] + state["Z"].shape[-1])

    def labels_in_use(self, y: Tensor, w: Tensor) -> Tensor:
        """Of each task of a batch, how many columns of y are not padding."""
        return torch.full(y.shape[:1], y.shape[-1], device=y.device)

    def padded(self, outputs: Any, n_labels: int) -> Any:
        """Outputs with a column for each label of the batch."""
        return outputs

    def forward_features(self, Z: Tensor, y: Tensor, w: Tensor, Z_query: Tensor) -> Outputs:
        """`forward`, given features; tasks of like size go together, without their padding."""
        places = torch.arange(1, y.shape[-2] + 1, device=w.device)
        last_row, last_label = (places * (w > 0)).amax(-1), self.labels_in_use(y, w)
        order = (last_row * last_label).argsort()
        parts = []
        for group in order.split(TASKS_TOGETHER if self.training else TASKS_PER_CHUNK):
            n, c = int(last_row[group].max()), int(last_label[group].max())
            X, X_query = Z[group][:, :n], Z_query[group]
            used = (X != 0).any(1).any(0)
            task = X[..., used], y[group][:, :n, :c], w[group][:, :n], X_query[..., used]
            parts.append(self.padded(self.episode_of_features(*task), y.shape[-1]))
        return joined(parts, lambda tensors: torch.cat(tensors)[order.argsort()])
