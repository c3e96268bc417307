"""How the state of a task takes in further rows and leaves classes out, where it can."""

from __future__ import annotations

from torch import Tensor, nn

from ..tasks import Support
from .outputs import State


class FurtherRows(nn.Module):
    """What a learner says of it that cannot, but adapts to all rows at once."""

    #: What `partial_fit` and `forget` of an estimator do, for its description.
    further_rows_told = "`partial_fit` adapts anew to all rows so far, which the estimator keeps."

    def adapt(self, support: Support) -> State:
        raise NotImplementedError

    @property
    def takes_in(self) -> bool:
        """Whether a state takes in further rows without those that it was made of."""
        return False

    def adapt_to_take_in(self, support: Support) -> State:
        """`adapt`, and what `take_in` needs beside: of learners that `takes_in` is not True of, it.

        `predict` takes the state as it takes that of `adapt`.
        """
        return self.adapt(support)

    def take_in(self, state: State, support: Support, index: Tensor | None = None) -> State:
        """What `adapt_to_take_in` would make of the rows of a state and some more together.

        Parameters
        ----------
        state : dict of str to Tensor
            What `adapt_to_take_in`, or this, returned; of a batch of tasks, with a leading axis.
        support : Support
            The further rows, in as many batches; memberships are of the classes `index` says.
        index : Tensor of int of shape (n_way,) or None, default=None
            Which class of the state each class is, -1 for a new one; None where they are
            the same. One for all tasks of a batch.

        Returns
        -------
        dict of str to Tensor
            The new state; the given one is left as it is.
        """
        raise NotImplementedError

    def leave_out(self, state: State, kept: Tensor) -> State | None:
        """What `adapt_to_take_in` would make of the rows of some classes of a state alone.

        Parameters
        ----------
        state : dict of str to Tensor
            As in `take_in`. Of a batch, rows left out stay in it as zeros of weight zero.
        kept : Tensor of int of shape (n_kept,)
            Which classes stay, in their order.

        Returns
        -------
        dict of str to Tensor, or None
            None where that takes the rows.
        """
        return None

    def classes_seen(self, state: State) -> Tensor:
        """Which classes (n_way,) of a state, as `take_in` takes it, have rows."""
        return state["present"]

    def rows_kept(self, state: State) -> int:
        """Of how many rows a state holds the features."""
        return 0
