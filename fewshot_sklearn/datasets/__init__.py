"""Real data that ships with the package, and generators of tasks."""

from ._omniglot import fetch_omniglot, load_omniglot
from ._sinusoids import make_sinusoid_tasks

__all__ = ["fetch_omniglot", "load_omniglot", "make_sinusoid_tasks"]
