"""Which parts of a network training leaves as they are: those that need no gradient."""

from __future__ import annotations

from torch import nn

from ..encoders import TableEncoder


def hold_still(network: nn.Module, frozen: bool) -> None:
    """Keep what is not trained in the mode of prediction: no dropout, and statistics stay.

    Parameters
    ----------
    network : nn.Module
        In the mode of training.
    frozen : bool
        Whether nothing of it is trained. Otherwise it is batch norms whose own weights are fixed
        that stay as they are.
    """
    if frozen:
        network.eval()
        return
    if isinstance(network, TableEncoder) and not any(
        p.requires_grad for p in network.encoder.parameters()
    ):
        network.encoder.eval()
    for part in network.modules():
        if is_fixed_norm(part):
            part.eval()


def is_fixed_norm(part: nn.Module) -> bool:
    """Whether a module is a batch norm whose weights are not trained, nor should its statistics."""
    flags = [p.requires_grad for p in part.parameters(recurse=False)]
    norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
    return norm and bool(flags) and not any(flags)


def fixed_names(network: nn.Module, frozen: bool) -> list[str]:
    """Names in the state of a network of what training leaves as it is.

    Parameters
    ----------
    network : nn.Module
        Any.
    frozen : bool
        Whether nothing of it is trained.

    Returns
    -------
    list of str
        In the order of the state.
    """
    state = list(network.state_dict())
    if frozen:
        return state
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    for name, part in network.named_modules():
        if is_fixed_norm(part):
            fixed |= {f"{name}.{key}" if name else key for key, _ in part.named_buffers()}
    return [name for name in state if name in fixed]
