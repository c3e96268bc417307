"""Scorers get the same numbers from many episodes at once as from fits one by one."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from conftest import CLASSIFIERS, REGRESSORS, every_estimator, scores_of
from sklearn.base import clone, is_classifier
from sklearn.metrics import log_loss, make_scorer, r2_score
from sklearn.model_selection import cross_val_score
from sklearn.utils.validation import check_is_fitted

from fewshot_sklearn import EpisodeSplit, few_shot_score
from fewshot_sklearn.model_selection import EpisodeAnswers
from fewshot_sklearn.model_selection._stand_in import stand_ins


def own_score(estimator, X, y):
    return estimator.score(X, y)


def margin_of_decision(estimator, X, y):
    """Looks at X, at what the estimator learned, and at the decision function."""
    assert X.shape == (len(y), *X.shape[1:]) and set(y) <= set(estimator.classes_)
    return np.ptp(estimator.decision_function(X)) + X.mean()


def of_some_rows_alone(estimator, X, y):
    """Asks about other rows than the episode's queries."""
    return np.mean(estimator.predict_proba(X[3:7] * 0.5)[:, 0]) + estimator.n_features_in_


def of_embeddings_and_neighbours(estimator, X, y):
    told = estimator.explain(X[:2], n_neighbors=1)
    return estimator.embed(X).mean() + told["similarity"].mean()


def likelihood(estimator, X, y):
    mean, std = estimator.predict(X, return_std=True)
    return np.mean(-np.log(std) - (y - mean) ** 2 / std**2 / 2)


def r2_of_shifted_rows(estimator, X, y):
    return r2_score(y, estimator.predict(X + 0.1))


def r2_of_the_same_rows_copied(estimator, X, y):
    return r2_score(y, estimator.predict(np.array(X)))


def spread_of_a_clone(estimator, X, y):
    """A clone of what it is handed is an estimator that can be fitted anew."""
    return np.ptp(clone(estimator).fit(X, y).predict(X))


CLASSIFICATION = [
    None, "accuracy", "balanced_accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro",
    make_scorer(log_loss, response_method="predict_proba"), own_score, margin_of_decision,
    of_some_rows_alone,
]  # fmt: skip
REGRESSION = [
    None, "r2", "neg_mean_absolute_error", "neg_max_error", make_scorer(r2_score), own_score,
    r2_of_shifted_rows, r2_of_the_same_rows_copied, spread_of_a_clone,
]  # fmt: skip
COMBINATIONS = [
    *((name, scorer) for name in CLASSIFIERS for scorer in CLASSIFICATION),
    *((name, scorer) for name in REGRESSORS for scorer in REGRESSION),
]


@pytest.fixture
def episodes(digits_new, sinusoid_new):
    """Callable name -> (X, y, groups, what an episode is) for the estimator of that name."""

    def of(name):
        if name in CLASSIFIERS:
            X, y = digits_new
            return X[:90], y[:90], None, {"n_way": 3, "n_shot": 2, "n_query": 4, "n_episodes": 4}
        X, y, groups = sinusoid_new
        return X, y, groups + 1000, {"n_way": None, "n_shot": 5, "n_query": 8, "n_episodes": 4}

    return of


def both_ways(estimator, X, y, groups, episode, scoring):
    batched = few_shot_score(estimator, X, y, groups, scoring=scoring, random_state=0, **episode)
    cv = EpisodeSplit(random_state=0, **episode)
    looped = cross_val_score(
        estimator, X, y, groups=groups, cv=cv, scoring=scoring, error_score="raise"
    )
    return batched.scores, looped


def test_there_are_more_than_a_hundred_combinations():
    assert len(COMBINATIONS) > 100


@pytest.mark.parametrize(
    ("name", "scoring"), COMBINATIONS, ids=lambda v: getattr(v, "__name__", str(v)).split("(")[0]
)
def test_a_scorer_gives_what_it_gives_in_the_loop(trained, episodes, name, scoring):
    estimator = trained[name].set_params(dtype="float64")
    batched, looped = both_ways(estimator, *episodes(name), scoring)
    np.testing.assert_allclose(batched, looped, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "name", ["RidgeHeadRegressor", "DeepKernelRegressor", "NeuralProcessRegressor"]
)
def test_a_scorer_may_ask_for_deviations(trained, episodes, name):
    estimator = trained[name].set_params(dtype="float64")
    batched, looped = both_ways(estimator, *episodes(name), likelihood)
    np.testing.assert_allclose(batched, looped, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "MAMLClassifier"])
def test_a_scorer_may_ask_for_features_and_explanations(trained, episodes, name):
    estimator = trained[name].set_params(dtype="float64")
    batched, looped = both_ways(estimator, *episodes(name), of_embeddings_and_neighbours)
    np.testing.assert_allclose(batched, looped, rtol=1e-6, atol=1e-8)


def test_a_data_frame_reaches_the_scorer_as_one(trained, episodes):
    X, y, groups, episode = episodes("ProtoNetClassifier")
    frame = pd.DataFrame(X).add_prefix("pixel")
    seen = []

    def scorer(estimator, X, y):
        seen.append((list(X.columns), list(estimator.feature_names_in_), X.index.max()))
        return estimator.score(X, y) + X["pixel20"].mean()

    batched, looped = both_ways(trained["ProtoNetClassifier"], frame, y, groups, episode, scorer)
    np.testing.assert_allclose(batched, looped)
    assert all(columns == names == list(frame.columns) for columns, names, _ in seen)
    assert max(row for *_, row in seen) > 20  # the rows' own numbers


def test_copies_and_pickles_are_ordinary_fitted_estimators(trained, episodes):
    X, y, groups, episode = episodes("RidgeHeadRegressor")
    estimator = trained["RidgeHeadRegressor"]
    rows = EpisodeSplit(random_state=0, **episode).episodes(y, groups)
    _, _, made, asked = next(stand_ins(EpisodeAnswers(estimator, X, y), rows))
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(again) is type(estimator)
        np.testing.assert_allclose(again.predict(asked), made.predict(asked), rtol=1e-4)


@every_estimator
def test_it_is_what_a_fit_would_have_made(trained, episodes, name):
    X, y, groups, episode = episodes(name)
    estimator = trained[name].set_params(dtype="float64")
    rows = EpisodeSplit(random_state=0, **episode).episodes(y, groups)
    for _, one, made, asked in stand_ins(EpisodeAnswers(estimator, X, y), rows):
        fitted = clone(estimator).fit(X[one.support], y[one.support])
        check_is_fitted(made)
        assert isinstance(made, type(estimator)) and repr(made) == repr(fitted)
        np.testing.assert_array_equal(asked, X[one.query])
        known = scores_of(made, asked)
        assert "meta_init_" not in vars(made)  # nothing was fitted for that
        np.testing.assert_allclose(known, scores_of(fitted, asked), rtol=1e-6, atol=1e-9)
        assert known.dtype == scores_of(fitted, asked).dtype
        np.testing.assert_array_equal(scores_of(made, X[:5]), scores_of(fitted, X[:5]))
        assert made.state_.keys() == fitted.state_.keys()
        if is_classifier(made):
            np.testing.assert_array_equal(made.classes_, fitted.classes_)
        with pytest.raises(AttributeError, match="nonsense_"):
            _ = made.nonsense_
        np.testing.assert_array_equal(scores_of(made, asked), known)
