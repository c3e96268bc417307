"""Tasks fitted by the workers of a Dask cluster, a partition at a time, and merged into a store."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import meta_train

from fewshot_sklearn import (
    RidgeHeadRegressor,
    TaskStore,
    TaskwiseRegressor,
    few_shot_score,
    fit_partition,
)

distributed = pytest.importorskip("distributed")
frames = pytest.importorskip("dask.dataframe")

COLUMNS = list("abc")


@pytest.fixture(scope="module")
def client():
    """Two processes of this machine."""
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as made:
        yield made


@pytest.fixture(scope="module")
def table():
    """Rows of 40 customers, in random order, as pandas has them."""
    rng = np.random.default_rng(0)
    made = pd.DataFrame(rng.normal(size=(400, 3)), columns=COLUMNS)
    return made.assign(customer=rng.integers(0, 40, 400), y=made["a"] + rng.normal(size=400))


@pytest.fixture(scope="module")
def reg(table):
    past = {"n_shot": 3, "n_query": 2, "n_episodes": 8, "max_epochs": 1}
    rows = table["customer"] < 20
    estimator = meta_train(
        RidgeHeadRegressor(encoder="mlp"),
        table.loc[rows, COLUMNS], table.loc[rows, "y"], table.loc[rows, "customer"], **past,
    )  # fmt: skip
    return TaskwiseRegressor(estimator, task="customer")


def fit_part(part, reg, folder):
    """The recipe of the documentation: a pandas frame in, a pandas frame out."""
    file = fit_partition(reg, part.drop(columns="y"), part["y"], folder=folder)
    return pd.DataFrame({"file": [] if file is None else [file]}, dtype=str)


def predict_part(part, store):
    return part.assign(answer=store.predict(part.drop(columns="y")))


def test_partitions_are_fitted_by_workers_and_predicted_by_them(client, table, reg, tmp_path):
    shared = client.scatter(reg, broadcast=True)
    parts = frames.from_pandas(table, npartitions=5).shuffle(on="customer")
    files = parts.map_partitions(fit_part, shared, str(tmp_path), meta={"file": str})
    store = TaskStore(tmp_path / "all.tasks", reg).merge(list(files["file"].compute()))
    whole = reg.fit(table.drop(columns="y"), table["y"])
    assert store.tasks().tolist() == whole.tasks_.tolist()
    expected = whole.predict(table.drop(columns="y"))
    np.testing.assert_allclose(store.predict(table.drop(columns="y")), expected, rtol=1e-5)
    # a store goes to workers as its path and the estimator
    reader = client.scatter(store, broadcast=True)
    told = parts.map_partitions(
        predict_part, reader, meta=table.assign(answer=0.0).iloc[:0]
    ).compute()
    answers = told["answer"].reindex(table.index)
    np.testing.assert_allclose(answers, expected, rtol=1e-5)


def test_episodes_and_tasks_are_shared_out_to_workers(client, table, reg):
    groups = table["customer"].to_numpy() + 100
    X, y = table[COLUMNS], table["y"]
    options = {"n_way": None, "n_shot": 2, "n_query": 2, "n_episodes": 12}
    here = few_shot_score(reg.estimator, X, y, groups, **options).scores
    alone = TaskwiseRegressor(reg.estimator).fit(X, y, groups).predict(X, groups)
    with joblib.parallel_config(backend="dask"):
        there = few_shot_score(reg.estimator, X, y, groups, n_jobs=-1, **options).scores
        shared = TaskwiseRegressor(reg.estimator, n_jobs=-1).fit(X, y, groups)
    np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(shared.predict(X, groups), alone, rtol=1e-6, atol=1e-6)
