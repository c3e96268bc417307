"""The meta-learned encoder as a scikit-learn transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..learners import Learner, State
from ..meta_init import MetaInit
from ..tasks import Support, check_parameters
from .base import FewShotEstimator
from .explanation import encoder_features
from .shared_texts import with_shared_texts
from .validation import validated


class Embedding(Learner):
    """An encoder and the scale of its inputs, of whatever algorithm they were trained by."""

    rounds_itself = True


@with_shared_texts()
class MetaEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FewShotEstimator):
    """Transform rows into the features that meta-training learned.

    Takes the encoder out of any meta-init, whatever algorithm trained it, for use
    before any scikit-learn estimator. Nothing is learned at `fit`.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

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
        check_parameters(self)
        X = validated(self, self._table(), X)
        whole = self._takes_whole(X)
        dtype = torch.long if whole else self._compute_dtype()
        self._shape_in_fit = X.shape[1:]
        rows = torch.empty((0, *X.shape[1:]), dtype=dtype, device="cpu")
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
