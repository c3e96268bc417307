"""Which learning strategy suits a new task: the one that did best on past tasks with as few rows.

J. R. Rice. The algorithm selection problem. Advances in Computers 15, 1976.

P. B. Brazdil, C. Soares and J. P. da Costa. Ranking learning algorithms: using IBL
and meta-learning on accuracy and time results. Machine Learning 50, 2003.

`fewshot_sklearn.strategy_selection` gathers the experience.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ._candidates import HoldsStrategies, Strategies, named
from .experience import Experience


class _ByExperience(HoldsStrategies):
    """What `StrategyClassifier` and `StrategyRegressor` share."""

    experience: Any
    temperature: float
    combine: str
    min_probability: float
    _estimator_type: str

    def _choose(self, n_shots: float) -> Strategies:
        """Weigh the strategies by experience; return those to fit."""
        pairs = named(self.strategies, self._estimator_type)
        names = [name for name, _ in pairs]
        if self.combine not in ("best", "ensemble"):
            raise ValueError(f"combine must be 'best' or 'ensemble', got {self.combine!r}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature!r}.")
        if not 0 <= self.min_probability < 1:
            raise ValueError(
                f"min_probability must be at least 0 and below 1, got {self.min_probability!r}."
            )
        known = self.experience
        if isinstance(known, str | os.PathLike):
            known = Experience.load(known)
        if known is None:
            p = np.full(len(pairs), 1 / len(pairs))
        elif not isinstance(known, Experience):
            raise ValueError(f"experience must be an Experience, a path or None, got {known!r}.")
        elif strangers := set(names) - set(known.names):
            raise ValueError(
                f"experience must know every strategy; it knows {list(known.names)}, not "
                f"{sorted(strangers)}."
            )
        else:
            p = known.probabilities_at(n_shots, self.temperature)
            p = p[[known.names.index(name) for name in names]]
            p = p / p.sum() if p.any() else np.full(len(pairs), 1 / len(pairs))
        best = int(np.argmax(p))
        self.n_shots_ = float(n_shots)
        self.strategy_probabilities_ = dict(zip(names, p.tolist(), strict=True))
        self.best_strategy_ = names[best]
        if self.combine == "best":
            return [pairs[best]]
        return [pairs[i] for i in range(len(p)) if i == best or p[i] > self.min_probability]

    def _fit_chosen(self, n_shots: float, X: Any, y: Any) -> None:
        chosen = self._choose(n_shots)
        self.estimators_ = {name: clone(strategy).fit(X, y) for name, strategy in chosen}

    def _shares(self) -> np.ndarray:
        """Probabilities of the strategies that were fitted."""
        p = np.array([self.strategy_probabilities_[name] for name in self.estimators_])
        return p / p.sum()

    def _checked(self, X: Any) -> Any:
        """Rows as they came: what they may be is for the strategies to say."""
        check_is_fitted(self)
        if getattr(X, "ndim", 2) > 1:  # a strategy says best what is wrong with a single axis
            validate_data(self, X, reset=False, skip_check_array=True)
        return X

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimators_")

    def _all_strategies(self, tag: str) -> bool:
        try:
            pairs = named(self.strategies, self._estimator_type)
            return all(getattr(get_tags(s).input_tags, tag) for _, s in pairs)
        except ValueError:  # fit will say what is wrong with them
            return False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._all_strategies("sparse")
        tags.input_tags.allow_nan = self._all_strategies("allow_nan")
        return tags


class StrategyClassifier(ClassifierMixin, _ByExperience):
    """Classifier that learns a task with the strategy that past tasks speak for.

    `fit` counts the rows of each class, k in the median, looks up how the
    strategies scored on past tasks of k shots (between two known numbers of
    shots, interpolated in log k), and gives strategy i the probability
    p_i = exp(s_i / temperature) / sum_j exp(s_j / temperature). The best
    strategy is fitted alone, or the probable ones are fitted and their class
    probabilities averaged by p.

    Parameters
    ----------
    strategies : list of (str, estimator), dict of str to estimator, or None, default=None
        Classifiers of any kind, pipelines and meta-trained ones included; they
        get the rows and labels as they come. None takes logistic regression,
        nearest neighbour, nearest centroid, naive Bayes and a random forest.
    experience : Experience, path or None, default=None
        How they did on past tasks, as ``StrategySelector`` found it, or a file
        of it. Without any, all are equally probable and the first is the best.
    temperature : float, default=0.01
        In units of the score: differences well below it do not count. With the
        default, and an accuracy, strategies that are 0.03 apart get odds of 20
        to 1; that is some two standard errors of a difference between means
        over 50 episodes each, which is what ``StrategySelector`` measures.
    combine : {"best", "ensemble"}, default="best"
        Whether to use the most probable strategy alone, or the average.
    min_probability : float, default=0.01
        Strategies at most this probable are left out of the ensemble.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    strategy_probabilities_ : dict of str to float
        Probability of each strategy.
    best_strategy_ : str
        Name of the most probable one; of equals, the first.
    estimators_ : dict of str to estimator
        The strategies that were fitted.
    n_shots_ : float
        Median number of rows a class.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    StrategySelector : Gathers the experience.
    StrategyRegressor : The same for regression.

    References
    ----------
    .. [1] P. B. Brazdil, C. Soares and J. P. da Costa, "Ranking learning algorithms:
       using IBL and meta-learning on accuracy and time results", Machine Learning 50,
       2003.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fewshot_sklearn import StrategyClassifier
    >>> strategies = {"neighbor": KNeighborsClassifier(1), "linear": LogisticRegression()}
    >>> clf = StrategyClassifier(strategies).fit([[0.], [1.], [4.]], ["a", "a", "b"])
    >>> clf.best_strategy_, clf.strategy_probabilities_
    ('neighbor', {'neighbor': 0.5, 'linear': 0.5})
    >>> clf.predict([[2.], [5.]])
    array(['a', 'b'], dtype='<U1')
    """

    def __init__(
        self,
        strategies: Any = None,
        *,
        experience: Any = None,
        temperature: float = 0.01,
        combine: str = "best",
        min_probability: float = 0.01,
    ):
        self.strategies = strategies
        self.experience = experience
        self.temperature = temperature
        self.combine = combine
        self.min_probability = min_probability

    _estimator_type = "classifier"

    def fit(self, X: Any, y: Any) -> StrategyClassifier:
        """Choose a strategy by the number of rows a class, and fit it.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows, of whatever kind the strategies take.
        y : array-like of shape (n_rows,)
            Class labels.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        validate_data(self, X, y, skip_check_array=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, counts = np.unique(y, return_counts=True)
        self._fit_chosen(np.median(counts) if len(counts) else 1, X, y)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Mean of the strategies' probabilities, weighted by their own. A
            strategy without probabilities counts with the softmax of its
            decision function, or else is sure of its predictions.
        """
        X = self._checked(X)
        fitted = self.estimators_.values()
        return sum(
            share * _probabilities(strategy, X, self.classes_)
            for share, strategy in zip(self._shares(), fitted, strict=True)
        )

    def predict(self, X: Any) -> np.ndarray:
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,)
            What the best strategy predicts, or the most probable class of the
            ensemble.
        """
        X = self._checked(X)
        if len(self.estimators_) == 1:
            return self.estimators_[self.best_strategy_].predict(X)
        codes = self.predict_proba(X).argmax(1)
        return self.classes_[codes]


def _probabilities(strategy: Any, X: Any, classes: np.ndarray) -> np.ndarray:
    if hasattr(strategy, "predict_proba"):
        try:
            return _in_columns(strategy.predict_proba(X), strategy.classes_, classes)
        except ValueError:  # NearestCentroid has them, but not of one row a class
            return _sure(strategy.predict(X), classes)
    if hasattr(strategy, "decision_function"):
        logits = np.asarray(strategy.decision_function(X), dtype=float)
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], 1)
        if logits.shape[1] == len(strategy.classes_):  # not one for each pair of classes
            odds = np.exp(logits - logits.max(1, keepdims=True))
            return _in_columns(odds / odds.sum(1, keepdims=True), strategy.classes_, classes)
    return _sure(strategy.predict(X), classes)


