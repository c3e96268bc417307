"""Learning from past tasks, with skorch's training loop."""

from .evolution import ESMetaTrainer
from .policies import ESPolicyTrainer, Policy
from .trainer import MetaTrainer

__all__ = [
    "ESMetaTrainer",
    "ESPolicyTrainer",
    "MetaTrainer",
    "Policy",
]
