"""What the displays have in common: a fitted classifier, axes, colours of classes, images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from ..estimators import FewShotEstimator
from ..model_selection import check_axes, pyplot
from ..tasks import Constraint, Several, Whole, class_labels
from ..tasks import image_shape as channels_last_shape
from ._memory_file import plain_ids

#: Grey of what has no class of its own.
NEUTRAL = "0.6"


def fitted_classifier(estimator: Any, X: Any, y: Any) -> tuple[Any, np.ndarray]:
    """A clone fitted to the support rows, and their labels; an error for any other estimator."""
    if not (isinstance(estimator, FewShotEstimator) and is_classifier(estimator)):
        raise ValueError(
            "estimator must be a classifier of this package, or a pipeline that ends in one, got "
            f"{type(estimator).__name__}."
        )
    labels = class_labels(y)
    return clone(estimator).fit(X, labels), labels


def plain_names(labels: np.ndarray) -> list[Any]:
    """Labels of classes as Python has them; dates as they are read."""
    return (plain_ids(labels) if labels.dtype.kind in "mM" else labels).tolist()


def axes_or_new(ax: Any, figsize: tuple[float, float] | None = None) -> tuple[Any, Any]:
    """The axes and their figure; where None, new ones that make room for legends beside them."""
    check_axes(ax)
    if ax is None:
        return pyplot().subplots(figsize=figsize, layout="constrained")
    return ax.figure, ax


class ColourMap(Constraint):
    """The name of a colour map of matplotlib, or one."""

    told = "a colour map of matplotlib or the name of one"

    def allows(self, value: Any) -> bool:
        pyplot()
        from matplotlib import colormaps
        from matplotlib.colors import Colormap

        return isinstance(value, Colormap) or (isinstance(value, str) and value in colormaps)


#: Shape of an image that a flat row is.
IMAGE_SHAPE = Several(Whole(1), least=2) | None


def class_colors(n_classes: int) -> list[Any]:
    """Colours that the colour-blind tell apart: up to ten by hue, more of them by brightness.

    The hues are Okabe and Ito's, yellow last; and, where matplotlib has them, Petroff's.
    """
    import matplotlib as mpl
    from matplotlib import style

    six = style.library["seaborn-v0_8-colorblind"]["axes.prop_cycle"].by_key()["color"]
    six = [*six[:4], six[5], six[4]]
    ten = []
    if "petroff10" in style.available:
        ten = style.library["petroff10"]["axes.prop_cycle"].by_key()["color"]
    for colors in (six, ten):
        if n_classes <= len(colors):
            return colors[:n_classes]
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.95, n_classes)))


def class_markers(n_classes: int) -> list[str]:
    """Shapes of points: all alike where the colours do, else in turn."""
    return ["o" if n_classes <= 6 else "osD^vPXp"[i % 8] for i in range(n_classes)]


def as_image(row: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
    """A row as matplotlib draws it, (H, W) or (H, W, 3); None where it is no image.

    Flat rows are images only where their shape is told.
    """
    if shape is None and (row.ndim < 2 or row.ndim > 3 or row.shape[2:] not in ((), (1,), (3,))):
        return None
    height, width, channels = channels_last_shape(tuple(shape or row.shape))
    if height * width * channels != row.size:
        raise ValueError(
            f"image_shape={shape} does not fit rows of shape {row.shape}: it must hold "
            f"{math.prod(row.shape)} values."
        )
    return row.reshape((height, width) if channels == 1 else (height, width, channels))


def image_options(images: list[np.ndarray]) -> dict[str, Any]:
    """How to draw grey images, all alike: dark where the values are high, on white."""
    from matplotlib.colors import Normalize

    if images[0].ndim == 3:
        return {}
    low, high = min(i.min() for i in images), max(i.max() for i in images)
    return {"cmap": "gray_r", "norm": Normalize(low, high)}


def in_rgb_range(image: np.ndarray) -> np.ndarray:
    """Colours as matplotlib takes them: bytes, or numbers from 0 to 1."""
    if image.ndim == 2 or image.dtype == np.uint8:
        return image
    high = 255.0 if image.max() > 1 else 1.0
    return np.clip(image / high, 0, 1)


def shortened(name: Any, length: int = 22) -> str:
    """A name that is not too long to stand beside others, cut in its middle."""
    text = str(name).replace("_", " ")
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[: length - 1 - half]}…{text[-half:]}"
