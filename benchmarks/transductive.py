"""What it is worth to answer all queries together: letters of new alphabets, even and uneven.

    python benchmarks/transductive.py                       # omniglot-conv4
    python benchmarks/transductive.py --meta-init omniglot-resnet8-turns

One labelled drawing of each letter; even queries are 15 a letter, as in the papers, uneven ones as
many as shares from a Dirichlet distribution (2, ..., 2) say (Veilleux 2021), 5 a letter on
average, as there are 20 drawings of each. The same episodes for all, and one encoder, trained as
prototypical networks are. Times are CPU time for a task, when all are scored in one call.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

import fewshot_sklearn as fs
from fewshot_sklearn import FewShotScore
from fewshot_sklearn.datasets import load_omniglot
from fewshot_sklearn.model_selection import scores_of_episodes
from fewshot_sklearn.tasks import EpisodeRows, memberships

#: Queries a class: even ones, and uneven ones on average; and parameters of these' distribution.
EVEN, UNEVEN, DIRICHLET = 15, 5, 2.0
WAYS = {"few": (5,), "many": (20,), "both": (5, 20)}


def episodes(y: np.ndarray, n_way: int, n: int, even: bool, seed: int = 0) -> EpisodeRows:
    """One support row a class, and queries: padded with -1."""
    rng, labels = np.random.default_rng(seed), np.unique(y)
    of_label = {label: np.flatnonzero(y == label) for label in labels}
    support = np.empty((n, n_way), dtype=int)
    size = n_way * (EVEN if even else UNEVEN)
    query, codes = np.empty((n, size), dtype=int), np.empty((n, size), dtype=int)
    for i in range(n):
        counts = np.full(n_way, EVEN)
        while not even:
            counts = rng.multinomial(size, rng.dirichlet(np.full(n_way, DIRICHLET)))
            if counts.max() <= min(map(len, of_label.values())) - 1:
                break
        drawn = [rng.permutation(of_label[k]) for k in rng.choice(labels, n_way, replace=False)]
        support[i] = [rows[0] for rows in drawn]
        query[i] = np.concatenate([r[1 : 1 + c] for r, c in zip(drawn, counts, strict=True)])
        codes[i] = np.repeat(np.arange(n_way), counts)
    return EpisodeRows(support, query, np.tile(np.arange(n_way), (n, 1)), codes)


def soft_k_means(init: str, X: np.ndarray, rows: EpisodeRows, n_steps: int) -> np.ndarray:
    """`ProtoNetClassifier` with the queries as rows without a label: accuracies of episodes."""
    clf = fs.ProtoNetClassifier(init, unlabelled=-1, n_refinements=n_steps)
    learner = clf._rebuild(clf._resolve_meta_init())
    scores = []
    with torch.no_grad():
        Z = learner.embed(torch.tensor(X, dtype=torch.float32))
        for i in range(len(rows.support)):
            one = rows.episode(i)
            known = torch.as_tensor(np.concatenate([one.support_codes, -1 + 0 * one.query_codes]))
            members = memberships(known, len(one.support), Z.dtype)
            both = Z[np.concatenate([one.support, one.query])]
            state = learner.adapt_features(both, members, torch.ones(len(both)))
            found = learner.predict_features(state, Z[one.query]).argmax(1).numpy()
            scores.append((found == one.query_codes).mean())
    return np.array(scores)


def methods(init: str) -> Iterator[tuple[str, Callable[..., np.ndarray]]]:
    """Names, and functions of rows, labels and episodes that give the episodes' scores."""

    def scored(estimator: Any) -> Callable[..., np.ndarray]:
        return lambda X, y, rows: scores_of_episodes(estimator, X, y, rows)

    def assigned(X: np.ndarray, y: np.ndarray, rows: EpisodeRows) -> np.ndarray:
        # on features that are computed once: this one is fitted anew to every episode
        Z = fs.ProtoNetClassifier(init).embed(X)
        return scores_of_episodes(fs.TransductiveAssignmentClassifier(), Z, y, rows)

    yield "prototypes, each row by itself", scored(fs.ProtoNetClassifier(init))
    for n in (1, 10):
        steps = "one step" if n == 1 else f"{n} steps"
        yield (
            f"soft k-means, {steps} (`unlabelled=-1`)",
            lambda X, y, rows, n=n: soft_k_means(init, X, rows, n),
        )
    yield "assignment of even classes", assigned
    tim = fs.TransductiveTIMClassifier
    yield "TIM-GD", scored(tim(init))
    yield "TIM-ADM", scored(tim(init, solver="adm"))
    yield "alpha-TIM, alpha=2", scored(tim(init, alpha=2.0))
    laplacian = fs.TransductiveLaplacianShotClassifier
    yield "LaplacianShot", scored(laplacian(init))
    yield "LaplacianShot, rectify=False", scored(laplacian(init, rectify=False))
    pt_map = fs.TransductivePTMAPClassifier
    yield "PT-MAP", scored(pt_map(init))
    yield "PT-MAP, balanced=False", scored(pt_map(init, balanced=False))
    spread = fs.TransductivePropagationClassifier
    yield "label propagation, no learned lengths", scored(spread(init))
    yield "the same, n_neighbors=5", scored(spread(init, n_neighbors=5))


def main(argv: Sequence[str] | None = None) -> None:
    """Score and print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meta-init", default="omniglot-conv4", help="a shipped one, or a file")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--only", choices=WAYS, default="both", help="numbers of classes")
    parser.add_argument("--methods", nargs="*", default=[""], help="what their names begin with")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    images, letters, alphabets = load_omniglot(return_X_y_groups=True)
    names = np.unique(alphabets.astype(str))
    new = np.isin(alphabets, np.random.default_rng(0).permutation(names)[:6])
    X, y = images[new], np.unique(letters[new], return_inverse=True)[1]
    columns = [(way, even) for way in WAYS[options.only] for even in (True, False)]
    rows = {key: episodes(y, key[0], options.episodes, key[1]) for key in columns}
    heads = [f"{way}-way, {'even' if even else 'uneven'}" for way, even in columns]
    print(f"| {options.meta_init} | {' | '.join(heads)} | ms a task |", flush=True)
    print("|---" * (len(heads) + 2) + "|")
    for name, score in methods(options.meta_init):
        if not name.startswith(tuple(options.methods)):
            continue
        cells, spent = [], []
        for key in columns:
            start = time.process_time()
            found = FewShotScore(score(X, y, rows[key]))
            spent.append(1000 * (time.process_time() - start) / options.episodes)
            cells.append(f"{100 * found.mean:.1f} ± {100 * found.ci95:.1f}")
        times = ", ".join(f"{ms:.1f}" for ms in spent[::2])
        print(f"| {name} | {' | '.join(cells)} | {times} |", flush=True)


if __name__ == "__main__":
    main()
