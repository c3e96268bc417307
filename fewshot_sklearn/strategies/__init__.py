"""Which learning strategy a new task wants, learned from tasks that were solved before."""

from .choice import StrategyClassifier, StrategyRegressor
from .experience import Experience
from .selection import StrategySelector

__all__ = [
    "Experience",
    "StrategyClassifier",
    "StrategyRegressor",
    "StrategySelector",
]
