"""Padding is weight zero: ragged tasks in one batch get what each gets alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import CLASSIFIERS, REGRESSORS

from fewshot_sklearn.tasks import IGNORED_CODE, Support, Task, memberships, pad_tasks

NAMES = CLASSIFIERS + REGRESSORS
#: (classes, support rows, query rows) of the tasks of a ragged batch
SIZES = ((2, 2, 7), (5, 11, 1), (3, 9, 4), (4, 4, 6))


def make_task(name, size, rng):
    n_way, n, n_query = size
    if name in REGRESSORS:
        rows = [rng.normal(size=s) for s in ((n, 1), (n, 1), (n_query, 1), (n_query, 1))]
        return Task(*rows)
    codes = np.arange(n) % n_way
    return Task(
        rng.uniform(0, 16, (n, 64)), codes,
        rng.uniform(0, 16, (n_query, 64)), rng.integers(n_way, size=n_query),
    )  # fmt: skip


def parts(learner, outputs):
    """Log-probabilities; or means, and variances where there are any: as a tuple."""
    if learner.n_outputs is None:
        return (outputs.log_softmax(-1),)
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


def assert_same(learner, one, other):
    for a, b in zip(parts(learner, one), parts(learner, other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


@pytest.fixture(params=NAMES)
def case(request, trained):
    """A meta-trained learner in double precision, and ragged tasks for it."""
    estimator = trained[request.param].set_params(dtype="float64", device="cpu")
    rng = np.random.default_rng(0)
    tasks = [make_task(request.param, size, rng) for size in SIZES]
    return estimator._rebuild(estimator.meta_init), tasks


def test_each_task_of_a_ragged_batch_gets_what_it_gets_alone(case):
    learner, tasks = case
    batch, _ = pad_tasks(tasks, torch.float64, tell_queries=learner.transductive)
    together = parts(learner, learner(**batch))
    for i, task in enumerate(tasks):
        alone = learner(**pad_tasks([task], torch.float64)[0])
        for got, expected in zip(together, parts(learner, alone), strict=True):
            n_query, width = expected.shape[1:]
            real = got[i, :n_query, :width]
            assert torch.isfinite(real).all()
            torch.testing.assert_close(real, expected[0], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_class_without_support_is_impossible(trained, name):
    estimator = trained[name].set_params(dtype="float64", device="cpu")
    learner = estimator._rebuild(estimator.meta_init)
    rng = np.random.default_rng(0)
    batch, _ = pad_tasks([make_task(name, size, rng) for size in SIZES], torch.float64)
    logits = learner(**batch)
    for i, (n_way, _, _) in enumerate(SIZES):
        assert torch.isneginf(logits[i, :, n_way:]).all()
    assert torch.allclose(logits.softmax(-1).sum(-1), torch.tensor(1.0, dtype=torch.float64))


def test_rows_of_weight_zero_change_nothing_whatever_they_hold(case):
    learner, tasks = case
    batch, _ = pad_tasks(tasks[2:3], torch.float64)
    X, y, w, X_query = (batch[k][0] for k in ("X", "y", "w", "X_query"))
    junk = Support(
        torch.cat([X, X.flip(0) * 3 + 1]), torch.cat([y, y.roll(1, 0)]), torch.cat([w, 0 * w])
    )
    one = learner.predict(learner.adapt(Support(X, y, w)), X_query)
    assert_same(learner, learner.predict(learner.adapt(junk), X_query), one)


def test_a_row_of_weight_two_is_that_row_twice(case):
    learner, tasks = case
    batch, _ = pad_tasks(tasks[2:3], torch.float64)
    X, y, w, X_query = (batch[k][0] for k in ("X", "y", "w", "X_query"))
    heavy = w.clone()
    heavy[0] = 2
    twice = Support(torch.cat([X, X[:1]]), torch.cat([y, y[:1]]), torch.cat([w, w[:1]]))
    one = learner.predict(learner.adapt(Support(X, y, heavy)), X_query)
    assert_same(learner, learner.predict(learner.adapt(twice), X_query), one)


def test_the_order_of_the_support_rows_does_not_matter(case):
    learner, tasks = case
    batch, _ = pad_tasks(tasks[2:3], torch.float64)
    X, y, w, X_query = (batch[k][0] for k in ("X", "y", "w", "X_query"))
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(0))
    one = learner.predict(learner.adapt(Support(X, y, w)), X_query)
    turned = Support(X[order], y[order], w[order])
    assert_same(learner, learner.predict(learner.adapt(turned), X_query), one)


def test_memberships_are_one_hot_and_a_padded_row_is_of_no_class():
    y = memberships(torch.tensor([[2, 0, IGNORED_CODE]]), 3, torch.float64)
    assert y.dtype == torch.float64
    assert y.tolist() == [[[0, 0, 1], [1, 0, 0], [0, 0, 0]]]


def test_padding_of_classification():
    one = Task(np.ones((1, 2)), np.array([0]), np.ones((3, 2)), np.array([0, 0, 1]))
    two = Task(np.ones((2, 2)), np.array([2, 0]), np.ones((1, 2)), np.array([2]))
    batch, y_query = pad_tasks([one, two])
    assert {name: tuple(t.shape) for name, t in batch.items()} == {
        "X": (2, 2, 2), "y": (2, 2, 3), "w": (2, 2), "X_query": (2, 3, 2)
    }  # fmt: skip
    assert {t.dtype for t in batch.values()} == {torch.float32}
    assert batch["w"].tolist() == [[1, 0], [1, 1]]
    assert batch["y"][0].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert y_query.tolist() == [[0, 0, 1], [2, IGNORED_CODE, IGNORED_CODE]]


def test_padding_of_regression():
    def task(n, n_query):
        return Task(np.ones((n, 1)), np.ones((n, 2)), np.ones((n_query, 1)), np.ones((n_query, 2)))

    batch, y_query = pad_tasks([task(1, 2), task(3, 1)], torch.float64)
    assert batch["y"].shape == (2, 3, 2)
    assert batch["w"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert y_query.isnan().tolist() == [[[False] * 2] * 2, [[False] * 2, [True] * 2]]
    assert {batch["X"].dtype, y_query.dtype} == {torch.float64}


def test_tasks_of_one_size_are_stacked_as_they_are():
    rng = np.random.default_rng(0)
    tasks = [make_task("ProtoNetClassifier", (3, 6, 4), rng) for _ in range(3)]
    batch, y_query = pad_tasks(tasks, torch.float64)
    assert np.array_equal(batch["X"].numpy(), np.stack([t.X for t in tasks]))
    assert np.array_equal(y_query.numpy(), np.stack([t.y_query for t in tasks]))
    assert bool((batch["w"] == 1).all())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_of_any_type_become_floating_point(dtype):
    X = np.arange(12).reshape(3, 2, 2).astype(dtype)
    batch, _ = pad_tasks([Task(X, np.arange(3), X, np.arange(3))])
    assert batch["X"].dtype == torch.float32
    assert np.array_equal(batch["X"][0].numpy(), X)
