"""Pictures as rows: a network of timm, or one's own, as a step of a pipeline."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..estimators import resolve_device
from ..tasks import (
    Constraint,
    FilePath,
    Flag,
    Kind,
    Name,
    Number,
    OneOf,
    Several,
    Whole,
    check_parameters,
    one_column,
)
from ._image_models import SharedImageModel, brought_to, own_image_model, shared_image_model
from ._kept_rows import embedded, kept_rows_of
from ._pixels import as_array, channels_first, from_zero_to_one, layout_of, refuse_other_pixels
from ._transformer import RawTransformer
from .image_reader import Size
from .picture_files import as_paths, need_pillow, read_pictures


class ImageEncoder(RawTransformer):
    """Features of pictures by a network that is used as it is, as a step of a pipeline.

    Takes paths of files, or arrays. The network is one of timm [1]_, by its name, or any
    `nn.Module`. It is loaded when it is first needed, once a process, and shared by all encoders
    of the same name and device; a pickle holds the name. Pictures are scaled to cover the size that
    the network was trained on, cut about the centre, and normalised by its own mean and standard
    deviation.

    Needs ``pip install "fewshot-sklearn[images]"``. No network is reached for unless `download`
    says so.

    Parameters
    ----------
    model : str or nn.Module, default="resnet18"
        A name that timm knows, or a network that maps (n, C, H, W) to features (n, n_features) or
        to maps (n, C', H', W'). A module is shared by clones, pickled as it is, and never changed:
        a copy in evaluation mode is used.
    pretrained : bool or path-like, default=True
        Weights of a network by name: timm's own, as far as the cache of the Hugging Face hub has
        them; a file of ``torch.save`` or of safetensors; or, if False, random ones.
    pooling : {"avg", "max"} or None, default=None
        What becomes of maps of features. None is as the network was trained; of a module's maps,
        their mean.
    size : int, tuple of int or None, default=None
        (height, width) that pictures are brought to. None is the model's own, or, of a module that
        does not tell, that of the pictures.
    mean, std : sequence of float or None, default=None
        Of each channel, of pixels from 0 to 1. None are the model's own; of a module that does not
        tell, pixels stay from 0 to 1.
    layout : {"auto", "NHWC", "NCHW"}, default="auto"
        Which axis of an array holds the channels; "auto" takes that of length 1 or 3.
    batch_size : int, default=32
        Pictures to embed at once.
    device : str, default="auto"
        A torch device; "auto" is the GPU where there is one.
    cache : bool, default=True
        Whether rows are kept, up to 256 MiB a model, and looked up by the picture: a
        cross-validation then embeds each picture once.
    download : bool, default=False
        Whether weights that are not on this machine may be fetched from the hub.
    random_state : int, default=0
        Seeds random weights.
    verbose : bool or int, default=False
        Whether to draw a progress bar.

    Attributes
    ----------
    n_features_out_ : int
        Length of a row.
    layout_ : {"NHW", "NHWC", "NCHW"}
        Which axes the arrays have; only when `fit` got an array.
    n_features_in_ : int
        One; only when `fit` got a data frame of paths.
    feature_names_in_ : ndarray of shape (1,)
        The name of its column; only when `fit` got a data frame of paths.

    See Also
    --------
    ImageReader : Pictures as arrays of one size, for a network that is trained here.
    SentenceEncoder : The same for sentences.

    References
    ----------
    .. [1] R. Wightman, "PyTorch image models",
       https://github.com/huggingface/pytorch-image-models, 2019.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from torch import nn
    >>> from fewshot_sklearn import ImageEncoder, RidgeHeadClassifier
    >>> from fewshot_sklearn.datasets import load_omniglot
    >>> clf = make_pipeline(ImageEncoder("resnet18"), RidgeHeadClassifier())
    >>> clf.fit(["cat.jpg", "dog.jpg"], ["cat", "dog"])  # doctest: +SKIP

    A network of your own, on arrays:

    >>> images, letters = load_omniglot(return_X_y_groups=True)[:2]
    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU())
    >>> clf = make_pipeline(ImageEncoder(net), RidgeHeadClassifier())
    >>> clf.fit(images[:100:10], letters[:100:10]).predict(images[:3]).shape
    (3,)
    """

    _constraints: dict[str, Constraint] = {
        "model": Name() | Kind(nn.Module, told="an nn.Module"),
        "pretrained": Flag() | FilePath(),
        "pooling": OneOf("avg", "max") | None,
        "size": Whole(1) | Size() | None,
        "mean": Several(Number()) | None,
        "std": Several(Number(above=0)) | None,
        "layout": OneOf("auto", "NHWC", "NCHW"),
        "random_state": Whole(0, 2**32 - 1),
    }

    def __init__(
        self,
        model: Any = "resnet18",
        *,
        pretrained: bool | str | os.PathLike[str] = True,
        pooling: str | None = None,
        size: int | tuple[int, int] | None = None,
        mean: Any = None,
        std: Any = None,
        layout: str = "auto",
        batch_size: int = 32,
        device: str = "auto",
        cache: bool = True,
        download: bool = False,
        random_state: int = 0,
        verbose: bool | int = False,
    ):
        self.model = model
        self.pretrained = pretrained
        self.pooling = pooling
        self.size = size
        self.mean = mean
        self.std = std
        self.layout = layout
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.download = download
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> ImageEncoder:
        """Check that these are pictures, and embed the first.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, H, W, C) or (n, C, H, W), or paths
            Pixels from 0 to 255 (uint8) or from 0 to 1 (floats); or a list, an array, a Series or
            a column of paths.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object
            The transformer.
        """
        check_parameters(self)
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std must be given together.")
        pictures = self._pictures(X, reset=True)
        self.n_features_out_ = self._rows(pictures.first()).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed pictures.

        Parameters
        ----------
        X : array-like of shape (n, H, W), (n, H, W, C) or (n, C, H, W), or paths
            Pictures.

        Returns
        -------
        ndarray of shape (n, n_features_out), float32
            A row a picture.
        """
        check_is_fitted(self)
        rows = self._rows(self._pictures(X, reset=False), self.verbose)
        if rows.shape[1] != self.n_features_out_:
            raise ValueError(
                f"The network gives {rows.shape[1]} features, and gave {self.n_features_out_} when "
                "it was fitted: it is another one now, or takes pictures of any size."
            )
        return rows

    def _pictures(self, X: Any, reset: bool) -> _Pictures:
        array = as_array(X)
        if array is None:
            need_pillow("ImageEncoder")
            return _Pictures(as_paths(one_column(self, X, "paths", reset), "ImageEncoder"), None)
        if not len(array):
            raise ValueError(
                f"Found array with 0 sample(s) (shape={array.shape}) while a minimum of 1 is "
                "required by ImageEncoder."
            )
        known = None if reset else getattr(self, "layout_", None)
        told = known if known in ("NHWC", "NCHW") and array.ndim == 4 else self.layout
        layout = layout_of(array.shape, told)
        refuse_other_pixels(array, all_of_them=reset)
        if reset:
            self.layout_ = layout
        return _Pictures(None, channels_first(array, layout))

    def _shared(self) -> SharedImageModel:
        device = str(resolve_device(self.device, solves=False))
        if isinstance(self.model, nn.Module):
            return own_image_model(self.model, self.pooling, device)
        return shared_image_model(
            self.model, self.pretrained, self.pooling, device, self.download,
            int(self.random_state),
        )  # fmt: skip

    def _rows(self, pictures: _Pictures, verbose: bool | int = False) -> np.ndarray:
        shared = self._shared()
        size = shared.size
        if self.size is not None:
            given: Any = self.size
            size = (given, given) if isinstance(given, int | np.integer) else tuple(given)
        used = SharedImageModel(
            shared.module, shared.channels, size,
            shared.mean if self.mean is None else tuple(self.mean),
            shared.std if self.std is None else tuple(self.std),
            shared.pooling,
        )  # fmt: skip
        told = repr((used.size, used.mean, used.std, used.pooling)).encode()
        return embedded(
            pictures.things(), pictures.digests(told), pictures.embedding(used),
            kept_rows_of(shared) if self.cache else None, self.batch_size,
            bar="pictures" if verbose else None,
        )  # fmt: skip


