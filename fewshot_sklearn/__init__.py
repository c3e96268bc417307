"""Few-shot learning for scikit-learn users: learn from past tasks, then fit on a few rows."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .algorithms.baseline_plus_plus import BaselinePlusPlusClassifier
from .algorithms.deep_kernel import DeepKernelRegressor
from .algorithms.deep_kernel_classifier import DeepKernelClassifier
from .algorithms.gaussian_protonet import GaussianProtoNetClassifier
from .algorithms.in_context import InContextClassifier, InContextRegressor
from .algorithms.kernel_logistic import KernelLogisticClassifier
from .algorithms.maml import MAMLClassifier, MAMLRegressor
from .algorithms.maml_plus_plus import MAMLPlusPlusClassifier, MAMLPlusPlusRegressor
from .algorithms.mann import MANNClassifier
from .algorithms.matching import MatchingNetClassifier
from .algorithms.meta_lstm import MetaLSTMClassifier
from .algorithms.meta_sgd import MetaSGDClassifier, MetaSGDRegressor
from .algorithms.nearest_class_mean import NearestClassMeanClassifier
from .algorithms.neural_process import NeuralProcessRegressor
from .algorithms.protomaml import ProtoMAMLClassifier
from .algorithms.protonet import ProtoNetClassifier
from .algorithms.relation import RelationNetClassifier
from .algorithms.reptile import ReptileClassifier, ReptileRegressor
from .algorithms.ridge import RidgeHeadClassifier, RidgeHeadRegressor
from .algorithms.siamese import SiameseClassifier
from .meta_init import MetaInit
from .pretrained import list_meta_inits, load_meta_init

__version__ = "0.1.0.dev0"

# loaded when first asked for: skorch alone takes as long to import as torch and scikit-learn
_LAZY = {
    "ESMetaTrainer": "evolution",
    "EpisodeSplit": "model_selection",
    "Experience": "experience",
    "FewShotScore": "scores",
    "MetaEmbedding": "embedding",
    "MetaTrainer": "meta_training",
    "PastRows": "pooled",
    "PooledClassifier": "pooled",
    "PooledRegressor": "pooled",
    "StrategyClassifier": "strategy_choice",
    "StrategyRegressor": "strategy_choice",
    "StrategySelector": "strategy_selection",
    "TaskCalibration": "task_calibration",
    "TaskKFold": "task_splits",
    "TaskMemory": "task_memory",
    "TaskShuffleSplit": "task_splits",
    "TaskwiseClassifier": "taskwise",
    "TaskwiseRegressor": "taskwise",
    "TrustLearner": "trust_learning",
    "TrustedClassifier": "trust",
    "TrustedRegressor": "trust",
    "compare_few_shot": "comparison",
    "expected_calibration_error": "calibration",
    "few_shot_score": "model_selection",
    "labels_saved": "learning_curves",
    "select_queries": "query_strategy",
    "uncertainty": "query_strategy",
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
    "PooledRegressor",
    "ProtoMAMLClassifier",
    "ProtoNetClassifier",
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
    "select_queries",
    "uncertainty",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
