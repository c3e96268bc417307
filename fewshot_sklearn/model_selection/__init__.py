"""Does it help: episodes as splits, scores over many, comparisons, learning curves."""

from .comparison import compare_few_shot, flattened
from .episode_outputs import (
    Answers,
    EpisodeAnswers,
    features_of,
    held_out_losses,
    joined_answers,
    logits_of,
    means_of,
)
from .learning_curves import FewShotCurveDisplay, labels_saved
from .pooled import PastRows, PooledClassifier, PooledRegressor
from .scores import FewShotScore, standard_error
from .scoring import EpisodeSplit, few_shot_score, scores_of_episodes, tasks_seen

__all__ = [
    "Answers",
    "EpisodeAnswers",
    "EpisodeSplit",
    "FewShotCurveDisplay",
    "FewShotScore",
    "PastRows",
    "PooledClassifier",
    "PooledRegressor",
    "compare_few_shot",
    "features_of",
    "few_shot_score",
    "flattened",
    "held_out_losses",
    "joined_answers",
    "labels_saved",
    "logits_of",
    "means_of",
    "scores_of_episodes",
    "standard_error",
    "tasks_seen",
]
