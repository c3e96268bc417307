"""Layers that are written otherwise while many tasks go through a network at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_WRITTEN_OUT: ContextVar[bool] = ContextVar("layers are written out", default=False)


@contextmanager
def written_out() -> Iterator[None]:
    """Within it layers are made of operations that vmap gets right, and all tasks at once.

    Of torch's own norms it gets the second derivatives wrong, and says nothing; those of its
    convolutions it takes a task at a time. They are quicker where nothing is vmapped.
    """
    token = _WRITTEN_OUT.set(True)
    try:
        yield
    finally:
        _WRITTEN_OUT.reset(token)


def is_written_out() -> bool:
    """Whether layers are to be written out here."""
    return _WRITTEN_OUT.get()
