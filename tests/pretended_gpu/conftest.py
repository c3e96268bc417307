"""The pretended GPU has to be there before torch is: it runs in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

#: The version that its use of torch's own was written for.
WRITTEN_FOR = "2.13."

reasons = []
if shutil.which(os.environ.get("CXX", "c++")) is None:
    reasons.append("no C++ compiler here")
if not torch.__version__.startswith(WRITTEN_FOR):
    reasons.append(f"written for torch {WRITTEN_FOR}")
if torch.cuda.is_available():
    reasons.append("there is a GPU here")


def pytest_collection_modifyitems(items):
    for item in items:
        if reasons and "pretended_gpu" in str(item.fspath):
            item.add_marker(pytest.mark.skip(reason=", ".join(reasons)))


def own_process(*command):
    """A process with a pretended GPU; what it printed."""
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *command],
        cwd=ROOT / "tests",
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def lines_of(module, *arguments):
    """What a module of the pretended GPU tells, by name."""
    done = own_process(f"pretended_gpu.{module}", *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return {line.pop("name"): line for line in told}
