"""What a head is given of sentences: embeddings, and words that embeddings leave out.

Sentence encoders are trained to embed what a sentence is about. How it is said, such as whether it
praises, is told better by the layers before their last: means of a middle layer stand beside the
embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from ..encoders import of_unit_length
from ._shared_model import Passed, SharedModel, embeddings, through

#: Which layer is the middle one, of all.
MIDDLE = 2 / 3


class Views(NamedTuple):
    """Sentences as an encoder has them.

    Parameters
    ----------
    end : ndarray of shape (n_sentences, width)
        Embeddings, of length one.
    middle : ndarray of shape (n_sentences, width)
        Means of the tokens after a middle layer.
    """

    end: np.ndarray
    middle: np.ndarray


def begun(model: SharedModel, sentences: Sequence[str], n_layers: int) -> Passed:
    """Sentences after all but the last `n_layers` layers of a model."""
    n_below = model.n_layers - n_layers
    middle = _middle(model)
    after = middle if middle <= n_below else None
    return through(model.bert.layers[:n_below], model.begun(sentences), after)


def views(model: SharedModel, sentences: Passed, n_layers: int, layers: nn.ModuleList) -> Views:
    """Sentences as a model whose last `n_layers` layers are `layers` has them."""
    if sentences.means is not None:
        end, means = through(layers, sentences.tokens).tokens, sentences.means
    else:
        after = _middle(model) - (model.n_layers - n_layers)
        end, found = through(layers, sentences.tokens, after)
        assert found is not None
        means = found
    return Views(embeddings(end), means.cpu().numpy())


def side_by_side(known: Views, centre: np.ndarray | None) -> np.ndarray:
    """Rows of length one: embeddings and, beside them, directions of the middle layer.

    Parameters
    ----------
    known : Views
        Sentences.
    centre : ndarray of shape (width,) or None
        What is taken from the means of the middle layer; None leaves the middle out.

    Returns
    -------
    ndarray of shape (n_sentences, n_features)
        Both parts count the same.
    """
    if centre is None:
        return known.end
    middle = of_unit_length(known.middle - centre)
    return np.concatenate([known.end, middle], axis=1) / np.sqrt(2)


def _middle(model: SharedModel) -> int:
    return max(round(MIDDLE * model.n_layers), 1)
