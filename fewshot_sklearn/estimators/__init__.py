"""scikit-learn's side of a learner: what all classifiers, regressors and transformers share."""

from .base import FewShotEstimator
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
from .finite_answers import solvable
from .frozen_steps import (
    FrozenStep,
    adapts_in_batches,
    as_final_sees,
    final_step,
    fitted_to_nothing,
    freeze_steps,
    frozen_steps,
    has_prior,
    predicts,
    through,
    with_final,
)
from .many_tasks import ManyTasks
from .own_table import LearnsTable
from .regressor import FewShotRegressor, ProbabilisticRegressor
from .shared_texts import with_shared_texts
from .validation import (
    ROW_DTYPES,
    Device,
    as_numbers,
    check_range,
    check_weights,
    finite_targets,
    labels_of_numbers,
    resolve_device,
    validated,
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
    "FrozenStep",
    "LearnsTable",
    "ManyTasks",
    "MetaEmbedding",
    "ProbabilisticRegressor",
    "adapts_in_batches",
    "as_final_sees",
    "as_numbers",
    "check_range",
    "check_weights",
    "deciding_features",
    "encoder_features",
    "explain",
    "feature_metric",
    "final_step",
    "finite_targets",
    "fitted_to_labels",
    "fitted_to_nothing",
    "freeze_steps",
    "frozen_steps",
    "has_prior",
    "labels_of_numbers",
    "predicts",
    "resolve_device",
    "solvable",
    "through",
    "validated",
    "with_final",
    "with_shared_texts",
]
