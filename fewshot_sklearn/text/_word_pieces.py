"""Sentences cut into the word pieces of BERT's vocabularies.

J. Devlin, M.-W. Chang, K. Lee and K. Toutanova. BERT: pre-training of deep bidirectional
transformers for language understanding. NAACL 2019.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence

#: A word of more characters is unknown as a whole.
LONGEST_WORD = 100
#: Blocks of Chinese characters, each of which is a word.
IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class WordPieces:
    """Lower case, no accents, words cut greedily into the longest pieces that are known.

    Parameters
    ----------
    vocabulary : sequence of str
        Pieces, in the order of their numbers; those that continue a word begin
        with ``##``. ``[CLS]``, ``[SEP]``, ``[PAD]`` and ``[UNK]`` are among them.
    max_length : int, default=256
        Pieces of a sentence, beginning and end included, beyond which it is
        cut off.

    Examples
    --------
    >>> from fewshot_sklearn.text._word_pieces import WordPieces
    >>> pieces = WordPieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "card", "##s", "!"])
    >>> pieces.numbers("Cards!")
    [2, 4, 5, 6, 3]
    """

    def __init__(self, vocabulary: Sequence[str], max_length: int = 256):
        self.number = {piece: i for i, piece in enumerate(vocabulary)}
        missing = [p for p in ("[CLS]", "[SEP]", "[PAD]", "[UNK]") if p not in self.number]
        if missing:
            raise ValueError(f"vocabulary must hold {missing}.")
        self.max_length = max_length
        self.longest = max(map(len, self.number))

    def numbers(self, sentence: str) -> list[int]:
        """Numbers of a sentence's pieces, between those of ``[CLS]`` and ``[SEP]``."""
        found = [i for word in words(sentence) for i in self.pieces(word)]
        inner = found[: self.max_length - 2]
        if len(inner) < len(found):
            warnings.warn(
                f"A sentence has {len(found)} pieces of words, of which the encoder reads the "
                f"first {len(inner)}. Cut long texts in parts.",
                UserWarning,
                stacklevel=2,
            )
        return [self.number["[CLS]"], *inner, self.number["[SEP]"]]

    def pieces(self, word: str) -> list[int]:
        """Numbers of the pieces of a single word."""
        found, begin = [], 0
        if len(word) > LONGEST_WORD:
            return [self.number["[UNK]"]]
        while begin < len(word):
            end = min(len(word), begin + self.longest)
            ahead = "##" if begin else ""
            while end > begin and ahead + word[begin:end] not in self.number:
                end -= 1
            if end == begin:
                return [self.number["[UNK]"]]
            found.append(self.number[ahead + word[begin:end]])
            begin = end
        return found


def words(sentence: str) -> list[str]:
    """Words of a sentence in lower case without accents; signs are words of their own."""
    spaced = "".join(_apart(c) for c in sentence if not _is_control(c))
    plain = unicodedata.normalize("NFD", spaced.lower())
    signs = "".join(
        f" {c} " if _is_sign(c) else c for c in plain if unicodedata.category(c) != "Mn"
    )
    return signs.split()


def _apart(char: str) -> str:
    code = ord(char)
    if any(first <= code <= last for first, last in IDEOGRAPHS):
        return f" {char} "
    return " " if char.isspace() or unicodedata.category(char) == "Zs" else char


def _is_control(char: str) -> bool:
    if char in "\t\n\r":
        return False
    return char in "\0\ufffd" or unicodedata.category(char).startswith("C")


def _is_sign(char: str) -> bool:
    code = ord(char)
    ascii_sign = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_sign or unicodedata.category(char).startswith("P")
