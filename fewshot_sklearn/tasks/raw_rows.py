"""Rows that are no numbers yet: sentences, and the one column of a table that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from .constraints import in_short
from .rows import column_labels


def one_column(owner: Any, X: Any, what: str, reset: bool) -> Any:
    """The one column of a data frame or of a (n, 1) array; whatever else, as it is.

    A frame's column must be called as it was at `fit`.

    Raises
    ------
    ValueError
        When there are several columns; in scikit-learn's words, when it is another.
    """
    labels = column_labels(X)
    if labels is None:
        if reset and hasattr(owner, "feature_names_in_"):
            del owner.feature_names_in_
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
            return X[:, 0]
        return X
    if len(labels) != 1:
        raise ValueError(
            f"X has {len(labels)} columns ({', '.join(map(repr, labels[:5]))}"
            f"{', ...' if len(labels) > 5 else ''}), but {type(owner).__name__} takes one column "
            f"of {what}: choose it, such as by X[{labels[0]!r}], or put a {type(owner).__name__} "
            "for each into a ColumnTransformer."
        )
    validate_data(owner, X, reset=reset, skip_check_array=True)
    if hasattr(X, "iloc"):
        return X.iloc[:, 0]
    column = X[labels[0]]
    return column.to_pylist() if hasattr(column, "to_pylist") else column  # of pyarrow


def as_sentences(X: Any, owner: Any) -> list[str]:
    """Sentences as a list of str; anything else is refused.

    Parameters
    ----------
    X : iterable of str
        Sentences.
    owner : estimator
        Whose they are, for errors.

    Returns
    -------
    list of str
        The sentences; empty ones stay.

    Raises
    ------
    ValueError
        Says which row is no sentence, and what to do.
    """
    name = type(owner).__name__
    if isinstance(X, str | bytes | Mapping) or not isinstance(X, Iterable):
        raise ValueError(
            f"{name} takes a list, an array or a Series of sentences, got {in_short(X)}. Put a "
            "single sentence in a list: [sentence]."
        )
    if getattr(X, "ndim", 1) != 1:
        raise ValueError(
            f"{name} takes one sentence a row, got X of shape {tuple(getattr(X, 'shape', ()))}: "
            "choose one column of text."
        )
    given = list(X)
    if not given:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required by {name}."
        )
    for i, sentence in enumerate(given):
        if not isinstance(sentence, str):
            raise ValueError(
                f"{name} takes sentences (str), got {in_short(sentence)} in row {i}."
                + _what_to_do(sentence)
            )
        if not _can_be_written(sentence):
            raise ValueError(
                f"{name}: the sentence in row {i} has half a character (a lone surrogate), as of "
                "text that was read in a wrong encoding."
            )
    return [str(sentence) for sentence in given]


def _what_to_do(stranger: Any) -> str:
    missing = stranger is None or type(stranger).__name__ in ("NAType", "NaTType")
    if missing or (isinstance(stranger, float) and stranger != stranger):
        return ' A missing sentence may be an empty one: X.fillna("").'
    if isinstance(stranger, bytes):
        return ' Decode it: sentence.decode("utf-8").'
    if isinstance(stranger, Iterable):
        return " X must have one dimension: one sentence a row."
    return " Numbers are no sentences; X.astype(str) would make them so."


def _can_be_written(sentence: str) -> bool:
    try:
        sentence.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
