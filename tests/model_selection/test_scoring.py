"""An episode is a cross-validation split, and the batched score is the honest loop's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn
from conftest import CLASSIFIERS, REGRESSORS
from sklearn.datasets import load_digits
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fewshot_sklearn import (
    EpisodeSplit,
    FewShotScore,
    MAMLClassifier,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    few_shot_score,
)


def blobs(n_classes=6, n_rows=12, n_features=3):
    """Well separated classes with shuffled string labels."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([f"c{i}" for i in range(n_classes)], n_rows))
    centres = dict(zip(np.unique(y), rng.normal(0, 9, (n_classes, n_features)), strict=True))
    return np.stack([centres[label] for label in y]) + rng.normal(size=(len(y), n_features)), y


@pytest.fixture
def waves(sinusoid_new):
    """(X, y, groups), the groups under names that no meta-init was trained on."""
    X, y, groups = sinusoid_new
    return X, y, groups + 1000


# ---------------------------------------------------------------- EpisodeSplit
@pytest.mark.parametrize("clf", [KNeighborsClassifier(1), NearestCentroid(), ProtoNetClassifier()])
def test_any_classifier_can_be_cross_validated_over_episodes(clf):
    X, y = blobs()
    cv = EpisodeSplit(n_way=4, n_shot=2, n_query=5, n_episodes=20, random_state=0)
    scores = cross_validate(clf, X, y, cv=cv)["test_score"]
    assert scores.shape == (20,)
    assert scores.mean() > 0.95


def test_a_split_is_an_episode():
    X, y = blobs()
    cv = EpisodeSplit(n_way=3, n_shot=2, n_query=4, n_episodes=30, random_state=0)
    splits = list(cv.split(X, y))
    assert len(splits) == cv.get_n_splits(X, y) == cv.get_n_splits() == 30
    for support, query in splits:
        assert not set(support) & set(query)
        labels, shots = np.unique(y[support], return_counts=True)
        asked, queries = np.unique(y[query], return_counts=True)
        assert labels.tolist() == asked.tolist()
        assert (shots.tolist(), queries.tolist()) == ([2] * 3, [4] * 3)
    assert len({tuple(support) for support, _ in splits}) == 30


def test_an_int_gives_the_same_episodes_at_every_call():
    X, y = blobs()

    def episodes(cv, n=5):
        return [
            np.concatenate(split).tolist()
            for split, _ in zip(cv.split(X, y), range(n), strict=False)
        ]

    cv = EpisodeSplit(n_way=2, n_episodes=5, random_state=0)
    assert episodes(cv) == episodes(cv)
    assert episodes(cv) != episodes(EpisodeSplit(n_way=2, n_episodes=5, random_state=1))
    assert episodes(cv) == episodes(EpisodeSplit(n_way=2, n_episodes=9, random_state=0))
    state = np.random.RandomState(0)
    moving = EpisodeSplit(n_way=2, n_episodes=5, random_state=state)
    assert episodes(moving) != episodes(moving)


def test_groups_keep_an_episode_inside_one_group():
    X, y = blobs()
    groups = np.arange(len(y)) % 2
    cv = EpisodeSplit(n_way=3, n_shot=1, n_query=2, n_episodes=30, random_state=0)
    seen = [set(groups[np.concatenate(split)]) for split in cv.split(X, y, groups)]
    assert all(len(s) == 1 for s in seen)
    assert set.union(*seen) == {0, 1}


def test_groups_reach_the_split_in_both_ways(waves):
    X, y, groups = waves
    cv = EpisodeSplit(n_way=None, n_shot=10, n_query=15, n_episodes=10, random_state=0)
    plain = cross_validate(Ridge(), X, y, cv=cv, groups=groups)["test_score"]
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_validate(Ridge(), X, y, cv=cv, params={"groups": groups})["test_score"]
    assert np.array_equal(plain, routed)
    assert len(plain) == 10


def test_regression_episodes_are_of_one_group(waves):
    X, y, groups = waves
    cv = EpisodeSplit(n_way=None, n_shot=10, n_query=5, n_episodes=20, random_state=0)
    for support, query in cv.split(X, y, groups):
        assert (len(support), len(query)) == (10, 5)
        assert len(set(groups[support]) | set(groups[query])) == 1
        assert not set(support) & set(query)


def test_what_a_split_needs_is_said():
    X, y = blobs()
    with pytest.raises(ValueError, match="groups is needed"):
        next(EpisodeSplit(n_way=None).split(X, y))
    with pytest.raises(ValueError, match="y is needed"):
        next(EpisodeSplit().split(X))
    with pytest.raises(ValueError, match="n_shot"):
        next(EpisodeSplit(n_shot=0).split(X, y))


