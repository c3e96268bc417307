"""Does it help: episodes as splits, scores over many, comparisons, learning curves."""

from .answers import Answers, held_out_losses, joined_answers
from .axes import check_axes, pyplot
from .comparison import compare_few_shot
from .curve_display import FewShotCurveDisplay
from .episode_answers import EpisodeAnswers
from .episode_split import EpisodeSplit
from .fitted_answers import features_of, logits_of, means_of
from .learning_curves import labels_saved
from .past_rivals import past_rivals
from .past_rows import PastRows
from .pooled import PooledClassifier, PooledRegressor
from .pooled_mixed import PooledMixedRegressor
from .pooled_statistics import PooledStatisticsClassifier, PooledStatisticsRegressor
from .recommending import Recommendation, recommendation
from .scores import FewShotScore, standard_error
from .scoring import few_shot_score, scores_of_episodes, tasks_seen

__all__ = [
    "Answers",
    "EpisodeAnswers",
    "EpisodeSplit",
    "FewShotCurveDisplay",
    "FewShotScore",
    "PastRows",
    "PooledClassifier",
    "PooledMixedRegressor",
    "PooledRegressor",
    "PooledStatisticsClassifier",
    "PooledStatisticsRegressor",
    "Recommendation",
    "check_axes",
    "compare_few_shot",
    "features_of",
    "few_shot_score",
    "held_out_losses",
    "joined_answers",
    "labels_saved",
    "logits_of",
    "means_of",
    "past_rivals",
    "pyplot",
    "recommendation",
    "scores_of_episodes",
    "standard_error",
    "tasks_seen",
]
