"""Real data, some of which ships with the package, and generators of tasks."""

from ._harmonics import make_harmonic_tasks
from ._intents import embed_sentences, load_banking77, load_clinc150
from ._leaves import load_leaves
from ._omniglot import fetch_omniglot, load_omniglot
from ._r_tasks import load_chem97, load_insteval
from ._sinusoids import make_sinusoid_tasks

__all__ = [
    "embed_sentences",
    "fetch_omniglot",
    "load_banking77",
    "load_chem97",
    "load_clinc150",
    "load_insteval",
    "load_leaves",
    "load_omniglot",
    "make_harmonic_tasks",
    "make_sinusoid_tasks",
]
