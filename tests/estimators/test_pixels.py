"""Pixels of another range than those of meta-training are refused wherever rows come in."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import meta_train
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from fewshot_sklearn import (
    MetaEmbedding,
    MetaInit,
    ProtoNetClassifier,
    TaskwiseClassifier,
    few_shot_score,
    load_meta_init,
)
from fewshot_sklearn.datasets import load_omniglot

FEW = {"n_way": 2, "n_shot": 2, "n_query": 2, "n_episodes": 4, "max_epochs": 1}
RANGES = {"0 to 255": 255.0, "0 to 1": 1.0}


def digits(high):
    """Images of 8 x 8 with pixels from 0 to this; whole numbers from 2 on."""
    X, y = load_digits(return_X_y=True)
    X = X[:200].reshape(-1, 8, 8) / 16
    return (np.rint(X * high).astype(np.uint8) if high > 1 else X), y[:200]


@pytest.fixture(scope="module", params=RANGES)
def learned(request):
    X, y = digits(RANGES[request.param])
    made = ProtoNetClassifier(encoder="conv4", encoder__width=4)
    return request.param, meta_train(made, X, y, **FEW), X, y


def of_the_other_range(kind):
    return digits(1.0 if kind == "0 to 255" else 255.0)[0]


def test_a_meta_init_knows_its_pixels(learned):
    kind, clf, X, _ = learned
    seen = clf.meta_init.pixels
    assert seen.kind == kind and (seen.low, seen.high) == (X.min(), X.max())
    assert seen.steps == (kind == "0 to 255")
    assert f"{X.max():.4g}" in clf.meta_init.card()["rows were"]


def test_pixels_of_the_same_range_pass(learned):
    _, clf, X, y = learned
    for dtype in (X.dtype, np.float32, np.float64):
        rows = X.astype(dtype)
        made = clone(clf).fit(rows[:30], y[:30])
        made.predict(rows)
        made.embed(rows[:1] * 0)  # a black image is one
        made.partial_fit(rows[30:40], y[30:40])


ENTRANCES = {
    "fit": lambda clf, X, y, other: clf.fit(other[:30], y[:30]),
    "predict": lambda clf, X, y, other: clf.fit(X[:30], y[:30]).predict(other),
    "predict one": lambda clf, X, y, other: clf.fit(X[:30], y[:30]).predict_proba(other[:1]),
    "embed": lambda clf, X, y, other: clf.embed(other[:3]),
    "partial_fit": lambda clf, X, y, other: clf.fit(X[:30], y[:30]).partial_fit(other[:5], y[:5]),
    "explain": lambda clf, X, y, other: clf.fit(X[:30], y[:30]).explain(other[:1]),
    "episodes": lambda clf, X, y, other: few_shot_score(
        clf, other, y, n_way=2, n_shot=1, n_query=2, n_episodes=2
    ),
    "taskwise": lambda clf, X, y, other: TaskwiseClassifier(clf).fit(
        other, y, groups=np.arange(len(y)) // 50
    ),
    "MetaEmbedding": lambda clf, X, y, other: MetaEmbedding(clf.meta_init).fit(X).transform(other),
    "going on": lambda clf, X, y, other: meta_train(clf, other, y, **FEW),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_pixels_of_another_range_are_refused(learned, entrance):
    kind, clf, X, y = learned
    other = of_the_other_range(kind)
    with pytest.raises(ValueError, match=f"meta-trained on pixels from {kind}: bring X to that"):
        ENTRANCES[entrance](clone(clf), X, y, other)


def test_a_row_is_refused_whatever_comes_with_it(learned):
    kind, clf, X, y = learned
    made, other = clone(clf).fit(X[:30], y[:30]), of_the_other_range(kind)
    with pytest.raises(ValueError, match="bring X to that range"):
        made.predict(np.concatenate([X[:5], other[:1]]).astype(float))


def test_standardised_pixels_are_refused(learned):
    _, clf, X, y = learned
    with pytest.raises(ValueError, match="bring X to that range"):
        clone(clf).fit(X[:30], y[:30]).predict(((X - X.mean()) / (0.3 * X.std())).clip(-5, 5))


def test_pixels_of_no_grey_are_refused_where_they_are_all_there_is():
    X, y = digits(255.0)
    clf = meta_train(ProtoNetClassifier(encoder="conv4", encoder__width=4), X, y, **FEW)
    ink = (X > 100).astype(np.uint8)
    with pytest.raises(ValueError, match="bring X to that range"):
        clone(clf).fit(ink[:30], y[:30])
    with pytest.warns(UserWarning, match="If these are of another range"):
        clf.fit(X[:30], y[:30]).predict(ink)


def test_shipped_networks_of_images_know_theirs():
    letters, y = load_omniglot(return_X_y_groups=True)[:2]
    clf = ProtoNetClassifier(load_meta_init("omniglot-conv4"))
    assert clf.meta_init.pixels.kind == "0 to 255"
    clf.fit(letters[:40], y[:40]).predict(letters[40:60])
    with pytest.raises(ValueError, match="bring X to that range"):
        clf.fit(letters[:40] / 255, y[:40])


def test_rows_that_are_no_images_have_no_pixels():
    rng = np.random.default_rng(0)
    X, y = rng.random((60, 5)), np.repeat(np.arange(6), 10)
    clf = meta_train(ProtoNetClassifier(encoder="mlp"), X, y, **FEW)
    assert clf.meta_init.pixels is None and "inputs" not in clf.meta_init.spec
    clf.fit(100 * X, y).predict(X)


def test_pixels_before_a_network_of_the_users_own_count_too():
    X, y = digits(255.0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    clf = meta_train(ProtoNetClassifier(encoder=net, freeze_encoder=True), X, y, **FEW)
    with pytest.raises(ValueError, match="from 0 to 255: bring X"):
        clf.fit(X[:30] / 255, y[:30])


@pytest.mark.parametrize("inputs", [{"layout": "HWC"}, {"low": "0"}, {"other": 1}, [], {"high": 0}])
def test_what_is_said_of_rows_is_checked(inputs, learned):
    init = learned[1].meta_init
    spec = init.spec | {"inputs": inputs}
    if inputs == {"high": 0}:
        assert MetaInit.from_state(init.state_dict(), spec).inputs == inputs
        return
    with pytest.raises(ValueError, match=r"inputs=.*must be a dict of any of"):
        MetaInit.from_state(init.state_dict(), spec)
