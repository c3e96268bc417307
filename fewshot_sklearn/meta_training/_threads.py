"""How many threads torch takes for a training, where nobody has said.

Steps of small networks are over before a second thread has woken up, and on a busy machine they
wait for it: two threads took twenty times as long as one. See docs/performance.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

#: Processors up to which convolutions gain less from them all than they lose on a busy machine.
FEW_PROCESSORS = 4
#: What users say it by.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

#: What torch took when it was first asked, here.
_AT_FIRST = torch.get_num_threads()


@contextmanager
def few_threads(convolves: bool) -> Iterator[None]:
    """Within this context torch takes one thread, if that is likely quicker and nobody objects.

    The number is of the thread that trains: others go on as they did.

    Parameters
    ----------
    convolves : bool
        Whether the network has convolutions, which many processors do make quicker.
    """
    before = torch.get_num_threads()
    if somebody_said() or (convolves and before > FEW_PROCESSORS):
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def somebody_said() -> bool:
    """Whether the number of threads is no longer what torch takes by itself."""
    told = any(os.environ.get(name) for name in VARIABLES)
    return told or torch.get_num_threads() != _AT_FIRST
