"""What was made from a meta-init lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Any

#: How many things are kept; each holds about as much memory as the meta-init.
MOST = 8


class Kept:
    """A few things by key; the one that was not asked for the longest goes first."""

    def __init__(self) -> None:
        self._things: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()  # held for a look-up, never while anything is made

    def get(self, key: Hashable) -> Any:
        """What is kept under a key, or None."""
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
            return self._things.get(key)

    def keep(self, key: Hashable, thing: Any) -> Any:
        """Keep a thing and return it, or what another thread has kept under its key before."""
        with self._lock:
            thing = self._things.setdefault(key, thing)
            self._things.move_to_end(key)
            while len(self._things) > MOST:
                self._things.popitem(last=False)
            return thing

    def values(self) -> list[Any]:
        """All that is kept."""
        return list(self._things.values())

    def __len__(self) -> int:
        return len(self._things)
