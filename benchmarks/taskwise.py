"""One model for each of 10,000 tasks: batched, beside loops of single fits and of scikit-learn's.

    python benchmarks/taskwise.py [--tasks 10000] [--rounds 5]

Tasks of 20 rows of 16 features; all rows are predicted once. Meta-training is a token: the
speed of an adaptation does not depend on what was learned. The loops do 100 of the tasks, and
their times are scaled up. All run in one process with one torch thread, taking turns; times are
of CPU, a ratio is the median over the rounds. Prints a markdown table.
"""

from __future__ import annotations

import argparse
import platform
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression, Ridge
from timing import Contender, interleave

from fewshot_sklearn import (
    MAMLRegressor,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskwiseClassifier,
    TaskwiseRegressor,
)

N_ROWS, N_FEATURES, N_WAY = 20, 16, 5
#: Tasks of all that the loops do, and that meta-training sees.
IN_LOOP = 100


def tasks(n_tasks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows in random order, linear targets, five classes of four rows, and the tasks' numbers."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_tasks), N_ROWS)
    X = rng.standard_normal((len(groups), N_FEATURES))
    slopes, centres = (
        rng.standard_normal((n_tasks, N_FEATURES)),
        rng.standard_normal((n_tasks, N_WAY, N_FEATURES)),
    )
    labels = np.tile(np.arange(N_WAY), len(groups) // N_WAY)
    y = (X * slopes[groups]).sum(1) + 0.1 * rng.standard_normal(len(groups))
    order = rng.permutation(len(groups))
    X = X + centres[groups, labels]
    return X[order], y[order], labels[order], groups[order]


def meta_trained(estimator: Any, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Any:
    """The estimator after a moment of meta-training."""
    few = {"n_way": N_WAY, "n_shot": 2} if is_classifier(estimator) else {"n_shot": 10}
    trainer = MetaTrainer(
        estimator, **few, n_query=2, n_episodes=32, max_epochs=1, validation_fraction=0,
        random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    some = groups < IN_LOOP
    return trainer.fit(X[some], y[some], groups[some]).estimator_


def work(
    estimator: Any, peer: Any, X: np.ndarray, y: np.ndarray, groups: np.ndarray, rounds: int
) -> tuple[dict[str, np.ndarray], str]:
    """Seconds for all tasks, by contender, a value a round; and what the states take."""
    kind = TaskwiseClassifier if is_classifier(estimator) else TaskwiseRegressor
    n_tasks = groups.max() + 1
    some = groups < IN_LOOP
    X_few, y_few, g_few = X[some], y[some], groups[some]
    of_task = [X_few[g_few == t] for t in range(IN_LOOP)]
    y_of_task = [y_few[g_few == t] for t in range(IN_LOOP)]
    fitted = kind(estimator).fit(X, y, groups)
    ours = [clone(estimator).fit(a, b) for a, b in zip(of_task, y_of_task, strict=True)]
    theirs = kind(peer, unseen="error").fit(X_few, y_few, g_few)
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "tasks.safetensors"
    fitted.save_tasks(path)

    def each(call: Callable[[int], Any]) -> Callable[[], None]:
        return lambda: [call(t) for t in range(IN_LOOP)] and None

    # milliseconds a unit are seconds for all tasks if a unit is a thousand times all tasks' work
    whole, part = 1e3, 1e3 * IN_LOOP / n_tasks
    bare = [clone(peer).fit(a, b) for a, b in zip(of_task, y_of_task, strict=True)]
    contenders = {
        "fit": Contender(lambda: kind(estimator).fit(X, y, groups), whole),
        "fit, loop": Contender(
            each(lambda t: clone(estimator).fit(of_task[t], y_of_task[t])), part
        ),
        "fit, peer": Contender(each(lambda t: clone(peer).fit(of_task[t], y_of_task[t])), part),
        "fit, Taskwise of peer": Contender(
            lambda: kind(peer, unseen="error").fit(X_few, y_few, g_few), part
        ),
        "predict": Contender(lambda: fitted.predict(X, groups), whole),
        "predict, loop": Contender(each(lambda t: ours[t].predict(of_task[t])), part),
        "predict, peer": Contender(each(lambda t: bare[t].predict(of_task[t])), part),
        "predict, Taskwise of peer": Contender(lambda: theirs.predict(X_few, g_few), part),
        "save": Contender(lambda: fitted.save_tasks(path), whole),
        "load": Contender(lambda: kind(estimator).load_tasks(path), whole),
        "one row": Contender(lambda: fitted.predict(X[:1], groups[:1]), 1),
        "one refit": Contender(lambda: fitted.partial_fit(of_task[0], y_of_task[0], [0] * N_ROWS)),
    }
    loop = np.concatenate([np.ravel(o.predict(a)) for o, a in zip(ours, of_task, strict=True)])
    at_once = np.concatenate([fitted.predict(a, [t] * N_ROWS) for t, a in enumerate(of_task)])
    differ = np.mean(loop != at_once) if is_classifier(estimator) else np.abs(loop - at_once).max()
    told = f"{fitted.nbytes_ / n_tasks:,.0f} | {path.stat().st_size / 2**20:.1f} MiB | {differ:.1g}"
    times = interleave(contenders, rounds)
    folder.cleanup()
    return times, told


def kind_name(estimator: Any) -> str:
    """Name of the class that holds such an estimator for each task."""
    return f"Taskwise{'Classifier' if is_classifier(estimator) else 'Regressor'}"


def main(argv: Sequence[str] | None = None) -> None:
    """Time the three estimators and print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    arguments = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    X, y, labels, groups = tasks(arguments.tasks)
    mlp = {"encoder": "mlp", "encoder__hidden": (40, 40)}
    told = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn", "numpy"))
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, one thread, {arguments.rounds} "
        f"rounds, {arguments.tasks:,} tasks of {N_ROWS} rows and {N_FEATURES} features. {told}.\n"
    )
    head = (
        "estimator", "fit, s", "loop of its fits", "loop of scikit-learn's", "predict, s",
        "loop of its predicts", "loop of scikit-learn's", "save, s", "load, s", "one row, ms",
        "one refit, ms", "bytes a task", "file", "differs from loop",
    )  # fmt: skip
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    lines = []
    for estimator, peer in (
        (ProtoNetClassifier(**mlp), LogisticRegression()),
        (RidgeHeadRegressor(**mlp), Ridge()),
        (MAMLRegressor(**mlp), Ridge()),
    ):
        target = labels if is_classifier(estimator) else y
        trained = meta_trained(estimator, X, target, groups)
        times, states = work(trained, peer, X, target, groups, arguments.rounds)

        def ratio(slow: str, fast: str, times: dict[str, np.ndarray] = times) -> str:
            own = np.median(times[slow] / times[fast])
            return f"{np.median(times[slow]):.3g} s, × {own:.3g}"

        cells = [
            type(estimator).__name__,
            f"{np.median(times['fit']):.2f}",
            ratio("fit, loop", "fit"),
            f"{type(peer).__name__}: {ratio('fit, peer', 'fit')}",
            f"{np.median(times['predict']):.2f}",
            ratio("predict, loop", "predict"),
            ratio("predict, peer", "predict"),
            *(f"{np.median(times[name]):.2f}" for name in ("save", "load")),
            *(f"{np.median(times[name]):.2f}" for name in ("one row", "one refit")),
            states,
        ]
        print("| " + " | ".join(cells) + " |", flush=True)
        fit, predict = (
            np.median(times[f"{what}, Taskwise of peer"] / times[f"{what}, peer"])
            for what in ("fit", "predict")
        )
        lines.append(
            f"{kind_name(estimator)} around {type(peer).__name__} takes {fit:.2f} times as long as "
            f"the bare loop to fit, {predict:.2f} times to predict."
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("", *lines, f"Peak memory of the process: {peak:,.0f} MiB.", sep="\n")


if __name__ == "__main__":
    main()
