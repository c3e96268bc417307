"""Adapt the sentence encoder itself to a few sentences of each intent, and measure what it brings.

    python training/intents_encoder.py clinc150 --n-shot 5 --n-draws 3

The upper layers of all-MiniLM-L6-v2 are trained on the support sentences and the names of the
intents alone, so that sentences of one intent come closer together than others (P. Khosla et
al., Supervised contrastive learning, NeurIPS 2020); the head is then fitted to the embeddings of
the adapted encoder beside those of the plain one. Nothing of it ships: an encoder is as large as
all that does, and would be for one draw of sentences.

Needs what `intents.py` needs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from intents import DATA, LOADERS, RUNS, Intents, draws, embedded, figure, new_head
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_sklearn.encoders import load_sentence_model

#: Layers of the encoder, of six, that stay as they are, with its word embeddings.
FROZEN = 2
#: Found on sentences that are neither support nor test, with another draw.
STEPS, LEARNING_RATE, INTENTS_A_STEP, TEMPERATURE = 120, 1e-4, 40, 0.07


class SentenceEncoder(nn.Module):
    """all-MiniLM-L6-v2, whose upper layers can be trained.

    Parameters
    ----------
    random_state : int
        Seeds dropout.
    """

    def __init__(self, random_state: int = 0):
        super().__init__()
        torch.manual_seed(random_state)
        self.whole = load_sentence_model()
        model = self.whole[0].auto_model
        for part in (model.embeddings, *model.encoder.layer[:FROZEN]):
            part.requires_grad_(False)

    def forward(self, **tokens: Tensor) -> Tensor:
        """Embeddings of length one."""
        return F.normalize(self.whole(tokens)["sentence_embedding"], dim=-1)

    def embed(self, sentences: list[str]) -> np.ndarray:
        """Embeddings of length one of sentences, without training."""
        told = self.whole.encode(sentences, batch_size=64, show_progress_bar=False)
        return told / np.linalg.norm(told, axis=1, keepdims=True)


class Contrast(nn.Module):
    """How much likelier other sentences are as neighbours than those of the same intent."""

    def forward(self, Z: Tensor, y: Tensor) -> Tensor:
        """Mean negative log-probability (eq. 2 of Khosla et al. 2020)."""
        itself = torch.eye(len(Z), dtype=torch.bool)
        logp = (Z @ Z.T / TEMPERATURE).masked_fill(itself, -torch.inf).log_softmax(1)
        same = (y[:, None] == y) & ~itself
        return -(logp.masked_fill(~same, 0.0).sum(1) / same.sum(1)).mean()


class Pairs:
    """Batches of row numbers: two sentences of each of some intents.

    Parameters
    ----------
    codes : ndarray of shape (n_rows,)
        Intents, numbered.
    random_state : int
        Seed.
    """

    def __init__(self, codes: np.ndarray, random_state: int):
        self.rows = [np.flatnonzero(codes == code) for code in np.unique(codes)]
        self.rng = np.random.default_rng(random_state)

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(STEPS):
            chosen = self.rng.permutation(len(self.rows))[:INTENTS_A_STEP]
            yield [i for c in chosen for i in self.rng.choice(self.rows[c], 2, replace=False)]


def adapted(
    sentences: np.ndarray, labels: np.ndarray, random_state: int = 0
) -> Callable[[list[str]], np.ndarray]:
    """Train the encoder on a few sentences.

    Parameters
    ----------
    sentences : ndarray of shape (n_rows,), str
        Support sentences, at least two of each intent.
    labels : ndarray of shape (n_rows,)
        Intents.
    random_state : int, default=0
        Seeds batches and dropout.

    Returns
    -------
    callable
        ``sentences -> embeddings`` of the adapted encoder.
    """
    codes = np.unique(labels, return_inverse=True)[1]
    net = NeuralNet(
        SentenceEncoder,
        module__random_state=random_state,
        criterion=Contrast,
        optimizer=torch.optim.AdamW,
        lr=LEARNING_RATE,
        max_epochs=1,
        train_split=None,
        iterator_train__batch_size=1,
        iterator_train__batch_sampler=Pairs(codes, random_state),
        iterator_train__collate_fn=lambda pairs: _tokens(net, pairs),
        callbacks=[
            LRScheduler(
                torch.optim.lr_scheduler.OneCycleLR,
                max_lr=LEARNING_RATE,
                total_steps=STEPS,
                pct_start=0.1,
                step_every="batch",
            )
        ],
        verbose=0,
    )
    net.fit(np.asarray(sentences, dtype=object), codes)
    return net.module_.eval().embed


def _tokens(net: Any, pairs: list[tuple[str, int]]) -> tuple[dict[str, Tensor], Tensor]:
    sentences, codes = zip(*pairs, strict=True)
    tokens = net.module_.whole.tokenizer(list(sentences), padding=True, return_tensors="pt")
    return dict(tokens), torch.as_tensor(codes)


def measure(
    name: str, n_shot: int, n_draws: int, n_asked: int | None = None, folder: Path = RUNS
) -> dict[str, np.ndarray]:
    """Accuracy before and after, on the same draws.

    Parameters
    ----------
    name : {"banking77", "clinc150"}
        Which corpus.
    n_shot : int
        Support sentences an intent, besides its name.
    n_draws : int
        Draws.
    n_asked : int or None, default=None
        Test sentences asked about; None is all of them.
    folder : Path, default=RUNS
        Where the embeddings of the plain encoder are kept.

    Returns
    -------
    dict of str to ndarray of shape (n_draws,)
        Accuracies.
    """
    corpus: Intents = embedded(name, folder)
    text = np.asarray(LOADERS[name](DATA / name).sentences, dtype=object)
    intents = np.unique(corpus.y)
    names = np.array([intent.replace("_", " ") for intent in intents], dtype=object)
    asked = np.random.default_rng(0).permutation(np.flatnonzero(corpus.is_test))[:n_asked]
    told: dict[str, list[float]] = {"as it is": [], "adapted": [], "both": []}
    for draw, rows in enumerate(draws(corpus, n_shot, n_draws)):
        clock = time.process_time()
        y = np.concatenate([corpus.y[rows], intents])
        support = np.concatenate([text[rows], names])
        embed = adapted(support, y, random_state=draw)
        plain = np.concatenate([corpus.X[rows], corpus.names]), corpus.X[asked]
        new = embed(list(support)), embed(list(text[asked]))
        both = [np.concatenate(pair, 1) / np.sqrt(2) for pair in zip(plain, new, strict=True)]
        for kind, (Z, Z_asked) in zip(told, (plain, new, both), strict=True):
            told[kind].append(new_head().fit(Z, y).score(Z_asked, corpus.y[asked]))
        line = {kind: round(100 * scores[-1], 2) for kind, scores in told.items()}
        minutes = (time.process_time() - clock) / 60
        print(f"{name}, {n_shot} sentences, draw {draw}: {line}, {minutes:.1f} CPU-min", flush=True)
    return {kind: np.array(scores) for kind, scores in told.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=LOADERS)
    parser.add_argument("--n-shot", type=int, default=5)
    parser.add_argument("--n-draws", type=int, default=3)
    parser.add_argument("--n-asked", type=int, help="test sentences; all if not given")
    parser.add_argument("--folder", type=Path, default=RUNS, help="for embeddings")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    scores = measure(options.name, options.n_shot, options.n_draws, options.n_asked, options.folder)
    for kind, values in scores.items():
        print(figure(f"{options.name}, {options.n_shot}-shot and names, encoder {kind}", values))


if __name__ == "__main__":
    main()
