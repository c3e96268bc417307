"""Deep kernel transfer: Gaussian processes whose kernel was learned on past tasks.

M. Patacchiola, J. Turner, E. Crowley, M. O'Boyle and A. Storkey. Bayesian
meta-learning for the few-shot setting via deep kernels. NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Shape
from ..estimators import FewShotEstimator, ProbabilisticRegressor, with_shared_texts
from ..learners import (
    FunctionLearner,
    Gaussian,
    KeepsFeatures,
    Outputs,
    State,
    cholesky,
    inverse_of,
    make_kernel,
)
from ..tasks import OneOf, Positive, Whole

#: Least noise variance, in units of the targets' variance: what a Cholesky factor bears.
LEAST_NOISE = 1e-6
#: Added to the diagonal of a covariance, in units of its largest entry, for the same reason.
JITTER = 1e-12
#: Tables of all pairs of rows that adapting holds at once.
OF_PAIRS = 4


class DeepKernel(KeepsFeatures):
    """A Gaussian process on features, y = f(z) + noise with f ~ GP(c, k).

    With S = diag(sqrt(w)), the covariance of S y is A + const with
    A = S K S + noise I: a row of weight w has noise variance noise / w, and one
    of weight zero has no covariance with any other. Always in float64.
    """

    scales_inputs_without_past = True
    features_in = "Z"

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None,
        kernel: str,
        lengthscale: float | None,
        n_mixtures: int,
        noise: float,
    ):
        super().__init__(encoder, input_shape, n_outputs)
        if not noise > 0:
            raise ValueError(f"noise must be positive, got {noise!r}.")
        self.kernel = make_kernel(kernel, self.n_features, lengthscale, n_mixtures)
        self.log_noise = nn.Parameter(torch.tensor(2 * math.log(noise)))
        self.constant = nn.Parameter(torch.zeros(n_outputs or 1))

    def noise(self) -> Tensor:
        """Noise variance."""
        return self.log_noise.double().exp() + LEAST_NOISE

    def targets(self, y: Tensor) -> Tensor:
        """What the process explains (..., n, n_processes), less its mean c, in float64."""
        raise NotImplementedError

    def factor(self, Z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factor of A, and the diagonal of S."""
        S, Z = w.double().sqrt(), Z.double()
        size = torch.where(w > 0, self.kernel.diagonal(Z), 0.0).amax(-1)
        ridge = (self.noise() + JITTER * size)[..., None].expand(w.shape)
        A = S[..., :, None] * self.kernel(Z, Z) * S[..., None, :] + torch.diag_embed(ridge)
        return cholesky(A), S

    def adapt_features(self, Z: Tensor, y: Tensor, w: Tensor) -> State:
        root, S = self.factor(Z, w)
        alpha = S[..., None] * torch.cholesky_solve(S[..., None] * self.targets(y), root)
        return {"Z": Z, "S": S, "root": root, "alpha": alpha}

    def numbers_to_adapt(self, n_rows: int, n_labels: int) -> int:
        return super().numbers_to_adapt(n_rows, n_labels) + OF_PAIRS * n_rows**2

    def cross(self, state: State, Z: Tensor) -> Tensor:
        """Covariance k(z, z_i) of rows asked for with the support rows."""
        return self.kernel(Z.double(), state["Z"].double())

    def whitened(self, state: State, cross: Tensor) -> Tensor:
        """V such that the support explains V'V of the prior covariance of the rows asked for."""
        right = (cross * state["S"][..., None, :]).mT
        if "inverse" in state:
            return state["inverse"] @ right
        return torch.linalg.solve_triangular(state["root"], right, upper=False)

    def log_marginal_likelihood(self, Z: Tensor, targets: Tensor, w: Tensor) -> Tensor:
        """log p(y | z) of each process (..., n_processes), of the rows whose weight is one.

        Eq. 5 of Patacchiola et al. (2020); the other rows weigh zero and are left out.
        """
        root, S = self.factor(Z, w)
        white = torch.linalg.solve_triangular(root, S[..., None] * targets, upper=False)
        half_log_det = (S * root.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
        constant = 0.5 * math.log(2 * math.pi) * S.sum(-1)
        return -0.5 * white.square().sum(-2) - (half_log_det + constant)[..., None]

    def embed_tasks(self, X: Tensor, X_query: Tensor) -> Tensor:
        """Features (T, n + n_query, n_features) of the rows of a batch of tasks."""
        rows = torch.cat([X, X_query], 1)
        return self.embed(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])


