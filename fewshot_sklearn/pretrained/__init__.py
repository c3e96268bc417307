"""Meta-inits that come with the package, by name."""

from .shipped import find_meta_init, list_meta_inits, load_meta_init

__all__ = [
    "find_meta_init",
    "list_meta_inits",
    "load_meta_init",
]
