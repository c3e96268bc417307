"""What torch makes within the package, whatever other libraries have done to torch."""

from __future__ import annotations

import torch
from torch.utils._device import _device_constructors

from fewshot_sklearn.learners import own_defaults


def test_where_another_library_had_a_function_of_its_own_for_a_while(monkeypatch):
    _device_constructors.cache_clear()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(torch, "linspace", lambda *args: torch.arange(3.0))
            _device_constructors()
        torch.set_default_dtype(torch.float64)
        with own_defaults():
            assert torch.linspace(0, 1, 4).dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
        _device_constructors.cache_clear()
