"""Margins of what was trained: by how much it passes, over seeds and instruction sets.

What training gives differs in the last bits from one processor to the next, and after some epochs
in more than those. So a threshold on it must hold for any seed, by three standard deviations.
Tests state such a threshold by the fixture `margin`; `make seeds` measures all of them.
"""

from __future__ import annotations

import json
import os
import pkgutil
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from sklearn.utils import check_random_state

import fewshot_sklearn

#: The environment variables: how far to shift all seeds, and the file to which records are added.
SEED, RECORDS = "FEWSHOT_SEED", "FEWSHOT_MARGINS"


class Margin:
    """Asserts that a number which rests on training is on the right side of a threshold.

    While records are kept (the environment variable FEWSHOT_MARGINS names a file), a comparison
    that fails is raised by `finish`, so that those after it are recorded as well.
    """

    def __init__(self, test):
        self.test, self.failures = test, []

    def above(self, value, threshold, name=""):
        """`value` must be larger than `threshold`; `name` tells several of a test apart."""
        self._compare(value, threshold, name, "above")

    def below(self, value, threshold, name=""):
        """`value` must be smaller than `threshold`."""
        self._compare(value, threshold, name, "below")

    def _compare(self, value, threshold, name, direction):
        value, threshold = float(value), float(threshold)
        path = os.environ.get(RECORDS)
        if path:
            record = {
                "test": self.test, "name": name, "value": value, "threshold": threshold,
                "direction": direction, "seed": int(os.environ.get(SEED, 0)),
                "instructions": torch.backends.cpu.get_cpu_capability(),
            }  # fmt: skip
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        holds = value > threshold if direction == "above" else value < threshold
        told = f"{name or 'the value'} is {value:.6g}, which is not {direction} {threshold:.6g}"
        if path and not holds:
            self.failures.append(told)
        else:
            assert holds, told

    def finish(self):
        assert not self.failures, "; ".join(self.failures)


def shift_seeds():
    """Let FEWSHOT_SEED=k add 1000 k to all whole numbers that the package or torch is seeded with.

    Without that variable, or where it is 0, nothing is changed.
    """
    shift = 1000 * int(os.environ.get(SEED) or 0)
    if not shift:
        return

    def shifted(seed):
        whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        return check_random_state(int(seed) + shift if whole else seed)

    for module in pkgutil.walk_packages(fewshot_sklearn.__path__, "fewshot_sklearn."):
        module = import_module(module.name)
        if getattr(module, "check_random_state", None) is check_random_state:
            module.check_random_state = shifted
    plain = torch.manual_seed
    torch.manual_seed = lambda seed: plain((int(seed) + shift) % 2**63)
