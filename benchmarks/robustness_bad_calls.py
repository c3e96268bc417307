"""Bad calls: how many are refused with an error that names what is wrong; for `robustness.py`.

Each constructor parameter of each public estimator, each argument of each public function, display,
generator and named encoder gets values that are wrong for it: text that means nothing, negative,
infinite and missing numbers, an empty list, an object. A call is *clear* if its error names the
argument; *raw* if the error is another; *silent* if there is none.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

import fewshot_sklearn
from fewshot_sklearn import (
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskMemory,
    datasets,
    inspection,
)
from fewshot_sklearn.encoders import ENCODERS
from fewshot_sklearn.estimators import FewShotEstimator

#: Wrong for every parameter that is no label, function or nested estimator.
BAD: tuple[Any, ...] = ("foo", -1, float("inf"), float("nan"), [], object())
#: Errors that may be meant; of any other kind the message was made for somebody else.
MEANT = (ValueError, TypeError, OSError, ImportError)
#: Parameters that may be anything, by the name of the class; "" is every class.
ANYTHING: dict[str, set[str]] = {
    "": {"callbacks"},
    "ImageEncoder": {"model", "pretrained"},  # names and files, which are looked for
    "ProtoNetClassifier": {"unlabelled"},
    "SentenceEncoder": {"model"},
}
#: Values that are right after all: a column by name or place, a file, a device, all processors.
RIGHT = {
    ("device", "foo"),
    ("task", "foo"),
    ("task", -1),
    ("checkpoint", "foo"),
    ("n_jobs", -1),
    ("max_rows", float("inf")),
}


class Call(NamedTuple):
    """One bad call."""

    what: str
    argument: str
    value: Any
    run: Callable[[], Any]


class Outcome(NamedTuple):
    """How a bad call ended: "clear", "raw" or "silent", and what was said."""

    call: Call
    kind: str
    told: str


def outcome(call: Call) -> Outcome:
    """Make the call."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # tables of trainers
                call.run()
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            name = call.argument.rpartition("__")[2]
            # of a file it is enough to say which
            of_file = isinstance(error, OSError) and str(call.value) in str(error)
            clear = isinstance(error, MEANT) and (name in str(error) or of_file)
            return Outcome(call, "clear" if clear else "raw", told)
    return Outcome(call, "silent", "")


def values_for(owner: str, name: str) -> Iterator[Any]:
    """The bad values of one parameter; none, where it may be anything."""
    if name in ANYTHING[""] | ANYTHING.get(owner, set()):
        return
    for value in BAD:
        # of an estimator a device is looked for; the sentence encoder's, where that is installed
        right = RIGHT if owner == "embed_sentences" else RIGHT - {("device", "foo")}
        # no layer: the row itself; no column of categories
        none = name in ("encoder__hidden", "categorical_features") and value == []
        if not none and not any(
            name == n and type(value) is type(v) and value == v for n, v in right
        ):
            yield value


