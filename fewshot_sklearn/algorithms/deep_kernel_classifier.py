"""Deep kernel transfer for classes: Gaussian process regression of labels -1 and +1.

M. Patacchiola, J. Turner, E. Crowley, M. O'Boyle and A. Storkey. Bayesian
meta-learning for the few-shot setting via deep kernels. NeurIPS 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders import Shape
from ..estimators import FewShotClassifier, with_shared_texts
from ..learners import Outputs, State, episode_loss, present_classes
from ..tasks import IGNORED_CODE, memberships
from .deep_kernel import SIZES, DeepKernel, DeepKernelEstimator


class DeepKernelClassification(DeepKernel):
    """adapt: each class against the rest, by regression of labels -1 and +1 (section 3.3).

    predict: the log of a sigmoid of each posterior mean, whose softmax divides
    the classes' sigmoids by their sum.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        kernel: str = "cosine",
        lengthscale: float | None = None,
        n_mixtures: int = 4,
        noise: float = 0.3,
    ):
        super().__init__(encoder, input_shape, n_outputs, kernel, lengthscale, n_mixtures, noise)
        # a scale of one, as in the paper, would hardly give 0.4 to any of five classes
        self.log_scale = nn.Parameter(torch.tensor(math.log(4.0)))

    def targets(self, y: Tensor) -> Tensor:
        return 2 * y.double() - 1 - self.constant.double()

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        return super().adapt_features(Z, y, w) | {"present": present_classes(y, w)}

    def posterior_mean(self, state: State, Z: Tensor) -> Tensor:
        """Mean of each class's process (..., n, n_way)."""
        return (self.cross(state, Z) @ state["alpha"] + self.constant.double()).to(Z.dtype)

    def logits(self, mean: Tensor, present: Tensor) -> Tensor:
        """Log probabilities of the classes, each against the rest."""
        return F.logsigmoid(self.log_scale.exp() * mean).masked_fill(
            ~present[..., None, :], -torch.inf
        )

    def predict_features(self, state: State, Z: Tensor) -> Tensor:
        return self.logits(self.posterior_mean(state, Z), state["present"])

    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        Z, n = self.embed_tasks(X, X_query), X.shape[1]
        with torch.no_grad():
            state = self.adapt_features(Z[:, :n], y, w)
            mean = self.posterior_mean(state, Z[:, n:])
        outputs = self.logits(mean, state["present"])
        asked = (y_query != IGNORED_CODE).to(w.dtype)
        y = torch.cat([y, memberships(y_query, y.shape[-1], y.dtype)], 1)
        w = torch.cat([w, asked], 1)
        evidence = self.log_marginal_likelihood(Z, self.targets(y), w)
        # the columns of a batch are those of its task with the most classes
        present = present_classes(y, w)
        evidence = torch.where(present, evidence, 0.0).sum(-1) / present.sum(-1)
        loss = -(evidence / w.sum(-1)).mean().to(Z.dtype)
        # the evidence says nothing of the sigmoid's scale, which is all that this term trains
        calibration = episode_loss(outputs, y_query)
        return loss + calibration - calibration.detach(), outputs


@with_shared_texts(sizes=SIZES)
class DeepKernelClassifier(DeepKernelEstimator, FewShotClassifier):
    """Gaussian process classification with a kernel that was learned on past tasks.

    Each class against the rest is a Gaussian process regression of labels -1
    and +1 (section 3.3 of [1]_), in which the covariance of two rows is a
    kernel of the encoder's features. Meta-training fits the encoder and the
    kernel's hyperparameters to past tasks by maximising the marginal likelihood
    of their labels (eq. 4-5), with all rows of a task at once. `fit` conditions
    the processes on the support rows; a class's probability is the sigmoid of
    its posterior mean, divided by the sum over the classes.

    It departs from [1]_ as follows. The classes share one set of
    hyperparameters, so that there may be any number of them. The noise is
    learned too. The cosine is seen from a learned centre, where [1]_ normalises
    features over the batch, which would let the rows asked for change each
    other's predictions. The sigmoid has a scale, which starts at four, because
    sigmoids of plain means are never sure; as the marginal likelihood says
    nothing of it, meta-training fits it to the queries by cross-entropy, as
    [1]_ scales a temperature where probabilities are to be calibrated.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    kernel : {"rbf", "matern52", "linear", "cosine", "spectral"} or None, default=None
        Kernel on the features: squared exponential, Matern of smoothness 5/2,
        dot product, cosine seen from a learned centre, or spectral mixture.
        None takes the meta-init's, or ``"cosine"`` without one.
    {sizes}
    noise : float or None, default=None
        Noise standard deviation of the labels to start meta-training from, 0.3
        if None; a meta-init carries its learned one.
    {device}
    {dtype}
        The processes themselves are always float64.
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
    DeepKernelRegressor : The same for numbers.
    RidgeHeadClassifier : Linear regression of class indicators on the features.

    References
    ----------
    .. [1] M. Patacchiola, J. Turner, E. Crowley, M. O'Boyle and A. Storkey, "Bayesian
       meta-learning for the few-shot setting via deep kernels", NeurIPS 2020.

    Examples
    --------
    >>> from fewshot_sklearn import DeepKernelClassifier
    >>> clf = DeepKernelClassifier().fit([[0., 0.], [0., 1.], [4., 4.]], ["a", "a", "b"])
    >>> clf.predict([[0., 2.], [3., 3.]])
    array(['a', 'b'], dtype='<U1')
    """

    _learner_class = DeepKernelClassification
    _defaults = {"kernel": "cosine", "lengthscale": None, "n_mixtures": 4, "noise": 0.3}
