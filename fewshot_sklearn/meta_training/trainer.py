"""Meta-training: learning an initialization from past tasks, with skorch's training loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import check_is_fitted

from ..estimators import (
    Device,
    FewShotEstimator,
    classes_of_past,
    final_step,
    resolve_device,
)
from ..learners import episode_loss, seconds_left, within
from ..meta_init import MetaInit
from ..model_selection import few_shot_score
from ..tasks import (
    Anything,
    Constraint,
    FilePath,
    Flag,
    Function,
    IntOrRange,
    Kind,
    Number,
    OneOf,
    Positive,
    Seed,
    TaskLoader,
    Whole,
    WholeOrRange,
    check_parameters,
    did_you_mean,
    warn_of_n_way,
)
from ._falling_back import FOR_TRAINING, check_fall_back, with_fall_back
from ._ranks import joined, own_gpu
from ._training import Training
from ._training_loop import EpisodicNet

#: What skorch hands to the constructor when it clones or loads.
_KEPT = ("history", "initialized_", "virtual_params_")
#: Of skorch's parameters, those that have no meaning here.
_NOT_OURS = {"module", "train_split", "dataset", "predict_nonlinearity", "use_caching"}


class MetaTrainer(Training):
    """Learn an initialization from past tasks, with skorch's training loop.

    One item of a batch is one episode: a few support rows to adapt to, a few
    query rows to be judged on. Everything skorch's ``NeuralNet`` offers works:
    callbacks (EarlyStopping on ``valid_loss``, Checkpoint, LRScheduler,
    ProgressBar), ``optimizer__*``, ``iterator_train__num_workers``, the history
    and the progress table.

    Parameters
    ----------
    estimator : estimator
        What to meta-train, such as ``ProtoNetClassifier(encoder="conv4")``; or a
        pipeline that ends in it, whose other steps are fitted once, to the rows that
        are trained on, and stay so for ever (`sklearn.frozen.FrozenEstimator`). It is
        not changed. If it has a meta-init, training goes on from there.
    n_way : int or (low, high), default=5
        Classes an episode; classification only: with a regressor another number than the
        default warns.
    n_shot : int or (low, high), default=5
        Support rows a class (a task, for regression).
    n_query : int, (low, high) or None, default=15
        Query rows a class (a task); None takes all that the support leaves.
    n_unlabelled : int, default=0
        Support rows a class whose label is not told, for estimators that can use
        them (``ProtoNetClassifier(unlabelled=...)``).
    n_divisions : int, default=1
        Ways in which the rows of a training episode are divided into support and queries, as many
        of each as drawn. They are embedded once, which is most of the cost: with 1 row a class to
        learn from and 3 to be judged on, 4 divisions have each of the four as the support row. Not
        for methods that adapt the encoder, or that learn to tell all past classes apart.
    classes : {"auto", "recur", "anew"}, default="auto"
        Whether the class labels of past tasks mean the same in all of them, such as
        churned and stayed for every customer: ``"recur"``; or are new ones in every task:
        ``"anew"``. Of classes that recur `RidgeHeadClassifier` and `ProtoNetClassifier`
        learn what each is like: they predict without a label, and classes without a
        labelled row (see Notes). ``"auto"`` goes by the past, for these two.
    n_episodes : int, default=320
        Training tasks an epoch, each drawn afresh.
    validation_fraction : float, default=0.1
        Share of the groups (of the classes, without groups) kept for
        ``valid_loss``; 0 for none. Never single rows.
    n_valid_episodes : int, default=160
        Validation tasks, the same ones every epoch.
    categorical_features : "from_dtype", sequence of int, str or bool, or None, \
