"""Which learning strategy suits a new task: the one that did best on past tasks that were like it.

J. R. Rice. The algorithm selection problem. Advances in Computers 15, 1976.

P. B. Brazdil, C. Soares and J. P. da Costa. Ranking learning algorithms: using IBL
and meta-learning on accuracy and time results. Machine Learning 50, 2003.

`StrategySelector` gathers the experience.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from ..estimators import fitted_to_labels, fitted_to_nothing, has_prior
from ..tasks import Anything, Number, check_parameters, check_rows
from ._candidates import (
    COMBINE,
    N_NEIGHBORS,
    TEMPERATURE,
    USE_FEATURES,
    HoldsStrategies,
    Strategies,
    named,
)
from ._task_features import task_features
from ._weights import refuse_those_without_weights, weights_for
from .experience import Experience


class ByExperience(HoldsStrategies):
    """What `StrategyClassifier` and `StrategyRegressor` share."""

    _constraints = {
        "strategies": Anything(),
        "experience": Anything(),
        "temperature": TEMPERATURE,
        "combine": COMBINE,
        "min_probability": Number(low=0, below=1),
        "features": USE_FEATURES,
        "n_neighbors": N_NEIGHBORS,
    }
    _estimator_type: str

    def __init__(
        self,
        strategies: Any = None,
        *,
        experience: Any = None,
        temperature: float = 0.01,
        combine: str = "best",
        min_probability: float = 0.01,
        features: bool = True,
        n_neighbors: int = 5,
    ):
        self.strategies = strategies
        self.experience = experience
        self.temperature = temperature
        self.combine = combine
        self.min_probability = min_probability
        self.features = features
        self.n_neighbors = n_neighbors

    def _choose(self, n_shots: float, X: Any, y: Any) -> Strategies:
        """Weigh the strategies by experience; return those to fit."""
        check_parameters(self)
        pairs = named(self.strategies, self._estimator_type)
        names = [name for name, _ in pairs]
        known = self.experience
        if isinstance(known, str | os.PathLike):
            known = Experience.load(known)
        self.task_features_: dict[str, float] | None = None
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
            p = self._weights(known, n_shots, X, y)
            p = p[[known.names.index(name) for name in names]]
            p = p / p.sum() if p.any() else np.full(len(pairs), 1 / len(pairs))
        if n_shots == 0:
            able = np.array([has_prior(strategy) for _, strategy in pairs], float)
            if not able.any():
                raise ValueError(f"None of {names} has an answer without a labelled row.")
            p = p * able if (p * able).any() else able
            p = p / p.sum()
        best = int(np.argmax(p))
        self.n_shots_ = float(n_shots)
        self.strategy_probabilities_ = dict(zip(names, p.tolist(), strict=True))
        self.best_strategy_ = names[best]
        if self.combine == "best":
            return [pairs[best]]
        if self.combine == "stack":
            return [pair for pair, share in zip(pairs, p, strict=True) if share > 0]
        return [pairs[i] for i in range(len(p)) if i == best or p[i] > self.min_probability]

    def _weights(self, known: Experience, n_shots: float, X: Any, y: Any) -> np.ndarray:
        """How much each strategy that is known counts."""
        if self.combine == "stack":
            return known.stacking_weights_at(n_shots)
        if n_shots > 0 and self.features and known.features_help(n_shots, self.n_neighbors):
            self.task_features_ = task_features(X, y, self._estimator_type)
        return known.probabilities_at(
            n_shots, self.temperature, self.task_features_, self.n_neighbors
        )

    def _fit_chosen(
        self, n_shots: float, X: Any, y: Any, sample_weight: np.ndarray | None = None
    ) -> None:
        chosen = self._choose(n_shots, X, y)
        if sample_weight is not None:
            refuse_those_without_weights(chosen)
        self.estimators_ = {
            name: fitted_to_labels(one, X, y, **weights_for(one, sample_weight))
            if n_shots > 0
            else fitted_to_nothing(one)
            for name, one in chosen
        }

    def _fit_nothing(self) -> None:
        """Fit those that answer without a row, and know the columns that they know."""
        self._fit_chosen(0, None, None)
        fitted = self.estimators_.values()
        self.n_features_in_ = next(iter(fitted)).n_features_in_
        self.__dict__.pop("feature_names_in_", None)
        named = [one.feature_names_in_ for one in fitted if hasattr(one, "feature_names_in_")]
        if named:
            self.feature_names_in_ = named[0]

    def _mean_answer(self, answer: Callable[[Any], np.ndarray]) -> Any:
        """Mean of the answers of the strategies that were fitted, weighted by probability."""
        p = np.array([self.strategy_probabilities_[name] for name in self.estimators_])
        fitted = zip(p / p.sum(), self.estimators_.values(), strict=True)
        return sum(share * answer(strategy) for share, strategy in fitted)

    def _checked(self, X: Any) -> Any:
        """Rows as they came: what they may be is for the strategies to say."""
        check_is_fitted(self)
        check_rows(X, self)
        if getattr(X, "ndim", 2) > 1:  # a strategy says best what is wrong with a single axis
            validate_data(self, X, reset=False, skip_check_array=True)
        return X

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimators_")

    def _all_strategies(self, can: Callable[[Any], bool]) -> bool:
        """Whether the tags of all strategies say so."""
        try:
            pairs = named(self.strategies, self._estimator_type)
        except ValueError:  # fit will say what is wrong with them
            return False
        return all(can(get_tags(strategy)) for _, strategy in pairs)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        looks = bool(self.features) and bool(getattr(self.experience, "tables", ()))
        tags.input_tags.sparse = not looks and self._all_strategies(lambda t: t.input_tags.sparse)
        tags.input_tags.allow_nan = self._all_strategies(lambda t: t.input_tags.allow_nan)
        return tags
