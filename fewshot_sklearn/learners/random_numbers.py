"""Random numbers of one's own: what torch draws in a thread, from a generator that was handed in.

torch draws initial weights and dropout from one generator that all threads of a process share.
Seeding it, even for a moment, gives other threads the same numbers, and takes theirs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Self

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..tasks import moved
from .defaults import own_defaults

#: Layers of torch that draw random numbers, apart from those with a rate of dropout.
DRAWING = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
#: Where layers come from of which it is known whether they draw.
KNOWN = ("torch.nn.", "fewshot_sklearn.")


class OwnRandomNumbers(TorchDispatchMode):
    """Within this context whatever torch draws in this thread comes from generators of its own.

    The numbers are those that ``torch.manual_seed(seed)`` would give. torch's global
    generators are neither read nor written, and torch's defaults do not count: what is
    made without a dtype is float32, and without a device it is on the CPU.

    Parameters
    ----------
    seed : int
        Seeds the generators, one a device.

    Examples
    --------
    >>> import torch
    >>> from fewshot_sklearn.learners import OwnRandomNumbers
    >>> with OwnRandomNumbers(0):
    ...     drawn = torch.nn.Linear(2, 3).weight
    >>> _ = torch.manual_seed(0)
    >>> torch.equal(drawn, torch.nn.Linear(2, 3).weight)
    True
    """

    def __init__(self, seed: int):
        super().__init__()
        self.generators: dict[torch.device, torch.Generator] = {}
        self._defaults: list[AbstractContextManager[Any]] = []
        self.seed(seed)

    def __enter__(self) -> Self:
        self._defaults.append(own_defaults())
        self._defaults[-1].__enter__()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._defaults.pop().__exit__(*raised)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to say True would import the compiler, for seconds

    def seed(self, seed: int) -> None:
        """Begin anew, with another seed."""
        self._seed = seed % 2**63
        for generator in self.generators.values():
            generator.manual_seed(self._seed)

    def of_each(self, n: int, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """Numbers between 0 and 1 for each of n tasks, of the seed and those that come after it.

        What the third gets the first one gets with a seed two further on.

        Parameters
        ----------
        n : int
            How many.
        shape : tuple of int
            Of the numbers of each.
        device : torch.device
            Where they are wanted; they are drawn on the CPU, the same for all devices.

        Returns
        -------
        Tensor of shape (n, \\*shape)
            In float32.
        """
        own = torch.Generator("cpu")
        seeds = ((self._seed + i) % 2**63 for i in range(n))
        with own_defaults():
            drawn = [torch.rand(shape, generator=own.manual_seed(seed)) for seed in seeds]
            return moved(torch.stack(drawn), device)

    def _on(self, device: torch.device) -> torch.Generator:
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self.generators[device]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        own, takes_generator = _about(func)
        kwargs = dict(kwargs or {})
        if func is torch.ops.aten.native_dropout.default:  # of a GPU, and takes none
            return self._dropped_out(*args, **kwargs)
        if not takes_generator and func in _ALIKE:  # of torch before they took one
            made = torch.empty_like(args[0], **kwargs)
            return _ALIKE[func](made, generator=self._on(made.device))
        if takes_generator and kwargs.get("generator") is None:
            tensors = (a for a in args if isinstance(a, torch.Tensor))
            device = next((a.device for a in tensors), kwargs.get("device"))
            kwargs["generator"] = self._on(torch.device(device or "cpu"))
        return own(*args, **kwargs)

    def _dropped_out(self, x: torch.Tensor, p: float, train: bool | None = True) -> Any:
        """What is left of numbers, scaled so that their mean stays, and which are left."""
        kept = torch.empty_like(x, dtype=torch.bool)
        if train is False or p == 0.0:
            return x.clone(), kept.fill_(True)
        kept.bernoulli_(1 - p, generator=self._on(x.device))
        return x * kept * (0.0 if p == 1.0 else 1 / (1 - p)), kept


#: What draws numbers for a tensor of another's shape, and what does so in place.
_ALIKE = {
    torch.ops.aten.rand_like.default: torch.Tensor.uniform_,
    torch.ops.aten.randn_like.default: torch.Tensor.normal_,
}


@cache
def _about(func: Any) -> tuple[Any, bool]:
    """The overload of an operation that takes a generator, and whether it does."""
    if "generator" in {argument.name for argument in func._schema.arguments}:
        return func, True
    packet = func.overloadpacket
    other = "generator" if func._overloadname == "default" else f"{func._overloadname}_generator"
    if other in packet.overloads():
        return getattr(packet, other), True
    return func, False


def draws(module: nn.Module) -> bool:
    """Whether training a network may draw random numbers; True where that is not known."""
    for part in module.modules():
        kind = type(part)
        if isinstance(part, DRAWING) or not kind.__module__.startswith(KNOWN):
            return True
        rates = [getattr(part, "dropout", 0.0)]  # of attention and of recurrent layers
        if isinstance(part, nn.modules.dropout._DropoutNd):
            rates.append(part.p)
        if any(isinstance(rate, float) and rate > 0 for rate in rates):
            return True
    return False
