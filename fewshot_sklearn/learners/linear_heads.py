"""What linear heads on an encoder's features share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Tables of all pairs of features, or of rows, that solving holds at once.
OF_PAIRS = 5


def with_intercept(Z: Tensor) -> Tensor:
    """Features and a one, in float64: the solves are small and badly conditioned.

    Parameters
    ----------
    Z : Tensor of shape (..., n, n_features)
        Features.

    Returns
    -------
    Tensor of shape (..., n, n_features + 1)
        The same, and the one.
    """
    return torch.cat([Z, torch.ones_like(Z[..., :1])], -1).double()


def intercept_of(
    coef: np.ndarray, spec: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What a linear head answers where all features are zero.

    Without a past and an encoder that is where X is zero, however rows were centred.

    Parameters
    ----------
    coef : ndarray of shape (n_features + 1, n_outputs)
        Weights of the features, and of the one.
    spec, tensors : mapping
        Of the meta-init.

    Returns
    -------
    ndarray of shape (n_outputs,)
        The intercept.
    """
    plain = spec["encoder"]["name"] == "identity" and not spec.get("past", True)
    if not plain:
        return coef[-1]
    centre = np.float64(tensors["x_mean"]) + tensors["x_rest"]
    return coef[-1] - centre.ravel() @ coef[:-1]


def inverse_of(root: Tensor) -> Tensor:
    """Inverse (n, n) of a lower triangular factor, for graphs, which can multiply but not solve."""
    unit = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
    return torch.linalg.solve_triangular(root, unit, upper=False)
