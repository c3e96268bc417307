"""What to use at how many labels: constructed tables with known answers, and what is scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from fewshot_sklearn import Recommendation, compare_few_shot, recommendation


def table_of(*lines, shots=(1, 5, 20), **attrs):
    """(name, baseline, differences to the reference, p values, reference) an estimator; the
    interval of each difference is 0.04 to either side, that of a mean 0.05."""
    rows = []
    for name, baseline, differences, p, reference in lines:
        references = [reference] * len(shots) if isinstance(reference, str) else reference
        for k, d, p_one, against in zip(shots, differences, p, references, strict=True):
            itself = name == against
            rows.append(
                {
                    "estimator": name, "baseline": baseline, "n_shots": k, "mean": 0.5 + d,
                    "ci_low": 0.45 + d, "ci_high": 0.55 + d, "reference": against,
                    "difference": 0.0 if itself else d,
                    "difference_low": 0.0 if itself else d - 0.04,
                    "difference_high": 0.0 if itself else d + 0.04,
                    "p_holm": np.nan if itself else p_one,
                }
            )  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs = {"n_way": None} | attrs
    return table


SURE, NOT = 0.001, 0.8
RIDGE = ("ridge", True, (0, 0, 0), (1, 1, 1), "ridge")


def test_few_labels_sure_and_then_not():
    table = table_of(("ours", False, (0.12, 0.08, 0.01), (SURE, SURE, NOT), "ridge"), RIDGE)
    told = recommendation(table)
    assert [(c.use, c.sure, c.against) for c in told.choices] == [
        ("ours", True, "ridge"), ("ours", True, "ridge"), ("ridge", False, "ours")
    ]  # fmt: skip
    assert str(told) == (
        "Up to 5 labels: ours (better than the best baseline, ridge, by 0.12 [0.08, 0.16] at 1 and "
        "by 0.08 [0.04, 0.12] at 5); from 20 on no gain is sure: use ridge, the simplest on a "
        "par with the best (ours is 0.01 [-0.03, 0.05] above)."
    )


def test_nothing_is_gained():
    table = table_of(("ours", False, (-0.02, -0.01, 0), (NOT,) * 3, "ridge"), RIDGE)
    assert str(recommendation(table)) == (
        "From 1 to 20 labels: no gain is sure: use ridge, the best on average."
    )


def test_an_interval_above_zero_is_not_enough_after_holm():
    line = ("ours", False, (0.05,), (0.06,), "ridge")
    ridge = ("ridge", True, (0,), (1,), "ridge")
    told = recommendation(table_of(line, ridge, shots=(5,)))
    assert not told.choices[0].sure and told.choices[0].use == "ridge"
    assert str(told).startswith("At 5 labels: no gain is sure: use ridge")
    told = recommendation(table_of((*line[:3], (0.04,), "ridge"), ridge, shots=(5,)))
    assert told.choices[0].sure and str(told).startswith("At 5 labels: ours (better than")


def test_labels_of_classes_are_counted_a_class():
    lines = ("ours", False, (0.2,), (SURE,), "prior"), ("prior", True, (0,), (1,), "prior")
    assert str(recommendation(table_of(*lines, shots=(1,), n_way=5))) == (
        "At 1 label a class: ours (better than the best baseline, prior, by 0.2 [0.16, 0.24])."
    )


def test_of_what_is_not_worse_the_simplest_is_used():
    boosting = ("pooled boosting", True, (0, 0, 0), (1, 1, 1), "pooled boosting")
    table = table_of(
        ("ours", False, (0.01, 0.01, -0.1), (NOT, NOT, SURE), "pooled boosting"),
        boosting,
        # of no known name, so less simple than what has one
        ("odd", True, (-0.01,) * 3, (NOT,) * 3, "pooled boosting"),
        # worse by the interval, whatever Holm's correction leaves of it
        ("mixed model", True, (-0.02, -0.05, -0.02), (NOT,) * 3, "pooled boosting"),
        ("mean", True, (-0.3, -0.3, -0.01), (SURE, SURE, NOT), "pooled boosting"),
    )
    told = recommendation(table)
    assert [c.use for c in told.choices] == ["mixed model", "pooled boosting", "mean"]
    assert [c.against for c in told.choices] == ["pooled boosting", "ours", "pooled boosting"]
    np.testing.assert_allclose(
        [(c.difference, c.low, c.high) for c in told.choices],
        [(0.02, -0.02, 0.06), (0.01, -0.03, 0.05), (0.01, -0.03, 0.05)],
    )


def test_of_two_that_are_sure_the_better_is_used():
    table = table_of(
        ("one", False, (0.1, 0.2, 0.1), (SURE,) * 3, "ridge"),
        ("two", False, (0.2, 0.1, 0.3), (SURE, SURE, NOT), "ridge"),
        RIDGE,
    )
    assert [c.use for c in recommendation(table).choices] == ["two", "one", "one"]
    assert "; from 5 on use one (better than" in str(recommendation(table))


def test_a_poor_reference_flatters_nobody():
    """Ours is far above the mean, which is what the table is about, and below the ridge."""
    table = table_of(
        ("ours", False, (0.3,) * 3, (SURE,) * 3, "mean"),
        ("ridge", True, (0.32,) * 3, (SURE,) * 3, "mean"),
        ("mean", True, (0,) * 3, (1,) * 3, "mean"),
    )
    assert {(c.use, c.sure) for c in recommendation(table).choices} == {("ridge", False)}
    table.loc[table.estimator == "ours", ["mean", "ci_low", "ci_high"]] += 0.2
    assert {(c.use, c.sure) for c in recommendation(table).choices} == {("ours", True)}


def test_one_task_tells_nothing():
    table = table_of(("ours", False, (0.3,) * 3, (np.nan,) * 3, "ridge"), RIDGE)
    table[["difference_low", "difference_high", "ci_low", "ci_high"]] = np.nan
    assert {(c.use, c.sure) for c in recommendation(table).choices} == {("ridge", False)}


def test_without_baselines_the_reference_stands_for_them():
    table = table_of(
        ("ours", False, (0.3, 0.3, 0.01), (SURE, SURE, NOT), "other"),
        ("other", False, (0, 0, 0), (1, 1, 1), "other"),
    )
    told = recommendation(table)
    assert [c.use for c in told.choices] == ["ours", "ours", "ours"]
    assert [c.sure for c in told.choices] == [True, True, False]
    alone = recommendation(table_of(("ours", False, (0,) * 3, (1,) * 3, "ours")))
    assert {c.use for c in alone.choices} == {"ours"}


def test_what_is_no_comparison_is_said():
    with pytest.raises(ValueError, match="comparison must be"):
        recommendation([1, 2])
    with pytest.raises(ValueError, match="lacks the columns"):
        recommendation(table_of(RIDGE).drop(columns="p_holm"))
    assert str(Recommendation((), "")) == "Nothing was compared."


@pytest.fixture(scope="module")
def bent():
    rng = np.random.default_rng(0)
    X, groups = rng.uniform(-3, 3, (1200, 1)), np.repeat(np.arange(40), 30)
    return X, np.sin(2 * X[:, 0] + groups) + 0.1 * rng.normal(size=1200), groups


FEW = {"n_shots": (2, 20), "n_way": None, "n_query": 8, "n_episodes": 80}


def test_of_scores_it_says_what_is_so(bent):
    X, y, groups = bent
    rivals = {"ridge": Ridge(), "mean": DummyRegressor()}
    table = compare_few_shot(
        {"neighbours": KNeighborsRegressor(2)}, X, y, groups, baselines=rivals, **FEW
    )
    told = recommendation(table)
    assert table.attrs["recommendation"] == str(told)
    assert (told.choices[1].use, told.choices[1].sure) == ("neighbours", True)
    one = table[(table.estimator == "neighbours") & (table.n_shots == 20)].iloc[0]
    assert told.choices[1].low == one["difference_low"] > 0
    # the sentence is about the best baseline, even if the table is about another
    other = compare_few_shot(
        {"neighbours": KNeighborsRegressor(2)}, X, y, groups, baselines=rivals, reference="mean",
        **FEW,
    )  # fmt: skip
    assert other.attrs["recommendation"] == str(told)


def test_of_noise_it_says_that_nothing_is_gained():
    """Of 20 comparisons in which no estimator can be better, not two say that one is."""
    wrong = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, groups = rng.normal(size=(400, 2)), np.repeat(np.arange(20), 20)
        y = rng.normal(size=20)[groups] + rng.normal(size=400)
        table = compare_few_shot(
            {"a": DummyRegressor(strategy="mean"), "b": DummyRegressor(strategy="median")},
            X, y, groups, n_shots=(2, 5), n_way=None, n_query=5, n_episodes=40,
            baselines={"mean": DummyRegressor()}, random_state=seed,
        )  # fmt: skip
        wrong += any(choice.sure for choice in recommendation(table).choices)
    assert wrong <= 1


def test_intervals_take_episodes_of_one_task_as_one_cluster():
    """Many episodes of three tasks are three tasks: what differs by task is not sure."""
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(300, 1)), np.repeat(np.arange(3), 100)
    y = np.array([2.0, -0.3, 0.4])[groups] * X[:, 0] + 0.1 * rng.normal(size=300)
    table = compare_few_shot(
        Ridge(), X, y, groups, n_shots=(10,), n_way=None, n_episodes=200,
        baselines={"mean": DummyRegressor()},
    )  # fmt: skip
    one = table.iloc[0]
    assert one["difference"] > 0.5 and one["difference_low"] < 0 and one["n_tasks"] == 3
    assert "no gain is sure" in table.attrs["recommendation"]
