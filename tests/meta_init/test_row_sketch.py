"""A sketch of the rows trained on finds them again, and counts them."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from conftest import meta_train
from sklearn.datasets import load_digits

from fewshot_sklearn import MetaInit, MetaTrainer, ProtoNetClassifier
from fewshot_sklearn.meta_init import RowSketch
from fewshot_sklearn.meta_init.row_sketch import KEPT, row_digests


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3))


def test_few_rows_are_counted_exactly():
    X = rows(1000)
    sketch = RowSketch.of(X)
    mixed = np.concatenate([X[:37], rows(100, 1), X[:1]])
    assert (sketch.n_distinct, sketch.seen(mixed), sketch.seen(rows(100, 2))) == (1000, 38, 0)


def test_rows_that_recur_by_nature_are_no_sign():
    X = np.random.default_rng(0).integers(0, 2, (500, 4))
    sketch = RowSketch.of(X)
    assert (sketch.n_rows, sketch.n_distinct, sketch.distinctive) == (500, 16, False)
    assert RowSketch.of(rows(500)).distinctive
    few = MetaInit.from_state({}, {}, {"rows": sketch.to_json()})
    many = MetaInit.from_state({}, {}, {"rows": RowSketch.of(rows(500)).to_json()})
    assert (few.cite_rows(X), many.cite_rows(rows(500)[:7])) == (0, 7)


def test_types_and_shapes_do_not_matter():
    X = np.random.default_rng(0).integers(0, 255, (50, 4, 4))
    expected = row_digests(X.astype(np.uint8))
    for same in (X.astype(float), X.reshape(50, 16).astype(np.float32), X[:, :, :, None]):
        np.testing.assert_array_equal(row_digests(same), expected)
    assert len(np.unique(expected)) == 50
    np.testing.assert_array_equal(row_digests(np.array([[-0.0]])), row_digests(np.array([[0.0]])))


def test_many_rows_are_counted_from_a_sample():
    X = rows(40_000)
    sketch = RowSketch.of(X)
    assert len(sketch.digests) == KEPT and sketch.n_distinct == 40_000
    assert sketch.seen(rows(5000, 1)) == 0
    mixed = np.concatenate([X[:5000], rows(5000, 1)])
    # 5,000 rows, each kept with probability 0.2: a standard deviation of 141
    assert abs(sketch.seen(mixed) - 5000) < 5 * 141


@pytest.mark.parametrize("sizes", [(500, 700), (30_000, 700), (30_000, 20_000)])
def test_the_union_is_the_sketch_of_both(sizes):
    one, other = rows(sizes[0], 1), rows(sizes[1], 2)
    other[:100] = one[:100]
    union, whole = RowSketch.of(one).union(RowSketch.of(other)), RowSketch.of([*one, *other])
    n = min(len(union.digests), len(whole.digests))
    np.testing.assert_array_equal(union.digests[:n], whole.digests[:n])
    assert union.n_distinct == pytest.approx(sum(sizes) - 100, rel=0.05)
    again = union.union(RowSketch.of(rows(10, 3)))
    assert again.n_distinct == pytest.approx(union.n_distinct + 10, rel=0.05)
    assert union.seen(one) == pytest.approx(sizes[0], rel=0.1)


def test_json_brings_it_back():
    sketch = RowSketch.of(rows(20))
    again = RowSketch.from_json(json.loads(json.dumps(sketch.to_json())))
    assert (again.n_rows, again.n_distinct) == (20, 20)
    np.testing.assert_array_equal(again.digests, sketch.digests)


@pytest.fixture(scope="module")
def past():
    X, y = load_digits(return_X_y=True)
    return X[y < 7], y[y < 7]


def test_a_meta_init_remembers_its_rows(past):
    X, y = past
    options = {"max_epochs": 1, "n_episodes": 16, "n_way": 2, "random_state": 0, "verbose": 0}
    trainer = MetaTrainer(ProtoNetClassifier(encoder="mlp"), validation_fraction=0.3, **options)
    init = trainer.fit(X, y).meta_init_
    trained_on = [c for c in range(7) if init.cite_tasks([c])]
    assert len(trained_on) == 5
    assert init.cite_rows(X) == np.isin(y, trained_on).sum()
    assert init.cite_rows(X + 0.5) == 0
    more = meta_train(trainer.estimator_, X + 0.5, y, n_way=2, max_epochs=1, n_episodes=16)
    assert more.meta_init.cite_rows(X + 0.5) == len(X)
    assert more.meta_init.cite_rows(X) == init.cite_rows(X)


def test_a_generator_leaves_no_rows_to_remember():
    def generator(rng):
        X = rng.normal(size=(4, 2))
        return X[:2], np.arange(2), X[2:], np.arange(2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained = meta_train(ProtoNetClassifier(encoder="mlp"), generator, None, max_epochs=1)
    assert trained.meta_init.cite_rows(np.ones((3, 2))) == 0
