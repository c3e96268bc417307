"""For pytest: ``-p pretended_gpu.plugin`` runs tests with a GPU that is pretended.

Those that skip without CUDA then run, and ``device="auto"`` is the pretended GPU.
"""

from __future__ import annotations

from contextlib import ExitStack

from .gpu import pretended

_within = ExitStack()
_within.enter_context(pretended())  # at once: whether to skip is asked while tests are read


def pytest_unconfigure():
    """Leave it."""
    _within.close()
