"""Strong rivals of meta-learning: any model of past rows that is given statistics of the task.

A boosted model whose features are a row and what the labelled rows of its task show (their level,
spread, slopes, neighbours) is trained once, on past tasks, and needs no fit on a new one.
"""

from __future__ import annotations

from pickle import PicklingError
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if

from ..estimators import fitted_to_labels
from ..tasks import Anything, Flag, Learns, Seed, Whole
from ._pooled_base import in_columns
from ._statistics_examples import as_columns, draw, examples
from ._task_statistics import Labelled, TaskStatistics
from .past_rows import PastRows
from .pooled import PooledClassifier, PooledRegressor

#: Share of the past tasks on which boosting finds how many trees are enough.
VALIDATION = 0.15
#: How trees are grown where no estimator is given.
BOOSTING = {
    "learning_rate": 0.05,
    "max_iter": 400,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 40,
    "l2_regularization": 1.0,
    "early_stopping": True,
    "n_iter_no_change": 20,
}


class _ByStatistics:
    """What the two share: statistics of the past, and one model that is trained on them."""

    _constraints = {
        "past": Anything(),
        "n_shot": Whole(1),
        "max_rows": Whole(1),
        "random_state": Seed(),
    }

    estimator: Any
    past: Any
    n_shot: int
    max_rows: Any
    #: Whether draws have classes in turn.
    balanced = False
    random_state: Any
    _known: Labelled

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31))

    def _model(self, default: type) -> Any:
        if self.estimator is not None:
            return self.estimator
        seed = int(check_random_state(self.random_state).randint(2**31))
        return default(**BOOSTING, random_state=seed)

    def _trained(self, past: PastRows, targets: np.ndarray, classes: np.ndarray | None) -> Any:
        """Statistics and the model, trained once for all clones that hold these past rows."""
        default: Any = (
            HistGradientBoostingRegressor if classes is None else HistGradientBoostingClassifier
        )
        model = self._model(default)
        try:
            told = joblib.hash(model)
        except (PicklingError, TypeError, AttributeError):  # nothing to know it again by
            return self._train(past, targets, classes, model)
        asked = (self.n_shot, self.max_rows, self.balanced, repr(self.random_state), told)
        return past._once(
            ("statistics", classes is not None, *asked),
            lambda: self._train(past, targets, classes, model),
        )

    def _train(
        self, past: PastRows, targets: np.ndarray, classes: np.ndarray | None, model: Any
    ) -> tuple[TaskStatistics, Any]:
        rng = self._generator()
        codes = targets.argmax(1) if self.balanced else None
        statistics = TaskStatistics(past.X, targets, past.task, rng, classes is not None)
        draws = draw(past.task, self.n_shot, self.max_rows, rng, codes)
        columns, offset, row = examples(statistics, draws, self.n_shot)
        goal: Any = past.y[row] if classes is not None else statistics.Y[row] - offset
        goals = [goal] if classes is not None else list(goal.T)
        fitted = [_fitted(model, columns, one, past.task[row], rng) for one in goals]
        return statistics.without_past_rows(), fitted if len(fitted) > 1 else fitted[0]

    def _columns_of(self, statistics: TaskStatistics, X: np.ndarray) -> tuple[Any, Any]:
        Z = statistics.space(X)[None]
        columns, offset = as_columns(statistics, self._known, Z, statistics.base(Z), self.n_shot)
        return columns[0], offset[0]


def _fitted(model: Any, X: np.ndarray, y: Any, task: np.ndarray, rng: np.random.Generator) -> Any:
    """The model; boosting stops, and a search chooses, by tasks that it does not learn from."""
    if isinstance(model, GridSearchCV | RandomizedSearchCV):
        return clone(model).fit(X, y, groups=task)
    boosting = HistGradientBoostingRegressor, HistGradientBoostingClassifier
    if isinstance(model, boosting) and model.early_stopping is True:
        tasks = rng.permutation(np.unique(task))
        held = np.isin(task, tasks[: int(np.ceil(VALIDATION * len(tasks)))])
        learnt = np.unique(y[~held]) if isinstance(model, boosting[1]) else None
        # the labels of those must be among those learned
        if not held.all() and (learnt is None or len(np.setdiff1d(y[held], learnt)) == 0):
            return clone(model).fit(X[~held], y[~held], X_val=X[held], y_val=y[held])
        return clone(model).set_params(early_stopping=False, max_iter=100).fit(X, y)
    return clone(model).fit(X, y)


