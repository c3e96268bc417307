"""The encoder is trained before there are episodes, under one layer for all past tasks at once.

Y. Chen, Z. Liu, H. Xu, T. Darrell and X. Wang. Meta-Baseline: exploring simple meta-learning for
few-shot learning. ICCV 2021.

S. X. Hu, D. Li, J. Stühmer, M. Kim and T. M. Hospedales. Pushing the limits of simple pipelines
for few-shot learning: external data and fine-tuning make a difference. CVPR 2022.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from skorch.callbacks import LRScheduler

from ..algorithms import BaselinePlusPlusClassifier, RidgeHeadRegressor
from ..learners import seconds_left, within

if TYPE_CHECKING:
    from ._past_tasks import PastTasks

#: Rows of a step, where past classes are told apart.
ROWS = 64
#: Of the time that there is.
SHARE = 0.5
#: What the training before the episodes has from the one it is for.
SHARED = (
    "n_way", "n_shot", "n_query", "n_episodes", "augment", "encoder_from", "precision", "compile",
    "optimizer", "lr", "device", "iterator_train", "iterator_valid", "verbose",
)  # fmt: skip
_PREFIXES = ("optimizer__", "iterator_train__", "iterator_valid__")


def check_pretraining(trainer: Any, plans: list[PastTasks]) -> None:
    """Refuse to pretrain where there is nothing to do it with, or it is done already.

    Parameters
    ----------
    trainer : MetaTrainer
        Asks for it.
    plans : list of PastTasks
        What it trains on, with each encoder that is tried.

    Raises
    ------
    ValueError
        When no encoder has weights to train, or it comes with a meta-init, or past classes come
        from a generator.
    """
    plan, told = plans[0], f"pretrain={trainer.pretrain!r}"
    if plan.estimator.meta_init is not None:
        raise ValueError(
            f"{told} trains a new encoder, but the estimator has a meta-init, from which training "
            "goes on. Leave one out; encoder_from=meta_init pretrains from its encoder."
        )
    if plan.classification and plan.tasks is None:
        raise ValueError(
            f"{told} tells the past classes apart: it needs them as arrays, not a generator of "
            "tasks."
        )
    if not any(map(_weights, plans)):
        raise ValueError(
            f"{told} trains the encoder, but {_called(plan)} has no weights that are trained. Say "
            'encoder="mlp", "conv4" or another that learns, or leave pretrain out.'
        )


def _called(plan: PastTasks) -> str:
    frozen = " (frozen)" if plan.estimator.freeze_encoder else ""
    return f"that of {type(plan.estimator).__name__}, {plan.encoder_told}{frozen},"


def _weights(plan: PastTasks) -> bool:
    """Whether there is something to train in the encoder."""
    learner = plan.estimator._new_learner(
        plan.input_shape, plan.n_outputs, plan.trainer.seed_, table=plan.table, whole=plan.integers
    )
    return any(p.requires_grad for p in learner.encoder.parameters())


def pretrained_encoder(trainer: Any, plan: PastTasks) -> tuple[dict[str, torch.Tensor] | None, Any]:
    """Train the encoder under one layer for all past tasks.

    Parameters
    ----------
    trainer : MetaTrainer
        About to train on episodes.
    plan : PastTasks
        What it trains on, its encoder chosen.

    Returns
    -------
    weights : dict of str to Tensor or None
        Of the encoder; None where it has none to train.
    history : skorch.history.History or None
        How training went.
    """
    if not _weights(plan):
        return None, None
    from .trainer import MetaTrainer  # which asks for this

    given = trainer.get_params(deep=False)
    options = {name: v for name, v in given.items() if name in SHARED or name.startswith(_PREFIXES)}
    options |= {"checkpoint": _beside(trainer.checkpoint), "max_epochs": trainer.pretrain_epochs}
    head = _under_one_layer(plan)
    falling = LRScheduler("CosineAnnealingLR", T_max=trainer.pretrain_epochs)
    # a step takes `ROWS` rows of all classes, or as many tasks as it does later
    size = 1 if plan.classification else trainer.batch_size
    before = MetaTrainer(head, batch_size=size, callbacks=[("falling", falling)], **options)
    before.seed_, before._ranks = trainer.seed_, trainer._ranks
    with within(seconds_left() * SHARE):
        before._descend_on(plan.to_pretrain(before, head, ROWS))
    weights = before.module_.encoder.state_dict()
    return {name: t.detach().cpu() for name, t in weights.items()}, before.history


def _under_one_layer(plan: PastTasks) -> Any:
    """An estimator of the same encoder with a layer on top that is trained, or solved, at once."""
    asked = plan.estimator
    kind = BaselinePlusPlusClassifier if plan.classification else RidgeHeadRegressor
    own = {f"encoder__{name}": value for name, value in asked._encoder_params().items()}
    return kind(encoder=asked.encoder, scale_inputs=asked.scale_inputs, layout=asked.layout, **own)


def _beside(checkpoint: Any) -> str | None:
    """File that holds the state of the pretraining."""
    return None if checkpoint is None else f"{os.fspath(checkpoint)}.pretraining"