def small_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels, targets and groups of a few small tasks."""
    rng = np.random.default_rng(0)
    labels, groups = np.tile(np.arange(4), 24), np.repeat(np.arange(6), 16)
    X = rng.normal(size=(96, 2)) + labels[:, None]
    return X, labels, X @ [1.0, -1.0], groups


def of_estimators() -> Iterator[Call]:
    """Each parameter of each public estimator and splitter."""
    X, labels, targets, groups = small_data()
    for name in fewshot_sklearn.__all__:
        public = getattr(fewshot_sklearn, name)
        if not isinstance(public, type) or not hasattr(public, "__init__"):
            continue
        if issubclass(public, MetaTrainer):
            own: dict[str, Any] = {"estimator": RidgeHeadRegressor(), "verbose": 0}
            own |= {"n_episodes": 2, "n_valid_episodes": 2, "max_epochs": 1}
            names = [
                n
                for n in public(**own).get_params(deep=False)
                if "__" not in n and n[0] != "_"  # of skorch's clones
            ]
        elif issubclass(public, BaseEstimator):
            own, names = {}, list(public().get_params(deep=False))
        elif hasattr(public, "split"):
            own, names = {}, [n for n in inspect.signature(public).parameters]
        else:
            continue
        for parameter in names:
            for value in values_for(name, parameter):

                def run(
                    public: Any = public,
                    own: Any = own,
                    parameter: str = parameter,
                    value: Any = value,
                ) -> None:
                    made = public(**(own | {parameter: value}))
                    if hasattr(made, "split"):
                        list(made.split(X, labels, groups))
                    elif issubclass(public, MetaTrainer):
                        made.fit(X, targets, groups)
                    elif isinstance(made, FewShotEstimator):
                        y = labels if "Classifier" in public.__name__ else targets
                        made.fit(X[:16], y[:16])
                    else:
                        fit_another(made, X, labels, targets, groups)

                yield Call(name, parameter, value, run)


def fit_another(made: Any, X: Any, labels: Any, targets: Any, groups: Any) -> None:
    """Fit an estimator that wraps others."""
    name = type(made).__name__
    y = targets if name.endswith("Regressor") else labels
    if name.startswith("Taskwise"):
        made.fit(np.column_stack([groups, X]), y) if made.task is None else made.fit(X, y)
    elif name in ("StrategySelector", "TrustLearner"):
        made.set_params(
            **{k: v for k, v in {"n_episodes": 4}.items() if made.n_episodes in (50, 200)}
        )
        made.fit(X, labels, groups)
    else:
        made.fit(X[:16], y[:16])


def of_functions() -> Iterator[Call]:
    """Each argument of each public function, display, generator and encoder."""
    X, labels, _, _ = small_data()
    clf = ProtoNetClassifier().fit(X[:16], labels[:16])
    maml = MAMLClassifier(encoder="mlp", encoder__hidden=(4,), n_steps=1, random_state=0)
    trainer = MetaTrainer(
        ProtoNetClassifier(encoder="mlp", encoder__hidden=(4,)), n_way=2, n_shot=1, n_episodes=2,
        max_epochs=1, validation_fraction=0, verbose=0, random_state=0, device="cpu",
    )  # fmt: skip
    past_clf = trainer.fit(X, labels).estimator_
    memory = TaskMemory.from_data(past_clf, X, labels)
    proba = np.full((4, 2), 0.5)
    calls: list[tuple[str, Callable[..., Any], dict[str, Any], tuple[str, ...]]] = [
        (
            "few_shot_score",
            fewshot_sklearn.few_shot_score,
            {"estimator": clf, "X": X, "y": labels, "n_episodes": 2, "n_way": 2},
            ("n_way", "n_shot", "n_query", "n_episodes", "scoring", "random_state", "n_jobs"),
        ),
        (
            "compare_few_shot",
            fewshot_sklearn.compare_few_shot,
            {"estimators": clf, "X": X, "y": labels, "n_episodes": 2, "n_shots": (1, 2)},
            ("n_shots", "n_way", "n_query", "n_episodes", "scoring", "reference", "random_state"),
        ),
        (
            "select_queries",
            fewshot_sklearn.select_queries,
            {"estimator": clf, "X_pool": X, "X": X[:16], "y": labels[:16], "strategy": "bald"},
            ("n", "strategy", "n_draws", "random_state"),
        ),
        (
            "uncertainty",
            fewshot_sklearn.uncertainty,
            {"estimator": clf, "X_pool": X, "X": X[:16], "y": labels[:16], "measure": "bald"},
            ("measure", "n_draws", "random_state"),
        ),
        (
            "expected_calibration_error",
            fewshot_sklearn.expected_calibration_error,
            {"y_true": [0, 1, 0, 1], "y_proba": proba},
            ("y_proba", "n_bins", "strategy", "sample_weight"),
        ),
        ("load_meta_init", fewshot_sklearn.load_meta_init, {}, ("name",)),
        ("ProtoNetClassifier.explain", clf.explain, {"X": X[:2]}, ("n_neighbors",)),
        (
            "AdaptationDisplay.from_estimator",
            inspection.AdaptationDisplay.from_estimator,
            {
                "estimator": maml, "X_support": X[:8], "y_support": labels[:8],
                "X_query": X[8:16], "y_query": labels[8:16],
            },
            ("n_steps", "scoring", "ax", "log_loss"),
        ),
        (
            "EmbeddingDisplay.from_estimator",
            inspection.EmbeddingDisplay.from_estimator,
            {"estimator": clf, "X_support": X[:8], "y_support": labels[:8]},
            ("reduction", "image_shape", "ax"),
        ),
        (
            "PrototypeDisplay.from_estimator",
            inspection.PrototypeDisplay.from_estimator,
            {
                "estimator": clf, "X_support": X[:8], "y_support": labels[:8],
                "image_shape": (1, 2),
            },
            ("past", "n_neighbors", "max_rows", "image_shape", "ax", "cmap"),
        ),
        (
            "TaskSimilarityDisplay.from_memory",
            inspection.TaskSimilarityDisplay.from_memory,
            {"memory": memory},
            ("memory", "by", "ax", "kind", "cmap"),
        ),
        (
            "TaskMemory.from_data",
            TaskMemory.from_data,
            {"estimator": past_clf, "X": X, "y": labels},
            ("estimator", "kind", "keep_rows"),
        ),
        ("TaskMemory.nearest", memory.nearest, {"features": memory.means}, ("n_neighbors",)),
        (
            "ReliabilityDisplay.from_predictions",
            inspection.ReliabilityDisplay.from_predictions,
            {"y_true": [0, 1, 0, 1], "y_proba": proba},
            ("n_bins", "strategy"),
        ),
        (
            "ReliabilityDisplay.from_episodes",
            inspection.ReliabilityDisplay.from_episodes,
            {"estimator": clf, "X": X, "y": labels, "n_way": 2, "n_episodes": 2},
            ("n_way", "n_shot", "n_query", "n_episodes", "random_state", "n_bins", "strategy"),
        ),
        (
            "FewShotCurveDisplay",
            inspection.FewShotCurveDisplay.from_comparison,
            {},
            ("comparison",),
        ),
        ("labels_saved", fewshot_sklearn.labels_saved, {}, ("comparison",)),
        ("FewShotScore", fewshot_sklearn.FewShotScore, {}, ("scores",)),
        ("embed_sentences", datasets.embed_sentences, {}, ("sentences",)),
        (
            "embed_sentences",
            datasets.embed_sentences,
            {"sentences": ["one"]},
            ("batch_size", "device"),
        ),
        ("load_omniglot", datasets.load_omniglot, {}, ("return_X_y_groups",)),
        ("fetch_omniglot", datasets.fetch_omniglot, {"path": "none.zip"}, ("subset", "path")),
        ("load_insteval", datasets.load_insteval, {"path": "none.csv"}, ("task", "path")),
        ("load_chem97", datasets.load_chem97, {}, ("path",)),
        ("load_leaves", datasets.load_leaves, {}, ("path",)),
        ("load_clinc150", datasets.load_clinc150, {}, ("path",)),
        ("load_banking77", datasets.load_banking77, {}, ("path",)),
    ]  # fmt: skip
    for make in (datasets.make_sinusoid_tasks, datasets.make_harmonic_tasks):
        own = {"n_tasks": 2}
        names = ("n_tasks", "n_shot", "n_query", "noise", "random_state")
        calls.append((make.__name__, make, own, names))
    for name, encoder in ENCODERS.items():
        parameters = [p for p in inspect.signature(encoder).parameters if p != "input_shape"]

        def fit_with(name: str = name, **params: Any) -> None:
            rows = np.random.default_rng(0).normal(size=(8, 64))
            ProtoNetClassifier(encoder=name, **params).fit(rows, labels[:8])

        calls.append((f"encoder {name}", fit_with, {}, tuple(f"encoder__{p}" for p in parameters)))
    for name, function, own, names in calls:
        for argument in names:
            for value in values_for(name, argument):

                def run(
                    function: Any = function,
                    own: Any = own,
                    argument: str = argument,
                    value: Any = value,
                ) -> None:
                    function(**(own | {argument: value}))

                yield Call(name, argument, value, run)
    for value in (float("nan"), float("inf"), -1.0):
        yield Call(
            "fit_prior", "probabilities", value,
            lambda value=value: past_clf.fit_prior([0, 1], [value, 0.5]),
        )  # fmt: skip
        yield Call(
            "expected_calibration_error", "y_proba", value,
            lambda value=value: fewshot_sklearn.expected_calibration_error(
                [0, 1], [[value, 0.5], [0.5, 0.5]]
            ),
        )  # fmt: skip


def bad_calls(n_tries: int, seed: int) -> tuple[int, int, Counter[str], list[str]]:
    """Make so many of them, chosen from a seed: how many, how many were clear, how, what was not.

    Parameters
    ----------
    n_tries : int
        How many to make, at most: all where there are fewer.
    seed : int
        Chooses them.

    Returns
    -------
    tuple
        What a section of ``robustness.py`` tells.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    every = [call for calls in (of_estimators, of_functions) for call in calls()]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(every))[:n_tries])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        found = [outcome(every[i]) for i in chosen]
    plt.close("all")
    ways = Counter(o.kind for o in found)
    fell = [
        f"{o.kind}: {o.call.what}({o.call.argument}={o.call.value!r:.40}) {o.told:.120}"
        for o in found
        if o.kind != "clear"
    ]
    return len(found), ways["clear"], ways, fell
