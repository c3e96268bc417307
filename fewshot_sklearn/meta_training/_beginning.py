"""What a meta-training begins with: new weights, an encoder's, or all that was learned before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..encoders import wants_ids
from ..estimators import KNOWN
from ..learners import Learner, OwnRandomNumbers
from ..meta_init import MetaInit
from ..pretrained import find_meta_init
from ._past_tasks import PastTasks

#: A meta-init, its name or its file.
Source = MetaInit | str | os.PathLike[str]
#: Weights of an encoder that was pretrained.
Weights = dict[str, torch.Tensor]


def new_learner(
    plan: PastTasks, encoder_from: Source | None, seed: int, pretrained: Weights | None = None
) -> Learner:
    """Build the learner, from the seed or from the estimator's meta-init.

    Parameters
    ----------
    plan : PastTasks
        What is trained on.
    encoder_from : MetaInit, name, path or None
        Whose encoder's weights to start from; not looked at where the estimator has a meta-init.
    seed : int
        Seeds the weights.
    pretrained : dict of str to Tensor or None, default=None
        Weights of the encoder to start from, in the place of those of `encoder_from`.

    Returns
    -------
    Learner
        Ready to be trained.

    Raises
    ------
    ValueError
        When the meta-init, or the encoder of `encoder_from`, is of another shape.
    """
    learner = plan.estimator._new_learner(
        plan.input_shape,
        plan.n_outputs,
        seed,
        table=plan.table,
        n_known=0 if plan.classes is None else len(plan.classes),
        whole=plan.integers,
    )
    start = plan.estimator._resolve_meta_init()
    if start is None:
        X, y = plan.scale_rows()
        if learner.frozen and (init := _found(encoder_from)) is not None:
            _take_encoder(learner, init)
        if learner.frozen:
            Learner.fit_scale(learner, X, None)
            with _ids_known(learner):
                plan.become_features(learner)
            X = plan.scale_rows()[0]
        learner.fit_scale(X, y)
        if not learner.frozen:
            _check_ids(learner, X)
            if pretrained is not None:
                learner.encoder.load_state_dict(pretrained)
            elif (init := _found(encoder_from)) is not None:
                _take_encoder(learner, init)
        own = learner.learned_at_once()
        fixed_encoder = not any(p.requires_grad for p in learner.encoder.parameters())
        own = [] if learner.learns_last else own
        if own and fixed_encoder and plan.learns_at_once() and plan.learn_at_once(learner):
            for parameter in own:
                parameter.requires_grad_(False)
        if plan.classes is not None:
            plan.begin_known_classes(learner)
            learned = fixed_encoder and plan.learns_at_once() and plan.learn_known_classes(learner)
            for parameter in learner.learned_of_known():
                parameter.requires_grad_(not learned)
    else:
        plan.check_fits(start)
        plan.estimator._load(learner, start)
        learner.scales_inputs = bool(start.inputs.get("scaled", True))
        plan.become_features(learner)
    if plan.classes is not None:  # what is for other classes sees none of these episodes
        for name, parameter in learner.named_parameters():
            if not name.startswith(("encoder.", KNOWN)):
                parameter.requires_grad_(False)
    with OwnRandomNumbers(seed + 1):  # not the encoder's seed again
        learner.begin(plan.n_classes)
    return learner


@torch.no_grad()
def _check_ids(learner: Learner, X: torch.Tensor) -> None:
    """Refuse an encoder that looks up ids, where rows hold none, or others than it knows."""
    if not _looks_up(learner):
        return
    was_training = learner.training
    learner.eval()
    like = learner.x_mean.device if learner.integers else learner.x_mean
    with _ids_known(learner):
        Learner.embed(learner, X[:32].to(like))
    learner.train(was_training)


def _looks_up(learner: Learner) -> bool:
    return any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in learner.encoder.modules())


@contextmanager
def _ids_known(learner: Learner) -> Iterator[None]:
    """Say what is wrong where an encoder looks up ids that are none, or none that it knows."""
    try:
        yield
    except (IndexError, RuntimeError) as error:
        if not _looks_up(learner):
            raise
        told = wants_ids(learner.encoder)
        if learner.integers:
            kind = type(learner.encoder).__name__
            told = f"X holds whole numbers that the encoder {kind} does not look up: {error}."
        raise ValueError(told) from error


def begun_from(plan: PastTasks, encoder_from: Source | None) -> MetaInit | None:
    """The meta-init that a training which starts anew has its first weights from."""
    return plan.estimator._resolve_meta_init() or _found(encoder_from)


def _found(init: Source | None) -> MetaInit | None:
    return init if init is None or isinstance(init, MetaInit) else find_meta_init(init)


def _take_encoder(learner: Learner, init: MetaInit) -> None:
    start = "encoder."
    state = init.state_dict().items()
    weights = {k.removeprefix(start): v for k, v in state if k.startswith(start)}
    try:
        learner.encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"encoder_from={init!r} does not fit the encoder "
            f"{type(learner.encoder).__name__}: {error}"
        ) from error
