"""More classes and more variety from the images at hand."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .constraints import Constraint, Number, OneOf, Whole, check_arguments
from .images import as_images, image_shape
from .moving import moved


def add_rotations(X: Any, y: Any, *others: Any) -> tuple[np.ndarray, ...]:
    """Add every image turned by 90, 180 and 270 degrees, as rows of new classes.

    The usual augmentation of character sets (Santoro et al. 2016; Vinyals et
    al. 2016): a turned character is another character.

    Parameters
    ----------
    X : array-like of shape (n_rows, H, W), (n_rows, H, W, C) or (n_rows, H * W * C)
        Images; H = W. Flat rows are of one or three channels, the last axis.
    y : array-like of shape (n_rows,)
        Class labels.
    *others : array-like of shape (n_rows,)
        Columns to repeat unchanged, such as groups.

    Returns
    -------
    X : ndarray of shape (4 * n_rows, H, W[, C]) or (4 * n_rows, H * W * C)
        Images, of the type they had.
    y : ndarray of shape (4 * n_rows,)
        Strings ``label@angle`` where turned, ``label@0`` where not.
    *others : ndarray of shape (4 * n_rows,)
        Repeated columns.

    Raises
    ------
    ValueError
        When images are not square, or there are more or fewer of something than of them.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.tasks import add_rotations
    >>> X, y = add_rotations(np.array([[[1, 2], [3, 4]]]), ["a"])
    >>> X.shape, y.tolist()
    ((4, 2, 2), ['a@0', 'a@90', 'a@180', 'a@270'])
    """
    X, y = np.asarray(X), np.asarray(y).astype(str)
    images = X
    if X.ndim == 2:
        images = X.reshape(len(X), *image_shape(X.shape[1:]))
    if images.ndim not in (3, 4) or images.shape[1] != images.shape[2]:
        raise ValueError(
            "X must hold square images (n, H, W) or (n, H, W, C), channels last, or flat rows of "
            f"such, got {X.shape}. Crop them to squares first."
        )
    columns = {"y": y} | {f"others[{i}]": np.asarray(other) for i, other in enumerate(others)}
    for name, column in columns.items():
        if column.shape[:1] != (len(X),):
            raise ValueError(f"{name} must have {len(X)} rows, as X has, got {column.shape}.")
    turned = np.concatenate([np.rot90(images, k, axes=(1, 2)) for k in range(4)])
    turned = turned.reshape(4 * len(X), *X.shape[1:])
    labels = np.concatenate([np.char.add(y, f"@{90 * k}") for k in range(4)])
    return (turned, labels, *(np.tile(np.asarray(column), 4) for column in others))


#: How torch calls what stands where nothing was.
_BORDERS = {"zeros": "zeros", "edge": "border", "mirror": "reflection"}


class Together:
    """Random numbers for the rows of many tasks, each task's from a generator of its own.

    What is drawn has the rows of all tasks as its first axis, as though each task had drawn for
    its own.

    Parameters
    ----------
    rngs : sequence of numpy.random.Generator
        One a task.
    counts : sequence of int
        Rows of each task.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], counts: Sequence[int]):
        self.rngs, self.counts = rngs, [int(count) for count in counts]

    def _drawn(self, name: str, size: Any, *args: float) -> np.ndarray:
        rest = () if isinstance(size, Integral) else tuple(size[1:])
        pairs = zip(self.rngs, self.counts, strict=True)
        return np.concatenate([getattr(r, name)(*args, size=(n, *rest)) for r, n in pairs])

    def uniform(self, low: float, high: float, size: Any) -> np.ndarray:
        """As ``numpy.random.Generator.uniform``."""
        return self._drawn("uniform", size, low, high)

    def normal(self, loc: float, scale: float, size: Any) -> np.ndarray:
        """As ``numpy.random.Generator.normal``."""
        return self._drawn("normal", size, loc, scale)

    def random(self, size: Any) -> np.ndarray:
        """As ``numpy.random.Generator.random``."""
        return self._drawn("random", size)


def highest(X: Any) -> float:
    """The largest value that a pixel may have: of whole numbers, or if one is above 1, it is 255.

    Raises
    ------
    ValueError
        When a pixel is negative.
    """
    if X.size and X.min() < 0:
        raise ValueError(
            "X must hold pixels from 0 to 255 or from 0 to 1, got "
            f"{X.min():.4g}: alter pictures before they are standardised."
        )
    return 255.0 if X.dtype.kind in "iu" or (X.size and X.max() > 1) else 1.0


