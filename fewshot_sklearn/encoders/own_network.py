"""Networks that others made: what they take, and features from whatever they put out.

Nothing is imported of the packages that they come from: ``transformers`` and ``timm`` are
known by what their models have and give.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .image import Shape
from .layout import LAYOUTS, channels_wanted, the_only_layout

#: Entries of a model's output that are one vector a row, the first that is there counts.
POOLED = ("pooler_output", "image_embeds", "text_embeds", "sentence_embedding")
#: The entry that is one vector for each token of a row.
BY_TOKEN = "last_hidden_state"
#: What a model calls the size of its features.
SIZES = ("hidden_size", "num_features", "embed_dim", "d_model", "dim")


#: Where the axes of rows and of channels go in front.
CHANNELS_FIRST = (0, 3, 1, 2)


class NoFeatures(ValueError):
    """A network puts out what no features can be told from."""


class RowsAsTaken:
    """A hook that hands rows to a network as it takes them.

    Parameters
    ----------
    shape : tuple of int or None
        Images come flattened, of this shape; None where they come as images.
    move : tuple of int or None
        Order of the axes of a row, the axis of rows included; None leaves them.
    whole : bool
        Whether rows are whole numbers, such as ids of tokens.
    """

    def __init__(self, shape: Shape | None, move: tuple[int, ...] | None, whole: bool):
        self.shape, self.move, self.whole = shape, move, whole

    def __call__(self, network: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        (x,) = args
        if self.shape is not None:
            x = x.unflatten(1, self.shape)
        if self.move is not None:
            x = x.permute(self.move)
        if self.whole and not kwargs and _takes_mask(network):
            x, mask = ids_and_mask(network, x)
            if mask is not None:
                kwargs = {"attention_mask": mask}
        return (x,), kwargs


class FeaturesOfOutput:
    """A hook that makes one vector a row of what a network puts out."""

    def __call__(self, network: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        return features_of(network, output, len(args[0]), kwargs.get("attention_mask"))


def how_rows_come(network: nn.Module) -> RowsAsTaken | None:
    """The hook of a network that says how rows come to it; None where it takes them as they are."""
    hooks = network._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, RowsAsTaken)), None)


def takes_whole_numbers(network: nn.Module) -> bool:
    """Whether rows have to reach a network as whole numbers, of type long."""
    told = how_rows_come(network)
    return told is not None and told.whole


# ------------------------------------------------------------------ what goes in
def _described(network: nn.Module) -> nn.Module:
    """The model that an adapter is wrapped around: it has the signature and the settings."""
    inner = getattr(network, "get_base_model", None)
    return inner() if callable(inner) else network


def _takes_mask(network: nn.Module) -> bool:
    return "attention_mask" in inspect.signature(_described(network).forward).parameters


def ids_and_mask(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Ids of tokens, and which of them are no padding.

    Parameters
    ----------
    network : nn.Module
        Takes an ``attention_mask``.
    x : Tensor of int of shape (n, length) or (n, 2, length)
        Ids; or ids and the mask. Without a mask, what is not ``config.pad_token_id`` counts.

    Returns
    -------
    ids : Tensor of shape (n, length)
        The ids.
    mask : Tensor of int of shape (n, length) or None
        One for tokens, zero for padding; of rows of nothing but padding all are ones. None where
        nothing says what is padding.
    """
    if x.ndim == 3 and x.shape[1] == 2:
        ids, mask = x[:, 0], x[:, 1] != 0
    else:
        pad = getattr(getattr(_described(network), "config", None), "pad_token_id", None)
        if pad is None or x.ndim != 2:
            return x, None
        ids, mask = x, x != pad
    # nothing to attend to would be no number, even in rows that weigh nothing
    return ids, (mask | ~mask.any(1, keepdim=True)).long()


# ------------------------------------------------------------------ what comes out
def features_of(network: nn.Module, output: Any, n: int, mask: Tensor | None = None) -> Tensor:
    """One vector a row, of whatever a network puts out.

    Parameters
    ----------
    network : nn.Module
        Whose output it is.
    output : Tensor, mapping, tuple or list
        A tensor (n, n_features), or maps (n, channels, height, width), whose mean is taken; the
        output of a transformer, of which the pooled one is taken, else the mean of its tokens;
        a tuple or list of these, of which the first counts that is one vector a row, or else
        the first.
    n : int
        Number of rows.
    mask : Tensor of shape (n, length) or None, default=None
        Which tokens are no padding.

    Returns
    -------
    Tensor of shape (n, n_features)
        The features.

    Raises
    ------
    NoFeatures
        When none can be told.
    """
    if isinstance(output, Tensor):
        return _of_tensor(network, output, n, mask)
    named = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    for name in POOLED:
        if isinstance(found := named.get(name), Tensor):
            return found.flatten(1)
    if isinstance(found := named.get(BY_TOKEN), Tensor):
        # that of a network of convolutions is of maps
        pool = {2: lambda: found, 3: lambda: _mean_of_tokens(found, mask)}
        return pool.get(found.ndim, lambda: found.flatten(2).mean(2))()
    if isinstance(output, tuple | list):
        parts = [part for part in output if isinstance(part, Tensor) and len(part) == n]
        vectors = [part for part in parts if part.ndim == 2]
        if vectors or parts:
            return _of_tensor(network, (vectors or parts)[0], n, mask)
    told = f" of {sorted(map(str, named))}" if named else ""
    raise NoFeatures(
        f"The encoder {type(network).__name__} gave {type(output).__name__}{told}, in which no "
        "features can be found: they are one tensor (n, n_features), a pooler_output or a "
        "last_hidden_state. Take the model without its head, or wrap it in an nn.Module whose "
        "forward returns the features."
    )


