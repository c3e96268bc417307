"""Sentences in, labels out: a sentence encoder that adapts to a few sentences."""

from .classifier import TextClassifier

__all__ = ["TextClassifier"]
