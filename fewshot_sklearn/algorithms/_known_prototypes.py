"""Prototypes of classes that recur in all past tasks: where they are before any row is seen.

The prototype of a class is the mean of its rows and of some more that stand at a place learned from
the past: a normal prior of its mean. How many these are is learned for each feature, so that
those in which tasks differ little stay where they were.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..learners import SEEN, State, of_known

#: Rows that a prototype counts for, and that shares of classes count for, to start from.
COUNT, SHARES_COUNT = 10.0, 5.0
#: Standard deviation of the logarithms of these counts, and of the scale.
OWN = 2.0
#: Steps of a quasi-Newton search.
STEPS = 100
#: Logarithms are no farther from zero than this.
FARTHEST = 20.0

#: Logits (..., n, K), given prototypes, features and the logarithm of the scale.
Closeness = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Features and memberships and weights of support rows, features and codes of queries.
Episode = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class KnownPrototypes(nn.Module):
    """Prior prototypes of known classes, how often each occurs, and how much both count.

    Parameters
    ----------
    n_features : int
        Features.
    n_classes : int
        Classes.
    log_scale : float
        Logarithm of the distances' scale to start from.
    """

    def __init__(self, n_features: int, n_classes: int, log_scale: float):
        super().__init__()
        self.n_classes = n_classes
        self.prototypes = nn.Parameter(torch.zeros(n_classes, n_features))
        self.log_counts = nn.Parameter(torch.full((n_features,), math.log(COUNT)))
        self.shares = nn.Parameter(torch.zeros(n_classes))
        self.log_shares_count = nn.Parameter(torch.tensor(math.log(SHARES_COUNT)))
        self.log_scale = nn.Parameter(torch.tensor(log_scale))

    def adapt(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """Prototypes (..., K, n_features), log shares (..., K), and what is needed to go on."""
        mass = (w[..., None] * of_known(y, self.n_classes)).mT
        seen = mass.sum(-1)
        counts = self.log_counts.exp()
        prototypes = (counts * self.prototypes + mass @ Z) / (counts + seen[..., None])
        return self._state(prototypes, seen)

    def take_in(self, state: State, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """The same of the rows of a state and some more."""
        mass = (w[..., None] * of_known(y, self.n_classes)).mT
        added, before = mass.sum(-1), state["prototypes"]
        seen = state[SEEN] + added
        total = self.log_counts.exp() + seen[..., None]
        moved = mass @ Z - added[..., None] * before
        return self._state(before + moved / total, seen) | {SEEN: seen}

    def _state(self, prototypes: Tensor, seen: Tensor) -> State:
        count = self.log_shares_count.exp()
        shares = count * self.shares.softmax(-1) + seen
        return {
            "prototypes": prototypes,
            "present": torch.ones_like(shares, dtype=torch.bool),
            "log_shares": shares.log() - shares.sum(-1, keepdim=True).log(),
        }

    def begin(self, Z: Tensor, codes: Tensor) -> None:
        """Stand where the classes' rows are, and be as frequent."""
        members = nn.functional.one_hot(codes, self.n_classes).to(Z.dtype)
        seen = members.sum(0)
        with torch.no_grad():
            self.prototypes.copy_(members.T @ Z / seen.clamp_min(1)[:, None])
            self.shares.copy_(((seen + 1) / (len(Z) + self.n_classes)).log())

    def learn(
        self,
        Z: Tensor,
        codes: Tensor,
        tasks: np.ndarray,
        episodes: Sequence[Episode],
        closeness: Closeness,
    ) -> bool:
        """Learn all of it: what predicts all rows without a label, and queries of episodes, best.

        Parameters
        ----------
        Z : Tensor of shape (N, n_features)
            Features of all past rows.
        codes : Tensor of int of shape (N,)
            Their classes.
        tasks : ndarray of shape (N,)
            Whose they are.
        episodes : sequence of batches of episodes
            Of features.
        closeness : callable
            Logits, given prototypes, features and the logarithm of their scale.

        Returns
        -------
        bool
            Whether something was found: not if numbers became infinite.
        """
        self.begin(Z, codes)
        own = copy.deepcopy(self).to(torch.float64).requires_grad_(True)
        Z, n_tasks = Z.double(), len(np.unique(tasks))
        episodes = [
            (z.double(), y.double(), w.double(), asked.double(), y_asked)
            for z, y, w, asked, y_asked in episodes
        ]
        start = [p.detach().clone() for p in own.parameters()]
        free = [own.prototypes, own.shares]
        optimizer = torch.optim.LBFGS(
            own.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            none = Z.new_zeros(1, len(Z[0])), Z.new_zeros(1, self.n_classes), Z.new_zeros(1)
            state = own.adapt(*none)
            logits = own.logits(state, Z, closeness)
            value = nn.functional.cross_entropy(logits, codes)
            for Z_known, y, w, asked, y_asked in episodes:
                logits = own.logits(own.adapt(Z_known, y, w), asked, closeness)
                told = nn.functional.cross_entropy(
                    logits.flatten(0, 1), y_asked.flatten(), ignore_index=-100
                )
                value = value + told * len(y) / sum(len(batch[1]) for batch in episodes)
            for p, before in zip(own.parameters(), start, strict=True):
                if any(p is one for one in free):
                    value = value + 0.5 * (p - before).square().sum() / len(Z)
                else:
                    value = value + 0.5 * ((p - before) / OWN).square().sum() / n_tasks
            value.backward()
            return value

        with torch.enable_grad():
            optimizer.step(loss)
        if not all(bool(torch.isfinite(p).all()) for p in own.parameters()):
            return False
        with torch.no_grad():
            for p, found in zip(self.parameters(), own.parameters(), strict=True):
                p.copy_(found if found.ndim == 2 else found.clamp(-FARTHEST, FARTHEST))
        return True

    def logits(self, state: State, Z: Tensor, closeness: Closeness) -> Tensor:
        """Logits (..., n, K) of features (..., n, n_features)."""
        near = closeness(state["prototypes"], Z, self.log_scale)
        return near + state["log_shares"][..., None, :]
