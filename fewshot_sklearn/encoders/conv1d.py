"""Dilated convolutions over time, pooled to shares: for series of any length and few labels.

A. Dempster, D. F. Schmidt and G. I. Webb. MiniRocket: a very fast (almost) deterministic
transform for time series classification. KDD 2021 (84 filters, dilations, shares above
thresholds).

A. Rahimi and B. Recht. Random features for large-scale kernel machines. NeurIPS 2007 (waves).
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..tasks import LEAST_TIMES, Constraint, Flag, Whole, check_arguments
from .series import times_and_channels

#: Times a filter takes, of which `_RAISED` weigh two and the others minus one.
_TIMES, _RAISED = 9, 3
#: Views of a channel: the series and its differences, in units of their standard deviations.
_VIEWS = 2
#: Numbers that each channel has beside its shape: level, amplitude, roughness and length.
_NUMBERS = 4
#: Frequencies, in radians a unit, of the waves that tell these, and waves of each.
_FREQUENCIES, _WAVES = (0.5, 1.0, 2.0, 4.0), 64
#: Of shares in one unit of output, and of waves: alpha=1 of a ridge head is then of use.
_GAIN, _GAIN_OF_WAVES = 9.0, 2.0
#: Numbers that are made at once of a few rows: what stays in a processor's cache.
_AT_ONCE = 20_000
#: How a share counts what is near a threshold, in units of the filter's output.
_SOFT = 0.1


class Conv1d(nn.Module):
    """Shares of the time that dilated filters are above thresholds, of series of any length.

    The 84 filters of MiniRocket [1]_ run over each channel and over its differences, both
    standardized. Their dilations go in equal ratios from one time to as many as the series
    allows, so that features of series of different length are comparable. A feature is the share
    of all times at which a filter is above a threshold. Thresholds are those which smooth and
    noisy made-up series are above for known shares of the time. Waves [2]_ of the level, the
    amplitude, the roughness and the length of the channel stand beside.

    Each channel is taken by itself, by the same filters; their features are added up with signs
    (and waves with phases) that are the channel's own, and so stay apart. The number of features
    and all weights are the same whatever the length and the number of channels. A meta-init can
    thus be fitted to series of another shape than those it was trained on.

    Series of different lengths are padded with NaN at their end, see
    `fewshot_sklearn.tasks.pad_series`; a channel that is not there is NaN throughout. Features
    of a series do not depend on how it was padded, nor on other rows. A graph that is exported
    takes series of one length, without NaN.

    Meta-training learns how much each view, dilation and threshold counts, and with
    `learn_filters` filters and thresholds, too, which takes several times as long.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row: (n_times,), or (n_times, n_channels), in that order. Four times or
        more. Where channels come first, as other packages have them, pass
        ``X.transpose(0, 2, 1)``.
    n_dilations : int, default=8
        Dilations of each filter.
    n_thresholds : int, default=6
        Thresholds of each filter and dilation.
    learn_filters : bool, default=False
        Whether filters and thresholds are trained.

    See Also
    --------
    Series : A convolutional network that is trained from nothing, for many past series.

    References
    ----------
    .. [1] A. Dempster, D. F. Schmidt and G. I. Webb, "MiniRocket: a very fast (almost)
       deterministic transform for time series classification", KDD 2021.
    .. [2] A. Rahimi and B. Recht, "Random features for large-scale kernel machines", NeurIPS 2007.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.encoders import Conv1d
    >>> encoder, X = Conv1d((100, 6)), torch.randn(5, 100, 6)
    >>> encoder(X).shape
    torch.Size([5, 9088])
    >>> X[:, 70:] = torch.nan  # series of 70 times
    >>> bool(torch.allclose(encoder(X), encoder(X[:, :70]), atol=1e-6))
    True
    """

    _constraints: dict[str, Constraint] = {
        "n_dilations": Whole(1),
        "n_thresholds": Whole(1),
        "learn_filters": Flag(),
    }
    signs: Tensor
    phases: Tensor
    frequencies: Tensor
    expected: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_dilations: int = 8,
        n_thresholds: int = 6,
        learn_filters: bool = False,
    ):
        super().__init__()
        check_arguments(
            self._constraints,
            n_dilations=n_dilations,
            n_thresholds=n_thresholds,
            learn_filters=learn_filters,
        )
        times_and_channels(tuple(input_shape))
        self.n_dilations = n_dilations
        shares = (torch.arange(n_thresholds) + 0.5) / n_thresholds
        self.filters = nn.Parameter(_filters().clone(), learn_filters)
        found = _thresholds(n_dilations, tuple(shares.tolist()))
        self.thresholds = nn.Parameter(found.clone(), learn_filters)
        self.log_weights = nn.Parameter(torch.zeros(_VIEWS, n_dilations, n_thresholds))
        self.log_weights_of_waves = nn.Parameter(torch.zeros(_NUMBERS, len(_FREQUENCIES)))
        self.register_buffer("expected", 1 - shares, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., None] if x.ndim == 2 else x
        there = ~x.isnan()
        if _is_exporting():  # a graph is of series of one length; NaN stays NaN
            return self._of_one_length(x, there[:, 0])
        n_times = there.any(2).sum(1)
        out = x.new_zeros(len(x), self.log_weights.numel() * len(self.filters) + _N_WAVES)
        parts, order = [], []
        for length in map(int, n_times.unique()):
            rows = (n_times == length).nonzero()[:, 0]
            if length < LEAST_TIMES:  # padding of a batch
                parts.append(out[rows])
                order.append(rows)
                continue
            for some in rows.split(max(1, _AT_ONCE // (length * x.shape[2]))):
                parts.append(self._of_one_length(x[some, :length], there[some, 0]))
                order.append(some)
        return torch.cat(parts)[torch.cat(order).argsort()] if parts else out

    def _of_one_length(self, x: Tensor, there: Tensor) -> Tensor:
        """Features of series (n, n_times, n_channels) of which channels are there, or not."""
        n, n_times, n_channels = x.shape
        x = torch.where(there[:, None], x, 0.0).mT.reshape(n * n_channels, n_times)
        level, size = x.mean(1), x.std(1, correction=0)
        series, _ = _standardized(x)
        steps, roughness = _standardized(series.diff(dim=1))
        shares = torch.stack([self._shares(series, 0), self._shares(steps, 1)], 1)
        shares = shares * self.log_weights.exp()[..., None]
        numbers = torch.stack(
            [
                (level / (size + 1e-6)).asinh(),
                (size + 1e-6).log(),
                (roughness + 1e-6).log(),
                torch.full_like(level, math.log(n_times)),
            ],
            1,
        )
        signs, phases = _channel_marks(n_channels, shares[0].numel())
        signs, phases = signs.to(x), phases.to(x)
        shares = shares.reshape(n, n_channels, -1) * signs
        frequencies = torch.tensor(_FREQUENCIES, dtype=x.dtype, device=x.device)
        angles = numbers[:, :, None] * frequencies
        waves = torch.cos(angles[..., None].unflatten(0, (n, n_channels)) + phases)
        waves = waves * (self.log_weights_of_waves.exp()[..., None] * math.sqrt(2 / _WAVES))
        count = there.sum(1).clamp(min=1).to(x).sqrt()[:, None]
        both = [
            _GAIN / math.sqrt(len(self.filters)) * shares,
            _GAIN_OF_WAVES * waves.flatten(2),
        ]
        return (torch.cat(both, 2) * there[..., None]).sum(1) / count

    def _shares(self, x: Tensor, view: int) -> Tensor:
        """(n, n_dilations, n_thresholds, n_filters) of series (n, n_times)."""
        found = []
        for i, out in enumerate(_filtered(x, self.filters, self.n_dilations)):
            above = [
                ((out - at) / _SOFT + 0.5).clamp(0, 1).mean(1) for at in self.thresholds[view, i]
            ]
            found.append(torch.stack(above, 1) - self.expected[:, None])
        return torch.stack(found, 1)


#: Of all numbers beside the shape.
_N_WAVES = _NUMBERS * len(_FREQUENCIES) * _WAVES
#: Where torch does not tell the two apart yet, what is exported is being compiled.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def _filtered(x: Tensor, filters: Tensor, n_dilations: int):
    """What filters give of series (n, n_times) at each time, dilation after dilation."""
    n_times = x.shape[1]
    longest = max(1.0, (n_times - 1) / (_TIMES - 1))
    for i in range(n_dilations):
        dilation = round(longest ** (i / max(1, n_dilations - 1)))
        reach = _TIMES // 2 * dilation
        wide = F.pad(x, (reach, reach))
        taken = [wide[:, k * dilation : k * dilation + n_times] for k in range(_TIMES)]
        yield torch.stack(taken, -1) @ filters.T


def _standardized(x: Tensor) -> tuple[Tensor, Tensor]:
    """Series about zero in units of their standard deviation, and that; constant ones are zero."""
    x = x - x.mean(1, keepdim=True)
    size = x.std(1, correction=0)
    return x / (size[:, None] + 1e-6), size


@cache
def _filters() -> Tensor:
    rows = itertools.combinations(range(_TIMES), _RAISED)
    weights = [[2.0 if k in raised else -1.0 for k in range(_TIMES)] for raised in rows]
    return torch.tensor(weights) / 3


@cache
def _thresholds(n_dilations: int, shares: tuple[float, ...]) -> Tensor:
    """(2, n_dilations, n_thresholds, n_filters), of series made up, the same every time."""
    rng, t = np.random.default_rng(0), np.linspace(0, 1, 128)
    made = []
    for top in (50, 20, 10, 3):  # smooth ones, down to waves of so many a series
        k = np.arange(1, top + 1)
        a = rng.normal(size=(2, 16, top)) / k ** rng.uniform(0.3, 1.2, (16, 1))
        made.append(
            a[0] @ np.cos(np.pi * np.outer(k, t)) + a[1] @ np.sin(2 * np.pi * np.outer(k, t))
        )
    for memory in (0.0, 0.5, 0.9, 0.98):
        x = rng.normal(size=(16, len(t)))
        for i in range(1, len(t)):
            x[:, i] += memory * x[:, i - 1]
        made.append(x)
    series, _ = _standardized(torch.tensor(np.concatenate(made), dtype=torch.float32))
    steps, _ = _standardized(series.diff(dim=1))
    at = torch.tensor(shares)
    return torch.stack(
        [
            torch.stack(
                [
                    torch.quantile(out.reshape(-1, out.shape[-1]), at, dim=0)
                    for out in _filtered(x, _filters(), n_dilations)
                ]
            )
            for x in (series, steps)
        ]
    )


@cache
def _channel_marks(n_channels: int, n_shares: int) -> tuple[Tensor, Tensor]:
    """Signs of the shares and phases of the waves of each channel, the same in whatever company."""
    signs, phases = [], []
    for channel in range(n_channels):
        rng = np.random.default_rng(channel)
        signs.append(rng.choice([-1.0, 1.0], n_shares) if channel else np.ones(n_shares))
        phases.append(rng.uniform(0, 2 * np.pi, (_NUMBERS, len(_FREQUENCIES), _WAVES)))
    return (
        torch.tensor(np.array(signs), dtype=torch.float32),
        torch.tensor(np.array(phases), dtype=torch.float32),
    )
