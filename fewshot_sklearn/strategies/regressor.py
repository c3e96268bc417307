"""A regressor that learns a task with the strategy that past tasks speak for."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_consistent_length, column_or_1d, get_tags
from sklearn.utils.validation import validate_data

from ..estimators import predicts
from ..tasks import check_rows, number_targets
from ._by_experience import ByExperience
from ._weights import weighed


class StrategyRegressor(RegressorMixin, ByExperience):
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
    combine : {"best", "ensemble", "stack"}, default="best"
        Whether to use the most probable strategy alone, or the average by
        probability; or, ``"stack"``, that with the weights w >= 0 of sum one which
        had the least squared error on past tasks with as many rows [2]_. The
        experience must then be of a ``StrategySelector(combine="stack")``.
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
    strategy_probabilities_ : dict of str to float
        Probability of each strategy, or its weight in the stack.
    best_strategy_ : str
        Name of the most probable one; of equals, the first.
    estimators_ : dict of str to estimator
        The strategies that were fitted.
    n_shots_ : float
        Number of rows.
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
    StrategyClassifier : The same for classification.

    References
    ----------
    .. [1] P. B. Brazdil, C. Soares and J. P. da Costa, "Ranking learning algorithms:
       using IBL and meta-learning on accuracy and time results", Machine Learning 50,
       2003.
    .. [2] J. M. Bates and C. W. J. Granger, "The combination of forecasts", Operational
       Research Quarterly 20, 1969.

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

    _estimator_type = "regressor"
    # not all strategies take weights, so that the signature, as that of VotingClassifier, has none
    __metadata_request__fit = {"sample_weight": None}

    def fit(self, X: Any, y: Any, **fit_params: Any) -> StrategyRegressor:
        """Choose a strategy by the number of rows and the features of the task, and fit it.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows, of whatever kind the strategies take.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets; several where all strategies can.
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
        several = get_tags(self).target_tags.multi_output
        y = number_targets(y)
        check_consistent_length(X, y)
        y = y if several else column_or_1d(y, warn=True)
        self._targets_shape = y.shape[1:]
        X, y, weights = weighed(X, y, **fit_params)
        self._fit_chosen(len(y), X, y, weights)
        return self

    def fit_prior(self) -> StrategyRegressor:
        """Fit the strategies to a task of which no row is known, by their own `fit_prior`.

        Those that have none are left out. Past tasks without labels, for the
        choice to go by, are those of ``StrategySelector(n_shots=(0, ...))``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            When no strategy has an answer without rows.
        """
        self._targets_shape = None
        self._fit_nothing()
        return self

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """Predict targets, with their standard deviation or covariance if asked.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.
        return_std : bool, default=False
            Whether to return the standard deviation too.
        return_cov : bool, default=False
            Whether to return the covariance of the rows too.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            Mean of the strategies' predictions, weighted by their probabilities.
        std : ndarray of the same shape
            Standard deviation of the mixture of what the strategies predict: of each by
            itself, and of their predictions around the mean; only with
            ``return_std=True``.
        cov : ndarray of shape (n_rows, n_rows) or (n_rows, n_rows, n_outputs)
            Covariance of that mixture; only with ``return_cov=True``.

        Raises
        ------
        RuntimeError
            When both are asked for.
        ValueError
            When a strategy that answers has none; it is named.
        """
        if return_std and return_cov:
            raise RuntimeError("At most one of return_std or return_cov can be requested.")
        X = self._checked(X)
        if not return_std and not return_cov:
            return self._mean_answer(lambda one: self._shaped(one.predict(X)))
        option = "return_std" if return_std else "return_cov"
        if unable := [n for n, one in self.estimators_.items() if not predicts(one, option)]:
            raise ValueError(
                f"{option}=True, but {unable}, which answer here, have none. Leave them out of "
                "strategies (fall_back of a MetaTrainer), or ask a strategy that has it: "
                f"estimators_[name].predict(X, {option}=True)."
            )
        told = {n: one.predict(X, **{option: True}) for n, one in self.estimators_.items()}
        by_own = {n: (self._shaped(mean), spread) for n, (mean, spread) in told.items()}
        p = np.array([self.strategy_probabilities_[name] for name in by_own])
        p = p / p.sum()
        pairs = list(zip(p, by_own.values(), strict=True))
        mean = sum(share * own for share, (own, _) in pairs)
        if return_std:
            variance = sum(
                share * (np.square(self._shaped(std)) + np.square(own - mean))
                for share, (own, std) in pairs
            )
            return mean, np.sqrt(variance)
        shape = (len(mean), *mean.shape)
        return mean, sum(
            share * (np.asarray(cov).reshape(shape) + (own - mean)[:, None] * (own - mean)[None])
            for share, (own, cov) in pairs
        )

    def _shaped(self, answer: Any) -> np.ndarray:
        """Answers in the shape of the targets: some keep the column of a single one."""
        answer = np.asarray(answer)
        if self._targets_shape is None:  # as the past had them
            return answer
        return answer.reshape(-1, *self._targets_shape)

    def _predicts(self, option: str) -> bool:
        """Whether `predict` has an answer to that: all that are fitted, or may be, must."""
        several = vars(self).get("estimators_") or dict(self._nested())
        return bool(several) and all(predicts(one, option) for one in several.values())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self._all_strategies(lambda t: t.target_tags.multi_output)
        return tags
