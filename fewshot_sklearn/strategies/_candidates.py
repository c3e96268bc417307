"""Learning strategies: any scikit-learn estimators with their settings, by name."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from ..algorithms import ProtoNetClassifier
from ..tasks import Flag, OneOf, Positive, Whole

Strategies = list[tuple[str, Any]]

#: How much better by score is how much more probable, and what is done with the probable ones.
TEMPERATURE, COMBINE = Positive(), OneOf("best", "ensemble", "stack")
#: Whether tables are told apart by the features of their tasks, and how many are asked.
USE_FEATURES, N_NEIGHBORS = Flag(), Whole(1)
#: Parameters that a strategy must not be named like.
PARAMETERS = (
    "strategies", "experience", "temperature", "combine", "min_probability", "n_way", "n_shots",
    "n_query", "n_episodes", "scoring", "features", "n_neighbors", "n_jobs",
    "random_state",
)  # fmt: skip


def default_strategies(kind: str) -> Strategies:
    """Strategies that work from one row a class (or a task) on.

    Parameters
    ----------
    kind : {"classifier", "regressor"}
        Which.

    Returns
    -------
    list of (str, estimator)
        New estimators.
    """
    if kind == "classifier":
        return [
            ("logistic_regression", make_pipeline(StandardScaler(), LogisticRegression())),
            ("nearest_neighbor", KNeighborsClassifier(1)),
            # scikit-learn's NearestCentroid has no probabilities at one row a class
            ("nearest_centroid", ProtoNetClassifier()),
            # a single row has no variance: what smooths it has to be more than a token
            ("naive_bayes", GaussianNB(var_smoothing=0.1)),
            ("random_forest", RandomForestClassifier(random_state=0)),
        ]
    kernel = ConstantKernel() * RBF() + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    return [
        ("ridge", make_pipeline(StandardScaler(), Ridge())),
        ("nearest_neighbor", KNeighborsRegressor(1)),
        ("gaussian_process", make_pipeline(StandardScaler(), process)),
        ("mean", DummyRegressor()),
    ]


def named(strategies: Any, kind: str) -> Strategies:
    """(name, estimator) pairs of a list of them, of a dict, or the default ones for None."""
    if strategies is None:
        return default_strategies(kind)
    pairs = pairs_of(strategies)
    names = [name for name, _ in pairs]
    if not pairs or len(set(names)) < len(names):
        raise ValueError(f"strategies must be at least one, with different names, got {names}.")
    for name, strategy in pairs:
        if "__" in name or name in PARAMETERS:
            raise ValueError(
                f"strategies must have names without '__' other than {list(PARAMETERS)}, got "
                f"{name!r}."
            )
        if not hasattr(strategy, "fit") or get_tags(strategy).estimator_type != kind:
            raise ValueError(f"strategies must all be {kind}s, got {name!r}: {strategy!r}.")
    return pairs


def pairs_of(strategies: Any) -> Strategies:
    items = strategies.items() if isinstance(strategies, dict) else strategies
    try:
        pairs = [(name, strategy) for name, strategy in items]
    except (TypeError, ValueError):
        pairs = [(None, None)]
    if not all(isinstance(name, str) for name, _ in pairs):
        raise ValueError(
            f"strategies must be a list of (name, estimator) pairs or a dict, got {strategies!r}."
        )
    return pairs


class HoldsStrategies(BaseEstimator):
    """Parameters of the strategies, ``name`` and ``name__parameter``, beside one's own."""

    strategies: Any

    def _nested(self) -> Strategies:
        """The strategies given; none where what was given makes no sense, which `fit` will say."""
        try:
            return [] if self.strategies is None else pairs_of(self.strategies)
        except ValueError:
            return []

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, those of the strategies included.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the strategies, by name, and their parameters,
            ``name__parameter``.

        Returns
        -------
        dict
            Parameter names and values.
        """
        params = super().get_params(deep=False)
        if not deep:
            return params
        for name, strategy in self._nested():
            inner = strategy.get_params(deep=True) if hasattr(strategy, "get_params") else {}
            params |= {f"{name}__{k}": v for k, v in inner.items()} | {name: strategy}
        return params

    def set_params(self, **params: Any) -> HoldsStrategies:
        """Set parameters, those of the strategies included.

        Parameters
        ----------
        **params : dict
            Own parameters, strategies by name, or ``name__parameter``.

        Returns
        -------
        self : object
            The estimator.
        """
        if "strategies" in params:
            self.strategies = params.pop("strategies")
        pairs = self._nested()
        given = {name: params.pop(name) for name, _ in pairs if name in params}
        if given:  # into a new container: the old one may be the caller's
            new = [(name, given.get(name, strategy)) for name, strategy in pairs]
            self.strategies = dict(new) if isinstance(self.strategies, dict) else new
        super().set_params(**params)
        return self
