"""Sentences as they come: lists, arrays, Series of str, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def as_sentences(X: Any, name: str = "X") -> list[str]:
    """Sentences as a list of str; anything else is refused.

    Parameters
    ----------
    X : iterable of str
        Sentences: a list, an array or a Series.
    name : str, default="X"
        What they are called in errors.

    Returns
    -------
    list of str
        At least one; empty sentences stay.

    Raises
    ------
    ValueError
        Says which row is no sentence.
    """
    if isinstance(X, str | bytes | Mapping) or not isinstance(X, Iterable):
        raise ValueError(
            f"{name} must be a list, an array or a Series of sentences, got {X!r:.60}. Put a "
            "single sentence in a list."
        )
    n_axes = getattr(X, "ndim", 1)
    if n_axes != 1:
        raise ValueError(
            f"{name} must have one axis, a sentence a row, got {n_axes}: choose one column of text."
        )
    given = list(X)
    if not given:
        raise ValueError(f"{name} holds 0 sample(s), while a minimum of 1 is required.")
    for i, sentence in enumerate(given):
        if not isinstance(sentence, str):
            raise ValueError(f"{name} must hold sentences (str), got {sentence!r:.60} in row {i}.")
    return [str(sentence) for sentence in given]
