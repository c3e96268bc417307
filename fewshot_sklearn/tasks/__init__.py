"""What a task is and where it comes from: rows, episodes, batches, altered copies, splits."""

from .augmentation import RandomAffine, RandomElastic, add_rotations, with_altered_copies
from .batch import (
    IGNORED_CODE,
    UNLABELLED_CODE,
    Support,
    Task,
    TaskBatch,
    memberships,
    pad_tasks,
    shares,
    stack_tasks,
)
from .by_task import RowsByTask, padded_size
from .episodes import (
    ArrayTasks,
    Blocks,
    Episodes,
    GeneratedTasks,
    TaskLoader,
    TaskStream,
    tasks_at,
)
from .ids import comparable, distinct, numbered, refuse_missing
from .images import image_shape
from .rows import indexable, n_rows, taken
from .sampling import (
    ClassEpisodes,
    EpisodeRows,
    GroupEpisodes,
    IntOrRange,
    PooledRows,
    check_int_or_range,
    check_n_shots,
    split_tasks,
)
from .splits import TaskKFold, TaskShuffleSplit

__all__ = [
    "IGNORED_CODE",
    "UNLABELLED_CODE",
    "ArrayTasks",
    "Blocks",
    "ClassEpisodes",
    "EpisodeRows",
    "Episodes",
    "GeneratedTasks",
    "GroupEpisodes",
    "IntOrRange",
    "PooledRows",
    "RandomAffine",
    "RandomElastic",
    "RowsByTask",
    "Support",
    "Task",
    "TaskBatch",
    "TaskKFold",
    "TaskLoader",
    "TaskShuffleSplit",
    "TaskStream",
    "add_rotations",
    "check_int_or_range",
    "check_n_shots",
    "comparable",
    "distinct",
    "image_shape",
    "indexable",
    "memberships",
    "n_rows",
    "numbered",
    "pad_tasks",
    "padded_size",
    "refuse_missing",
    "shares",
    "split_tasks",
    "stack_tasks",
    "taken",
    "tasks_at",
    "with_altered_copies",
]
