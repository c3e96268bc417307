"""Train the glyph encoders that ship with the package, and measure them.

    python training/omniglot.py omniglot-conv4              # one of RECIPES; resumes if stopped
    python training/omniglot.py omniglot-conv4 --split 1    # measure on another six alphabets
    python training/omniglot.py omniglot-conv4 --n-past 5   # learn from five alphabets only

Episodes stay within one alphabet, whose letters are the hardest to tell apart; every letter
turned by 90, 180 and 270 degrees is another letter; drawings are turned, scaled, sheared and
shifted at random. MAML and the kernel head start from the encoder of omniglot-conv4;
omniglot-conv4-turns is that encoder itself, which looks at each drawing from four sides, and
omniglot-resnet8-turns looks in a mirror as well.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from glyphs import Letters, measure_glyphs, past_and_new
from shipping import WEIGHTS, halved, with_card
from skorch.callbacks import LRScheduler

from fewshot_sklearn import (
    KernelLogisticClassifier,
    MAMLClassifier,
    MetaInit,
    MetaTrainer,
    ProtoNetClassifier,
)
from fewshot_sklearn.learners import episode_loss
from fewshot_sklearn.tasks import RandomAffine, RandomElastic, add_rotations

#: Episodes a figure, where it is not 1,000: gradient descent takes its time.
N_EPISODES = {"omniglot-conv4-maml": 600}

#: What the card of MAML says besides of its limits.
EVEN = "; class probabilities are next to even: their order is what counts"


def sharpened(outputs: torch.Tensor, y_query: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of 80 times the logits.

    A few small steps from a head of zeros put letters in the right order by logits that are all
    next to zero. Their cross-entropy asks for longer features above all, and these for no more.

    Parameters
    ----------
    outputs : Tensor of shape (T, n_query, n_way)
        Logits.
    y_query : Tensor of shape (T, n_query)
        Class codes.

    Returns
    -------
    Tensor of shape ()
        The loss; prototypes on the same features learned about this factor.
    """
    return episode_loss(80 * outputs, y_query)


#: For each name: the estimator, the trainer's settings, and whose encoder training starts from.
RECIPES: dict[str, tuple[Any, dict[str, Any], str | None]] = {
    "omniglot-conv4": (
        ProtoNetClassifier(encoder="conv4", encoder__width=64),
        {"n_way": 60, "n_shot": 1, "n_query": 3, "n_episodes": 100, "batch_size": 2,
         "augment": RandomAffine(), "lr": 2e-3, "max_epochs": 160},
        None,
    ),
    "omniglot-conv4-turns": (
        ProtoNetClassifier(encoder="conv4", encoder__width=64, encoder__turns=4),
        {"max_epochs": 0},
        "omniglot-conv4",
    ),
    "omniglot-resnet8": (
        ProtoNetClassifier(encoder="resnet8", encoder__widths=(64, 96, 160, 256)),
        {"n_way": 60, "n_shot": 1, "n_query": 3, "n_divisions": 4, "n_episodes": 100,
         "batch_size": 1, "augment": RandomElastic(bend=0.03), "lr": 1e-3, "max_epochs": 80,
         "precision": "bf16"},
        None,
    ),
    "omniglot-resnet8-turns": (
        ProtoNetClassifier(
            encoder="resnet8", encoder__widths=(64, 96, 160, 256), encoder__turns=4,
            encoder__mirrored=True,
        ),
        {"max_epochs": 0},
        "omniglot-resnet8",
    ),
    "omniglot-conv4-kernel": (
        KernelLogisticClassifier(encoder="conv4", encoder__width=64, lengthscale=5.0),
        {"n_way": 20, "n_shot": (1, 5), "n_query": 3, "n_episodes": 200, "batch_size": 4,
         "augment": RandomAffine(), "lr": 3e-2, "max_epochs": 3,
         "optimizer__param_groups": [("encoder.*", {"lr": 0.0})]},  # the kernel's numbers alone
        "omniglot-conv4",
    ),
    "omniglot-conv4-maml": (
        MAMLClassifier(encoder="conv4", encoder__width=64, encoder__rms=1.0, n_steps=5,
                       inner_lr=0.05, first_order=True),
        {"n_way": 20, "n_shot": 1, "n_query": 3, "n_episodes": 100, "batch_size": 4,
         "augment": RandomAffine(), "lr": 1e-4, "max_epochs": 4, "criterion": sharpened},
        "omniglot-conv4",
    ),
}  # fmt: skip


