"""What the transformers of raw things share: parameters, clones, names of features."""

from __future__ import annotations

from copy import copy
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..estimators import Device
from ..tasks import Constraint, Flag, Whole, column_labels


class RawTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base class: a model that is used as it is, one row a thing.

    `fit` looks at the things and at one row; nothing is learned. The model is no part of the
    estimator: what is pickled is its name. A model that is an object is shared by all clones.
    """

    #: What each parameter may be; `fit` checks it.
    _constraints: dict[str, Constraint] = {
        "batch_size": Whole(1),
        "cache": Flag(),
        "device": Device(),
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


def one_column(owner: Any, X: Any, what: str, reset: bool) -> Any:
    """The one column of a data frame or of a (n, 1) array; whatever else, as it is.

    A frame's column must be called as it was at `fit`.

    Raises
    ------
    ValueError
        When there are several columns; in scikit-learn's words, when it is another.
    """
    labels = column_labels(X)
    if labels is None:
        if reset and hasattr(owner, "feature_names_in_"):
            del owner.feature_names_in_
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
            return X[:, 0]
        return X
    if len(labels) != 1:
        raise ValueError(
            f"X has {len(labels)} columns ({', '.join(map(repr, labels[:5]))}"
            f"{', ...' if len(labels) > 5 else ''}), but {type(owner).__name__} takes one column "
            f"of {what}: choose it, such as by X[{labels[0]!r}], or put a {type(owner).__name__} "
            "for each into a ColumnTransformer."
        )
    validate_data(owner, X, reset=reset, skip_check_array=True)
    if hasattr(X, "iloc"):
        return X.iloc[:, 0]
    column = X[labels[0]]
    return column.to_pylist() if hasattr(column, "to_pylist") else column  # of pyarrow
