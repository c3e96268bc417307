"""Tasks fitted by the workers of Spark, a part at a time, and merged into a store.

Wants Java: Spark runs in it.
"""

from __future__ import annotations

import os
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import meta_train

from fewshot_sklearn import RidgeHeadRegressor, TaskStore, TaskwiseRegressor, fit_partition

sql = pytest.importorskip("pyspark.sql")
if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
    pytest.skip("no Java here, in which Spark runs", allow_module_level=True)

COLUMNS = list("abc")


@pytest.fixture(scope="module")
def spark():
    """Two processes of this machine."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2"}
    made = sql.SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    yield made
    made.stop()


def test_parts_are_fitted_and_predicted_by_workers(spark, tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(300, 3)), columns=COLUMNS)
    table = table.assign(customer=[f"c{i}" for i in rng.integers(0, 30, 300)], y=table["a"])
    estimator = meta_train(
        RidgeHeadRegressor(), table[COLUMNS], table["y"], table["customer"],
        n_shot=3, n_query=2, n_episodes=8, max_epochs=1,
    )  # fmt: skip
    reg = TaskwiseRegressor(estimator, task="customer")
    shared, folder = spark.sparkContext.broadcast(reg), str(tmp_path / "parts")

    def fit_part(part):
        X = part.drop(columns=["y", "part"])
        return pd.DataFrame({"file": [fit_partition(shared.value, X, part["y"], folder=folder)]})

    numbered = sql.functions.expr("pmod(hash(customer), 4)")
    parts = spark.createDataFrame(table).withColumn("part", numbered)
    files = parts.groupBy("part").applyInPandas(fit_part, "file string").toPandas()["file"]
    assert 1 < len(files) <= 4
    store = TaskStore(tmp_path / "all.tasks", reg).merge(list(files))
    whole = reg.fit(table.drop(columns="y"), table["y"])
    assert store.tasks().tolist() == whole.tasks_.tolist()
    expected = whole.predict(table.drop(columns="y"))
    np.testing.assert_allclose(store.predict(table.drop(columns="y")), expected, rtol=1e-5)

    reader = spark.sparkContext.broadcast(store)

    def predict_parts(several):
        for part in several:
            yield part.assign(answer=reader.value.predict(part.drop(columns=["y", "part"])))

    told = parts.mapInPandas(predict_parts, "a double, b double, c double, customer string, "
                             "y double, part int, answer double").toPandas()  # fmt: skip
    found = told.sort_values(COLUMNS)["answer"]
    known = table.assign(answer=expected).sort_values(COLUMNS)["answer"]
    np.testing.assert_allclose(found, known, rtol=1e-5)
