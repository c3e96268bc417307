"""What a step of meta-training asks of a GPU: kernels, and waits of the host.

    python -m pretended_gpu.steps [BEGINNING OF A NAME ...]

Prints a line of JSON for each method and encoder. In tests/; torch must not be imported before.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from typing import Any

from .gpu import log, pretended

import torch  # isort: skip

from fewshot_sklearn import MetaTrainer  # isort: skip
from fewshot_sklearn.estimators import FewShotClassifier  # isort: skip
from .works import ESTIMATORS, SHORT, encoders_of, made, past, ways  # isort: skip

#: Batches of an epoch whose costs are compared: the rest of an epoch costs the same in both.
FEW, MORE = 1, 2


def epoch(trainer: Any, data: Any, n_tasks: int, n_steps: int, n_valid: int) -> tuple[int, Counter]:
    """Kernels and waits of an epoch."""
    trainer.set_params(
        n_episodes=n_tasks * n_steps, batch_size=n_tasks, n_valid_episodes=n_tasks * n_valid
    )
    log.clear()
    trainer.partial_fit(*data)
    return sum(log.kernels.values()), Counter(log.waits)


def told(name: str, encoder: str) -> dict[str, Any]:
    """Kernels and waits of a step of training and of one of validation, by tasks of a batch."""
    estimator = made(name, encoder)
    data = past(estimator, encoder)
    options = SHORT | (ways(estimator) if issubclass(type(estimator), FewShotClassifier) else {})
    found: dict[str, Any] = {"name": f"{name}, {encoder}", "kernels": [], "waits": []}
    with pretended():
        trainer = MetaTrainer(estimator, device="cuda", compile=False, **options).fit(*data)
        for n_tasks in (2, 3):
            few, before = epoch(trainer, data, n_tasks, FEW, FEW)
            more, after = epoch(trainer, data, n_tasks, MORE, FEW)
            _, valid = epoch(trainer, data, n_tasks, FEW, MORE)
            found["kernels"].append((more - few) / (MORE - FEW))
            for longer in (after, valid):
                found["waits"] += [f"{line}: {why}" for line, why in longer - before]
    return found | {"waits": sorted(set(found["waits"]))}


def main() -> None:
    """Tell of those whose names begin so, or of all."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in ESTIMATORS:
        for encoder in encoders_of(name):
            one = f"{name}, {encoder}"
            if not sys.argv[1:] or one.startswith(tuple(sys.argv[1:])):
                print(json.dumps(told(name, encoder)), flush=True)


if __name__ == "__main__":
    main()
