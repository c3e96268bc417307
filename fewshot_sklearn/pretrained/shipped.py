"""Meta-initializations that come with the package, by name, each with its card.

They lie in the installed package: nothing is fetched. The scripts that made them
are in the repository's folder ``training``.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from ..meta_init import MetaInit

__all__ = ["list_meta_inits", "load_meta_init"]

_SUFFIX = ".safetensors"


@cache
def list_meta_inits() -> tuple[str, ...]:
    """Names of the meta-initializations that come with the package.

    Returns
    -------
    tuple of str
        In alphabetical order; each can be passed as an estimator's `meta_init`.

    See Also
    --------
    load_meta_init : The meta-init of a name, with its card.

    Examples
    --------
    >>> from fewshot_sklearn import list_meta_inits
    >>> "omniglot-conv4" in list_meta_inits()
    True
    """
    found = (entry.name for entry in (files(__package__) / "weights").iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def load_meta_init(name: str) -> MetaInit:
    """Load a meta-initialization that comes with the package.

    Parameters
    ----------
    name : str
        One of `list_meta_inits`.

    Returns
    -------
    MetaInit
        The same object every time. Its ``card()`` says what it was trained on,
        how, under which licence, how well it does, and where it does not.

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> from fewshot_sklearn import load_meta_init
    >>> init = load_meta_init("omniglot-conv4")
    >>> init.spec["algorithm"], init.spec["input_shape"]
    ('ProtoNet', [28, 28])
    >>> init.card()["licence"]
    'MIT'
    """
    if not isinstance(name, str) or name not in list_meta_inits():
        raise ValueError(
            f"There is no meta-init of the name {name!r}; those that come with the package are "
            f"{list(list_meta_inits())}."
        )
    return _loaded(name)


@cache
def _loaded(name: str) -> MetaInit:
    with as_file(files(__package__) / "weights" / f"{name}{_SUFFIX}") as path:
        return MetaInit.load(path)


def find_meta_init(where: str | os.PathLike[str]) -> MetaInit:
    """Load a meta-init by the name of one that comes with the package, or from a file.

    Parameters
    ----------
    where : str or path-like
        One of `list_meta_inits`, or a file that `MetaInit.save` wrote.

    Returns
    -------
    MetaInit
        What was found; names come before files.

    Raises
    ------
    FileNotFoundError
        When it is neither.
    """
    if isinstance(where, str) and where in list_meta_inits():
        return load_meta_init(where)
    if not Path(where).is_file():
        raise FileNotFoundError(
            f"meta_init={where!r} is neither a file nor one of those that come with the package: "
            f"{list(list_meta_inits())}."
        )
    return MetaInit.load(where)
