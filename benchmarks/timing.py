"""Interleaved timing: every round visits all contenders, and ratios are taken within a round."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: A visit repeats a contender's call until it has run at least this long, in CPU-seconds.
VISIT = 0.2
#: A call whose warm-up takes longer than this is not tried a second time before the rounds.
LONG = 2.0


@dataclass(frozen=True)
class Contender:
    """A call to time, the units of work it does, and the factor its time stands for.

    A call that makes 300 steps has ``units=300``; one that does 20 of 1,000
    episodes has ``units=20 / 1000``.
    """

    call: Callable[[], Any]
    units: float = 1


@dataclass(frozen=True)
class Row:
    """One comparison: the ratio is the peer's time (or memory) over ours; None without a peer.

    Its spread is the smallest and the largest of all rounds.
    """

    work: str
    peer: str
    theirs: float | None
    ours: float
    ratio: float | None
    target: float | None = None
    unit: str = "ms"
    spread: tuple[float, float] | None = None

    def __str__(self) -> str:
        target = "" if self.target is None else f"≥ {self.target:g}"
        theirs = "" if self.theirs is None else f"{_short(self.theirs)} {self.unit}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        if self.spread is not None:
            ratio += f" ({self.spread[0]:.2f} to {self.spread[1]:.2f})"
        return (
            f"| {self.work} | {self.peer} | {theirs} "
            f"| {_short(self.ours)} {self.unit} | {ratio} | {target} |"
        )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def interleave(
    contenders: Mapping[str, Contender],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, np.ndarray]:
    """Milliseconds a unit takes, one value a round; the first, untimed visit warms up."""
    repeats = {}
    for name, contender in contenders.items():
        start = clock()
        contender.call()
        if clock() - start < LONG:
            start = clock()
            contender.call()
        repeats[name] = int(np.ceil(VISIT / max(clock() - start, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            gc.collect()
            start = clock()
            for _ in range(repeats[name]):
                contender.call()
            seconds = (clock() - start) / repeats[name]
            times[name].append(1e3 * seconds / contender.units)
        print(f"  round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return {name: np.array(values) for name, values in times.items()}


def compare(
    work: str, times: Mapping[str, np.ndarray], ours: str, target: float | None = None
) -> list[Row]:
    """Rows of one of our contenders against all that are not ours, whose names start "ours".

    One row with our time alone where no peer is installed.
    """
    variant = ours.removeprefix("ours").strip(" ,")
    name = f"{work}, {variant}" if variant else work
    own = float(np.median(times[ours]))
    rows = [
        Row(
            name,
            peer,
            float(np.median(theirs)),
            own,
            float(np.median(theirs / times[ours])),
            target,
            spread=(float(np.min(theirs / times[ours])), float(np.max(theirs / times[ours]))),
        )
        for peer, theirs in times.items()
        if not peer.startswith("ours")
    ]
    return rows or [Row(name, "none installed", None, own, None, target)]
