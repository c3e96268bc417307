"""Nothing that is built from a meta-init is larger than the meta-init says and holds.

A spec of two kilobytes can declare layers of gigabytes, or millions of layers. What a learner
allocates while it is built is counted, so that this is seen before the memory is asked for, for
any algorithm and encoder. Nothing is built on torch's "meta" device: whatever computes there
brings in the compiler, for seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: Numbers and tensors that a learner may make beside those of the meta-init.
SPARE_NUMBERS, SPARE_TENSORS = 2**20, 2000
#: How often it may make them: parameters, what they start from, and drafts.
OFTEN = 16
#: Operations whose result is larger than their input.
_ENLARGING = (
    "diag_embed", "repeat", "new_empty", "new_full", "new_ones", "new_zeros", "new_empty_strided",
)  # fmt: skip


class DeclaredSizes(TorchDispatchMode):
    """Within this context whatever makes more, or larger, tensors than allowed is refused.

    Parameters
    ----------
    n_numbers, n_tensors : int
        Numbers and tensors that the meta-init holds.
    n_row : int
        Numbers in one row.
    """

    def __init__(self, n_numbers: int, n_tensors: int, n_row: int):
        super().__init__()
        self.numbers_left = OFTEN * n_numbers + 4 * n_row + SPARE_NUMBERS
        self.tensors_left = OFTEN * n_tensors + SPARE_TENSORS

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to say True would import the compiler, for seconds

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in _ENLARGING or not any(isinstance(a, Tensor) for a in _flat(args)):
            self.tensors_left -= 1
            self.numbers_left -= _size(name, args)
            if self.tensors_left < 0 or self.numbers_left < 0:
                raise ValueError(
                    "The spec declares a learner that is larger than what the meta-init holds."
                )
        return func(*args, **(kwargs or {}))


def _flat(args: Any) -> Iterator[Any]:
    for arg in args:
        if isinstance(arg, list | tuple):
            yield from arg
        else:
            yield arg


def _size(name: str, args: Any) -> int:
    """How many numbers an operation will make, before it does."""
    if name == "diag_embed":  # of a vector, which `torch.diag` makes a matrix, or of several
        return args[0].numel() * args[0].shape[-1]
    sizes = next((arg for arg in args if isinstance(arg, list | tuple)), None)
    if sizes is not None:
        size = math.prod(abs(s) for s in sizes if isinstance(s, int))
        return size * args[0].numel() if name == "repeat" else size
    numbers = [abs(a) for a in args if isinstance(a, int | float) and math.isfinite(a)]
    if name == "eye":  # as many rows as columns, unless both are told
        return int(math.prod(numbers) if len(numbers) > 1 else numbers[0] ** 2)
    return int(max(numbers, default=1))
