"""Measure every meta-init that ships, anew, and hold the figures against those on its card.

    python training/accuracy.py                      # all of them
    python training/accuracy.py omniglot-conv4       # some

Prints a table and ends with exit status 1 if a figure of a card is not confirmed. Episodes and
seeds are those that the card was written with, so that figures differ by rounding alone; one is
confirmed if it differs by less than half its 95 % interval. Where data is needed that does not
come with the package (the intents'), and is not here, the line says so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache
from typing import Any

import numpy as np
import sklearn
import torch
from curves import measure_curves, measure_sinusoids
from glyphs import Letters, measure_glyphs, past_and_new
from intents import measure_intents
from series import measure_series
from tabular_in_context import measure_tabular
from tabular_in_context_regression import measure_tabular_regression

import fewshot_sklearn
from fewshot_sklearn import (
    KernelLogisticClassifier,
    MAMLClassifier,
    MAMLRegressor,
    MetaInit,
    MixtureRidgeRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    list_meta_inits,
    load_meta_init,
)

Measure = Callable[[MetaInit], Iterable[dict[str, Any]]]


@cache
def _new_letters() -> Letters:
    return past_and_new()[1]


def _glyphs(kind: type, n_episodes: int = 1000) -> Measure:
    return lambda init: measure_glyphs(kind(init), _new_letters(), n_episodes)


def _sinusoids(kind: type, noise: float = 0.0) -> Measure:
    return lambda init: measure_sinusoids(kind(init), noise)


#: How the figures of each meta-init are measured.
MEASURES: dict[str, Measure] = {
    "harmonic-ridge": lambda init: measure_curves(RidgeHeadRegressor(init), "harmonics", 0.1),
    "intents-minilm-banking77": measure_intents,
    "intents-minilm-clinc150": measure_intents,
    "omniglot-conv4": _glyphs(ProtoNetClassifier),
    "omniglot-conv4-turns": _glyphs(ProtoNetClassifier),
    "omniglot-resnet8": _glyphs(ProtoNetClassifier),
    "omniglot-resnet8-turns": _glyphs(ProtoNetClassifier),
    "omniglot-conv4-maml": _glyphs(MAMLClassifier, n_episodes=600),
    "omniglot-conv4-kernel": _glyphs(KernelLogisticClassifier),
    "series-conv1d-ridge": measure_series,
    "sinusoid-maml": _sinusoids(MAMLRegressor),
    "sinusoid-mixture-noisy": _sinusoids(MixtureRidgeRegressor, 0.3),
    "sinusoid-ridge": _sinusoids(RidgeHeadRegressor),
    "sinusoid-ridge-noisy": _sinusoids(RidgeHeadRegressor, 0.3),
    "tabular-in-context": measure_tabular,
    "tabular-in-context-regression": measure_tabular_regression,
}

#: What takes longest is measured first, so that all processes are done at about the same time.
LONGEST = ("omniglot-resnet8-turns", "omniglot-conv4-maml")


def confirmed(measured: dict[str, Any], told: dict[str, Any]) -> bool:
    """Whether a figure measured now is the one on the card.

    Parameters
    ----------
    measured, told : dict
        Figures, with ``task``, ``score``, ``mean``, ``ci95`` and ``episodes``.

    Returns
    -------
    bool
        True if they are of the same thing and differ by less than half the interval.
    """
    same = all(measured[key] == told[key] for key in ("task", "score", "episodes"))
    return same and abs(measured["mean"] - told["mean"]) <= told["ci95"] / 2


def lines(name: str) -> tuple[list[str], int]:
    """Measure one meta-init.

    Parameters
    ----------
    name : str
        One of MEASURES.

    Returns
    -------
    list of str
        Lines of the table.
    int
        How many figures are not confirmed.
    """
    torch.set_num_threads(1)
    init = load_meta_init(name)
    told = init.provenance["accuracy"]
    try:
        measured = list(MEASURES[name](init))
    except (ImportError, OSError) as error:
        return [f"| {name} | not measured: {error} | | | | |"], 0
    wrong, found = abs(len(measured) - len(told)), []
    for now, card in zip(measured, told, strict=False):
        holds = confirmed(now, card)
        wrong += not holds
        found.append(
            f"| {name} | {now['task']} | {now['score']} | {now['mean']:g} ± {now['ci95']:g} | "
            f"{card['mean']:g} ± {card['ci95']:g} | {'' if holds else 'NOT CONFIRMED'} |"
        )
    return found, wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return the number of figures that are not confirmed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MEASURES))
    parser.add_argument("--processes", type=int, default=2, help="at once, each on one thread")
    options = parser.parse_args(argv)
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"unknown name(s) {sorted(unknown)}; choose from {list(MEASURES)}")
    versions = (
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}"
    )
    print(f"{time.strftime('%Y-%m-%d')}, fewshot_sklearn {fewshot_sklearn.__version__}, {versions}")
    print(f"{torch.backends.cpu.get_cpu_capability()}; from {fewshot_sklearn.__file__}\n")
    print("| meta-init | task | score | now | on the card | |\n|---|---|---|---|---|---|")
    names, wrong = options.names or list_meta_inits(), 0
    names = sorted(names, key=lambda name: name not in LONGEST)
    with ExitStack() as stack:
        each: Any = map
        if min(options.processes, len(names)) > 1:
            spawn = multiprocessing.get_context("spawn")
            each = stack.enter_context(ProcessPoolExecutor(options.processes, spawn)).map
        for table, more in each(lines, names):
            print(*table, sep="\n", flush=True)
            wrong += more
    print(f"\n{wrong} figures are not confirmed." if wrong else "\nAll figures are confirmed.")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main()))
