"""A folder of pictures, with a subfolder a class, as rows and labels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ..raw import COLORS, LAYOUTS, RESIZING, is_grey, laid_out, need_pillow, read_pictures
from ..tasks import Flag, OneOf, Several, Whole, check_arguments
from ._places import as_path

_CONSTRAINTS = {
    "size": Several(Whole(1), least=2) | None,
    "color": OneOf(*COLORS),
    "layout": OneOf(*LAYOUTS),
    "resizing": OneOf(*RESIZING),
    "groups": Flag(),
    "read": Flag(),
    "on_broken": OneOf("raise", "skip"),
    "return_X_y": Flag(),
    "verbose": Flag() | Whole(0),
}


def load_image_folder(
    path: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    *,
    color: str = "rgb",
    layout: str = "NHWC",
    resizing: str = "crop",
    groups: bool = False,
    read: bool = True,
    on_broken: str = "raise",
    return_X_y: bool = False,
    verbose: bool | int = False,
) -> Any:
    """Load a folder of pictures: each subfolder is a class, and its name the label.

    Pictures are turned as their EXIF data say. Palettes, CMYK, 16 bits a channel and transparency
    (which lies on white) become plain grey or RGB; of several frames the first is taken. Pictures
    in folders within a class belong to it. Hidden files, and files of no kind that Pillow reads,
    are left out. Needs ``pip install "fewshot-sklearn[images]"``.

    Parameters
    ----------
    path : path-like
        The folder.
    size : tuple of int or None, default=None
        (height, width) that pictures are brought to; None where all have the same.
    color : {"rgb", "grey", "auto"}, default="rgb"
        What pixels become; "auto" is grey where all pictures are.
    layout : {"NHWC", "NCHW", "flat"}, default="NHWC"
        Order of the axes: height, width, channels, or channels first, or one row of all pixels.
        Grey pictures have no axis of channels.
    resizing : {"crop", "stretch", "pad"}, default="crop"
        How a picture of another aspect ratio comes to `size`: scaled to cover it and cut about the
        centre, stretched, or scaled to lie within it on black.
    groups : bool, default=False
        Whether there is a level of folders above the classes, whose names say the task: an alphabet
        of letters, a camera. Labels are then such as "Greek/alpha".
    read : bool, default=True
        Whether to read the pictures; else paths alone come back, for `ImageReader` or
        `ImageEncoder`.
    on_broken : {"raise", "skip"}, default="raise"
        What to do with files that cannot be read: name them in an error, or in a warning.
    return_X_y : bool, default=False
        Whether to return (data, target) alone; of ``read=False``, (paths, target).
    verbose : bool or int, default=False
        Whether to draw a progress bar.

    Returns
    -------
    Bunch
        ``data`` : ndarray of shape (n, H, W, 3), (n, 3, H, W), (n, H, W) or flat, uint8, from 0
        to 255; None with ``read=False``.
        ``target`` : ndarray of shape (n,), names of the classes.
        ``paths`` : ndarray of shape (n,), str, of the files, by class and by name.
        ``groups`` : ndarray of shape (n,), names of the tasks; None without `groups`.
        ``classes`` : list of str, in order.
        ``DESCR`` : str.

    Raises
    ------
    ImportError
        When Pillow is not installed.
    FileNotFoundError
        When there is no such folder.
    ValueError
        When it has no subfolders with pictures, when files are broken (the error names them), or
        pictures have several sizes and `size` is None.

    See Also
    --------
    fewshot_sklearn.ImageReader : The same from paths, as a step of a pipeline.
    fewshot_sklearn.ImageEncoder : Features of a pretrained network.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import load_image_folder
    >>> pictures = load_image_folder("animals", size=(64, 64))  # doctest: +SKIP
    >>> pictures.data.shape, pictures.target[0]  # doctest: +SKIP
    ((120, 64, 64, 3), 'cat')
    """
    check_arguments(
        _CONSTRAINTS, size=size, color=color, layout=layout, resizing=resizing, groups=groups,
        read=read, on_broken=on_broken, return_X_y=return_X_y, verbose=verbose,
    )  # fmt: skip
    if size is not None and len(size) != 2:
        raise ValueError(f"size must be (height, width), got {size!r}.")
    need_pillow("load_image_folder")
    folder = as_path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder.")
    files = _files_of(folder, 3 if groups else 2)
    paths = np.array([str(file) for file in files], dtype=object)
    levels = [file.relative_to(folder).parts for file in files]
    target = np.array(["/".join(parts[: 2 if groups else 1]) for parts in levels])
    tasks = np.array([parts[0] for parts in levels]) if groups else None
    data = None
    if read:
        if color == "auto":
            color = "grey" if all(map(_seems_grey, paths)) else "rgb"
        asked = None if size is None else (int(size[0]), int(size[1]))
        bar = "pictures" if verbose else None
        data, broken = read_pictures(list(paths), asked, color, resizing, bar, on_broken == "skip")
        data = laid_out(data, layout)
        if broken:
            kept = np.array([place not in broken for place in paths])
            paths, target = paths[kept], target[kept]
            tasks = None if tasks is None else tasks[kept]
            warnings.warn(
                f"{len(broken)} pictures cannot be read, and are left out:\n"
                + "\n".join(f"{place}: {reason}" for place, reason in broken.items()),
                stacklevel=2,
            )
    if return_X_y:
        return (data if read else paths), target
    return Bunch(
        data=data,
        target=target,
        paths=paths,
        groups=tasks,
        classes=np.unique(target).tolist(),
        DESCR=f"{len(paths)} pictures of {len(np.unique(target))} classes.",
    )


def _files_of(folder: Path, n_levels: int) -> list[Path]:
    """Pictures that lie deep enough to have a class, in order."""
    from PIL import Image

    known = set(Image.registered_extensions())
    found = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in known
        and file.is_file()
        and not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
    ]
    deep = [file for file in found if len(file.relative_to(folder).parts) >= n_levels]
    shape = "folder/task/class/picture" if n_levels == 3 else "folder/class/picture"
    if not deep:
        beside = f"{len(found)} lie elsewhere" if found else "there are none at all"
        raise ValueError(
            f"{folder} has no pictures in subfolders ({beside}): a subfolder is a class, {shape}. "
            "Pictures without a class go into ImageReader or ImageEncoder by their paths."
        )
    if len(deep) < len(found):
        stray = [file.relative_to(folder).as_posix() for file in found if file not in set(deep)]
        warnings.warn(
            f"{len(stray)} pictures lie in no folder of a class ({shape}), and are left out: "
            f"{', '.join(stray[:5])}.",
            stacklevel=3,
        )
    return deep


def _seems_grey(place: str) -> bool:
    try:
        return is_grey(place)
    except Exception:  # of any kind, which reading it will tell, by name
        return True
