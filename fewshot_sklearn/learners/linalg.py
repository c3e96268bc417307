"""Factors and solutions of small systems, for which a GPU's host does not wait.

torch's own say at once when a system has none, and the host has to wait for the GPU to know. These
do so on a CPU; elsewhere the answer is NaN then, which training and prediction look for anyway.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cholesky(A: Tensor) -> Tensor:
    """Lower Cholesky factor of positive definite matrices.

    Parameters
    ----------
    A : Tensor of shape (..., n, n)
        Symmetric matrices.

    Returns
    -------
    Tensor of shape (..., n, n)
        Lower triangles; NaN, on another device than the CPU, where a matrix has none.

    Raises
    ------
    torch.linalg.LinAlgError
        On a CPU, when a matrix is not positive definite.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.learners import cholesky
    >>> cholesky(torch.tensor([[4.0]]))
    tensor([[2.]])
    """
    if A.device.type == "cpu":
        return torch.linalg.cholesky(A)
    return _none_where(*torch.linalg.cholesky_ex(A))


def solve(A: Tensor, B: Tensor) -> Tensor:
    """Solution X of AX = B, for square matrices.

    Parameters
    ----------
    A : Tensor of shape (..., n, n)
        Matrices.
    B : Tensor of shape (..., n, k)
        Right-hand sides.

    Returns
    -------
    Tensor of shape (..., n, k)
        Solutions; NaN, on another device than the CPU, where a matrix is singular.

    Raises
    ------
    torch.linalg.LinAlgError
        On a CPU, when a matrix is singular.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.learners import solve
    >>> solve(torch.tensor([[4.0]]), torch.tensor([[2.0]]))
    tensor([[0.5000]])
    """
    if A.device.type == "cpu":
        return torch.linalg.solve(A, B)
    return _none_where(*torch.linalg.solve_ex(A, B))


def inverse(A: Tensor) -> Tensor:
    """Inverse of square matrices.

    Parameters
    ----------
    A : Tensor of shape (..., n, n)
        Matrices.

    Returns
    -------
    Tensor of shape (..., n, n)
        Inverses; NaN, on another device than the CPU, where a matrix is singular.

    Raises
    ------
    torch.linalg.LinAlgError
        On a CPU, when a matrix is singular.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.learners import inverse
    >>> inverse(torch.tensor([[4.0]]))
    tensor([[0.2500]])
    """
    if A.device.type == "cpu":
        return torch.linalg.inv(A)
    return _none_where(*torch.linalg.inv_ex(A))


def _none_where(found: Tensor, failed: Tensor) -> Tensor:
    """What was found, NaN where it failed."""
    return found.masked_fill((failed != 0)[..., None, None], torch.nan)
