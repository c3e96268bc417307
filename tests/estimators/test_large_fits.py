"""Large tables: `fit` takes bounded memory with the same answers, or refuses beforehand."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
from sklearn import config_context
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fewshot_sklearn
from fewshot_sklearn import (
    BaselinePlusPlusClassifier,
    DeepKernelRegressor,
    KernelLogisticClassifier,
    MatchingNetClassifier,
    ProtoNetClassifier,
    SiameseClassifier,
)
from fewshot_sklearn.algorithms._table_experts import SIMILARITIES, all_experts
from fewshot_sklearn.estimators import FewShotEstimator
from fewshot_sklearn.learners import Refinement, log_sums_by_class, make_kernel, numbers_at_once

EVERYONE = sorted(
    name
    for name in fewshot_sklearn.__all__
    if isinstance(kind := getattr(fewshot_sklearn, name), type)
    and issubclass(kind, FewShotEstimator)
    and hasattr(kind, "predict")
)
#: Those that cannot do without a table of all pairs of rows.
REFUSE = {
    "DeepKernelClassifier", "DeepKernelRegressor", "InContextClassifier",
    "InContextRegressor", "KernelLogisticClassifier", "TransductivePropagationClassifier",
}  # fmt: skip
#: A table of all pairs of this many rows is larger than the memory, in MiB, that there is.
N_ROWS, LITTLE = 1000, 5.5
N_CLASSES, N_FEATURES = 40, 8


class Largest(TorchDispatchMode):
    """Records how many bytes the largest tensor has that torch makes."""

    nbytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = (t for t in tree_leaves(out) if isinstance(t, torch.Tensor))
        self.nbytes = max([self.nbytes, *(t.untyped_storage().nbytes() for t in tensors)])
        return out


def table(name, labels="hard"):
    """Rows, some of them twice, their labels or targets, and weights, some of them zero."""
    rng = np.random.default_rng(0)
    codes = np.arange(N_ROWS) % N_CLASSES
    X = rng.normal(size=(N_ROWS, N_FEATURES)) + rng.normal(size=(N_CLASSES, N_FEATURES))[codes]
    X[:40] = X[40:80]
    w = rng.uniform(0.5, 2, N_ROWS) * (rng.random(N_ROWS) > 0.1)
    if name.endswith("Regressor"):
        return X, X[:, 0] + rng.normal(size=N_ROWS), w
    soft = 0.8 * np.eye(N_CLASSES)[codes] + 0.2 / N_CLASSES
    return X, soft if labels == "soft" else codes, w


def answers(estimator, X):
    return getattr(estimator, "predict_proba", estimator.predict)(X)


# ------------------------------------------------------------------ many rows
@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("name", [name for name in EVERYONE if name not in REFUSE])
def test_bounded_memory_and_the_same_answers(name, labels):
    if labels == "soft" and name.endswith("Regressor"):
        pytest.skip("targets are no labels")
    X, y, w = table(name, labels)
    estimator = getattr(fewshot_sklearn, name)(random_state=0)
    expected = answers(estimator.fit(X, y, sample_weight=w), X[:20])
    with config_context(working_memory=LITTLE):
        with Largest() as largest:
            estimator.fit(X, y, sample_weight=w)
        assert largest.nbytes <= 8 * numbers_at_once() < 8 * N_ROWS**2
        found = answers(estimator, X[:20])
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", sorted(REFUSE))
def test_refused_before_memory_is_taken(name):
    X, y, w = table(name)
    estimator = getattr(fewshot_sklearn, name)()
    what = rf"{name} would need about .* GB of memory to fit {N_ROWS} rows of \d+ (classes|target)"
    little, refused = config_context(working_memory=LITTLE), pytest.raises(ValueError, match=what)
    with little, Largest() as largest, refused:
        estimator.fit(X, y, sample_weight=w)
    assert largest.nbytes <= 8 * N_ROWS * N_CLASSES
    assert not hasattr(estimator, "state_")


@pytest.mark.parametrize("estimator", [DeepKernelRegressor(), KernelLogisticClassifier()])
def test_what_a_refusal_tells_is_enough(estimator):
    X, y, _ = table(type(estimator).__name__)
    refused = pytest.raises(ValueError, match="RidgeHead")
    with config_context(working_memory=LITTLE), refused as told:
        estimator.fit(X, y)
    advised = int(re.search(r"working_memory=(\d+)", str(told.value))[1])
    with config_context(working_memory=advised):
        assert len(estimator.fit(X, y).predict(X[:3])) == 3


def test_too_many_classes_are_refused_before_a_table_of_them_is_made():
    X, y = np.zeros((N_ROWS, 2)), np.arange(N_ROWS) // 2
    refused = pytest.raises(ValueError, match=f"{N_ROWS} rows of {N_ROWS // 2} classes")
    with config_context(working_memory=LITTLE), Largest() as largest, refused:
        ProtoNetClassifier().fit(X, y)
    assert largest.nbytes < 8 * len(X) * 10


@pytest.mark.parametrize(
    "estimator",
    [
        BaselinePlusPlusClassifier(cosine=False),
        MatchingNetClassifier(full_context=True),
        *(ProtoNetClassifier(unlabelled=-1, refinement=kind) for kind in ("soft", "masked")),
    ],
    ids=str,
)
def test_other_ways_to_fit_give_the_same_answers_too(estimator):
    X, y, w = table("Classifier")
    X, y, w = X[:300], y[:300], w[:300]
    y[::7] = -1
    expected = estimator.fit(X, y, sample_weight=w).predict_proba(X[:20])
    with config_context(working_memory=1.0):
        estimator.fit(X, y, sample_weight=w)
        found = estimator.predict_proba(X[:20])
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


# ------------------------------------------------------------------ many features
@pytest.mark.parametrize("name", EVERYONE)
def test_no_table_of_all_pairs_of_features(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 4000))
    y = X[:, 0] if name.endswith("Regressor") else np.arange(20) % 5
    with Largest() as largest:
        estimator = getattr(fewshot_sklearn, name)().fit(X, y)
        estimator.predict(X)
    few = 4000**2 // 4
    assert largest.nbytes < 8 * few
    assert len(pickle.dumps(estimator)) < 2 * 8 * few


# ------------------------------------------------------------------ the parts
@pytest.mark.parametrize("estimator", [SiameseClassifier(), MatchingNetClassifier()])
def test_more_rows_than_are_compared_in_one_table(estimator, monkeypatch):
    rng = np.random.default_rng(0)
    X, y, w = rng.normal(size=(1200, 4)), np.arange(1200) % 30, rng.integers(0, 3, 1200)
    w[y == 3] = 0
    found = estimator.fit(X, y, sample_weight=w).predict_proba(X[:9])
    monkeypatch.setattr("fewshot_sklearn.learners.sequences.FEW_ROWS", len(X))
    assert (found[:, 3] == 0).all()
    np.testing.assert_allclose(found, estimator.predict_proba(X[:9]), rtol=1e-10)


def test_sums_by_class_without_a_table():
    rng = np.random.default_rng(0)
    scores = torch.tensor(rng.normal(size=(2, 5, 1100)) * 300)
    mass = torch.tensor(np.eye(7)[rng.integers(0, 6, (2, 1100))] * rng.integers(0, 3, (2, 1100, 1)))
    in_a_table = log_sums_by_class(scores, mass)
    with torch.no_grad():
        found = log_sums_by_class(scores, mass)
    assert (found[..., 6] == -torch.inf).all()
    torch.testing.assert_close(found, in_a_table, rtol=1e-12, atol=1e-12)


def test_spectral_kernel_in_parts():
    kernel = make_kernel("spectral", 3).double()
    A, B = torch.randn(2, 50, 3).double(), torch.randn(2, 40, 3).double()
    expected = kernel(A, B)
    with torch.no_grad(), config_context(working_memory=0.05), Largest() as largest:
        found = kernel(A, B)
    torch.testing.assert_close(found, expected)
    assert largest.nbytes < expected.nbytes * 3


@pytest.mark.parametrize("kind", ["distractors", "masked"])
def test_refinement_in_parts(kind):
    torch.manual_seed(0)
    refine = Refinement(kind, 2).double()
    Z, centres = torch.randn(200, 30).double(), torch.randn(5, 30).double()
    y = torch.zeros(200, 5).double()
    y[:5] = torch.eye(5)
    told = centres, Z, y, torch.ones(200).double(), lambda p, rows: -torch.cdist(rows, p).square()
    expected = refine(*told)
    with torch.no_grad(), config_context(working_memory=0.05):
        torch.testing.assert_close(refine(*told), expected)


def test_experts_one_after_another():
    torch.manual_seed(0)
    half = torch.randn(len(SIMILARITIES), 12, 12).double()
    y, w = torch.eye(3).double().repeat(4, 1), torch.rand(12).double() + 0.5
    together = all_experts(half @ half.mT, y, w)
    for one, all_ in zip(all_experts(half @ half.mT, y, w, 1), together, strict=True):
        torch.testing.assert_close(one, all_)
