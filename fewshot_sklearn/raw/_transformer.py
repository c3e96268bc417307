"""What the transformers of raw things share: parameters, clones, names of features."""

from __future__ import annotations

from copy import copy
from os import PathLike
from typing import Any, Self

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..estimators import Device
from ..tasks import Constraint, Flag, Whole


class RawTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base class: a model that is used as it is, one row a thing.

    `fit` looks at the things and at one row; nothing is learned. The model is no part of the
    estimator: what is pickled is its name. A model that is an object is shared by all clones.
    """

    #: What each parameter may be; `fit` checks it.
    _constraints: dict[str, Constraint] = {
        "batch_size": Whole(1),
        "cache": Flag(),
        "device": Device(solves=False),
        "download": Flag(),
        "verbose": Flag() | Whole(0),
    }
    #: Parameters that change no answer.
    _indifferent = frozenset(("batch_size", "cache", "download"))
    model: Any
    n_features_out_: int

    def __sklearn_clone__(self) -> Self:
        bare = copy(self)
        bare.model = None
        made = BaseEstimator.__sklearn_clone__(bare)
        made.model = self.model
        return made

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        # a function without its address, a network without its layers
        told = copy(self)
        told.model = _Told(self.model)
        return BaseEstimator.__repr__(told, N_CHAR_MAX)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_out_")

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self)
        return self.n_features_out_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags


class _Told:
    """A model as a reader is told of it."""

    def __init__(self, model: Any):
        plain = isinstance(model, str | PathLike) or model is None
        name = getattr(model, "__qualname__", type(model).__qualname__)
        self.told = repr(model) if plain else name

    def __repr__(self) -> str:
        return self.told
