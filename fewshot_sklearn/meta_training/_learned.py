"""What a meta-training leaves: a meta-init that says where it comes from."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import sklearn
import torch

from .. import __version__
from ..estimators import frozen_steps
from ..learners import Learner
from ..meta_init import MetaInit, RowSketch
from ..tasks import labels_to_json
from ._beginning import begun_from
from ._past_tasks import PastTasks


@torch.no_grad()
def finish(learner: Learner, plan: PastTasks) -> None:
    """Let a trained learner see some rows of the past once more, where its method asks for that."""
    learner.eval()
    if type(learner).finish is Learner.finish:
        return
    rows = plan.rows_to_finish_with()
    like = learner.x_mean
    whole = PastTasks.gives_whole(learner)
    learner.finish(rows.to(like.device, torch.long if whole else like.dtype))


def learned(trainer: Any, plan: PastTasks) -> MetaInit:
    """What a trainer has learned so far, as an artefact.

    Parameters
    ----------
    trainer : MetaTrainer
        Initialized; trained or in the middle of it.
    plan : PastTasks
        What it is trained on.

    Returns
    -------
    MetaInit
        The learner's lasting state, how to rebuild it, and its provenance: tasks and rows, those
        of earlier trainings included, settings, scores and versions.
    """
    spec = plan.estimator._spec(trainer.module_)
    if seen := plan.range_of_pixels(trainer.module_):
        spec["inputs"] = spec.get("inputs", {}) | seen
    if plan.feature_names is not None and plan.table is None:
        spec["feature_names"] = plan.feature_names
    if plan.classes is not None:
        spec["classes"] = labels_to_json(plan.classes)
    best = getattr(trainer, "best_epoch_", None)
    last = trainer.history[-1 if best is None else best - 1] if len(trainer.history) else {}
    # a generator draws tasks of its own sizes
    told: tuple[str, ...] = ("lr",)
    if plan.tasks is not None:
        told = ("n_way", "n_shot", "n_query", "lr")
    if trainer.pretrain is not None:
        told += ("pretrain", "pretrain_epochs")
    earlier = begun_from(plan, trainer.encoder_from) if plan.afresh else trainer.meta_init_
    before = {} if earlier is None else earlier.provenance
    provenance = {
        "tasks": _tasks_seen(plan.tasks, before.get("tasks")),
        "rows": _rows_seen(plan.row_sketch, before.get("rows")),
        "steps": [_told(getattr(one, "estimator", one)) for one in frozen_steps(plan.whole)[0]],
        "settings": {name: getattr(trainer, name) for name in told},
        "tasks_per_step": trainer.batch_size,
        "tasks_seen": trainer.n_episodes * len(trainer.history),
        "seed": trainer.seed_,
        "scores": {
            name: float(last[name]) for name in ("train_loss", "valid_loss") if name in last
        },
        "versions": {
            "fewshot_sklearn": __version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
    }
    theirs, spec = plan.estimator._left_to_the_user(trainer.module_, spec)
    lasting = trainer.module_.lasting_state().items()
    state = {name: t for name, t in lasting if name not in theirs}
    try:
        return MetaInit.from_state(state, spec, provenance, plan.table)
    except ValueError as error:
        raise ValueError(
            f"Training went astray, so that nothing was learned: {error} Take a smaller lr than "
            f"{trainer.lr!r}."
        ) from error


def _tasks_seen(new: dict[str, Any] | None, old: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ids of the tasks trained on now and before."""
    if new is None or old is None or old["kind"] != new["kind"]:
        return new or old
    ids = list(dict.fromkeys([*old["ids"], *new["ids"]]))
    return {"kind": new["kind"], "count": len(ids), "ids": ids}


def _rows_seen(new: RowSketch | None, old: dict[str, Any] | None) -> dict[str, Any] | None:
    """Digests of the rows trained on now and before."""
    if new is None or old is None:
        return old if new is None else new.to_json()
    return new.union(RowSketch.from_json(old)).to_json()


def _told(step: Any) -> str:
    """A step of a pipeline as it is written, the same in every process: a function by its name."""
    return re.sub(r"<(?:bound method|function|built-in function) ([\w.]+)[^>]*>", r"\1", repr(step))