class _Pictures:
    """Pictures in files, or in an array (n, C, H, W).

    Parameters
    ----------
    paths : list of str or None
        Files.
    array : ndarray or None
        Or pixels.
    """

    def __init__(self, paths: list[str] | None, array: np.ndarray | None):
        self.paths, self.array = paths, array

    def first(self) -> _Pictures:
        """The first alone."""
        if self.paths is not None:
            return _Pictures(self.paths[:1], None)
        assert self.array is not None
        return _Pictures(None, self.array[:1])

    def things(self) -> Any:
        """One thing a picture."""
        return self.paths if self.paths is not None else self.array

    def digests(self, told: bytes) -> list[bytes]:
        """What tells one picture from another, and how it is looked at."""
        if self.paths is not None:
            return [_of_file(told, place) for place in self.paths]
        assert self.array is not None
        known = told + f"{self.array.shape[1:]}{self.array.dtype}".encode()
        return [
            hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=16, key=_key(known))
            .digest() for x in self.array
        ]  # fmt: skip

    def embedding(self, used: SharedImageModel) -> Callable[[list[Any]], np.ndarray]:
        """What embeds a few of the things."""

        def of_files(paths: list[str]) -> np.ndarray:
            color = "grey" if used.channels == 1 else "rgb"
            read = read_pictures(paths, used.size, color)[0]
            return used.features(
                _fitting(channels_first(read, layout_of(read.shape, "NHWC")), used)
            )

        def of_arrays(pictures: list[np.ndarray]) -> np.ndarray:
            return used.features(_fitting(np.stack(pictures), used))

        return of_files if self.paths is not None else of_arrays


def _fitting(pictures: np.ndarray, used: SharedImageModel) -> torch.Tensor:
    """Pictures (n, C, H, W) as a network takes them, from 0 to 1."""
    x = torch.from_numpy(np.ascontiguousarray(from_zero_to_one(pictures)))
    if used.channels == 3 and x.shape[1] == 1:
        x = x.expand(-1, 3, -1, -1)
    elif used.channels == 1 and x.shape[1] == 3:
        raise ValueError(
            f"The network {type(used.module).__name__} takes grey pictures, and X has colours: "
            "make them grey, such as by X.mean(-1)."
        )
    for name, given in (("mean", used.mean), ("std", used.std)):
        if given is not None and len(given) not in (1, x.shape[1]):
            raise ValueError(
                f"{name} has {len(given)} values, and pictures have {x.shape[1]} channel(s)."
            )
    return brought_to(x, used.size)


def _of_file(told: bytes, place: str) -> bytes:
    try:
        known = os.stat(place)
        written = f"{os.path.abspath(place)}\0{known.st_size}\0{known.st_mtime_ns}"
    except OSError:  # which reading it will tell, by name
        written = place
    return hashlib.blake2b(written.encode(), digest_size=16, key=_key(told)).digest()


def _key(told: bytes) -> bytes:
    return hashlib.blake2b(told, digest_size=32).digest()
