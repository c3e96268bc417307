"""scikit-learn's side of a learner: what all classifiers, regressors and transformers share."""

from .base import (
    ROW_DTYPES,
    FewShotEstimator,
    adapts_in_batches,
    check_weights,
    resolve_device,
)
from .classifier import PRIOR, FewShotClassifier
from .embedding import MetaEmbedding
from .explanation import (
    FeatureMetric,
    deciding_features,
    encoder_features,
    explain,
    feature_metric,
)
from .regressor import FewShotRegressor, ProbabilisticRegressor

__all__ = [
    "PRIOR",
    "ROW_DTYPES",
    "FeatureMetric",
    "FewShotClassifier",
    "FewShotEstimator",
    "FewShotRegressor",
    "MetaEmbedding",
    "ProbabilisticRegressor",
    "adapts_in_batches",
    "check_weights",
    "deciding_features",
    "encoder_features",
    "explain",
    "feature_metric",
    "resolve_device",
]
