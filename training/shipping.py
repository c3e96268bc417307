"""Turn a trained meta-init into one that ships: half precision, with a card and its figures."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

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


def train_and_ship(
    argv: Sequence[str] | None,
    told: str | None,
    name: str,
    epochs: int,
    train: Callable[[int, Path | None], MetaInit],
    measure: Callable[[MetaInit], Iterable[dict[str, Any]]],
    card: dict[str, str],
) -> None:
    """A script that trains a meta-init, measures it, and writes the file that ships.

    Parameters
    ----------
    argv : sequence of str or None
        Words of the command line.
    told : str or None
        What the script is for.
    name : str
        The meta-init's.
    epochs : int
        Of training, where none are asked for.
    train : callable
        ``train(epochs, checkpoint) -> MetaInit``.
    measure : callable
        ``measure(meta_init)`` gives figures, as `with_card` takes them.
    card : dict of str to str
        Lines of the card but the seeds and the cost.
    """
    parser = argparse.ArgumentParser(description=told)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--checkpoint", type=Path, default=None)
    parser.add_argument("--minutes", type=float, default=0.0, help="spent before an interruption")
    parser.add_argument("--output", type=Path, default=WEIGHTS / f"{name}.safetensors")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start = time.process_time()
    init = halved(train(options.epochs, options.checkpoint))
    minutes = options.minutes + (time.process_time() - start) / 60
    figures = list(measure(init))
    for one in figures:
        print("{task:24} {score:14} {mean:8g} ± {ci95:g}".format(**one))
    lines = {
        "seeds": "0 (weights, tables, tasks)",
        "training cost": f"{minutes:.0f} CPU-minutes",
    }
    with_card(init, card | lines, figures).save(options.output)