def test_grid_search_over_episodes():
    X, y = blobs()
    cv = EpisodeSplit(n_way=4, n_shot=2, n_query=5, n_episodes=10, random_state=0)
    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 8]}, cv=cv).fit(X, y)
    assert search.best_params_ == {"n_neighbors": 1}
    assert search.n_splits_ == 10


def test_repr_shows_the_parameters():
    assert "n_way=3" in repr(EpisodeSplit(n_way=3))


# ---------------------------------------------------------------- batched == loop
def honest(estimator, X, y, groups=None, scoring=None, **options):
    """The same episodes one by one, as scikit-learn scores them."""
    cv = EpisodeSplit(**options).split(X, y, groups)
    return cross_val_score(estimator, X, y, cv=list(cv), scoring=scoring, error_score="raise")


@pytest.mark.parametrize("scoring", [None, "accuracy", "neg_log_loss", "roc_auc_ovr"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_get_what_the_loop_gives(trained, digits_new, name, scoring):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 2, "n_query": 10, "n_episodes": 12, "random_state": 3}
    estimator = trained[name].set_params(dtype="float64")
    batched = few_shot_score(estimator, X, y, scoring=scoring, **options)
    looped = honest(estimator, X, y, scoring=scoring, **options)
    np.testing.assert_allclose(batched.scores, looped, rtol=1e-6, atol=1e-6)
    assert batched.scores.std() > 0


@pytest.mark.parametrize(
    "scoring", [None, "neg_mean_squared_error", "r2", "neg_mean_absolute_error"]
)
@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_get_what_the_loop_gives(trained, waves, name, scoring):
    X, y, groups = waves
    options = {"n_way": None, "n_shot": 10, "n_query": 8, "n_episodes": 12, "random_state": 3}
    estimator = trained[name].set_params(dtype="float64")
    batched = few_shot_score(estimator, X, y, groups, scoring=scoring, **options)
    looped = honest(estimator, X, y, groups, scoring=scoring, **options)
    np.testing.assert_allclose(batched.scores, looped, rtol=1e-6, atol=1e-6)
    assert batched.scores.std() > 0


@pytest.mark.parametrize("name", CLASSIFIERS + REGRESSORS)
def test_single_precision_is_as_good(trained, digits_new, waves, name):
    X, y, groups = (*digits_new, None) if name in CLASSIFIERS else waves
    n_way, scoring = (
        (3, "neg_log_loss") if name in CLASSIFIERS else (None, "neg_mean_squared_error")
    )
    options = {"n_way": n_way, "n_shot": 5, "n_query": 8, "n_episodes": 12, "random_state": 3}
    batched = few_shot_score(trained[name], X, y, groups, scoring=scoring, **options)
    looped = honest(trained[name], X, y, groups, scoring=scoring, **options)
    np.testing.assert_allclose(batched.scores, looped, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_ragged_episodes_in_groups_get_what_the_loop_gives(trained, digits_new, name):
    X, y = digits_new
    groups = np.array(["one", "two"])[np.arange(len(y)) % 2]
    options = {
        "n_way": (2, 3), "n_shot": (1, 4), "n_query": (2, 9), "n_episodes": 12, "random_state": 1
    }  # fmt: skip
    estimator = trained[name].set_params(dtype="float64")
    for scoring in (None, "neg_log_loss"):
        batched = few_shot_score(estimator, X, y, groups, scoring=scoring, **options)
        looped = honest(estimator, X, y, groups, scoring=scoring, **options)
        np.testing.assert_allclose(batched.scores, looped, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", REGRESSORS)
def test_targets_that_are_whole_numbers_are_targets(trained, waves, name):
    X, y, groups = waves
    y = np.round(10 * y).astype(int)
    options = {"n_way": None, "n_shot": 10, "n_query": 8, "n_episodes": 6, "random_state": 3}
    estimator = trained[name].set_params(dtype="float64")
    batched = few_shot_score(estimator, X, y, groups, **options)
    looped = honest(estimator, X, y, groups, **options)
    np.testing.assert_allclose(batched.scores, looped, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_targets_may_be_a_column(trained, waves, shape):
    X, y, groups = waves
    options = {"n_way": None, "n_shot": 10, "n_query": 8, "n_episodes": 6, "random_state": 3}
    estimator = trained["RidgeHeadRegressor"]
    flat = few_shot_score(estimator, X, y, groups, **options)
    shaped = few_shot_score(estimator, X, y.reshape(shape), groups, **options)
    np.testing.assert_allclose(shaped.scores, flat.scores)


@pytest.mark.parametrize("labels", [np.array(["z", "a", "m"]), np.array([30, -1, 7])])
@pytest.mark.parametrize("scoring", [None, "accuracy", "neg_log_loss"])
def test_labels_may_be_anything_in_any_order(trained, digits_new, labels, scoring):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 5, "n_episodes": 5, "scoring": scoring}
    estimator = trained["ProtoNetClassifier"]
    one = few_shot_score(estimator, X, y, **options)
    other = few_shot_score(estimator, X, labels[y - 7], **options)
    assert one.scores.shape == other.scores.shape
    looped = honest(estimator, X, labels[y - 7], random_state=0, **options)
    np.testing.assert_allclose(other.scores, looped, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_way", [None, 3])
def test_a_classifier_may_take_whole_groups(trained, digits_new, n_way):
    X, y = digits_new
    groups = np.char.add("g", (np.arange(len(y)) % 5).astype(str))
    options = {"n_way": n_way, "n_shot": 12, "n_query": 15, "n_episodes": 8, "random_state": 0}
    estimator = trained["RidgeHeadClassifier"].set_params(dtype="float64")
    batched = few_shot_score(estimator, X, y, groups, **options)
    looped = honest(estimator, X, y, groups, **options)
    np.testing.assert_allclose(batched.scores, looped)


def test_the_number_of_episodes_a_batch_changes_nothing(trained, digits_new, monkeypatch):
    X, y = digits_new
    options = {"n_way": 2, "n_episodes": 10, "scoring": "neg_log_loss"}
    whole = few_shot_score(trained["MAMLClassifier"], X, y, **options)
    monkeypatch.setattr("fewshot_sklearn.estimators.many_tasks.NUMBERS_AT_ONCE", 3)
    parts = few_shot_score(trained["MAMLClassifier"], X, y, **options)
    np.testing.assert_allclose(parts.scores, whole.scores, rtol=1e-3)


@pytest.mark.parametrize(
    "scoring", [make_scorer(accuracy_score), lambda est, X, y: accuracy_score(y, est.predict(X))]
)
def test_a_callable_may_score(trained, digits_new, scoring):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 2, "n_episodes": 6}
    estimator = trained["ProtoNetClassifier"]
    given = few_shot_score(estimator, X, y, scoring=scoring, **options)
    np.testing.assert_array_equal(given.scores, few_shot_score(estimator, X, y, **options).scores)


def test_scoring_changes_neither_the_estimator_nor_the_global_random_state(trained, digits_new):
    X, y = digits_new
    estimator = trained["MAMLClassifier"]
    before = estimator.get_params()
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    few_shot_score(estimator, X, y, n_way=2, n_episodes=3)
    assert estimator.get_params() == before
    assert not hasattr(estimator, "classes_")
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


# ---------------------------------------------------------------- what goes through the loop
@pytest.mark.parametrize("n_jobs", [None, 1])
def test_pipelines_and_strangers_go_through_the_loop(trained, digits_new, n_jobs):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 2, "n_query": 5, "n_episodes": 6, "random_state": 3}
    clf = trained["ProtoNetClassifier"]
    same = make_pipeline(FunctionTransformer(), clf)
    piped = few_shot_score(same, X, y, n_jobs=n_jobs, **options)
    np.testing.assert_allclose(piped.scores, few_shot_score(clf, X, y, **options).scores, atol=1e-6)
    for stranger in (KNeighborsClassifier(1), make_pipeline(StandardScaler(), NearestCentroid())):
        scores = few_shot_score(stranger, X, y, n_jobs=n_jobs, **options).scores
        np.testing.assert_array_equal(scores, honest(stranger, X, y, **options))


@pytest.mark.parametrize("clf", [ProtoNetClassifier(), MAMLClassifier(n_steps=2)])
def test_without_a_meta_init_it_is_the_loop(digits_new, clf):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 2, "n_query": 5, "n_episodes": 6, "random_state": 3}
    scores = few_shot_score(clf, X, y, **options).scores
    np.testing.assert_array_equal(scores, honest(clf, X, y, **options))


def test_an_estimator_that_fails_is_not_passed_over():
    X, y = blobs()
    with pytest.raises(ValueError, match="constant"):
        few_shot_score(
            DummyClassifier(strategy="constant", constant="no"), X, y, n_query=5, n_episodes=2
        )


@pytest.mark.parametrize("routing", [True, False])
@pytest.mark.parametrize("scoring", [None, "accuracy", "neg_log_loss"])
def test_metadata_routing_changes_nothing(trained, digits_new, routing, scoring):
    X, y = digits_new
    options = {"n_way": 3, "n_shot": 2, "n_episodes": 4, "scoring": scoring}
    clf = trained["ProtoNetClassifier"]
    batched = few_shot_score(clf, X, y, **options)
    looped = few_shot_score(make_pipeline(FunctionTransformer(), clf), X, y, **options)
    with sklearn.config_context(enable_metadata_routing=routing):
        np.testing.assert_allclose(few_shot_score(clf, X, y, **options).scores, batched.scores)
        piped = few_shot_score(make_pipeline(FunctionTransformer(), clf), X, y, **options)
    np.testing.assert_allclose(piped.scores, looped.scores)


# ---------------------------------------------------------------- errors and warnings
@pytest.mark.parametrize("piped", [False, True])
def test_scoring_on_trained_classes_warns(piped):
    X, y = blobs()
    trainer = MetaTrainer(
        ProtoNetClassifier(), n_way=2, n_shot=2, n_query=2, n_episodes=4, max_epochs=1,
        validation_fraction=0, verbose=0, random_state=0,
    )  # fmt: skip
    old = np.isin(y, ["c0", "c1", "c2"])
    clf = trainer.fit(X[old], y[old]).estimator_
    if piped:
        clf = make_pipeline(FunctionTransformer(), clf)
    options = {"n_way": 2, "n_shot": 2, "n_query": 2, "n_episodes": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few_shot_score(clf, X[~old], y[~old], **options)
    X, y, seen = X[y != "c0"], y[y != "c0"], np.isin(y, ["c1", "c2"]).sum()
    told = "2 of these tasks .* meta-trained on"
    if not piped:  # what a pipeline is given need not be what was trained on
        told = f"meta-trained on {seen} of these {len(X)} rows, and on 2 of these tasks by name"
    with pytest.warns(UserWarning, match=told):
        few_shot_score(clf, X, y, **options)


def test_scoring_on_trained_rows_by_other_names_warns(trained):
    X, y = load_digits(return_X_y=True)
    names = np.array(list("abcdefghij"))[y]
    old, n = (y < 7).sum(), len(y)
    told = f"meta-trained on {old:,} of these {n:,} rows, and on 0 of these tasks by name"
    with pytest.warns(UserWarning, match=told):
        few_shot_score(trained["ProtoNetClassifier"], X, names, n_way=2, n_episodes=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = y >= 7
        few_shot_score(trained["ProtoNetClassifier"], X[new], names[new], n_way=2, n_episodes=2)


def test_scoring_on_trained_groups_warns(trained, waves):
    X, y, groups = waves
    options = {"n_way": None, "n_shot": 10, "n_episodes": 2}
    with pytest.warns(UserWarning, match="20 of these tasks"):  # tasks 0 to 199 were trained on
        few_shot_score(trained["MAMLRegressor"], X, y, groups - 1000, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few_shot_score(trained["MAMLRegressor"], X, y, groups, **options)


def test_what_does_not_fit_is_said(trained, digits_new, waves):
    X, y = digits_new
    with pytest.raises(ValueError, match="shape"):
        few_shot_score(trained["ProtoNetClassifier"], X[:, :9], y, n_way=2, n_episodes=2)
    X, y, groups = waves
    with pytest.raises(ValueError, match="groups is needed"):
        few_shot_score(trained["RidgeHeadRegressor"], X, y, n_way=None)
    with pytest.raises(ValueError, match="output"):
        few_shot_score(trained["RidgeHeadRegressor"], X, np.stack([y, y], 1), groups, n_way=None)


@pytest.mark.parametrize("estimator", [RidgeHeadRegressor(), "trained", Ridge()])
def test_regression_without_whole_groups_says_what_to_pass(trained, waves, estimator):
    X, y, groups = waves
    if estimator == "trained":
        estimator = trained["RidgeHeadRegressor"]
    with pytest.raises(ValueError, match="n_way=None"):
        few_shot_score(estimator, X, y, groups)


@pytest.mark.parametrize("which", ["y", "groups"])
def test_columns_of_another_length_are_named(trained, waves, which):
    columns = dict(zip(("X", "y", "groups"), waves, strict=True))
    columns[which] = columns[which][:-1]
    with pytest.raises(ValueError, match=r"groups|inconsistent"):
        few_shot_score(trained["RidgeHeadRegressor"], n_way=None, n_episodes=2, **columns)


# ---------------------------------------------------------------- FewShotScore
def test_the_interval_is_the_fields_usual_one():
    scores = np.random.default_rng(0).uniform(size=600)
    score = FewShotScore(scores)
    assert score.mean == pytest.approx(scores.mean())
    half = 1.96 * np.sqrt(scores.var(ddof=1) / 600)
    assert score.ci95 == pytest.approx(half)
    assert str(score) == f"{scores.mean():.4f} ± {half:.4f} (600 episodes)"


def test_as_many_scores_as_episodes(trained, digits_new):
    X, y = digits_new
    score = few_shot_score(trained["ProtoNetClassifier"], X, y, n_way=2, n_episodes=7)
    assert score.scores.shape == (7,)
    assert isinstance(score.mean, float)