def _in_columns(proba: np.ndarray, own: np.ndarray, classes: np.ndarray) -> np.ndarray:
    out = np.zeros((len(proba), len(classes)))
    out[:, np.searchsorted(classes, own)] = proba
    return out


def _sure(predicted: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return (np.asarray(predicted)[:, None] == classes).astype(float)


class StrategyRegressor(RegressorMixin, _ByExperience):
    """Regressor that learns a task with the strategy that past tasks speak for.

    `fit` counts the rows, looks up how the strategies scored on past tasks with
    as many (between two known numbers, interpolated in their logarithm), and
    gives strategy i the probability
    p_i = exp(s_i / temperature) / sum_j exp(s_j / temperature). The best
    strategy is fitted alone, or the probable ones are fitted and their
    predictions averaged by p.

    Parameters
    ----------
    strategies : list of (str, estimator), dict of str to estimator, or None, default=None
        Regressors of any kind, pipelines and meta-trained ones included; they
        get the rows and targets as they come. None takes ridge regression, the
        nearest neighbour, a Gaussian process and the mean.
    experience : Experience, path or None, default=None
        How they did on past tasks, as ``StrategySelector`` found it, or a file
        of it. Without any, all are equally probable and the first is the best.
    temperature : float, default=0.01
        In units of the score: differences well below it do not count. With the
        default strategies that are 0.03 apart (in R^2) get odds of 20 to 1.
    combine : {"best", "ensemble"}, default="best"
        Whether to use the most probable strategy alone, or the average.
    min_probability : float, default=0.01
        Strategies at most this probable are left out of the ensemble.

    Attributes
    ----------
    strategy_probabilities_ : dict of str to float
        Probability of each strategy.
    best_strategy_ : str
        Name of the most probable one; of equals, the first.
    estimators_ : dict of str to estimator
        The strategies that were fitted.
    n_shots_ : float
        Number of rows.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    StrategySelector : Gathers the experience.
    StrategyClassifier : The same for classification.

    References
    ----------
    .. [1] P. B. Brazdil, C. Soares and J. P. da Costa, "Ranking learning algorithms:
       using IBL and meta-learning on accuracy and time results", Machine Learning 50,
       2003.

    Examples
    --------
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn.linear_model import LinearRegression
    >>> from fewshot_sklearn import StrategyRegressor
    >>> strategies = {"linear": LinearRegression(), "mean": DummyRegressor()}
    >>> reg = StrategyRegressor(strategies, combine="ensemble").fit([[0.], [2.]], [0., 2.])
    >>> reg.predict([[4.]])
    array([2.5])
    """

    def __init__(
        self,
        strategies: Any = None,
        *,
        experience: Any = None,
        temperature: float = 0.01,
        combine: str = "best",
        min_probability: float = 0.01,
    ):
        self.strategies = strategies
        self.experience = experience
        self.temperature = temperature
        self.combine = combine
        self.min_probability = min_probability

    _estimator_type = "regressor"

    def fit(self, X: Any, y: Any) -> StrategyRegressor:
        """Choose a strategy by the number of rows, and fit it.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows, of whatever kind the strategies take.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets; several where all strategies can.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        validate_data(self, X, y, skip_check_array=True)
        several = get_tags(self).target_tags.multi_output
        y = np.asarray(y) if several else column_or_1d(y, warn=True)
        self._targets_shape = y.shape[1:]
        self._fit_chosen(max(1, len(y)), X, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Mean of the strategies' predictions, weighted by their probabilities.
        """
        X = self._checked(X)
        fitted = self.estimators_.values()
        return sum(
            # some keep the column of a single target and some do not
            share * np.asarray(strategy.predict(X)).reshape(-1, *self._targets_shape)
            for share, strategy in zip(self._shares(), fitted, strict=True)
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        try:
            pairs = named(self.strategies, self._estimator_type)
        except ValueError:
            return tags
        tags.target_tags.multi_output = all(get_tags(s).target_tags.multi_output for _, s in pairs)
        return tags
