"""What the pages of the documentation show runs."""

from __future__ import annotations

import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT, meta_train
from sklearn.datasets import load_digits

from fewshot_sklearn import ProtoNetClassifier, RidgeHeadRegressor
from fewshot_sklearn.datasets import load_omniglot, make_sinusoid_tasks

PAGES = ROOT / "docs"
#: Pages whose code stands alone; that of the others continues what a reader has at hand.
WHOLE = [
    "does_it_help",
    "label_budget",
    "looking",
    "many_tasks",
    "molecules",
    "pretrained",
    "small_tables",
    "your_own_table",
]


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
    names: dict = {}
    for block in blocks_of(page):
        exec(block, names)


@pytest.fixture(scope="module")
def waves():
    past = make_sinusoid_tasks(60, n_shot=20, n_query=15, noise=0.3, random_state=0)
    reg = RidgeHeadRegressor(encoder="mlp", encoder__hidden=(16,))
    reg = meta_train(reg, past.data, past.target, past.groups, max_epochs=2)
    new = make_sinusoid_tasks(60, n_shot=20, n_query=15, noise=0.3, random_state=1)
    return reg, new


def test_from_no_label_to_many(at_hand, waves):
    reg, new = waves
    X, y = load_digits(return_X_y=True)
    names = {
        "reg": reg,
        "clf": meta_train(ProtoNetClassifier(encoder="mlp"), X, y, n_way=2, max_epochs=1),
        "X_support": new.data[:10],
        "y_support": new.target[:10],
        "X_new": new.data[10:20],
        "images": X[:5],
    }
    (block,) = blocks_of("zero_to_many")
    exec(block, names)
    assert names["clf"].classes_.tolist() == ["no", "yes"]


def test_how_sure(at_hand, waves):
    X, y, alphabets = load_omniglot(return_X_y_groups=True)
    old = np.isin(alphabets, ["Futurama", "Latin"])
    clf = meta_train(ProtoNetClassifier(encoder="mlp"), X[old], y[old], max_epochs=1)
    clf.meta_init.save("omniglot.safetensors")
    letters, tasks, mapie = blocks_of("trust")
    names: dict = {}
    exec(letters, names)
    assert names["trusted"].used_fallback_ in (True, False)
    reg, new = waves
    one = new.groups == new.groups[0]
    names = {"reg": reg, "X": new.data, "y": new.target, "groups": new.groups + 100}
    names |= {"X_new": new.data[one], "y_new": new.target[one]}
    exec(tasks, names)
    pytest.importorskip("mapie")
    exec(mapie, names)
    assert names["intervals"].shape[1:] == (2, 1)
