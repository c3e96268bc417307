"""How sure an answer is: calibration, sets and intervals, rows and tasks unlike any known."""

from .calibration import class_reliability, expected_calibration_error, gaussian_reliability
from .classifier import TrustedClassifier
from .learning import TrustLearner
from .novelty import ROW_SCORES, row_scores, task_distance
from .regressor import TrustedRegressor
from .reliability import ReliabilityDisplay
from .task_calibration import TaskCalibration

__all__ = [
    "ROW_SCORES",
    "ReliabilityDisplay",
    "TaskCalibration",
    "TrustLearner",
    "TrustedClassifier",
    "TrustedRegressor",
    "class_reliability",
    "expected_calibration_error",
    "gaussian_reliability",
    "row_scores",
    "task_distance",
]