def train(
    name: str,
    past: Letters,
    start: MetaInit | None = None,
    checkpoint: Path | None = None,
    max_epochs: int | None = None,
) -> MetaInit:
    """Meta-train one of the recipes.

    Parameters
    ----------
    name : str
        One of RECIPES.
    past : Letters
        What to train on.
    start : MetaInit or None, default=None
        Whose encoder training starts from.
    checkpoint : Path or None, default=None
        Where to keep the state after each epoch, to go on from.
    max_epochs : int or None, default=None
        Another number of epochs than the recipe's.

    Returns
    -------
    MetaInit
        What was learned, with single precision.
    """
    estimator, settings, _ = RECIPES[name]
    epochs = max_epochs or settings["max_epochs"]
    if not epochs:
        assert start is not None
        views = estimator.get_params()
        return from_all_sides(
            start, estimator.encoder__turns, views.get("encoder__mirrored", False)
        )
    trainer = MetaTrainer(
        estimator,
        **{**settings, "max_epochs": epochs},
        encoder_from=start,
        validation_fraction=0,
        callbacks=[LRScheduler("CosineAnnealingLR", T_max=epochs)],
        checkpoint=checkpoint,
        random_state=0,
    )
    X, y, groups = add_rotations(past.images, past.letter, past.alphabet)
    return trainer.fit(X, y, groups=groups).meta_init_


def from_all_sides(init: MetaInit, turns: int, mirrored: bool = False) -> MetaInit:
    """The same prototypical network, on the features of each image turned by equal angles.

    Parameters
    ----------
    init : MetaInit
        A prototypical network with an image encoder of one view.
    turns : int
        Number of turned views.
    mirrored : bool, default=False
        Whether each view is mirrored, too. Squared distances add up over all views, so the scale
        is divided by their number.

    Returns
    -------
    MetaInit
        With the same weights.
    """
    state, spec = init.state_dict(), init.spec
    spec["encoder"]["params"] |= {"turns": turns} | ({"mirrored": True} if mirrored else {})
    scale = state["log_scale"].float() - math.log(turns * (1 + mirrored))
    # no scaling of features depends on how many there are: inputs alone are scaled
    return MetaInit.from_state(state | {"log_scale": scale}, spec, init.provenance)


def estimator_for(init: MetaInit) -> Any:
    """The estimator that a glyph meta-init is for."""
    kinds = (ProtoNetClassifier, KernelLogisticClassifier, MAMLClassifier)
    return next(
        kind(init) for kind in kinds if kind._learner_class.__name__ == init.spec["algorithm"]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, and write what ships."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--n-past", type=int)
    parser.add_argument("--max-epochs", type=int)
    parser.add_argument("--start", type=Path, help="a meta-init to take the encoder from")
    parser.add_argument("--minutes", type=float, help="CPU-minutes that training has taken")
    parser.add_argument("--trained", type=Path, help="measure this one; train nothing")
    parser.add_argument("--episodes", type=int, help="a figure, where not those of the card")
    parser.add_argument("--folder", type=Path, default=Path("training/runs"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    variant = [options.name, f"split{options.split}"]
    variant += [f"past{options.n_past}"] if options.n_past else []
    place = options.folder / "-".join(variant)
    past, new = past_and_new(options.split, options.n_past)
    origin = RECIPES[options.name][2]
    start = None
    if origin is not None:
        start = MetaInit.load(options.start or WEIGHTS / f"{origin}.safetensors")
    clock = time.process_time()
    if options.trained:
        init = MetaInit.load(options.trained)
    else:
        init = train(options.name, past, start, place.with_suffix(".ckpt"), options.max_epochs)
    minutes = options.minutes or (time.process_time() - clock) / 60
    init = halved(init)
    figures = []
    n_episodes = options.episodes or N_EPISODES.get(options.name, 1000)
    for figure in measure_glyphs(estimator_for(init), new, n_episodes):
        figures.append(figure)
        print(figure, flush=True)
    command = f"python training/omniglot.py {options.name}"
    card = {
        "data": "Omniglot background set at 28 x 28 (Lake et al. 2015), 24 of its 30 alphabets; "
        "every letter turned by 0, 90, 180 and 270 degrees is a letter",
        "left out": ", ".join(sorted(set(new.alphabet.astype(str)))),
        "licence": "MIT",
        "training command": command,
        "training cost": f"{minutes:.0f} CPU-minutes"
        + (f", after those of {origin}" if origin else ""),
        "limits": "28 x 28 drawings, ink bright (255) on dark (0), of single glyphs in thin "
        "strokes; not photographs, not whole words"
        + (EVEN if isinstance(RECIPES[options.name][0], MAMLClassifier) else ""),
    }
    with_card(init, card, figures).save(place.with_suffix(".safetensors"))


if __name__ == "__main__":
    main()
