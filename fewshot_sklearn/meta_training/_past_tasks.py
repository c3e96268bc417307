"""What one meta-training learns from: past tasks as streams of episodes, and facts about them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

from ..estimators import (
    as_numbers,
    check_pixels,
    check_range,
    classes_of_past,
    final_step,
    finite_targets,
    freeze_steps,
    frozen_steps,
    labels_of_numbers,
    range_of_pixels,
    rows_as_taken,
    through,
)
from ..learners import Learner, episode_loss
from ..meta_init import MetaInit, RowSketch, task_digests
from ..tasks import (
    MOST_KNOWN,
    ArrayTasks,
    ClassEpisodes,
    Episodes,
    GeneratedTasks,
    GroupEpisodes,
    OfWholeNumbers,
    PooledRows,
    Shortage,
    TableFormat,
    TaskEpisodes,
    check_rows,
    column_labels,
    column_names,
    comparable,
    distinct,
    indexable,
    labels_recur,
    n_rows,
    pad_tasks,
    places,
    refuse_no_numbers,
    refuse_sparse,
    split_tasks,
    taken,
    usable_rows,
    warn_of_answers,
    warn_of_columns,
    warn_of_order,
)

#: Tasks of a generator that the feature scale is learned from.
SCALE_TASKS = 200
#: Rows of past tasks that a learner sees once training is over.
FINISHING_ROWS = 2000
#: Tasks of a generator that what is learned at once is learned from, at most.
DRAWN_TASKS = 10_000
#: Episodes that what has a closed form is learned from, at most, and of one batch of them.
EPISODES_AT_ONCE, PER_BATCH = 320, 32
#: Rows whose features a frozen encoder gives at once.
ROWS_AT_ONCE = 256
#: Parameters that may differ between a run and the one that resumes it, by prefix.
_NOT_IN_FINGERPRINT = (
    "_", "callbacks", "checkpoint", "device", "distributed", "estimator", "iterator_", "max_epochs",
    "verbose",
)  # fmt: skip


def _of_rows(stream: Episodes, rows: np.ndarray) -> Episodes:
    """The same episodes, of other rows in the place of each."""
    made = copy(stream)
    made.source = source = copy(stream.source)
    assert isinstance(source, ArrayTasks)
    source.X = rows
    return made


def _features(learner: Learner, X: Any, device: torch.device) -> np.ndarray:
    """Features of rows, a few at once."""
    parts = np.array_split(X, max(1, -(-len(X) // ROWS_AT_ONCE)))
    with torch.no_grad():
        found = [learner.embed(_on(device, part)).cpu().numpy() for part in parts]
    return np.concatenate(found)


def _on(device: torch.device, rows: np.ndarray) -> torch.Tensor:
    found = torch.as_tensor(rows, device=device)
    return found if rows.dtype in (np.int64, np.float64) else found.to(torch.float32)


def _described(value: Any) -> str:
    """A description that is the same in every process."""
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if type(value).__repr__ is object.__repr__:
        return type(value).__qualname__
    return repr(value)


def _with_rows(Z: Any, places: np.ndarray, rows: Any) -> Any:
    """The table with other rows in some places, if it is an array or a frame of pandas."""
    if isinstance(Z, np.ndarray) and isinstance(rows, np.ndarray):
        Z = Z.copy()
        Z[places] = rows
    elif hasattr(Z, "iloc") and hasattr(rows, "iloc"):
        import pandas as pd  # type: ignore[import-untyped]

        others = np.setdiff1d(np.arange(len(Z)), places)
        order = np.argsort(np.concatenate([others, places]), kind="stable")
        Z = pd.concat([Z.iloc[others], rows]).iloc[order]
    return Z


def _numbers_of(X: Any) -> np.ndarray | None:
    """Rows as finite numbers; None where they are others."""
    try:
        rows = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return rows if np.isfinite(rows).all() else None


class PastTasks:
    """What one call of ``MetaTrainer.fit`` trains on.

    Parameters
    ----------
    trainer : MetaTrainer
        Says what an episode is.
    X, y, groups : see ``MetaTrainer.fit``
        Past tasks.
    afresh : bool
        Whether training starts anew rather than goes on.

    Attributes
    ----------
    train, valid : Episodes, Episodes or None
        Streams of tasks; validation has tasks of its own.
    whole : estimator
        The trainer's; of a pipeline, with the steps before the last fitted and frozen.
    estimator : estimator
        Its last step, with the hyperparameters of its meta-init written out.
    input_shape : tuple of int
        Shape of one row.
    n_outputs : int or None
        Number of targets; None for classification.
    n_held_out : int
        Number of tasks (classes, without groups) kept for validation.
    n_classes : int or None
        Number of past classes, where a method tells all of them apart.
    feature_names : list of str or None
        Column names.
    classes : ndarray of shape (n_classes,) or None
        Labels that the tasks have in common, where the estimator learns what they are like.
    table : TableFormat or None
        How the columns of a table become the numbers of a row.
    tasks : dict or None
        Kind, number and digests of the tasks; None for a generator.
    row_sketch : RowSketch or None
        Digests of the rows; None for a generator.
    data : str
        A digest of the past tasks.
    fingerprint : str
        Says which settings and data a checkpoint belongs to.
    """

    #: What a headline begins with.
    told = ""

    def __init__(self, trainer: Any, X: Any, y: Any, groups: Any, afresh: bool):
        self.trainer, self.classification = trainer, is_classifier(trainer.estimator)
        self.afresh = afresh
        self.whole = (
            trainer.estimator if afresh else getattr(trainer, "estimator_", trainer.estimator)
        )
        self.estimator = final_step(trainer.estimator)._as_trained()
        self.feature_names: list[str] | None = None
        self.table: TableFormat | None = None
        self.tasks: dict[str, Any] | None = None
        self.row_sketch: RowSketch | None = None
        self._raw_rows: np.ndarray | None = None
        self._pixels: dict[str, Any] | None = None
        self.valid: Episodes | None = None
        self.n_classes: int | None = None
        self.classes: np.ndarray | None = None
        self._of_new_classes: Episodes | None = None
        self.n_held_out = 0
        self.checkpointed = True
        seed = trainer.seed_
        pretrains = self.estimator._learner_class.pretrains
        if callable(X):
            if pretrains:
                raise ValueError(
                    f"{type(self.estimator).__name__} learns to tell the past classes apart: it "
                    "needs them as arrays, not a generator of tasks."
                )
            if y is not None or groups is not None:
                raise ValueError("With a generator of tasks, y and groups must be None.")
            if trainer.classes == "recur":
                raise ValueError(
                    "classes='recur' needs the past tasks as arrays, with their labels and groups, "
                    "not a generator of tasks."
                )
            source = GeneratedTasks(self._through_frozen_steps(X), self.classification)
            self.train = Episodes(source, trainer.n_episodes, seed=seed)
            if trainer.validation_fraction > 0:
                self.valid = Episodes(source, trainer.n_valid_episodes, seed=seed + 1)
            first = self.train[0]
            self.integers = self._takes_whole(first.X)
            self.input_shape, targets = first.X.shape[1:], first.y
            data = joblib.hash([tuple(self.train[i]) for i in range(3)])
            self.outline = "a generator of tasks"
        else:
            X = self._from_arrays(X, y, groups, seed)
            self.input_shape, targets = self._rows.shape[1:], self._targets
            data = joblib.hash([X, np.asarray(y), groups])
            self.outline = f"{len(self._rows):,} rows of shape {tuple(self.input_shape)}"
        self.data = data
        self.n_outputs = None if self.classification else targets.shape[1]
        settings = {
            name: _described(value)
            for name, value in sorted(trainer.get_params(deep=False).items())
            if not name.startswith(_NOT_IN_FINGERPRINT)
        }
        own = {name: _described(value) for name, value in self.estimator.get_params().items()}
        facts = f"{settings}{sorted(own.items())}{data}"
        self.fingerprint = f"{hashlib.sha256(facts.encode()).hexdigest()[:12]}-seed{seed}"

    def with_encoder(self, settings: dict[str, Any], checkpointed: bool = True) -> PastTasks:
        """The same for an estimator whose encoder, if none is asked for, is this one.

        Parameters
        ----------
        settings : dict
            Parameters of the estimator.
        checkpointed : bool, default=True
            Whether the training is the one that a checkpoint is of.

        Returns
        -------
        PastTasks
            A copy that shares the tasks.
        """
        made = copy(self)
        made.checkpointed = checkpointed
        if self.chooses_encoder:
            made.estimator = clone(self.estimator).set_params(**settings)
        return made

    @property
    def chooses_encoder(self) -> bool:
        """Whether nobody has said which encoder to train."""
        asked = self.estimator
        none = asked.encoder is None and not asked._encoder_params() and asked.meta_init is None
        return none and self.trainer.encoder_from is None

    @property
    def encoder_told(self) -> str:
        """Name of the encoder."""
        encoder = self.estimator.encoder
        if isinstance(encoder, str) or encoder is None:
            return encoder or "no encoder"
        return getattr(encoder, "__name__", type(encoder).__name__)

    def check_fits(self, init: MetaInit) -> None:
        """Refuse to go on from a meta-init with data of another format."""
        columns, names = self.feature_names, init.feature_names
        self.estimator._check_fits(init, self.input_shape, self.n_outputs, columns)
        if self._raw_rows is not None:
            check_pixels(init, self._raw_rows, together=True)
        self.feature_names = columns or names  # an array has the columns that were there before

    def _through_frozen_steps(self, generator: Any) -> Any:
        """A generator of tasks whose rows are as the last step of a pipeline sees them."""
        steps, final = frozen_steps(self.whole)
        if isinstance(final, Pipeline):
            raise ValueError(
                "With a generator of tasks there are no past rows that the steps of a pipeline "
                "could be fitted to: fit them before, and wrap each in "
                "sklearn.frozen.FrozenEstimator."
            )
        if not steps:
            return generator

        def generate(rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
            X, y, X_query, y_query = generator(rng)
            return through(steps, X), y, through(steps, X_query), y_query

        return generate

    def _from_arrays(self, X: Any, y: Any, groups: Any, seed: int) -> np.ndarray:
        check_rows(X)
        trainer, X = self.trainer, indexable(X)
        warn_of_order(X, y=y, groups=groups)
        y, groups = self._checked_tasks(y, groups, n_rows(X))
        recur = self.classification and self._may_recur(y, groups, X)
        short = Shortage()
        train, valid = self._split(y, groups, seed, recur, short)
        if self.afresh:
            if trainer._tells:
                warn_of_answers(X, y, groups)
            if trainer._tells and self.estimator.meta_init is None:
                self._warn_of_one_task(y, groups)
        if isinstance(self.whole, Pipeline):
            X = self._through_steps(X, y, train)
        targets = None if self.classification else finite_targets(y)
        labels = column_labels(X)
        X = self._checked_rows(X, train, targets, groups)
        self.integers = self._takes_whole(X)
        X = rows_as_taken(X, self.integers)
        augment = self._augment()
        # in the precision of all trainings
        check_range(X, torch.float32, "X", labels_of_numbers(self.table, labels))
        if targets is not None:
            check_range(targets, torch.float32, "y")
        units = y if groups is None else groups
        self.n_held_out = 0 if valid is None else len(np.unique(units[valid]))
        digests = task_digests(units[train])
        kind = "classes" if groups is None else "groups"
        self.tasks = {"kind": kind, "count": len(digests), "ids": digests}
        self._rows = self._raw_rows = X[train]
        self.row_sketch = RowSketch.of(self._rows)
        self._targets = y[train] if targets is None else targets[train]
        self._task_of_row = None if groups is None else distinct(groups[train])[1]
        if recur:
            self._take_classes(y, train)
        if self.classification:
            classes = distinct(y[train], "y")[1]
            pairs = classes if groups is None else np.c_[classes, self._task_of_row]
            self._n_past_classes = len(np.unique(pairs, axis=0))

        def stream(
            rows: np.ndarray, n: int, seed: int, augment: Any, recur: bool = recur
        ) -> Episodes:
            inside = None if groups is None else groups[rows]
            sampler: ClassEpisodes | GroupEpisodes
            if recur:
                assert self.classes is not None
                codes = places(self.classes, y[rows])
                sampler = TaskEpisodes(
                    codes, inside, n_shot=trainer.n_shot, n_query=trainer.n_query
                )
            elif self.classification:
                sampler = ClassEpisodes(
                    y[rows], inside,
                    n_way=trainer.n_way, n_shot=trainer.n_shot, n_query=trainer.n_query,
                    n_unlabelled=trainer.n_unlabelled,
                    short=short if self.classes is None else Shortage(),
                )  # fmt: skip
            else:
                sampler = GroupEpisodes(
                    inside, n_shot=trainer.n_shot, n_query=trainer.n_query, short=short
                )
            outputs = None if targets is None else targets[rows]
            return Episodes(ArrayTasks(X[rows], outputs, sampler, augment), n, seed=seed)

        if self.estimator._learner_class.pretrains:
            self.train = self._pool(y[train], None if groups is None else groups[train])
        else:
            self.train = stream(train, trainer.n_episodes, seed, augment)
            if recur:  # tasks of other classes are adapted to as ever
                # or none, where no task has two rows of two classes
                with warnings.catch_warnings(), suppress(ValueError):
                    warnings.simplefilter("ignore", UserWarning)
                    self._of_new_classes = stream(train, trainer.n_episodes, seed, None, False)
        if valid is not None:
            if self.classes is not None:  # a class that is only held out is known to nobody
                valid = valid[places(self.classes, y[valid]) >= 0]
            self.valid = stream(valid, trainer.n_valid_episodes, seed + 1, None)
        if trainer._tells:
            short.warn(stacklevel=7)
        return X

    def _warn_of_one_task(self, y: np.ndarray, groups: np.ndarray | None) -> None:
        """Tell of a past from which nothing can be learned of how tasks differ."""
        pool = np.zeros(len(y), np.int64) if groups is None else distinct(groups, "groups")[1]
        if pool.max(initial=0) > 0:
            return
        if not self.classification:
            what = "groups holds one value"
        else:
            n_classes, n_way = len(np.unique(y)), int(np.min(self.trainer.n_way))
            if n_classes > n_way:
                return
            what = f"all episodes have the same {n_classes} classes (n_way={self.trainer.n_way})"
        warnings.warn(
            f"There is one past task only: {what}. What tasks have in common, and how they differ, "
            "takes several past tasks to learn: pass the rows of more of them"
            + ("." if not self.classification else ", in groups, or of more classes than n_way."),
            stacklevel=8,
        )

    def _may_recur(self, y: np.ndarray, groups: np.ndarray | None, X: Any) -> bool:
        """Whether the classes are to be taken for the same ones in all tasks."""
        trainer, asked = self.trainer, self.trainer.classes
        takes = self.estimator._learner_class.knows_classes and (
            self.estimator._takes_known_classes() and not trainer.n_unlabelled
        )
        init = self.estimator._resolve_meta_init() if self.afresh else trainer.meta_init_
        before = classes_of_past(init)
        if before is not None:
            if asked == "anew" or (places(before, y) < 0).any() or groups is None:
                raise ValueError(
                    f"{init.told} knows the classes {before.tolist()} of past tasks, so training "
                    "goes on from it only with tasks of these, with groups and without "
                    "classes='anew'. For other classes begin without it."
                )
            return True
        if asked == "recur" and not (takes and groups is not None and init is None):
            why = (
                "groups, which say the task of each row"
                if groups is None
                else "a training that begins without a meta-init of other classes"
                if init is not None
                else "an estimator that learns what classes are like: RidgeHeadClassifier, or "
                "ProtoNetClassifier without unlabelled rows"
            )
            raise ValueError(f"classes='recur' needs {why}.")
        if not takes or init is not None or asked == "anew":
            return False
        if asked == "recur":
            n = len(distinct(y, "y")[0])
            if not 2 <= n <= MOST_KNOWN:
                raise ValueError(
                    f"classes='recur' needs 2 to {MOST_KNOWN:,} classes, but y has {n:,}."
                )
            return True
        return labels_recur(y, groups, _numbers_of(X))

    def _take_classes(self, y: np.ndarray, train: np.ndarray) -> None:
        """Know the classes of the tasks that are trained on."""
        init = self.estimator._resolve_meta_init() if self.afresh else self.trainer.meta_init_
        before = classes_of_past(init)
        self.classes = distinct(y[train], "y")[0] if before is None else before
        self._codes = places(self.classes, y[train])

    def _checked_rows(
        self, X: Any, train: np.ndarray, targets: np.ndarray | None, groups: Any
    ) -> np.ndarray:
        """Rows as numbers: a table's in the format that those trained on teach, if it needs one."""
        self.feature_names = column_names(X)
        known = self.estimator._resolve_meta_init() if self.afresh else self.trainer.meta_init_
        if known is not None:
            self.table = known.table
        else:
            asked = self.trainer.categorical_features
            past = taken(indexable(X), train)
            refuse_sparse(past, self.estimator)
            ragged = self.estimator._ragged  # whose NaN are no gaps of a table
            self.table = None if ragged else TableFormat.of(past, asked)
            warn_of_columns(past, self.table, asked)
            if self.table is not None and self.table.sizes and targets is not None:
                self.table, own = self.table.with_means(past, targets[train], groups[train])
                rows = as_numbers(self.table, X)
                rows[train] = own
                return rows
        return as_numbers(self.table, X, self.estimator._own_network, ragged=self.estimator._ragged)

    def range_of_pixels(self, learner: Learner) -> dict[str, Any]:
        """What a meta-init is to say of the pixels of past images, looked at but once."""
        if self._pixels is None:
            rows = self._raw_rows
            if rows is None:
                rows = self.scale_rows()[0].numpy() if len(self.input_shape) > 1 else np.empty(0)
            self._pixels = range_of_pixels(learner, rows)
        return self._pixels

    def _takes_whole(self, X: np.ndarray) -> bool:
        """Whether rows are to reach the encoder as whole numbers."""
        if not self.afresh:
            return bool(self.trainer.module_.integers)
        return self.estimator._takes_whole(X)

    def become_features(self, learner: Learner) -> None:
        """Take the features that a frozen encoder gives in the place of rows, each computed once.

        Not where rows are altered anew in each episode, or generated: then nothing changes.

        Parameters
        ----------
        learner : Learner
            Whose they are; it takes them for rows from now on.
        """
        streams = [self.train] if self.valid is None else [self.train, self.valid]
        sources = [one.source for one in streams if isinstance(one.source, ArrayTasks)]
        usual = len(sources) == len(streams) and all(one.augment is None for one in sources)
        if not learner.frozen or not usual or learner.given_features:
            return
        where, device = learner.x_mean.device, torch.device(self.trainer.device or "cpu")
        training = learner.training
        learner.to(device).eval()
        features = [_features(learner, source.X, device) for source in sources]
        learner.to(where).train(training)
        made = [_of_rows(stream, Z) for stream, Z in zip(streams, features, strict=True)]
        self.train, self.valid = made[0], made[1] if len(made) > 1 else None
        if self._of_new_classes is not None:  # of the rows that are trained on, too
            self._of_new_classes = _of_rows(self._of_new_classes, features[0])
        self._rows = features[0]
        learner.given_features = True

    def _checked_tasks(self, y: Any, groups: Any, n_rows: int) -> tuple[np.ndarray, Any]:
        """Labels or targets, and the task of each row, that can be counted on."""
        if y is None:
            raise ValueError("y is needed: the labels or targets of the past tasks.")
        if self.trainer.n_unlabelled and getattr(self.estimator, "unlabelled", None) is None:
            raise ValueError(
                "n_unlabelled needs an estimator that is told how rows without a label are marked, "
                f"such as ProtoNetClassifier(unlabelled=-1), got {self.estimator!r}."
            )
        if self.classification:
            y = comparable(y, "y")
        elif groups is None:
            raise ValueError(
                "groups is needed to meta-train a regressor: it says which task each row belongs "
                "to. Inside cross_validate pass params={'groups': groups}, with "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        else:
            refuse_no_numbers(y)
            y = check_array(y, ensure_2d=False, input_name="y")
        groups = None if groups is None else comparable(groups)
        for name, column in (("y", y), ("groups", groups)):
            if column is not None and len(column) != n_rows:
                raise ValueError(f"{name} has {len(column)} rows, but X has {n_rows}.")
        return y, groups

    def _split(
        self,
        y: np.ndarray,
        groups: np.ndarray | None,
        seed: int,
        recur: bool,
        short: Shortage,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Numbers of the rows to train on, and of those of the tasks held out."""
        pretrains = self.estimator._learner_class.pretrains
        # what pretrains does so on all classes, however few rows they have
        short = Shortage() if pretrains else short
        whole = not self.classification or recur
        usable = usable_rows(None if whole else y, groups, short)
        fraction, rng = self.trainer.validation_fraction, np.random.default_rng([seed, 0])
        train, valid = split_tasks(y, groups, fraction, rng, usable)
        if pretrains:
            units = y if groups is None else groups
            train = np.flatnonzero(~np.isin(units, [] if valid is None else units[valid]))
        return train, valid

    def _through_steps(self, X: Any, y: np.ndarray, train: np.ndarray) -> Any:
        """Rows as the last step sees them, after steps fitted to those trained on alone."""
        self.whole, learned_from = freeze_steps(self.whole, taken(X, train), y[train])
        return _with_rows(through(frozen_steps(self.whole)[0], X), train, learned_from)

    def _pool(self, y: np.ndarray, groups: np.ndarray | None) -> Episodes:
        """Batches of rows of all past classes, as many rows as an episode at most has."""
        trainer = self.trainer
        sampler = PooledRows(
            y, groups, n_way=trainer.n_way, n_shot=trainer.n_shot, n_query=trainer.n_query
        )
        self.n_classes = sampler.n_classes
        if not self.afresh:
            assert self.tasks is not None
            known = trainer.meta_init_.provenance["tasks"]["ids"]
            same = self.n_classes == trainer.module_.n_past_classes
            if not same or not set(self.tasks["ids"]) <= set(known):
                raise ValueError(
                    f"{type(self.estimator).__name__} goes on with the past classes that its "
                    "training began with, and these are others: other data, or others held out for "
                    "validation, if random_state is not an int. To learn from new classes, fit "
                    "from the meta-init: MetaTrainer(trainer.estimator_)."
                )
        source = ArrayTasks(self._rows, None, sampler, self._augment())
        return Episodes(source, trainer.n_episodes, seed=trainer.seed_)

    def _augment(self) -> Any:
        """What alters the rows of an episode."""
        augment = self.trainer.augment
        return augment if augment is None or not self.integers else OfWholeNumbers(augment)

    def to_pretrain(self, trainer: Any, estimator: Any, n_rows: int) -> PastTasks:
        """The same rows for a training that comes before this one.

        Parameters
        ----------
        trainer : MetaTrainer
            Whose training that is.
        estimator : estimator
            What it trains: a regressor by the same tasks, a classifier that tells all past
            classes apart by batches of rows, so many of them that each row has its turn.
        n_rows : int
            Rows of a batch.

        Returns
        -------
        PastTasks
            A copy that shares the rows, without validation.
        """
        made = copy(self)
        made.trainer, made.estimator, made.valid = trainer, estimator, None
        made.classes = made._of_new_classes = None
        made.told = "Pretraining: "
        if not self.classification:
            return made
        # labels that recur are the same classes in all groups
        groups = self._task_of_row if self.classes is None else None
        sampler = PooledRows(self._targets, groups, n_way=2, n_shot=1, n_query=n_rows // 2 - 1)
        made.n_classes = sampler.n_classes
        source = ArrayTasks(self._rows, None, sampler, self._augment())
        made.train = Episodes(source, -(-len(self._rows) // n_rows), seed=trainer.seed_ + 3)
        return made

    def learns_at_once(self) -> bool:
        """Whether what has a closed form is to be learned from all tasks at once."""
        asked = (getattr(self.estimator, name, None) for name in ("alpha", "noise"))
        trainer = self.trainer
        known = self.estimator.meta_init is not None or not self.afresh
        usual = trainer.criterion is episode_loss and trainer.max_epochs > 0
        there = self.tasks is not None or self.estimator._learner_class.learns_last
        return there and usual and not known and all(value is None for value in asked)

    def rows_of_tasks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, targets and numbers of the tasks of a regression that is trained on arrays."""
        assert self._task_of_row is not None
        return self._rows, self._targets, self._task_of_row

    def learn_at_once(self, learner: Learner) -> bool:
        """Let a learner do so; whether it could."""
        device = learner.x_mean.device
        if self.classification:
            stream = self.train if self.classes is None else self._of_new_classes
            if stream is None:
                return False
            return learner.learn_from_episodes(
                self._batches(learner, device, stream), self._n_past_classes
            )
        if self.tasks is None:
            drawn = self._drawn_rows()
        else:
            drawn = *self.scale_rows(), self._task_of_row
        X, y, tasks = drawn
        assert y is not None and tasks is not None
        return learner.learn_at_once(X.to(device), y.to(device), tasks)

    def _drawn_rows(self) -> tuple[torch.Tensor, torch.Tensor | None, np.ndarray | None]:
        """Rows, targets and numbers of tasks of a generator, as many as were trained on."""
        trainer = self.trainer
        n = min(DRAWN_TASKS, len(self.train) * len(trainer.history))
        episodes = Episodes(self.train.source, n, seed=trainer.seed_ + 4)
        drawn = [episodes[i] for i in range(n)]
        X = np.concatenate([part for t in drawn for part in (t.X, t.X_query)])
        y = np.concatenate([part for t in drawn for part in (t.y, t.y_query)])
        sizes = [len(t.y) + len(t.y_query) for t in drawn]
        return torch.from_numpy(X), torch.from_numpy(y), np.repeat(np.arange(n), sizes)

    @staticmethod
    def gives_whole(learner: Any) -> bool:
        """Whether rows of batches are whole numbers."""
        return getattr(learner, "integers", False) and not learner.given_features

    def begin_known_classes(self, learner: Learner) -> None:
        """Let a learner know how often each class occurs."""
        X, _ = self.scale_rows()
        learner.begin_known_classes(X.to(learner.x_mean.device), torch.from_numpy(self._codes))

    def learn_known_classes(self, learner: Learner) -> bool:
        """Let a learner see all past rows, to learn what the classes are like; whether it could."""
        device = learner.x_mean.device
        X, _ = self.scale_rows()
        assert self._task_of_row is not None
        episodes = self._batches(learner, device, self.train)
        codes = torch.from_numpy(self._codes)
        return learner.learn_known_classes(X.to(device), codes, self._task_of_row, episodes)

    def _batches(
        self, learner: Learner, device: torch.device, stream: Episodes
    ) -> Iterator[tuple[dict[str, torch.Tensor], Any]]:
        """The first episodes, padded, a few at once."""
        keep = self.estimator._learner_class.rounds_itself
        n = min(EPISODES_AT_ONCE, len(stream))
        for first in range(0, n, PER_BATCH):
            drawn = stream.__getitems__(range(first, min(n, first + PER_BATCH)))
            whole = self.gives_whole(learner)
            batch, y_query = pad_tasks(drawn, keep_float64=keep, whole=whole)
            yield {name: part.to(device) for name, part in batch.items()}, y_query.to(device)

    def rows_to_finish_with(self) -> torch.Tensor:
        """Some rows of the past, as training sees them."""
        rows = self.scale_rows()[0]
        rng = np.random.default_rng(self.trainer.seed_)
        return rows[np.sort(rng.permutation(len(rows))[:FINISHING_ROWS])]

    def scale_rows(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Rows, and targets of a regression, that the scale is learned from."""
        if hasattr(self, "_rows"):
            X, y = self._rows, self._targets
        else:
            scaling = Episodes(self.train.source, SCALE_TASKS, seed=self.trainer.seed_ + 2)
            drawn = [scaling[i] for i in range(SCALE_TASKS)]
            X = np.concatenate([part for t in drawn for part in (t.X, t.X_query)])
            y = np.concatenate([part for t in drawn for part in (t.y, t.y_query)])
        if self.classification:
            return torch.from_numpy(X), None
        return torch.from_numpy(X), torch.from_numpy(y)
