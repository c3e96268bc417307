"""Paths of pictures as arrays, as a step of a pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..tasks import Constraint, Flag, OneOf, Several, Whole, check_parameters, one_column
from .picture_files import (
    COLORS,
    LAYOUTS,
    RESIZING,
    as_paths,
    is_grey,
    laid_out,
    need_pillow,
    read_pictures,
)


class Size(Several):
    """(height, width)."""

    told = "(height, width), two ints of at least 1"

    def __init__(self) -> None:
        super().__init__(Whole(1))

    def allows(self, value: Any) -> bool:
        return super().allows(value) and len(value) == 2


class ImageReader(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Read pictures from their paths, as the first step of a pipeline.

    Pictures are turned as their EXIF data say. Palettes, CMYK, 16 bits a channel and transparency
    (which lies on white) become plain grey or RGB; of several frames the first is taken. Needs
    ``pip install "fewshot-sklearn[images]"``.

    Parameters
    ----------
    size : tuple of int or None, default=None
        (height, width) that pictures are brought to. None takes that of the first; all must have
        it.
    color : {"rgb", "grey", "auto"}, default="rgb"
        What pixels become; "auto" is grey where all pictures at `fit` are.
    layout : {"NHWC", "NCHW", "flat"}, default="NHWC"
        Order of the axes: height, width, channels, or channels first, or one row of all pixels.
        Grey pictures have no axis of channels.
    resizing : {"crop", "stretch", "pad"}, default="crop"
        How a picture of another aspect ratio comes to `size`: scaled to cover it and cut about the
        centre, stretched, or scaled to lie within it on black.
    verbose : bool or int, default=False
        Whether to draw a progress bar.

    Attributes
    ----------
    size_ : tuple of int
        (height, width).
    color_ : {"rgb", "grey"}
        What pixels become.
    n_features_in_ : int
        One; only when `fit` got a data frame.
    feature_names_in_ : ndarray of shape (1,)
        The name of its column; only when `fit` got a data frame.

    See Also
    --------
    ImageEncoder : Features of a pretrained network, of paths or of arrays.
    fewshot_sklearn.datasets.load_image_folder : A folder of pictures with a subfolder a class.

    Examples
    --------
    >>> from PIL import Image
    >>> from sklearn.pipeline import make_pipeline
    >>> from fewshot_sklearn import ImageReader, ProtoNetClassifier
    >>> for name, colour in [("a.png", "red"), ("b.png", "blue"), ("c.png", "darkred")]:
    ...     Image.new("RGB", (12, 8), colour).save(name)  # doctest: +SKIP
    >>> clf = make_pipeline(ImageReader(size=(8, 8)), ProtoNetClassifier())
    >>> clf.fit(["a.png", "b.png"], ["red", "blue"]).predict(["c.png"])  # doctest: +SKIP
    array(['red'], dtype='<U4')
    """

    _constraints: dict[str, Constraint] = {
        "size": Size() | None,
        "color": OneOf(*COLORS),
        "layout": OneOf(*LAYOUTS),
        "resizing": OneOf(*RESIZING),
        "verbose": Flag() | Whole(0),
    }

    def __init__(
        self,
        size: tuple[int, int] | None = None,
        *,
        color: str = "rgb",
        layout: str = "NHWC",
        resizing: str = "crop",
        verbose: bool | int = False,
    ):
        self.size = size
        self.color = color
        self.layout = layout
        self.resizing = resizing
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> ImageReader:
        """Read the first picture; with ``color="auto"``, look at all of them.

        Parameters
        ----------
        X : array-like of shape (n_pictures,) or data frame of one column
            Paths: a list, an array, a Series or a column.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object
            The transformer.
        """
        check_parameters(self)
        paths = self._paths(X, reset=True)
        self.color_ = self.color
        if self.color == "auto":
            self.color_ = "grey" if all(map(_is_grey, paths)) else "rgb"
        size = None if self.size is None else (int(self.size[0]), int(self.size[1]))
        first = read_pictures(paths[:1], size, self.color_, self.resizing)[0]
        self.size_ = first.shape[1:3]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Read pictures.

        Parameters
        ----------
        X : array-like of shape (n_pictures,) or data frame of one column
            Paths.

        Returns
        -------
        ndarray of shape (n_pictures, H, W, 3), (n_pictures, 3, H, W), (n_pictures, H, W) or flat
            Pixels from 0 to 255, uint8.
        """
        check_is_fitted(self)
        paths = self._paths(X, reset=False)
        bar = "pictures" if self.verbose else None
        size = None if self.size is None else self.size_
        read = read_pictures(paths, size, self.color_, self.resizing, bar)[0]
        if read.shape[1:3] != self.size_:
            raise ValueError(
                f"Pictures are {read.shape[1]} x {read.shape[2]} (height x width), and were "
                f"{self.size_[0]} x {self.size_[1]} at fit: say size=(height, width), which all "
                "are brought to."
            )
        return laid_out(read, self.layout)

    def _paths(self, X: Any, reset: bool) -> list[str]:
        need_pillow("ImageReader")
        return as_paths(one_column(self, X, "paths", reset), "ImageReader")

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self)
        return self.size_[0] * self.size_[1] * (1 if self.color_ == "grey" else 3)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "size_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _is_grey(place: str) -> bool:
    try:
        return is_grey(place)
    except Exception:  # of any kind, which reading it will tell, by name
        return True
