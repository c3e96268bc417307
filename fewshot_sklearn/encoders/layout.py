"""Which axis of images holds the channels: the last, as here, or the first, as torch has it."""

from __future__ import annotations

from torch import nn

from ..tasks import CHANNELS
from .image import Shape, _ImageEncoder

#: Height, width, channels; and channels, height, width.
LAYOUTS = ("NHWC", "NCHW")


def possible_layouts(shape: Shape) -> list[str]:
    """Which layouts rows of three axes may have, going by their shape alone.

    Channels are 1, 3 or 4, or fewer than there are pixels along either side.

    Parameters
    ----------
    shape : tuple of int
        Shape of one row.

    Returns
    -------
    list of str
        Of ``"NHWC"`` and ``"NCHW"`` those that may be, in that order.
    """
    first, second, third = shape
    found = []
    if third in CHANNELS or third < min(first, second):
        found.append("NHWC")
    if first in CHANNELS or first < min(second, third):
        found.append("NCHW")
    return found


def resolved_layout(layout: str | None, encoder: type[nn.Module] | nn.Module, shape: Shape) -> str:
    """Where the channels of rows are, as an encoder has to be told.

    Parameters
    ----------
    layout : {"NHWC", "NCHW", "auto"} or None
        What the user says. None leaves rows as they come.
    encoder : nn.Module or subclass
        Who takes them: one of this package's, which is told by its class, or any other.
    shape : tuple of int
        Shape of one row.

    Returns
    -------
    str
        ``"NHWC"`` or ``"NCHW"``; ``"auto"`` where the network has to be tried; empty where rows
        are left as they come.

    Raises
    ------
    ValueError
        When ``"auto"`` finds that both may be, or rows are no images and a layout is told.
    """
    if layout is None:
        return ""
    kind = encoder if isinstance(encoder, type) else type(encoder)
    images = issubclass(kind, _ImageEncoder)
    if len(shape) != 3:
        if layout == "auto":
            return ""
        if images and len(shape) == 1:
            return layout
        raise ValueError(
            f"layout={layout!r} says where the channels of images are, but rows of shape {shape} "
            'have no axis of channels. Leave layout="auto".'
        )
    if layout != "auto":
        return layout
    if isinstance(encoder, _ImageEncoder):
        own = encoder.height, encoder.width, encoder.channels
        return the_only_layout([*_those(own, shape)], shape)
    if images:
        return the_only_layout(possible_layouts(shape), shape)
    return layout  # a network of the user's own says itself what it takes


def _those(own: Shape, shape: Shape) -> list[str]:
    moved = own[2], own[0], own[1]
    return [name for name, size in zip(LAYOUTS, (own, moved), strict=True) if size == tuple(shape)]


def the_only_layout(found: list[str], shape: Shape) -> str:
    """The one layout that may be.

    Raises
    ------
    ValueError
        When there are two, or none.
    """
    if len(found) == 1:
        return found[0]
    told = "either" if found else "neither, by their size,"
    raise ValueError(
        f"Rows of shape {tuple(shape)} may be {told} (height, width, channels) or (channels, "
        'height, width): say layout="NHWC" or layout="NCHW".'
    )


def channels_wanted(network: nn.Module) -> int | None:
    """Channels of the images that a network takes: those of its first two-dimensional convolution.

    Parameters
    ----------
    network : nn.Module
        Any.

    Returns
    -------
    int or None
        None where it has no such convolution.
    """
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    return None if first is None else first.in_channels


def layout_taken(encoder: nn.Module, moved: bool, shape: Shape) -> str:
    """Where the channels of rows are that an encoder takes.

    Parameters
    ----------
    encoder : nn.Module
        A built one.
    moved : bool
        Whether their axes are moved for it.
    shape : tuple of int
        Shape of one row.

    Returns
    -------
    str
        ``"NHWC"``, ``"NCHW"``; or empty where rows are no images of three axes.
    """
    ours = isinstance(encoder, _ImageEncoder)
    if moved:
        return "NCHW" if ours else "NHWC"
    if len(shape) != 3:
        return ""
    if ours:
        return "NHWC"
    return "NCHW" if channels_wanted(encoder) == shape[0] else ""
