"""The methods: one file each, a learner and its estimators."""

from .baseline_plus_plus import BaselinePlusPlusClassifier
from .boil import BOILClassifier, BOILRegressor
from .caml import CAMLClassifier
from .cavia import CAVIAClassifier, CAVIARegressor
from .deep_emd import DeepEMDClassifier
from .deep_kernel import DeepKernelRegression, DeepKernelRegressor
from .deep_kernel_classifier import DeepKernelClassifier
from .dn4 import DN4Classifier
from .feat import FEATClassifier
from .frn import FRNClassifier
from .gaussian_protonet import GaussianProtoNetClassifier
from .imaml import IMAMLClassifier, IMAMLRegressor
from .in_context import InContextClassifier, InContextRegressor
from .in_context_tables import InContextTables
from .in_context_targets import InContextTargets
from .kernel_logistic import KernelLogisticClassifier
from .leo import LEOClassifier
from .maml import MAMLClassifier, MAMLRegressor
from .maml_plus_plus import MAMLPlusPlusClassifier, MAMLPlusPlusRegressor
from .mann import MANNClassifier
from .matching import MatchingNetClassifier
from .meta_curvature import MetaCurvatureClassifier, MetaCurvatureRegressor
from .meta_lstm import MetaLSTMClassifier
from .meta_opt_net import MetaOptNetClassifier
from .meta_sgd import MetaSGDClassifier, MetaSGDRegressor
from .mixture_ridge import MixtureRidgeRegressor
from .nearest_class_mean import NearestClassMeanClassifier
from .neural_process import NeuralProcessRegressor
from .protomaml import ProtoMAMLClassifier
from .protonet import ProtoNetClassifier
from .r2d2 import R2D2Classifier
from .relation import RelationNetClassifier
from .reptile import ReptileClassifier, ReptileRegressor
from .ridge import RidgeHeadRegression, RidgeHeadRegressor
from .ridge_classifier import RidgeHeadClassifier
from .siamese import SiameseClassifier
from .simple_cnaps import SimpleCNAPSClassifier
from .snail import SNAILClassifier
from .tadam import TADAMClassifier
from .transductive_assignment import TransductiveAssignmentClassifier
from .transductive_laplacian import TransductiveLaplacianShotClassifier
from .transductive_propagation import TransductivePropagationClassifier
from .transductive_pt_map import TransductivePTMAPClassifier
from .transductive_tim import TransductiveTIMClassifier

__all__ = [
    "BOILClassifier",
    "BOILRegressor",
    "BaselinePlusPlusClassifier",
    "CAMLClassifier",
    "CAVIAClassifier",
    "CAVIARegressor",
    "DN4Classifier",
    "DeepEMDClassifier",
    "DeepKernelClassifier",
    "DeepKernelRegression",
    "DeepKernelRegressor",
    "FEATClassifier",
    "FRNClassifier",
    "GaussianProtoNetClassifier",
    "IMAMLClassifier",
    "IMAMLRegressor",
    "InContextClassifier",
    "InContextRegressor",
    "InContextTables",
    "InContextTargets",
    "KernelLogisticClassifier",
    "LEOClassifier",
    "MAMLClassifier",
    "MAMLPlusPlusClassifier",
    "MAMLPlusPlusRegressor",
    "MAMLRegressor",
    "MANNClassifier",
    "MatchingNetClassifier",
    "MetaCurvatureClassifier",
    "MetaCurvatureRegressor",
    "MetaLSTMClassifier",
    "MetaOptNetClassifier",
    "MetaSGDClassifier",
    "MetaSGDRegressor",
    "MixtureRidgeRegressor",
    "NearestClassMeanClassifier",
    "NeuralProcessRegressor",
    "ProtoMAMLClassifier",
    "ProtoNetClassifier",
    "R2D2Classifier",
    "RelationNetClassifier",
    "ReptileClassifier",
    "ReptileRegressor",
    "RidgeHeadClassifier",
    "RidgeHeadRegression",
    "RidgeHeadRegressor",
    "SNAILClassifier",
    "SiameseClassifier",
    "SimpleCNAPSClassifier",
    "TADAMClassifier",
    "TransductiveAssignmentClassifier",
    "TransductiveLaplacianShotClassifier",
    "TransductivePTMAPClassifier",
    "TransductivePropagationClassifier",
    "TransductiveTIMClassifier",
]
