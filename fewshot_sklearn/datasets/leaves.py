"""One-hundred plant species leaves: 99 species, 16 leaves of each in the paper, 10 in the csv.

C. Mallah, J. Cope and J. Orwell. Plant leaf classification using probabilistic
integration of shape, texture and margin features. Signal Processing, Pattern
Recognition and Applications, 2013. CC BY 4.0 (UCI).
"""

from __future__ import annotations

import csv
import os

import numpy as np
from sklearn.utils import Bunch

from ._places import as_path


def load_leaves(path: str | os.PathLike[str]) -> Bunch:
    """Load the leaves of 99 plant species, described by 192 numbers each.

    Margin, shape and texture of a leaf, 64 numbers of each kind. The data does
    not ship with the package: get ``train.csv`` of Kaggle's "Leaf
    Classification", made from UCI's "One-hundred plant species leaves".

    Parameters
    ----------
    path : path-like
        The csv file, with a column ``species`` and, but for ``id``, numbers in
        all other columns.

    Returns
    -------
    Bunch
        ``data`` : ndarray of shape (990, 192), float64.
        ``target`` : ndarray of shape (990,), names of the species.
        ``feature_names`` : list of str, ``margin1`` to ``texture64``.
        ``DESCR`` : str.

    Raises
    ------
    ValueError
        When the file is no such table.

    References
    ----------
    .. [1] C. Mallah, J. Cope and J. Orwell, "Plant leaf classification using
       probabilistic integration of shape, texture and margin features", Signal
       Processing, Pattern Recognition and Applications, 2013.

    Examples
    --------
    >>> from fewshot_sklearn.datasets import load_leaves
    >>> leaves = load_leaves("train.csv")  # doctest: +SKIP
    >>> leaves.data.shape, leaves.target[0]  # doctest: +SKIP
    ((990, 192), 'Acer_Opalus')
    """
    path = as_path(path)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names = [name for name in reader.fieldnames or [] if name not in ("id", "species")]
        if "species" not in (reader.fieldnames or []) or not names:
            raise ValueError(
                f"{path} is not the table of leaves: it has columns "
                f"{(reader.fieldnames or [])[:4]}..., not id, species, margin1, ..."
            )
        lines = list(reader)
    try:
        data = np.array([[float(line[name]) for name in names] for line in lines])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: a feature is no number ({error}).") from error
    return Bunch(
        data=data.reshape(len(lines), len(names)),
        target=np.array([line["species"] for line in lines], dtype=object),
        feature_names=names,
        DESCR="99 plant species, margin, shape and texture of leaves (Mallah et al. 2013), from "
        "UCI's One-hundred plant species leaves. Licence: CC BY 4.0.",
    )
