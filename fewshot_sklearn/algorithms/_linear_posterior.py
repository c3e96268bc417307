"""The posterior of the weights of a linear model, in the form that is the smallest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..learners import OF_PAIRS, FeatureLearner, State, cholesky

#: Prior standard deviation, in noise units, of an intercept that is free.
FREE = 1e4
#: What the noise is taken to be with no past tasks to learn it from.
NOISE_WITHOUT_PAST = 0.1


class LinearPosterior(FeatureLearner):
    """What learners share whose weights have a Gaussian prior of covariance C C'.

    C, `prior_factor`, is a matrix (n_features + 1, n_features + 1) or its diagonal
    (n_features + 1,).
    """

    prior_factor: nn.Parameter

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take a matrix where only its diagonal is kept, and a diagonal where a matrix is."""
        factor, own = state_dict.get(f"{prefix}prior_factor"), self.prior_factor
        other = (len(own),) if own.ndim == 2 else (len(own), len(own))
        if factor is not None and factor.shape == other:
            state_dict[f"{prefix}prior_factor"] = torch.diag(factor).contiguous()
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _whitened(self, phi: Tensor) -> Tensor:
        """phi C: features in which the prior is the unit matrix."""
        factor = self.prior_factor.double()
        return phi * factor if factor.ndim == 1 else phi @ factor

    def _unwhitened(self, shift: Tensor) -> Tensor:
        """C shift."""
        factor = self.prior_factor.double()
        return factor[:, None] * shift if factor.ndim == 1 else factor @ shift

    def _posterior(self, psi: Tensor, residual: Tensor, w: Tensor) -> tuple[Tensor, State]:
        """Posterior mean of whitened weights, and what is kept of their covariance."""
        if not self.training and self._few(psi.shape[-2]):
            return _among_rows(psi, residual, w)
        shift, root = among_features(psi, residual, w)
        factor = self.prior_factor.double()
        wide = torch.diag(factor) if factor.ndim == 1 else factor.T
        # the posterior covariance is spread' spread
        return shift, {"spread": torch.linalg.solve_triangular(root, wide, upper=False)}

    def _few(self, n_rows: int) -> bool:
        """Whether directions that rows span, and a factor there, are less than one of features."""
        n = self.n_features + 1
        if self.prior_factor.ndim == 1:  # features may be very many
            return n_rows < n
        return 2 * n_rows < n

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        n = self.n_features + 1
        if self._few(n_rows):
            n = min(n_rows, n)
        return super().numbers_to_adapt(n_rows, n_labels) + OF_PAIRS * n**2

    def halves(self, state: State, phi: Tensor) -> Tensor:
        """H such that H H' is the covariance of phi W for each target, in units of its noise.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapt` returned.
        phi : Tensor of shape (..., n, n_features + 1)
            Features, with an intercept.

        Returns
        -------
        Tensor of shape (..., n, any number)
            H.
        """
        if "spread" in state:
            return phi @ state["spread"].mT
        psi, directions = self._whitened(phi), state["directions"]
        along = psi @ directions.mT
        # nothing was learned of what is across; not as a difference of squares, which would cancel
        across = psi - along @ directions
        if "inverse" in state:
            inside = along @ state["inverse"].mT
        else:
            inside = torch.linalg.solve_triangular(state["root"], along.mT, upper=False).mT
        return torch.cat([inside, across], -1)


def among_features(psi: Tensor, residual: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean of whitened weights, and the Cholesky factor of their precision."""
    weighted = psi.mT * w[..., None, :]
    precision = weighted @ psi + torch.eye(psi.shape[-1], dtype=psi.dtype, device=psi.device)
    root = cholesky(precision)
    return torch.cholesky_solve(weighted @ residual, root), root


def _among_rows(psi: Tensor, residual: Tensor, w: Tensor) -> tuple[Tensor, State]:
    """The same with fewer rows than features: directions that rows span, and the factor there."""
    S = w.sqrt()[..., None]
    Q, R = torch.linalg.qr((S * psi).mT)
    unit = torch.eye(R.shape[-1], dtype=R.dtype, device=R.device)
    root = cholesky(unit + R @ R.mT)
    shift = Q @ torch.cholesky_solve(R @ (S * residual), root)
    return shift, {"directions": Q.mT, "root": root}
