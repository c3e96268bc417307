"""One adapted model for each of many tasks."""

from .classifier import TaskwiseClassifier
from .regressor import TaskwiseRegressor

__all__ = [
    "TaskwiseClassifier",
    "TaskwiseRegressor",
]
