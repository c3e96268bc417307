"""Options of the package that a version, or this processor, may not have."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from fewshot_sklearn import MetaTrainer


def without(kind: type, option: str) -> str | None:
    """A line that says a class lacks an option, or None where it has it."""
    if option in inspect.signature(kind).parameters:
        return None
    return f"{kind.__name__} has no parameter {option}: not measured."


def without_bf16() -> str | None:
    """A line that says why bfloat16 cannot be measured, or None where it can."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "This processor has no bfloat16 instructions: not measured."
    return without(MetaTrainer, "precision")


def given(kind: type, **options: Any) -> dict[str, Any]:
    """Those of the options that a class has."""
    return {name: value for name, value in options.items() if without(kind, name) is None}
