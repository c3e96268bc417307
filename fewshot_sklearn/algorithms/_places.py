"""Rows that are maps: features of several places, each a local descriptor."""

from __future__ import annotations

from torch import Tensor, nn

from ..encoders import Shape, map_channels
from ..learners import FeatureLearner


class OfPlaces(FeatureLearner):
    """A learner whose features are maps of `n_places` places, each of `n_channels` features."""

    def __init__(self, encoder: nn.Module, input_shape: Shape, n_outputs: int | None = None):
        super().__init__(encoder, input_shape, n_outputs)
        self.n_descriptors = map_channels(encoder, self.n_features)
        self.n_places = self.n_features // self.n_descriptors

    def places(self, Z: Tensor) -> Tensor:
        """Descriptors (..., n, n_places, n_descriptors) of features (..., n, n_features)."""
        return Z.unflatten(-1, (self.n_descriptors, self.n_places)).mT


#: What the estimators say alike of places, for `with_shared_texts`.
PLACES = """
Places are there in the maps of ``"conv4"`` (``encoder__pools=2`` leaves larger ones), of
``"resnet8"``, of ``"resnet12"`` with ``encoder__pool=None``, and in the flat maps, channels
first, of a module of your own that has an int `map_channels`. Any other row is one place.
"""
