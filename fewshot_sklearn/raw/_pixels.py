"""Arrays as pictures: which axis is what, and from what to what pixels go."""

from __future__ import annotations

from typing import Any

import numpy as np

from .picture_files import in_plain_colours

#: Numbers of channels of pictures: grey, and red, green, blue.
CHANNELS = (1, 3)
#: By how much a float may leave 0 to 1, as interpolation does.
SLACK = 1e-4


def layout_of(shape: tuple[int, ...], layout: str = "auto") -> str:
    """Which axes an array of pictures has.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    layout : {"auto", "NHWC", "NCHW"}, default="auto"
        What is known of it.

    Returns
    -------
    {"NHW", "NHWC", "NCHW"}
        The axes.

    Raises
    ------
    ValueError
        When it is no such array, or might be two things.
    """
    if len(shape) == 3 and shape[2] in CHANNELS:
        raise ValueError(
            f"X of shape {shape} looks like one picture with its channels: put a single picture in "
            "a list, [picture] or X[None]."
        )
    if len(shape) == 3:
        return "NHW"
    if len(shape) == 2:
        raise ValueError(
            f"X has shape {shape}: flat rows do not say which pixel is where. Reshape them: "
            "X.reshape(n, height, width) or X.reshape(n, height, width, 3)."
        )
    if len(shape) != 4:
        raise ValueError(
            f"X has shape {shape}; pictures are (n, height, width), (n, height, width, channels) "
            "or (n, channels, height, width)."
        )
    last, first = shape[3] in CHANNELS, shape[1] in CHANNELS
    if layout != "auto":
        n = shape[3] if layout == "NHWC" else shape[1]
        if n not in CHANNELS:
            raise ValueError(
                f"X of shape {shape} has {n} channels in layout={layout!r}; pictures have 1 or 3."
                + (" The fourth is transparency: X[..., :3] leaves it." if n == 4 else "")
            )
        return layout
    if last and first:
        raise ValueError(
            f"X of shape {shape} may have its channels last or first: say layout='NHWC' or 'NCHW'."
        )
    if not last and not first:
        raise ValueError(
            f"X of shape {shape} has no axis of 1 or 3 channels, neither the last nor the second."
            + (" RGBA has four: X[..., :3] leaves transparency." if 4 in shape[1:] else "")
        )
    return "NHWC" if last else "NCHW"


def channels_first(pictures: np.ndarray, layout: str) -> np.ndarray:
    """Pictures (n, C, H, W), whatever their axes were."""
    if layout == "NHW":
        return pictures[:, None]
    return pictures.transpose(0, 3, 1, 2) if layout == "NHWC" else pictures


def refuse_other_pixels(pictures: np.ndarray, all_of_them: bool = True) -> None:
    """Refuse pixels that are neither bytes from 0 to 255 nor floats from 0 to 1.

    Parameters
    ----------
    pictures : ndarray
        Pixels.
    all_of_them : bool, default=True
        Whether these are many pictures, so that bytes which are all 0 or 1 are not dark, but black
        and white.

    Raises
    ------
    ValueError
        Says what they are, and what to do.
    """
    kind = pictures.dtype.kind
    if kind == "b":
        return
    if pictures.dtype == np.uint8 and not (all_of_them and pictures.max() == 1):
        return
    if kind not in "iuf":
        raise ValueError(f"X must hold pixels, got an array of dtype {pictures.dtype}.")
    if not np.isfinite(pictures).all():
        raise ValueError("Input X contains NaN or infinity, which are no pixels.")
    low, high = float(pictures.min()), float(pictures.max())
    if kind == "f" and low >= -SLACK and high <= 1 + SLACK:
        return
    if kind in "iu" and low >= 0 and 1 < high <= 255:
        return
    told = f"X holds pixels of dtype {pictures.dtype} from {low:g} to {high:g}. "
    if low < 0:
        raise ValueError(
            f"{told}Pixels are not below 0: give them as they were before they were normalised; "
            "the model's mean and standard deviation are applied here."
        )
    if kind == "f" and high <= 255:
        raise ValueError(f"{told}Floats go from 0 to 1: X / 255, or X.astype('uint8').")
    if kind in "iu" and high <= 1:
        raise ValueError(
            f"{told}If these are black and white, make them so: X.astype(float) or X * 255."
        )
    if high <= 65535:
        raise ValueError(f"{told}Of pixels of 16 bits make floats from 0 to 1: X / 65535.")
    raise ValueError(f"{told}Pixels are bytes from 0 to 255 or floats from 0 to 1.")


def from_zero_to_one(pictures: np.ndarray) -> np.ndarray:
    """Pixels as float32 from 0 to 1."""
    if pictures.dtype.kind in "iu":
        return pictures.astype(np.float32) / 255
    return np.clip(pictures.astype(np.float32), 0, 1)


def as_array(X: Any) -> np.ndarray | None:
    """An array of pictures of one size; None for paths, and for pictures of several sizes."""
    if hasattr(X, "detach"):
        X = X.detach().cpu()
    if hasattr(X, "dtype") and hasattr(X, "ndim"):
        found = np.asarray(X)
        return None if found.dtype.kind in "OUST" else found
    if isinstance(X, list | tuple) and len(X) and all(hasattr(x, "getexif") for x in X):
        X = [np.asarray(in_plain_colours(x)) for x in X]  # Pillow's
    if isinstance(X, list | tuple) and len(X) and all(hasattr(x, "shape") for x in X):
        shapes = {tuple(x.shape) for x in X}
        if len(shapes) > 1:
            raise ValueError(
                f"X holds pictures of {len(shapes)} shapes, such as {sorted(shapes)[:2]}: bring "
                "them to one, or give the paths of their files."
            )
        return np.stack([np.asarray(x) for x in X])
    if isinstance(X, list | tuple) and len(X) and isinstance(X[0], list | tuple):
        return np.asarray(X)
    return None
