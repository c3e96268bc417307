"""Real data, some of which ships with the package, and generators of tasks."""

from .harmonics import make_harmonic_tasks
from .image_folder import load_image_folder
from .intents import embed_sentences, load_banking77, load_clinc150
from .leaves import load_leaves
from .omniglot import fetch_omniglot, load_omniglot
from .r_tasks import load_chem97, load_insteval
from .sinusoids import make_sinusoid_tasks

__all__ = [
    "embed_sentences",
    "fetch_omniglot",
    "load_banking77",
    "load_chem97",
    "load_clinc150",
    "load_image_folder",
    "load_insteval",
    "load_leaves",
    "load_omniglot",
    "make_harmonic_tasks",
    "make_sinusoid_tasks",
]
