"""Files of pictures as arrays of bytes: any mode, any orientation, one size."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

#: How a picture comes to a size of another aspect ratio.
RESIZING = ("crop", "stretch", "pad")
COLORS = ("rgb", "grey", "auto")
LAYOUTS = ("NHWC", "NCHW", "flat")
#: Names of broken files that an error tells, at most.
MOST_TOLD = 10
#: Modes of Pillow whose pixels have one channel.
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


def need_pillow(owner: str) -> None:
    """Refuse to read pictures where Pillow is not installed."""
    if find_spec("PIL") is None:
        raise ImportError(
            f"{owner} needs Pillow to read pictures: pip install pillow, or "
            "pip install 'fewshot-sklearn[images]'."
        )


def as_paths(X: Any, owner: str) -> list[str]:
    """Paths as a list of str; anything else is refused.

    Parameters
    ----------
    X : iterable of str or path-like
        Paths of files.
    owner : str
        Whose they are, for errors.

    Returns
    -------
    list of str
        The paths.

    Raises
    ------
    ValueError
        Says which row is no path.
    """
    if isinstance(X, str | bytes | os.PathLike | Mapping) or not isinstance(X, Iterable):
        raise ValueError(
            f"{owner} takes a list, an array or a Series of paths, got {X!r:.60}. Put a single "
            "path in a list: [path]."
        )
    if getattr(X, "ndim", 1) != 1:
        raise ValueError(
            f"{owner} takes one path a row, got X of shape {tuple(getattr(X, 'shape', ()))}."
        )
    given = list(X)
    if not given:
        raise ValueError(
            f"Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required by "
            f"{owner}."
        )
    for i, place in enumerate(given):
        if not isinstance(place, str | os.PathLike) or not os.fspath(place):
            raise ValueError(
                f"{owner} takes paths of files (str or path-like), got {place!r:.60} in row {i}."
            )
    return [os.fspath(place) for place in given]


def read_pictures(
    paths: Sequence[str],
    size: tuple[int, int] | None = None,
    color: str = "rgb",
    resizing: str = "crop",
    bar: str | None = None,
    skip_broken: bool = False,
) -> tuple[np.ndarray, dict[str, str]]:
    """Read files as one array.

    Parameters
    ----------
    paths : sequence of str
        Files.
    size : tuple of int or None, default=None
        (height, width); None where all have the same.
    color : {"rgb", "grey"}, default="rgb"
        What pixels become.
    resizing : {"crop", "stretch", "pad"}, default="crop"
        How they come to that size.
    bar : str or None, default=None
        What to call a progress bar.
    skip_broken : bool, default=False
        Whether files that cannot be read are left out.

    Returns
    -------
    pictures : ndarray of shape (n, H, W, 3) or, if grey, (n, H, W), uint8
        Those that could be read.
    broken : dict of str to str
        What is wrong with the others, by path.

    Raises
    ------
    ValueError
        Names the files that cannot be read, or that have another size.
    """
    read: list[np.ndarray] = []
    broken: dict[str, str] = {}
    places: list[str] = []
    for place in _drawn(paths, bar):
        try:
            read.append(picture_of(place, size, color, resizing))
            places.append(place)
        except Exception as error:  # of any kind: the file may hold anything
            broken[place] = str(error) if isinstance(error, ValueError) else _in_short(error)
    if broken and not (skip_broken and read):
        more = f"\n... and {len(broken) - MOST_TOLD} more" if len(broken) > MOST_TOLD else ""
        raise ValueError(
            f"{len(broken)} of {len(paths)} pictures cannot be read:\n"
            + "\n".join(f"{p}: {reason}" for p, reason in list(broken.items())[:MOST_TOLD])
            + more
        )
    shapes: dict[tuple[int, ...], str] = {}
    for picture, place in zip(read, places, strict=True):
        shapes.setdefault(picture.shape[:2], place)
    if len(shapes) > 1:
        told = [f"{h} x {w} ({Path(place).name})" for (h, w), place in list(shapes.items())[:4]]
        raise ValueError(
            f"Pictures have {len(shapes)} sizes (height x width), such as {', '.join(told)}: say "
            "size=(height, width), which all are brought to."
        )
    return np.stack(read), broken


def picture_of(
    place: str, size: tuple[int, int] | None = None, color: str = "rgb", resizing: str = "crop"
) -> np.ndarray:
    """One file as an array (H, W, 3) or, if grey, (H, W), uint8.

    It is turned as its EXIF data say; what is transparent lies on white; 16 bits a channel become
    8; of several frames the first is taken.
    """
    from PIL import Image

    with Image.open(place) as opened:
        picture = in_plain_colours(opened, color)
        if size is not None and picture.size != (size[1], size[0]):
            picture = _resized(picture, (size[1], size[0]), resizing)
        return np.array(picture)


def in_plain_colours(picture: Any, color: str = "rgb") -> Any:
    """A picture of Pillow, of any mode, as one of mode RGB or L; turned as its EXIF data say."""
    from PIL import ImageOps

    picture = _on_white(_in_eight_bits(ImageOps.exif_transpose(picture)))
    return picture.convert("L" if color == "grey" else "RGB")


def is_grey(place: str) -> bool:
    """Whether a file says that its pixels have one channel."""
    from PIL import Image

    with Image.open(place) as opened:
        return opened.mode in GREY_MODES


def laid_out(pictures: np.ndarray, layout: str) -> np.ndarray:
    """Pictures (n, H, W[, 3]) in one of `LAYOUTS`; grey ones have no axis of channels."""
    if layout == "flat":
        return pictures.reshape(len(pictures), -1)
    if layout == "NCHW" and pictures.ndim == 4:
        return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
    return pictures


def _in_eight_bits(picture: Any) -> Any:
    """A picture of one channel of 16 bits or of floats, in 8; any other as it is."""
    from PIL import Image

    if picture.mode == "F":
        values = np.asarray(picture)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
            raise ValueError(
                f"its pixels are floats from {values.min():g} to {values.max():g}: neither 0 to 1 "
                "nor 0 to 255"
            )
        return Image.fromarray(np.round(values * (255 if values.max() <= 1 else 1)).astype("u1"))
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"its pixels are whole numbers from {values.min()} to {values.max()}: more than 16 "
                "bits"
            )
        eight = picture.mode == "I" and values.max() <= 255  # which a file of 32 bits may hold
        return Image.fromarray(np.round(values / (1 if eight else 257)).astype("u1"))
    return picture


def _on_white(picture: Any) -> Any:
    from PIL import Image

    if "transparency" in picture.info or picture.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture


def _resized(picture: Any, width_height: tuple[int, int], resizing: str) -> Any:
    from PIL import Image, ImageOps

    how = Image.Resampling.BILINEAR  # over all pixels that one stands for
    if resizing == "crop":
        return ImageOps.fit(picture, width_height, how)
    if resizing == "pad":
        return ImageOps.pad(picture, width_height, how)
    return picture.resize(width_height, how)


def _in_short(error: Exception) -> str:
    """What was wrong, without the path once more."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if type(error).__name__ == "UnidentifiedImageError":
        return "is no picture, or of no kind that Pillow knows"
    return f"is broken ({error})"


def _drawn(paths: Sequence[str], bar: str | None) -> Iterable[str]:
    if bar is None:
        return paths
    from tqdm.auto import tqdm

    return tqdm(paths, desc=bar, unit="file")
