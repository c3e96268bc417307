"""scikit-learn's side of a learner: what all classifiers, regressors and transformers share."""

from .base import FewShotEstimator
from .chunks_of_tasks import chunks_for, shared_out
from .classifier import PRIOR, FewShotClassifier
from .coded_labels import CodedLabels, fitted_to_labels
from .device_choice import Device, device_for, resolve_device
from .embedding import MetaEmbedding
from .explanation import (
    FeatureMetric,
    deciding_features,
    encoder_features,
    explain,
    feature_metric,
)
from .finite_answers import solvable
from .fitted_logits import logits_of
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
from .known_classes import (
    KNOWN,
    classes_of_past,
    for_new_classes,
    in_type_of,
    known_classes,
    of_new_classes,
    tell_new_classes,
)
from .many_tasks import ManyTasks
from .outputs_of_rows import OutputsOfRows, rows_to_try
from .own_table import LearnsTable
from .pixels import check_pixels, range_of_pixels
from .regressor import FewShotRegressor, ProbabilisticRegressor
from .shared_texts import with_shared_texts
from .validation import (
    ROW_DTYPES,
    as_numbers,
    check_range,
    check_weights,
    finite_targets,
    labels_of_numbers,
    rows_as_taken,
    validated,
)

__all__ = [
    "KNOWN",
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
    "OutputsOfRows",
    "ProbabilisticRegressor",
    "adapts_in_batches",
    "as_final_sees",
    "as_numbers",
    "check_pixels",
    "check_range",
    "check_weights",
    "chunks_for",
    "classes_of_past",
    "deciding_features",
    "device_for",
    "encoder_features",
    "explain",
    "feature_metric",
    "final_step",
    "finite_targets",
    "fitted_to_labels",
    "fitted_to_nothing",
    "for_new_classes",
    "freeze_steps",
    "frozen_steps",
    "has_prior",
    "in_type_of",
    "known_classes",
    "labels_of_numbers",
    "logits_of",
    "of_new_classes",
    "predicts",
    "range_of_pixels",
    "resolve_device",
    "rows_as_taken",
    "rows_to_try",
    "shared_out",
    "solvable",
    "tell_new_classes",
    "through",
    "validated",
    "with_final",
    "with_shared_texts",
]
