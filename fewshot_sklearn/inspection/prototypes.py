"""What a task's classes look like, with the past classes they resemble beside."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array

from ..estimators import (
    ROW_DTYPES,
    deciding_features,
    encoder_features,
    feature_metric,
)
from ..model_selection import check_axes, pyplot
from ..tasks import Kind, Whole, check_arguments
from ._drawing import (
    IMAGE_SHAPE,
    ColourMap,
    as_image,
    class_colors,
    fitted_classifier,
    image_options,
    in_rgb_range,
    plain_names,
    shortened,
)
from ._final_step import final_and_rows
from .task_memory import TaskMemory


class PrototypeDisplay:
    """Support images by class, and beside them the past classes whose means are nearest.

    One line a class. On the left are its support rows, the one nearest to the
    class mean first; on the right the most typical rows of past classes, with
    their names and their distance from the class mean.

    Make one with `from_estimator`.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels.
    images : list of list of ndarray
        The images to show of each class.
    past_ids : ndarray of shape (n_classes, n_neighbors) or None, default=None
        Names of the nearest past classes.
    past_distances : ndarray of shape (n_classes, n_neighbors) or None, default=None
        Their distances.
    past_images : list of list of ndarray or None, default=None
        Their most typical rows, as images.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    ax_ : matplotlib Axes
        The axes, in units of one image.
    images_ : list of matplotlib AxesImage
        The images, line by line.

    See Also
    --------
    TaskMemory : What past tasks looked like.
    EmbeddingDisplay : The task in its feature space.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from fewshot_sklearn import ProtoNetClassifier
    >>> from fewshot_sklearn.inspection import PrototypeDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> display = PrototypeDisplay.from_estimator(
    ...     ProtoNetClassifier(), X[:30], y[:30], image_shape=(8, 8)
    ... )
    >>> len(display.images_)
    30
    >>> plt.close(display.figure_)
    """

    _constraints = {
        "past": Kind(TaskMemory, told="a TaskMemory") | None,
        "n_neighbors": Whole(1),
        "max_rows": Whole(1),
        "image_shape": IMAGE_SHAPE,
        "cmap": ColourMap(),
    }

    def __init__(
        self,
        *,
        classes: np.ndarray,
        images: list[list[np.ndarray]],
        past_ids: np.ndarray | None = None,
        past_distances: np.ndarray | None = None,
        past_images: list[list[np.ndarray]] | None = None,
    ):
        self.classes, self.images = classes, images
        self.past_ids, self.past_distances = past_ids, past_distances
        self.past_images = past_images

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_support: Any,
        y_support: Any,
        *,
        past: TaskMemory | None = None,
        n_neighbors: int = 3,
        max_rows: int = 5,
        image_shape: tuple[int, ...] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> PrototypeDisplay:
        """Fit a clone on the support rows, and draw them with what they resemble.

        Parameters
        ----------
        estimator : estimator
            A classifier of this package, fitted or not: a clone is fitted. Or a pipeline
            of frozen steps that ends in one, as ``MetaTrainer(pipeline)`` leaves it.
        X_support : array-like of shape (n_support, n_features) or (n_support, \\*input_shape)
            Support rows that are images.
        y_support : array-like of shape (n_support,)
            Their labels.
        past : TaskMemory or None, default=None
            Past tasks, made with the same estimator and ``keep_rows=True``.
        n_neighbors : int, default=3
            How many past tasks to show.
        max_rows : int, default=5
            The most support rows to show of a class.
        image_shape : tuple of int or None, default=None
            Shape of the images that flat rows are, such as (28, 28); of a pipeline, rows
            as they are passed.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Arguments of `plot`.

        Returns
        -------
        PrototypeDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            When rows are no images, or the memory keeps none.
        """
        check_arguments(
            cls._constraints,
            past=past,
            n_neighbors=n_neighbors,
            max_rows=max_rows,
            image_shape=image_shape,
        )
        check_axes(ax)
        final, X_seen = final_and_rows(estimator, X_support)
        fitted, y = fitted_classifier(final, X_seen, y_support)
        X = _numbers(X_support)
        if as_image(X[0], image_shape) is None:
            raise ValueError(
                f"Rows of shape {X.shape[1:]} are not images. Say image_shape=(H, W) if they are."
            )
        learner, rows = fitted._fitted_learner_and_rows(X_seen)
        metric = feature_metric(learner)
        deciding = metric.prepared(deciding_features(fitted, X_seen))
        images = []
        for label in fitted.classes_:
            of_class = np.flatnonzero(y == label)
            mean = deciding[of_class].mean(0, keepdims=True)
            near = np.argsort(metric.distances(mean, deciding[of_class])[0], kind="stable")
            images.append([as_image(X[i], image_shape) for i in of_class[near[:max_rows]]])
        found: dict[str, Any] = {}
        if past is not None:
            past.check_made_with(fitted)
            if past.rows is None:
                raise ValueError(
                    "past keeps no rows to show: make it with TaskMemory.from_data(..., "
                    "keep_rows=True)."
                )
            Z = encoder_features(learner, rows)
            means = np.stack([metric.prepared(Z[y == c]).mean(0) for c in fitted.classes_])
            distances = metric.distances(means, past.means)
            order = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
            found["past_ids"] = past.ids[order]
            found["past_distances"] = np.take_along_axis(distances, order, 1)
            found["past_images"] = [
                [as_image(past.rows[i], image_shape) for i in near] for near in order
            ]
        display = cls(classes=fitted.classes_, images=images, **found)  # type: ignore[arg-type]
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, cmap: str = "gray_r") -> PrototypeDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str, default="gray_r"
            Colour map of images of one channel.

        Returns
        -------
        PrototypeDisplay
            The display.
        """
        check_axes(ax)
        plt = pyplot()
        check_arguments(self._constraints, cmap=cmap)
        from matplotlib.patches import Rectangle

        n_own = max(len(images) for images in self.images)
        n_past = 0 if self.past_ids is None else self.past_ids.shape[1]
        n_classes, gap, pitch = len(self.classes), 0.5, 1.12
        # a past class has its name and its distance beside the image
        cell, label = 2.3, 0.1
        width = n_own + (gap + n_past * cell if n_past else 0)
        names = [shortened(name) for name in plain_names(self.classes)]
        if ax is None:
            left, above = 0.085 * max(map(len, names)) + 0.25, 0.45  # inches, as is size
            size, below, beside = 0.8, 0.1, 0.1
            across, down = size * width, size * pitch * n_classes
            total = max(left + across + beside, 3.0), above + down + below
            self.figure_ = plt.figure(figsize=total)
            self.ax_ = self.figure_.add_axes(
                (left / total[0], below / total[1], across / total[0], down / total[1])
            )
        else:
            self.figure_, self.ax_ = ax.figure, ax
        past_images = self.past_images or [[] for _ in self.images]
        everything = [image for line in [*self.images, *past_images] for image in line]
        options = image_options(everything)
        if options:
            options["cmap"] = cmap
        self.images_: list[Any] = []
        colors = class_colors(n_classes)

        def draw(image: np.ndarray, left: float, top: float, color: Any) -> None:
            extent = (left + 0.04, left + 0.96, top + 0.96, top + 0.04)
            drawn = self.ax_.imshow(in_rgb_range(image), extent=extent, **options)
            self.images_.append(drawn)
            corner = (extent[0], extent[3])
            frame = Rectangle(
                corner, 0.92, 0.92, fill=False, clip_on=False, edgecolor=color, linewidth=1.5
            )
            self.ax_.add_patch(frame)

        for line, images in enumerate(self.images):
            top = pitch * line
            for column, image in enumerate(images):
                draw(image, column, top, colors[line])
            for rank in range(n_past):
                left = n_own + gap + cell * rank
                draw(past_images[line][rank], left, top, "0.6")
                assert self.past_ids is not None and self.past_distances is not None
                parts = str(self.past_ids[line, rank]).split("/", 1)
                told = "\n".join(shortened(part, 16) for part in parts)
                self.ax_.text(
                    left + 1 + label, top + 0.5, f"{told}\n{self.past_distances[line, rank]:.2f}",
                    fontsize=7, va="center",
                )  # fmt: skip
        self.ax_.set(
            xlim=(0, width), ylim=(pitch * n_classes - 0.06, -0.06), xticks=[], aspect="equal"
        )
        self.ax_.set_yticks(pitch * np.arange(n_classes) + 0.5, names)
        self.ax_.tick_params(length=0)
        self.ax_.spines[:].set_visible(False)
        self.ax_.text(0, -0.2, "support rows", va="bottom")
        if n_past:
            self.ax_.text(n_own + gap, -0.2, "nearest past classes, and distance", va="bottom")
        return self


def _numbers(X: Any) -> np.ndarray:
    """Rows to draw."""
    try:
        return check_array(X, dtype=ROW_DTYPES, allow_nd=True)
    except ValueError as error:
        raise ValueError(f"Only rows of numbers are images: {error}") from error
