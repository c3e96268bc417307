"""Run pieces of work on the CPU and on a pretended device, and compare what they tell.

    python -m pretended_gpu.run [--kind cuda] [PART OF A NAME ...]

Prints a line of JSON for each: its name, what went wrong if anything did, the kernels and the
waits of the device's host. In tests/; torch must not have been imported before.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
import warnings
from typing import Any

from .gpu import log, pretended

import numpy as np  # isort: skip
import torch  # isort: skip

from .works import WORKS  # isort: skip

#: What answers may differ by: what is vmapped on one device is not on the other.
CLOSE = {"rtol": 2e-3, "atol": 2e-3}


def differences(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """What is not the same, if anything."""
    if one.keys() != other.keys():
        return f"told {sorted(one)} and {sorted(other)}"
    for key, value in one.items():
        if isinstance(value, bytes):
            if value != other[key]:
                return f"{key}: not equal to the bit"
            continue
        try:
            np.testing.assert_allclose(np.asarray(value), np.asarray(other[key]), **CLOSE)
        except (AssertionError, TypeError) as error:
            if np.asarray(value).dtype.kind in "iufb" or not np.array_equal(value, other[key]):
                return f"{key}: {str(error).strip()[:400]}"
    return None


def checked(name: str, kind: str) -> dict[str, Any]:
    """One piece of work on both."""
    start = time.perf_counter()
    found: dict[str, Any] = {"name": name, "wrong": None}
    try:
        expected = WORKS[name]("cpu")
        random = torch.get_rng_state()
        with pretended(kind):
            log.clear()
            told = WORKS[name](kind)
        found["wrong"] = differences(expected, told)
        if log.seeds or not torch.equal(random, torch.get_rng_state()):
            found["wrong"] = found["wrong"] or "the user's generators were drawn from or seeded"
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "fewshot" in f.filename]
        lines = [f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in frames[-4:]]
        found["wrong"] = f"{type(error).__name__}: {str(error).strip()[:300]} {lines}"
    found["kernels"] = sum(log.kernels.values())
    found["waits"] = sum(log.waits.values())
    return found | {"seconds": round(time.perf_counter() - start, 2)}


def main() -> None:
    """Run those whose names hold one of the parts, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", default="cuda", choices=["cuda", "mps", "xpu"])
    parser.add_argument("parts", nargs="*")
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in WORKS:
        if not told.parts or any(part in name for part in told.parts):
            print(json.dumps(checked(name, told.kind)), flush=True)


if __name__ == "__main__":
    main()
