"""Networks of one's own colour pictures, meta-trained, beside statistics of their colours.

    pip install scikit-image
    python benchmarks/pictures.py patches
    npm pack emoji-datasource-google emoji-datasource-twitter
    for one in *.tgz; do mkdir ${one%-1*}; tar xzf $one -C ${one%-1*}; done
    python benchmarks/pictures.py emoji --emoji .

`patches`: a class is a photograph, a row one of its patches of 48 x 48 pixels, on a grid, so that
no two overlap. The photographs travel in the wheels of scikit-image, scikit-learn and Matplotlib;
half of them are past, half new, in several splits. What is learned from are patches anywhere in
quarters of the past ones, each quarter, and each with its colours permuted, a class of its own.

`emoji`: a class is an emoji, its rows the drawings of two vendors at 32 x 32 pixels, so that a
query is drawn by another hand; two thirds of the emoji are past. Read where they lie, not shipped.

Beside them stands logistic regression on twelve statistics of the colours (mean, standard deviation
and two quartiles of each channel), and of emoji also on the pixels. Settings were chosen on other
splits (seeds 100 and on), of the same photographs and emoji.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import distribution
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
import torch
from matplotlib import get_data_path
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression

from fewshot_sklearn import MetaTrainer, ProtoNetClassifier, RidgeHeadClassifier, few_shot_score
from fewshot_sklearn.tasks import RandomColorCrop

N_EPISODES = 600
#: Pixels of a side.
PATCH, EMOJI = 48, 32
#: In the wheel of scikit-image; what it would download is left out.
PHOTOGRAPHS = (
    "astronaut.png", "chelsea.png", "coffee.png", "color.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
#: Patches of a past class, and of each picture how many ways its colours are permuted.
N_PATCHES, N_PERMUTED = 50, 6
#: Epochs of pretraining and of episodes.
EPOCHS = {"patches": (4, 6), "emoji": (4, 8)}
VENDORS = ("google", "twitter")


class Data(NamedTuple):
    """Pictures (n, size, size, 3), bytes, of past and of new classes."""

    past: np.ndarray
    past_y: np.ndarray
    new: np.ndarray
    new_y: np.ndarray


@cache
def photographs() -> dict[str, np.ndarray]:
    """Those of the three packages, by name."""
    wheel = distribution("scikit-image")
    places = {name: Path(str(wheel.locate_file(f"skimage/data/{name}"))) for name in PHOTOGRAPHS}
    places["grace_hopper.jpg"] = Path(get_data_path(), "sample_data", "grace_hopper.jpg")
    found = {name: np.asarray(Image.open(place).convert("RGB")) for name, place in places.items()}
    return found | dict(zip(("china", "flower"), load_sample_images().images, strict=True))


def on_a_grid(picture: np.ndarray) -> np.ndarray:
    """Patches of a picture that do not overlap."""
    rows, columns = picture.shape[0] // PATCH, picture.shape[1] // PATCH
    cut = picture[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH, 3)
    return cut.swapaxes(1, 2).reshape(-1, PATCH, PATCH, 3)


def anywhere(picture: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Patches of a picture that may overlap."""
    first = rng.integers(0, [picture.shape[0] - PATCH + 1, picture.shape[1] - PATCH + 1], (n, 2))
    return np.stack([picture[i : i + PATCH, j : j + PATCH] for i, j in first])


