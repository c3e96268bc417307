"""How the time of a training step and of a fit grows, on logarithmic axes.

    python benchmarks/scaling.py [picture.png]

One torch thread, process CPU time, the best of several runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import LogFormatter, NullLocator

from fewshot_sklearn import MAMLClassifier, MetaTrainer, ProtoNetClassifier, RidgeHeadClassifier

#: What is varied, over which values, and what the other quantities are meanwhile.
AXES: dict[str, tuple[int, ...]] = {
    "tasks a step": (1, 4, 16, 64),
    "ways": (2, 5, 10, 20, 40),
    "shots": (1, 2, 5, 10, 20, 40),
    "inner steps": (1, 2, 5, 10),
    "width of the layers": (16, 32, 64, 128, 256),
}
USUAL = {
    "tasks a step": 16,
    "ways": 5,
    "shots": 5,
    "inner steps": 5,
    "width of the layers": 64,
}
ESTIMATORS = {
    "MAML": MAMLClassifier,
    "ProtoNet": ProtoNetClassifier,
    "ridge head": RidgeHeadClassifier,
}
N_FEATURES, N_CLASSES, N_QUERY = 64, 60, 15
STEPS = 60
ROWS = ("training step", "fit and predict")
#: Milliseconds by row, axis and estimator.
Times = dict[tuple[str, str, str], np.ndarray]


def seconds(work: Callable[[], Any], rounds: int = 5) -> float:
    """Least CPU time of a call."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measure(name: str, sizes: dict[str, int], X: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Milliseconds of a training step, and of fit and predict."""
    width = sizes["width of the layers"]
    estimator = ESTIMATORS[name](encoder="mlp", encoder__hidden=(width, width))
    if name == "MAML":
        estimator.set_params(n_steps=sizes["inner steps"])
    tasks, n_way, n_shot = sizes["tasks a step"], sizes["ways"], sizes["shots"]
    trainer = MetaTrainer(
        estimator, n_way=n_way, n_shot=n_shot, n_query=N_QUERY, n_episodes=STEPS * tasks,
        batch_size=tasks, max_epochs=1, validation_fraction=0, optimizer__fused=True,
        device="cpu", compile=False, random_state=0, verbose=0,
    ).fit(X, y)  # fmt: skip
    step = seconds(lambda: trainer.partial_fit(X, y), 3) / STEPS
    place = np.arange(len(y)) // N_CLASSES  # the classes take turns
    few = y < n_way
    support, query = few & (place < n_shot), few & (place >= n_shot) & (place < n_shot + N_QUERY)
    clf = trainer.estimator_

    def fit_and_predict() -> Any:
        return clf.fit(X[support], y[support]).predict(X[query])

    return 1e3 * step, 1e3 * seconds(fit_and_predict, 20)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path, default=Path("scaling.png"))
    picture = parser.parse_args(argv).picture
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    y = np.arange(60 * N_CLASSES) % N_CLASSES
    X = rng.normal(size=(len(y), N_FEATURES)) + rng.normal(size=(N_CLASSES, N_FEATURES))[y]
    found: Times = {}
    for axis, values in AXES.items():
        for name in ESTIMATORS:
            if axis == "inner steps" and name != "MAML":
                continue
            both = np.array([measure(name, USUAL | {axis: v}, X, y) for v in values])
            for row, times in zip(ROWS, both.T, strict=True):
                found[row, axis, name] = times
                told = "  ".join(f"{v}: {t:.2f}" for v, t in zip(values, times, strict=True))
                print(f"{row:16} {name:11} {axis:20} {told}", flush=True)
    draw(found, picture)
    print(f"written: {picture}")


def draw(found: Times, picture: Path) -> None:
    """Times against sizes, on logarithmic axes."""
    figure, panels = plt.subplots(2, len(AXES), figsize=(16, 6.5), layout="constrained")
    for (row, axis, name), times in found.items():
        panel, values = panels[ROWS.index(row), list(AXES).index(axis)], AXES[axis]
        power = np.polyfit(np.log(values[-2:]), np.log(times[-2:]), 1)[0]
        panel.loglog(
            values, times, "o-", label=f"{name} ({np.round(power, 1) + 0:g})", lw=1.5, ms=4
        )
        panel.set_xticks(values, [str(v) for v in values])
        panel.xaxis.set_minor_locator(NullLocator())
        for ticks in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            ticks(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
        panel.set_title(axis)
        panel.legend(fontsize=8, frameon=False)
        panel.grid(alpha=0.3, which="both", lw=0.4)
    for panel, row in zip(panels[:, 0], ROWS, strict=True):
        panel.set_ylabel(f"{row}, ms")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
