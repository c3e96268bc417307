"""A classifier that learns a task with the strategy that past tasks speak for."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import validate_data

from ..tasks import check_rows, class_labels, distinct
from ._answers import probabilities
from ._by_experience import ByExperience
from ._weights import weighed


class StrategyClassifier(ClassifierMixin, ByExperience):
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
    combine : {"best", "ensemble", "stack"}, default="best"
        Whether to use the most probable strategy alone, or the average by
        probability; or, ``"stack"``, that with the weights w >= 0 of sum one whose
        probabilities had the least squared error (Brier score) on past tasks with
        as many rows a class [2]_. The experience must then be of a
        ``StrategySelector(combine="stack")``.
    min_probability : float, default=0.01
        Strategies at most this probable are left out of the ensemble.
    features : bool, default=True
        Whether to look at the features of the task too, where ``fit_many`` of
        ``StrategySelector`` found that they tell more than the number of shots:
        scores are then those on the past tables most like it. False looks at
        the number of shots alone.
    n_neighbors : int, default=5
        How many past tables to ask then, the nearer the more.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    strategy_probabilities_ : dict of str to float
        Probability of each strategy, or its weight in the stack.
    best_strategy_ : str
        Name of the most probable one; of equals, the first.
    estimators_ : dict of str to estimator
        The strategies that were fitted.
    n_shots_ : float
        Median number of rows a class.
    task_features_ : dict of str to float or None
        Features of the task, by which tables were asked; None where the choice
        was by the number of shots alone.
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
    .. [2] J. M. Bates and C. W. J. Granger, "The combination of forecasts", Operational
       Research Quarterly 20, 1969.

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

    _estimator_type = "classifier"
    # not all strategies take weights, so that the signature, as that of VotingClassifier, has none
    __metadata_request__fit = {"sample_weight": None}

    def fit(self, X: Any, y: Any, **fit_params: Any) -> StrategyClassifier:
        """Choose a strategy by the number of rows a class and the task's features, and fit it.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows, of whatever kind the strategies take.
        y : array-like of shape (n_rows,)
            Class labels.
        **fit_params : dict
            ``sample_weight``, an array-like of shape (n_rows,) or None: weights, at least
            zero, for all strategies that are fitted. Rows of no weight are left out.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When a strategy that is to be fitted cannot weigh rows; it is named.
        TypeError
            When there are other parameters.
        """
        check_rows(X, self)
        validate_data(self, X, y, skip_check_array=True)
        y = class_labels(y)
        check_consistent_length(X, y)
        X, y, weights = weighed(X, y, **fit_params)
        self.classes_, codes = distinct(y, "y")
        try:
            self._fit_chosen(np.median(np.bincount(codes)), X, y, weights)
        except ValueError as error:
            if weights is None or len(self.classes_) > 1:
                raise
            raise ValueError(f"sample_weight leaves rows of one class alone: {error}") from error
        for one in self.estimators_.values():  # may know classes without a row
            self.classes_ = np.union1d(self.classes_, getattr(one, "classes_", self.classes_))
        return self

    def fit_prior(self) -> StrategyClassifier:
        """Fit the strategies to a task of which no row is known, by their own `fit_prior`.

        Those that have none are left out: of meta-trained ones those that know the
        classes, of which past tasks had the same ones (see ``classes`` of `MetaTrainer`).

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When no strategy has an answer without rows.
        """
        self._fit_nothing()
        fitted = list(self.estimators_.values())
        self.classes_ = fitted[0].classes_
        for one in fitted[1:]:
            self.classes_ = np.union1d(self.classes_, one.classes_)
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
        return self._mean_answer(lambda strategy: probabilities(strategy, X, self.classes_))

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
