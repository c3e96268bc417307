"""How a learner takes rows in parts, so that it needs no more memory than it may take."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from ..encoders import Shape
from .memory import OF_LABELS, at_once, rows_for
from .outputs import Outputs, State, joined_as_they_come

#: Numbers that predicting may need for each row and each number of a task's state: copies,
#: products, attention.
OF_STATE = 8
#: Parts of all memory that rows may take at once in adapting, which holds much else beside.
OF_FIT = 32


class InParts(nn.Module):
    """What a learner knows of its size."""

    input_shape: Shape
    n_features: int
    convolves: bool

    # ------------------------------------------------------------------ predict
    def rows_at_once(self, state: State) -> int:
        """How many rows to predict at once, so that it takes no more than `numbers_at_once`.

        A row meets the whole of a task's state once, as in the differences from all
        support rows; layers of an encoder are as wide as the rows and the features, or
        as many maps of an image.
        """
        return rows_for(OF_STATE * self.numbers_a_row(state))

    def numbers_a_row(self, state: State) -> int:
        """Numbers that predicting one row of each task meets, of the states and of the layers."""
        return sum(t.numel() for t in state.values()) + self._width()

    def _width(self) -> int:
        return math.prod(self.input_shape) * (64 if self.convolves else 1) + self.n_features

    def _in_parts(
        self, predict: Callable[[State, Tensor], Outputs], state: State, rows: Tensor, axis: int
    ) -> Outputs:
        if self.training or at_once(rows.shape[axis], step := self.rows_at_once(state)):
            return predict(state, rows)
        parts = (predict(state, part) for part in rows.split(step, axis))
        return joined_as_they_come(parts, rows.shape[axis])

    # ------------------------------------------------------------------ adapt
    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        """Numbers that adapting holds at once, beside the rows and however it is divided.

        Parameters
        ----------
        n_rows : int
            Rows of the task.
        n_labels : int
            Its classes or targets.
        """
        return OF_LABELS * n_rows * n_labels

    def parts_of(self, rows: Tensor, numbers_a_row: int, axis: int = -2) -> tuple[Tensor, ...]:
        """Rows in as many parts as adapting takes them in; in one while training.

        Parameters
        ----------
        rows : Tensor
            Rows along `axis`.
        numbers_a_row : int
            Numbers that what is computed holds for each row.
        axis : int, default=-2
            Axis of the rows.
        """
        n = rows.shape[axis]
        if self.training or at_once(n, step := rows_for(OF_FIT * numbers_a_row)):
            return (rows,)
        return rows.split(step, axis)

    def by_rows(
        self, function: Callable[[Tensor], Tensor], rows: Tensor, numbers_a_row: int
    ) -> Tensor:
        """What a function makes of rows, each by itself, in as many parts as `parts_of` says."""
        parts = self.parts_of(rows, numbers_a_row)
        if len(parts) == 1:
            return function(rows)
        return joined_as_they_come(map(function, parts), rows.shape[-2])
