"""How alike past tasks are: a matrix of distances, or a map.

W. S. Torgerson. Multidimensional scaling: I. Theory and method. Psychometrika 17,
1952 (the map).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from ..model_selection import check_axes
from ..tasks import Kind, OneOf, check_arguments
from ._drawing import ColourMap, axes_or_new, class_colors, class_markers, shortened
from .task_memory import TaskMemory

#: Tasks beyond which a matrix names none of them.
MAX_NAMES = 60
#: Groups beyond which a map tells them by their names alone, not by colour.
MAX_COLORS = 10
#: Where a name may stand beside its point: offsets in points, and alignments.
SIDES = (
    (5, 0, "left", "center"),
    (-5, 0, "right", "center"),
    (0, 5, "center", "bottom"),
    (0, -5, "center", "top"),
)


class TaskSimilarityDisplay:
    """How alike past tasks are: a matrix ordered so that similar ones are neighbours, or a map.

    The order is that of the leaves of a hierarchical clustering with average
    linkage, turned so that neighbours are as near as can be; the map is
    classical scaling [1]_, which for Euclidean distances is a PCA of the means.

    Make one with `from_memory`.

    Parameters
    ----------
    distances : ndarray of shape (n_tasks, n_tasks)
        Symmetric, zero on the diagonal.
    ids : ndarray of shape (n_tasks,)
        Names of the tasks.
    groups : ndarray of shape (n_tasks,) or None, default=None
        Group of each task, shown by colour in the map.
    metric : str, default="distance"
        What the distance is, with its unit if it has one.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    ax_ : matplotlib Axes
        The axes.
    order_ : ndarray of shape (n_tasks,)
        Numbers of the tasks in the order of the matrix.
    image_ : matplotlib AxesImage or None
        The matrix.
    points_ : matplotlib PathCollection or None
        The tasks of the map.

    See Also
    --------
    TaskMemory : What past tasks looked like.

    References
    ----------
    .. [1] W. S. Torgerson, "Multidimensional scaling: I. Theory and method",
       Psychometrika 17, 1952.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from fewshot_sklearn import ProtoNetClassifier, TaskMemory
    >>> from fewshot_sklearn.inspection import TaskSimilarityDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> memory = TaskMemory.from_data(ProtoNetClassifier().fit(X, y), X, y)
    >>> display = TaskSimilarityDisplay.from_memory(memory)
    >>> display.distances.shape
    (10, 10)
    >>> plt.close(display.figure_)
    """

    _constraints = {
        "memory": Kind(TaskMemory, told="a TaskMemory"),
        "by": OneOf("tasks", "groups"),
        "kind": OneOf("matrix", "map"),
        "cmap": ColourMap(),
    }

    def __init__(
        self,
        *,
        distances: np.ndarray,
        ids: np.ndarray,
        groups: np.ndarray | None = None,
        metric: str = "distance",
    ):
        self.distances, self.ids = distances, ids
        self.groups, self.metric = groups, metric

    @classmethod
    def from_memory(
        cls,
        memory: TaskMemory,
        *,
        by: str = "tasks",
        estimator: Any = None,
        X: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> TaskSimilarityDisplay:
        """Draw how alike the tasks of a memory are.

        Parameters
        ----------
        memory : TaskMemory
            Past tasks, two or more.
        by : {"tasks", "groups"}, default="tasks"
            What to compare: the tasks; or the groups of past classes, two of
            which are as far apart as their classes are on average, each from
            the nearest of the other group.
        estimator : estimator or None, default=None
            A regressor with the memory's meta-init, or a pipeline of frozen steps that
            ends in one, to compare tasks by what they learned.
        X : array-like of shape (n_rows, n_features) or None, default=None
            With `estimator`: rows at which to compare. Two tasks are then as
            far apart as their adapted models' predictions (root mean square,
            in units of y). Without, as the means of their features.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            Arguments of `plot`.

        Returns
        -------
        TaskSimilarityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            When there are fewer than two tasks, or no groups are known.
        """
        check_arguments(cls._constraints, memory=memory, by=by)
        check_axes(ax)
        if (estimator is None) != (X is None):
            raise ValueError("estimator and X go together: pass both, or neither.")
        ids, groups = memory.ids, memory.groups
        if X is not None:
            predictions = memory.predictions(estimator, X)
            flat = predictions.reshape(len(memory), -1)
            distances = _euclidean(flat) / np.sqrt(flat.shape[1])
            metric = "difference of predictions"
        else:
            distances = memory.metric.distances(memory.means, memory.means)
            metric = {"euclidean": "distance of mean features", "cosine": "1 - cosine of means"}[
                memory.metric.name
            ]
        if by == "groups":
            if groups is None:
                raise ValueError(
                    "The memory knows no groups of classes: pass groups to TaskMemory.from_data."
                )
            ids, distances = _between_groups(distances, groups)
            metric = f"{metric}, of classes\nfrom the nearest of the other group"
            groups = None
        if len(ids) < 2:
            raise ValueError(f"There must be two tasks or more to compare, got {len(ids)}.")
        distances = (distances + distances.T) / 2
        np.fill_diagonal(distances, 0.0)
        display = cls(distances=distances, ids=ids, groups=groups, metric=metric)
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        kind: str = "matrix",
        cmap: str = "viridis_r",
        values: Any = None,
        values_label: str = "",
    ) -> TaskSimilarityDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        kind : {"matrix", "map"}, default="matrix"
            What to draw.
        cmap : str, default="viridis_r"
            Colour map of the matrix.
        values : array-like of shape (n_tasks,) or None, default=None
            A number for each task, in the order of `ids`, that colours the map.
        values_label : str, default=""
            What the number is.

        Returns
        -------
        TaskSimilarityDisplay
            The display.
        """
        check_arguments(self._constraints, kind=kind, cmap=cmap)
        tree = linkage(squareform(self.distances, checks=False), "average")
        tree = optimal_leaf_ordering(tree, squareform(self.distances, checks=False))
        self.order_ = leaves_list(tree)
        self.image_ = self.points_ = None
        if kind == "matrix":
            self._draw_matrix(ax, cmap)
        else:
            self._draw_map(ax, values, values_label)
        if ax is None:  # equal units move the limits; the layout is then made for the new ticks
            self.figure_.draw_without_rendering()
        return self

    def _draw_matrix(self, ax: Any, cmap: str) -> None:
        self.figure_, self.ax_ = axes_or_new(ax, (7.5, 5.5))
        shown = self.distances[np.ix_(self.order_, self.order_)].copy()
        between = shown[~np.eye(len(shown), dtype=bool)]
        np.fill_diagonal(shown, np.nan)  # a task's distance from itself would take up the scale
        self.image_ = self.ax_.imshow(
            shown, cmap=cmap, vmin=between.min(), vmax=between.max(), interpolation="nearest"
        )
        self.figure_.colorbar(self.image_, ax=self.ax_, label=self.metric, shrink=0.75)
        n = len(self.ids)
        if n <= MAX_NAMES:
            names = [shortened(self.ids[i], 26) for i in self.order_]
            size = float(np.clip(330 / n, 5, 10))
            self.ax_.set_yticks(range(n), names, fontsize=size)
            self.ax_.tick_params(length=0)
            self.ax_.set(xticks=[], xlabel="the same, in the same order")
        else:
            self.ax_.set(xticks=[], yticks=[], xlabel=f"{n} tasks, similar ones side by side")
        self.ax_.set_title("How alike past tasks are")

    def _draw_map(self, ax: Any, values: Any, values_label: str) -> None:
        places, shares = _classical_scaling(self.distances)
        across, up = np.ptp(places, 0)
        height = 0.9 + 6.0 * up / across if across else 3.5
        self.figure_, self.ax_ = axes_or_new(ax, (7.5, float(np.clip(height, 3.5, 6.0))))
        self.ax_.set(
            xlabel=f"first dimension ({shares[0]:.0%} of the variance)",
            ylabel=f"second dimension ({shares[1]:.0%})",
            title="How alike past tasks are",
        )
        self.ax_.set_aspect("equal", adjustable="datalim")
        self.ax_.margins(0.08)
        if values is not None:
            self.points_ = self.ax_.scatter(*places.T, s=22, c=np.asarray(values), cmap="viridis")
            self.figure_.colorbar(self.points_, ax=self.ax_, label=values_label, shrink=0.8)
        elif self.groups is None:
            self.points_ = self.ax_.scatter(*places.T, s=22, color=class_colors(1))
        else:
            self._draw_groups(places, self.groups)
            return
        if len(self.ids) <= MAX_NAMES:
            self._name_where_it_fits(places, places, [shortened(name, 26) for name in self.ids])

    def _draw_groups(self, places: np.ndarray, groups: np.ndarray) -> None:
        names, codes = np.unique(groups, return_inverse=True)
        few = len(names) <= MAX_COLORS
        colors = class_colors(len(names)) if few else ["0.75"] * len(names)
        markers = class_markers(max(len(names), 7)) if few else ["o"] * len(names)
        for code, (color, marker) in enumerate(zip(colors, markers, strict=False)):
            self.ax_.scatter(
                *places[codes == code].T, s=26 if few else 8, color=color, alpha=0.8,
                linewidths=0, marker=marker, label=shortened(names[code], 26),
            )  # fmt: skip
        if few:
            self.ax_.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        else:
            middles = np.stack([places[codes == code].mean(0) for code in range(len(names))])
            short = [shortened(name, 26) for name in names]
            self._name_where_it_fits(middles, middles, short)

    def _name_where_it_fits(self, places: np.ndarray, points: np.ndarray, names: list[str]) -> None:
        """Names beside their places, on the side that is free; left out where none is."""
        from matplotlib.patheffects import withStroke

        self.figure_.draw_without_rendering()
        dots = self.ax_.transData.transform(points)
        frame = self.ax_.get_window_extent()
        taken: list[Any] = []
        for name, place in zip(names, places, strict=True):
            for x, y, ha, va in SIDES:
                text = self.ax_.annotate(
                    name, place, xytext=(x, y), textcoords="offset points", ha=ha, va=va,
                    fontsize=8, path_effects=[withStroke(linewidth=2, foreground="white")],
                )  # fmt: skip
                box = text.get_window_extent()
                inside = frame.containsx(box.x0) and frame.containsx(box.x1)
                if (
                    inside
                    and not any(box.overlaps(other) for other in taken)
                    and not box.count_contains(dots)
                ):
                    taken.append(box)
                    break
                text.remove()


def _euclidean(Z: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    return cdist(Z, Z)


def _between_groups(distances: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance of each group's classes from the nearest class of another group."""
    names, codes = np.unique(groups, return_inverse=True)
    n = len(names)
    nearest = np.stack([distances[:, codes == code].min(1) for code in range(n)], 1)
    return names, np.stack([nearest[codes == code].mean(0) for code in range(n)])


def _classical_scaling(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in two dimensions, and the share of the variance that each shows."""
    n = len(distances)
    centring = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centring @ np.square(distances) @ centring)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    total = values.sum() or 1.0
    return vectors[:, :2] * np.sqrt(values[:2]), values[:2] / total
