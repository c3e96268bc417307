"""skrub makes numbers of strings, dates and gaps; a pipeline that begins with it learns whole."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from fewshot_sklearn import (
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskwiseRegressor,
    compare_few_shot,
    few_shot_score,
)
from fewshot_sklearn.estimators import final_step

skrub = pytest.importorskip("skrub")

FEW = {"n_shot": 3, "n_query": 5, "n_episodes": 6, "max_epochs": 2, "verbose": 0}
FEW |= {"device": "cpu", "random_state": 0}


def orders(n_tasks, seed):
    """Rows of customers: numbers, words, dates, and gaps in each; targets; whose they are."""
    rng = np.random.default_rng(seed)
    n = 20 * n_tasks
    what = rng.choice(["large", "small", "old"], n), rng.choice(["chair", "table", "lamp"], n)
    X = pd.DataFrame(
        {
            "price": rng.lognormal(3, 1, n),
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
            "colour": rng.choice(["red", "green", None], n),
            "article": [f"{a} {b}, number {i}" for i, (a, b) in enumerate(zip(*what, strict=True))],
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 500, n), "D"),
            "paid": rng.random(n) < 0.5,
        }
    )
    X.loc[rng.random(n) < 0.05, "day"] = pd.NaT
    groups = np.repeat([f"customer {seed}-{i}" for i in range(n_tasks)], 20)
    slopes = np.repeat(rng.normal(size=(n_tasks, 2)), 20, 0)
    y = slopes[:, 0] * np.log(X["price"]) + slopes[:, 1] * (X["colour"] == "red")
    return X, (y + 0.1 * rng.normal(size=n)).to_numpy(), groups


PAST, NEW = orders(20, 0), orders(8, 1)
ASKED = {"n_way": None, "n_query": 5, "n_episodes": 10, "random_state": 0}


def vectorizer():
    return skrub.TableVectorizer(high_cardinality=skrub.StringEncoder(5, random_state=0))


@pytest.fixture(scope="module")
def reg():
    X, y, groups = PAST
    made = make_pipeline(vectorizer(), RidgeHeadRegressor())
    return MetaTrainer(made, **FEW).fit(X, y, groups=groups).estimator_


def test_it_is_fitted_to_the_past_alone(reg):
    X, y, _ = NEW
    before = reg[0].transform(X)
    fitted = clone(reg).fit(X[:5], y[:5])
    pd.testing.assert_frame_equal(fitted[0].transform(X), before)
    table = final_step(reg).meta_init.table  # the gaps that it leaves are filled by the meta-init
    assert before.isna().any(axis=None) and table is not None
    assert np.isfinite(fitted.predict(X)).all()
    assert final_step(reg).meta_init.card()["rows come through"].startswith("TableVectorizer(")


def test_copies_and_a_grid_search(reg):
    X, y, _ = NEW
    told = reg.fit(X[:5], y[:5]).predict(X)
    for made in (clone(reg).fit(X[:5], y[:5]), pickle.loads(pickle.dumps(reg))):
        np.testing.assert_array_equal(made.predict(X), told)
    grid = {"ridgeheadregressor__dtype": ["float32", "float64"]}
    search = GridSearchCV(reg, grid, cv=3, error_score="raise").fit(X[:20], y[:20])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_scores_and_a_model_of_each_task(reg):
    X, y, groups = NEW
    scores = few_shot_score(reg, X, y, groups, n_shot=5, **ASKED).scores
    assert scores.shape == (10,) and np.isfinite(scores).all()
    one = groups == groups[0]
    every = TaskwiseRegressor(reg, task="who").fit(X.assign(who=groups), y)
    np.testing.assert_allclose(
        every.predict(X.assign(who=groups))[one],
        clone(reg).fit(X[one], y[one]).predict(X[one]),
        rtol=1e-4,
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rivals_get_what_the_last_step_is_given(reg):
    X, y, groups = NEW
    compared = compare_few_shot(reg, X, y, groups, n_shots=(2, 5), past=PAST, **ASKED)
    assert {"RidgeHeadRegressor", "ridge", "pooled boosting"} <= set(compared["estimator"])
    assert np.isfinite(compared["mean"]).all() and not compared["failures"].any()


def test_classes_and_skrubs_own_pipeline():
    X, y, groups = PAST
    medians = pd.Series(y).groupby(groups).transform("median")
    labels = np.where(y > medians, "high", "low")
    made = make_pipeline(vectorizer(), ProtoNetClassifier(encoder="mlp"))
    with warnings.catch_warnings():  # categories that a rare episode has not
        warnings.simplefilter("ignore")
        clf = MetaTrainer(made, n_way=2, **FEW).fit(X, labels, groups=groups).estimator_
        proba = clf.fit(X[:10], labels[:10]).predict_proba(NEW[0])
    assert proba.shape == (160, 2) and np.isfinite(proba).all()
    whole = skrub.tabular_pipeline(RidgeHeadRegressor())
    trained = MetaTrainer(whole, **FEW).fit(X, y, groups=groups).estimator_
    assert np.isfinite(trained.fit(X[:5], y[:5]).predict(NEW[0])).all()


def test_skops_saves_it(reg):
    skops = pytest.importorskip("skops.io")
    X, y, _ = NEW
    content = skops.dumps(reg.fit(X[:5], y[:5]))
    types = skops.get_untrusted_types(data=content)
    assert all(
        one.startswith(("fewshot_sklearn.", "skrub.", "sklearn.", "numpy.")) for one in types
    )
    np.testing.assert_array_equal(skops.loads(content, trusted=types).predict(X), reg.predict(X))
