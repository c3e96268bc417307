"""Networks with other weights, in many threads at once."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from .outputs import State


class Shells:
    """Calls a network with weights that are handed in, without writing to it.

    `torch.func.functional_call` puts the weights into the module while it runs, where
    another thread would compute with them. Here each call that is under way has a module
    of its own: a copy of the structure that shares the tensors. They are kept for later
    calls, as many as there ever were at once.

    Parameters
    ----------
    module : nn.Module
        The network. Its own tensors must no longer be replaced.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self._idle: list[nn.Module] = []

    def __call__(self, params: State, *arguments: Tensor) -> Any:
        try:  # popping and appending are each one step, whatever other threads do
            shell = self._idle.pop()
        except IndexError:
            shell = self._made()
        try:
            return functional_call(shell, params, arguments)
        finally:
            self._idle.append(shell)

    def _made(self) -> nn.Module:
        own = [*self.module.parameters(), *self.module.buffers()]
        return copy.deepcopy(self.module, {id(tensor): tensor for tensor in own})

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module, "_idle": []}
