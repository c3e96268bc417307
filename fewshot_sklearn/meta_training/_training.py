"""How one meta-training goes: from past tasks to a meta-init, with skorch's loop.

`MetaTrainer` says what its parameters mean.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from skorch.callbacks import LRScheduler

from ..estimators import FewShotEstimator, final_step, with_final
from ..learners import (
    Learner,
    OwnRandomNumbers,
    draws,
    is_over,
    own_defaults,
    seconds_left,
    within,
)
from ..meta_init import MetaInit
from ..tasks import TaskStream, check_parameters, pad_tasks
from ._beginning import new_learner
from ._encoder_choice import PLAIN, encoders_to_try, surely_lower
from ._learned import finish, learned
from ._past_tasks import PastTasks
from ._pretraining import check_pretraining, pretrained_encoder
from ._progress import Progress
from ._ranks import Agreed, Ranks
from ._resume import check_place, load_epoch, save_epoch
from ._stopping import Enough, Stopping
from ._threads import few_threads
from ._together import begin_alike, check_alike, check_begun, check_shareable, check_together
from ._training_loop import EpisodicNet

#: Of the time that training may take: for the choice of an encoder by what has a closed form, and
#: for epochs where what has a closed form is learned once more after them.
FOR_CHOICE, FOR_EPOCHS = 0.25, 0.75


class Training(EpisodicNet):
    """Meta-training, without what users are told of it."""

    estimator: Any
    encoder_from: Any
    checkpoint: str | os.PathLike[str] | None
    random_state: Any
    n_iter_no_change: int | None
    keep_best: bool
    time_budget: float | None
    pretrain: str | None
    pretrain_epochs: int
    meta_init_: MetaInit
    pretrain_history_: Any
    #: Weights of the encoder that was pretrained.
    _pretrained: dict[str, torch.Tensor] | None = None
    #: Parameters of the estimator that say which encoder was chosen.
    _encoder: dict[str, Any] = PLAIN
    #: Whether one of many weights may be chosen where a simpler one can.
    _tries_networks = True
    #: Whether it warns of what is wrong with the past tasks; one of several trainings does.
    _tells = True

    def initialize_module(self) -> Training:
        """Build the learner, from the seed or from the estimator's meta-init."""
        learner = new_learner(self._plan(), self.encoder_from, self.seed_, self._pretrained)
        begin_alike(self._ranks, learner)
        self._prepare(learner)
        self.module_ = learner
        return self

    # ------------------------------------------------------------------ several processes
    @contextmanager
    def _among(self, ranks: Ranks) -> Iterator[None]:
        """Train with these processes, of which the first one alone tells how it goes."""
        before = {name: vars(self)[name] for name in ("verbose", "_tells") if name in vars(self)}
        if not ranks.is_first:
            self.verbose, self._tells = 0, False
        self._ranks = ranks
        try:
            yield
        finally:
            self.__dict__.pop("_ranks", None)
            self.__dict__.pop("_tells", None)
            self.__dict__.update(before)

    def initialize_optimizer(self) -> Training:
        """Skorch's, of the parameters of a learner.

        Returns
        -------
        self : object
            The trainer.

        Raises
        ------
        TypeError
            When the module is wrapped in another.
        """
        if not isinstance(self.module_, Learner):
            raise TypeError(
                f"module_ must be the learner that {type(self).__name__} builds, got a "
                f"{type(self.module_).__name__} around it, of which its own loss and state are "
                "hidden. Do not wrap it: several processes share a training by themselves "
                "(distributed='auto'), and precision='bf16' rounds."
            )
        return super().initialize_optimizer()

    def _take_first(self) -> None:
        """Have what the first process has learned by now."""
        self._ranks.agree(self.module_.state_dict())

    # ------------------------------------------------------------------ one call of fit
    def _train(self, X: Any, y: Any, groups: Any, afresh: bool) -> None:
        """Meta-train, or train further; leaves the best of what was tried as attributes."""
        final = final_step(self.estimator)
        if not isinstance(final, FewShotEstimator):
            raise ValueError(
                "estimator must be a few-shot estimator of this package, or a pipeline that ends "
                f"in one, got {self.estimator!r}."
            )
        check_parameters(self)
        check_parameters(final)
        if hasattr(self, "accelerator"):
            raise TypeError(
                "skorch's AccelerateMixin puts a loss of its own in the place of the method's. "
                "Leave it out: MetaTrainer shares a training among the processes of torchrun by "
                "itself (distributed='auto'), and precision='bf16' rounds."
            )
        check_begun(self, afresh)
        if self.checkpoint is not None:
            self._ranks.on_first(partial(check_place, self.checkpoint))
        self.best_epoch_ = None
        if afresh or not hasattr(self, "seed_"):
            seed = int(check_random_state(self.random_state).randint(2**31))
            self.seed_ = self._ranks.same(seed)
        with self._own_precision(), own_defaults(), torch.inference_mode(False):
            plan = PastTasks(self, X, y, groups, afresh)
            check_alike(self, plan)
            try:
                if afresh:
                    self._try_encoders(plan)
                else:
                    self._run(plan.with_encoder(self._encoder))
                whole = self.plan_.whole
            finally:
                self.__dict__.pop("plan_", None)
        final = clone(final).set_params(meta_init=self.meta_init_)
        self.estimator_ = with_final(whole, final)

    def _try_encoders(self, plan: PastTasks) -> None:
        """Train with each encoder that is worth a try, and keep the best by validation.

        They share the time that there is; what would begin too late is not tried.
        """
        judged = plan.valid is not None and self.max_epochs > 0
        with within(seconds_left() * FOR_CHOICE):
            tries = self._ranks.same(encoders_to_try(plan, judged, self._tries_networks))
        if self.pretrain is not None:
            check_pretraining(self, [plan.with_encoder(settings) for settings in tries])
        kept: tuple[dict[str, Any], np.ndarray] | None = None
        for i, settings in enumerate(tries):
            last = i == len(tries) - 1
            if kept is not None and self._ranks.same(is_over()):
                break
            self._encoder = settings
            with within(seconds_left() / (len(tries) - i)):
                self._run(plan.with_encoder(settings, checkpointed=last))
            if len(tries) == 1:
                return
            losses = self._validation_losses()
            if kept is None or surely_lower(losses, kept[1]):
                kept = dict(vars(self)), losses
        assert kept is not None
        self.__dict__.clear()
        self.__dict__.update(kept[0])

    def _run(self, plan: PastTasks) -> None:
        """One training, of one encoder."""
        self.plan_ = plan
        try:
            self._run_once(plan)
        finally:
            if isinstance(module := getattr(self, "module_", None), Learner):
                module.given_features = False

    def _run_once(self, plan: PastTasks) -> None:
        self._descend(plan)
        self._learn_at_once_if_better()
        finish(self.module_, plan)
        self.meta_init_ = self._ranks.same(self._make_meta_init())

    def _descend_on(self, plan: PastTasks) -> None:
        """Descend, and leave it at that: for what only wants the weights."""
        self.plan_ = plan
        self._descend(plan)
        del self.plan_

    def _descend(self, plan: PastTasks) -> None:
        """From the beginning, or where training stands, to the best weights."""
        if plan.afresh:
            if self.pretrain is not None:
                self._pretrained, self.pretrain_history_ = pretrained_encoder(self, plan)
            self.initialized_ = False  # nothing to tell of what was tried before
            self.initialize()
            self._pretrained = None
        elif known := getattr(self, "meta_init_", None):
            plan.check_fits(known)
            plan.become_features(self.module_)
            own = self.module_.learned_at_once
            if plan.classes is not None:
                own = self.module_.learned_of_known
            for parameter in own():
                parameter.requires_grad_(True)
        if self._ranks.world > 1:
            check_shareable(self.module_)
            follows = type(self.module_).follow is not Learner.follow
            self.module_.waiting = [] if follows else None
            self._by_chunks = follows or draws(self.module_)
        self._bring_rows_to_the_device({"iterator_train": plan.train, "iterator_valid": plan.valid})
        threads = few_threads(getattr(self.module_, "convolves", True))
        with self._own_random_numbers(), threads:
            super().partial_fit(plan.train, None)
        check_together(self)
        self.module_.waiting = None
        self._take_best()

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Draw what training draws from generators of this training alone."""
        self._random_numbers = OwnRandomNumbers(self.seed_)
        learner = self.module_
        learner.random_numbers = self._random_numbers
        try:
            # seeing every operation costs time: only where the network itself may draw
            with self._random_numbers if draws(self.module_) else nullcontext():
                yield
        finally:
            del self._random_numbers
            learner.random_numbers = None

    def _take_best(self) -> None:
        """Go back to the weights of the best epoch, where they were kept."""
        stopping = self.__dict__.pop("_stopping")
        self.best_epoch_ = None if stopping.best is None else stopping.best + 1
        if stopping.weights is not None:
            self.module_.load_changing(stopping.weights)

    def _learn_at_once_if_better(self) -> None:
        """Given the features that were learned, learn what has a closed form, if that is better."""
        plan, learner = self.plan_, self.module_
        if not plan.learns_at_once() or self._ranks.same(is_over()):
            return
        known = plan.classes is not None
        own = learner.learned_of_known() if known else learner.learned_at_once()
        if not any(p.requires_grad for p in own):
            return
        judged = self.keep_best and plan.valid is not None and len(self.history)
        if judged:
            before, loss = copy.deepcopy(learner.state_dict()), self._validation_losses()
            learner.eval()
            learn = plan.learn_known_classes if known else plan.learn_at_once
            learned = self._ranks.same(learn(learner))
            self._take_first()
            if learned and not self._validation_losses().mean() < loss.mean():
                learner.load_state_dict(before)
        if known and learner.learned_at_once():  # of other classes nobody is judge
            learner.eval()
            plan.learn_at_once(learner)
            self._take_first()

    def _validation_losses(self) -> np.ndarray:
        """Mean loss of each batch of validation episodes at the present weights."""
        batches = self.get_iterator(self._plan().valid, training=False)
        return np.array([float(self.validation_step(batch)["loss"]) for batch in batches])

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [(n, Progress() if n == "print_log" else c) for n, c in super()._default_callbacks]

    @property
    def _checkpointed(self) -> bool:
        return self.checkpoint is not None and self._plan().checkpointed

    def _has_scheduler(self) -> bool:
        return any(isinstance(callback, LRScheduler) for _, callback in self.callbacks_)

    def _plan(self) -> PastTasks:
        if not hasattr(self, "plan_"):
            raise ValueError(
                "The shape of the data is not known yet: call fit, not initialize or predict."
            )
        return self.plan_

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, Any]:
        """Episodes for training and for validation."""
        return self._plan().train, self._plan().valid

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Loader of batches of tasks; in training, of new tasks every epoch."""
        kind = "iterator_train" if training else "iterator_valid"
        learner = self._plan().estimator._learner_class
        keep, tell = learner.rounds_itself, learner.transductive
        whole = PastTasks.gives_whole(getattr(self, "module_", None))
        collate = partial(pad_tasks, keep_float64=keep, whole=whole, tell_queries=tell)
        options = {"batch_size": self.batch_size, "collate_fn": collate}
        # of its own: torch's loaders draw from the global one only with worker processes
        options["generator"] = torch.Generator()
        if training:
            options["sampler"] = TaskStream(dataset, len(self.history))
        loader = self.iterator_train if training else self.iterator_valid
        return loader(dataset, **(options | self.get_params_for(kind)))

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any) -> Any:
        """Skorch's loop, for the epochs that the checkpoint does not hold yet."""
        resumes = self._checkpointed and self._plan().afresh
        self._stopping = Stopping(
            self.keep_best,
            None if self._has_scheduler() else self.n_iter_no_change,
            self._seconds_for_epochs() if self._ranks.is_first else None,
            len(self.history),
        )
        if resumes:
            load_epoch(self, self.checkpoint, self._plan().fingerprint)  # type: ignore[arg-type]
            epochs = max(0, self.max_epochs - len(self.history))
        if not any(p.requires_grad for p in self.module_.parameters()):
            judged = len(self.history) > self._stopping.first
            epochs = 0 if judged else min(1, self.max_epochs if epochs is None else epochs)
        try:
            with self._ranks.together(Enough):
                self._stopping.check(self.history)
            return super().fit_loop(X, y, epochs=epochs, **fit_params)
        except Enough:
            return self
        except KeyboardInterrupt as stop:
            if self._ranks.world == 1 or isinstance(stop, Agreed):
                raise
            raise RuntimeError(
                "Training was interrupted in the middle of an epoch, in one of several processes. "
                "A callback that ends it must do so in on_epoch_end."
            ) from stop

    def _seconds_for_epochs(self) -> float | None:
        """Seconds that epochs may take; what has a closed form is learned again after them."""
        left = seconds_left()
        if not np.isfinite(left):
            return None
        again = bool(self.module_.learned_at_once())
        return left * (FOR_EPOCHS if again and self._plan().learns_at_once() else 1.0)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        # dropout and the like depend on the epoch alone, so that a resumed run repeats them
        self._random_numbers.seed(self.seed_ + len(self.history))
        super().on_epoch_begin(net, **kwargs)

    def _begin_chunk(self, first: int) -> None:
        # and on the tasks, not on the process that they are run in
        step = self.seed_, len(self.history), len(self.history[-1]["batches"])
        seeds = np.random.SeedSequence(step).generate_state(1, np.uint64)
        self._random_numbers.seed(int(seeds[0]) + first)

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Tell the callbacks; after an epoch's, write the checkpoint."""
        if method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        check_together(self)
        with self._ranks.together(KeyboardInterrupt):
            super().notify(method_name, **kwargs)
        self._stopping.after_epoch(self)
        if self.checkpoint is not None and self._checkpointed:
            told = self._plan().fingerprint
            self._ranks.on_first(partial(save_epoch, self, self.checkpoint, told))
        with self._ranks.together(Enough):
            self._stopping.check(self.history)

    def _make_meta_init(self) -> MetaInit:
        """What was learned so far, which a callback may look at."""
        return learned(self, self._plan())
