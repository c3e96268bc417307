"""Learning from past tasks which learning strategy to use for a new one.

P. B. Brazdil, C. Soares and J. P. da Costa. Ranking learning algorithms: using IBL
and meta-learning on accuracy and time results. Machine Learning 50, 2003.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.utils import check_consistent_length, check_random_state, get_tags

from ..estimators import final_step, has_prior
from ..model_selection import EpisodeSplit
from ..tasks import (
    N_JOBS,
    SCORING,
    Anything,
    IntOrRange,
    Seed,
    Shortage,
    Whole,
    WholeOrRange,
    check_n_shots,
    check_parameters,
    check_rows,
    comparable,
    indexable,
    number_targets,
    taken,
    warn_of_n_way,
)
from ._candidates import (
    COMBINE,
    N_NEIGHBORS,
    TEMPERATURE,
    USE_FEATURES,
    HoldsStrategies,
    Strategies,
    named,
    pairs_of,
)
from ._episodes import tried
from ._past_tables import KEPT
from ._tables import Table, labels_of_table, named_tables, of_table
from ._task_features import FEATURES
from .classifier import StrategyClassifier
from .experience import Experience
from .failures import Failures
from .regressor import StrategyRegressor


class StrategySelector(HoldsStrategies):
    """Learn from past tasks which strategy suits a new one: scikit-learn estimators, by score.

    Every strategy is fitted and scored on the same episodes of the past tasks,
    for several numbers of shots. What is learned is a small table of mean scores
    [1]_, by which `estimator_` chooses among the strategies whenever it is
    fitted to a new task. The strategies know nothing of it. Of several tables,
    whose columns may differ in number and kind, `fit_many` also learns what
    their tasks look like [2]_: `estimator_` then asks those most like the new
    task, where that helps.

    Parameters
    ----------
    strategies : list of (str, estimator), dict of str to estimator, or None, default=None
        All classifiers, or all regressors. None takes the defaults of
        ``StrategyClassifier``, or with ``n_way=None`` of ``StrategyRegressor``.
    n_way : int, (low, high) or None, default=5
        Classes an episode; classification only.
    n_shots : sequence of int, default=(1, 2, 5, 10)
        Numbers of support rows a class (a task, for regression) to try; for
        regression 0 as well, where strategies that have a `fit_prior` answer.
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
    combine : {"best", "ensemble", "stack"}, default="best"
        Of `estimator_`: whether it uses the best strategy, or averages by scores;
        or, ``"stack"``, averages with the weights of least squared error on the
        past tasks.
    features : bool, default=True
        Whether `fit_many` learns features of tasks, and `estimator_` looks at
        them. They are of the support rows alone: sizes, kinds of columns, class
        imbalance or skewness, and scores of three cheap learners on rows left
        out of them. `fit` learns none.
    n_neighbors : int, default=5
        Of `estimator_`: how many past tables to ask.
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

    The features of a task (``task_features_`` of `estimator_`) are logarithms of
    its numbers of rows, columns and classes; the shares of columns that are
    numbers, zeros and ones, or categories, and of missing cells; 1 minus the
    entropy of the classes over its maximum; the skewness of the targets; and the
    landmarks. Those are scores on left-out support rows, of the nearest other
    row, a decision stump and ridge regression (on one-hot classes): 1 at
    best, 0 for chance or the mean. A row whose class has no other cannot be
    left out; with one row a class landmarks are 0 and tell nothing.

    Tables are compared by the mean of squared differences d in standard
    deviations; the `n_neighbors` nearest count by 1 / (0.1 + d), the mean of all
    by 1. By which features (all, or all but the landmarks, or those alone), or
    not at all, is decided for each number of shots by leaving out each table in
    turn. It takes three tables; tens of them tell more. They should be as
    unlike each other as a new one is unlike them: of near copies, such as parts
    of one table, each finds the others, and features look better than they are.
    Scores should have the same units in all tables, as accuracy and R^2 have.

    References
    ----------
    .. [1] P. B. Brazdil, C. Soares and J. P. da Costa, "Ranking learning algorithms:
       using IBL and meta-learning on accuracy and time results", Machine Learning 50,
       2003.
    .. [2] B. Pfahringer, H. Bensusan and C. Giraud-Carrier, "Meta-learning by
       landmarking various learning algorithms", ICML 2000.

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

    Of tables of different widths:

    >>> wide = rng.normal(size=(60, 8)), rng.normal(size=60)
    >>> selector.fit_many([(X, y, groups), wide]).experience_.n_episodes
    (100, 100)
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
        "features": USE_FEATURES,
        "n_neighbors": N_NEIGHBORS,
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
        features: bool = True,
        n_neighbors: int = 5,
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
        self.features = features
        self.n_neighbors = n_neighbors
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
        return self._learn([(X, y, groups)], None)

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
        return self._learn([(X, y, groups)], getattr(self, "experience_", None))

    def fit_many(self, tables: Any) -> StrategySelector:
        """Learn from several past tables, forgetting what was known.

        Parameters
        ----------
        tables : list of (X, y) or (X, y, groups)
            Each as for `fit`; columns may differ from one to the next. Without
            groups a table of regression is one task. Each has `n_episodes` for
            each number of shots.

        Returns
        -------
        self : object
            The selector.

        Raises
        ------
        ValueError
            When there is no table, or one is wrong: which, the message says.

        Warns
        -----
        UserWarning
            One warning counts the episodes that strategies failed on.
        """
        return self._learn(named_tables(tables), None, many=True)

    def partial_fit_many(self, tables: Any) -> StrategySelector:
        """Learn from more past tables, on top of what is known.

        The order in which tables arrive does not matter; nor, with an int for
        `random_state`, whether they come together.

        Parameters
        ----------
        tables : see `fit_many`
            More past tables.

        Returns
        -------
        self : object
            The selector.
        """
        known = getattr(self, "experience_", None)
        return self._learn(named_tables(tables), known, many=True)

    def _kind(self) -> str:
        if self.strategies is None:
            return "regressor" if self.n_way is None else "classifier"
        pairs = pairs_of(self.strategies)
        return get_tags(pairs[0][1]).estimator_type if pairs else "classifier"

    def _learn(
        self,
        tables: list[Table],
        known: Experience | None,
        many: bool = False,
        failures: Failures | None = None,
    ) -> StrategySelector:
        """Learn from tables; with `failures` these are counted there, and others tell of them."""
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
        if kind == "classifier" and self.n_way is None:
            raise ValueError("n_way must be a number of classes for classifiers, got None.")
        if kind == "regressor":
            warn_of_n_way(self.n_way, final_step(pairs[0][1]))
        check_n_shots(self.n_shots, self._fewest(kind))
        seed = int(check_random_state(self.random_state).randint(2**31))
        tells, short = failures is None, Shortage()
        failures = Failures(names) if failures is None else failures
        for i, (X, y, groups) in enumerate(tables):
            if not many:
                new = self._tried(pairs, kind, X, y, groups, seed, failures, short, False)
            else:
                with of_table(i):
                    y, groups = labels_of_table(X, y, groups, kind)
                    new = self._tried(
                        pairs, kind, X, y, groups, seed, failures, short, bool(self.features)
                    )
            known = new if known is None else known + new
        if tells:
            short.warn(stacklevel=3)
            failures.warn()
        self.experience_ = known
        make = StrategyClassifier if kind == "classifier" else StrategyRegressor
        self.estimator_ = make(
            [(name, clone(strategy)) for name, strategy in pairs],
            experience=self.experience_,
            temperature=self.temperature,
            combine=self.combine,
            features=self.features,
            n_neighbors=self.n_neighbors,
        )
        return self

    def _tried(
        self, pairs: Strategies, kind: str, X: Any, y: Any, groups: Any, seed: int,
        failures: Failures, short: Shortage, with_features: bool,
    ) -> Experience:  # fmt: skip
        """Experience of the strategies with new tasks, and with their features if so wished."""
        shots = check_n_shots(self.n_shots, 1 if with_features else self._fewest(kind))
        check_rows(X, self)
        X = indexable(X)
        y = comparable(y, "y") if kind == "classifier" else number_targets(y)
        check_consistent_length(X, y, groups)
        n_way = self.n_way if kind == "classifier" else None
        splits = []
        of_table: dict[str, int] = {}
        for k in shots:
            of_shots = Shortage()
            split = EpisodeSplit(n_way, k, self.n_query, self.n_episodes, seed)
            rows = split.episodes(y, groups, of_shots)
            splits += [rows.episode(i)[:2] for i in range(self.n_episodes)]
            # the same rows are short at every number of shots
            of_table |= {w: max(n, of_table.get(w, 0)) for w, n in of_shots.told.items()}
        short.add([(n, what) for what, n in of_table.items()])
        described = [with_features and i % self.n_episodes < KEPT for i in range(len(splits))]
        scorers = [check_scoring(strategy, self.scoring) for _, strategy in pairs]
        stacked = self.combine == "stack"
        results = Parallel(n_jobs=self.n_jobs)(
            delayed(tried)(
                [(strategy, scorer) for (_, strategy), scorer in zip(pairs, scorers, strict=True)],
                *(taken(data, part) for part in split for data in (X, y)),
                kind=kind,
                described=one,
                stacked=stacked,
            )
            for split, one in zip(splits, described, strict=True)
        )
        scores = np.array([one.scores for one in results]).reshape(len(shots), -1, len(pairs))
        errors = [one.told for one in results]
        lost = ~np.isfinite(scores)
        if lost.all((1, 2)).any():
            k = shots[int(lost.all((1, 2)).argmax())]
            raise ValueError(f"All strategies failed on all episodes of {k} shot(s): {errors[-1]}")
        # what has no prior is not asked without labels, and has not failed
        able = np.array([[k > 0 or has_prior(one) for _, one in pairs] for k in shots])
        asked = np.repeat(able, self.n_episodes, axis=0)
        failures.add(lost.reshape(-1, len(pairs)), errors, asked)
        told = [list(one.features.values()) for one in results if one.features is not None]
        products = None
        if stacked:
            unit = 1.0 if kind == "classifier" else float(np.var(y, axis=0).mean()) or 1.0
            of_all = np.array([one.products for one in results]) / unit
            of_all = of_all.reshape(len(shots), -1, len(pairs), len(pairs)).sum(1)
            products = dict(zip(shots, of_all, strict=True))
        names = [name for name, _ in pairs]
        return Experience.from_scores(
            names,
            dict(zip(shots, scores, strict=True)),
            dict(zip(shots, np.reshape(told, (len(shots), -1, len(FEATURES))), strict=True))
            if with_features
            else None,
            products,
        )

    @staticmethod
    def _fewest(kind: str) -> int:
        """Least number of shots; without labels nothing is known of classes."""
        return 1 if kind == "classifier" else 0
