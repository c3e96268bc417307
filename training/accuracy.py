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
import sys
import time
from collections.abc import Callable, Iterable, Sequence
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
    MAMLClassifier,
    MAMLRegressor,
    MetaInit,
    MixtureRidgeRegressor,
    ProtoNetClassifier,
    RidgeHeadClassifier,
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
    "omniglot-conv4-ridge": _glyphs(RidgeHeadClassifier),
    "series-conv1d-ridge": measure_series,
    "sinusoid-maml": _sinusoids(MAMLRegressor),
    "sinusoid-mixture-noisy": _sinusoids(MixtureRidgeRegressor, 0.3),
    "sinusoid-ridge": _sinusoids(RidgeHeadRegressor),
    "sinusoid-ridge-noisy": _sinusoids(RidgeHeadRegressor, 0.3),
    "tabular-in-context": measure_tabular,
    "tabular-in-context-regression": measure_tabular_regression,
}


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


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and return the number of figures that are not confirmed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MEASURES))
    names = parser.parse_args(argv).names
    if unknown := set(names) - set(MEASURES):
        parser.error(f"unknown name(s) {sorted(unknown)}; choose from {list(MEASURES)}")
    torch.set_num_threads(1)
    versions = (
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}"
    )
    print(f"{time.strftime('%Y-%m-%d')}, fewshot_sklearn {fewshot_sklearn.__version__}, {versions}")
    print(f"from {fewshot_sklearn.__file__}\n")
    print("| meta-init | task | score | now | on the card | |\n|---|---|---|---|---|---|")
    wrong = 0
    for name in names or list_meta_inits():
        init = load_meta_init(name)
        told = init.provenance["accuracy"]
        try:
            measured = list(MEASURES[name](init))
        except (ImportError, OSError) as error:
            print(f"| {name} | not measured: {error} | | | | |", flush=True)
            continue
        wrong += abs(len(measured) - len(told))
        for now, card in zip(measured, told, strict=False):
            holds = confirmed(now, card)
            wrong += not holds
            print(
                f"| {name} | {now['task']} | {now['score']} | {now['mean']:g} ± {now['ci95']:g} | "
                f"{card['mean']:g} ± {card['ci95']:g} | {'' if holds else 'NOT CONFIRMED'} |",
                flush=True,
            )
    print(f"\n{wrong} figures are not confirmed." if wrong else "\nAll figures are confirmed.")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main()))
