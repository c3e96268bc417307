"""Few-shot learning for scikit-learn users: learn from past tasks, then fit on a few rows."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .algorithms import (
    BaselinePlusPlusClassifier,
    DeepKernelClassifier,
    DeepKernelRegressor,
    GaussianProtoNetClassifier,
    InContextClassifier,
    InContextRegressor,
    KernelLogisticClassifier,
    MAMLClassifier,
    MAMLPlusPlusClassifier,
    MAMLPlusPlusRegressor,
    MAMLRegressor,
    MANNClassifier,
    MatchingNetClassifier,
    MetaLSTMClassifier,
    MetaSGDClassifier,
    MetaSGDRegressor,
    NearestClassMeanClassifier,
    NeuralProcessRegressor,
    ProtoMAMLClassifier,
    ProtoNetClassifier,
    RelationNetClassifier,
    ReptileClassifier,
    ReptileRegressor,
    RidgeHeadClassifier,
    RidgeHeadRegressor,
    SiameseClassifier,
)
from .meta_init import MetaInit
from .pretrained import list_meta_inits, load_meta_init

__version__ = "0.1.0.dev0"

# loaded when first asked for: skorch alone takes as long to import as torch and scikit-learn
_LAZY = {
    "ESMetaTrainer": "meta_training",
    "EpisodeSplit": "model_selection",
    "Experience": "strategies",
    "FewShotScore": "model_selection",
    "MetaEmbedding": "estimators",
    "MetaTrainer": "meta_training",
    "PastRows": "model_selection",
    "PooledClassifier": "model_selection",
    "PooledMixedRegressor": "model_selection",
    "PooledRegressor": "model_selection",
    "PooledStatisticsClassifier": "model_selection",
    "PooledStatisticsRegressor": "model_selection",
    "Recommendation": "model_selection",
    "StrategyClassifier": "strategies",
    "StrategyRegressor": "strategies",
    "StrategySelector": "strategies",
    "TaskCalibration": "trust",
    "TaskKFold": "tasks",
    "TaskMemory": "inspection",
    "TaskShuffleSplit": "tasks",
    "TaskwiseClassifier": "taskwise",
    "TaskwiseRegressor": "taskwise",
    "TrustLearner": "trust",
    "TrustedClassifier": "trust",
    "TrustedRegressor": "trust",
    "compare_few_shot": "model_selection",
    "expected_calibration_error": "trust",
    "few_shot_score": "model_selection",
    "labels_saved": "model_selection",
    "recommendation": "model_selection",
    "select_queries": "labelling",
    "uncertainty": "labelling",
}

__all__ = [
    "BaselinePlusPlusClassifier",
    "DeepKernelClassifier",
    "DeepKernelRegressor",
    "ESMetaTrainer",
    "EpisodeSplit",
    "Experience",
    "FewShotScore",
    "GaussianProtoNetClassifier",
    "InContextClassifier",
    "InContextRegressor",
    "KernelLogisticClassifier",
    "MAMLClassifier",
    "MAMLPlusPlusClassifier",
    "MAMLPlusPlusRegressor",
    "MAMLRegressor",
    "MANNClassifier",
    "MatchingNetClassifier",
    "MetaEmbedding",
    "MetaInit",
    "MetaLSTMClassifier",
    "MetaSGDClassifier",
    "MetaSGDRegressor",
    "MetaTrainer",
    "NearestClassMeanClassifier",
    "NeuralProcessRegressor",
    "PastRows",
    "PooledClassifier",
    "PooledMixedRegressor",
    "PooledRegressor",
    "PooledStatisticsClassifier",
    "PooledStatisticsRegressor",
    "ProtoMAMLClassifier",
    "ProtoNetClassifier",
    "Recommendation",
    "RelationNetClassifier",
    "ReptileClassifier",
    "ReptileRegressor",
    "RidgeHeadClassifier",
    "RidgeHeadRegressor",
    "SiameseClassifier",
    "StrategyClassifier",
    "StrategyRegressor",
    "StrategySelector",
    "TaskCalibration",
    "TaskKFold",
    "TaskMemory",
    "TaskShuffleSplit",
    "TaskwiseClassifier",
    "TaskwiseRegressor",
    "TrustLearner",
    "TrustedClassifier",
    "TrustedRegressor",
    "compare_few_shot",
    "expected_calibration_error",
    "few_shot_score",
    "labels_saved",
    "list_meta_inits",
    "load_meta_init",
    "recommendation",
    "select_queries",
    "uncertainty",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
