"""Whether a sentence encoder is adapted to a few sentences, found out on sentences left out.

L. Tunstall, N. Reimers, U. E. S. Jo, L. Bates, D. Korat, M. Wasserblat and O. Pereg. Efficient
few-shot learning without prompts. ENLSP at NeurIPS 2022 (an encoder is adapted, then a head is
fitted).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from torch import Tensor, nn

from ..algorithms import KernelLogisticClassifier
from ._contrast import Training, trained
from ._folds import folds_of, likeliest_temperature, unseen_scores
from ._shared_model import SharedModel, embeddings, through

#: Folds in which adapted encoders are compared with the one as it is: each is a training.
ADAPTED_FOLDS = 2
#: Folds in which the temperature of the encoder as it is is found: each is a head.
FROZEN_FOLDS = 5
#: Without a number of steps: how often each sentence is seen, and the fewest steps.
EPOCHS, FEWEST_STEPS = 10, 30
#: Smallest probability whose logarithm is taken.
TINY = 1e-30


class Decision:
    """The sentences of one `fit`: what is tried on them, and what is decided."""

    def __init__(
        self,
        model: SharedModel,
        rows: Sequence[str],
        codes: np.ndarray,
        weights: np.ndarray,
        n_sentences: int,
        n_classes: int,
        asked: Any,
    ):
        self.model, self.codes, self.weights = model, codes, weights
        self.n_sentences, self.n_classes, self.asked = n_sentences, n_classes, asked
        self.tokens = model.tokens(rows, model.n_layers - asked.n_layers)
        self.plain = features(model, self.tokens, asked.n_layers, None)
        random = check_random_state(asked.random_state)
        self.rng = np.random.default_rng(random.randint(2**31))
        self.until: float | None = None
        self.layers: nn.ModuleList | None = None
        self.losses: dict[str, float] = {}

    def decide(self) -> None:
        """Fit the head, to an encoder that is adapted or not."""
        all_rows = np.arange(len(self.codes))
        pairs = np.bincount(self.codes, minlength=self.n_classes).max() > 1 and self.n_classes > 1
        adapt = self.asked.adapt if pairs else False
        adapt = bool(adapt) and (self._adapting_pays() or adapt is True)
        if not adapt:
            logp = unseen_scores(self._folds(FROZEN_FOLDS), self.n_classes, self._plain_scores)
            self.temperature, loss = self._temperature(logp)
            if not self.losses and np.isfinite(loss):
                self.losses = {"as it is": loss}
        rows = self.plain
        if adapt:
            self.layers = self._trained(all_rows, 1)
            rows = self._features(self.layers)
        self.head = self._head(rows, all_rows)

    def _adapting_pays(self) -> bool:
        """Whether sentences left out are told better by an adapted encoder; its temperature.

        Where it does worse on the first half, the second is not tried.
        """
        fold = self._folds(ADAPTED_FOLDS)
        plain = unseen_scores(fold, self.n_classes, self._plain_scores)
        changed = np.full_like(plain, np.nan)
        for k in range(ADAPTED_FOLDS):
            n_left = ADAPTED_FOLDS + 1 - k
            part = np.where(fold == k, 0, -1)
            if not (part == 0).any():
                continue

            def scores(seen: np.ndarray, asked: np.ndarray, n_left: int = n_left) -> np.ndarray:
                layers = self._trained(self._with_names(seen), n_left)
                return self._scores(self._features(layers), seen, asked)

            told = unseen_scores(part, self.n_classes, scores)
            changed[fold == k] = told[fold == k]
            both = np.where(np.isnan(changed), np.nan, plain)
            self.temperature, with_change = self._temperature(changed)
            _, loss = self._temperature(both)
            self.losses = {"as it is": loss, "adapted": with_change}
            if with_change >= loss and self.asked.adapt == "auto":
                break
        self.losses = {name: loss for name, loss in self.losses.items() if np.isfinite(loss)}
        return bool(self.losses) and self.losses["adapted"] < self.losses["as it is"]

    def _folds(self, n_folds: int) -> np.ndarray:
        return folds_of(self.codes[: self.n_sentences], n_folds, self.rng)

    def _temperature(self, logp: np.ndarray) -> tuple[float, float]:
        own = slice(self.n_sentences)
        return likeliest_temperature(logp, self.codes[own], self.weights[own])

    def _with_names(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers, and those of the names, which are never left out."""
        return np.concatenate([rows, np.arange(self.n_sentences, len(self.codes))])

    def _plain_scores(self, seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
        return self._scores(self.plain, seen, asked)

    def _scores(self, Z: np.ndarray, seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
        head = self._head(Z, self._with_names(seen))
        found = np.full((len(asked), self.n_classes), np.log(TINY))
        found[:, head.classes_] = log_probabilities(head, Z[asked])
        return found

    def _features(self, layers: nn.ModuleList) -> np.ndarray:
        return features(self.model, self.tokens, self.asked.n_layers, layers)

    def _trained(self, rows: np.ndarray, n_left: int) -> nn.ModuleList:
        """Layers trained on some rows, of `n_left` trainings that are still to come."""
        asked = self.asked
        batch = min(asked.batch_size, len(rows))
        n_steps = asked.n_steps or max(FEWEST_STEPS, -(-EPOCHS * len(rows) // batch))
        seconds = None if self.until is None else (self.until - time.monotonic()) / n_left
        return trained(
            self.model.bert.layers[-asked.n_layers :],
            [self.tokens[i] for i in rows],
            self.codes[rows],
            self.weights[rows],
            Training(n_steps, batch, asked.lr),
            int(self.rng.integers(2**31)),
            seconds,
        )

    def _head(self, Z: np.ndarray, rows: np.ndarray) -> KernelLogisticClassifier:
        head = KernelLogisticClassifier(encoder="residual", lengthscale=1.0, device="cpu")
        return head.fit(Z[rows], self.codes[rows], self.weights[rows])


def features(
    model: SharedModel, tokens: Sequence[Tensor], n_layers: int, layers: nn.ModuleList | None
) -> np.ndarray:
    """Embeddings by the encoder as it is, and beside them those by the adapted one, if any."""
    plain = embeddings(through(model.bert.layers[-n_layers:], tokens))
    if layers is None:
        return plain
    return np.concatenate([plain, embeddings(through(layers, tokens))], axis=1) / np.sqrt(2)


def log_probabilities(head: KernelLogisticClassifier, Z: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(head.predict_proba(Z), TINY))
