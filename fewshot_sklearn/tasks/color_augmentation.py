"""The usual augmentation of colour pictures: crops, mirror images, other light and colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .augmentation import Augmentation, highest
from .constraints import Constraint, Number, check_arguments
from .moving import moved

#: How bright red, green and blue are (ITU-R BT.601).
GREY = np.array([0.299, 0.587, 0.114])
#: Largest change of height over width that a crop makes.
RATIO = 4 / 3


class RandomColorCrop(Augmentation):
    """Crop, mirror and recolour every picture of an episode at random.

    The usual augmentation of colour pictures (Szegedy et al. 2015; Chen et al. 2020), each
    picture in its own way: a crop, brought back to the size of the picture; its mirror image;
    other brightness, contrast, saturation and hue; grey in place of colours.

    Pass it as ``MetaTrainer(..., augment=RandomColorCrop())``. Where colours tell classes apart,
    let `hue` and `grey` be 0, as they are.

    Parameters
    ----------
    crop : float, default=0.5
        Largest share of a picture's area that a crop leaves out; its height over its width
        changes by up to 4/3. 0 leaves pictures whole.
    flip : float, default=0.5
        Probability of the mirror image, left for right.
    brightness : float, default=0.3
        Largest relative change of all pixels.
    contrast : float, default=0.3
        Largest relative change of how far pixels are from the picture's mean grey.
    saturation : float, default=0.3
        Largest relative change of how far pixels are from their own grey.
    hue : float, default=0.0
        Largest turn of the colours, as a share of the whole circle.
    grey : float, default=0.0
        Probability that a picture becomes grey.

    See Also
    --------
    RandomAffine : Turns, scales, shears and shifts.

    Notes
    -----
    Pixels go from 0 to 255 where X is of whole numbers or the largest is above 1, and else from 0
    to 1; those that would leave that range stay at its end. Of pictures of one channel nothing
    changes by `saturation`, `hue` and `grey`.

    References
    ----------
    .. [1] C. Szegedy et al., "Going deeper with convolutions", CVPR 2015.
    .. [2] T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A simple framework for contrastive
       learning of visual representations", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn.tasks import RandomColorCrop
    >>> X = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    >>> altered = RandomColorCrop()(X, np.random.default_rng(1))
    >>> altered.shape, bool(0 <= altered.min() and altered.max() <= 255)
    ((3, 32, 32, 3), True)
    """

    minds_range = True
    _constraints: dict[str, Constraint] = {
        "crop": Number(0, below=1),
        "flip": Number(0, 1),
        "brightness": Number(0, 1),
        "contrast": Number(0, 1),
        "saturation": Number(0, 1),
        "hue": Number(0, 0.5),
        "grey": Number(0, 1),
    }

    def __init__(
        self,
        crop: float = 0.5,
        flip: float = 0.5,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.3,
        hue: float = 0.0,
        grey: float = 0.0,
    ):
        given: dict[str, Any] = {
            "crop": crop, "flip": flip, "brightness": brightness, "contrast": contrast,
            "saturation": saturation, "hue": hue, "grey": grey,
        }  # fmt: skip
        check_arguments(self._constraints, **given)
        self.crop, self.flip = crop, flip
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.hue, self.grey = hue, grey

    def __call__(self, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Alter pictures.

        Parameters
        ----------
        X : ndarray of shape (n, H, W), (n, H, W, C) or (n, H * W * C)
            Pictures of one or three channels, from 0 to 255 or from 0 to 1.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of the same shape, float32
            Pictures, of the range that they had.

        Raises
        ------
        ValueError
            When there are two channels, or more than three, or negative pixels.
        """
        X = np.asarray(X)
        rows = torch.from_numpy(np.ascontiguousarray(X))
        return self.of_rows(rows, rng, highest(X)).numpy()

    def of_images(self, images: torch.Tensor, rng: Any, high: float | None) -> torch.Tensor:
        """Alter pictures.

        Parameters
        ----------
        images : Tensor of shape (n, C, H, W)
            Pictures, on any device.
        rng : numpy.random.Generator or Together
            Source of randomness.
        high : float or None
            The largest value that a pixel may have.

        Returns
        -------
        Tensor of shape (n, C, H, W)
            Pictures, on that device.

        Raises
        ------
        ValueError
            When there are two channels, or more than three.
        """
        channels = images.shape[1]
        if channels not in (1, 3):
            raise ValueError(
                f"X must hold pictures of 1 or 3 channels, got {channels}: {tuple(images.shape)}."
            )
        assert high is not None
        return self._recoloured(self._cropped(images, rng), high, rng)

    def _cropped(self, images: torch.Tensor, rng: Any) -> torch.Tensor:
        """Crops of pictures (n, C, H, W), of that size again, some of them mirrored."""
        n = len(images)
        area = 1 - rng.uniform(0, self.crop, n)
        ratio = np.exp(rng.uniform(-1, 1, n) * np.log(RATIO)) if self.crop else np.ones(n)
        sides = np.sqrt(np.c_[area * ratio, area / ratio]).clip(max=1)  # width, height
        middle = rng.uniform(-1, 1, (n, 2)) * (1 - sides)
        mirrored = np.where(rng.random(n) < self.flip, -1, 1)
        if (sides == 1).all():
            return torch.where(
                moved(mirrored < 0, images.device)[:, None, None, None], images.flip(3), images
            )
        matrix = np.zeros((n, 2, 3), np.float32)
        matrix[:, 0, 0], matrix[:, 1, 1] = sides[:, 0] * mirrored, sides[:, 1]
        matrix[:, :, 2] = middle
        matrices = moved(matrix, images.device)
        grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    def _recoloured(self, images: torch.Tensor, high: float, rng: Any) -> torch.Tensor:
        """Pictures (n, C, H, W) of other colours: one affine map of the channels for each."""
        n, channels = images.shape[:2]

        def factor(most: float) -> np.ndarray:
            return 1 + rng.uniform(-most, most, n)[:, None, None]

        bright, contrast, saturation = map(
            factor, (self.brightness, self.contrast, self.saturation)
        )
        turned = rng.uniform(-self.hue, self.hue, n) * 2 * np.pi
        saturation = np.where(rng.random(n)[:, None, None] < self.grey, 0.0, saturation)
        to_grey = np.tile(GREY, (3, 1)) if channels == 3 else np.ones((1, 1))
        same = np.eye(channels)
        # hue turns about the axis of greys; saturation moves along the way to grey
        mix = bright * contrast * (saturation * same + (1 - saturation) * to_grey)
        if channels == 3 and self.hue:
            mix = mix @ _turns(turned)

        def there(numbers: np.ndarray) -> torch.Tensor:
            return moved(numbers.astype(np.float32), images.device)

        level = there(to_grey[0])
        middle = torch.einsum("nchw,c->n", images, level) / images[0, 0].numel() if n else 0
        shift = there((bright * (1 - contrast))[:, 0, 0]) * middle
        mixed = torch.einsum("ndc,nchw->ndhw", there(mix), images)
        return (mixed + shift[:, None, None, None]).clamp(0, high)


def _turns(angle: np.ndarray) -> np.ndarray:
    """Matrices (n, 3, 3) that turn colours about the axis of greys (Rodrigues' formula)."""
    axis = np.full(3, 3**-0.5)
    cross = np.cross(np.eye(3), axis)
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return cosine * np.eye(3) + sine * cross + (1 - cosine) * np.outer(axis, axis)
