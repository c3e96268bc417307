"""The likelihood of past classes' indicators: a linear mixed model of their contrasts.

In an episode of k classes the indicators sum to one, so that k - 1 orthonormal contrasts say all
that they do. Classes are exchangeable: the mean of a contrast's weights is zero, and all contrasts
share one covariance s^2 C C' and one noise s^2. Ridge regression of the indicators, with the
penalty (C C')^-1, is their posterior mean, up to what is common to all classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ._mixed_likelihood import Fit, whitened
from ._mixed_rows import Batch


@dataclass(frozen=True)
class ClassCriterion:
    """The likelihood of the contrasts of many episodes, profiled: a function of C alone.

    Parameters
    ----------
    data : sequence of Batch
        The episodes; the targets are contrasts, zeros where an episode has fewer.
    n_contrasts : Tensor of shape (T,)
        Contrasts of each episode.
    floor : float
        Squared residuals that are rounding.
    n_classes : int
        Classes that the episodes are drawn from.
    """

    data: Sequence[Batch]
    n_contrasts: Tensor
    floor: float
    n_classes: int

    @property
    def n_weights(self) -> int:
        return self.data[0].rows.shape[-1]

    @property
    def n_tasks(self) -> int:
        return sum(len(batch.tasks) for batch in self.data)

    @property
    def share(self) -> float:
        """What one contrast counts: less than one where the same classes are drawn again."""
        drawn = sum(float((self._counts(batch) + 1).sum()) for batch in self.data)
        return min(1.0, self.n_classes / drawn)

    @property
    def draws(self) -> float:
        """Draws from the covariance: of each contrast's weights, one in every episode."""
        return self.share * sum(float(self._counts(batch).sum()) for batch in self.data)

    def _counts(self, batch: Batch) -> Tensor:
        return self.n_contrasts[batch.tasks].double()

    def __call__(self, C: Tensor, spread: Tensor | None = None) -> Fit:
        """Evaluate at a factor; there is no mean that could have a spread."""
        p, value, n, rss = self.n_weights, 0.0, 0.0, self.floor
        precision, pulls = C.new_zeros(p, p), C.new_zeros(p, p)
        for batch in self.data:
            X, z, logdet = whitened(batch, C)
            k = self._counts(batch)
            value += float(k @ logdet)
            n += float(k @ batch.sizes.double())
            rss += float(batch.rest.sum() + z.square().sum())
            rows = X.flatten(0, 1)
            precision += rows.T @ (k[:, None, None] * X).flatten(0, 1)
            pull = (X.mT @ z).mT.flatten(0, 1)
            pulls += pull.T @ pull
        value += n * (1 + math.log(2 * math.pi / n) + math.log(rss))
        by_covariance = precision - n / rss * pulls
        none, noise = C.new_zeros(p, 1), C.new_tensor([rss / n])
        share = self.share
        return Fit(share * value, share * by_covariance, none[:, 0], none, none[:, :0], noise)
