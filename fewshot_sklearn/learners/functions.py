"""Regressions that know a distribution of functions: how values at different rows hang together.

C. E. Rasmussen and C. K. I. Williams. Gaussian processes for machine learning. MIT Press 2006
(section 2.1, weights; section 2.2, functions; A.2, draws).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .learner import FeatureLearner
from .outputs import State

#: Added to the diagonal of a covariance, in units of its largest entry, until it has a Cholesky
#: factor.
JITTERS = (1e-12, 1e-10)
#: Tables of all pairs of rows, and of rows and what they are seen by, that a covariance takes.
OF_PAIRS, OF_SEEN = 4, 4


class FunctionLearner(FeatureLearner):
    """A regression whose posterior is one of functions: Gaussian at any rows at once.

    The values of the function at some rows have the covariance `function_variance`
    times what `covariance_of_features` says, which is the same for all targets; what is
    observed has `noise_variance` beside, of each row by itself. Always in float64.
    """

    def function_variance(self) -> Tensor:
        """Unit (n_outputs,) of the covariance of each target, in squared units of the targets."""
        raise NotImplementedError

    def noise_variance(self) -> Tensor:
        """Variance (n_outputs,) of what is observed about the function, in the same units."""
        raise NotImplementedError

    def covariance_of_features(self, state: State, Z: Tensor) -> Tensor:
        """Covariance (n, n) of the function at rows of features Z, in `function_variance`."""
        raise NotImplementedError

    def n_draws_of(self, state: State, n_rows: int) -> int:
        """How many standard normal numbers a draw of a function at so many rows takes."""
        return n_rows

    def functions(self, state: State, Z: Tensor, numbers: Tensor) -> Tensor:
        """Draw functions about their mean.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapt` returned for one task.
        Z : Tensor of shape (n, n_features)
            Features of the rows.
        numbers : Tensor of shape (n_draws_of, m)
            Standard normal numbers, in float64.

        Returns
        -------
        Tensor of shape (n, m)
            m functions at the rows, in roots of `function_variance`.
        """
        return root_of(self.covariance_of_features(state, Z)) @ numbers

    def numbers_to_correlate(self, state: State, n_rows: int) -> int:
        """Numbers that the covariance of so many rows takes at once."""
        seen = self.n_features + max((t.shape[-1] for t in state.values() if t.ndim), default=0)
        tables = OF_PAIRS + (self.n_outputs or 1)
        return tables * n_rows**2 + OF_SEEN * n_rows * seen

    def numbers_to_draw(self, state: State, n_rows: int) -> int:
        """Numbers that drawing functions at so many rows takes at once, beside the draws."""
        return self.numbers_to_correlate(state, n_rows)


def root_of(covariance: Tensor) -> Tensor:
    """A root L of a covariance (n, n), L L' but for rounding: lower triangular if there is one."""
    size = covariance.diagonal().amax().clamp_min(torch.finfo(covariance.dtype).tiny)
    for jitter in JITTERS:
        raised = covariance.clone()
        raised.diagonal().add_(jitter * size)
        root, failed = torch.linalg.cholesky_ex(raised)
        if not failed:
            return root
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0.0).sqrt()
