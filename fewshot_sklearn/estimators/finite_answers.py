"""Answers are finite numbers, or there are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..meta_init import MetaInit


@contextmanager
def solvable(init: MetaInit, where: str) -> Iterator[None]:
    """Refuse a task whose equations have no solution in floating point."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            f"{where} finds no finite answer with {init.told}: {error} The rows are too unlike "
            "those that it was trained on, or it is damaged."
        ) from error


def refuse_infinite(outputs: Any, n_outputs: int | None, init: MetaInit) -> None:
    """Refuse what a learner predicted if it is not finite: infinity is for absent classes only."""
    parts = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    # looked at as arrays: what torch computes is counted
    arrays = [part.detach().cpu().numpy() for part in parts]
    if n_outputs is None:
        arrays = [array.max(-1) for array in arrays]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(
            f"X holds rows for which {init.told} gives no finite answer: they are too unlike those "
            "that it was trained on, or it is damaged."
        )
