"""Turn a trained meta-init into one that ships: half precision, with a card and its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fewshot_sklearn
from fewshot_sklearn import MetaInit

#: Where the package keeps what it ships.
WEIGHTS = Path(fewshot_sklearn.__file__).parent / "pretrained" / "weights"


def halved(init: MetaInit) -> MetaInit:
    """The same meta-init with float16 tensors, which estimators compute with in float32.

    Parameters
    ----------
    init : MetaInit
        A trained one.

    Returns
    -------
    MetaInit
        Half the size.
    """
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in init.state_dict().items()
    }
    return MetaInit.from_state(state, init.spec, init.provenance)


def with_card(
    init: MetaInit, card: dict[str, str], accuracy: list[dict[str, Any]] | None = None
) -> MetaInit:
    """The same meta-init with a card and the figures that `make accuracy` confirms.

    Parameters
    ----------
    init : MetaInit
        A trained one.
    card : dict of str to str
        Heading and text of each line: data, licence, command, seeds, cost, limits.
    accuracy : list of dict or None, default=None
        ``task``, ``score``, ``mean``, ``ci95`` and ``episodes`` of each figure.

    Returns
    -------
    MetaInit
        One that says what it is.
    """
    figures = accuracy or []
    lines = {
        f"{figure['task']} ({figure['score']})": f"{figure['mean']:g} ± {figure['ci95']:g} "
        f"({figure['episodes']:,} episodes)"
        for figure in figures
    }
    provenance = init.provenance | {"card": card | lines, "accuracy": figures}
    return MetaInit.from_state(init.state_dict(), init.spec, provenance)
