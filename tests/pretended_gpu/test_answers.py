"""On a pretended GPU all public classes run, and answer as on the CPU."""

from __future__ import annotations

import pytest

from pretended_gpu.conftest import lines_of
from pretended_gpu.works import WORKS


@pytest.fixture(scope="module")
def found():
    return lines_of("run")


@pytest.mark.parametrize("name", WORKS)
def test_a_gpu_answers_as_the_cpu(found, name):
    assert found[name]["wrong"] is None
    assert found[name]["kernels"] > 0  # it did compute there