class PooledStatisticsRegressor(_ByStatistics, PooledRegressor):
    """One regression of all past tasks, which tells tasks apart by their labelled rows.

    What is learned from past tasks without meta-learning, at its strongest:
    support sets of 0 to `n_shot` rows are drawn from each past task, and a
    model is trained to predict other rows of it from the row and statistics of
    the support. These are the number of labelled rows; mean and standard
    deviation of their targets, and of what a ridge regression of all past rows
    leaves of them; its slopes on the features; target, residual and nearness
    of the nearest one; kernel ridge regressions of the residuals; and the best
    linear prediction of a mixed model with random slopes [1]_, which the model
    corrects. Nothing is trained on a new task: `fit` keeps its rows.

    Parameters
    ----------
    estimator : regressor or None, default=None
        What is trained on the statistics, once for each output. None is a
        ``HistGradientBoostingRegressor``, which stops by past tasks held out. A
        ``GridSearchCV`` gets the tasks as groups.
    past : (X, y), (X, y, groups), PastRows or None, default=None
        Past tasks; with ``PastRows`` all clones share what is trained on them
        once. None leaves an ordinary regression of the new rows.
    n_shot : int, default=20
        Most labelled rows of a training example; more than these are taken for
        as many.
    max_rows : int, default=20000
        Training examples, drawn from the past tasks in turn.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws and boosting.

    Attributes
    ----------
    estimator_ : regressor, or list of them
        What was trained on the statistics, of targets of mean zero and variance
        one less the mixed model's prediction; without past, on the new rows. One
        for each output where there are several.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    PooledRegressor : Pools past and new rows in one linear model.
    PooledMixedRegressor : The mixed model alone.
    compare_few_shot : Sets them beside meta-learning.

    Notes
    -----
    Of more than 64 features the statistics take the leading principal components.

    References
    ----------
    .. [1] N. M. Laird and J. H. Ware, "Random-effects models for longitudinal data",
       Biometrics 38, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn import PooledStatisticsRegressor
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.uniform(-3, 3, (900, 1)), np.repeat(np.arange(60), 15)
    >>> level = rng.normal(size=61)
    >>> y = np.sin(X[:, 0]) + level[groups]
    >>> reg = PooledStatisticsRegressor(past=(X, y, groups), max_rows=2000)
    >>> reg = reg.fit([[0.], [1.]], [5., 5.84])  # sin(x) + 5, from two rows
    >>> bool(abs(reg.predict([[-1.5]])[0] - 4.) < 0.5)
    True
    """

    _constraints = {"estimator": Learns("regressor") | None}

    def __init__(
        self,
        estimator: Any = None,
        *,
        past: Any = None,
        n_shot: int = 20,
        max_rows: int = 20_000,
        random_state: Any = 0,
    ):
        self.estimator = estimator
        self.past = past
        self.n_shot = n_shot
        self.max_rows = max_rows
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> PooledStatisticsRegressor:
        """Keep the rows of a new task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows of the new task.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._learn(*self._given(X, y, classify=False))

    def _learn(self, X: np.ndarray, y: np.ndarray) -> PooledStatisticsRegressor:
        past, self._flat = self._past_rows(X.shape[1]), y.ndim == 1
        y = self._near(past, X, y)
        self._statistics: TaskStatistics | None = None
        if past is None:
            model = self._model(HistGradientBoostingRegressor)
            if self.estimator is None:
                model.set_params(early_stopping=False)
            fitted = [clone(model).fit(X, one) for one in in_columns(y).T]
            self.estimator_ = fitted[0] if self._flat else fitted
            return self
        targets = in_columns(y)
        known = self._targets_of(past, targets)
        self._statistics, self.estimator_ = self._trained(past, known, None)
        self._known = self._statistics.labelled(X, targets)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets of the new task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Predictions.
        """
        X = self._checked(X)
        columns, offset = X, np.zeros(1)
        if self._statistics is not None:
            columns, offset = self._columns_of(self._statistics, X)
        models = self.estimator_ if isinstance(self.estimator_, list) else [self.estimator_]
        told = offset + np.stack([model.predict(columns) for model in models], 1)
        if self._statistics is not None:
            told = self._statistics.center + told * self._statistics.unit
        told = self._put_back(told)
        return told[:, 0] if self._flat else told


