"""Attention that can be differentiated twice, as meta-training through gradient steps has to.

torch's fused kernels of ``scaled_dot_product_attention`` have a first derivative only. Choosing
another kernel by ``torch.nn.attention.sdpa_kernel`` would do, but that sets a flag of the whole
process, which other threads see.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .random_numbers import KNOWN


def may_attend(encoder: nn.Module) -> bool:
    """Whether a network may call torch's attention; True where that is not known."""
    for part in encoder.modules():
        if isinstance(part, nn.MultiheadAttention) or not type(part).__module__.startswith(KNOWN):
            return True
    return False


class AttentionWrittenOut(TorchFunctionMode):
    """Within this context, in this thread, torch's attention is run in elementary operations."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _attended(*args, **kwargs)
        if func is F.multi_head_attention_forward and not kwargs.get("need_weights", True):
            # it is run in elementary operations where the weights are asked for
            return func(*args, **(kwargs | {"need_weights": True}))[0], None
        return func(*args, **kwargs)


def _attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q K' / sqrt(d)) V, as torch documents it."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
    scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        else:
            scores = scores + attn_mask
    weights = scores.softmax(-1)
    return (F.dropout(weights, dropout_p) if dropout_p else weights) @ value
