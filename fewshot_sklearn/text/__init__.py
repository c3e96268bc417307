"""Sentences in, labels out: a sentence encoder that adapts to a few sentences."""

from .classifier import TextClassifier
from .tagger import TokenClassifier

__all__ = ["TextClassifier", "TokenClassifier"]
