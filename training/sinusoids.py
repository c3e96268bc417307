"""Train the regressors of sinusoids and harmonics that ship with the package, and measure them.

python training/sinusoids.py sinusoid-ridge        # one of RECIPES; resumes if interrupted
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from curves import BOTH_SIGNS, PLUS, SHOTS, bayes_floor, measure_curves, measure_sinusoids
from shipping import halved, with_card
from skorch.callbacks import GradientNormClipping, LRScheduler

from fewshot_sklearn import (
    MAMLRegressor,
    MetaInit,
    MetaTrainer,
    MixtureRidgeRegressor,
    RidgeHeadRegressor,
)
from fewshot_sklearn.datasets import make_harmonic_tasks, make_sinusoid_tasks

SMOOTH = {"encoder": "mlp", "encoder__hidden": (40, 40), "encoder__activation": "tanh"}
LINEAR = {"batch_size": 16, "lr": 1e-2, "optimizer__betas": (0.9, 0.99)}
#: The mixture is learned after descent, if that is better on as many tasks as this.
JUDGED = {"validation_fraction": 0.1, "n_valid_episodes": 1000}
#: By name: the estimator, its tasks, their kind, noise to measure with, settings, steps.
RECIPES: dict[str, tuple[Any, Any, str, float, dict[str, Any], int]] = {
    "sinusoid-ridge": (
        RidgeHeadRegressor(**SMOOTH),
        make_sinusoid_tasks(n_shot=(2, 10), n_query=20), "sinusoids", 0.0, LINEAR, 10_000,
    ),
    "sinusoid-ridge-noisy": (
        RidgeHeadRegressor(**SMOOTH),
        make_sinusoid_tasks(n_shot=(2, 20), n_query=20, noise=0.3), "sinusoids", 0.3,
        LINEAR, 10_000,
    ),
    "sinusoid-mixture-noisy": (
        MixtureRidgeRegressor(**SMOOTH, n_components=32),
        make_sinusoid_tasks(n_shot=(2, 20), n_query=20, noise=0.3, phase=BOTH_SIGNS),
        "sinusoids", 0.3, LINEAR | JUDGED, 10_000,
    ),
    "sinusoid-maml": (
        MAMLRegressor(**SMOOTH, n_steps=10, inner_lr=0.05),
        make_sinusoid_tasks(n_shot=(5, 20), n_query=20, phase=BOTH_SIGNS), "sinusoids", 0.0,
        {"batch_size": 25, "lr": 2e-3}, 70_000,
    ),
    "harmonic-ridge": (
        RidgeHeadRegressor(encoder="fourier", encoder__width=128, encoder__scale=10.0),
        make_harmonic_tasks(n_shot=(2, 20), n_query=20), "harmonics", 0.1, LINEAR, 10_000,
    ),
}  # fmt: skip
EPOCHS = 50


def train(name: str, checkpoint: Path | None = None) -> MetaInit:
    """Meta-train one of the recipes.

    Parameters
    ----------
    name : str
        One of RECIPES.
    checkpoint : Path or None, default=None
        Where to keep the state after each epoch, to go on from.

    Returns
    -------
    MetaInit
        What was learned, with single precision.
    """
    estimator, tasks, _, _, settings, steps = RECIPES[name]
    trainer = MetaTrainer(
        estimator,
        n_episodes=steps * settings["batch_size"] // EPOCHS,
        max_epochs=EPOCHS,
        callbacks=[
            LRScheduler("CosineAnnealingLR", T_max=EPOCHS),
            GradientNormClipping(1.0),
        ],
        checkpoint=checkpoint,
        random_state=0,
        compile=False,
        **{"validation_fraction": 0} | settings,
    )
    return trainer.fit(tasks).meta_init_


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, and write what ships."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--folder", type=Path, default=Path("training/runs"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    place = options.folder / options.name
    clock = time.process_time()
    init = train(options.name, place.with_suffix(".ckpt"))
    minutes = (time.process_time() - clock) / 60
    for precision, candidate in (("float16", halved(init)), ("float32", init)):
        figures = measured(options.name, candidate)
        print(precision, *figures, sep="\n  ", flush=True)
    told(options.name, init, minutes, figures).save(place.with_suffix(".safetensors"))


def measured(name: str, init: MetaInit) -> list[dict[str, Any]]:
    """Figures of what was trained by one of RECIPES, sinusoids on both signs of the phase."""
    estimator, _, kind, noise, _, _ = RECIPES[name]
    measure = measure_sinusoids if kind == "sinusoids" else partial(measure_curves, kind=kind)
    return list(measure(type(estimator)(init), noise=noise))


def told(name: str, init: MetaInit, minutes: float, figures: list[dict[str, Any]]) -> MetaInit:
    """Write the card of what was trained.

    Parameters
    ----------
    name : str
        One of RECIPES.
    init : MetaInit
        What `train` gave.
    minutes : float
        CPU-minutes that it took.
    figures : list of dict
        What `measured` gave.

    Returns
    -------
    MetaInit
        What ships.
    """
    _, tasks, kind, noise, _, steps = RECIPES[name]
    card = {
        "data": f"generated tasks: {tasks!r}",
        "licence": "BSD-3-Clause, as the package",
        "training command": f"python training/sinusoids.py {name}",
        "training cost": f"{steps:,} steps, {minutes:.1f} CPU-minutes",
        "limits": "one input within the range that the tasks were drawn from; outside it, and for "
        "curves of other kinds, it is wrong",
    }
    if kind == "sinusoids" and tasks.phase == PLUS:
        card["limits"] += "; on sin(x - phase), with the other sign, it is less good"
    if noise and kind == "sinusoids":
        for known, phase in (("-pi to pi", BOTH_SIGNS), ("0 to pi", PLUS)):
            floors = ", ".join(f"{bayes_floor(k, noise, phase):.3g} (K={k})" for k in SHOTS)
            trained = ", as in training" if phase == tasks.phase else ""
            heading = f"best possible MSE for who knows that phases are {known}{trained}"
            card[heading] = floors
            print(heading, floors, sep=": ")
    return with_card(init, card, figures)


if __name__ == "__main__":
    main()
