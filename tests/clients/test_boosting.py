"""XGBoost and LightGBM as rivals of meta-learning, under labels of any kind."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fewshot_sklearn import (
    PooledClassifier,
    ProtoNetClassifier,
    StrategyClassifier,
    StrategySelector,
    TaskwiseClassifier,
    TaskwiseRegressor,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
)


@pytest.fixture(scope="module", params=["xgboost", "lightgbm"])
def boosted(request):
    """(classifier, regressor) of few small trees."""
    library = pytest.importorskip(request.param)
    few = {"n_estimators": 5, "n_jobs": 1}
    if request.param == "xgboost":
        return library.XGBClassifier(**few), library.XGBRegressor(**few)
    few |= {"min_child_samples": 1, "min_data_in_bin": 1, "verbose": -1}
    return library.LGBMClassifier(**few), library.LGBMRegressor(**few)


@pytest.fixture(scope="module")
def blobs():
    X, codes = make_blobs(300, centers=10, n_features=2, random_state=0)
    return X, np.array([f"class {i}" for i in range(10)])[codes], np.arange(300) % 5


@pytest.mark.parametrize("wrapped", [lambda e: e, lambda e: make_pipeline(StandardScaler(), e)])
def test_a_rival_in_a_comparison(boosted, blobs, wrapped):
    X, y, _ = blobs
    rival = wrapped(boosted[0])
    table = compare_few_shot(
        {"ours": ProtoNetClassifier()}, X, y, n_way=3, n_shots=(5,), n_query=5, n_episodes=20,
        baselines={"boosted": rival},
    ).set_index("estimator")  # fmt: skip
    assert table.loc["boosted", "failures"] == 0 and table.loc["boosted", "mean"] > 0.5
    score = few_shot_score(rival, X, y, n_way=3, n_shot=5, n_query=5, n_episodes=20)
    assert score.mean == pytest.approx(table.loc["boosted", "mean"])


@pytest.mark.filterwarnings("ignore:.*past task")
def test_wherever_a_classifier_goes(boosted, blobs):
    X, y, groups = blobs
    classifier = boosted[0]
    few = {"n_way": 3, "n_shots": (5,), "n_query": 5, "n_episodes": 5, "random_state": 0}
    selected = StrategySelector({"boosted": classifier}, **few).fit(X, y).estimator_
    trusted = TrustLearner(classifier, **few | {"n_episodes": 20}).fit(X, y).estimator_
    for fitted in (
        TaskwiseClassifier(classifier).fit(X, y),
        StrategyClassifier({"boosted": classifier}).fit(X, y),
        PooledClassifier(classifier).fit(X, y),
        selected.fit(X, y),
        trusted.fit(X, y),
    ):
        assert fitted.classes_.tolist() == np.unique(y).tolist()
        assert fitted.score(X, y) > 0.8
        assert fitted.predict_proba(X).shape == (len(X), 10)
    taskwise = TaskwiseClassifier(classifier).fit(X, y, groups)
    assert taskwise.score(X, y, groups) > 0.8


def test_a_regressor(boosted, blobs):
    X, _, groups = blobs
    target = X[:, 0] + groups
    assert TaskwiseRegressor(boosted[1]).fit(X, target, groups).score(X, target, groups) > 0.5
