"""Omniglot: handwritten characters of fifty alphabets, twenty drawings of each.

B. Lake, R. Salakhutdinov and J. Tenenbaum. Human-level concept learning through
probabilistic program induction. Science 350, 2015. MIT licence.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from ._places import as_path

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{name}.zip"
SIDE = 28


def load_omniglot(*, return_X_y_groups: bool = False) -> Any:
    """Load Omniglot's background set: 964 characters of 30 alphabets, 20 drawings of each.

    It ships with the package; nothing is downloaded.

    Parameters
    ----------
    return_X_y_groups : bool, default=False
        Whether to return only ``(images, target, alphabet)``.

    Returns
    -------
    Bunch
        ``images`` : ndarray of shape (19280, 28, 28), uint8, ink = 255.
        ``target`` : ndarray of shape (19280,), character names such as
        ``"Greek/character03"``.
        ``alphabet`` : ndarray of shape (19280,), alphabet names.
        ``drawer`` : ndarray of shape (19280,), integers 0..19: who drew it.
        ``DESCR`` : str.

    See Also
    --------
    fetch_omniglot : The evaluation set.

    References
    ----------
    .. [1] B. Lake, R. Salakhutdinov and J. Tenenbaum, "Human-level concept learning
       through probabilistic program induction", Science 350, 2015.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import load_omniglot
    >>> omniglot = load_omniglot()
    >>> omniglot.images.shape, omniglot.images.dtype
    ((19280, 28, 28), dtype('uint8'))
    >>> omniglot.target[0], omniglot.alphabet[0], int(omniglot.drawer[0])
    ('Alphabet_of_the_Magi/character01', 'Alphabet_of_the_Magi', 0)
    """
    if not isinstance(return_X_y_groups, bool | np.bool_):
        raise ValueError(f"return_X_y_groups must be True or False, got {return_X_y_groups!r}.")
    path = files("fewshot_sklearn.datasets") / "data" / "omniglot_background_28.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        bunch = Bunch(
            images=stored["images"],
            target=stored["character_names"].astype(object)[stored["character"]],
            alphabet=stored["alphabet_names"].astype(object)[stored["alphabet"]],
            drawer=stored["drawer"],
            DESCR="Omniglot, background set (Lake et al. 2015), at 28 x 28. MIT licence.",
        )
    if return_X_y_groups:
        return bunch.images, bunch.target, bunch.alphabet
    return bunch


def fetch_omniglot(
    subset: str = "evaluation",
    *,
    path: str | os.PathLike[str] | None = None,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Load Omniglot from the official zip files, downloading them if need be.

    The images (105 x 105) are reduced to 28 x 28 by averaging, as the bundled
    background set was. Needs Pillow.

    Parameters
    ----------
    subset : {"evaluation", "background"}, default="evaluation"
        Which half: 20 alphabets of 659 characters, or 30 of 964.
    path : path-like or None, default=None
        A local copy of ``images_evaluation.zip`` or ``images_background.zip``.
    data_home : path-like or None, default=None
        Where downloads are kept; None is scikit-learn's data folder.
    download_if_missing : bool, default=True
        Whether to go to the network when there is no local copy.

    Returns
    -------
    Bunch
        As `load_omniglot` returns it.

    Raises
    ------
    OSError
        When the file is not at hand and may not or cannot be downloaded.
    ValueError
        When the file is not Omniglot.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import fetch_omniglot
    >>> omniglot = fetch_omniglot(path="images_evaluation.zip")  # doctest: +SKIP
    >>> omniglot.images.shape  # doctest: +SKIP
    (13180, 28, 28)
    """
    if not isinstance(subset, str) or subset not in ("evaluation", "background"):
        raise ValueError(f"subset must be 'evaluation' or 'background', got {subset!r}.")
    name = f"images_{subset}"
    if path is None:
        path = Path(get_data_home(data_home)) / f"{name}.zip"
        if not path.exists():
            if not download_if_missing:
                raise OSError(f"{path} does not exist, and download_if_missing is False.")
            _download(URL.format(name=name), path)
    return _read_zip(as_path(path), subset)


def _download(url: str, path: Path) -> None:
    part = path.with_suffix(".part")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, part.open("wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f"Omniglot could not be downloaded from {url} ({error}). Without a network, get the "
            "zip file elsewhere and pass its place as path=."
        ) from error
    part.replace(path)


_MEMBER = re.compile(
    r"images_\w+/(?P<alphabet>[^/]+)/(?P<character>[^/]+)/\d+_(?P<drawer>\d+)\.png"
)


def _read_zip(path: Path, subset: str) -> Bunch:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            "The images of Omniglot are read with Pillow, which is not installed: "
            "pip install pillow."
        ) from error

    images, target, alphabet, drawer = [], [], [], []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.namelist()):
                if not (match := _MEMBER.fullmatch(member)):
                    continue
                try:
                    with archive.open(member) as file:
                        drawing = Image.open(file).convert("L")
                except (UnidentifiedImageError, OSError) as error:
                    raise ValueError(f"{path} is damaged: {member} is no image.") from error
                ink = Image.eval(drawing, lambda value: 255 - value)
                images.append(np.asarray(ink.resize((SIDE, SIDE), Image.Resampling.BOX)))
                target.append(f"{match['alphabet']}/{match['character']}")
                alphabet.append(match["alphabet"])
                drawer.append(int(match["drawer"]) - 1)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a zip file.") from error
    if not images:
        raise ValueError(f"{path} holds no Omniglot drawings (images_*/alphabet/character/*.png).")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Bunch(
        images=np.stack(images),
        target=np.array(target, dtype=object),
        alphabet=np.array(alphabet, dtype=object),
        drawer=np.array(drawer, dtype=np.uint8),
        DESCR=f"Omniglot, {subset} set (Lake et al. 2015), at 28 x 28, from a zip file of "
        f"SHA-256 {digest}. MIT licence.",
    )
