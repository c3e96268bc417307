"""Learning from past tasks, with skorch's training loop."""

from .evolution import ESMetaTrainer
from .policies import Policy
from .policy_evolution import ESPolicyTrainer
from .policy_gradients import MAMLPolicyTrainer
from .trainer import MetaTrainer

__all__ = [
    "ESMetaTrainer",
    "ESPolicyTrainer",
    "MAMLPolicyTrainer",
    "MetaTrainer",
    "Policy",
]
