"""Factors and solutions of small systems, for which a GPU's host does not wait.

torch's own say at once when a system has none, and the host has to wait for the GPU to know. These
do so on a CPU, by ``torch.linalg.LinAlgError``; elsewhere what has none is NaN, which training and
prediction look for anyway. Matrices may have leading axes.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cholesky(A: Tensor) -> Tensor:
    """Lower Cholesky factor of positive definite matrices (..., n, n).

    >>> cholesky(torch.tensor([[4.0]]))
    tensor([[2.]])
    """
    if A.device.type == "cpu":
        return torch.linalg.cholesky(A)
    return _none_where(*torch.linalg.cholesky_ex(A))


def solve(A: Tensor, B: Tensor) -> Tensor:
    """Solution X (..., n, k) of AX = B.

    >>> solve(torch.tensor([[4.0]]), torch.tensor([[2.0]]))
    tensor([[0.5000]])
    """
    if A.device.type == "cpu":
        return torch.linalg.solve(A, B)
    return _none_where(*torch.linalg.solve_ex(A, B))


def inverse(A: Tensor) -> Tensor:
    """Inverse of square matrices (..., n, n).

    >>> inverse(torch.tensor([[4.0]]))
    tensor([[0.2500]])
    """
    if A.device.type == "cpu":
        return torch.linalg.inv(A)
    return _none_where(*torch.linalg.inv_ex(A))


def _none_where(found: Tensor, failed: Tensor) -> Tensor:
    """What was found, NaN where it failed."""
    return found.masked_fill((failed != 0)[..., None, None], torch.nan)