class DeepKernelRegression(DeepKernel, FunctionLearner):
    """adapt: the posterior of the process given the support. predict: mean and variance (eq. 6).

    Trained on the marginal likelihood of whole tasks (eq. 4-5), not on predictions.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_shape: Shape,
        n_outputs: int | None = None,
        *,
        kernel: str = "rbf",
        lengthscale: float | None = None,
        n_mixtures: int = 4,
        noise: float = 0.1,
    ):
        n_outputs = n_outputs or 1
        super().__init__(encoder, input_shape, n_outputs, kernel, lengthscale, n_mixtures, noise)

    def targets(self, y: Tensor) -> Tensor:
        return self.scaled_targets(y).double() - self.constant.double()

    def predict_features(self, state: State, Z: Tensor) -> Gaussian:
        cross = self.cross(state, Z)
        explained = self.whitened(state, cross).square().sum(-2)
        variance = (self.kernel.diagonal(Z.double()) - explained).clamp_min(0.0) + self.noise()
        mean = (cross @ state["alpha"] + self.constant.double()).to(Z.dtype)
        spread = variance[..., None].expand_as(mean).to(Z.dtype)
        return self.in_units(Gaussian(mean, spread))  # type: ignore[return-value]

    def answering_features(self, state: State) -> Callable[[Tensor], Outputs]:
        return super().answering_features(state | {"inverse": inverse_of(state["root"])})

    # ------------------------------------------------------------------ functions
    def function_variance(self) -> Tensor:
        return self.y_scale.double().square()

    def noise_variance(self) -> Tensor:
        return self.noise() * self.function_variance()

    def covariance_of_features(self, state: State, Z: Tensor) -> Tensor:
        V = self.whitened(state, self.cross(state, Z))
        return self.kernel(Z.double(), Z.double()) - V.mT @ V

    def training_loss(
        self, X: Tensor, y: Tensor, w: Tensor, X_query: Tensor, y_query: Tensor
    ) -> tuple[Tensor, Outputs]:
        Z, n = self.embed_tasks(X, X_query), X.shape[1]
        with torch.no_grad():
            outputs = self.forward_features(Z[:, :n], y, w, Z[:, n:])
        asked = ~y_query.isnan().any(-1)
        targets = self.targets(torch.cat([y, y_query.nan_to_num()], 1))
        w = torch.cat([w, asked.to(w.dtype)], 1)
        evidence = self.log_marginal_likelihood(Z, targets, w)
        return -(evidence.mean(-1) / w.sum(-1)).mean().to(Z.dtype), outputs


#: What two parameters mean, of both estimators.
SIZES = """
lengthscale : float or None, default=None
    Lengthscale to start meta-training from; None is the root of the number of
    features. A meta-init carries its learned one.
n_mixtures : int or None, default=None
    Components of the spectral mixture. None takes the meta-init's, or 4 without one.
"""


class DeepKernelEstimator(FewShotEstimator):
    """Parameters of both estimators."""

    _constraints = {
        "kernel": OneOf("rbf", "matern52", "linear", "cosine", "spectral") | None,
        "lengthscale": Positive() | None,
        "n_mixtures": Whole(1) | None,
        "noise": Positive() | None,
    }

    def __init__(
        self,
        meta_init: Any = None,
        *,
        encoder: Any = None,
        freeze_encoder: bool = False,
        scale_inputs: bool | str = "auto",
        layout: str = "auto",
        kernel: str | None = None,
        lengthscale: float | None = None,
        n_mixtures: int | None = None,
        noise: float | None = None,
        device: str = "auto",
        dtype: str | None = None,
        random_state: Any = None,
        **encoder__params: Any,
    ):
        self.meta_init = meta_init
        self.encoder = encoder
        self.freeze_encoder = freeze_encoder
        self.scale_inputs = scale_inputs
        self.layout = layout
        self.kernel = kernel
        self.lengthscale = lengthscale
        self.n_mixtures = n_mixtures
        self.noise = noise
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self._set_encoder_params(encoder__params)


@with_shared_texts(sizes=SIZES)
class DeepKernelRegressor(DeepKernelEstimator, ProbabilisticRegressor):
    """Gaussian process regression with a kernel that was learned on past tasks.

    The covariance of two rows is a kernel of the encoder's features.
    Meta-training fits the encoder and the kernel's hyperparameters, its
    constant mean and the noise to past tasks, by maximising their marginal
    likelihood (eq. 4-5 of [1]_; type II maximum likelihood), with all rows of
    a task at once. `fit` conditions the process on the support rows, and
    predictions are Gaussian (eq. 6). Several targets are independent processes
    of the same kernel. Without a meta-init this is Gaussian process regression
    on standardised rows and targets with fixed hyperparameters, which `fit`
    does not tune.

    It departs from [1]_ in that the noise variance is kept above a millionth of
    the targets' variance, so that the Cholesky factor exists, and that the
    components of the spectral mixture start with different frequencies; alike,
    they would stay alike.

    Parameters
    ----------
    {meta_init}
    {encoder}
    {freeze_encoder}
    {scale_inputs}
    {layout}
    kernel : {"rbf", "matern52", "linear", "cosine", "spectral"} or None, default=None
        Kernel on the features: squared exponential, Matern of smoothness 5/2,
        dot product, cosine seen from a learned centre, or spectral mixture
        [2]_. None takes the meta-init's, or ``"rbf"`` without one.
    {sizes}
    noise : float or None, default=None
        Noise standard deviation to start meta-training from, 0.1 if None, in
        units of the targets' standard deviation; a meta-init carries its
        learned one.
    {device}
    {dtype}
        The process itself is always float64.
    {random_state}
    {**encoder__params}

    Attributes
    ----------
    alpha_ : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Dual coefficients of the support rows, for standardised targets.
    {meta_init_}
    {n_features_in_}
    {feature_names_in_}

    See Also
    --------
    DeepKernelClassifier : The same for classes.
    RidgeHeadRegressor : Bayesian linear regression on the features.

    References
    ----------
    .. [1] M. Patacchiola, J. Turner, E. Crowley, M. O'Boyle and A. Storkey, "Bayesian
       meta-learning for the few-shot setting via deep kernels", NeurIPS 2020.
    .. [2] A. Wilson and R. Adams, "Gaussian process kernels for pattern discovery and
       extrapolation", ICML 2013.

    Examples
    --------
    >>> from fewshot_sklearn import DeepKernelRegressor
    >>> reg = DeepKernelRegressor().fit([[0.], [1.], [2.]], [1., 3., 5.])
    >>> mean, std = reg.predict([[1.], [9.]], return_std=True)
    >>> mean.round(2)
    array([3., 3.])
    >>> bool(std[1] > std[0])
    True
    """

    _learner_class = DeepKernelRegression
    _defaults = {"kernel": "rbf", "lengthscale": None, "n_mixtures": 4, "noise": 0.1}

    @property
    def alpha_(self) -> np.ndarray:
        alpha = self._state("alpha")
        return alpha if self._y_ndim == 2 else alpha[:, 0]
