"""Attention over weighted support rows, and kernel smoothing, which attention starts from.

A. Vaswani et al. Attention is all you need. NeurIPS 2017 (section 3.2).

E. A. Nadaraya. On estimating regression. Theory of Probability and its
Applications 9, 1964. G. S. Watson. Smooth regression analysis. Sankhya A 26,
1964.

A row's weight enters through its logarithm, so weight two is the row twice.
All is written out in plain operations: torch's fused attention and LayerNorm
lack second derivatives, or have wrong ones under vmap.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import LayerNorm, Shape
from .learner import FeatureLearner
from .outputs import Gaussian
from .sequences import masked_softmax

#: What the sharpness of a kernel starts from, in units of one over the variance of the features.
SHARPNESS = 10.0
#: The least predictive standard deviation, in units of the targets' spread. The papers' 0.1 is
#: more than what many tasks leave unexplained; with none the likelihood would have no maximum.
FLOOR = 0.01


def check_sizes(n_hidden: int, n_heads: int, n_layers: int = 1) -> None:
    """Refuse sizes that no attention can have."""
    sizes = {"n_hidden": n_hidden, "n_heads": n_heads, "n_layers": n_layers}
    for name, size in sizes.items():
        if not (isinstance(size, int | np.integer) and size >= 1):
            raise ValueError(f"{name} must be an int, at least 1, got {size!r}.")
    if n_hidden % n_heads:
        raise ValueError(
            f"n_heads must divide n_hidden, got n_heads={n_heads!r} and n_hidden={n_hidden!r}."
        )


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), for any leading axes.

    Parameters
    ----------
    n_hidden : int
        Size of queries, keys, values and of what comes out.
    n_heads : int
        Number of heads, each of size ``n_hidden / n_heads``.
    """

    def __init__(self, n_hidden: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key = nn.Linear(n_hidden, n_hidden), nn.Linear(n_hidden, n_hidden)
        self.value, self.out = nn.Linear(n_hidden, n_hidden), nn.Linear(n_hidden, n_hidden)

    def project(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (..., n, n_hidden) as `forward` takes them: all that reading needs."""
        return self.key(keys), self.value(values)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, w: Tensor) -> Tensor:
        """What queries (..., n_query, n_hidden) read from projected rows of weights w (..., n)."""
        q, k, v = (
            t.unflatten(-1, (self.n_heads, -1)).transpose(-2, -3)
            for t in (self.query(queries), keys, values)
        )
        scores = q @ k.mT * q.shape[-1] ** -0.5
        heads = masked_softmax(scores, w[..., None, :]) @ v
        return self.out(heads.transpose(-2, -3).flatten(-2))


class TransformerLayer(nn.Module):
    """Attention, then a two-layer GELU network, each normed before and added to what was there.

    Parameters
    ----------
    n_hidden, n_heads : see MultiHeadAttention
        The network in between is four times as wide.
    """

    def __init__(self, n_hidden: int, n_heads: int):
        super().__init__()
        self.norm_rows, self.norm_mixed = LayerNorm(n_hidden), LayerNorm(n_hidden)
        self.attention = MultiHeadAttention(n_hidden, n_heads)
        self.mlp = nn.Sequential(
            nn.Linear(n_hidden, 4 * n_hidden), nn.GELU(), nn.Linear(4 * n_hidden, n_hidden)
        )

    def read(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of rows."""
        h = self.norm_rows(h)
        return self.attention.project(h, h)

    def forward(self, h: Tensor, keys: Tensor, values: Tensor, w: Tensor) -> Tensor:
        """The next state of h (..., n_query, n_hidden), which reads rows of weights w."""
        h = h + self.attention(self.norm_rows(h), keys, values, w)
        return h + self.mlp(self.norm_mixed(h))


class KernelSmoother(nn.Module):
    """Nadaraya-Watson weights, w_i exp(-s |z - z_i|^2) over their sum, with a learned sharpness s.

    The sharpness starts from 10 over the total variance of the features (`fit`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))

    @torch.no_grad()
    def fit(self, Z: Tensor, w: Tensor) -> None:
        """Start from the spread of features Z (n, n_features) of weights w (n,)."""
        share = (w / w.sum())[:, None]
        spread = (share * (Z - (share * Z).sum(0)).square()).sum()
        size = (share * Z.square()).sum()
        # rows that are all the same have no spread but for rounding
        spread = torch.where(spread > 1e3 * torch.finfo(Z.dtype).eps ** 2 * size, spread, 1.0)
        self.log_sharpness.copy_((SHARPNESS / spread).log())

    def forward(self, Z_query: Tensor, Z: Tensor, w: Tensor) -> Tensor:
        """Logarithms (..., n_query, n) of how much of each support row a query gets."""
        share = (w / w.sum(-1, keepdim=True))[..., None]
        centre = (share * Z).sum(-2, keepdim=True)
        Z, Z_query = Z - centre, Z_query - centre
        # -|q - z|^2 but for |q|^2, which no softmax over rows sees
        closeness = 2 * Z_query @ Z.mT - Z.square().sum(-1)[..., None, :]
        return (self.log_sharpness.exp() * closeness + w.log()[..., None, :]).log_softmax(-1)


class SmoothingLearner(FeatureLearner):
    """A learner that, untrained, smooths the support's labels over the features.

    Parameters
    ----------
    encoder, input_shape, n_outputs : see Learner
        What rows are smoothed by.
    smooths : bool, default=True
        Whether there is a `smoother` at all.
    """

    scales_inputs_without_past = True
    wants_encoder = False

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        smooths: bool = True,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        self.smooths = smooths
        if smooths:
            self.smoother = KernelSmoother()

    @torch.no_grad()
    def fit_scale(self, X: Tensor | None, y: Tensor | None, w: Tensor | None = None) -> None:
        super().fit_scale(X, y, w)
        if X is None or not self.smooths:
            return
        training = self.training
        Z = self.eval().embed(X.to(self.x_mean.device))
        self.train(training)
        self.smoother.fit(Z, torch.ones_like(Z[:, 0]) if w is None else w.to(Z))


def predictive(mean: Tensor, spread: Tensor) -> Gaussian:
    """The Gaussian, in units of the targets' scale, of what a network puts out.

    Parameters
    ----------
    mean, spread : Tensor of shape (..., n_query, n_outputs)
        Mean; and what becomes the standard deviation,
        sigma = 0.01 + 0.99 softplus(spread).

    Returns
    -------
    Gaussian
        Means and variances of shape (..., n_query, n_outputs).
    """
    sigma = FLOOR + (1 - FLOOR) * F.softplus(spread)
    return Gaussian(mean, sigma.square())
