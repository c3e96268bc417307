"""One adapted model for each of many tasks."""

from .classifier import TaskwiseClassifier
from .partitions import fit_partition
from .regressor import TaskwiseRegressor
from .store import TaskStore

__all__ = [
    "TaskStore",
    "TaskwiseClassifier",
    "TaskwiseRegressor",
    "fit_partition",
]
