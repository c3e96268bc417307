"""Learning from past tasks which learning strategy to use for a new one.

P. B. Brazdil, C. Soares and J. P. da Costa. Ranking learning algorithms: using IBL
and meta-learning on accuracy and time results. Machine Learning 50, 2003.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import check_scoring
from sklearn.utils import check_consistent_length, check_random_state, get_tags

from ..estimators import fitted_to_labels
from ..model_selection import EpisodeSplit
from ..tasks import (
    N_JOBS,
    SCORING,
    Anything,
    IntOrRange,
    Seed,
    Whole,
    WholeOrRange,
    check_n_shots,
    check_parameters,
    check_rows,
    comparable,
    indexable,
    number_targets,
    taken,
)
from ._candidates import COMBINE, TEMPERATURE, HoldsStrategies, Strategies, named, pairs_of
from .classifier import StrategyClassifier
from .experience import Experience
from .regressor import StrategyRegressor


class StrategySelector(HoldsStrategies):
    """Learn from past tasks which strategy suits a new one: scikit-learn estimators, by score.

    Every strategy is fitted and scored on the same episodes of the past tasks,
    for several numbers of shots. What is learned is a small table of mean scores
    [1]_, by which `estimator_` chooses among the strategies whenever it is
    fitted to a new task. The strategies know nothing of it.

    Parameters
    ----------
    strategies : list of (str, estimator), dict of str to estimator, or None, default=None
        All classifiers, or all regressors. None takes the defaults of
        ``StrategyClassifier``, or with ``n_way=None`` of ``StrategyRegressor``.
    n_way : int, (low, high) or None, default=5
        Classes an episode; classification only.
    n_shots : sequence of int, default=(1, 2, 5, 10)
        Numbers of support rows a class (a task, for regression) to try.
    n_query : int, (low, high) or None, default=15
        Query rows a class (a task); None takes all that the support leaves.
    n_episodes : int, default=50
        Episodes for each number of shots.
    temperature : float, default=0.01
        Of `estimator_`: in units of the score, see ``StrategyClassifier``.
    scoring : str, callable or None, default=None
        A scikit-learn scorer. None is each strategy's own score: accuracy or
        R^2. R^2 has no lower bound, so a strategy that is once far off has a
        very low mean; ``"neg_mean_absolute_error"`` is milder.
    combine : {"best", "ensemble"}, default="best"
        Of `estimator_`: whether it uses the best strategy or averages.
    n_jobs : int or None, default=None
        Processes that the episodes are shared out to.
    random_state : int, RandomState instance or None, default=None
        Seeds the episodes. An int draws the same ones from the same data at
        every call.

    Attributes
    ----------
    experience_ : Experience
        Mean score and number of episodes of each strategy, by number of shots.
    estimator_ : StrategyClassifier or StrategyRegressor
        The strategies and the experience with them, ready for new tasks.

    See Also
    --------
    StrategyClassifier : Uses what was learned.
    MetaTrainer : Learns an initialization in place of a choice.

    Notes
    -----
    A strategy that fails on an episode, by an error or a score that is not
    finite, gets the worst score there is for that number of shots.

    References
    ----------
    .. [1] P. B. Brazdil, C. Soares and J. P. da Costa, "Ranking learning algorithms:
       using IBL and meta-learning on accuracy and time results", Machine Learning 50,
       2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn.linear_model import LinearRegression
    >>> from fewshot_sklearn import StrategySelector
    >>> rng = np.random.default_rng(0)
    >>> X, groups = rng.normal(size=(600, 2)), np.repeat(np.arange(20), 30)
    >>> y = (X * rng.normal(size=(20, 2))[groups]).sum(1) + rng.normal(size=600)
    >>> selector = StrategySelector(
    ...     {"mean": DummyRegressor(), "linear": LinearRegression()},
    ...     n_way=None, n_shots=(2, 20), random_state=0,
    ... )
    >>> reg = selector.fit(X, y, groups).estimator_
    >>> reg.fit(X[:2], y[:2]).best_strategy_, reg.fit(X[:20], y[:20]).best_strategy_
    ('mean', 'linear')
    """

    _constraints = {
        "strategies": Anything(),
        "n_way": WholeOrRange(2) | None,
        "n_shots": Anything(),  # see check_n_shots
        "n_query": WholeOrRange(1) | None,
        "n_episodes": Whole(1),
        "temperature": TEMPERATURE,
        "scoring": SCORING,
        "combine": COMBINE,
        "n_jobs": N_JOBS,
        "random_state": Seed(),
    }

    __metadata_request__fit = {"groups": True}
    __metadata_request__partial_fit = {"groups": True}

    def __init__(
        self,
        strategies: Any = None,
        *,
        n_way: IntOrRange | None = 5,
        n_shots: Any = (1, 2, 5, 10),
        n_query: IntOrRange | None = 15,
        n_episodes: int = 50,
        temperature: float = 0.01,
        scoring: Any = None,
        combine: str = "best",
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.strategies = strategies
        self.n_way = n_way
        self.n_shots = n_shots
        self.n_query = n_query
        self.n_episodes = n_episodes
        self.temperature = temperature
        self.scoring = scoring
        self.combine = combine
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> StrategySelector:
        """Learn from past tasks, forgetting what was known.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_rows, ...)
            Rows of all past tasks, of whatever kind the strategies take.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Labels or targets.
        groups : array-like of shape (n_rows,) or None, default=None
            Regression: the task of each row. Classification: optional; the
            classes of an episode then come from one group.

        Returns
        -------
        self : object
            The selector.

        Raises
        ------
        ValueError
            When all strategies fail on all episodes of a number of shots.

        Warns
        -----
        UserWarning
            One warning counts the episodes that strategies failed on.
        """
        return self._learn(X, y, groups, None)

    def partial_fit(self, X: Any, y: Any, groups: Any = None) -> StrategySelector:
        """Learn from more past tasks, on top of what is known.

        The order in which tasks arrive does not matter.

        Parameters
        ----------
        X, y, groups : see `fit`
            More past tasks.

        Returns
        -------
        self : object
            The selector.
        """
        return self._learn(X, y, groups, getattr(self, "experience_", None))

    def _kind(self) -> str:
        if self.strategies is None:
            return "regressor" if self.n_way is None else "classifier"
        pairs = pairs_of(self.strategies)
        return get_tags(pairs[0][1]).estimator_type if pairs else "classifier"

    def _learn(self, X: Any, y: Any, groups: Any, known: Experience | None) -> StrategySelector:
        check_parameters(self)
        kind = self._kind()
        if kind not in ("classifier", "regressor"):
            raise ValueError("strategies must all be classifiers or all regressors.")
        pairs = named(self.strategies, kind)
        names = [name for name, _ in pairs]
        if known is not None and list(known.names) != names:
            raise ValueError(
                f"partial_fit goes on with the strategies {list(known.names)}, got {names}; fit "
                "starts anew."
            )
        new = self._tried(pairs, kind, X, y, groups)
        self.experience_ = new if known is None else known + new
        make = StrategyClassifier if kind == "classifier" else StrategyRegressor
        self.estimator_ = make(
            [(name, clone(strategy)) for name, strategy in pairs],
            experience=self.experience_,
            temperature=self.temperature,
            combine=self.combine,
        )
        return self

    def _tried(self, pairs: Strategies, kind: str, X: Any, y: Any, groups: Any) -> Experience:
        """Experience of the strategies with new tasks."""
        if kind == "classifier" and self.n_way is None:
            raise ValueError("n_way must be a number of classes for classifiers, got None.")
        shots = check_n_shots(self.n_shots)
        check_rows(X, self)
        X = indexable(X)
        y = comparable(y, "y") if kind == "classifier" else number_targets(y)
        check_consistent_length(X, y, groups)
        seed = int(check_random_state(self.random_state).randint(2**31))
        n_way = self.n_way if kind == "classifier" else None
        splits = [
            split
            for k in shots
            for split in EpisodeSplit(n_way, k, self.n_query, self.n_episodes, seed).split(
                X, y, groups
            )
        ]
        scorers = [check_scoring(strategy, self.scoring) for _, strategy in pairs]
        results = Parallel(n_jobs=self.n_jobs)(
            delayed(_episode_scores)(
                [(strategy, scorer) for (_, strategy), scorer in zip(pairs, scorers, strict=True)],
                *(taken(data, part) for part in split for data in (X, y)),
            )
            for split in splits
        )
        scores = np.array([one for one, _ in results]).reshape(len(shots), -1, len(pairs))
        errors = [told for _, told in results]
        lost = ~np.isfinite(scores)
        if lost.all((1, 2)).any():
            k = shots[int(lost.all((1, 2)).argmax())]
            raise ValueError(f"All strategies failed on all episodes of {k} shot(s): {errors[-1]}")
        if lost.any():
            told = []
            for i, (name, _) in enumerate(pairs):
                first = next((error[i] for error in errors if error[i]), "")
                if lost[..., i].any():
                    told.append(f"{name!r} on {lost[..., i].sum()} of {len(splits)} ({first})")
            warnings.warn(
                "Strategies failed on episodes, which count as the worst score there is for that "
                "number of shots: " + "; ".join(told),
                stacklevel=3,
            )
        names = [name for name, _ in pairs]
        return Experience.from_scores(names, dict(zip(shots, scores, strict=True)))


def _episode_scores(
    scored: list[tuple[Any, Any]], X: Any, y: Any, X_query: Any, y_query: Any
) -> tuple[list[float], list[str]]:
    """Each strategy's score on one episode, NaN where it failed, and what it said then."""
    scores, errors = [], []
    with warnings.catch_warnings():
        # of a few rows much is undefined; a strategy that suffers from it scores low
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        for strategy, scorer in scored:
            score, error = np.nan, ""
            try:
                score = float(scorer(fitted_to_labels(strategy, X, y), X_query, y_query))
            except Exception as raised:  # whatever it is, that strategy is no good here
                error = f"{type(raised).__name__}: {str(raised).strip().partition(chr(10))[0]}"
            scores.append(score)
            errors.append(error or ("" if np.isfinite(score) else f"a score of {score}"))
    return scores, errors
