"""Pictures of what few-shot estimators know, and a memory of past tasks to compare with."""

from ..model_selection import FewShotCurveDisplay
from ..trust import ReliabilityDisplay
from .adaptation import AdaptationDisplay
from .embedding import EmbeddingDisplay
from .prototypes import PrototypeDisplay
from .task_memory import TaskMemory
from .task_similarity import TaskSimilarityDisplay

__all__ = [
    "AdaptationDisplay",
    "EmbeddingDisplay",
    "FewShotCurveDisplay",
    "PrototypeDisplay",
    "ReliabilityDisplay",
    "TaskMemory",
    "TaskSimilarityDisplay",
]
