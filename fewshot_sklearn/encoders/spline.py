"""Bends of single numbers, with nothing to learn: a linear head on them is an additive model.

T. Hastie, R. Tibshirani and J. Friedman. The Elements of Statistical Learning, second
edition, 2009, section 5.2.1: natural cubic splines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..tasks import Positive, Several, Whole, check_arguments
from ._rank import check_flat
from .image import Shape


class Spline(nn.Module):
    """A row of numbers, and a basis of the natural cubic splines of each.

    With a linear head, each number has a smooth curve of its own, and they add
    up; beyond the outer knots curves are straight. There is nothing to learn.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one row, (n_features,).
    n_knots : int, default=5
        Knots of each number, at least 3, evenly from -`extent` to `extent`. There
        are as many less two columns for each number, beside itself.
    extent : float, default=2.0
        Place of the outer knots, in standard deviations of the past rows.
    columns : sequence of int or None, default=None
        Numbers that bend; the others, such as zeros and ones, stay as they are. None
        takes all.
    """

    _constraints = {
        "n_knots": Whole(3),
        "extent": Positive(),
        "columns": Several(Whole(0), least=0) | None,
    }

    def __init__(
        self,
        input_shape: Shape,
        n_knots: int = 5,
        extent: float = 2.0,
        columns: Sequence[int] | None = None,
    ):
        super().__init__()
        check_arguments(self._constraints, n_knots=n_knots, extent=extent, columns=columns)
        check_flat("spline", input_shape)
        n = input_shape[0]
        which = list(range(n)) if columns is None else [int(i) for i in columns]
        if which and max(which) >= n:
            raise ValueError(f"columns must be below the {n} numbers of a row, got {which}.")
        self.columns, self.extent = which, float(extent)
        self.knots = np.linspace(-self.extent, self.extent, n_knots).tolist()

    def forward(self, x: Tensor) -> Tensor:
        z, knots = x[:, self.columns], self.knots
        beyond = [torch.relu(z - knot) ** 3 for knot in knots]
        bent = [(beyond[i] - beyond[-1]) / (knots[-1] - knots[i]) for i in range(len(knots) - 1)]
        # divided by the distance of the outer knots squared: of the order of one
        unit = (2 * self.extent) ** -2
        return torch.cat([x, *((one - bent[-1]) * unit for one in bent[:-1])], 1)
