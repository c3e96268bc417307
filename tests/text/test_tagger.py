"""Tags of words: decoding against all sequences, whole names, words that are cut in pieces."""

from __future__ import annotations

import pickle
from itertools import product

import numpy as np
import pytest
import tiny_text
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fewshot_sklearn import TokenClassifier
from fewshot_sklearn.text import _shared_model, tagger
from fewshot_sklearn.text.tagger import _allowed, _likeliest, names_of

WORDS = [
    ["where", "is", "my", "new", "card"],
    ["i", "want", "the", "euro", "exchange", "rate"],
    ["change", "my", "new", "pin"],
    ["what", "is", "the", "dollar", "exchange", "rate", "?"],
]
TAGS = [
    ["O", "O", "O", "B-thing", "I-thing"],
    ["O", "O", "O", "B-money", "I-money", "I-money"],
    ["O", "O", "B-thing", "I-thing"],
    ["O", "O", "O", "B-money", "I-money", "I-money", "O"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_text.write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def fitted(folder):
    return TokenClassifier(folder).fit(WORDS, TAGS)


def test_what_was_seen_is_known(fitted):
    assert fitted.predict(WORDS) == TAGS
    assert fitted.score(WORDS, TAGS) == 1
    assert list(fitted.classes_) == ["B-money", "B-thing", "I-money", "I-thing", "O"]
    proba = fitted.predict_proba(WORDS)
    assert [p.shape for p in proba] == [(len(words), 5) for words in WORDS]
    again = pickle.loads(pickle.dumps(fitted))
    assert again.predict(WORDS) == TAGS
    assert clone(fitted).fit(WORDS, TAGS).predict([WORDS[1]]) == [TAGS[1]]


def test_no_name_goes_on_that_did_not_begin(fitted):
    words = [["exchange", "rate", "new", "card", "pin", "euro"], ["pin"], ["rate", "rate"]]
    for tags in fitted.predict(words):
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_the_path_is_the_likeliest_of_all_that_are_allowed():
    tags = np.array(["B-a", "B-b", "I-a", "I-b", "O"])
    follow, begin = _allowed(tags)
    rng = np.random.default_rng(0)
    for _ in range(20):
        logp = np.log(rng.dirichlet(np.ones(5), size=4))

        def total(path, logp=logp):
            steps = sum(follow[a, b] for a, b in zip(path, path[1:], strict=False))
            return begin[path[0]] + steps + sum(logp[i, t] for i, t in enumerate(path))

        best = max(product(range(5), repeat=4), key=total)
        assert tuple(_likeliest(logp, follow, begin)) == best
        told = [tags[t] for t in best]
        assert not told[0].startswith("I-")


def test_a_kind_that_never_began_may_go_on():
    follow, begin = _allowed(np.array(["I-a", "O"]))
    assert not follow.any() and not begin.any()


def test_names():
    tags = ["B-a", "I-a", "B-a", "O", "I-b", "I-a"]
    assert names_of(tags) == [(0, 2, "a"), (2, 3, "a"), (4, 5, "b"), (5, 6, "a")]
    assert names_of(["O"]) == []


def test_score_is_f1_of_whole_names(fitted, monkeypatch):
    told = [["B-a", "I-a", "O", "B-b"]]
    monkeypatch.setattr(TokenClassifier, "predict", lambda self, X: told)
    assert fitted.score([["w"] * 4], [["B-a", "I-a", "O", "O"]]) == pytest.approx(2 / 3)
    assert fitted.score([["w"] * 4], [["B-a", "O", "O", "B-b"]]) == pytest.approx(1 / 2)


def test_words_are_means_of_their_pieces(folder):
    model = _shared_model.shared_model(folder)
    words = ["card", "rates", "zebra!", ""]
    told = tagger._words_embedded(model, [words], 4)[0]
    numbers = model.pieces.numbers("card rates zebra!")
    names = [tiny_text.VOCABULARY[i] for i in numbers]
    assert names == ["[CLS]", "card", "rate", "##s", "[UNK]", "!", "[SEP]"]
    numbers.insert(-1, model.pieces.number["[UNK]"])  # of the empty word
    tokens = model.bert.through(*model.bert.begin([numbers])).numpy()
    for row, place in zip(told, ([1], [2, 3], [4, 5], [6]), strict=True):
        mean = tokens[place].mean(0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_long_sentence_has_all_its_tags(fitted):
    long = ["my"] * 100 + ["new", "card"]
    assert len(fitted.predict([long])[0]) == 102
    assert fitted.predict([long, ["my"]])[0] == fitted.predict([long])[0]


@pytest.mark.parametrize(
    ("X", "y", "told"),
    [
        (["where is my card"], [["O"]], "Split a sentence"),
        ([["a"], []], [["O"], ["O"]], "one word or more"),
        ([], [], "0 sample"),
        ("a b", "O O", "list of sentences"),
        ([["a", "b"]], [["O"]], "as many tags as"),
        ([["a"]], [["X-city"]], "got 'X-city'"),
        ([["a", None]], [["O", "O"]], "row 0"),
    ],
)
def test_wrong_input_is_refused(folder, X, y, told):
    with pytest.raises(ValueError, match=told):
        TokenClassifier(folder).fit(X, y)


def test_a_layer_that_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match="layer must be at most 4"):
        TokenClassifier(folder, layer=5).fit(WORDS, TAGS)


def test_the_head_is_the_nearest_word():
    head = tagger.NearestWords().fit(np.eye(3), np.array(["a", "b", "a"]))
    told = np.log(head.predict_proba(np.array([[0.6, 0.8, 0.0]])))[0]
    assert told[1] - told[0] == pytest.approx((0.8 - 0.6) / tagger.TEMPERATURE)


def test_nothing_is_answered_before_fit(folder):
    with pytest.raises(NotFittedError):
        TokenClassifier(folder).predict(WORDS)
