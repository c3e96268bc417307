"""Sets of labelled sentences for `text.py`: two corpora of intents, and three that come by pip.

* ``banking77``, ``clinc150``: intents; the files that `fewshot_sklearn.datasets.load_banking77`
  and `load_clinc150` read, in folders of these names.
* ``movies``: whether a snippet of a movie review is positive; ``sources``: whether a snippet is of
  a movie review, a product review, an editorial or a tweet. C. Hutto and E. Gilbert. VADER: a
  parsimonious rule-based model for sentiment analysis of social media text. ICWSM 2014. In the
  source package: ``pip download --no-deps --no-binary :all: vaderSentiment==3.3.2``.
* ``topics``: of which of twelve topics a question is. In ``pip install chatterbot-corpus==1.3.3``.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fewshot_sklearn.datasets import load_banking77, load_clinc150

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("FEWSHOT_TEST_DATA", ROOT.parent / "shared" / "data"))
VADER = "vaderSentiment-3.3.2.tar.gz"
#: Mean ratings, from -4 to 4, nearer to zero than this are neither positive nor negative.
CLEAR = 1.0
#: A topic needs that many different questions.
QUESTIONS = 25


class Sentences(NamedTuple):
    """Labelled sentences.

    Parameters
    ----------
    text : ndarray of shape (n_sentences,), object
        Sentences.
    y : ndarray of shape (n_sentences,), str
        Labels.
    is_test : ndarray of shape (n_sentences,), bool or None
        What the corpus sets aside for testing; None where it sets nothing aside.
    """

    text: np.ndarray
    y: np.ndarray
    is_test: np.ndarray | None = None


def read(name: str, folder: Path = DATA) -> Sentences:
    """A set by its name.

    Parameters
    ----------
    name : {"banking77", "clinc150", "movies", "sources", "topics"}
        Which one.
    folder : Path, default=DATA
        Where the corpora of intents and the source package are.

    Returns
    -------
    Sentences
        All of them.
    """
    if name in ("banking77", "clinc150"):
        corpus = (load_banking77 if name == "banking77" else load_clinc150)(folder / name)
        kept = np.isin(corpus.split, ["train", "test"])
        return Sentences(
            corpus.sentences[kept], corpus.target[kept].astype(str), corpus.split[kept] == "test"
        )
    pairs = list({"movies": _movies, "sources": _sources, "topics": _topics}[name](folder))
    text, y = (np.array(column, dtype=object) for column in zip(*dict(pairs).items(), strict=True))
    return Sentences(text, y.astype(str))


def _rated(folder: Path, part: str) -> Iterator[tuple[str, float]]:
    with tarfile.open(folder / VADER) as outer:
        name = next(n for n in outer.getnames() if n.endswith("hutto_ICWSM_2014.tar.gz"))
        inner = io.BytesIO(outer.extractfile(name).read())  # type: ignore[union-attr]
    with tarfile.open(fileobj=inner) as files:
        name = next(n for n in files.getnames() if n.endswith(f"{part}_GroundTruth.txt"))
        lines = files.extractfile(name).read().decode("utf-8", "replace")  # type: ignore[union-attr]
    for line in lines.splitlines():
        _, rating, text = line.split("\t", 2)
        if len(text.split()) > 3:
            yield text.strip(), float(rating)


def _movies(folder: Path) -> Iterator[tuple[str, str]]:
    for text, rating in _rated(folder, "movieReviewSnippets"):
        if abs(rating) >= CLEAR:
            yield text, "positive" if rating > 0 else "negative"


def _sources(folder: Path) -> Iterator[tuple[str, str]]:
    parts = {
        "movie review": "movieReviewSnippets",
        "product review": "amazonReviewSnippets",
        "newspaper editorial": "nytEditorialSnippets",
        "tweet": "tweets",
    }
    for label, part in parts.items():
        for text, _ in _rated(folder, part):
            yield text, label


def _topics(folder: Path) -> Iterator[tuple[str, str]]:
    import yaml

    spec = find_spec("chatterbot_corpus")
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise ImportError("topics need `pip install chatterbot-corpus==1.3.3`")
    for file in sorted((Path(places[0]) / "data" / "english").glob("*.yml")):
        told = yaml.safe_load(file.read_text("utf-8"))["conversations"]
        asked = dict.fromkeys(str(lines[0]).strip() for lines in told)
        if len(asked) >= QUESTIONS and file.stem not in ("conversations", "botprofile"):
            yield from ((text, file.stem.replace("_", " ")) for text in asked)


class Task(NamedTuple):
    """A few sentences of some classes, and others to be told apart.

    Parameters
    ----------
    text, y : ndarray of shape (n_classes * n_shot,)
        Support sentences and their labels.
    text_asked, y_asked : ndarray of shape (n_asked,)
        The others.
    text_more : ndarray of shape (n_more,)
        Sentences of the same classes that are neither, whose labels nobody is told.
    """

    text: np.ndarray
    y: np.ndarray
    text_asked: np.ndarray
    y_asked: np.ndarray
    text_more: np.ndarray


def draw(
    data: Sentences,
    n_way: int | None,
    n_shot: int,
    seed: int,
    n_asked: int = 500,
    n_more: int = 0,
) -> Task:
    """A task, drawn from a set.

    Parameters
    ----------
    data : Sentences
        Where from.
    n_way : int or None
        Classes, drawn anew for each seed; None is all.
    n_shot : int
        Support sentences a class.
    seed : int
        The same seed has the same classes, and the same sentences to be told apart, whatever
        `n_shot` is where the set has a part for testing.
    n_asked : int, default=500
        At most so many are to be told apart.
    n_more : int, default=0
        At most so many come without a label.

    Returns
    -------
    Task
        Reproducible.
    """
    rng = np.random.default_rng([0, seed])
    classes = np.unique(data.y)
    if n_way is not None and n_way < len(classes):
        classes = np.sort(rng.choice(classes, n_way, replace=False))
    apart = data.is_test if data.is_test is not None else np.zeros(len(data.y), dtype=bool)
    order = rng.permutation(len(data.y))
    pools = [order[(data.y[order] == c) & ~apart[order]] for c in classes]
    support = np.concatenate([pool[:n_shot] for pool in pools])
    rest = order[apart[order] & np.isin(data.y[order], classes)]
    if data.is_test is None:
        # as many of each class as the rarest has
        most = min(len(pool) - n_shot for pool in pools)
        rest = np.concatenate(
            [pool[n_shot:][: min(most, n_asked // len(classes))] for pool in pools]
        )
    rest = rest[:n_asked]
    others = np.setdiff1d(np.concatenate(pools), np.concatenate([support, rest]))
    more = np.random.default_rng([1, seed]).permutation(others)[:n_more]
    return Task(data.text[support], data.y[support], data.text[rest], data.y[rest], data.text[more])
