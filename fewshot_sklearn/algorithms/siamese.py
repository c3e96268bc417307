"""Siamese networks: are these two rows of one class, learned from pairs.

G. Koch, R. Zemel and R. Salakhutdinov. Siamese neural networks for one-shot image
recognition. ICML Deep Learning Workshop 2015.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import KeepsFeatures, Outputs, State, log_sums_by_class, sums_by_own_class
from ..tasks import IGNORED_CODE, memberships

#: Untrained, two rows verify with probability sigmoid(OFFSET - SLOPE * mean |difference|), which
#: is neither always one nor always zero for features of about unit scale, however many.
OFFSET, SLOPE = 4.0, 16.0


class Siamese(KeepsFeatures):
    """adapt: keeps the features of the support rows. predict: how well each class's verify.

    Meta-training learns to verify: whether a query and a support row are of one class.
    """

    further_rows_told = (
        "`partial_fit` adds the features of further rows, new classes among them, to those that "
        "the estimator knows, and `forget` takes some out."
    )
    features_in = "rows"

    def __init__(self, encoder: nn.Module, input_shape: Shape, n_outputs: int | None = None):
        super().__init__(encoder, input_shape, n_outputs)
        self.alpha = nn.Parameter(torch.full((self.n_features,), -SLOPE / self.n_features))
        self.bias = nn.Parameter(torch.tensor(OFFSET))

    def pair_logits(self, Z: Tensor, rows: Tensor) -> Tensor:
        """Logits of "same class", sum_j alpha_j |z_j - h_j| + b, of all pairs (n_query, n)."""
        # an L1 distance of scaled features for each sign of alpha, so that no tensor holds the
        # differences of all pairs in all features
        near, far = F.relu(self.alpha), F.relu(-self.alpha)
        likeness = torch.cdist(Z * near, rows * near, p=1.0)
        return likeness - torch.cdist(Z * far, rows * far, p=1.0) + self.bias

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        mass = w[..., None] * y
        total = mass.sum(-2, keepdim=True).clamp_min(torch.finfo(Z.dtype).tiny)
        return {"rows": Z, "share": mass / total}

    def class_logits(self, state: State, pair_logits: Tensor) -> Tensor:
        """Log of the mean probability with which the rows of each class verify."""
        return log_sums_by_class(F.logsigmoid(pair_logits), state["share"])

    def numbers_a_row(self, state: State) -> int:
        if not sums_by_own_class(state["share"]):
            return super().numbers_a_row(state)
        rows, classes = state["share"][..., 0], state["share"][..., 0, :]
        return rows.numel() + classes.numel() + self._width()

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        return self.class_logits(state, self.pair_logits(Z, state["rows"]))

    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        """Cross-entropy of verifying all pairs of a query and a support row of each episode."""
        n, rows = X.shape[1], torch.cat([X, X_query], 1)
        Z = self.embed(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        state = self.adapt_features(Z[:, :n], y, w)
        logits = self.pair_logits(Z[:, n:], state["rows"])
        loss = verification_loss(logits, y, w, y_query)
        return loss, self.class_logits(state, logits)


def verification_loss(logits: Tensor, y: Tensor, w: Tensor, y_query: Tensor) -> Tensor:
    """Binary cross-entropy of pairs, those of one class and the others half of it each.

    Parameters
    ----------
    logits : Tensor of shape (T, n_query, n)
        Logits of "same class" of queries and support rows.
    y, w : Tensor of shape (T, n, n_way), (T, n)
        Memberships and weights of the support rows.
    y_query : Tensor of shape (T, n_query)
        Codes, -100 where padded.

    Returns
    -------
    Tensor of shape ()
        Mean over the episodes.
    """
    same = memberships(y_query, y.shape[-1], y.dtype) @ y.mT
    counts = w[:, None, :] * (y_query != IGNORED_CODE)[..., None]
    positive, negative = counts * same, counts * (1 - same)
    tiny = torch.finfo(logits.dtype).tiny
    missed = (positive * F.softplus(-logits)).sum((1, 2)) / positive.sum((1, 2)).clamp_min(tiny)
    fooled = (negative * F.softplus(logits)).sum((1, 2)) / negative.sum((1, 2)).clamp_min(tiny)
    return 0.5 * (missed + fooled).mean()


@with_shared_texts()
class SiameseClassifier(FewShotClassifier):
    """Siamese network: the class whose support rows most likely are of one class with the row.

    Two rows with features h_1 and h_2 are of the same class with probability
    p = sigmoid(sum_j alpha_j abs(h_1j - h_2j) + b) (section 3.1 of [1]_). Encoder,
    alpha and b were learned on pairs of rows of past tasks by binary
    cross-entropy, pairs of one class and others counting half each (section 3.2).
    `fit` keeps the support rows' features; a row is of the class that verifies
    best, and class probabilities are proportional to p. Nothing is trained at
    `fit`. Without a meta-init alpha is -16 / n_features_out and b is 4, which is a
    nearest-neighbour smoother by L1 distance.

    Three things differ from the paper. With several support rows a class, where
    the paper has one, p is averaged over them. The pairs of an episode are all those
    of a query and a support row, weighted half and half rather than drawn so. And
    the L2 penalty is left to the optimizer's weight decay, which `MetaTrainer`
    takes as ``optimizer__weight_decay``.

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
    {classes_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MatchingNetClassifier : Learns from whole episodes in place of pairs.
    RelationNetClassifier : Learns how to compare rows with class means.

    References
    ----------
    .. [1] G. Koch, R. Zemel and R. Salakhutdinov, "Siamese neural networks for
       one-shot image recognition", ICML Deep Learning Workshop 2015.

    Examples
    --------
    >>> from fewshot_sklearn import SiameseClassifier
    >>> clf = SiameseClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = Siamese