def patches(split: int) -> Data:
    """Half of the photographs are past, half new."""
    rng, known = np.random.default_rng(split), photographs()
    names = rng.permutation(sorted(known))
    new, past = (names[: len(names) // 2], names[len(names) // 2 :])
    X, y = [], []
    for name in past:
        high, wide = np.array(known[name].shape[:2]) // 2
        for quarter in range(4):
            i, j = divmod(quarter, 2)
            part = known[name][i * high : (i + 1) * high, j * wide : (j + 1) * wide]
            for order in [*permutations(range(3))][:N_PERMUTED]:
                X.append(anywhere(part, N_PATCHES, rng)[..., order])
                y += [f"{name} {quarter} {order}"] * N_PATCHES
    rows = [on_a_grid(known[name]) for name in new]
    labels = np.repeat(new, [len(part) for part in rows])
    return Data(np.concatenate(X), np.array(y), np.concatenate(rows), labels)


def on_paper(drawing: Image.Image) -> np.ndarray:
    """A drawing on white, of the size that all have."""
    paper = Image.new("RGBA", drawing.size, "white")
    paper.alpha_composite(drawing.convert("RGBA"))
    return np.asarray(paper.convert("RGB").resize((EMOJI, EMOJI)))


@cache
def drawings(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Emoji that both vendors have drawn, unlike all before, on white, and which each is."""
    roots = [folder / f"emoji-datasource-{vendor}" / "package" for vendor in VENDORS]
    X, y = [], []
    seen: set[bytes] = set()
    for emoji in json.loads((roots[0] / "emoji.json").read_text("utf-8")):
        both = [r / "img" / v / "64" / emoji["image"] for r, v in zip(roots, VENDORS, strict=True)]
        if emoji["category"] == "Component" or not all(place.exists() for place in both):
            continue
        drawn = [on_paper(Image.open(place)) for place in both]
        if seen.isdisjoint(one.tobytes() for one in drawn):
            X += drawn
            y += [emoji["unified"]] * 2
        seen |= {one.tobytes() for one in drawn}
    return np.stack(X), np.array(y)


def emoji(split: int, folder: Path) -> Data:
    """Two thirds of the emoji are past."""
    X, y = drawings(folder)
    names = np.random.default_rng(split).permutation(np.unique(y))
    new = np.isin(y, names[: len(names) // 3])
    return Data(X[~new], y[~new], X[new], y[new])


def statistics(X: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and quartiles of each channel: (n, 12)."""
    Z = X.reshape(len(X), -1, 3) / 255
    return np.concatenate([Z.mean(1), Z.std(1), *np.quantile(Z, [0.25, 0.75], 1)], 1)


def learners(name: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Estimators that learn from the past, and how their trainings differ."""
    before, epochs = EPOCHS[name]
    kind = RidgeHeadClassifier if name == "patches" else ProtoNetClassifier
    told, plain = kind.__name__.removesuffix("Classifier"), {"encoder__width": 32}
    colors: dict[str, Any] = {"encoder__color_moments": True}
    if name == "patches":
        colors["encoder__pool"] = "moments"
    crop = 0.4 if name == "patches" else 0.3
    augment = RandomColorCrop(crop=crop, brightness=0.1, contrast=0.1, saturation=0.1)
    episodes = {"max_epochs": epochs}
    pretrained = episodes | {"pretrain": "labels", "pretrain_epochs": before}
    altered = pretrained | {"augment": augment}
    moments = kind(encoder="conv4", **plain, **colors)
    residual = kind(encoder="resnet12", encoder__widths=(16, 24, 32, 64), **colors)
    return {
        "ProtoNet, conv4": (ProtoNetClassifier(encoder="conv4", **plain), episodes),
        f"{told}, conv4 with moments": (moments, episodes),
        "the same, pretrained": (moments, pretrained),
        "the same, pretrained and augmented": (moments, altered),
        f"{told}, narrow resnet12, all of these": (residual, altered),
    }


def meta_trained(estimator: Any, data: Data, name: str, **options: Any) -> tuple[Any, float]:
    """What has learned from the past classes, and the CPU-seconds that it took."""
    few = (
        {"n_way": 5, "n_shot": (1, 5), "n_query": 6, "n_episodes": 64, "batch_size": 4}
        if name == "patches"
        else {"n_way": 20, "n_shot": 1, "n_query": 1, "n_episodes": 100, "batch_size": 2}
    )
    start = time.process_time()
    trainer = MetaTrainer(
        estimator, validation_fraction=0, random_state=0, verbose=0, **(few | options)
    )
    trained = trainer.fit(data.past, data.past_y).estimator_
    return trained, time.process_time() - start


def methods(
    data: Data, name: str, left_out: Sequence[str]
) -> Iterator[tuple[str, Any, np.ndarray, float]]:
    """Name, estimator, rows of the new classes as it takes them, seconds to learn from the past."""
    logistic = LogisticRegression(C=100, max_iter=300)
    yield "logistic regression on 12 colour statistics", logistic, statistics(data.new), 0.0
    if name == "emoji":
        pixels = data.new[:, ::2, ::2].reshape(len(data.new), -1) / 255
        yield "logistic regression on every other pixel", logistic, pixels, 0.0
    for told, (estimator, options) in learners(name).items():
        if any(word in told for word in left_out):
            continue
        trained, seconds = meta_trained(estimator, data, name, **options)
        yield told, trained, data.new, seconds


def interval(scores: np.ndarray) -> str:
    """Mean of episodes and its 95% interval."""
    return f"{scores.mean():.1f} ± {1.96 * scores.std(ddof=1) / len(scores) ** 0.5:.1f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Train, score and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", choices=("patches", "emoji"))
    parser.add_argument("--emoji", type=Path, help="folder of the two packages")
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n-episodes", type=int, default=N_EPISODES, help="of each split")
    parser.add_argument("--leave-out", nargs="+", default=["resnet12"], help="words of methods")
    options = parser.parse_args(argv)
    if options.data == "emoji" and options.emoji is None:
        raise SystemExit("emoji needs --emoji, the folder of emoji-datasource-google and -twitter.")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="sklearn")
    shots, n_query = ((1, 5), 15) if options.data == "patches" else ((1,), 1)
    found: dict[str, tuple[list[np.ndarray], list[float]]] = {}
    for split in options.splits:
        data = patches(split) if options.data == "patches" else emoji(split, options.emoji)
        for told, estimator, rows, seconds in methods(data, options.data, options.leave_out):
            scores = [
                few_shot_score(
                    estimator, rows, data.new_y, n_way=5, n_shot=k, n_query=n_query,
                    n_episodes=options.n_episodes, random_state=split,
                ).scores
                for k in shots
            ]  # fmt: skip
            means = ", ".join(f"{100 * s.mean():.1f}" for s in scores)
            print(f"  split {split}, {told}: {means}, {seconds:.0f} s", flush=True)
            kept = found.setdefault(told, ([], []))
            kept[0].append(np.array(scores))
            kept[1].append(seconds)
    versions = f"torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    print(
        f"\n{time.strftime('%Y-%m-%d')}, {versions}; {options.data}, splits {options.splits}, "
        f"{options.n_episodes} episodes of each, 95% intervals over episodes\n"
    )
    heads = [f"{k}-shot | above colour statistics" for k in shots]
    print(f"| 5-way, % | {' | '.join(heads)} | CPU-seconds to learn |")
    print("|---" * (2 * len(shots) + 2) + "|")
    every = {told: 100 * np.concatenate(scores, 1) for told, (scores, _) in found.items()}
    rival = next(iter(every.values()))
    for told, scores in every.items():
        cells = [f"{interval(s)} | {interval(s - r)}" for s, r in zip(scores, rival, strict=True)]
        print(f"| {told} | {' | '.join(cells)} | {np.mean(found[told][1]):.0f} |")


if __name__ == "__main__":
    main()
