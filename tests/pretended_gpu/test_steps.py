"""No step of meta-training waits for the GPU, or launches more kernels for more tasks."""

from __future__ import annotations

import pytest

from pretended_gpu.conftest import lines_of
from pretended_gpu.works import ESTIMATORS, encoders_of

#: What is asked for in validation: whether sums are right by now.
WAITS = {"TransductivePTMAPClassifier, mlp": ["even_prices"]}

STEPS = [f"{name}, {encoder}" for name in ESTIMATORS for encoder in encoders_of(name)]


@pytest.fixture(scope="module")
def found():
    return lines_of("steps")


@pytest.mark.parametrize("name", STEPS)
def test_no_step_waits(found, name):
    allowed = WAITS.get(name, [])
    assert not [line for line in found[name]["waits"] if not any(k in line for k in allowed)]


@pytest.mark.parametrize("name", STEPS)
def test_launches_do_not_grow_with_tasks(found, name):
    few, more = found[name]["kernels"]
    assert few > 0
    assert more == few
