"""What torch makes where nothing else is asked for, whatever the user's program made its default.

``torch.set_default_dtype`` and ``torch.set_default_device`` are for the user's own tensors. To set
them back for a while would change them for other threads.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

#: What makes tensors of the default dtype; others take it for Python's floats alone.
_OF_DEFAULT_DTYPE = {
    torch.empty, torch.empty_strided, torch.eye, torch.linspace, torch.logspace, torch.ones,
    torch.rand, torch.randn, torch.zeros,
}  # fmt: skip
#: What makes tensors. Torch lists it at its first call, and so leaves out what another library has
#: replaced just then, as transformers does with linspace while it loads a model.
_MAKERS = _OF_DEFAULT_DTYPE | _device_constructors()


def own_defaults() -> AbstractContextManager[Any]:
    """Within this context what is made without a dtype is float32, and without a device on the CPU.

    Returns
    -------
    context manager
        Of this thread alone. It costs nothing where these are torch's defaults anyway.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.learners import own_defaults
    >>> with torch.device("meta"), own_defaults():
    ...     print(torch.zeros(2).device)
    cpu
    """
    made = torch.empty(0)  # to ask torch 2.4 by name fails once a default was taken back
    usual = made.dtype is torch.float32 and made.device.type == "cpu"
    return nullcontext() if usual else _OwnDefaults()


class _OwnDefaults(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func not in _MAKERS:
            return func(*args, **kwargs)
        if kwargs.get("device") is None:
            arrays = (a.device for a in args if isinstance(a, Tensor))
            kwargs["device"] = next(arrays, torch.device("cpu"))
        told = kwargs.get("dtype") is not None
        if not told and func in _OF_DEFAULT_DTYPE:
            told, kwargs["dtype"] = True, torch.float32
        made = func(*args, **kwargs)
        numbers = not any(isinstance(a, Tensor | np.ndarray | np.generic) for a in args)
        floats = not told and numbers and made.dtype == torch.get_default_dtype()
        return made.float() if floats else made
