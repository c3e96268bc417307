"""Which learning strategy a new task wants, learned from tasks that were solved before."""

from .classifier import StrategyClassifier
from .experience import Experience
from .failures import Failures
from .regressor import StrategyRegressor
from .selection import StrategySelector

__all__ = [
    "Experience",
    "Failures",
    "StrategyClassifier",
    "StrategyRegressor",
    "StrategySelector",
]
