"""What ships in the wheel: found by name, with a card whose figures hold."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from sklearn.base import clone
from sklearn.datasets import load_digits

import fewshot_sklearn
from fewshot_sklearn import (
    MAMLClassifier,
    MetaInit,
    MetaTrainer,
    ProtoNetClassifier,
    RidgeHeadRegressor,
    list_meta_inits,
    load_meta_init,
)
from fewshot_sklearn.datasets import load_omniglot

TRAINING = ROOT / "training"
WEIGHTS = Path(fewshot_sklearn.__file__).parent / "pretrained" / "weights"
NAMES = list_meta_inits()
every_one = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def accuracy():
    """The module that measures what ships."""
    sys.path.insert(0, str(TRAINING))
    yield import_module("accuracy")
    sys.path.remove(str(TRAINING))


def test_names_are_files_and_all_together_are_small():
    files = sorted(WEIGHTS.glob("*.safetensors"))
    assert sorted(file.stem for file in files) == list(NAMES)
    assert len(NAMES) >= 7
    assert sum(file.stat().st_size for file in files) <= 15e6


@every_one
def test_each_says_what_it_is(name):
    init = load_meta_init(name)
    card = init.card()
    headings = {"data", "licence", "training command", "training cost", "limits", "seed", "size"}
    assert headings <= set(card), headings - set(card)
    assert card["training command"].startswith("python training/")
    assert len(init.provenance["accuracy"]) >= 3
    for figure in init.provenance["accuracy"]:
        # draws of the support; each is judged by a test set of thousands of sentences
        assert figure["episodes"] >= (10 if name.startswith("intents") else 600)
        assert (
            f"{figure['mean']:g} ± {figure['ci95']:g}"
            in card[f"{figure['task']} ({figure['score']})"]
        )
    script = card["training command"].split()[1]
    assert (TRAINING.parent / script).exists()


#: Episodes of which the first do: MAML takes its steps anew in each of 600.
FEWER = {"omniglot-conv4-maml": 120}


@every_one
def test_the_first_figure_of_a_card_holds(name, accuracy, monkeypatch):
    if name.startswith("intents"):
        pytest.importorskip("sentence_transformers")
        if not import_module("intents").DATA.exists():
            pytest.skip("the sentences of CLINC150 and BANKING77 are not here")
    init = load_meta_init(name)
    told = init.provenance["accuracy"][0]
    if name in FEWER:
        measure = accuracy._glyphs(MAMLClassifier, n_episodes=FEWER[name])
        monkeypatch.setitem(accuracy.MEASURES, name, measure)
        told = {**told, "episodes": FEWER[name]}
    measured = next(iter(accuracy.MEASURES[name](init)))
    assert accuracy.confirmed(measured, told), (measured, told)


def test_a_figure_that_does_not_hold_is_noticed(accuracy, monkeypatch):
    told = load_meta_init(NAMES[0]).provenance["accuracy"]
    off = [{**figure, "mean": figure["mean"] + figure["ci95"]} for figure in told]
    assert all(accuracy.confirmed(figure, figure) for figure in told)
    assert not any(map(accuracy.confirmed, off, told))
    assert not accuracy.confirmed({**told[0], "episodes": 3}, told[0])
    monkeypatch.setitem(accuracy.MEASURES, NAMES[0], lambda init: [*told[:-1], off[-1]])
    assert accuracy.main([NAMES[0]]) == 1
    monkeypatch.setitem(accuracy.MEASURES, NAMES[0], lambda init: told)
    assert accuracy.main([NAMES[0]]) == 0


def test_what_cannot_be_measured_is_told(accuracy, monkeypatch, capsys):
    def absent(init):
        raise FileNotFoundError("no sentences here")

    monkeypatch.setitem(accuracy.MEASURES, NAMES[0], absent)
    assert accuracy.main([NAMES[0]]) == 0
    assert f"| {NAMES[0]} | not measured: no sentences here |" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("omniglot")])
def test_glyph_encoders_have_not_seen_the_letters_they_are_measured_on(name, accuracy):
    past, new = accuracy.past_and_new()
    init = load_meta_init(name)
    assert not init.cite_tasks(new.alphabet)
    assert init.cite_tasks(past.alphabet) == 24
    assert init.cite_rows(new.images) < 0.01 * len(new.images)
    assert init.cite_rows(past.images) > 0.9 * len(past.images)
    assert set(load_omniglot().alphabet) == {*past.alphabet, *new.alphabet}


# ---------------------------------------------------------------- by name
def test_a_name_is_as_good_as_the_meta_init():
    omniglot = load_omniglot()
    rows = np.flatnonzero(omniglot.drawer < 2)[:40]
    X, y = omniglot.images[rows], omniglot.target[rows]
    init = load_meta_init("omniglot-conv4")
    named, given = (ProtoNetClassifier(meta_init=how).fit(X, y) for how in ("omniglot-conv4", init))
    np.testing.assert_array_equal(named.predict_proba(X), given.predict_proba(X))
    assert named.meta_init_ is init
    assert load_meta_init("omniglot-conv4") is init
    assert clone(named).get_params()["meta_init"] == "omniglot-conv4"
    assert named.score(X, y) > 0.95


def test_half_precision_computes_in_single_or_as_asked():
    init = load_meta_init("omniglot-conv4")
    assert {t.dtype for t in init.tensors.values()} == {np.dtype(np.float16)}
    X, y = load_omniglot(return_X_y_groups=True)[:2]
    single, double = (
        ProtoNetClassifier(init, dtype=dtype).fit(X[:60], y[:60]) for dtype in (None, "float64")
    )
    assert single.prototypes_.dtype == np.float32
    assert double.prototypes_.dtype == np.float64
    np.testing.assert_allclose(single.prototypes_, double.prototypes_, rtol=1e-3, atol=1e-3)


def test_training_can_go_on_from_a_name(margin):
    X, y = load_digits(return_X_y=True)
    X = np.pad(X.reshape(-1, 8, 8).repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2))) * 16
    settings = {
        "n_way": 3, "n_shot": 1, "n_query": 2, "n_episodes": 4, "max_epochs": 1, "random_state": 0,
        "validation_fraction": 0, "verbose": 0, "device": "cpu",
    }  # fmt: skip
    init = load_meta_init("omniglot-conv4")
    same = ProtoNetClassifier("omniglot-conv4")
    trained = MetaTrainer(same, **settings).fit(X[:200], y[:200]).meta_init_
    assert trained.cite_rows(load_omniglot().images) > 10_000
    assert {t.dtype for t in trained.tensors.values()} == {np.dtype(np.float32)}
    moved = max(np.abs(trained.tensors[key] - value).max() for key, value in init.tensors.items())
    margin.below(moved, 0.05)


def test_files_and_names_do_not_get_in_each_others_way(tmp_path, monkeypatch):
    load_meta_init("sinusoid-ridge").save(tmp_path / "omniglot-conv4")
    monkeypatch.chdir(tmp_path)
    assert ProtoNetClassifier("omniglot-conv4")._resolve_meta_init().spec["algorithm"] == "ProtoNet"
    there = RidgeHeadRegressor(tmp_path / "omniglot-conv4")._resolve_meta_init()
    assert there == load_meta_init("sinusoid-ridge")


@pytest.mark.parametrize("wrong", ["omniglot-conv5", "", "no/such/file.safetensors"])
def test_an_unknown_name_is_an_error_that_tells_the_names(wrong):
    with pytest.raises(ValueError, match="omniglot-conv4"):
        load_meta_init(wrong)
    told = "neither a file nor one of those" if wrong else "meta_init must be"
    with pytest.raises((FileNotFoundError, ValueError), match=told):
        ProtoNetClassifier(wrong).fit([[0.0], [1.0]], [0, 1])


def test_another_methods_name_is_an_error():
    with pytest.raises(ValueError, match="meta-trained as ProtoNet"):
        RidgeHeadRegressor("omniglot-conv4").fit([[0.0], [1.0]], [0.0, 1.0])


def test_nothing_is_read_before_it_is_asked_for():
    code = (
        "import sys; from fewshot_sklearn.pretrained import shipped; shipped.list_meta_inits(); "
        "print(shipped._loaded.cache_info().currsize, 'skorch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["0", "False"]


def test_it_is_read_into_memory():
    init = load_meta_init("omniglot-conv4")
    assert isinstance(init, MetaInit)
    assert not isinstance(init._buffer, np.memmap)  # an upgrade may replace the file
