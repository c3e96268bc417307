"""Features of any size, rows that are alike, columns that are constant: no answer is NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fewshot_sklearn
from fewshot_sklearn.encoders import make_encoder
from fewshot_sklearn.tasks import Task, pad_tasks

NAMES = ["CAML", "DN4", "DeepEMD", "FEAT", "FRN", "LEO", "MetaOptNet", "R2D2", "SimpleCNAPS"]
NAMES += ["SNAIL", "TADAM"]


@pytest.mark.parametrize("past", [True, False], ids=["past", "no past"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("name", NAMES)
def test_answers_and_slopes_are_finite(name, size, dtype, past):
    rng = np.random.default_rng(0)
    X = size * np.hstack([rng.normal(size=(60, 4)), np.zeros((60, 1)), np.ones((60, 1))])
    X[10:15], X[15] = X[:5], 0.0
    y = np.arange(60) % 3
    tasks = [Task(X[:20], y[:20], X[20:26], y[20:26]), Task(X[26:29], y[26:29], X[30:40], y[30:40]),
             Task(X[:1], y[:1], X[50:], np.zeros(10, int))]  # fmt: skip
    batch, y_query = pad_tasks(tasks, dtype)
    kind = getattr(fewshot_sklearn, f"{name}Classifier")
    torch.manual_seed(0)
    params = kind()._learner_params(kind._defaults if past else None)
    params |= {"n_hidden": 8} if name == "CAML" else {}
    encoder = make_encoder("mlp" if name == "TADAM" else "identity", (6,), {})
    learner = kind._learner_class(encoder, (6,), **params).to(dtype)
    batch["X"].requires_grad_()
    loss, outputs = learner.training_loss(**batch, y_query=y_query)
    loss.backward()
    assert batch["X"].grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in learner.parameters())
    learner.eval()
    with torch.no_grad():
        for found in (outputs, learner(**batch)):
            there = found[0]
            assert there.isfinite().all() and not found.isnan().any()
