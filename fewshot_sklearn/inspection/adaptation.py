"""How a method with an inner loop learns a task: support loss and query score, step by step."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring

from ..estimators import FewShotEstimator, final_step, with_final
from ..learners import InnerLoopLearner
from ..model_selection import check_axes, pyplot
from ..tasks import SCORING, Flag, Whole, check_arguments, check_parameters
from ._drawing import class_colors
from ._final_step import final_and_rows


class AdaptationDisplay:
    """Support loss and query score by the number of steps that adaptation takes.

    For MAML and its family: a good meta-initialization falls fast in the first
    steps, those it was meta-trained with, and loses nothing in further ones; a
    query score that sinks while the support loss goes on falling is
    overfitting to the support rows.

    Make one with `from_estimator`.

    Parameters
    ----------
    support_loss : ndarray of shape (n_steps + 1,)
        Loss of the support rows after 0, 1, ... steps: cross-entropy in nats,
        or squared error of the scaled targets.
    query_score : ndarray of shape (n_steps + 1,)
        Score of the queries after as many steps.
    score_name : str, default="query score"
        What the score is.
    loss_name : str, default="support loss"
        What the loss is.
    trained_steps : int or None, default=None
        Steps that meta-training took.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    axes_ : ndarray of two matplotlib Axes
        The loss above, the score below.
    lines_ : ndarray of two matplotlib Line2D
        The curves.

    See Also
    --------
    MAMLRegressor : Adapts by gradient descent.

    References
    ----------
    .. [1] C. Finn, P. Abbeel and S. Levine, "Model-agnostic meta-learning for fast
       adaptation of deep networks", ICML 2017, figure 3.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from fewshot_sklearn import MAMLRegressor
    >>> from fewshot_sklearn.inspection import AdaptationDisplay
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> display = AdaptationDisplay.from_estimator(
    ...     MAMLRegressor(), X, y, [[0.5], [1.5]], [2.0, 4.0], n_steps=10
    ... )
    >>> display.support_loss.shape, bool(display.support_loss[-1] < 0.1)
    ((11,), True)
    >>> plt.close(display.figure_)
    """

    _constraints = {"n_steps": Whole(1) | None, "scoring": SCORING, "log_loss": Flag()}

    def __init__(
        self,
        *,
        support_loss: np.ndarray,
        query_score: np.ndarray,
        score_name: str = "query score",
        loss_name: str = "support loss",
        trained_steps: int | None = None,
    ):
        self.support_loss, self.query_score = support_loss, query_score
        self.score_name, self.loss_name = score_name, loss_name
        self.trained_steps = trained_steps

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_support: Any,
        y_support: Any,
        X_query: Any,
        y_query: Any,
        *,
        n_steps: int | None = None,
        scoring: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> AdaptationDisplay:
        """Fit clones with 0, 1, ... steps on the support rows, and draw how they do.

        Parameters
        ----------
        estimator : estimator
            A classifier or regressor of this package that adapts by gradient
            descent, fitted or not: clones are fitted. Or a pipeline of frozen steps
            that ends in one, as ``MetaTrainer(pipeline)`` leaves it.
        X_support : array-like of shape (n_support, n_features) or (n_support, \\*input_shape)
            Support rows.
        y_support : array-like of shape (n_support,) or (n_support, n_outputs)
            Their labels or targets.
        X_query : array-like of shape (n_query, n_features) or (n_query, \\*input_shape)
            Rows to be judged on.
        y_query : array-like of shape (n_query,) or (n_query, n_outputs)
            Their labels or targets.
        n_steps : int or None, default=None
            The most steps to take. None is twice the estimator's own number.
        scoring : str, callable or None, default=None
            A scikit-learn scorer. None is the estimator's own score: accuracy
            or R^2.
        ax : matplotlib Axes, array of two, or None, default=None
            Where to draw; one is divided in two, None makes a new figure.
        **kwargs : dict
            Arguments of `plot`.

        Returns
        -------
        AdaptationDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            When the estimator has no inner loop.
        """
        check_arguments(cls._constraints, n_steps=n_steps, scoring=scoring)
        check_axes(ax, several=True)
        (final,) = final_and_rows(estimator)
        inner = isinstance(final, FewShotEstimator) and issubclass(
            final._learner_class, InnerLoopLearner
        )
        if not inner:
            raise ValueError(
                "estimator must adapt by gradient descent, as MAML and its family do; "
                f"{type(final_step(final)).__name__} takes no such steps. EmbeddingDisplay shows "
                "what it sees."
            )
        check_parameters(final)
        init = final._resolve_meta_init()
        trained = None if init is None else init.fixed_spec["hyperparameters"]
        own = final._hyperparameters(trained)["n_steps"]
        n_steps = 2 * own if n_steps is None else n_steps
        score = check_scoring(estimator, scoring)

        def fitted(step: int) -> Any:
            asked = with_final(estimator, clone(final).set_params(n_steps=step))
            return asked.fit(X_support, y_support)

        scores = [score(fitted(step), X_query, y_query) for step in range(n_steps + 1)]
        # the curve holds the loss before each step, so that one step more tells the last
        losses = final_step(fitted(n_steps + 1)).loss_curve_
        own_score = "accuracy" if is_classifier(estimator) else "R²"
        name = scoring if isinstance(scoring, str) else "score" if scoring else own_score
        display = cls(
            support_loss=losses,
            query_score=np.array(scores),
            score_name="query " + name.replace("neg_", "minus ").replace("_", " "),
            loss_name="support cross-entropy"
            if is_classifier(estimator)
            else "support squared error (scaled targets)",
            trained_steps=None if trained is None else trained["n_steps"],
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, log_loss: bool = False) -> AdaptationDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, array of two, or None, default=None
            Where to draw; one is divided in two, None makes a new figure.
        log_loss : bool, default=False
            Whether the axis of the loss is logarithmic.

        Returns
        -------
        AdaptationDisplay
            The display.
        """
        check_arguments(self._constraints, log_loss=log_loss)
        check_axes(ax, several=True)
        plt = pyplot()
        from matplotlib.ticker import MaxNLocator

        if ax is None:
            self.figure_ = plt.figure(figsize=(6.0, 5.0), layout="constrained")
            self.axes_ = self.figure_.subplots(2, 1, sharex=True)
        elif np.ndim(ax):
            self.axes_ = np.ravel(ax)
            if len(self.axes_) != 2:
                raise ValueError(f"ax must be one Axes or two, got {len(self.axes_)}.")
            self.figure_ = self.axes_[0].figure
        else:
            self.figure_ = ax.figure
            ax.set_axis_off()
            grid = ax.get_subplotspec().subgridspec(2, 1)
            top = self.figure_.add_subplot(grid[0])
            self.axes_ = np.array([top, self.figure_.add_subplot(grid[1], sharex=top)])
        steps = np.arange(len(self.support_loss))
        blue, green, *_ = class_colors(2)
        curves = (
            (self.support_loss, self.loss_name, blue),
            (self.query_score, self.score_name, green),
        )
        lines = []
        for axes, (values, name, color) in zip(self.axes_, curves, strict=True):
            lines += axes.plot(steps, values, marker="o", markersize=4, color=color)
            axes.set_ylabel(fill(name, 24))
            axes.grid(alpha=0.3)
            if self.trained_steps is not None and self.trained_steps <= steps[-1]:
                axes.axvline(self.trained_steps, color="0.4", linestyle=":", linewidth=1.2)
        self.lines_ = np.array(lines)
        top, bottom = self.axes_
        if log_loss:
            top.set_yscale("log")
        if self.trained_steps is not None and self.trained_steps <= steps[-1]:
            top.annotate(
                " steps in meta-training", (self.trained_steps, 1.0), va="top", color="0.3",
                xycoords=("data", "axes fraction"), xytext=(2, -3), textcoords="offset points",
            )  # fmt: skip
        top.set_title("Adaptation to the task")
        top.tick_params(labelbottom=False)
        bottom.set_xlabel("gradient steps on the support rows")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        return self
