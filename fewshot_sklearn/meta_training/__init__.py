"""Learning from past tasks, with skorch's training loop."""

from .evolution import ESMetaTrainer
from .trainer import MetaTrainer

__all__ = [
    "ESMetaTrainer",
    "MetaTrainer",
]
