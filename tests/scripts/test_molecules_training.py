"""What past assays add to ten active and ten inactive molecules of a new one."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

TRAINING = ROOT / "training"
DATA = Path(os.environ.get("FEWSHOT_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="module")
def molecules():
    """The module under test."""
    sys.path.insert(0, str(TRAINING))
    with pytest.MonkeyPatch.context() as patch:
        module = import_module("molecules")
        patch.setattr(module, "SETTINGS", (False, 3))  # fewer epochs
        yield module
    sys.path.remove(str(TRAINING))


@pytest.fixture(scope="module")
def made(molecules):
    """400 molecules and 12 assays that mostly measure one property; one label in ten is missing."""
    rng = np.random.default_rng(0)
    X = np.zeros((400, 2078), np.float32)  # no bit of the fingerprint is ever set
    X[:, 2048:] = rng.normal(size=(400, 30))
    common = X[:, 2048:2058].sum(1) / np.sqrt(10)
    scores = 2 * common[:, None] + rng.normal(size=(400, 12))
    labels = (scores > np.quantile(scores, 0.7, axis=0)).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    return molecules.Assays(tuple("abcdefghijkl"), X, labels)


@pytest.fixture(scope="module")
def found(molecules, made):
    """Both situations, the last two assays new."""
    return molecules.situations(made, 2, n_trees=10)


def test_a_forest_never_uses_the_label_of_the_molecule_it_predicts(molecules, made):
    rows = np.arange(400) < 200
    molecule = int(np.flatnonzero(rows & (made.labels[:, 0] == 0))[0])
    flipped = made.labels.copy()
    flipped[molecule, 0] = 1
    one = made._replace(labels=made.labels[:, :1])
    before = molecules.predicted_activities(one, rows, n_trees=40)
    after = molecules.predicted_activities(one._replace(labels=flipped[:, :1]), rows, n_trees=40)
    assert before[molecule, 0] == after[molecule, 0]
    assert (before != after).any()  # but others are predicted with it


def test_a_forest_learns_from_the_rows_it_is_given_alone(molecules, made):
    rows = np.arange(400) < 200
    other = made.labels.copy()
    other[~rows] = 1 - other[~rows]
    two = [
        molecules.predicted_activities(made._replace(labels=y[:, :2]), rows, n_trees=10)
        for y in (made.labels, other)
    ]
    np.testing.assert_array_equal(*two)
    assert (two[0] >= 0).all() and (two[0] <= 1).all()


@pytest.mark.parametrize("known", [True, False])
def test_past_activities_are_standardised(molecules, known):
    rng = np.random.default_rng(1)
    labels = (rng.random((500, 3)) < [0.1, 0.5, 0.8]).astype(float)
    predicted = rng.random((500, 3))
    rows = np.arange(500) < 300
    columns = molecules.activity_columns(labels, predicted, rows, known)
    np.testing.assert_allclose(columns[rows].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(columns[rows].std(0), 1)


def test_a_label_stands_where_there_is_one_and_a_prediction_where_not(molecules):
    labels = np.array([[1.0], [0.0], [0.0], [np.nan]])
    predicted = np.array([[0.1], [0.9], [0.9], [1 / 3]])
    columns = molecules.activity_columns(labels, predicted, np.ones(4, bool), known=True)[:, 0]
    np.testing.assert_allclose(columns, [2**0.5, -(0.5**0.5), -(0.5**0.5), 0], atol=1e-12)
    unknown = molecules.activity_columns(labels, predicted, np.ones(4, bool), known=False)[:, 0]
    assert unknown[1] == unknown[2] > unknown[3] > unknown[0]


def test_an_episode_does_not_tell_its_own_assay(molecules):
    rng = np.random.default_rng(2)
    labels = (rng.random((300, 4)) < 0.4).astype(float)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    columns = np.hstack([labels * 2 + 1, np.arange(1, 301)[:, None]])  # the last names the row
    rows = np.arange(300) < 250
    episodes = molecules.PastEpisodes(np.nan_to_num(columns, nan=7.0), labels, rows)
    seen = set()
    for seed in range(20):
        X, y, X_query, y_query = episodes(np.random.default_rng(seed))
        own = np.flatnonzero((X == 0).all(0))
        assert len(own) == 1 and (X_query[:, own] == 0).all()
        seen.add(int(own[0]))
        assert (y == 1).sum() == (y == -1).sum() == molecules.N_SHOT
        support, query = (part[:, -1].astype(int) - 1 for part in (X, X_query))
        assert not set(support) & set(query)
        assert rows[support].all() and rows[query].all()
        np.testing.assert_array_equal(labels[support, own[0]], y > 0)
        np.testing.assert_array_equal(labels[query, own[0]], y_query > 0)
    assert seen == {0, 1, 2, 3}


def test_an_assay_with_few_actives_still_makes_episodes(molecules):
    labels = np.zeros((60, 1))
    labels[:6] = 1
    episodes = molecules.PastEpisodes(np.ones((60, 2)), labels, np.ones(60, bool))
    _, y, _, y_query = episodes(np.random.default_rng(0))
    assert (y == 1).sum() == 3 and (y == -1).sum() == molecules.N_SHOT
    assert (y_query == 1).sum() == molecules.N_QUERY


def test_new_molecules_take_no_part_in_the_past(found):
    first, second = found[False].folds
    assert not (first[0] & first[1]).any()
    assert (first[0] | first[1]).all()
    np.testing.assert_array_equal(first[0], second[1])
    ((everyone, asked, *_),) = found[True].folds
    assert everyone.all() and asked.all()


@pytest.fixture(scope="module")
def figures(molecules, found):
    """By situation and method."""
    return {
        known: {
            line["task"].split(": ")[1]: line
            for line in molecules.measure("sider", found[known], known, 40, baselines=False)
        }
        for known in (True, False)
    }


@pytest.mark.parametrize("known", [True, False])
def test_a_learned_prior_helps_with_a_new_assay(figures, known):
    lines = figures[known]
    learned = lines["past activities, learned prior"]
    without = lines["past activities, ridge without past"]
    assert learned["mean"] > without["mean"] + learned["ci95"]
    assert learned["episodes"] == 40 and 0 < learned["ci95"] < 0.05
    # before any label
    assert lines["learned prior, no support"]["mean"] > (0.75 if known else 0.6)


def test_known_labels_say_more_than_predictions(figures):
    known, unknown = (figures[k]["past activities, learned prior"]["mean"] for k in (True, False))
    assert known > unknown + 0.02


def test_measuring_again_gives_the_same(molecules, found, figures):
    again = molecules.measure("sider", found[True], True, 40, baselines=False)
    assert again == list(line | {"task": line["task"]} for line in figures[True].values())


def test_settings_are_compared_without_the_new_assays(molecules, found):
    situation = found[True]
    situation = situation._replace(new=np.full_like(situation.new, np.nan))
    scores = molecules.choose(situation, epochs=(1, 2), n_folds=2, n_episodes=2)
    assert set(scores) == {(False, 1), (False, 2), (True, 1), (True, 2)}
    assert all(0.5 < score <= 1 for score in scores.values())


def test_the_interval_is_of_the_mean_over_assays(molecules):
    rng = np.random.default_rng(0)
    scores = [rng.normal(0.8, 0.1, 100), rng.normal(0.6, 0.2, 100)]
    line = molecules.figure("made", scores)
    assert line["mean"] == round(float(np.mean(scores)), 4)
    expected = 1.96 * np.sqrt(sum(s.var(ddof=1) / 100 for s in scores)) / 2
    assert line["ci95"] == pytest.approx(expected, abs=1e-4)


def test_tables_are_read_one_row_a_molecule(molecules, tmp_path):
    pytest.importorskip("rdkit")
    path = tmp_path / "assays.csv"
    path.write_text(
        "one,two,mol_id,smiles\n0,,A,CCO\n1,,B,OCC\n,0,C,c1ccccc1\n1,1,D,not a molecule\n"
    )
    assays = molecules.read_assays(path)
    assert assays.names == ("one", "two")
    ethanol, benzene = 0, 1
    np.testing.assert_array_equal(assays.labels[ethanol], [1, np.nan])
    np.testing.assert_array_equal(assays.labels[benzene], [np.nan, 0])
    assert assays.fingerprints.shape[0] == 2 and assays.fingerprints.dtype == np.float32
    assert assays.fingerprints[benzene, :2048].max() == pytest.approx(np.log(7))  # six equal atoms
    assert np.isfinite(assays.fingerprints).all()
    assert assays.small.shape[1] > 200


def test_side_effects_are_predicted_from_those_known(molecules):
    pytest.importorskip("rdkit")
    path = DATA / "molecules" / "sider.csv.gz"
    if not path.exists():
        pytest.skip("sider.csv.gz is not here")
    assays = molecules.read_assays(path)
    assert assays.labels.shape == (1427, 27)
    (lines) = molecules.measure(
        "sider", molecules.situations(assays, 6, n_trees=2)[True], True, 30, baselines=False
    )
    assert lines[0]["mean"] > 0.8
