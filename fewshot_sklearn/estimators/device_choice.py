"""Where to compute: a GPU is asked only for work that is worth the trouble.

A small `fit` is a few hundred operations that the host has to send one by one and a few answers
that it has to wait for: a millisecond or two, whatever the GPU. A processor has done it by then.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..meta_init import MetaInit
from ..tasks import Constraint

#: Multiplications that a processor does while a GPU is only being asked: about ten milliseconds.
WORTH_IT = 200_000_000
#: Weights of an encoder of which nothing is known yet.
UNKNOWN = 20_000
#: A weight of a convolution meets each pixel; of later layers, which pool, far fewer.
PIXELS_A_WEIGHT = 16
#: What a gradient costs, in passes through the network.
PASSES = 3


def resolve_device(device: Any, solves: bool = True) -> torch.device:
    """Return the torch device meant by ``"auto"`` or by a device name.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"`` is the first GPU of NVIDIA's, where there is one, and else the CPU.
    solves : bool, default=True
        Whether equations are solved there, which takes float64.

    Returns
    -------
    torch.device
        With its number, so that one device has one name.

    Raises
    ------
    ValueError
        When the device does not exist here, or lacks what this package needs.
    """
    if isinstance(device, str) and device == "auto":
        return _numbered(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be 'auto' or a torch device, got {device!r}.") from error
    if resolved.type == "mps" and solves:
        raise ValueError(
            f"device={device!r} has no float64, in which equations are solved here. Use "
            "device='cpu'."
        )
    if resolved.type not in ("cpu", "cuda", "mps", "xpu"):
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'xpu', got {device!r}.")
    if resolved.type == "cpu":
        return torch.device("cpu")
    backend = getattr(torch, resolved.type, None)
    if backend is None or not backend.is_available():
        raise ValueError(
            f"device={device!r} was asked for, but this machine has no usable GPU. Use "
            "device='auto' or device='cpu'."
        )
    if (resolved.index or 0) >= backend.device_count():
        raise ValueError(
            f"device={device!r} was asked for, but this machine has {backend.device_count()} "
            "GPU(s), numbered from 0."
        )
    return _numbered(resolved)


def _numbered(device: torch.device) -> torch.device:
    """The device with its number."""
    if device.type in ("cpu", "mps") or device.index is not None:
        return device
    return torch.device(device.type, getattr(torch, device.type).current_device())


class Device(Constraint):
    """What `resolve_device` takes, on this machine.

    Parameters
    ----------
    or_none : bool, default=False
        Whether None may be, too.
    solves : bool, default=True
        Whether equations are solved there.
    """

    told = "'auto' or a torch device"

    def __init__(self, or_none: bool = False, solves: bool = True):
        self.or_none, self.solves = or_none, solves

    def allows(self, value: Any) -> bool:
        try:
            self.check("device", value)
        except ValueError:
            return False
        return True

    def check(self, name: str, value: Any) -> None:
        if not (self.or_none and value is None):
            resolve_device(value, self.solves)  # which says why not


def device_for(estimator: Any, n_rows: int, shape: tuple[int, ...]) -> torch.device:
    """Where an estimator is to take so many rows of a shape.

    Parameters
    ----------
    estimator : estimator
        Its ``device`` decides; ``"auto"`` goes by `multiplications`.
    n_rows : int
        Rows.
    shape : tuple of int
        Of one of them.

    Returns
    -------
    torch.device
        The GPU, where there is one and the work is worth it.

    Raises
    ------
    ValueError
        When the device does not exist here.
    """
    found = resolve_device(estimator.device)
    asked = not (isinstance(estimator.device, str) and estimator.device == "auto")
    if asked or found.type == "cpu" or multiplications(estimator, n_rows, shape) >= WORTH_IT:
        return found
    return torch.device("cpu")


def multiplications(estimator: Any, n_rows: int, shape: tuple[int, ...]) -> float:
    """About how many multiplications it takes to adapt to rows, or to predict them."""
    pixels = math.prod(shape) / PIXELS_A_WEIGHT if len(shape) > 1 else 1.0
    kind, init = estimator._learner_class, estimator._resolve_meta_init()
    steps = estimator._hyperparameters(init.fixed_spec["hyperparameters"] if init else None).get(
        "n_steps", 0
    )
    passes = 1 + PASSES * steps if kind.adapts_encoder else 1
    return n_rows * _weights(estimator.encoder, init) * max(1.0, pixels) * passes


def _weights(encoder: Any, init: MetaInit | None) -> int:
    """Weights of the network, as far as they are known."""
    if init is not None and init.nbytes:
        return init.nbytes // 4
    if isinstance(encoder, nn.Module):
        return sum(p.numel() for p in encoder.parameters())
    return UNKNOWN
