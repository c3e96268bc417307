"""Covariance functions of Gaussian processes, on features, with learned hyperparameters.

A. Wilson and R. Adams. Gaussian process kernels for pattern discovery and
extrapolation. ICML 2013.

A kernel maps A (..., n, n_features) and B (..., m, n_features) to k(A, B) of
shape (..., n, m); its `diagonal` maps A to k(a_i, a_i) of shape (..., n).
Both compute in the precision of A.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .memory import at_once, rows_for

#: Squared distances below this are zero: keeps the root's slope finite.
COINCIDENT = 1e-20
#: Numbers that a spectral mixture holds at once for each difference of two rows in a feature.
OF_DIFFERENCES = 8


def squared_distances(A: Tensor, B: Tensor) -> Tensor:
    """Squared Euclidean distances (..., n, m) between rows."""
    # centred so that large offsets do not cancel
    centre = B.mean(-2, keepdim=True)
    A, B = A - centre, B - centre
    sizes = A.square().sum(-1)[..., :, None] + B.square().sum(-1)[..., None, :]
    return (sizes - 2 * A @ B.mT).clamp_min(0.0)


class Kernel(nn.Module):
    """Base class of the kernels."""

    def forward(self, A: Tensor, B: Tensor) -> Tensor:
        raise NotImplementedError

    def diagonal(self, A: Tensor) -> Tensor:
        """The kernel of each row with itself."""
        raise NotImplementedError


class RBF(Kernel):
    """s exp(-d^2 / 2 l^2), with one lengthscale l and the output scale s."""

    def __init__(self, lengthscale: float):
        super().__init__()
        self.log_lengthscale = nn.Parameter(torch.tensor(math.log(lengthscale)))
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def shape(self, d2: Tensor) -> Tensor:
        """The kernel as a function of the squared distance in lengthscales."""
        return (-0.5 * d2).exp()

    def forward(self, A: Tensor, B: Tensor) -> Tensor:
        lengthscale = self.log_lengthscale.to(A.dtype).exp()
        d2 = squared_distances(A / lengthscale, B / lengthscale)
        return self.log_scale.to(A.dtype).exp() * self.shape(d2)

    def diagonal(self, A: Tensor) -> Tensor:
        return self.log_scale.to(A.dtype).exp().expand(A.shape[:-1])


class Matern52(RBF):
    """s (1 + r + r^2 / 3) exp(-r) with r = sqrt(5) d / l."""

    def shape(self, d2: Tensor) -> Tensor:
        r = (5 * d2).clamp_min(COINCIDENT).sqrt()
        return (1 + r + r.square() / 3) * (-r).exp()


class Linear(Kernel):
    """s a'b."""

    def __init__(self, n_features: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(n_features)))

    def forward(self, A: Tensor, B: Tensor) -> Tensor:
        return self.log_scale.to(A.dtype).exp() * (A @ B.mT)

    def diagonal(self, A: Tensor) -> Tensor:
        return self.log_scale.to(A.dtype).exp() * A.square().sum(-1)


class Cosine(Kernel):
    """s cos(a - c, b - c), the cosine seen from a learned centre c, which starts at zero."""

    def __init__(self, n_features: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.0))
        self.centre = nn.Parameter(torch.zeros(n_features))

    def directions(self, A: Tensor) -> Tensor:
        """Rows of length one, as seen from the centre."""
        return F.normalize(A - self.centre.to(A.dtype), dim=-1)

    def forward(self, A: Tensor, B: Tensor) -> Tensor:
        return self.log_scale.to(A.dtype).exp() * (self.directions(A) @ self.directions(B).mT)

    def diagonal(self, A: Tensor) -> Tensor:
        return self.log_scale.to(A.dtype).exp() * self.directions(A).square().sum(-1)


class SpectralMixture(Kernel):
    """sum_q w_q prod_p exp(-2 pi^2 t_p^2 v_qp) cos(2 pi t_p mu_qp), with t = a - b.

    Equation 12 of Wilson and Adams (2013): the stationary kernel whose spectral
    density is a mixture of Gaussians of means mu_q and variances v_q.
    """

    def __init__(self, n_features: int, lengthscale: float, n_mixtures: int):
        super().__init__()
        self.log_weights = nn.Parameter(torch.full((n_mixtures,), -math.log(n_mixtures)))
        # components that start alike would stay alike, and a mean of zero has no slope
        spread = (torch.arange(n_mixtures) + 0.5) / n_mixtures
        frequency = 1 / (2 * math.pi * lengthscale)
        self.means = nn.Parameter((frequency * spread)[:, None].repeat(1, n_features))
        log_variance = 2 * math.log(frequency)
        self.log_variances = nn.Parameter(torch.full((n_mixtures, n_features), log_variance))

    def forward(self, A: Tensor, B: Tensor) -> Tensor:
        step = rows_for(OF_DIFFERENCES * B.numel())
        if torch.is_grad_enabled() or at_once(A.shape[-2], step):
            return self._between(A, B)
        return torch.cat([self._between(part, B) for part in A.split(step, -2)], -2)

    def _between(self, A: Tensor, B: Tensor) -> Tensor:
        t = A[..., :, None, :] - B[..., None, :, :]
        total = A.new_zeros(t.shape[:-1])
        for log_w, mu, log_v in zip(self.log_weights, self.means, self.log_variances, strict=True):
            envelope = (-2 * math.pi**2 * (t.square() @ log_v.to(A.dtype).exp())).exp()
            wave = (2 * math.pi * t * mu.to(A.dtype)).cos().prod(-1)
            total = total + log_w.to(A.dtype).exp() * envelope * wave
        return total

    def diagonal(self, A: Tensor) -> Tensor:
        return self.log_weights.to(A.dtype).exp().sum().expand(A.shape[:-1])


def make_kernel(
    name: str, n_features: int, lengthscale: float | None = None, n_mixtures: int = 4
) -> Kernel:
    """Make a kernel of unit size for rows of standardised features.

    Parameters
    ----------
    name : {"rbf", "matern52", "linear", "cosine", "spectral"}
        Which kernel.
    n_features : int
        Number of features of a row.
    lengthscale : float or None, default=None
        Lengthscale to start from; None is the root of `n_features`. Without
        meaning for ``"linear"`` and ``"cosine"``.
    n_mixtures : int, default=4
        Components of ``"spectral"``.

    Returns
    -------
    Kernel
        The kernel.

    Raises
    ------
    ValueError
        When an argument is not allowed.
    """
    if lengthscale is None:
        lengthscale = math.sqrt(n_features)
    if not lengthscale > 0:
        raise ValueError(f"lengthscale must be positive or None, got {lengthscale!r}.")
    if not (isinstance(n_mixtures, int) and n_mixtures >= 1):
        raise ValueError(f"n_mixtures must be an integer of at least 1, got {n_mixtures!r}.")
    if name == "rbf":
        return RBF(lengthscale)
    if name == "matern52":
        return Matern52(lengthscale)
    if name == "linear":
        return Linear(n_features)
    if name == "cosine":
        return Cosine(n_features)
    if name == "spectral":
        return SpectralMixture(n_features, lengthscale, n_mixtures)
    raise ValueError(
        f"kernel must be 'rbf', 'matern52', 'linear', 'cosine' or 'spectral', got {name!r}."
    )
