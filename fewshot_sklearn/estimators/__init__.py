"""scikit-learn's side of a learner: what all classifiers, regressors and transformers share."""

from .base import FewShotEstimator, adapts_in_batches
from .classifier import PRIOR, FewShotClassifier
from .coded_labels import CodedLabels, fitted_to_labels
from .embedding import MetaEmbedding
from .explanation import (
    FeatureMetric,
    deciding_features,
    encoder_features,
    explain,
    feature_metric,
)
from .many_tasks import ManyTasks
from .regressor import FewShotRegressor, ProbabilisticRegressor
from .shared_texts import with_shared_texts
from .validation import (
    ROW_DTYPES,
    Device,
    check_range,
    check_weights,
    column_names,
    finite_targets,
    resolve_device,
)

__all__ = [
    "PRIOR",
    "ROW_DTYPES",
    "CodedLabels",
    "Device",
    "FeatureMetric",
    "FewShotClassifier",
    "FewShotEstimator",
    "FewShotRegressor",
    "ManyTasks",
    "MetaEmbedding",
    "ProbabilisticRegressor",
    "adapts_in_batches",
    "check_range",
    "check_weights",
    "column_names",
    "deciding_features",
    "encoder_features",
    "explain",
    "feature_metric",
    "finite_targets",
    "fitted_to_labels",
    "resolve_device",
    "with_shared_texts",
]
