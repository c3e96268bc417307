"""Time that what is being learned may take: told once, heeded by all that is called within."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: When it is over, by ``time.monotonic``; of this thread alone.
_UNTIL: ContextVar[float] = ContextVar("until", default=math.inf)


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Let what is done inside know that it has so long, or less where less is left outside.

    Parameters
    ----------
    seconds : float or None
        From now on; None bounds nothing more.
    """
    until = _UNTIL.get()
    if seconds is not None:
        until = min(until, time.monotonic() + seconds)
    token = _UNTIL.set(until)
    try:
        yield
    finally:
        _UNTIL.reset(token)


def seconds_left() -> float:
    """Seconds that are left; infinity where nobody has said.

    Returns
    -------
    float
        Negative once they are over.
    """
    return _UNTIL.get() - time.monotonic()


def is_over() -> bool:
    """Whether there is no time left.

    Returns
    -------
    bool
        Never so where nobody has said how long.
    """
    return seconds_left() <= 0