class Augmentation:
    """Base class of what alters images, on a GPU those of many tasks at once.

    A class of one's own has `of_images`, and ``__call__(X, rng)`` for arrays. Pixels are float32
    in the range of the data, 0 to 255 of whole numbers and often 0 to 1 of others.

    Attributes
    ----------
    minds_range : bool
        Whether `of_images` is to be told which values pixels may have; negative ones are then
        refused.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from fewshot_sklearn.tasks import Augmentation
    >>> class Brighter(Augmentation):
    ...     def of_images(self, images, rng, high):
    ...         change = torch.from_numpy(rng.uniform(0, 1, len(images))).to(images)
    ...         return images + change[:, None, None, None]
    ...     def __call__(self, X, rng):
    ...         return self.of_rows(torch.from_numpy(X), rng, None).numpy()
    >>> rng = np.random.default_rng(0)
    >>> Brighter()(np.zeros((2, 8, 8)), rng).shape
    (2, 8, 8)
    """

    minds_range = False

    def of_images(self, images: torch.Tensor, rng: Any, high: float | None) -> torch.Tensor:
        """Alter images.

        Parameters
        ----------
        images : Tensor of shape (n, C, H, W)
            Images, on any device.
        rng : numpy.random.Generator or Together
            Source of randomness. Whatever is drawn from it has n as its first axis.
        high : float or None
            The largest value that a pixel may have; None where `minds_range` is False.

        Returns
        -------
        Tensor of shape (n, C, H, W)
            Images, on that device.

        Raises
        ------
        NotImplementedError
            When a class has not its own.
        """
        raise NotImplementedError

    def of_rows(self, X: torch.Tensor, rng: Any, high: float | None) -> torch.Tensor:
        """Alter rows that are images.

        Parameters
        ----------
        X : Tensor of shape (n, H, W), (n, H, W, C) or (n, H * W * C)
            Rows, on any device.
        rng : numpy.random.Generator or Together
            Source of randomness.
        high : float or None
            The largest value that a pixel may have.

        Returns
        -------
        Tensor of the same shape
            Rows.

        Raises
        ------
        ValueError
            When `of_images` gives others than as many, of the same size.
        """
        images = as_images(X)
        altered = self.of_images(images, rng, high)
        if altered.shape != images.shape:
            raise ValueError(
                f"{self!r} gave images of shape {tuple(altered.shape)} for images of shape "
                f"{tuple(images.shape)}: it must give as many, of the same size."
            )
        return altered.permute(0, 2, 3, 1).reshape(X.shape)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({given})"


