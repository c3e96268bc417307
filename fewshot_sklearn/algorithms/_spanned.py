"""Few rows among many features: all that tells them apart lies along what they span."""

from __future__ import annotations

import torch
from torch import Tensor


def basis_of(rows: Tensor, w: Tensor) -> Tensor:
    """An orthonormal basis (..., d, n) of rows (..., n, d) of some weight (..., n), n < d."""
    # rows that weigh nothing span nothing; what they hold may be far larger
    return torch.linalg.qr(torch.where(w[..., None] > 0, rows, 0.0).mT).Q


def along_and_across(rows: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (..., n, d) in coordinates of a basis, and the squared length of what lies across it."""
    along = rows @ basis
    return along, (rows - along @ basis.mT).square().sum(-1)


def raised(Q: Tensor) -> Tensor:
    """Positive matrices (..., d, d), with so much on the diagonal that rounding leaves them so."""
    size = Q.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    unit = torch.eye(Q.shape[-1], dtype=Q.dtype, device=Q.device)
    return Q + 8 * torch.finfo(Q.dtype).eps * size * unit
