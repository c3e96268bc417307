"""The meta-learned encoder as a transformer, and the card that notebooks show."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from conftest import CLASSIFIERS, REGRESSORS, every_estimator
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fewshot_sklearn import MetaEmbedding, MetaInit, ProtoNetClassifier


@every_estimator
def test_it_embeds_as_the_estimator_of_any_algorithm_does(trained, digits_new, sinusoid_new, name):
    X = (digits_new if name in CLASSIFIERS else sinusoid_new)[0][:6]
    transformer = MetaEmbedding(trained[name].meta_init).fit(X)
    np.testing.assert_allclose(transformer.transform(X), trained[name].embed(X), rtol=1e-5)
    assert transformer.meta_init_ is trained[name].meta_init


def test_an_estimator_and_a_transformer_of_one_meta_init_do_not_mix(trained, digits_new):
    X, y = digits_new
    init = MetaInit(trained["ProtoNetClassifier"].meta_init._buffer)  # with nothing built from it
    features = MetaEmbedding(init).fit_transform(X)
    clf = ProtoNetClassifier(init).fit(X[:20], y[:20])
    np.testing.assert_allclose(clf.transform(X), features, rtol=1e-5, atol=1e-6)


def test_before_any_classifier(trained, digits_new, margin):
    X, y = digits_new
    embedding = MetaEmbedding(trained["ProtoNetClassifier"].meta_init)
    clf = make_pipeline(embedding, LogisticRegression()).fit(X[:30], y[:30])
    margin.above(clf.score(X[30:], y[30:]), 0.7)
    assert clf[0].meta_init is embedding.meta_init


def test_frames_in_and_out(trained, digits_new):
    import pandas as pd

    frame = pd.DataFrame(digits_new[0][:5]).add_prefix("pixel")
    embedding = MetaEmbedding(trained["ProtoNetClassifier"].meta_init)
    out = embedding.set_output(transform="pandas").fit_transform(frame)
    assert out.columns[0] == "metaembedding0" and out.shape == (5, 64)
    assert embedding.get_feature_names_out().tolist() == list(out.columns)
    with pytest.raises(ValueError, match="rows of shape"):
        clone(embedding).fit(frame.iloc[:, :4])


def test_without_a_past_it_is_the_encoder_as_it_is(digits_new):
    X = digits_new[0]
    np.testing.assert_allclose(MetaEmbedding().fit_transform(X), X)
    random = MetaEmbedding(encoder="mlp", random_state=0)
    assert random.fit_transform(X).shape == (len(X), 64)
    np.testing.assert_array_equal(random.fit_transform(X), clone(random).fit_transform(X))


def test_the_card_tells_what_is_known(trained):
    init = trained["RidgeHeadRegressor"].meta_init
    card = init.card()
    assert card["algorithm"] == "RidgeHeadRegression" and card["rows"] == "1 features"
    assert card["trained on"] == "200 groups" and card["rows seen"] == "5,000"
    assert "tanh" in card["encoder"] and card["seed"] and "torch=" in card["versions"]
    html = init._repr_html_()
    assert html.count("<tr>") == len(card) and "RidgeHeadRegression" in html
    bare = MetaInit.from_state({}, {"algorithm": "Example"})
    assert set(bare.card()) == {"algorithm", "size", "digest"}


def test_a_card_escapes_what_it_is_given():
    spec = {"algorithm": "<b>x</b>", "input_shape": [1], "feature_names": ["<script>"]}
    html = MetaInit.from_state({}, spec, {"card": {"licence": "a & b"}})._repr_html_()
    assert "<script>" not in html and "<b>" not in html and "a &amp; b" in html


@pytest.mark.parametrize("name", ["ProtoNetClassifier", "RidgeHeadRegressor"])
def test_notebooks_show_the_card_beneath_the_diagram(trained, tmp_path, name):
    estimator = trained[name]
    html = estimator._repr_html_()
    assert estimator.meta_init.digest[:16] in html and "sk-container" in html
    assert estimator._repr_mimebundle_()["text/html"].count(estimator.meta_init.digest[:16]) == 1
    assert "trained on" not in clone(estimator).set_params(meta_init=None)._repr_html_()
    lost = copy.copy(estimator).set_params(meta_init=tmp_path / "nowhere.safetensors")
    assert "sk-container" in lost._repr_html_()
    assert name in CLASSIFIERS + REGRESSORS
