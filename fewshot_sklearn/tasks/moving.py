"""Bring arrays to a device without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def moved(values: Any, device: torch.device | str | None) -> Tensor:
    """Bring an array, or a tensor, to a device.

    To a GPU of NVIDIA's it goes through pinned memory, so that the host need not wait until the
    GPU has done what it was asked for before.

    Parameters
    ----------
    values : ndarray or Tensor
        What to bring.
    device : torch.device, str or None
        Where to; None leaves it where it is.

    Returns
    -------
    Tensor
        There; `values` itself, or what shares its memory, if it was there already.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.tasks import moved
    >>> moved(np.arange(3), "cpu")
    tensor([0, 1, 2])
    """
    tensor = torch.as_tensor(values, device=_of(values))
    if device is None:
        return tensor
    device = torch.device(device)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


def _of(values: Any) -> torch.device:
    """Where values lie; arrays on the CPU, whatever torch's default is."""
    return values.device if isinstance(values, Tensor) else torch.device("cpu")
