"""Proto-MAML: gradient descent that starts from the nearest class mean.

E. Triantafillou, T. Zhu, V. Dumoulin, P. Lamblin, U. Evci, K. Xu, R. Goroshin,
C. Gelada, K. Swersky, P.-A. Manzagol and H. Larochelle. Meta-Dataset: a dataset
of datasets for learning to learn from few examples. ICLR 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import DescendsCrossEntropy, InnerLoopLearner, State
from ._steps_estimator import StepsEstimator


class ProtoMAML(DescendsCrossEntropy, InnerLoopLearner):
    """adapt: a head of prototypes, then gradient descent. predict: the adapted network."""

    def start(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        """Weights before adaptation: the head's are W_k = 2 c_k and b_k = -|c_k|^2.

        Up to what is the same for all classes and so for no softmax or gradient
        to see: what the mean m of all rows would have, 2 m and -|m|^2, is taken
        off, lest large offsets cancel. Meta-training differentiates through this.
        """
        params = {name: p for name, p in super().start(Z, y, w).items() if "head." not in name}
        with self.rounded(Z, self.first_order):
            parts = [self.features(params, part) for part in self.parts_in_descent(Z, y)]
        F = parts[0] if len(parts) == 1 else torch.cat(parts, -2)
        F, mass = F.to(self.x_mean.dtype), w[..., None] * y
        total = mass.sum(-2).clamp_min(torch.finfo(w.dtype).tiny)
        m = (mass.sum(-1)[..., None] * F).sum(-2, keepdim=True) / mass.sum((-1, -2))[
            ..., None, None
        ]
        from_m = (mass.mT @ (F - m)) / total[..., None]
        return params | {
            "head.weight": 2 * from_m,
            "head.bias": -(from_m * (from_m + 2 * m)).sum(-1),
        }


@with_shared_texts()
class ProtoMAMLClassifier(StepsEstimator, FewShotClassifier):
    """Proto-MAML: MAML whose head starts from the class means of the features.

    The squared distance to a class mean c_k is linear in the features but for a
    part that all classes share, so a head with weights W_k = 2 c_k and biases
    b_k = -||c_k||^2 classifies as a prototypical network does (section 3 of [1]_).
    `fit` starts from that head and runs theta' = theta - inner_lr * grad
    L(theta), head and encoder together, for `n_steps` steps on the support rows.
    Meta-training learns the encoder, differentiating through the steps and
    through the class means. Without steps this is the nearest class mean, on
    scaled features; steps beyond the number meta-trained with (all of them,
    without a meta-init) are kept only where they lower the support loss.

    Parameters
    ----------
    {meta_init}
    {encoder}
        One with batch norm is refused, unless it is frozen.
    {freeze_encoder}
    {scale_inputs}
    {layout}
    n_steps : int or None, default=None
        Gradient steps at `fit`. None takes the meta-init's, or 5.
    inner_lr : float or None, default=None
        Step size. None takes the meta-init's, or 0.01.
    first_order : bool or None, default=None
        Whether meta-training ignores second derivatives, as the paper's runs
        did for want of memory; changes nothing at `fit`. None takes the
        meta-init's, or False.
    {device}
    {dtype}
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    {classes_}
    {loss_curve_}
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    MAMLClassifier : Its head starts from zeros.
    ProtoNetClassifier : Stays at the class means.

    References
    ----------
    .. [1] E. Triantafillou et al., "Meta-Dataset: a dataset of datasets for learning to
       learn from few examples", ICLR 2020.

    Examples
    --------
    >>> from fewshot_sklearn import ProtoMAMLClassifier
    >>> clf = ProtoMAMLClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    >>> clf.loss_curve_.shape
    (5,)
    """

    _learner_class = ProtoMAML
    _defaults = {"n_steps": 5, "inner_lr": 0.01, "first_order": False}
