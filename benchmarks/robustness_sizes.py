"""Many rows, many classes and wide rows, in little memory; for `robustness.py`.

Each trial runs in a process of its own with a bounded address space, and tells what its memory
grew by at its largest.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from robustness_tasks import ESTIMATORS, REGRESSORS, answers, made, trained
from robustness_trials import Fell, Trial, answer_apart

#: What the memory of a process may grow by, in bytes, and its address space before it is refused.
MOST_GROWTH, MOST_SPACE = 1.5 * 2**30, 4 * 2**30
#: What a trial may take.
SECONDS = 60
N_SUPPORT, N_ASKED, N_COMPARED = 100, 100_000, 50
#: Of a fit to many rows: rows and classes. Of wide rows: rows and columns.
MANY, N_CLASSES = 5_000, 300
FEW_WIDE, WIDE = 20, 5_000


class Grown(NamedTuple):
    """What a trial took."""

    bytes: float
    seconds: float


def _rows(n: int, width: int, n_classes: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, width))
    labels = np.arange(n) % n_classes
    X[np.arange(n), labels % width] += 3.0
    return X, X[:, 0] if name in REGRESSORS else labels


def _now() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _bounded(run: Callable[[], None]) -> Grown:
    """Run it, within bounds, and measure."""
    space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = space + MOST_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    before, since = _now(), time.monotonic()
    try:
        run()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise Fell(f"more than {MOST_SPACE / 2**30:g} GiB: {error}") from None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Grown(peak - before, time.monotonic() - since)


def within(run: Callable[[], None]) -> str:
    """Run it in a process of its own; fell where it grows too much."""
    try:
        grown = answer_apart(partial(_bounded, run), SECONDS)
    except Fell as fell:
        if "would need about" in str(fell):  # by an error that says how much, and what to do
            return "refused"
        raise
    if grown.bytes > MOST_GROWTH:
        raise Fell(f"{grown.bytes / 2**30:.2f} GiB more, in {grown.seconds:.1f} s")
    return "within"


def _answers(name: str, past: bool, n_classes: int) -> None:
    """Many rows at once; those of a few are the same alone."""
    estimator = trained(name) if past else made(name)
    X, y = _rows(N_SUPPORT, 5, n_classes, name)
    estimator.fit(X, y)
    asked = np.random.default_rng(1).normal(size=(N_ASKED, 5))
    got = answers(estimator, asked)
    chosen = np.random.default_rng(2).choice(N_ASKED, N_COMPARED, replace=False)
    alone = answers(estimator, asked[chosen])
    if not np.isfinite(got).all() or len(got) != N_ASKED:
        raise Fell("answers that are no numbers")
    if not np.allclose(got[chosen], alone, rtol=1e-4, atol=1e-5):
        raise Fell(f"another answer among many, by {np.abs(got[chosen] - alone).max():.2g}")


def _fit(name: str, past: bool, n: int, width: int, n_classes: int) -> None:
    """Fit, and ask of some rows."""
    estimator: Any = trained(name) if past else made(name)
    X, y = _rows(n, width, n_classes, name)
    got = answers(estimator.fit(X, y), X[:N_COMPARED])
    if not np.isfinite(got).all():
        raise Fell("answers that are no numbers")


def size_trials() -> list[Trial]:
    """Each estimator, with a past and without."""
    found = []
    for name in ESTIMATORS:
        for past in (False, True):
            of = f"{'trained ' if past else ''}{name}"
            n = 20 if past else 2
            found += [
                Trial(
                    f"{of}.predict({N_ASKED} rows, {n} classes)",
                    partial(within, partial(_answers, name, past, n)),
                ),
                Trial(
                    f"{of}.fit({MANY} rows, {N_CLASSES} classes)",
                    partial(within, partial(_fit, name, past, MANY, 5, N_CLASSES)),
                ),
            ]
        found.append(
            Trial(
                f"{name}.fit({FEW_WIDE} rows of {WIDE})",
                partial(within, partial(_fit, name, False, FEW_WIDE, WIDE, 4)),
            )
        )
    return found
