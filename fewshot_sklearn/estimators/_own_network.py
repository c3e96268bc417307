"""What of a network of the user's own need not be kept: what training left as the user has it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..learners import Learner

#: Where the encoder's tensors are in the state of a learner.
OF_ENCODER = "encoder."


def left_to_the_user(learner: Learner, own: Any) -> dict[str, Tensor]:
    """The tensors of a learner's encoder that are, and stay, those of the user's own module.

    Parameters
    ----------
    learner : Learner
        Trained or not.
    own : nn.Module or other
        What the user passed as the encoder.

    Returns
    -------
    dict of str to Tensor
        The user's tensors by their names in the learner's state: all that are fixed; none where
        a meta-init has given them other values, or the encoder is no module.
    """
    if not isinstance(own, nn.Module) or not learner.fixed:
        return {}
    theirs = {f"{OF_ENCODER}{name}": t for name, t in own.state_dict().items()}
    state = learner.state_dict()
    same = all(
        name in theirs and torch.equal(state[name].cpu(), theirs[name].to(state[name].dtype).cpu())
        for name in learner.fixed
    )
    return {name: theirs[name] for name in sorted(learner.fixed)} if same else {}


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A digest of tensors, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {t.dtype} {tuple(t.shape)} ".encode())
        digest.update(t.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
