"""The meta-learned encoder as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..learners import Learner, State
from ..meta_init import MetaInit
from ..tasks import Support
from .base import ROW_DTYPES, FewShotEstimator
from .explanation import encoder_features


class Embedding(Learner):
    """An encoder and the scale of its inputs, of whatever algorithm they were trained by."""


class MetaEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FewShotEstimator):
    """Transform rows into the features that meta-training learned.

    Takes the encoder out of any meta-init, whatever algorithm trained it, for use
    before any scikit-learn estimator. Nothing is learned at `fit`.

    Parameters
    ----------
    meta_init : MetaInit, name, path or None, default=None
        What meta-training learned from past tasks. None takes the encoder as it is
        (random weights, for the encoders that have any).
    encoder : str, nn.Module class, nn.Module or None, default=None
        A name (``"identity"``, ``"mlp"``, ``"conv4"``, ...: see `make_encoder`) or a module of
        your own. None takes the meta-init's, or ``"identity"`` without one.
    device : str, default="auto"
        Where to compute; ``"auto"`` is the GPU where there is one.
    dtype : {"float32", "float64"} or None, default=None
        Precision. None is float32 with a meta-init and float64 without.
    random_state : int, RandomState instance or None, default=None
        Seeds the encoder's weights where there is no meta-init.
    **encoder__params
        Arguments of the encoder's constructor, each written
        ``encoder__name=value``.

    Attributes
    ----------
    meta_init_ : MetaInit
        Where the encoder comes from.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, when X had string column names.

    See Also
    --------
    ProtoNetClassifier : Class means among such features.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from fewshot_sklearn import MetaEmbedding, MetaTrainer, ProtoNetClassifier
    >>> from fewshot_sklearn.datasets import load_omniglot
    >>> images, letters = load_omniglot(return_X_y_groups=True)[:2]
    >>> trainer = MetaTrainer(
    ...     ProtoNetClassifier(encoder="mlp"), max_epochs=1, n_episodes=32, verbose=0,
    ...     random_state=0,
    ... )
    >>> init = trainer.fit(images[2000:6000], letters[2000:6000]).meta_init_
    >>> MetaEmbedding(init).set_output(transform="pandas").fit_transform(images[:5]).shape
    (5, 64)
    >>> clf = make_pipeline(MetaEmbedding(init), LogisticRegression())
    >>> clf.fit(images[:200:10], letters[:200:10]).predict(images[:3]).shape
    (3,)
    """

    _learner_class = Embedding

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)

    def _check_algorithm(self, init: MetaInit) -> None:
        """Any will do: all learners have an encoder and scale what goes in."""

    def _state_for(self, learner: Learner, init: MetaInit) -> State:
        own = learner.state_dict()
        return {name: t for name, t in init.state_dict().items() if name in own}

    def fit(self, X: Any, y: Any = None) -> MetaEmbedding:
        """Take the encoder; check that rows are what it takes.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object
            The transformer.
        """
        X = validate_data(self, X, dtype=ROW_DTYPES, allow_nd=True)
        rows = torch.empty((0, *X.shape[1:]), dtype=self._compute_dtype())
        self.meta_init_ = self._meta_init_for(Support(rows, rows, rows), None)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, \\*input_shape)
            Rows.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            Their features.
        """
        learner, rows = self._fitted_learner_and_rows(X)
        return encoder_features(learner, rows)

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self)
        return self._rebuild(self.meta_init_).n_features
