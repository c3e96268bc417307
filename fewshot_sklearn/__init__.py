"""Few-shot learning for scikit-learn users: learn from past tasks, then fit on a few rows."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .algorithms.maml import MAMLClassifier, MAMLRegressor
from .algorithms.protonet import ProtoNetClassifier
from .algorithms.ridge import RidgeHeadClassifier, RidgeHeadRegressor
from .meta_init import MetaInit

__version__ = "0.1.0.dev0"

# loaded when first asked for: skorch alone takes as long to import as torch and scikit-learn
_LAZY = {
    "EpisodeSplit": "model_selection",
    "FewShotScore": "model_selection",
    "MetaTrainer": "meta_training",
    "few_shot_score": "model_selection",
}

__all__ = [
    "EpisodeSplit",
    "FewShotScore",
    "MAMLClassifier",
    "MAMLRegressor",
    "MetaInit",
    "MetaTrainer",
    "ProtoNetClassifier",
    "RidgeHeadClassifier",
    "RidgeHeadRegressor",
    "few_shot_score",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
