"""What the methods share whose features come from telling all past classes apart.

They are trained as any classifier is, on batches of rows of all past classes at
once; episodes come in when they are validated and used. The last layer, which
knows the past classes, is then thrown away.
"""

from __future__ import annotations

from torch import Tensor, nn

from .learner import FeatureLearner
from .outputs import Outputs


class PretrainedLearner(FeatureLearner):
    """A method whose encoder is trained by ordinary classification of the past classes.

    In training its batches have no support: X is of shape (T, 0, ...) and
    ``y_query`` (T, n_rows) are codes of all past classes. `forward` then returns
    logits of the past classes, so that the loss, or a criterion of the
    trainer's own such as one that smoothes labels, is the classifier's.
    """

    pretrains = True
    training_only = ("past_classes",)
    past_classes: nn.Module

    def new_head(self, n_classes: int) -> nn.Module:
        """The last layer while training: features (n, n_features) to logits (n, n_classes)."""
        return nn.Linear(self.n_features, n_classes)

    def begin(self, n_classes: int | None) -> None:
        assert n_classes is not None
        self.n_past_classes = n_classes
        self.past_classes = self.new_head(n_classes)

    def past_logits(self, Z: Tensor) -> Tensor:
        """Logits (n, n_classes) of the past classes, from features (n, n_features)."""
        return self.past_classes(Z)

    def forward(self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor) -> Outputs:
        if X.shape[1]:
            return super().forward(X, y, w, X_query)
        Z = self.embed(X_query.flatten(0, 1))
        return self.past_logits(Z).unflatten(0, X_query.shape[:2])