class RandomAffine(Augmentation):
    """Turn, scale, shear and shift every image of an episode at random.

    Pass it as ``MetaTrainer(..., augment=RandomAffine())``.

    Parameters
    ----------
    degrees : float, default=15.0
        Largest rotation, in degrees.
    scale : float, default=0.2
        Largest relative change of height and of width.
    shear : float, default=0.2
        Largest shear factor.
    translate : float, default=0.15
        Largest shift, as a share of half the image.
    border : {"zeros", "edge", "mirror"}, default="zeros"
        What stands where nothing was: zeros, which of drawings are paper and of photographs a
        black frame; the pixel at the edge; or the image, mirrored.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.tasks import RandomAffine
    >>> X = np.random.default_rng(0).random((3, 28, 28))
    >>> RandomAffine()(X, np.random.default_rng(1)).shape
    (3, 28, 28)
    """

    _constraints: dict[str, Constraint] = {
        "degrees": Number(0),
        "scale": Number(0, below=1),
        "shear": Number(0),
        "translate": Number(0),
        "border": OneOf(*_BORDERS),
        "bend": Number(0),
        "knots": Whole(2),
    }

    def __init__(
        self,
        degrees: float = 15.0,
        scale: float = 0.2,
        shear: float = 0.2,
        translate: float = 0.15,
        border: str = "zeros",
    ):
        check_arguments(
            self._constraints,
            degrees=degrees, scale=scale, shear=shear, translate=translate, border=border,
        )  # fmt: skip
        self.degrees, self.scale, self.shear, self.translate = degrees, scale, shear, translate
        self.border = border

    def __call__(self, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform images.

        Parameters
        ----------
        X : ndarray of shape (n, H, W), (n, H, W, C) or (n, H * W * C)
            Images, any type.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of the same shape, float32
            Images, of the range that they had.
        """
        return self.of_rows(torch.from_numpy(np.ascontiguousarray(X)), rng, None).numpy()

    def of_images(self, images: torch.Tensor, rng: Any, high: float | None) -> torch.Tensor:
        """Transform images.

        Parameters
        ----------
        images : Tensor of shape (n, C, H, W)
            Images, on any device.
        rng : numpy.random.Generator or Together
            Source of randomness.
        high : float or None
            Not used.

        Returns
        -------
        Tensor of shape (n, C, H, W)
            Images, on that device.
        """
        n = len(images)

        def spread(limit: float, *shape: int) -> np.ndarray:
            return rng.uniform(-limit, limit, (n, *shape))

        angle = np.deg2rad(spread(self.degrees))
        stretch, shear = 1 + spread(self.scale, 2), spread(self.shear)
        shift = spread(self.translate, 2)
        matrix = np.empty((n, 2, 3), np.float32)
        matrix[:, 0, 0] = np.cos(angle) * stretch[:, 0]
        matrix[:, 0, 1] = (shear - np.sin(angle)) * stretch[:, 1]
        matrix[:, 1, 0] = np.sin(angle) * stretch[:, 0]
        matrix[:, 1, 1] = np.cos(angle) * stretch[:, 1]
        matrix[:, :, 2] = shift
        matrices = moved(matrix, images.device)
        grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
        grid, mode = self._bent(grid, rng), _BORDERS[self.border]
        return F.grid_sample(images, grid, padding_mode=mode, align_corners=False)

    def _bent(self, grid: torch.Tensor, rng: Any) -> torch.Tensor:
        """The points (n, H, W, 2) at which images are read."""
        return grid


class RandomElastic(RandomAffine):
    """Bend every image of an episode at random, and turn, scale, shear and shift it.

    Points are moved by a smooth field: normal displacements on a coarse grid,
    interpolated by cubic splines, as Simard et al. (2003) did for handwriting
    with a Gaussian filter. Images are resampled once for all of it.

    Parameters
    ----------
    bend : float, default=0.05
        Standard deviation of the displacements, as a share of half the image.
    knots : int, default=5
        Points a side of the coarse grid: the more, the finer the bends.
    degrees, scale, shear, translate : float
        As for `RandomAffine`.
    border : {"zeros", "edge", "mirror"}, default="zeros"
        As for `RandomAffine`.

    References
    ----------
    .. [1] P. Simard, D. Steinkraus and J. Platt, "Best practices for convolutional
       neural networks applied to visual document analysis", ICDAR 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.tasks import RandomElastic
    >>> X = np.random.default_rng(0).random((3, 28, 28))
    >>> RandomElastic(bend=0.1)(X, np.random.default_rng(1)).shape
    (3, 28, 28)
    """

    def __init__(
        self,
        bend: float = 0.05,
        knots: int = 5,
        degrees: float = 15.0,
        scale: float = 0.2,
        shear: float = 0.2,
        translate: float = 0.15,
        border: str = "zeros",
    ):
        check_arguments(self._constraints, bend=bend, knots=knots)
        super().__init__(degrees, scale, shear, translate, border)
        self.bend, self.knots = bend, knots

    def _bent(self, grid: torch.Tensor, rng: Any) -> torch.Tensor:
        n, height, width, _ = grid.shape
        coarse = rng.normal(0.0, self.bend, (n, 2, self.knots, self.knots)).astype(np.float32)
        field = F.interpolate(
            moved(coarse, grid.device), (height, width), mode="bicubic", align_corners=True
        )
        return grid + field.permute(0, 2, 3, 1)


#: What alters copies of support images if nothing else is asked for: half of what training does.
_SLIGHTLY = RandomAffine(degrees=7.5, scale=0.1, shear=0.1, translate=0.075)


def with_altered_copies(
    X: np.ndarray, y: np.ndarray, w: np.ndarray, n: int, alter: Any, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add altered copies of each row; a row and its copies share its weight.

    Parameters
    ----------
    X : ndarray of shape (n_rows, \\*input_shape)
        Support rows.
    y : ndarray of shape (n_rows, n_way)
        Memberships.
    w : ndarray of shape (n_rows,)
        Weights.
    n : int
        Number of copies of each row.
    alter : callable or None
        ``alter(X, rng) -> X``; None alters images slightly.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    X, y, w : ndarray
        ``n + 1`` times as many rows, of the same weight in all.

    Raises
    ------
    ValueError
        When rows that are no images are to be altered by None.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.tasks import with_altered_copies
    >>> X, y, w = np.zeros((2, 3, 3)), np.eye(2), np.ones(2)
    >>> X, y, w = with_altered_copies(X, y, w, 3, None, np.random.default_rng(0))
    >>> X.shape, w.sum()
    ((8, 3, 3), np.float64(2.0))
    """
    if alter is None:
        if X.ndim < 3:
            raise ValueError(
                f"n_augment={n} needs augment=, a callable (X, rng) -> X, for rows that are no "
                f"images; X has shape {X.shape}."
            )
        alter = _SLIGHTLY
    copies = [X, *(np.asarray(alter(X, rng)).reshape(X.shape) for _ in range(n))]
    return np.concatenate(copies), np.tile(y, (n + 1, 1)), np.tile(w / (n + 1), n + 1)
