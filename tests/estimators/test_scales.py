"""Large offsets and small units change nothing; values that are too large are refused."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import (
    CLASSIFIERS,
    every_classifier,
    every_estimator,
    every_regressor,
    meta_train,
    scores_of,
)
from sklearn.linear_model import Ridge

import fewshot_sklearn
from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor, few_shot_score

OFFSETS = [1e3, 1e6, -1e8, 1.7e9]
#: Those that compare directions: an angle is one at the origin, scikit-learn's cosines as well.
BY_ANGLE = {
    "BaselinePlusPlusClassifier", "DN4Classifier", "DeepEMDClassifier", "MatchingNetClassifier",
    "NearestClassMeanClassifier",
}  # fmt: skip
BY_ANGLE |= {f"Transductive{name}Classifier" for name in ("LaplacianShot", "PTMAP", "TIM")}


def rows(n=40, seed=0):
    """Rows, targets and labels that a linear function of the rows gives."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    y = X @ rng.normal(size=5) + 0.1 * rng.normal(size=n)
    return X, y, np.where(y > 0, "above", "below")


# ------------------------------------------------------------------ without a past
@every_classifier
@pytest.mark.parametrize("offset", OFFSETS)
def test_rows_far_from_zero_of_a_classifier(name, offset):
    X, _, y = rows()
    make = getattr(fewshot_sklearn, name)
    near = make(random_state=0).fit(X[:20], y[:20]).predict_proba(X[20:])
    far = make(random_state=0).fit(X[:20] + offset, y[:20]).predict_proba(X[20:] + offset)
    assert np.isfinite(far).all()
    if name not in BY_ANGLE:
        np.testing.assert_allclose(far, near, rtol=1e-3, atol=1e-5)


@every_regressor
@pytest.mark.parametrize("offset", OFFSETS)
def test_rows_and_targets_far_from_zero_of_a_regressor(name, offset):
    X, y, _ = rows()
    make = getattr(fewshot_sklearn, name)
    near = make(random_state=0).fit(X[:20], y[:20]).predict(X[20:])
    far = make(random_state=0).fit(X[:20] + offset, y[:20]).predict(X[20:] + offset)
    np.testing.assert_allclose(far, near, rtol=1e-3, atol=1e-4)
    far = make(random_state=0).fit(X[:20], y[:20] + offset).predict(X[20:])
    assert far.dtype == np.float64
    np.testing.assert_allclose(far - offset, near, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, *OFFSETS])
def test_without_a_past_the_ridge_head_is_ridge_regression(offset):
    X, y, _ = rows()
    ours, theirs = RidgeHeadRegressor(), Ridge()
    for model in (ours, theirs):
        model.fit(X[:20] + offset, y[:20])
    np.testing.assert_allclose(
        ours.predict(X[20:] + offset), theirs.predict(X[20:] + offset), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-4)


@every_regressor
@pytest.mark.parametrize("unit", [1e-6, 1e12])
def test_units_of_the_targets(name, unit):
    X, y, _ = rows()
    make = getattr(fewshot_sklearn, name)
    usual = make(random_state=0).fit(X[:20], y[:20]).predict(X[20:])
    other = make(random_state=0).fit(X[:20], y[:20] * unit).predict(X[20:])
    np.testing.assert_allclose(other / unit, usual, rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------ with a past
@pytest.fixture(scope="module")
def past():
    """Tasks of linear functions: rows, targets, tasks."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 20)
    X = rng.normal(size=(len(groups), 3))
    return X, (X * rng.normal(size=(40, 3))[groups]).sum(1), groups


@every_regressor
@pytest.mark.parametrize(
    ("x_offset", "y_offset", "unit"),
    [(1.7e9, 0.0, 1.0), (0.0, 1e9, 1.0), (0.0, 0.0, 1e-6), (0.0, 0.0, 1e12)],
    ids=["timestamps", "targets far from zero", "small units", "large units"],
)
def test_a_training_learns_the_same_wherever_its_data_lies(past, name, x_offset, y_offset, unit):
    X, y, groups = past
    estimator = getattr(fewshot_sklearn, name)(encoder="mlp", encoder__hidden=(16,))

    def after(X, y):
        reg = meta_train(estimator, X, y, groups, n_episodes=32, n_shot=8, max_epochs=2)
        predicted = reg.fit(X[:8], y[:8]).predict(X[8:20])
        few = {"n_way": None, "n_shot": 8, "n_episodes": 10, "scoring": "r2"}
        return predicted, few_shot_score(reg, X, y, groups + 100, **few).scores

    predicted, scores = after(X, y)
    moved, moved_scores = after(X + x_offset, y * unit + y_offset)
    moved = (moved - y_offset) / unit
    # timestamps are rounded to 2e-7 before they come, and trainings differ by that
    np.testing.assert_allclose(moved, predicted, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(moved_scores, scores, atol=0.05)


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "MAMLClassifier", "RidgeHeadClassifier"])
def test_a_training_on_timestamps_learns_to_classify(name):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(30), 20)
    X = rng.normal(size=(30, 3))[y] * 2 + rng.normal(size=(len(y), 3))
    estimator = getattr(fewshot_sklearn, name)(encoder="mlp", encoder__hidden=(16,))

    def after(X):
        clf = meta_train(estimator, X, y, n_way=3, n_episodes=32, max_epochs=2)
        return few_shot_score(clf, X, y + 100, n_way=3, n_shot=3, n_episodes=40).mean

    assert abs(after(X + 1.7e9) - after(X)) < 0.02


# ------------------------------------------------------------------ too large
@every_estimator
@pytest.mark.parametrize("value", [1e20, 1e30, 1e39, 1e300])
def test_rows_too_large_are_refused(trained, task, name, value):
    X, y, X_query, _ = task(name)
    estimator = trained[name].fit(X, y)
    wrong = X_query.copy()
    wrong[1, 0] = value
    with pytest.raises(ValueError, match=r"X contains .*too large for dtype\('float32'\)"):
        estimator.predict(wrong)
    with pytest.raises(ValueError, match=r"X contains .*too large for dtype\('float32'\)"):
        trained[name].fit(wrong, np.resize(y, len(wrong)))
    assert np.isfinite(scores_of(estimator, X_query)).all()


@every_estimator
@pytest.mark.parametrize("weight", [1e-50, 1e39, 1e300])
def test_weights_too_small_or_large_are_refused(trained, task, name, weight):
    X, y, _, _ = task(name)
    with pytest.raises(ValueError, match="sample_weight must be zero or between"):
        trained[name].fit(X, y, sample_weight=np.full(len(X), weight))


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "RidgeHeadRegressor"])
def test_a_training_is_not_begun_with_a_row_too_large(past, name):
    X, y, groups = past
    X = X.copy()
    X[100, 1] = 1e39
    few = {"n_episodes": 4, "max_epochs": 1, "verbose": 0, "device": "cpu"}
    trainer = MetaTrainer(getattr(fewshot_sklearn, name)(), **few)
    labels = groups if name in CLASSIFIERS else y
    with pytest.raises(ValueError, match=r"X contains .*too large"):
        trainer.fit(X, labels, None if name in CLASSIFIERS else groups)
