"""The feature space of one task: support rows, class means and queries in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils import check_consistent_length

from ..estimators import deciding_features, feature_metric
from ..model_selection import check_axes
from ..tasks import check_arguments, class_labels
from ._drawing import (
    IMAGE_SHAPE,
    NEUTRAL,
    as_image,
    axes_or_new,
    class_colors,
    class_markers,
    fitted_classifier,
    image_options,
    in_rgb_range,
    plain_names,
    shortened,
)
from ._final_step import final_and_rows

#: Classes that a column of the legend has room for.
MAX_CLASSES_A_COLUMN = 12


class EmbeddingDisplay:
    """Support rows, class means and queries of a task, in two dimensions of its feature space.

    The features are those that the classifier decides by (see `explain`). Two
    dimensions of many show only a part, given on the axes: points that overlap
    here may be far apart.

    Make one with `from_estimator`.

    Parameters
    ----------
    support : ndarray of shape (n_support, 2)
        Positions of the support rows.
    y_support : ndarray of shape (n_support,)
        Their labels.
    prototypes : ndarray of shape (n_classes, 2)
        Positions of the class means.
    classes : ndarray of shape (n_classes,)
        Labels of the classes.
    query : ndarray of shape (n_query, 2) or None, default=None
        Positions of the queries.
    y_query : ndarray of shape (n_query,) or None, default=None
        Their labels, if known.
    predicted : ndarray of shape (n_query,) or None, default=None
        Their predicted labels.
    explained_variance_ratio : ndarray of shape (2,) or None, default=None
        Shares of the features' variance that the two dimensions show.
    images : list of ndarray or None, default=None
        The support rows as images.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    ax_ : matplotlib Axes
        The axes.
    support_ : list of matplotlib PathCollection
        The support rows, class by class.
    prototypes_ : matplotlib PathCollection
        The class means.
    query_ : list of matplotlib PathCollection
        The queries, class by class.
    wrong_ : matplotlib PathCollection or None
        Crosses on the queries that were classified wrongly.
    legends_ : list of two matplotlib Legend
        The classes, with an image of each if rows are images, and the marks.

    See Also
    --------
    PrototypeDisplay : The support rows as images, with the nearest past classes.
    explain : The same neighbourhoods in numbers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from fewshot_sklearn import ProtoNetClassifier
    >>> from fewshot_sklearn.inspection import EmbeddingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> display = EmbeddingDisplay.from_estimator(
    ...     ProtoNetClassifier(), X[::10], y[::10], X[1::10], y[1::10]
    ... )
    >>> display.ax_.get_xlabel()
    'first component (92% of the variance)'
    >>> plt.close(display.figure_)
    """

    _constraints = {"image_shape": IMAGE_SHAPE}

    def __init__(
        self,
        *,
        support: np.ndarray,
        y_support: np.ndarray,
        prototypes: np.ndarray,
        classes: np.ndarray,
        query: np.ndarray | None = None,
        y_query: np.ndarray | None = None,
        predicted: np.ndarray | None = None,
        explained_variance_ratio: np.ndarray | None = None,
        images: list[np.ndarray] | None = None,
    ):
        self.support, self.y_support = support, y_support
        self.prototypes, self.classes = prototypes, classes
        self.query, self.y_query, self.predicted = query, y_query, predicted
        self.explained_variance_ratio, self.images = explained_variance_ratio, images

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_support: Any,
        y_support: Any,
        X_query: Any = None,
        y_query: Any = None,
        *,
        reduction: Any = "pca",
        image_shape: tuple[int, ...] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> EmbeddingDisplay:
        """Fit a clone on the support rows, and draw what it sees.

        Parameters
        ----------
        estimator : estimator
            A classifier of this package, fitted or not: a clone is fitted. Or a pipeline
            of frozen steps that ends in one, as ``MetaTrainer(pipeline)`` leaves it.
        X_support : array-like of shape (n_support, n_features) or (n_support, \\*input_shape)
            Support rows.
        y_support : array-like of shape (n_support,)
            Their labels.
        X_query : array-like of shape (n_query, n_features) or (n_query, \\*input_shape), or None
            Rows to classify.
        y_query : array-like of shape (n_query,) or None, default=None
            Their labels, if known: they give the colours, and crosses mark what
            is classified wrongly. Without them the colours are the predictions.
        reduction : "pca" or transformer, default="pca"
            Makes two columns of the features; ``fit_transform`` gets those of
            all that is shown.
        image_shape : tuple of int or None, default=None
            Shape of the images that flat rows are, such as (28, 28); of a pipeline, rows
            as they are passed.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Arguments of `plot`.

        Returns
        -------
        EmbeddingDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            When the estimator is no classifier of this package.
        """
        check_arguments(cls._constraints, image_shape=image_shape)
        check_axes(ax)
        if reduction != "pca" if isinstance(reduction, str) else not is_reducer(reduction):
            raise ValueError(f"reduction must be 'pca' or a transformer, got {reduction!r}.")
        images = [as_image(row, image_shape) for row in np.asarray(X_support)]
        final, X_support, X_query = final_and_rows(estimator, X_support, X_query)
        fitted, y_support = fitted_classifier(final, X_support, y_support)
        metric = feature_metric(fitted._rebuild(fitted.meta_init_))
        parts = [metric.prepared(deciding_features(fitted, X_support))]
        parts.append(_prototypes(fitted, parts[0], y_support))
        predicted = None
        if X_query is not None:
            parts.append(metric.prepared(deciding_features(fitted, X_query)))
            predicted = fitted.predict(X_query)
            if y_query is not None:
                y_query = class_labels(y_query, "y_query")
                check_consistent_length(predicted, y_query)
        Z = np.concatenate(parts)
        flat, shares = _reduced(Z, reduction)
        if flat.shape[1] == 1:  # one feature, or one row
            flat = np.column_stack([flat, np.zeros(len(flat))])
            shares = None if shares is None else np.append(shares, 0.0)
        cuts = np.cumsum([len(part) for part in parts])
        display = cls(
            support=flat[: cuts[0]],
            y_support=y_support,
            prototypes=flat[cuts[0] : cuts[1]],
            classes=fitted.classes_,
            query=None if X_query is None else flat[cuts[1] :],
            y_query=y_query,
            predicted=predicted,
            explained_variance_ratio=None if shares is None else shares[:2],
            images=None if images[0] is None else images,  # type: ignore[arg-type]
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None) -> EmbeddingDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        EmbeddingDisplay
            The display.
        """
        self.figure_, self.ax_ = axes_or_new(ax, (7.5, 5.0))
        colors, markers = class_colors(len(self.classes)), class_markers(len(self.classes))
        names = plain_names(self.classes)
        styles = dict(zip(names, zip(colors, markers, strict=True), strict=True))

        def scatter(places: np.ndarray, labels: np.ndarray, **options: Any) -> list[Any]:
            drawn = []
            known = np.unique(labels)
            for label, name in zip(known, plain_names(known), strict=True):
                color, marker = styles.get(name, (NEUTRAL, "o"))
                points = places[labels == label]
                drawn.append(self.ax_.scatter(*points.T, color=color, marker=marker, **options))
            return drawn

        outlined = {"edgecolors": "black", "linewidths": 0.9}
        marks = []
        self.query_ = []
        if self.query is not None and self.predicted is not None:
            shown = self.predicted if self.y_query is None else self.y_query
            self.query_ = scatter(self.query, shown, s=26, alpha=0.75, linewidths=0)
            what = "query, as predicted" if self.y_query is None else "query"
            marks.append(_entry(what, marker="o", color=NEUTRAL, markersize=5))
        self.support_ = scatter(self.support, self.y_support, s=55, zorder=3, **outlined)
        marks.append(_entry("support row", marker="o", color=NEUTRAL, markeredgecolor="black"))
        self.prototypes_ = self.ax_.scatter(
            *self.prototypes.T, s=230, c=colors, marker="*", zorder=4, **outlined
        )
        star = {"marker": "*", "markersize": 14, "markeredgecolor": "black"}
        marks.append(_entry("class mean", color=NEUTRAL, **star))
        self.wrong_ = None
        if self.query is not None and self.y_query is not None:
            wrong = np.asarray(self.predicted != self.y_query)
            self.wrong_ = self.ax_.scatter(
                *self.query[wrong].T, s=40, c="black", marker="x", linewidths=1.3, zorder=5
            )
            told = f"wrong ({wrong.sum()} of {len(wrong)})"
            marks.append(_entry(told, marker="x", color="black"))
        for axis, which in enumerate(("first", "second")):
            share = self.explained_variance_ratio
            told = "" if share is None else f" ({share[axis]:.0%} of the variance)"
            (self.ax_.set_xlabel, self.ax_.set_ylabel)[axis](f"{which} component{told}")
        self.ax_.set_title("Feature space of the task")
        self.ax_.set_aspect("equal", adjustable="datalim")
        lines = [_entry(shortened(name, 24), marker=m, color=c) for name, (c, m) in styles.items()]
        self._draw_legends(lines, marks)
        if ax is None:  # equal units move the limits; the layout is then made for the new ticks
            self.figure_.draw_without_rendering()
        return self

    def _draw_legends(self, classes: list[Any], marks: list[Any]) -> None:
        """To the right of the axes: the classes, with an image each if rows are, and the marks."""
        beside: dict[str, Any] = {"frameon": False, "borderaxespad": 0.0}
        many = len(classes) > MAX_CLASSES_A_COLUMN
        options: dict[str, Any] = {"ncols": 1 + (len(classes) - 1) // MAX_CLASSES_A_COLUMN}
        if self.images is not None and not many:
            pictures = [self._typical_image(label) for label in self.classes]
            handlers = dict(zip(classes, _with_images(pictures), strict=True))
            options |= {"handler_map": handlers, "handlelength": 3.4, "handleheight": 2.2}
        first = self.ax_.legend(
            handles=classes, loc="upper left", bbox_to_anchor=(1.03, 1.0), **beside, **options
        )
        self.ax_.add_artist(first)
        first.set_clip_on(False)  # else the layout takes it to end where the axes do
        second = self.ax_.legend(
            handles=marks, loc="lower left", bbox_to_anchor=(1.03, 0.0), **beside
        )
        self.legends_ = [first, second]

    def _typical_image(self, label: Any) -> np.ndarray:
        """The support row of a class that is nearest, as drawn, to its mean."""
        assert self.images is not None
        of_class = np.flatnonzero(self.y_support == label)
        mean = self.prototypes[self.classes == label]
        far = np.square(self.support[of_class] - mean).sum(1)
        return self.images[of_class[np.argmin(far)]]


def _entry(label: str, **style: Any) -> Any:
    """A line of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none", label=label, **style)


def _with_images(images: list[np.ndarray]) -> list[Any]:
    """Legend handlers that draw an image beside the point of each class."""
    from matplotlib.image import BboxImage
    from matplotlib.legend_handler import HandlerLine2D
    from matplotlib.transforms import Bbox, TransformedBbox

    options = image_options(images)

    class WithImage(HandlerLine2D):
        def __init__(self, image: np.ndarray):
            super().__init__(numpoints=1)
            self.image = image

        def create_artists(
            self, legend, handle, xdescent, ydescent, width, height, fontsize, trans
        ):  # fmt: skip
            side = min(1.15 * height, width)
            bottom = (height - side) / 2 - ydescent
            box = Bbox.from_bounds(width - side - xdescent, bottom, side, side)
            drawn = BboxImage(TransformedBbox(box, trans), **options)
            drawn.set_data(in_rgb_range(self.image))
            point = super().create_artists(
                legend, handle, xdescent, ydescent, width - side, height, fontsize, trans
            )
            return [*point, drawn]

    return [WithImage(image) for image in images]


def is_reducer(reduction: Any) -> bool:
    """Whether an object, rather than a class, makes columns of others."""
    return hasattr(reduction, "fit_transform") and not isinstance(reduction, type)


def _reduced(Z: np.ndarray, reduction: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Two columns of the features, or one, and the shares of the variance that they show."""
    if not isinstance(reduction, str):
        reduction = clone(reduction)
    elif not np.ptp(Z, 0).any():  # a single row, or copies of one: there is no variance to show
        return np.zeros((len(Z), 2)), None
    else:
        reduction = PCA(min(2, *Z.shape), random_state=0)
    flat = np.asarray(reduction.fit_transform(Z), dtype=float)[:, :2]
    return flat, getattr(reduction, "explained_variance_ratio_", None)


def _prototypes(fitted: Any, Z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What the classifier took for the middles of the classes; the means, where it took none."""
    for name in ("prototypes", "means"):
        if name in fitted.state_:
            return fitted.state_[name]
    return np.stack([Z[y == label].mean(0) for label in fitted.classes_])
