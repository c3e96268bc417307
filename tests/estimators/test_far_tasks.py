"""A task far from past ones is answered from its own labels, or refused by the column's name."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import CLASSIFIERS, every_estimator, every_regressor
from sklearn.linear_model import Ridge

from fewshot_sklearn import (
    MetaTrainer,
    PooledMixedRegressor,
    PooledRegressor,
    PooledStatisticsRegressor,
    RidgeHeadRegressor,
    TaskwiseRegressor,
    few_shot_score,
)
from fewshot_sklearn.tasks import target_move

FAR = [100.0, -1e4, 1e9]


def of_any_width(estimator):
    return bool(estimator.meta_init.spec.get("any_width"))


def one_task(sinusoid_new, n=25):
    X, y, groups = sinusoid_new
    return X[groups == groups[0]][:n], y[groups == groups[0]][:n]


# ------------------------------------------------------------------ targets
@every_regressor
@pytest.mark.parametrize("offset", FAR)
def test_targets_far_from_the_past_count_from_their_own_level(trained, sinusoid_new, name, offset):
    X, y = one_task(sinusoid_new)
    reg = trained[name]
    if of_any_width(reg):
        pytest.skip("it learns where targets lie from each task")
    with pytest.warns(UserWarning, match="targets of a task lie"):
        far = reg.fit(X[:10], y[:10] + offset).predict(X)
    level = reg.state_["target_level"].item()
    near = reg.fit(X[:10], y[:10] + offset - level).predict(X)
    np.testing.assert_allclose(far - level, near, atol=1e-3 + 1e-7 * abs(offset))
    assert abs(level - offset) < 5


@every_regressor
def test_targets_in_another_unit_are_answered_in_it(trained, sinusoid_new, name):
    X, y = one_task(sinusoid_new)
    reg = trained[name]
    if of_any_width(reg):
        pytest.skip("it learns the unit of targets from each task")
    with pytest.warns(UserWarning, match="unit"):
        small, large = (reg.fit(X[:10], y[:10] * unit).predict(X) / unit for unit in (1e4, 1e7))
    np.testing.assert_allclose(small, large, rtol=1e-3, atol=1e-2)
    assert abs(large).max() < 50


def test_many_tasks_at_once_are_answered_as_one_by_one(trained, sinusoid_new):
    X, y, groups = sinusoid_new
    far = y + np.where(groups == groups[0], 1e6, 0.0)
    reg = trained["RidgeHeadRegressor"]
    with pytest.warns(UserWarning, match="targets of a task lie"):
        together = TaskwiseRegressor(reg).fit(X, far, groups=groups)
    answers = together.predict(X, groups=groups)
    for task in np.unique(groups)[:3]:
        own = groups == task
        with np.testing.suppress_warnings() as quiet:
            quiet.filter(UserWarning)
            alone = reg.fit(X[own], far[own]).predict(X[own])
        np.testing.assert_allclose(answers[own], alone, atol=1e-4)
    one = together.task_estimator(groups[0])
    np.testing.assert_allclose(one.predict(X[groups == groups[0]]), answers[groups == groups[0]])


def test_a_task_that_is_near_is_moved_by_no_other():
    near, far = np.array([[3.0], [4.0], [3.5]]), np.array([[300.0], [301.0], [300.5]])
    expected = np.full((2, 3, 1), -30.0)  # of rows far off, say, where the labels are as ever
    known = {"mean": np.zeros(1), "scale": np.ones(1), "w": np.ones((2, 3))}
    move = target_move(np.stack([near, far]), **known, expected=lambda: expected)
    assert move.level[0] == 0 and move.spread[0] == 1
    assert abs(move.level[1] - 330.5) < 1e-9
    assert target_move(np.stack([near, near]), **known, expected=lambda: expected) is None


def test_scores_are_those_of_tasks_near(trained, sinusoid_new):
    X, y, groups = sinusoid_new
    asked = {"n_way": None, "n_shot": 10, "n_episodes": 40, "random_state": 0, "groups": groups}
    near = few_shot_score(trained["RidgeHeadRegressor"], X, y, **asked)
    with pytest.warns(UserWarning, match="targets of a task lie"):
        far = few_shot_score(trained["RidgeHeadRegressor"], X, y + 1e5, **asked)
    assert abs(far.mean - near.mean) < 0.2


def test_spread_and_draws_are_in_the_unit_of_the_task(trained, sinusoid_new):
    X, y = one_task(sinusoid_new)
    reg = trained["RidgeHeadRegressor"]
    with pytest.warns(UserWarning, match="targets of a task lie"):
        reg.fit(X[:10], 1e4 + 1e3 * y[:10])
    mean, std = reg.predict(X, return_std=True)
    again, covariance = reg.predict(X, return_cov=True)
    np.testing.assert_allclose(again, mean)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), std, rtol=1e-6)
    drawn = reg.sample_y(X, 4000)
    np.testing.assert_allclose(drawn.mean(1), mean, atol=5 * std.max() / 4000**0.5)
    np.testing.assert_allclose(drawn.std(1), std, rtol=0.1)


@every_regressor
def test_further_rows_of_a_far_task_equal_a_refit(trained, sinusoid_new, name):
    X, y = one_task(sinusoid_new)
    reg = trained[name]
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        for first in (y[:3] + 50, y[:3]):
            later = y[3:8] + 50
            part = reg.fit(X[:3], first).partial_fit(X[3:8], later).predict(X)
            whole = reg.fit(X[:8], np.concatenate([first, later])).predict(X)
            np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ columns
@every_estimator
def test_a_column_far_from_the_past_is_told_or_refused(trained, digits_new, sinusoid_new, name):
    X, y = digits_new if name in CLASSIFIERS else one_task(sinusoid_new)
    X, column = X.astype(float), 20 if name in CLASSIFIERS else 0
    estimator = trained[name]
    if of_any_width(estimator):
        pytest.skip("it learns where columns lie from each task")
    told = X.copy()
    told[:, column] += 200
    with pytest.warns(UserWarning, match=f"Column {column} of X lies about"):
        estimator.fit(told[:20], y[:20])
    refused = X.copy()
    refused[:, column] += 1e9
    with pytest.raises(ValueError, match=f"Column {column} of X lies about"):
        estimator.fit(refused[:20], y[:20])
    with pytest.raises(ValueError, match=f"Column {column} of X lies about"):
        scored = (
            {"n_way": 3, "n_shot": 2}
            if name in CLASSIFIERS
            else {
                "n_way": None,
                "n_shot": 5,
                "groups": np.repeat([0, 1], [12, 13]),
            }
        )
        few_shot_score(estimator, refused, y, n_episodes=5, **scored)


def test_columns_are_called_by_their_names():
    import pandas as pd

    rng = np.random.default_rng(0)
    X = pd.DataFrame({"kind": rng.choice(["a", "b"], 300), "age": rng.normal(40, 9, 300)})
    y, groups = rng.normal(size=300), np.repeat(np.arange(30), 10)
    trainer = MetaTrainer(RidgeHeadRegressor(), max_epochs=1, random_state=0, verbose=0)
    reg = trainer.fit(X, y, groups=groups).estimator_
    with pytest.raises(ValueError, match=r"Column 'age' of X lies about 3\.902e"):
        reg.fit(X.assign(age=X.age * 1000)[:5], y[:5])


# ------------------------------------------------------------------ rivals
@pytest.mark.parametrize(
    "make",
    [
        lambda past: PooledRegressor(past=past),
        lambda past: PooledRegressor(past=past, with_task=True),
        lambda past: PooledRegressor(Ridge(), past=past),
        lambda past: PooledMixedRegressor(past=past),
        lambda past: PooledStatisticsRegressor(past=past, max_rows=500),
    ],
)
def test_rivals_that_know_the_past_answer_far_tasks_too(sinusoid_new, make):
    X, y, groups = sinusoid_new
    rival = make((X, y, groups))
    with pytest.warns(UserWarning, match="targets of a task lie"):
        far = rival.fit(X[:20], y[:20] + 1e9).predict(X[20:40]) - 1e9
    assert abs(far).max() < 50
    with pytest.raises(ValueError, match="Column 0 of X lies about"):
        rival.fit(X[:20] + 1e9, y[:20])