class PooledStatisticsClassifier(_ByStatistics, PooledClassifier):
    """One classifier of all past tasks, which tells tasks apart by their labelled rows.

    For tasks that share their labels. As `PooledStatisticsRegressor`, of the
    memberships in the classes: the statistics of the labelled rows are their
    number and the share of each class; what a ridge regression of all past rows
    leaves of the memberships, and kernel ridge regressions and a mixed model of
    that; nearness of the nearest row and of the mean of each class. Nothing is
    trained on a new task: `fit` keeps its rows.

    Parameters
    ----------
    estimator : classifier or None, default=None
        What is trained on the statistics. None is a
        ``HistGradientBoostingClassifier``, which stops by past tasks held out. A
        ``GridSearchCV`` gets the tasks as groups.
    past : (X, y), (X, y, groups), PastRows or None, default=None
        Past tasks; with ``PastRows`` all clones share what is trained on them
        once. None leaves an ordinary classifier of the new rows.
    n_shot : int, default=20
        Most labelled rows of a training example, of all classes together; more
        than these are taken for as many.
    max_rows : int, default=20000
        Training examples, drawn from the past tasks in turn.
    balanced : bool, default=False
        Whether training examples have as many rows of each class, labelled and to
        predict, as episodes of classes do; else as the rows of a task are.
    random_state : int, RandomState instance or None, default=0
        Seeds the draws and boosting.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels of the past rows and the new ones. Those that the past lacks are
        never predicted.
    estimator_ : classifier
        What was trained on the statistics; without past, on the new rows.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    PooledClassifier : Pools past and new rows in one linear model.
    PooledStatisticsRegressor : The same for regression.
    compare_few_shot : Sets them beside meta-learning.

    Notes
    -----
    Of more than 64 features the statistics take the leading principal components.

    Examples
    --------
    >>> import numpy as np
    >>> from fewshot_sklearn import PooledStatisticsClassifier
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.uniform(-3, 3, (900, 1)), np.repeat(np.arange(60), 15)
    >>> y = np.where(X[:, 0] * rng.choice([-1, 1], 60)[groups] > 0, "up", "down")
    >>> clf = PooledStatisticsClassifier(past=(X, y, groups), max_rows=2000)
    >>> clf.fit([[2.], [-2.]], ["down", "up"]).predict([[1.5], [-1.5]])
    array(['down', 'up'], dtype='<U4')
    """

    _constraints = {"estimator": Learns("classifier") | None, "balanced": Flag()}

    def __init__(
        self,
        estimator: Any = None,
        *,
        past: Any = None,
        n_shot: int = 20,
        max_rows: int = 20_000,
        balanced: bool = False,
        random_state: Any = 0,
    ):
        self.estimator = estimator
        self.past = past
        self.n_shot = n_shot
        self.max_rows = max_rows
        self.balanced = balanced
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> PooledStatisticsClassifier:
        """Keep the rows of a new task.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows of the new task.
        y : array-like of shape (n_rows,)
            Labels.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._learn(*self._given(X, y, classify=True))

    def _learn(self, X: np.ndarray, y: np.ndarray) -> PooledStatisticsClassifier:
        past = self._past_rows(X.shape[1])
        self._statistics: TaskStatistics | None = None
        if past is None:
            model = self._model(HistGradientBoostingClassifier)
            if self.estimator is None:
                model.set_params(early_stopping=False)
            self.estimator_ = fitted_to_labels(model, X, y)
            self.classes_ = self.estimator_.classes_
            return self
        self._check_kind(past, y)
        self._check_columns(past, X)
        known = np.unique(past.y)
        if len(known) < 2:
            raise ValueError(f"past must have two classes or more, got {known.tolist()}.")
        memberships = (past.y[:, None] == known).astype(np.float64)
        self._statistics, self.estimator_ = self._trained(past, memberships, known)
        self._known = self._statistics.labelled(X, (y[:, None] == known).astype(np.float64))
        self.classes_ = np.union1d(known, y)
        return self

    def _new_columns(self, X: Any) -> np.ndarray:
        X = self._checked(X)
        return X if self._statistics is None else self._columns_of(self._statistics, X)[0]

    @available_if(lambda self: self.estimator is None or hasattr(self.estimator, "predict_proba"))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities; where the `estimator` has them.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Probabilities, columns in the order of `classes_`.
        """
        columns = self._new_columns(X)
        told = self.estimator_.predict_proba(columns)
        out = np.zeros((len(told), len(self.classes_)))
        out[:, np.searchsorted(self.classes_, self.estimator_.classes_)] = told
        return out
