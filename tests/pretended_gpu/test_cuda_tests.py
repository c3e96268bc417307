"""Tests that skip where there is no CUDA run on the pretended GPU."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from pretended_gpu.conftest import own_process

#: Left out is what only a real one has, kernels that are compiled for it and its rounding, and what
#: test_answers.py holds of all estimators.
LEFT_OUT = "compiled or bf16 or tf32 or (cuda_equals_cpu and not images)"
SAYS = re.compile(r"needs_cuda|torch\.cuda\.is_available|\"cuda\"")
FILES = [
    str(path.relative_to(ROOT / "tests"))
    for path in sorted((ROOT / "tests").glob("*/test_*.py"))
    if path.parent.name != "pretended_gpu" and SAYS.search(path.read_text("utf-8"))
]


@pytest.mark.parametrize("file", FILES)
def test_they_pass(file):
    told = ["-q", "-p", "no:cacheprovider", "-p", "pretended_gpu.plugin", "--no-header"]
    done = own_process("pytest", *told, "-k", f"(cuda or gpu) and not ({LEFT_OUT})", file)
    assert done.returncode in (0, 5), done.stdout[-4000:] + done.stderr[-2000:]


def test_there_are_some():
    assert {"estimators/test_devices.py", "algorithms/test_maml.py"} <= {*FILES}
