"""Rows of tables: what categories are like, learned beside the numbers.

C. Guo and F. Berkhahn. Entity embeddings of categorical variables. arXiv 1604.06737, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Numbers that say what a category is like, at most.
MOST_LIKENESSES = 16
#: Standard deviation of these before training.
SPREAD = 0.3


class TableRows(nn.Module):
    """Looks up what categories are like, and hands it on beside the numbers.

    A category that the past does not know is like the mean of those it does.

    Parameters
    ----------
    n_numbers : int
        Numbers at the beginning of a row.
    sizes : sequence of int
        For each code at its end how many there are; one more is a category not known. 0 where
        nothing is to be learned of them.
    """

    def __init__(self, n_numbers: int, sizes: Sequence[int]):
        super().__init__()
        self.n_numbers, self.n_codes = n_numbers, len(sizes)
        self.likenesses = nn.ParameterList(
            nn.Parameter(SPREAD * torch.randn(size, min(MOST_LIKENESSES, (size + 1) // 2)))
            for size in sizes
            if size
        )
        self.places = [i for i, size in enumerate(sizes) if size]
        self.n_features = n_numbers + sum(table.shape[1] for table in self.likenesses)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[..., : self.n_numbers]]
        for i, table in zip(self.places, self.likenesses, strict=True):
            code = x[..., self.n_numbers + i].round().long().clamp(0, len(table))
            known = (code < len(table))[..., None]
            row = table[code.clamp(max=len(table) - 1)]
            parts.append(torch.where(known, row, table.mean(0)))
        return torch.cat(parts, -1)


class TableEncoder(nn.Module):
    """An encoder of the rows that `TableRows` makes.

    Parameters
    ----------
    rows : TableRows
        Makes rows of numbers.
    encoder : nn.Module
        Takes them.
    """

    def __init__(self, rows: TableRows, encoder: nn.Module):
        super().__init__()
        self.rows, self.encoder = rows, encoder
        self.n_codes = rows.n_codes

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(self.rows(x))
