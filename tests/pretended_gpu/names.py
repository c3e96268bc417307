"""Names of the pieces of work and of the steps, without a GPU that is pretended: for pytest."""

from __future__ import annotations

from .works import ESTIMATORS, WORKS, encoders_of

WORK = list(WORKS)
STEPS = [f"{name}, {encoder}" for name in ESTIMATORS for encoder in encoders_of(name)]
