"""Pictures of what few-shot estimators know, as scikit-learn displays; they need matplotlib."""

from ..learning_curves import FewShotCurveDisplay
from ..reliability import ReliabilityDisplay
from ._adaptation import AdaptationDisplay
from ._embedding import EmbeddingDisplay
from ._prototypes import PrototypeDisplay
from ._task_similarity import TaskSimilarityDisplay

__all__ = [
    "AdaptationDisplay",
    "EmbeddingDisplay",
    "FewShotCurveDisplay",
    "PrototypeDisplay",
    "ReliabilityDisplay",
    "TaskSimilarityDisplay",
]
