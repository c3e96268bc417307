"""Which learning strategy a new task wants, learned from tasks that were solved before."""

from ._episodes import Failures
from .classifier import StrategyClassifier
from .experience import Experience
from .regressor import StrategyRegressor
from .selection import StrategySelector

__all__ = [
    "Experience",
    "Failures",
    "StrategyClassifier",
    "StrategyRegressor",
    "StrategySelector",
]