default="from_dtype"
        Which columns of a table hold categories: those of strings and of pandas' or
        polars' categorical types, or those numbered, named or marked. Of up to 8
        categories each has a column of its own; of more the encoder learns what each
        is like (Guo and Berkhahn 2016). Dates become days. Where numbers are missing,
        the mean of the past stands, and a column says so. All this is learned from the
        past tasks, is part of the meta-init, and is what later rows are read by.
    fall_back : "strong", dict of str to estimator, or None, default=None
        What stands beside the estimator in case it is not better, or not at all numbers
        of labels: `estimator_` is then a ``StrategyRegressor`` (``StrategyClassifier``)
        of it and of the baselines that ``compare_few_shot`` calls strong, or of those
        given, by name: ``{"ridge": Ridge()}``, which see the labelled rows alone and take
        the rows as they come. Its weights, by number of labels, are those of least squared
        error on past tasks: each part of them is held out once, and all is learned from the
        others. One warning names those that failed, and why.
    fall_back_parts : int, default=5
        Number of these parts; all is trained once more for each. No more than there
        are past tasks; of past classes without groups, than half of these.
    augment : callable or None, default=None
        ``augment(X, rng) -> X``, applied to the rows of each training episode.
    encoder_from : MetaInit, name, path or None, default=None
        A meta-init, of any method, whose encoder's weights training starts from; it
        must have the same encoder. None starts from random ones.
    pretrain : {"labels"} or None, default=None
        What trains the encoder before there are episodes (Chen et al. 2021; Hu et al. 2022):
        ``"labels"`` is one layer on top of it for all past tasks at once, thrown away afterwards.
        Classification: cosines to a vector for each past class, by batches of 64 rows, `augment`
        applied; those of classes held out for validation are left out. Regression: a linear layer
        for each task, in closed form, as `RidgeHeadRegressor` has it.
    pretrain_epochs : int, default=20
        Epochs of it, in each of which a row has one turn on average (of a regression, `n_episodes`
        tasks have). They go before `max_epochs`, with `lr`, which falls to 0.
    encoder_lr : float or None, default=None
        Learning rate of the encoder's weights, such as a tenth of `lr` for a network that has
        learned much already. None is `lr`.
    checkpoint : path-like or None, default=None
        File that holds the state after each epoch. If it exists, `fit` goes on
        from it and ends, at `max_epochs` in all, with exactly the weights that
        an uninterrupted run gives.
    chunk_size : int, None or "auto", default="auto"
        Tasks between two backward passes of a step, which bounds its memory:
        the loss, a mean over the tasks, is accumulated over chunks. ``"auto"``
        fits the processor's cache; None takes all at once.
    precision : {"fp32", "tf32", "bf16"}, default="fp32"
        ``"tf32"`` rounds the factors of products as a GPU's tensor cores do (on a
        CPU it changes nothing). ``"bf16"`` computes products in bfloat16 while
        training, where that is quicker and safe: in encoders, in MAML's query
        pass and, if it is first order, in its steps. What is learned stays
        float32.
    compile : bool or "auto", default="auto"
        Whether training runs kernels compiled by ``torch.compile``, where that
        makes it quicker: MAML of fully connected networks. Compiling takes tens
        of seconds, so ``"auto"`` does it for long trainings only (from 10,000 or
        50,000 planned steps on, by how much it saves) and where there is a C++
        compiler.
    distributed : bool or "auto", default="auto"
        Whether several processes train together, each on a share of the tasks of every batch
        (see Notes). ``"auto"`` does so where ``torchrun`` has started this process, or
        ``torch.distributed`` is initialized. False trains alone. True is an error without others.
    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, the held-out tasks and the stream of episodes.
    criterion : callable, default=episode_loss
        ``criterion(outputs, y_query) -> loss``, a mean over the tasks, so that chunks and
        processes may each have some. The default is the loss of the estimator's method.
    optimizer : torch.optim.Optimizer class, default=torch.optim.Adam
        Outer-loop optimizer; ``optimizer__*`` sets its arguments.
    lr : float, default=1e-3
        Outer-loop learning rate.
    max_epochs : int, default=100
        Number of epochs, at most.
    n_iter_no_change : int or None, default=10
        Training ends after so many epochs in which ``valid_loss`` did not fall; after
        each half of them the learning rate is multiplied by 0.3 (not where a callback
        is an ``LRScheduler``). None goes on to `max_epochs`, as does a training without
        validation.
    keep_best : bool, default=True
        Whether what is learned are the weights after the epoch of least ``valid_loss``,
        and not after the last.
    time_budget : float or None, default=None
        Seconds that `fit` may take, as nearly as possible: the search of what has a closed
        form ends by then, encoders that are tried share it, and no epoch begins that would
        likely end later. With `fall_back` a quarter is for the training itself; no model of
        past rows is begun after half, and as many parts are tried as the rest allows; a
        warning tells what is left out. What always runs: reading the data, one epoch,
        and one part, with as few episodes. What is not cut short, once begun: an epoch,
        and one fit of a model of past rows, such as a pooled network, which large tables
        make take a minute.
    batch_size : int, default=16
        Tasks a step.
    device : str or None, default="auto"
        Where to train; ``"auto"`` is the GPU where there is one, and of several processes on a
        machine a GPU each.
    iterator_train, iterator_valid : torch.utils.data.DataLoader class, default=TaskLoader
        Loaders; ``iterator_train__num_workers=2`` draws the episodes in two
        processes of their own.
    **kwargs
        Further parameters of skorch's ``NeuralNet``.

    Attributes
    ----------
    estimator_ : estimator
        A clone of `estimator` that carries the learned meta-init; a pipeline with its
        other steps frozen, which takes the rows that `fit` took. With `fall_back`, this
        and what stands beside, weighed.
    meta_init_ : MetaInit
        What was learned.
    best_epoch_ : int or None
        Number of the epoch whose weights these are, from 1; None without validation.
    history : skorch.history.History
        Losses by epoch and batch.
    module_ : Learner
        The trained learner.
    pretrain_history_ : skorch.history.History
        Of the pretraining; its ``dur`` are seconds.

    See Also
    --------
    few_shot_score : Score on tasks kept out of meta-training.

    Notes
    -----
    Where the estimator has no `encoder`, one is chosen. Rows (height, width, channels) or
    (channels, height, width), and (height, width) of at least 8 whose sides differ by at most a
    factor of two, are images: ``"conv4"``. Others of two axes are series (n_times, n_channels):
    ``"series"``. Of rows of numbers, `RidgeHeadRegressor` takes lines or, where Akaike's
    criterion of all past tasks is lower by 10, curves (``"spline"``); other methods take the
    rows. From 50 past tasks (classes, without groups) on ``"mlp"`` is trained too, and taken
    where its validation losses are lower by more than a standard error; methods that adapt the
    encoder take it without a comparison, and those with a network of their own take the rows.

    Class labels recur if there are `groups` and 2 to 20 labels, and a class of one task is
    one of another task at least half the time; more than two, which may number other things
    in every task, must be alike over tasks, too, in how often they occur and in the
    means of their features (see `fewshot_sklearn.tasks.labels_recur`). An episode is then
    a task's labelled rows as they come: from none to `n_shot` times the number of
    classes, and `n_query` times as many to be judged on; `n_way` says nothing.

    Several processes, ``torchrun --nproc-per-node 2 script.py``, each run this script with all
    past tasks, draw the same batches, of `batch_size` tasks in all, and compute a share of each.
    Losses and gradients are added up over them, so that they go the same way as one process does,
    but for rounding, and all end with the same `estimator_`. The first one prints, and writes
    files; checkpoints go on in any number of processes. What draws random numbers in training,
    such as dropout, draws for a chunk of tasks: it draws what one process of the same
    `chunk_size` does if there are at least as many chunks in a batch as processes. Not shared,
    and refused: encoders with batch norm that is trained, and sparse gradients.

    Examples
    --------
    >>> from fewshot_sklearn import MetaTrainer, RidgeHeadRegressor
    >>> from fewshot_sklearn.datasets import make_sinusoid_tasks
    >>> past = make_sinusoid_tasks(200, random_state=0)
    >>> trainer = MetaTrainer(
    ...     RidgeHeadRegressor(encoder="mlp"), lr=5e-3, max_epochs=20, random_state=0, verbose=0
    ... )
    >>> reg = trainer.fit(past.data, past.target, groups=past.groups).estimator_
    >>> reg.meta_init.spec["algorithm"]
    'RidgeHeadRegression'
    >>> new = make_sinusoid_tasks(1, random_state=1)
    >>> X, y = new.data, new.target
    >>> reg.fit(X[:5], y[:5]).score(X[5:], y[5:]) > 0.8
    True
    """

    _constraints: dict[str, Constraint] = {
        "estimator": Anything(),
        "n_way": WholeOrRange(2) | None,
        "n_shot": WholeOrRange(0),
        "n_query": WholeOrRange(1) | None,
        "n_unlabelled": Whole(0),
        "n_divisions": Whole(1),
        "classes": OneOf("auto", "recur", "anew"),
        "n_episodes": Whole(1),
        "validation_fraction": Number(0, below=1),
        "n_valid_episodes": Whole(1),
        "categorical_features": Anything(),  # see TableFormat.of
        "fall_back": OneOf("strong") | Kind(dict, told="a dict of estimators") | None,
        "fall_back_parts": Whole(2),
        "augment": Function("a function augment(X, rng) -> X", 2) | None,
        "encoder_from": Kind(MetaInit, told="a MetaInit, a name") | FilePath() | None,
        "pretrain": OneOf("labels") | None,
        "pretrain_epochs": Whole(1),
        "encoder_lr": Number(0) | None,
        "checkpoint": FilePath() | None,
        "chunk_size": Whole(1) | OneOf("auto") | None,
        "precision": OneOf("fp32", "tf32", "bf16"),
        "compile": Flag() | OneOf("auto"),
        "distributed": Flag() | OneOf("auto"),
        "random_state": Seed(),
        "criterion": Function("a function criterion(outputs, y_query) -> loss"),
        "optimizer": Function("a class of torch.optim"),
        "lr": Number(0),
        "max_epochs": Whole(0),
        "n_iter_no_change": Whole(1) | None,
        "keep_best": Flag(),
        "time_budget": Positive() | None,
        "batch_size": Whole(1),
        "device": Device(or_none=True),
        "iterator_train": Function("a class of loaders"),
        "iterator_valid": Function("a class of loaders"),
        "callbacks": Anything(),
        "verbose": Whole(0) | Flag(),
        "warm_start": Flag(),
        "torch_load_kwargs": Kind(dict, told="a dict") | None,
    }

    __metadata_request__fit = {"groups": True}
    __metadata_request__partial_fit = {"groups": True}
    __metadata_request__score = {"groups": True}

    def __init__(
        self,
        estimator: FewShotEstimator,
        *,
        n_way: IntOrRange = 5,
        n_shot: IntOrRange = 5,
        n_query: IntOrRange | None = 15,
        n_unlabelled: int = 0,
        n_divisions: int = 1,
        classes: str = "auto",
        n_episodes: int = 320,
        validation_fraction: float = 0.1,
        n_valid_episodes: int = 160,
        categorical_features: Any = "from_dtype",
        fall_back: Any = None,
        fall_back_parts: int = 5,
        augment: Callable[..., Any] | None = None,
        encoder_from: MetaInit | str | os.PathLike[str] | None = None,
        pretrain: str | None = None,
        pretrain_epochs: int = 20,
        encoder_lr: float | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        chunk_size: int | str | None = "auto",
        precision: str = "fp32",
        compile: bool | str = "auto",
        distributed: bool | str = "auto",
        random_state: Any = None,
        criterion: Any = episode_loss,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-3,
        max_epochs: int = 100,
        n_iter_no_change: int | None = 10,
        keep_best: bool = True,
        time_budget: float | None = None,
        batch_size: int = 16,
        device: Any = "auto",
        iterator_train: Any = TaskLoader,
        iterator_valid: Any = TaskLoader,
        **kwargs: Any,
    ):
        self._refuse_strangers(kwargs)
        self.estimator = estimator
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.n_unlabelled = n_unlabelled
        self.n_divisions = n_divisions
        self.classes = classes
        self.n_episodes = n_episodes
        self.validation_fraction = validation_fraction
        self.n_valid_episodes = n_valid_episodes
        self.categorical_features = categorical_features
        self.fall_back = fall_back
        self.fall_back_parts = fall_back_parts
        self.augment = augment
        self.encoder_from = encoder_from
        self.pretrain = pretrain
        self.pretrain_epochs = pretrain_epochs
        self.encoder_lr = encoder_lr
        self.checkpoint = checkpoint
        self.chunk_size = chunk_size
        self.precision = precision
        self.distributed = distributed
        self.random_state = random_state
        self.n_iter_no_change = n_iter_no_change
        self.keep_best = keep_best
        self.time_budget = time_budget
        super().__init__(
            module=None,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_split=None,
            compile=compile,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            device=own_gpu(resolve_device(device)) if device == "auto" else device,
            **kwargs,
        )

    # ------------------------------------------------------------------ parameters
    def _refuse_strangers(self, given: dict[str, Any]) -> None:
        """Refuse arguments that neither the trainer nor skorch knows, as Python does."""
        whose = (type(self).__init__, MetaTrainer.__init__, EpisodicNet.__init__)
        named = {name for one in whose for name in signature(one).parameters}
        known = {*named, *_KEPT} - {"self", "kwargs", *_NOT_OURS}
        strangers = [n for n in given if n not in known and "__" not in n and n[0] != "_"]
        if strangers:
            raise TypeError(
                f"{type(self).__name__} got unexpected argument(s) {strangers}"
                f"{did_you_mean(strangers, known)}."
            )

    def _get_param_names(self) -> list[str]:
        return [name for name in super()._get_param_names() if name not in _NOT_OURS]

    def set_params(self, **params: Any) -> MetaTrainer:
        """Set parameters, ``estimator__*`` and ``callbacks__*`` included.

        Parameters
        ----------
        **params : dict
            Parameter names and values.

        Returns
        -------
        self : object
            The trainer.
        """
        if "estimator" in params:
            self.estimator = params.pop("estimator")
        prefix = "estimator__"
        inner = {k.removeprefix(prefix): v for k, v in params.items() if k.startswith(prefix)}
        if inner:
            self.estimator.set_params(**inner)
        if params.get("device") == "auto":
            params["device"] = own_gpu(resolve_device("auto"))
        super().set_params(**{k: v for k, v in params.items() if not k.startswith(prefix)})
        return self

    # ------------------------------------------------------------------ fit
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> MetaTrainer:
        """Meta-train on past tasks.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape), or callable
            Rows of all past tasks; or a generator of tasks, ``generator(rng) ->
            (X, y, X_query, y_query)``.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), default=None
            Labels or targets; not with a generator.
        groups : array-like of shape (n_rows,) or None, default=None
            Regression: the task of each row. Classification: optional; the
            classes of an episode then come from one group, and may be the same in
            all groups (see `classes`).

        Returns
        -------
        self : object
            The trainer.

        Raises
        ------
        ValueError
            When the data does not fit the estimator, or `checkpoint` belongs to
            other settings or data; when processes that train together have other data or
            settings, or a network that they cannot share.
        RuntimeError
            When what they train goes apart.

        Warns
        -----
        UserWarning
            One warning counts tasks and classes that are too small; one tells of a past of
            a single task, from which nothing can be learned of how tasks differ.
        """
        return self._fit(X, y, groups, afresh=not self.warm_start or not self.initialized_)

    def partial_fit(
        self, X: Any, y: Any = None, groups: Any = None, classes: Any = None
    ) -> MetaTrainer:
        """Train for `max_epochs` more, from where training stands.

        Parameters
        ----------
        X, y, groups : see `fit`
            Past tasks.
        classes : object, default=None
            Ignored; skorch has it.

        Returns
        -------
        self : object
            The trainer.
        """
        return self._fit(X, y, groups, afresh=not self.initialized_)

    def _fit(self, X: Any, y: Any, groups: Any, afresh: bool) -> MetaTrainer:
        check_parameters(self)
        tagged = hasattr(self.estimator, "__sklearn_tags__")  # or else training says what is wrong
        if self._tells and tagged and is_regressor(self.estimator):
            warn_of_n_way(self.n_way, final_step(self.estimator))
        with (
            joined(self.distributed) as ranks,
            self._among(ranks),
            within(self.time_budget),
        ):
            if self.fall_back is None:
                self._train(X, y, groups, afresh)
                return self
            check_fall_back(self, X, y, groups)
            began = time.monotonic()
            with within(seconds_left() * FOR_TRAINING):
                self._train(X, y, groups, afresh)
            took = time.monotonic() - began
            self.estimator_ = with_fall_back(self, X, y, groups, took)
        return self

    # ------------------------------------------------------------------ score
    def score(self, X: Any, y: Any, groups: Any = None, sample_weight: None = None) -> float:
        """Mean score over 600 episodes of tasks that were not trained on.

        Parameters
        ----------
        X, y, groups : see `fit`
            Rows of other tasks.
        sample_weight : None
            For scikit-learn's tools, which hand it on; episodes have no weights.

        Returns
        -------
        float
            Mean accuracy or R^2 after adapting to `n_shot` rows.

        Raises
        ------
        ValueError
            When weights are given.
        """
        if sample_weight is not None:
            raise ValueError("sample_weight must be None: the rows of episodes weigh the same.")
        check_is_fitted(self, "estimator_")
        estimator = self.estimator_
        return few_shot_score(
            estimator,
            X,
            y,
            groups,
            n_way=self._n_way_of_scores(),
            n_shot=self.n_shot,
            n_query=self.n_query,
            random_state=self.seed_,
        ).mean

    def _n_way_of_scores(self) -> IntOrRange | None:
        """Classes of an episode to be scored on; None is whole tasks."""
        recur = classes_of_past(self.meta_init_) is not None
        return self.n_way if is_classifier(self.estimator) and not recur else None

    def predict(self, X: Any) -> Any:
        """Not available: adapt `estimator_` to a task first."""
        raise AttributeError(
            "A MetaTrainer does not predict. Adapt what it learned to a task first: "
            "trainer.estimator_.fit(X_support, y_support).predict(X)."
        )

    predict_proba = predict
