"""What an algorithm is, two pure functions of one task, and how many tasks are run at once."""

from .attention import (
    MultiHeadAttention,
    SmoothingLearner,
    TransformerLayer,
    check_sizes,
    predictive,
)
from .class_prior import class_prior
from .deadline import is_over, seconds_left, within
from .defaults import own_defaults
from .descent import (
    Batch,
    Descent,
    Layers,
    Plan,
    SupportLoss,
    absent_classes,
    compiled,
    there_and_back,
)
from .divisions import divided_loss
from .functions import FunctionLearner
from .inner_loop import (
    DescendsCrossEntropy,
    DescendsSquaredError,
    InnerLoopEstimator,
    InnerLoopLearner,
    as_support,
    spread,
)
from .kernels import make_kernel
from .known_classes import KnownClasses, contrasts, known_classes_prior, of_known
from .learner import TASKS_PER_CHUNK, FeatureLearner, Learner, over_axis
from .linalg import cholesky, inverse, solve
from .linear_heads import OF_PAIRS, intercept_of, inverse_of, with_intercept
from .memory import BYTES, OF_LABELS, at_once, numbers_at_once, rows_for, undivided
from .outputs import Gaussian, Outputs, State, episode_loss, joined, present_classes
from .pretraining import PretrainedLearner
from .random_numbers import OwnRandomNumbers, draws
from .refinement import Refinement
from .sequences import (
    LSTMCell,
    in_order,
    log_sums_by_class,
    masked_softmax,
    reading_order,
    sums_by_own_class,
)
from .shells import Shells
from .taking_in import KEPT_W, KEPT_Y, SEEN, KeepsFeatures, RunningMeans, TakesIn, by_class, those
from .task_prior import TaskPrior, evidence, task_prior
from .transduction import (
    ROWS,
    PretrainedTransductiveLearner,
    TransductiveLearner,
    class_means,
)

__all__ = [
    "BYTES",
    "KEPT_W",
    "KEPT_Y",
    "OF_LABELS",
    "OF_PAIRS",
    "ROWS",
    "SEEN",
    "TASKS_PER_CHUNK",
    "Batch",
    "DescendsCrossEntropy",
    "DescendsSquaredError",
    "Descent",
    "FeatureLearner",
    "FunctionLearner",
    "Gaussian",
    "InnerLoopEstimator",
    "InnerLoopLearner",
    "KeepsFeatures",
    "KnownClasses",
    "LSTMCell",
    "Layers",
    "Learner",
    "MultiHeadAttention",
    "Outputs",
    "OwnRandomNumbers",
    "Plan",
    "PretrainedLearner",
    "PretrainedTransductiveLearner",
    "Refinement",
    "RunningMeans",
    "Shells",
    "SmoothingLearner",
    "State",
    "SupportLoss",
    "TakesIn",
    "TaskPrior",
    "TransductiveLearner",
    "TransformerLayer",
    "absent_classes",
    "as_support",
    "at_once",
    "by_class",
    "check_sizes",
    "cholesky",
    "class_means",
    "class_prior",
    "compiled",
    "contrasts",
    "divided_loss",
    "draws",
    "episode_loss",
    "evidence",
    "in_order",
    "intercept_of",
    "inverse",
    "inverse_of",
    "is_over",
    "joined",
    "known_classes_prior",
    "log_sums_by_class",
    "make_kernel",
    "masked_softmax",
    "numbers_at_once",
    "of_known",
    "over_axis",
    "own_defaults",
    "predictive",
    "present_classes",
    "reading_order",
    "rows_for",
    "seconds_left",
    "solve",
    "spread",
    "sums_by_own_class",
    "task_prior",
    "there_and_back",
    "those",
    "undivided",
    "with_intercept",
    "within",
]
