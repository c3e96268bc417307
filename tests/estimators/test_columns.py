"""Columns in another order, or others, are refused wherever rows come in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIERS, every_estimator, meta_train, scores_of
from sklearn.base import clone

import fewshot_sklearn
from fewshot_sklearn import (
    EpisodeSplit,
    ESMetaTrainer,
    MetaEmbedding,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    TaskMemory,
    TaskwiseClassifier,
    TrustLearner,
    compare_few_shot,
    few_shot_score,
    select_queries,
    uncertainty,
)
from fewshot_sklearn.inspection import EmbeddingDisplay, PrototypeDisplay, ReliabilityDisplay

N_FEATURES = 5
NAMES = [f"column{i}" for i in range(N_FEATURES)]
FEW = {"n_episodes": 6, "max_epochs": 1, "validation_fraction": 0, "verbose": 0, "random_state": 0}


def table(n_classes=8, n_rows=12, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n_rows)
    X = rng.normal(size=(n_classes, N_FEATURES))[y] * 3 + rng.normal(size=(len(y), N_FEATURES))
    return pd.DataFrame(X, columns=NAMES), y


@pytest.fixture(scope="module")
def clf():
    """Meta-trained on a data frame."""
    X, y = table()
    estimator = ProtoNetClassifier(encoder="mlp", encoder__hidden=(8,))
    return meta_train(estimator, X, y, n_way=2, n_episodes=8, max_epochs=1)


@pytest.fixture(scope="module")
def reg():
    X, y = table()
    estimator = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(8,))
    return meta_train(estimator, X, X["column0"], y, n_shot=5, n_episodes=8, max_epochs=1)


def trainer(estimator, **options):
    return MetaTrainer(estimator, n_way=2, device="cpu", **FEW, **options)


WHERE = {
    "fit": lambda clf, X, y: clf.fit(X, y),
    "embed": lambda clf, X, y: clf.embed(X),
    "few_shot_score": lambda clf, X, y: few_shot_score(clf, X, y, n_way=2, n_episodes=4),
    "few_shot_score of a scorer": lambda clf, X, y: few_shot_score(
        clf, X, y, n_way=2, n_episodes=4, scoring="neg_log_loss"
    ),
    "compare_few_shot": lambda clf, X, y: compare_few_shot(
        clf, X, y, n_way=2, n_shots=(1,), n_episodes=4, baselines={}
    ),
    "MetaTrainer.fit": lambda clf, X, y: trainer(clf).fit(X, y),
    "ESMetaTrainer.fit": lambda clf, X, y: ESMetaTrainer(
        clf, n_way=2, n_perturbations=1, device="cpu", **FEW
    ).fit(X, y),
    "TaskMemory.from_data": lambda clf, X, y: TaskMemory.from_data(clf, X, y),
    "TrustLearner.fit": lambda clf, X, y: TrustLearner(
        clf, n_way=2, n_shots=(1,), n_episodes=4, random_state=0
    ).fit(X, y),
    "TaskwiseClassifier.fit": lambda clf, X, y: TaskwiseClassifier(clf).fit(X, y, y // 4),
    "MetaEmbedding.fit": lambda clf, X, y: MetaEmbedding(clf.meta_init).fit(X),
    "select_queries": lambda clf, X, y: select_queries(clf, X, n=2, strategy="coreset"),
    "EmbeddingDisplay": lambda clf, X, y: EmbeddingDisplay.from_estimator(clf, X[:9], y[:9]),
    "PrototypeDisplay": lambda clf, X, y: PrototypeDisplay.from_estimator(
        clf, X[:9], y[:9], image_shape=(1, 5)
    ),
    "ReliabilityDisplay": lambda clf, X, y: ReliabilityDisplay.from_episodes(
        clf, X, y, n_way=2, n_episodes=4
    ),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("call", WHERE.values(), ids=WHERE)
def test_the_columns_are_those_of_meta_training(clf, call):
    X, y = table(seed=1)
    with pytest.raises(ValueError, match="columns"):
        call(clone(clf), X[NAMES[::-1]], y)
    with pytest.raises(ValueError, match="columns"):
        call(clone(clf), X.rename(columns={"column0": "other"}), y)
    call(clone(clf), X, y)
    call(clone(clf), X.to_numpy(), y)


AFTER_FIT = {
    "predict": lambda est, X: est.predict(X),
    "embed": lambda est, X: est.embed(X),
    "explain": lambda est, X: est.explain(X),
    "uncertainty": lambda est, X: uncertainty(est, X, measure="entropy"),
}


@pytest.mark.parametrize("call", AFTER_FIT.values(), ids=AFTER_FIT)
@pytest.mark.parametrize("meta_trained", [True, False])
def test_the_columns_are_those_of_fit(clf, call, meta_trained):
    X, y = table(seed=1)
    clf = clone(clf) if meta_trained else ProtoNetClassifier()
    clf.fit(X[:24], y[:24])
    with pytest.raises(ValueError, match=r"columns|feature names"):
        call(clf, X[NAMES[::-1]])
    call(clf, X)


@every_estimator
def test_a_fit_that_fails_leaves_nothing_behind(trained, task, name):
    X, y, X_query, _ = task(name)
    estimator = trained[name].fit(X, y)
    before, answers = dict(vars(estimator)), scores_of(estimator, X_query)
    for bad in (X[:, :0], np.full_like(X, np.nan), np.hstack([X, X])):
        frame = pd.DataFrame(bad).add_prefix("c")
        with pytest.raises(ValueError):
            estimator.fit(frame, y)
    assert vars(estimator).keys() == before.keys()
    np.testing.assert_array_equal(scores_of(estimator, X_query), answers)
    fresh = getattr(fewshot_sklearn, name)(estimator.meta_init)
    with pytest.raises(ValueError):
        fresh.fit(pd.DataFrame(np.hstack([X, X])).add_prefix("c"), y)
    assert not hasattr(fresh, "feature_names_in_") and not hasattr(fresh, "n_features_in_")
    few = {"n_way": 2} if name in CLASSIFIERS else {"n_way": None}
    groups = None if name in CLASSIFIERS else np.arange(len(y)) // 5
    few_shot_score(fresh, X, y, groups, n_episodes=2, n_query=1, **few)


def test_training_goes_on_with_the_same_columns_only(clf):
    X, y = table(seed=2)
    learner = trainer(ProtoNetClassifier(encoder="mlp", encoder__hidden=(8,))).fit(X, y)
    for wrong in (X[NAMES[::-1]], X.iloc[:, :3]):
        with pytest.raises(ValueError, match=r"columns|shape"):
            learner.partial_fit(wrong, y)
    learner.partial_fit(X.to_numpy(), y)  # an array has the columns that were there before
    assert learner.meta_init_.spec["feature_names"] == NAMES
    assert learner.partial_fit(X, y).estimator_.meta_init.spec["feature_names"] == NAMES
    with pytest.raises(ValueError, match="columns"):
        learner.score(X[NAMES[::-1]], y)


def test_episodes_of_other_estimators_see_the_frame(clf):
    X, y = table(seed=2)
    assert EpisodeSplit(n_way=2, n_episodes=2).get_n_splits(X, y) == 2


def test_regressors_too(reg):
    X, y = table(seed=1)
    few = {"n_way": None, "n_shot": 5, "n_episodes": 4}
    with pytest.raises(ValueError, match="columns"):
        few_shot_score(reg, X[NAMES[::-1]], X["column0"], y, **few)
    few_shot_score(reg, X, X["column0"], y + 100, **few)
