"""States that take in further rows, and leave classes out, without the rows they were made of.

A state made by `adapt_to_take_in` holds beside what `predict` needs what is needed to go on: sums
by class, or features of rows. All functions take states of a batch of tasks, too, which have a
leading axis of tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..tasks import Support
from .learner import FeatureLearner
from .outputs import State, present_classes

#: How much of each class was seen (n_way,): the sum of the weights of its rows.
SEEN = "seen"
#: Memberships or targets, and weights, of the rows whose features a state keeps.
KEPT_Y, KEPT_W = "kept_y", "kept_w"


def by_class(t: Tensor, index: Tensor, axis: int) -> Tensor:
    """What stands at some classes of a tensor; zero, or False, where a class is new.

    Parameters
    ----------
    t : Tensor
        Any.
    index : Tensor of int of shape (n_new_way,)
        Where each class stood; -1 for those that are new.
    axis : int
        Axis of the classes, negative.
    """
    shape = [1] * t.ndim
    shape[axis] = len(index)
    known = (index >= 0).view(shape)
    if not t.shape[axis]:
        return t.new_zeros([len(index) if i == t.ndim + axis else n for i, n in enumerate(t.shape)])
    return torch.where(known, t.index_select(t.ndim + axis, index.clamp_min(0)), t.new_zeros(()))


class TakesIn(FeatureLearner):
    """A learner of which a state can take in further rows: equal to adapting to all of them."""

    @property
    def takes_in(self) -> bool:
        return True

    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """What `take_in` needs of the rows that a state was made of, beside the state."""
        return {}

    def adapt_to_take_in(self, support: Support) -> State:
        Z = self.embed(support.X)
        state = self.adapt_features(Z, support.y, support.w)
        return state | self.statistics(Z, support.y, support.w)

    def take_in(self, state: State, support: Support, index: Tensor | None = None) -> State:
        return self.take_in_features(state, self.embed(support.X), support.y, support.w, index)

    def take_in_features(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        """`take_in`, given the features of the further rows."""
        raise NotImplementedError


class RunningMeans(TakesIn):
    """A learner whose state is a mean of each class's rows."""

    further_rows_told = (
        "`partial_fit` moves the class means by the further rows alone, new classes among them, "
        "and `forget` takes classes out: neither needs the rows that were there before."
    )
    #: Name of the means (n_way, n_features) in the state.
    means: str

    def averaged(self, Z: Tensor) -> Tensor:
        """What the means are of, given features."""
        return Z

    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return {SEEN: (w[..., None] * y).sum(-2)}

    def take_in_features(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        if index is not None:
            state = self._at(state, index)
        mass, means = (w[..., None] * y).mT, state[self.means]
        added, tiny = mass.sum(-1), torch.finfo(Z.dtype).tiny
        seen = state[SEEN] + added
        moved = mass @ self.averaged(Z) - added[..., None] * means
        means = means + moved / seen.clamp_min(tiny)[..., None]
        present = state["present"] | present_classes(y, w)
        return {self.means: means, "present": present, SEEN: seen}

    def leave_out(self, state: State, kept: Tensor) -> State | None:
        return self._at(state, kept)

    def _at(self, state: State, index: Tensor) -> State:
        axes = {self.means: -2, "present": -1, SEEN: -1}
        return {name: by_class(t, index, axes[name]) for name, t in state.items()}


class KeepsFeatures(TakesIn):
    """A learner whose state holds the features of all its rows: further ones are appended."""

    further_rows_told = (
        "`partial_fit` adds the features of further rows to those that the estimator knows, and "
        "computes what follows from them. Without a meta-init, where features are scaled by the "
        "rows at hand, it adapts anew to all rows, which the estimator keeps."
    )
    #: Name of the features (n, n_features) in the state.
    features_in: str

    def statistics(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return {KEPT_Y: y, KEPT_W: w}

    def rows_kept(self, state: State) -> int:
        return state[KEPT_W].shape[-1]

    def classes_seen(self, state: State) -> Tensor:
        return present_classes(state[KEPT_Y], state[KEPT_W])

    def take_in_features(
        self, state: State, Z: Tensor, y: Tensor, w: Tensor, index: Tensor | None = None
    ) -> State:
        known = state[KEPT_Y]
        known = known if index is None else by_class(known, index, -1)
        Z = torch.cat([state[self.features_in], Z], -2)
        return self._from(Z, torch.cat([known, y], -2), torch.cat([state[KEPT_W], w], -1))

    def leave_out(self, state: State, kept: Tensor) -> State:
        y = by_class(state[KEPT_Y], kept, -1)
        return self._from(*those(y.sum(-1) > 0, state[self.features_in], y, state[KEPT_W]))

    def _from(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return self.adapt_features(Z, y, w) | self.statistics(Z, y, w)


def those(stay: Tensor, Z: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows that stay (..., n); those of a batch, of which each task has others, become nothing."""
    if stay.ndim == 1:
        return Z[stay], y[stay], w[stay]
    return Z * stay[..., None], y * stay[..., None], w * stay
