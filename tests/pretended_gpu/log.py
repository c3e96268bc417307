"""What a pretended GPU was asked for: kernels, and the places where the host waited for it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

#: The package whose lines are told.
PACKAGE = Path(__file__).parents[2] / "fewshot_sklearn"


class Log:
    """Kernels launched and waits of the host, counted since `clear`.

    Attributes
    ----------
    kernels : Counter
        By the operation's name.
    waits : Counter
        By (line of the package, reason).
    seeds : int
        How often somebody seeded the device's global generators.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Count from nought."""
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.seeds = 0

    def kernel(self, name: str) -> None:
        """Count a kernel."""
        self.kernels[name] += 1

    def wait(self, reason: str) -> None:
        """Count a wait, at the innermost line of the package that is running."""
        self.waits[_line(), reason] += 1

    def seed(self, *_: object) -> None:
        """Count a seeding."""
        self.seeds += 1


def _line() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            return f"{path.relative_to(PACKAGE)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"
