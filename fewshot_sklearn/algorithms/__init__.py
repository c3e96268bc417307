"""The methods: one file each, a learner and its estimators."""

from .baseline_plus_plus import BaselinePlusPlusClassifier
from .boil import BOILClassifier, BOILRegressor
from .cavia import CAVIAClassifier, CAVIARegressor
from .deep_kernel import DeepKernelRegression, DeepKernelRegressor
from .deep_kernel_classifier import DeepKernelClassifier
from .gaussian_protonet import GaussianProtoNetClassifier
from .imaml import IMAMLClassifier, IMAMLRegressor
from .in_context import InContextClassifier, InContextRegressor
from .in_context_tables import InContextTables
from .in_context_targets import InContextTargets
from .kernel_logistic import KernelLogisticClassifier
from .maml import MAMLClassifier, MAMLRegressor
from .maml_plus_plus import MAMLPlusPlusClassifier, MAMLPlusPlusRegressor
from .mann import MANNClassifier
from .matching import MatchingNetClassifier
from .meta_curvature import MetaCurvatureClassifier, MetaCurvatureRegressor
from .meta_lstm import MetaLSTMClassifier
from .meta_sgd import MetaSGDClassifier, MetaSGDRegressor
from .nearest_class_mean import NearestClassMeanClassifier
from .neural_process import NeuralProcessRegressor
from .protomaml import ProtoMAMLClassifier
from .protonet import ProtoNetClassifier
from .relation import RelationNetClassifier
from .reptile import ReptileClassifier, ReptileRegressor
from .ridge import RidgeHeadRegression, RidgeHeadRegressor
from .ridge_classifier import RidgeHeadClassifier
from .siamese import SiameseClassifier

__all__ = [
    "BOILClassifier",
    "BOILRegressor",
    "BaselinePlusPlusClassifier",
    "CAVIAClassifier",
    "CAVIARegressor",
    "DeepKernelClassifier",
    "DeepKernelRegression",
    "DeepKernelRegressor",
    "GaussianProtoNetClassifier",
    "IMAMLClassifier",
    "IMAMLRegressor",
    "InContextClassifier",
    "InContextRegressor",
    "InContextTables",
    "InContextTargets",
    "KernelLogisticClassifier",
    "MAMLClassifier",
    "MAMLPlusPlusClassifier",
    "MAMLPlusPlusRegressor",
    "MAMLRegressor",
    "MANNClassifier",
    "MatchingNetClassifier",
    "MetaCurvatureClassifier",
    "MetaCurvatureRegressor",
    "MetaLSTMClassifier",
    "MetaSGDClassifier",
    "MetaSGDRegressor",
    "NearestClassMeanClassifier",
    "NeuralProcessRegressor",
    "ProtoMAMLClassifier",
    "ProtoNetClassifier",
    "RelationNetClassifier",
    "ReptileClassifier",
    "ReptileRegressor",
    "RidgeHeadClassifier",
    "RidgeHeadRegression",
    "RidgeHeadRegressor",
    "SiameseClassifier",
]
