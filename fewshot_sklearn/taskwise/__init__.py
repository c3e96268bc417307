"""One adapted model a task, behind one scikit-learn estimator.

Whoever has many tasks (customers, sites, instruments) wants a model of each: an
own `fit` for its few rows, kept, and looked up by the task of the row to predict.
"""

from .classifier import TaskwiseClassifier
from .regressor import TaskwiseRegressor

__all__ = ["TaskwiseClassifier", "TaskwiseRegressor"]