def _of_tensor(network: nn.Module, output: Tensor, n: int, mask: Tensor | None) -> Tensor:
    if output.ndim == 4 and output.shape[0] == n:
        last, second = (output.shape[axis] in _sizes(network) for axis in (3, 1))
        if last and not second:
            return output.mean((1, 2))
        if second or any(isinstance(m, nn.Conv2d) for m in network.modules()):
            return output.mean((2, 3))
    if output.ndim == 3 and output.shape[0] == n:
        last, second = (output.shape[axis] in _sizes(network) for axis in (2, 1))
        if last and not second:
            return _mean_of_tokens(output, mask)
        if second and not last:
            return output.mean(2)
    return output  # and if it is no vector a row, `n_features_out` says so


def _sizes(network: nn.Module) -> set[int]:
    """Sizes that a network says its features have."""
    model = _described(network)
    places = (model, getattr(model, "config", None))
    found = {getattr(place, name, None) for place in places for name in SIZES}
    return {size for size in found if isinstance(size, int)}


def _mean_of_tokens(Z: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None or mask.shape[-1] != Z.shape[1]:
        return Z.mean(1)
    w = mask.to(Z.dtype)[..., None]
    return (Z * w).sum(1) / w.sum(1).clamp_min(1.0)


# ------------------------------------------------------------------ fitting the two together
def adjusted(network: nn.Module, input_shape: Shape, layout: str, whole: bool) -> nn.Module:
    """A network that takes rows as they come, by hooks that are hung on it where it does not.

    Parameters
    ----------
    network : nn.Module
        A copy, which is changed.
    input_shape : tuple of int
        Shape of one row.
    layout : {"NHWC", "NCHW", "auto", ""}
        Where the channels of images are; a network of the user's own is given channels first.
        ``"auto"`` tries: rows as they come are right for a network that takes them.
    whole : bool
        Whether rows are whole numbers.

    Returns
    -------
    nn.Module
        The network.
    """
    if layout == "auto":
        layout = _found_layout(network, input_shape, whole)
    hang(network, RowsAsTaken(None, CHANNELS_FIRST if layout == "NHWC" else None, whole))
    raw = probed(network, input_shape)
    if not isinstance(raw, Tensor) or raw.ndim != 2:
        network.register_forward_hook(FeaturesOfOutput(), with_kwargs=True)
    return network


def _found_layout(network: nn.Module, shape: Shape, whole: bool) -> str:
    """Which layout a network takes; empty where rows are as it takes them, or are none it takes."""
    if len(shape) != 3 or not _answers(network, shape, whole, CHANNELS_FIRST):
        return ""
    if not _answers(network, shape, whole):
        return "NHWC"
    return the_only_layout([*LAYOUTS], shape) if channels_wanted(network) == shape[0] else ""


def hang(network: nn.Module, rows: RowsAsTaken) -> None:
    """Hang a hook on a network, unless it would do nothing."""
    if rows.shape is not None or rows.move is not None or rows.whole:
        network.register_forward_pre_hook(rows, with_kwargs=True)


def probed(network: nn.Module, input_shape: Shape, whole: bool | None = None) -> Any:
    """What a network puts out for two rows of zeros; None where it does not take them."""
    try:
        return tried(network, input_shape, whole)
    except NoFeatures:
        return ()
    except Exception:  # of any kind: the code may be anybody's
        return None


def tried(network: nn.Module, input_shape: Shape, whole: bool | None = None) -> Any:
    """What a network puts out for two rows of zeros, in the mode of prediction.

    Parameters
    ----------
    network : nn.Module
        Any; it is left in the mode it was in.
    input_shape : tuple of int
        Shape of one row.
    whole : bool or None, default=None
        Whether the zeros are of type long; None goes by what the network is known to take.
    """
    first = next((p for p in network.parameters() if p.is_floating_point()), None)
    like = torch.zeros((), device="cpu") if first is None else first
    whole = takes_whole_numbers(network) if whole is None else whole
    dtype = torch.long if whole else like.dtype
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            return network(torch.zeros((2, *input_shape), device=like.device, dtype=dtype))
    finally:
        for part, mode in modes:
            part.training = mode


def wants_whole_numbers(network: nn.Module, input_shape: Shape, given: bool) -> bool:
    """Whether rows are to reach a network of the user's own as whole numbers.

    Parameters
    ----------
    network : nn.Module
        The network, of the user's own.
    input_shape : tuple of int
        Shape of one row.
    given : bool
        Whether rows are of a type of integers.

    Returns
    -------
    bool
        True where rows are integers and the network takes such, and where it takes no others.
    """
    if math.prod(input_shape) == 0:
        return False
    return (given or not _answers(network, input_shape, False)) and _answers(
        network, input_shape, True
    )


def _answers(
    network: nn.Module, input_shape: Shape, whole: bool, move: tuple[int, ...] | None = None
) -> bool:
    hook = network.register_forward_pre_hook(RowsAsTaken(None, move, whole), with_kwargs=True)
    try:
        return probed(network, input_shape, whole) is not None
    finally:
        hook.remove()
