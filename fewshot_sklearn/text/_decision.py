"""What is made of a few sentences, found out on sentences left out.

L. Tunstall, N. Reimers, U. E. S. Jo, L. Bates, D. Korat, M. Wasserblat and O. Pereg. Efficient
few-shot learning without prompts. ENLSP at NeurIPS 2022 (an encoder is adapted, then a head is
fitted).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from ..algorithms import KernelLogisticClassifier
from ._contrast import Training, trained
from ._folds import folds_of, likeliest_temperature, unseen_scores
from ._head import fitted_head, log_probabilities
from ._shared_model import SharedModel
from ._views import Views, begun, side_by_side, views

#: Folds in which heads on the encoder as it is are compared.
FOLDS = 5
#: The encoder as it is is left so where it tells that share of the sentences left out.
WELL_TOLD = 0.9
#: Without a number of steps: how often each sentence is seen, and the fewest steps.
EPOCHS, FEWEST_STEPS = 10, 30
#: How much surer an adapted encoder is of the sentences that it was trained on than it may be
#: of others; found on sentences that are in no figure.
SURER = 2.0
#: Names of what is compared, by losses.
ALONE, WITH_MIDDLE, WITH_UNLABELLED = "embeddings", "with the middle layer", "with unlabelled"


class Decision:
    """The sentences of one `fit`: what is tried on them, and what is decided.

    Parameters
    ----------
    model : SharedModel
        The encoder.
    rows : sequence of str
        Sentences with a label, then names of classes, then sentences without a label.
    codes : ndarray of shape (n_rows,), int
        Classes, numbered; -1 where there is no label.
    weights : ndarray of shape (n_rows,)
        Weights, all positive.
    n_sentences : int
        Rows that come first and have a label: those that may be left out.
    asked : TextClassifier
        Whose parameters say how.
    rng : numpy.random.Generator
        Draws folds and batches.
    """

    def __init__(
        self,
        model: SharedModel,
        rows: Sequence[str],
        codes: np.ndarray,
        weights: np.ndarray,
        n_sentences: int,
        asked: Any,
        rng: np.random.Generator,
    ):
        self.model, self.codes, self.weights, self.asked = model, codes, weights, asked
        self.n_sentences, self.n_classes = n_sentences, int(codes.max()) + 1
        self.unlabelled = np.flatnonzero(codes < 0)
        self.named = np.arange(n_sentences, len(codes) - len(self.unlabelled))
        self.begun = begun(model, rows, asked.n_layers)
        self.plain = self._views(model.bert.layers[-asked.n_layers :])
        self.rng = rng
        self.until: float | None = None
        self.layers: nn.ModuleList | None = None
        self.with_middle = self.with_unlabelled = False
        self.temperature, self.share_told = 1.0, 1.0
        self.losses: dict[str, float] = {}

    def decide(self) -> None:
        """Fit the head: to which views, with which sentences, of an encoder adapted or not."""
        self._choose_views()
        known = self.plain
        if self._to_adapt():
            self.layers = self._trained(self._with_names(np.arange(self.n_sentences)))
            known = self._views(self.layers)
            self.temperature *= SURER
        self.centre = self._centre(known)
        self.head = self._head(side_by_side(known, self.centre), np.arange(self.n_sentences))

    def _to_adapt(self) -> bool:
        pairs = np.bincount(self.codes[self.codes >= 0]).max() > 1 and self.n_classes > 1
        asked = self.asked.adapt
        return pairs and (self.share_told < WELL_TOLD if asked == "auto" else asked)

    def _choose_views(self) -> None:
        """Whether the middle layer and sentences without a label help; the temperature."""
        fold = folds_of(self.codes[: self.n_sentences], FOLDS, self.rng)
        least = self._tried(fold, ALONE, np.inf)
        self.with_middle = True
        found = self._tried(fold, WITH_MIDDLE, least)
        # also where none could be left out, and both losses are infinite
        self.with_middle, least = found <= least, min(found, least)
        if len(self.unlabelled):
            self.with_unlabelled = True
            self.with_unlabelled = self._tried(fold, WITH_UNLABELLED, least) <= least

    def _tried(self, fold: np.ndarray, name: str, least: float) -> float:
        """Loss of unseen sentences as things stand; what else they tell is kept if it is least."""
        Z = self._rows(self.plain)
        logp = unseen_scores(fold, self.n_classes, partial(self._scores, Z))
        temperature, loss = self._temperature(logp)
        if np.isfinite(loss):
            self.losses[name] = loss
        if loss <= least:
            self.temperature, self.share_told = temperature, self._share(logp)
        return loss

    def _share(self, logp: np.ndarray) -> float:
        """The share of sentences left out that are told right; one where none could be."""
        own = slice(self.n_sentences)
        counted = ~np.isnan(logp).any(1)
        right = (logp.argmax(1) == self.codes[own])[counted]
        weights = self.weights[own][counted]
        return float(weights @ right / weights.sum()) if len(weights) else 1.0

    def _temperature(self, logp: np.ndarray) -> tuple[float, float]:
        own = slice(self.n_sentences)
        return likeliest_temperature(logp, self.codes[own], self.weights[own])

    def _with_names(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers, and those of the names, which are never left out."""
        return np.concatenate([rows, self.named])

    def _scores(self, Z: np.ndarray, seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
        return log_probabilities(self._head(Z, seen), Z[asked], self.n_classes)

    def _head(self, Z: np.ndarray, seen: np.ndarray) -> KernelLogisticClassifier:
        rows = self._with_names(seen)
        further = Z[self.unlabelled] if self.with_unlabelled else None
        return fitted_head(Z[rows], self.codes[rows], self.weights[rows], further)

    def _centre(self, known: Views) -> np.ndarray | None:
        return known.middle.mean(0) if self.with_middle else None

    def _rows(self, known: Views) -> np.ndarray:
        return side_by_side(known, self._centre(known))

    def _views(self, layers: nn.ModuleList) -> Views:
        return views(self.model, self.begun, self.asked.n_layers, layers)

    def _trained(self, rows: np.ndarray) -> nn.ModuleList:
        """Layers trained on some rows."""
        asked = self.asked
        batch = min(asked.batch_size, len(rows))
        n_steps = asked.n_steps or max(FEWEST_STEPS, -(-EPOCHS * len(rows) // batch))
        seconds = None if self.until is None else self.until - time.monotonic()
        return trained(
            self.model.bert.layers[-asked.n_layers :],
            [self.begun.tokens[i] for i in rows],
            self.codes[rows],
            self.weights[rows],
            Training(n_steps, batch, asked.lr),
            int(self.rng.integers(2**31)),
            seconds,
        )
