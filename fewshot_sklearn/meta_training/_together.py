"""What processes that train together must have in common, and what they put together."""

from __future__ import annotations

from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import torch
from skorch.callbacks import (
    Checkpoint,
    MlflowLogger,
    NeptuneLogger,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    WandbLogger,
)

from ..learners import Learner, joined
from ._ranks import Ranks

if TYPE_CHECKING:
    from ._past_tasks import PastTasks

#: Callbacks that only report, which the first process does for all.
REPORTS = (
    MlflowLogger, NeptuneLogger, PrintLog, ProgressBar, SacredLogger, TensorBoard, WandbLogger,
)  # fmt: skip
#: What is wrong where they do not do the same.
OTHER_SETTINGS = (
    "The settings of the training differ between the processes that train together. Give all the "
    "same; where each is to train by itself, say distributed=False."
)
#: By how much of its largest number a tensor of one process may differ from that of the first:
#: what rounding does where processors are not alike.
NEAR = 1e-4


def check_begun(trainer: Any, afresh: bool) -> None:
    """Refuse processes of which each is at a training of its own: before anything else is told.

    Parameters
    ----------
    trainer : MetaTrainer
        About to look at its past.
    afresh : bool
        Whether it starts anew.

    Raises
    ------
    ValueError
        In all processes.
    """
    absent = [getattr(trainer, name) is None for name in ("checkpoint", "fall_back", "pretrain")]
    outline = type(trainer).__name__, type(trainer.estimator).__name__, afresh, absent
    trainer._ranks.check_same(outline, OTHER_SETTINGS)


def check_alike(trainer: Any, plan: PastTasks) -> None:
    """Refuse processes that would not train the same on the same.

    Parameters
    ----------
    trainer : MetaTrainer
        About to train.
    plan : PastTasks
        What it is to be trained on.

    Raises
    ------
    ValueError
        In all processes.
    """
    ranks: Ranks = trainer._ranks
    if ranks.world == 1:
        return
    ranks.check_same(
        plan.data,
        "The past tasks differ between the processes that train together. Each must be given all "
        "of them, in the same order, or a generator that draws from its rng alone; where each is "
        "to train by itself, say distributed=False.",
        plan.outline,
    )
    kinds = [type(one[-1] if isinstance(one, tuple) else one) for one in trainer.callbacks or ()]
    ranks.check_same(
        (plan.fingerprint, trainer.max_epochs, [kind.__name__ for kind in kinds]), OTHER_SETTINGS
    )
    ranks.check_devices(torch.device(trainer.device or "cpu"))


def begin_alike(ranks: Ranks, learner: Learner) -> None:
    """Begin with the weights of the first process, which may have learned some in closed form.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    learner : Learner
        Written to.

    Raises
    ------
    ValueError
        In all processes, where a network of the user's own has other weights in each.
    """
    trained = ranks.same([p.requires_grad for p in learner.parameters()])
    for p, still in zip(learner.parameters(), trained, strict=True):
        p.requires_grad_(still)
    state = learner.state_dict()
    if ranks.agree({k: t for k, t in state.items() if k.startswith("encoder.")}, NEAR):
        raise ValueError(
            "The encoder begins with other weights in each process. A network of one's own must "
            "be built from a seed: call torch.manual_seed before."
        )
    ranks.agree(state)


def check_shareable(learner: Learner) -> None:
    """Refuse a network that processes with a share of the tasks would train differently.

    Raises
    ------
    ValueError
        When it has batch norm that is trained.
    """
    learner.train()
    norm = torch.nn.modules.batchnorm._BatchNorm
    named = learner.named_modules()
    if found := [name for name, m in named if isinstance(m, norm) and m.training]:
        raise ValueError(
            f"The encoder has batch norm ({found[0]}, {len(found)} in all), whose statistics are "
            "of all rows of a batch, and here each process sees its own tasks alone. Take "
            "nn.GroupNorm, freeze_encoder=True, or one process (distributed=False)."
        )


def check_together(trainer: Any) -> None:
    """Refuse to go on where processes have gone apart, by more than rounding.

    Parameters
    ----------
    trainer : MetaTrainer
        In the middle of `fit`, between two steps.

    Raises
    ------
    ValueError, RuntimeError
        In all processes.
    """
    ranks: Ranks = trainer._ranks
    if ranks.world == 1:
        return
    groups = trainer.optimizer_.param_groups
    ranks.check_same(
        [repr({k: v for k, v in g.items() if k != "params"}) for g in groups],
        "The optimizer's settings, such as its lr, differ between the processes: a callback sets "
        "them by what only one process sees.",
    )
    if strays := ranks.agree(trainer.module_.changing_state(), NEAR):
        raise RuntimeError(
            f"Training goes apart between processes in {strays}: something changes them in one "
            "process by what only that one sees, such as statistics of its own tasks, or a "
            "callback. Leave that out, or say distributed=False to train in one process."
        )


def without_reports(callbacks: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The callbacks of a process that neither prints nor writes.

    Parameters
    ----------
    callbacks : list of (str, Callback)
        Initialized.

    Returns
    -------
    list of (str, Callback)
        Those that do more than report.
    """
    for _, callback in callbacks:
        if isinstance(callback, Checkpoint):
            callback.f_pickle = None
    return [(name, callback) for name, callback in callbacks if not isinstance(callback, REPORTS)]


def of_all(ranks: Ranks, outputs: Any) -> Any:
    """Outputs for a whole batch, of which each process has a part.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    outputs : Tensor, Gaussian or None
        Of this one; None where it has none.

    Returns
    -------
    Tensor, Gaussian or None
        On the CPU where there are several processes.
    """
    if ranks.world == 1:
        return outputs
    parts = [part for part in ranks.gathered(_on_cpu(outputs)) if part is not None]
    return joined(parts, torch.cat) if parts else None


def follow(ranks: Ranks, learner: Learner, chunks: list[int]) -> None:
    """Let a learner that follows the rows it is trained on see those of all processes.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    learner : Learner
        It has seen some chunks of the tasks of a batch.
    chunks : list of int
        Their numbers; of one that is shared each process has a part.
    """
    if learner.waiting is None:
        return
    found = ranks.gathered([*zip(chunks, map(_on_cpu, learner.waiting), strict=True)])
    for _, parts in groupby(chain(*found), key=itemgetter(0)):
        learner.follow(torch.cat([Z for _, Z in parts]).to(learner.x_mean.device))
    learner.waiting.clear()


def _on_cpu(outputs: Any) -> Any:
    """Outputs as they are sent to another process."""
    if isinstance(outputs, torch.Tensor):
        return outputs.detach().cpu()
    return outputs if outputs is None else type(outputs)(*map(_on_cpu, outputs))
