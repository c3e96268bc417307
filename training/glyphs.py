"""The letters that glyph encoders are trained on and measured on.

Omniglot's background set (B. M. Lake, R. Salakhutdinov and J. B. Tenenbaum,
Human-level concept learning through probabilistic program induction, Science
2015). The 20 alphabets of its evaluation set are used for nothing here. Of the 30
background alphabets some are left out of training, whole, to measure on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fewshot_sklearn import FewShotScore, few_shot_score
from fewshot_sklearn.datasets import load_omniglot
from fewshot_sklearn.model_selection import scores_of_episodes
from fewshot_sklearn.tasks import EpisodeRows, add_rotations

#: Alphabets left out, of 30.
N_NEW = 6
#: (n_way, n_shot) of the usual tables.
USUAL = ((5, 1), (5, 5), (20, 1), (20, 5))
#: Rows asked about, a class, in an episode.
N_QUERY = 5


class Letters(NamedTuple):
    """Drawings of letters.

    Parameters
    ----------
    images : ndarray of shape (n_drawings, 28, 28), dtype uint8
        The drawings.
    letter, alphabet, drawer : ndarray of shape (n_drawings,)
        What each is of, and by whom.
    """

    images: np.ndarray
    letter: np.ndarray
    alphabet: np.ndarray
    drawer: np.ndarray


def past_and_new(split: int = 0, n_past: int | None = None) -> tuple[Letters, Letters]:
    """Divide the background alphabets into past ones and new ones.

    Parameters
    ----------
    split : int, default=0
        Seed of the division.
    n_past : int or None, default=None
        How many of the past alphabets to train on; None is all of them.

    Returns
    -------
    past, new : Letters
        To train on, and to measure on: six whole alphabets.
    """
    omniglot = load_omniglot()
    order = np.random.default_rng(split).permutation(np.unique(omniglot.alphabet.astype(str)))
    last = None if n_past is None else N_NEW + n_past
    columns = (omniglot.images, omniglot.target, omniglot.alphabet, omniglot.drawer)
    chosen = (np.isin(omniglot.alphabet, names) for names in (order[N_NEW:last], order[:N_NEW]))
    past, new = (Letters(*(column[rows] for column in columns)) for rows in chosen)
    return past, new


def drawer_to_drawer(letters: Letters, n_way: int, n_episodes: int, seed: int) -> EpisodeRows:
    """Draw episodes of the Omniglot challenge's kind.

    One drawer's letters of an alphabet, each once, are to be recognised from
    another drawer's, each once (Lake et al. 2015; Lake et al. 2019).

    Parameters
    ----------
    letters : Letters
        Every letter drawn once by each of 20 drawers.
    n_way : int
        Letters an episode; all of an alphabet where it has fewer.
    n_episodes : int
        Episodes, an equal number of each alphabet.
    seed : int
        Seed.

    Returns
    -------
    EpisodeRows
        Row numbers, -1 where an alphabet has fewer letters.
    """
    rng = np.random.default_rng(seed)
    alphabets = np.unique(letters.alphabet.astype(str))
    support = np.full((n_episodes, n_way), -1)
    query, support_codes = support.copy(), np.full((n_episodes, n_way), -100)
    for episode in range(n_episodes):
        inside = np.flatnonzero(letters.alphabet == alphabets[episode % len(alphabets)])
        names = np.unique(letters.letter[inside].astype(str))
        chosen = rng.choice(names, min(n_way, len(names)), replace=False)
        one, other = rng.choice(np.unique(letters.drawer), 2, replace=False)
        for code, name in enumerate(chosen):
            rows = inside[letters.letter[inside] == name]
            support[episode, code] = rows[letters.drawer[rows] == one][0]
            query[episode, code] = rows[letters.drawer[rows] == other][0]
            support_codes[episode, code] = code
    return EpisodeRows(support, query, support_codes, support_codes.copy())


def measure_glyphs(
    estimator: Any, new: Letters, n_episodes: int = 1000
) -> Iterator[dict[str, Any]]:
    """Measure an estimator on letters of alphabets that it was not trained on.

    Parameters
    ----------
    estimator : classifier
        A meta-trained one, or any of scikit-learn's that takes such images.
    new : Letters
        Letters of alphabets that were left out.
    n_episodes : int, default=1000
        Episodes a figure.

    Yields
    ------
    dict
        ``task``, ``score``, ``mean``, ``ci95`` (in per cent) and ``episodes``.
    """
    rows = drawer_to_drawer(new, 20, n_episodes, seed=0)
    scores = scores_of_episodes(estimator, new.images, new.letter, rows)
    clusters = new.alphabet[rows.support[:, 0]]
    within = FewShotScore(scores, clusters)
    yield _figure("20-way 1-shot within an alphabet, drawer to drawer", within)
    turned, names, _ = add_rotations(new.images, new.letter, new.alphabet)
    for n_way, n_shot in USUAL:
        score = few_shot_score(
            estimator, turned, names, n_way=n_way, n_shot=n_shot, n_query=N_QUERY,
            n_episodes=n_episodes, random_state=0,
        )  # fmt: skip
        yield _figure(f"{n_way}-way {n_shot}-shot, rotations as letters", score)


def _figure(task: str, score: FewShotScore) -> dict[str, Any]:
    return {
        "task": task,
        "score": "accuracy, %",
        "mean": round(100 * score.mean, 2),
        "ci95": round(100 * score.ci95, 2),
        "episodes": len(score.scores),
    }
