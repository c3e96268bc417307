"""Estimators that stand for one fitted on an episode, whose answers are known already.

A scorer is handed one in place of an estimator that was fitted on the episode's support. It is of
the estimator's own class, so it can do all that the estimator can. What is asked of the episode's
queries is answered from what was computed for many episodes at once; whatever else is
asked of it (other rows, fitted attributes) it answers after an ordinary `fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from ..estimators import in_type_of
from ..learners import Gaussian, Outputs
from ..tasks import EpisodeRows, taken
from .episode_answers import EpisodeAnswers


class _StandsIn:
    """What makes an estimator stand for one that was fitted on an episode."""

    _asked: Any
    _told: Outputs
    _support_rows: Callable[[], tuple[Any, np.ndarray]]
    _has_fit: bool
    _own_class: Any

    def _outputs(self, X: Any) -> Outputs:
        if X is self._asked:
            return self._told
        self._fit_after_all()
        return super()._outputs(X)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        learned = name == "_support" or (name.endswith("_") and not name.startswith("__"))
        if learned and not vars(self).get("_has_fit", True):
            self._fit_after_all()
            return getattr(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _fit_after_all(self) -> None:
        if not self._has_fit:
            self._has_fit = True
            X, y = self._support_rows()
            if len(y):
                self.fit(X, y)
            else:
                self.fit_prior()

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> Any:
        return clone(self._own_class(**self.get_params(deep=False)))

    def __reduce__(self) -> Any:
        """What is copied or pickled is an estimator of the own class, fitted."""
        self._fit_after_all()
        plain = object.__new__(self._own_class)
        vars(plain).update(
            {k: v for k, v in vars(self).items() if k not in _StandsIn.__annotations__}
        )
        return copy, (plain,)


@cache
def _class_of_stand_ins(own: type) -> type:
    return type(own.__name__, (_StandsIn, own), {"__doc__": own.__doc__, "_own_class": own})


def stand_ins(
    answers: EpisodeAnswers, rows: EpisodeRows
) -> Iterator[tuple[int, EpisodeRows, Any, Any]]:
    """A stand-in for the estimator fitted on each episode.

    Parameters
    ----------
    answers : EpisodeAnswers
        Of a meta-trained estimator.
    rows : EpisodeRows
        Many episodes.

    Yields
    ------
    i : int
        Number of the episode.
    one : EpisodeRows
        Its rows.
    fitted : estimator
        The stand-in.
    X_query : array-like
        The episode's queries, of the kind that X is of: this very object is what it knows.
    """
    rows = answers.coded(rows)
    known = answers.knows(rows) if answers.classifies else np.zeros(len(rows.support), bool)
    for which, outputs in answers.outputs(rows):
        told = _on_cpu(outputs)
        for place, i in enumerate(which.tolist()):
            one = rows.episode(i)
            asked, n = taken(answers.X, one.query), len(one.query)
            if isinstance(told, Gaussian):
                own: Outputs = Gaussian(told.mean[place, :n], told.variance[place, :n])
            else:
                own = told[place, :n]
            yield i, one, _stand_in(answers, one, asked, own, bool(known[i])), asked


def _stand_in(
    answers: EpisodeAnswers, one: EpisodeRows, asked: Any, told: Outputs, known: bool
) -> Any:
    X, y = answers.X, answers.y
    own: Any = type(answers.estimator)
    made: Any = object.__new__(_class_of_stand_ins(own))
    vars(made).update(vars(answers.estimator))
    made._has_fit, made._asked = False, asked
    made._support_rows = lambda: (taken(X, one.support), y[one.support])
    if one.support_codes is None:
        made._y_ndim = y.ndim
    elif known:
        assert answers.known is not None
        made.classes_ = in_type_of(answers.known, y)
    else:  # columns in the order of the sorted labels, not in that of the episode's codes
        assert isinstance(told, torch.Tensor)
        labels = y[one.support[np.unique(one.support_codes, return_index=True)[1]]]
        order = np.argsort(labels)
        made.classes_, told = labels[order], told[:, torch.from_numpy(order)]
    made._told = told
    return made


def _on_cpu(outputs: Outputs) -> Outputs:
    if isinstance(outputs, Gaussian):
        return Gaussian(outputs.mean.cpu(), outputs.variance.cpu())
    return outputs.cpu()
